//! `~/.git-credentials`, as git-credential-store(1) keeps it: one URL a line, with user and password in it.

use super::{Contents, Texts, authority};
use crate::model::percent_decode;
use crate::policy::{Place, Site};
use zeroize::Zeroizing;

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    for line in texts.file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some((scheme, rest)) = line.split_once("://") else { continue };
        let Some((who, place)) = rest.rsplit_once('@') else { continue };
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (Some(host), Some(name)) = (place.split('/').next(), decode(user)) else { continue };
        if scheme != "https" || user.is_empty() || name.contains(':') || name.contains(char::is_control) {
            contents.leave_out(host, "it is not for https, or its user cannot be written");
            continue;
        }
        // A token may stand where the user does, and the password be nothing, or a word.
        let token_first = password.is_empty() || password == "x-oauth-basic";
        let at = if token_first { Place::BasicUser } else { Place::BasicPassword(Some(name.to_string())) };
        let site = authority(place).map(|(host, port, path)| Site { host, port, path, place: at });
        let Some(value) = decode(if token_first { user } else { password }) else { continue };
        let Some(number) = contents.take(host, site.into_iter().collect(), &value) else { continue };
        contents.say("https://");
        if !token_first {
            contents.say(format!("{user}:"));
        }
        contents.stand_in(number);
        contents.say(if token_first { format!(":{password}@{place}\n") } else { format!("@{place}\n") });
    }
    Some(())
}

/// Percent-decodes a text; none where it is not one.
fn decode(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    percent_decode(text.as_bytes(), &mut bytes)?;
    Some(Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned()))
}
