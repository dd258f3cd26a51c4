//! The command line: one file per verb.
//!
//! stdout is data, stderr is for people. A failure prints what happened and what to do, and exits non-zero.

mod policy;
pub mod profile;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "omni", version, about = "Run AI agent harnesses in a sandbox with one guarded way out")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check what rules a file holds, or ask what they say of a request.
    Policy(policy::Args),
    /// See the profiles that come with omni.
    Profile(profile::Args),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.verb {
        Verb::Policy(args) => policy::run(args),
        Verb::Profile(args) => profile::run(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("omni: {error:#}");
        ExitCode::FAILURE
    })
}
