//! `~/.cargo/credentials.toml`, as `cargo login` writes it. To which host the token of a named registry goes stands in
//! `~/.cargo/config.toml`: never in the workspace's, which others write.

use super::{Contents, Texts, host_site, https};
use crate::policy::{Place, Shape, Site};

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    let mut taken = Vec::new();
    for (table, _, token) in strings(texts.file).filter(|(_, key, _)| *key == "token") {
        let header = || Place::Header("authorization".to_owned());
        let (name, sites) = match table.strip_prefix("registries.") {
            None if table == "registry" => {
                ("crates.io", vec![Site { path: "/api/".to_owned(), ..host_site("crates.io", header())? }])
            }
            None => continue,
            Some(name) => {
                let name = name.trim_matches('"');
                let is_its = |(other, key, _): &(&str, &str, &str)| {
                    *key == "index"
                        && other.strip_prefix("registries.").map(|other| other.trim_matches('"')) == Some(name)
                };
                let index = strings(texts.beside).find(is_its).map(|(_, _, index)| index);
                let Some(index) = index.and_then(|index| https(index.trim_start_matches("sparse+"))) else {
                    contents.leave_out(name, "~/.cargo/config.toml does not name its index by https");
                    continue;
                };
                let (host, port, _) = index;
                (name, vec![Site { host, port, path: "/".to_owned(), place: header() }])
            }
        };
        let Some(number) = contents.take(name, sites, token) else { continue };
        if table == "registry" {
            contents.shape(number, Shape::CratesIo);
        }
        taken.push((table, number));
    }
    for (table, number) in taken {
        contents.say(format!("[{table}]\ntoken = \""));
        contents.stand_in(number);
        contents.say("\"\n");
    }
    Some(())
}

/// The plain strings of a TOML text, each with its table and key; a table that is written in one line is not looked into.
fn strings(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut table = "";
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name.trim()) {
            table = name;
            return None;
        }
        let (key, value) = line.split_once('=')?;
        let (value, _) = value.trim().strip_prefix('"')?.split_once('"')?;
        Some((table, key.trim(), value)).filter(|_| !value.contains('\\'))
    })
}
