//! The command line: one file per verb.
//!
//! stdout is data, stderr is for people. A failure prints what happened and what to do, and exits non-zero.

mod prices;
mod sim;

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
    Prices(prices::Args),
    Sim(sim::Args),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Prices(args) => prices::run(args),
        Verb::Sim(args) => sim::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("omni: {error:#}");
        ExitCode::FAILURE
    })
}
