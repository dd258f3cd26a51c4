//! `omni profile`: the profiles that come with omni, a person's own beside them, and finding the one that is meant.

use super::listing::{emit, json_line, printable};
use crate::harness::{shipped, shipped_for};
use crate::policy::{Profile, nearest};
use crate::store::Home;
use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The profile of a command that no other is for.
const DEFAULT: &str = "default";

/// Most profiles of a person's own that are listed.
const PROFILES_MAX: usize = 1000;

/// Longest profile that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `omni profile`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  omni profile list\n  omni profile show codex > mine.yaml")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the profiles that come with omni, and those of your own.
    #[command(after_help = "Example:\n  omni profile list --json")]
    List {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print a profile, ready to be copied into a file of your own.
    ///
    /// `--profile NAME` finds $OMNI_HOME/profiles/NAME.yaml before the shipped profile of that name.
    #[command(after_help = "Example:\n  omni profile show claude-code > mine.yaml")]
    Show {
        /// The profile's name.
        name: String,
    },
}

/// A profile in a listing.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    command: Option<&'a str>,
    harness: &'a str,
    description: &'a str,
    /// The file of a person's own; null for one that comes with omni.
    file: Option<String>,
}

/// Runs `omni profile`.
///
/// # Errors
/// For an unknown name, and when stdout cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::List { json } => list(json)?,
        Verb::Show { name } => {
            let found = named(&name)?.with_context(|| unknown(&name))?;
            emit(&found.text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> anyhow::Result<()> {
    let mut out = String::new();
    let own = own_names()?;
    let shipped = shipped().iter().map(|(name, _)| (*name).to_owned());
    let names: BTreeSet<String> = shipped.chain(own).collect();
    for name in names {
        let found = named(&name)?.with_context(|| unknown(&name))?;
        let profile = &found.profile;
        let (command, harness) = (profile.command.as_deref(), profile.harness.as_str());
        let description = profile.description.as_str();
        let file = found.file.as_ref().map(|file| file.display().to_string());
        if json {
            out.push_str(&json_line(&Entry { name: &name, command, harness, description, file })?);
        } else {
            let place = file.map_or_else(String::new, |file| format!(" ({file})"));
            writeln!(out, "{name:<15}{:<10}{}", command.unwrap_or("-"), printable(&format!("{description}{place}")))?;
        }
    }
    emit(&out)
}

/// The names of a person's own profiles.
fn own_names() -> anyhow::Result<Vec<String>> {
    let Some(directory) = Home::profile_from_env(DEFAULT).and_then(|file| file.parent().map(Path::to_owned)) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".yaml").filter(|name| Home::profile_from_env(name).is_some()).map(str::to_owned)
    };
    Ok(entries.take(PROFILES_MAX).filter_map(name).collect())
}

/// A profile as it was found: its text, and where that lies.
pub struct Found {
    /// The profile.
    pub profile: Profile,
    /// Its text.
    pub text: String,
    /// Its file; none for one that comes with omni.
    pub file: Option<PathBuf>,
}

/// Finds a profile by name, else reads it from a file. A person's own, in omni's home, goes before the shipped one of the
/// same name; both go before files, so that no file of a workspace can take the place of one.
///
/// # Errors
/// When there is no such profile, naming the nearest, and everything that is wrong with the file.
pub fn find(name_or_file: &str) -> anyhow::Result<Found> {
    if let Some(found) = named(name_or_file)? {
        return Ok(found);
    }
    let path = Path::new(name_or_file);
    let is_path = name_or_file.contains('/') || path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
    if !is_path && !path.is_file() {
        bail!(unknown(name_or_file));
    }
    written(path.to_owned(), name_or_file)
}

/// The profile that [`find`] finds, alone.
///
/// # Errors
/// As [`find`].
pub fn load(name_or_file: &str) -> anyhow::Result<Profile> {
    Ok(find(name_or_file)?.profile)
}

/// The profile for a command: a person's own of that name, else the shipped one of that name or for that program, else
/// the default one.
///
/// # Errors
/// Everything that is wrong with a file of the person's; the profiles that come with omni are tested.
pub fn for_command(argv0: &str) -> anyhow::Result<Found> {
    let shipped = shipped_for(argv0);
    let wanted = shipped.unwrap_or(argv0);
    if wanted != DEFAULT
        && let Some(found) = named(wanted)?
    {
        return Ok(found);
    }
    find(DEFAULT)
}

/// The profile of that name: a person's own, else a shipped one.
fn named(name: &str) -> anyhow::Result<Option<Found>> {
    if let Some(file) = Home::profile_from_env(name).filter(|file| file.is_file()) {
        let label = file.display().to_string();
        return written(file, &label).map(Some);
    }
    let Some(text) = shipped_text(name) else { return Ok(None) };
    Ok(Some(Found { profile: Profile::parse(name, text)?, text: text.to_owned(), file: None }))
}

fn written(file: PathBuf, label: &str) -> anyhow::Result<Found> {
    let text = read(&file)?;
    let profile = Profile::parse(label, &text).context("the profile cannot be used as it stands")?;
    Ok(Found { profile, text, file: Some(file) })
}

/// Reads a file that a person wrote.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or is far too long to have been written by a person.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read `{shown}`"))?;
    let mut text = String::new();
    // One more than may be: a device or a pipe does not say how long it is.
    let read = file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_string(&mut text);
    if read.with_context(|| format!("cannot read `{shown}`"))? as u64 > FILE_BYTES_MAX {
        bail!("`{shown}` is longer than {FILE_BYTES_MAX} bytes: that is no profile and no policy");
    }
    Ok(text)
}

fn shipped_text(name: &str) -> Option<&'static str> {
    shipped().iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = shipped().iter().map(|(name, _)| *name).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("there is no profile named `{name}`: did you mean `{near}`?"),
        None => {
            format!("there is no profile named `{name}`: there are {}, or give the path of a file", names.join(", "))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_the_profile_made_for_it() {
        let name = |argv0| for_command(argv0).expect("a profile").profile.name;
        assert_eq!(name("claude-code"), "claude-code");
        assert_eq!(name("claude"), "claude-code");
        assert_eq!(name("/usr/local/bin/codex"), "codex");
        assert_eq!(name("bash"), "default");
        assert_eq!(name("default"), "default");
    }

    #[test]
    fn a_mistyped_name_brings_the_nearest() {
        let error = load("claud-code").expect_err("no such profile").to_string();
        assert_eq!(error, "there is no profile named `claud-code`: did you mean `claude-code`?");
        assert!(load("/nowhere/x.yaml").is_err());
    }

    #[test]
    fn no_file_is_read_without_end() {
        let error = read(Path::new("/dev/zero")).expect_err("no profile").to_string();
        assert_eq!(error, "`/dev/zero` is longer than 1048576 bytes: that is no profile and no policy");
    }
}
