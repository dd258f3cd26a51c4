//! The command line: one file per verb.
//!
//! stdout is data, stderr is for people. A failure prints what happened and what to do, and exits non-zero.

mod audit;
mod event_line;
mod listing;
mod sessions;
mod show;
mod spend;

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
    Sessions(sessions::Args),
    Show(show::Args),
    Spend(spend::Args),
    Audit(audit::Args),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Sessions(args) => sessions::run(args),
        Verb::Show(args) => show::run(args),
        Verb::Spend(args) => spend::run(args),
        Verb::Audit(args) => audit::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("omni: {error:#}");
        ExitCode::FAILURE
    })
}
