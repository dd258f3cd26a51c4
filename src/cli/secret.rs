//! `omni secret`: what omni keeps for you, where each goes, and never a value of one on a command line.

mod ask;
mod guard;
mod set;

pub(super) use guard::{unlock_for, unlock_own, warning};

use super::listing::{emit, json_line, printable, record};
use crate::model::Event;
use crate::policy::{Preset, SecretSpec, nearest};
use crate::session::{SystemKeyring, user_name};
use crate::store::{Guard, Home, SecretStore};
use anyhow::Context;
use clap::Subcommand;
use guard::PassphraseFile;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Keep secrets, and say where each goes
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni secret set github\n  pass show ci | omni secret set ci --host ci.example.com --header x-api-key\n  \
    omni exec --secret github --allow '* api.github.com/**' -- claude-code"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Set(Box<set::Set>),
    /// List the secrets that are kept, without their values.
    #[command(after_help = "Example:\n  omni secret list --json | jq -r .name")]
    List {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Forget a secret.
    #[command(alias = "rm", after_help = "Example:\n  omni secret remove github")]
    Remove {
        /// The secret's name.
        name: String,
    },
    /// List the vendors whose secrets are known, and where each goes.
    #[command(after_help = "Example:\n  omni secret presets")]
    Presets {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Give the passphrase; the kernel then keeps the key until the store is locked, or the machine starts anew.
    #[command(after_help = "Example:\n  omni secret unlock")]
    Unlock {
        #[command(flatten)]
        passphrase: PassphraseFile,
    },
    /// Have the kernel forget the key.
    #[command(after_help = "Example:\n  omni secret lock")]
    Lock,
    /// Have a passphrase guard the store, another than before, or none.
    #[command(after_help = "Examples:\n  omni secret passphrase\n  omni secret passphrase --none")]
    Passphrase {
        /// Do without: whoever can read omni's home can then read the secrets.
        #[arg(long, conflicts_with = "desktop")]
        none: bool,
        /// Have the desktop's secret service keep the key instead, which gives it while you are logged in there.
        #[arg(long)]
        desktop: bool,
        #[command(flatten)]
        passphrase: PassphraseFile,
    },
}

/// A secret in a listing.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    sites: Vec<String>,
    from: Vec<String>,
    set_at: &'a str,
}

/// Runs `omni secret`.
///
/// # Errors
/// When the store cannot be used, or what was said cannot be.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Set(wanted) => set::run(&wanted)?,
        Verb::List { json } => list(json)?,
        Verb::Remove { name } => remove(&name)?,
        Verb::Presets { json } => presets(json)?,
        Verb::Unlock { passphrase } => guard::unlock(&passphrase)?,
        Verb::Lock => SystemKeyring::of(Home::from_env()?.path()).lock(),
        Verb::Passphrase { none: true, .. } => guard::hand_over(Guard::File)?,
        Verb::Passphrase { desktop: true, .. } => guard::hand_over(Guard::Desktop)?,
        Verb::Passphrase { passphrase, .. } => guard::new_passphrase(&passphrase)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How a secret is declared that is asked for by its name: as it was set, else as its vendor's preset says.
///
/// # Errors
/// When neither is there.
pub(super) fn declared(name: &str) -> anyhow::Result<String> {
    if let Ok(home) = Home::path_from_env()
        && let Some(secret) = SecretStore::read(&home)?.secrets().get(name)
    {
        return Ok(secret.declared.to_string());
    }
    match Preset::named(name) {
        Some(preset) => Ok(json!({"name": name, "preset": preset.name}).to_string()),
        None => Err(unknown(name)).with_context(|| format!("there is no secret `{name}`")),
    }
}

fn unknown(name: &str) -> anyhow::Error {
    match nearest(name, Preset::names()) {
        Some(near) => anyhow::anyhow!(
            "no vendor `{name}` is known: did you mean `{near}`? Else say where it goes: --host HOST --header NAME"
        ),
        None => anyhow::anyhow!(
            "no vendor `{name}` is known: say where it goes, by --host HOST and --header NAME, --bearer, …"
        ),
    }
}

fn list(json: bool) -> anyhow::Result<()> {
    let store = SecretStore::read(&Home::path_from_env()?)?;
    let mut text = String::new();
    for (name, secret) in store.secrets() {
        // What an older omni wrote may say what this one does not take; it is listed all the same.
        let spec = SecretSpec::parse(name, &secret.declared.to_string()).ok();
        let sites: Vec<String> = spec.iter().flat_map(|spec| &spec.sites).map(ToString::to_string).collect();
        let from: Vec<String> = spec.iter().flat_map(|spec| &spec.from).map(ToString::to_string).collect();
        if json {
            text.push_str(&json_line(&Entry { name, sites, from, set_at: &secret.set_at })?);
        } else {
            writeln!(text, "{:<18}{}  {}", printable(name), secret.set_at, printable(&from.join(", ")))?;
            for site in sites {
                writeln!(text, "{:<18}{}", "", printable(&site))?;
            }
        }
    }
    if text.is_empty() && !json {
        tell("no secret is kept: add one by `omni secret set NAME`");
    }
    if let Some(warning) = warning(&store).filter(|_| !json) {
        tell(warning);
    }
    emit(&text)
}

fn remove(name: &str) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    unlock_own(&home)?;
    let mut store = SecretStore::edit(home.path())?;
    if store.secrets().contains_key(name) {
        record(&home, &Event::SecretRemoved { user: user_name(), secret: name.to_owned() })?;
    }
    Ok(store.remove(name, &SystemKeyring::of(home.path()))?)
}

fn presets(json: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    for preset in Preset::names().filter_map(Preset::named) {
        let sites: Vec<String> = preset.sites().iter().map(ToString::to_string).collect();
        let variables = preset.variables();
        let look_alike = preset.credential_file().map(|file| file.path.to_owned());
        let files: Vec<String> = preset.files().into_iter().map(|file| file.path).chain(look_alike).collect();
        if json {
            let entry = json!({
                "name": preset.name, "about": preset.about, "sites": sites, "variables": variables, "files": files,
            });
            text.push_str(&json_line(&entry)?);
            continue;
        }
        writeln!(text, "{:<14}{}", preset.name, preset.about)?;
        let held = variables.into_iter().chain(files).map(|place| format!("placeholder in {place}"));
        for line in sites.into_iter().chain(held) {
            writeln!(text, "{:<14}  {line}", "")?;
        }
    }
    emit(&text)
}

/// Says something to the person.
fn tell(text: &str) {
    eprintln!("{text}");
}
