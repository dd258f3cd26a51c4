//! `omni profile`: the profiles that come with omni, and finding the one that is meant.

use super::listing::{emit, json_line};
use crate::harness::shipped;
use crate::policy::{Profile, nearest};
use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

/// The profile of a command that no other is for.
const DEFAULT: &str = "default";

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
    /// List the profiles that come with omni.
    #[command(after_help = "Example:\n  omni profile list --json")]
    List {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print a profile, ready to be copied into a file of your own.
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
}

/// Runs `omni profile`.
///
/// # Errors
/// For an unknown name, and when stdout cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::List { json } => list(json)?,
        Verb::Show { name } => {
            let text = shipped_text(&name).with_context(|| unknown(&name))?;
            emit(text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> anyhow::Result<()> {
    let mut out = String::new();
    for (name, text) in shipped() {
        let profile = Profile::parse(name, text)?;
        let (command, harness) = (profile.command.as_deref(), profile.harness.as_str());
        let description = profile.description.as_str();
        if json {
            let entry = Entry { name, command, harness, description };
            out.push_str(&json_line(&entry)?);
        } else {
            writeln!(out, "{name:<14}{:<10}{description}", command.unwrap_or("-"))?;
        }
    }
    emit(&out)
}

/// Finds a profile by the name of one that comes with omni, else reads it from a file. The names come first, so that no
/// file of a workspace can take the place of one.
///
/// # Errors
/// When there is no such profile, naming the nearest, and everything that is wrong with the file.
pub fn load(name_or_file: &str) -> anyhow::Result<Profile> {
    if let Some(text) = shipped_text(name_or_file) {
        return Ok(Profile::parse(name_or_file, text)?);
    }
    let path = Path::new(name_or_file);
    let is_path = name_or_file.contains('/') || path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
    if !is_path && !path.is_file() {
        bail!(unknown(name_or_file));
    }
    let text = read(path)?;
    Profile::parse(name_or_file, &text).context("the profile cannot be used as it stands")
}

/// The profile for a command: the one of that name or for that program, else the default one.
///
/// # Errors
/// None in a sound build: the profiles that come with omni are tested.
pub fn for_command(argv0: &str) -> anyhow::Result<Profile> {
    let program = Path::new(argv0).file_name().and_then(|name| name.to_str()).unwrap_or(argv0);
    for (name, text) in shipped().iter().filter(|(name, _)| *name != DEFAULT) {
        let profile = Profile::parse(name, text)?;
        if argv0 == *name || profile.command.as_deref() == Some(program) {
            return Ok(profile);
        }
    }
    load(DEFAULT)
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
        let name = |argv0| for_command(argv0).expect("a profile").name;
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
