//! `~/.pypirc`, as PyPI's specification has it: a section for each index, with `repository`, `username` and `password`.

use super::{Contents, Texts, is_word, site};
use crate::policy::{Place, Shape};
use std::collections::BTreeMap;

/// Indexes whose addresses are known.
const KNOWN: [(&str, &str); 2] =
    [("pypi", "https://upload.pypi.org/legacy/"), ("testpypi", "https://test.pypi.org/legacy/")];
/// How a token of PyPI's calls its user.
const TOKEN_USER: &str = "__token__";

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    let mut sections: Vec<(&str, BTreeMap<String, &str>)> = Vec::new();
    for line in texts.file.lines() {
        let plain = line.trim();
        // What is indented goes on with a value: names of indexes alone are so written, and they are found below.
        if plain.is_empty() || plain.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
            continue;
        }
        if let Some(name) = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name, BTreeMap::new()));
        } else if let (Some((key, value)), Some((_, keys))) = (plain.split_once(['=', ':']), sections.last_mut()) {
            keys.insert(key.trim().to_ascii_lowercase(), value.trim());
        }
    }
    let indexes: Vec<_> = sections.into_iter().filter(|(name, _)| *name != "distutils").collect();
    let listed: String =
        indexes.iter().filter(|(name, _)| is_word(name)).map(|(name, _)| format!("\n  {name}")).collect();
    contents.say(format!("[distutils]\nindex-servers ={listed}\n"));
    for (name, keys) in indexes.into_iter().filter(|(name, _)| is_word(name)) {
        let known = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, url)| *url);
        let url = keys.get("repository").copied().or(known).unwrap_or_default();
        let user = keys.get("username").copied().unwrap_or(TOKEN_USER);
        contents.say(format!("\n[{name}]\n"));
        if super::https(url).is_some() {
            contents.say(format!("repository = {url}\n"));
        }
        if !is_word(user) || user.contains(':') {
            contents.leave_out(name, "its user cannot be written");
            continue;
        }
        contents.say(format!("username = {user}\n"));
        let sites = site(url, Place::BasicPassword(Some(user.to_owned()))).into_iter().collect();
        if let Some(number) = contents.take(name, sites, keys.get("password").copied().unwrap_or_default()) {
            if user == TOKEN_USER {
                contents.shape(number, Shape::PyPi);
            }
            contents.say("password = ");
            contents.stand_in(number);
            contents.say("\n");
        }
    }
    Some(())
}
