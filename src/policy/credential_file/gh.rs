//! `~/.config/gh/hosts.yml`, as GitHub's command line writes it where no keyring keeps the token.

use super::{Contents, Texts, host_site, is_word};
use crate::policy::{Place, Shape, Site};
use serde_json::Value;

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    let document: Value = serde_saphyr::from_str(texts.file).ok()?;
    for (host, kept) in document.as_object()? {
        let user = kept.get("user").and_then(Value::as_str).filter(|user| is_word(user));
        let of_user = || kept.get("users")?.get(user?)?.get("oauth_token");
        let token = kept.get("oauth_token").or_else(of_user).and_then(Value::as_str);
        let Some(token) = token else {
            contents.leave_out(host, "a keyring keeps its token: `gh auth token` prints it");
            continue;
        };
        let Some(number) = contents.take(host, sites(host), token) else { continue };
        contents.shape(number, Shape::GitHub);
        let protocol = kept.get("git_protocol").and_then(Value::as_str).filter(|protocol| *protocol == "ssh");
        contents.say(format!("{host}:\n    git_protocol: {}\n    oauth_token: ", protocol.unwrap_or("https")));
        contents.stand_in(number);
        contents.say("\n");
        if let Some(user) = user {
            contents.say(format!("    user: {user}\n    users:\n        {user}:\n            oauth_token: "));
            contents.stand_in(number);
            contents.say("\n");
        }
    }
    Some(())
}

/// Where a token of this GitHub goes: its API, and git's own protocol, for which `gh` gives it as a password.
fn sites(host: &str) -> Vec<Site> {
    let header = || Place::Header("authorization".to_owned());
    let hosts: &[&str] =
        if host == "github.com" { &["github.com", "api.github.com", "uploads.github.com"] } else { &[host] };
    let both = |host: &&str| [host_site(host, header()), host_site(host, Place::BasicPassword(None))];
    hosts.iter().flat_map(both).flatten().collect()
}
