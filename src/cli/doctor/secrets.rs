//! What a harness without omni would read here: by name, never by value.

use super::Finding;
use crate::cli::secret::warning;
use crate::policy::{Preset, expand_home};
use crate::session::SystemKeyring;
use crate::store::{Home, SecretStore, StoreError};
use crate::sys::environment_has;
use std::collections::BTreeSet;

/// Variables in which vendors' tools look for secrets, beside those of the presets.
const OTHER_VARIABLES: [&str; 11] = [
    "ANTHROPIC_AUTH_TOKEN",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_OPENAI_API_KEY",
    "CODEX_API_KEY",
    "DATABASE_URL",
    "DOCKER_AUTH_CONFIG",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GH_ENTERPRISE_TOKEN",
    "PGPASSWORD",
    "SSH_AUTH_SOCK",
];
/// Files with keys that no placeholder stands for, and what does instead.
const OTHER_FILES: [(&str, &str); 3] =
    [("~/.ssh/id_ed25519", "--ssh HOST"), ("~/.ssh/id_rsa", "--ssh HOST"), ("~/.aws/credentials", "--secret aws")];

/// The variables that are set.
pub(super) fn variables() -> Finding {
    let presets = || Preset::names().filter_map(Preset::named);
    let known: BTreeSet<String> =
        presets().flat_map(Preset::variables).chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    let set: Vec<&str> = known.iter().map(String::as_str).filter(|name| environment_has(name)).collect();
    // What two presets go by, the first is for: the other wants another kind of secret.
    let mut offered = BTreeSet::new();
    let found = presets().filter(|preset| {
        let set = preset.variables().into_iter().filter(|name| environment_has(name));
        set.filter(|name| offered.insert(name.clone())).count() > 0
    });
    let offers = found.map(|preset| format!("--secret {}", preset.name)).collect();
    finding("secrets", &set.join(", "), "no known one is set here", offers)
}

/// The files that are there.
pub(super) fn logins() -> Finding {
    let home = std::env::home_dir().unwrap_or_default();
    let of_presets = Preset::names()
        .filter_map(Preset::named)
        .filter_map(|preset| Some((preset.own_file()?, format!("--secret {}", preset.name))));
    let others = OTHER_FILES.map(|(path, offer)| (path, offer.to_owned()));
    let there = of_presets.chain(others).filter(|(path, _)| expand_home(path, &home).exists());
    let (mut files, mut offers): (Vec<&str>, Vec<String>) = there.unzip();
    files.sort_unstable();
    files.dedup();
    offers.dedup();
    finding("logins", &files.join(", "), "no known file of one is here", offers)
}

/// Who guards the key of omni's own store.
pub(super) fn store() -> Finding {
    let looked = Home::path_from_env().and_then(|home| {
        let store = SecretStore::read(&home)?;
        let is_locked = store.is_locked(&SystemKeyring::of(&home));
        Ok::<_, StoreError>((store, is_locked))
    });
    let (detail, fix) = match &looked {
        Err(error) => (error.to_string(), Some("see docs/secrets.md, \"Where its value comes from\"".to_owned())),
        Ok((store, _)) if store.is_new() => ("there is none yet; `omni secret set NAME` makes one".to_owned(), None),
        Ok((store, is_locked)) => match (warning(store), store.has_passphrase(), is_locked) {
            (Some(warning), ..) => (warning.to_owned(), Some("`omni secret passphrase`".to_owned())),
            (None, true, true) => ("a passphrase guards its key: `omni secret unlock` asks for it".to_owned(), None),
            (None, true, false) => ("a passphrase guards its key, which the kernel keeps".to_owned(), None),
            (None, false, _) => ("the desktop's secret service keeps its key".to_owned(), None),
        },
    };
    let needed_for = "keeping secrets from whoever can read your files";
    Finding { probe: "secret store", ok: fix.is_none(), detail, needed_for, fix, required: false, tried: true }
}

fn finding(probe: &'static str, found: &str, none: &str, offers: Vec<String>) -> Finding {
    let mut detail = match found {
        "" => none.to_owned(),
        _ => format!("{found}: without omni, a harness started here reads them"),
    };
    if !offers.is_empty() {
        detail = format!("{detail}; within, placeholders do: omni exec {}", offers.join(" "));
    }
    let needed_for = "knowing what a harness without a sandbox could leak";
    Finding { probe, ok: true, detail, needed_for, fix: None, required: false, tried: true }
}
