//! `~/.npmrc`, as npm's documentation of its files has it: settings, of which `//HOST/PATH/:…` hold credentials.

use super::{Contents, Texts, basic, host_site, https, is_word};
use crate::policy::{Place, Site};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    // User and password of old stand in two lines.
    let mut users: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for line in texts.file.lines().map(str::trim).filter(|line| !line.starts_with([';', '#'])) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        if let Some((place, kind)) = key.strip_prefix("//").and_then(|rest| rest.rsplit_once(':')) {
            match kind {
                _ if value.contains("${") => contents.leave_out(place, "it names a variable: use the preset `npm`"),
                "_authToken" => take(place, "_authToken", (Place::Bearer, None), value, contents),
                "_auth" => match basic(value) {
                    Some((user, password)) => take_basic(place, user, &password, contents),
                    None => contents.leave_out(place, "its `_auth` is no base64 of a user and a password"),
                },
                "username" => users.entry(place).or_default()[0] = Some(value),
                "_password" => users.entry(place).or_default()[1] = Some(value),
                _ => {}
            }
        } else if (key == "registry" || key.ends_with(":registry")) && is_word(key) && https(value).is_some() {
            contents.say(format!("{key}={value}\n"));
        }
    }
    for (place, who) in users {
        let [Some(user), Some(password)] = who else { continue };
        let decoded = BASE64_STANDARD.decode(password).ok().map(Zeroizing::new);
        let password = decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        match password {
            Some(password) => take_basic(place, user.to_owned(), password, contents),
            None => contents.leave_out(place, "its `_password` is no base64"),
        }
    }
    Some(())
}

fn take_basic(place: &str, user: String, password: &str, contents: &mut Contents) {
    take(place, "_auth", (Place::BasicPassword(Some(user.clone())), Some(user)), password, contents);
}

/// Takes what belongs to a registry, which is written as what stands behind `https:`.
fn take(place: &str, key: &str, (at, user): (Place, Option<String>), value: &str, contents: &mut Contents) {
    let host = place.split('/').next().unwrap_or(place);
    let path = https(&format!("https://{place}")).map(|(_, _, path)| path);
    let site = host_site(host, at).zip(path).map(|(site, path)| Site { path, ..site });
    let Some(number) = contents.take(host, site.into_iter().collect(), value) else { return };
    contents.say(format!("//{place}:{key}="));
    match user {
        Some(user) => contents.stand_in_basic(number, &user),
        None => contents.stand_in(number),
    }
    contents.say("\n");
}
