//! The command line: one file per verb.
//!
//! stdout is data, stderr is for people. A failure prints what happened and what to do, and exits non-zero.

mod apply;
mod approvals;
mod attach;
mod audit;
mod changes;
mod completions;
mod diff;
mod discard;
mod doctor;
mod event_line;
mod exec;
mod limit_flags;
mod listing;
mod money_flags;
mod policy;
mod prices;
mod private_file;
pub mod profile;
mod replay;
mod secret;
mod server;
mod sessions;
mod show;
mod sim;
mod sources;
mod spend;
mod stop;
mod store;

use crate::store::choose_store;
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Exit code when omni failed before the harness started.
const EXIT_OMNI_FAILED: u8 = 125;

#[derive(Parser)]
#[command(name = "omni", version, about = "Run AI agent harnesses in a sandbox with one guarded way out")]
#[command(after_help = "Examples:\n  omni exec -- claude-code\n  omni show last")]
struct Cli<V: Subcommand> {
    /// Keep records in the store at this address, `postgres://USER@HOST/DATABASE`, instead of the home's own (docs/store.md)
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    #[command(subcommand)]
    verb: V,
}

#[derive(Subcommand)]
enum Verb {
    #[command(flatten)]
    Start(Start),
    #[command(flatten)]
    Records(Records),
    /// Check what rules a file holds, or ask what they say of a request.
    Policy(policy::Args),
    /// See the profiles that come with omni.
    Profile(profile::Args),
    Secret(secret::Args),
    Doctor(doctor::Args),
    Server(server::Args),
    #[command(hide = true)]
    ServeVisitor(server::VisitorArgs),
    Sim(sim::Args),
    Prices(prices::Args),
    Store(store::Args),
    /// Print a completion script for a shell, or the manual page.
    Completions(completions::Args),
}

/// The verb that people wait for: it is read without setting up what all the others may be given, which would take as long
/// as a sandbox's network.
#[derive(Subcommand)]
enum Start {
    /// Run a harness in a sandbox.
    Exec(Box<exec::Args>),
}

/// The verbs about sessions that are recorded: of this user, or by the machine's server.
#[derive(Subcommand)]
enum Records {
    Sessions(sessions::Args),
    Show(show::Args),
    Attach(attach::Args),
    Stop(stop::Args),
    Replay(replay::Args),
    Diff(diff::Args),
    Apply(apply::Args),
    Discard(discard::Args),
    Spend(spend::Args),
    Approvals(approvals::Args),
    Approve(approvals::ApproveArgs),
    Deny(approvals::DenyArgs),
    Audit(audit::Args),
}

impl Records {
    fn route(&self) -> server::Route {
        match self {
            Self::Sessions(args) => args.route,
            Self::Show(args) => args.route,
            Self::Attach(args) => args.route,
            Self::Stop(args) => args.route,
            Self::Replay(args) => args.route,
            Self::Diff(args) => args.route,
            Self::Apply(args) => args.route,
            Self::Discard(args) => args.route,
            Self::Spend(args) => args.route,
            Self::Approvals(args) => args.route,
            Self::Approve(args) => args.route,
            Self::Deny(args) => args.route,
            Self::Audit(args) => args.route,
        }
    }

    /// What needs nobody's records, of this user or of the machine's server.
    fn show_without_records(&self) -> Option<anyhow::Result<ExitCode>> {
        match self {
            Self::Audit(args) => args.run_without_records(),
            _ => None,
        }
    }

    /// The command, where it reads what is recorded and not of one session. Those that do something instead are recorded by
    /// the session that they do it to, with their user.
    fn reads_all(&self) -> Option<&'static str> {
        match self {
            Self::Sessions(_) => Some("sessions"),
            Self::Spend(_) => Some("spend"),
            Self::Audit(args) => args.reads_all(),
            _ => None,
        }
    }

    fn show(self, viewer: &listing::Viewer) -> anyhow::Result<ExitCode> {
        if let Some(command) = self.reads_all() {
            viewer.note_reading(command, None)?;
        }
        match self {
            Self::Sessions(args) => sessions::run(args, viewer),
            Self::Show(args) => show::run(args, viewer),
            Self::Attach(args) => attach::run(&args, viewer),
            Self::Stop(args) => stop::run(&args, viewer),
            Self::Replay(args) => replay::run(&args, viewer),
            Self::Diff(args) => diff::run(&args, viewer),
            Self::Apply(args) => apply::run(&args, viewer),
            Self::Discard(args) => discard::run(&args, viewer),
            Self::Spend(args) => spend::run(args, viewer),
            Self::Approvals(args) => approvals::run(&args, viewer),
            Self::Approve(args) => approvals::approve(&args, viewer),
            Self::Deny(args) => approvals::deny(&args, viewer),
            Self::Audit(args) => audit::run(args, viewer),
        }
    }
}

/// This command line without its first word, for another process to read.
fn own_words() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// Reads the command line of another process.
fn parse(words: Vec<String>) -> anyhow::Result<Verb> {
    let cli = Cli::<Verb>::try_parse_from(std::iter::once("omni".to_owned()).chain(words))?;
    anyhow::ensure!(
        cli.store.is_none(),
        "the machine's server keeps its visitors' records in its own store: leave --store out, or run this with --no-system"
    );
    Ok(cli.verb)
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = match is_exec() {
        true => Cli::<Start>::try_parse().map(|cli| (cli.store, Verb::Start(cli.verb))),
        false => Cli::<Verb>::try_parse().map(|cli| (cli.store, cli.verb)),
    };
    let verb = match parsed {
        Ok((None, verb)) => verb,
        Ok((Some(store), verb)) => {
            warn_of_password(&store);
            choose_store(store);
            verb
        }
        Err(error) => return refuse(&error),
    };
    let (outcome, failure) = match verb {
        Verb::Start(Start::Exec(args)) => (exec::run(*args), EXIT_OMNI_FAILED),
        Verb::ServeVisitor(args) if args.records => (server::serve_visitor(args), 1),
        Verb::ServeVisitor(args) => (server::serve_visitor(args), EXIT_OMNI_FAILED),
        Verb::Server(args) => (server::run(args), 1),
        Verb::Records(args) => (args.show_without_records().unwrap_or_else(|| server::show_own_records(args)), 1),
        Verb::Policy(args) => (policy::run(args), 1),
        Verb::Profile(args) => (profile::run(args), 1),
        Verb::Secret(args) => (secret::run(args), 1),
        Verb::Doctor(args) => (doctor::run(&args), 1),
        Verb::Sim(args) => (sim::run(args), 1),
        Verb::Prices(args) => (prices::run(args), 1),
        Verb::Store(args) => (store::run(args), 1),
        Verb::Completions(args) => (completions::run(&args, &mut Cli::<Verb>::command()), 1),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("omni: {}", listing::printable_lines(&told(&error)));
        ExitCode::from(failure)
    })
}

/// Says so where an address on the command line has a password, which everybody on the machine can read there.
fn warn_of_password(address: &str) {
    let user = address.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(':') && !user.contains('/')) {
        eprintln!(
            "omni: everybody on this machine can read the store's password on the command line: put it into ~/.pgpass"
        );
    }
}

/// Whether the command line is that of `exec`.
fn is_exec() -> bool {
    std::env::args_os().nth(1).is_some_and(|verb| verb == "exec")
}

/// Prints help where it was asked for, else what is wrong with the command line. For `exec`, whose other exit codes are
/// the harness's own, a wrong one exits as every failure before the start does.
fn refuse(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nobody to tell.
    let _ = error.print();
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_exec() => ExitCode::from(EXIT_OMNI_FAILED),
        _ => ExitCode::from(2),
    }
}

/// What happened and why, from the outside in. Many messages hold their cause already, which is not said twice.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for message in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn no_cause_is_told_twice() {
        let error = Err::<(), _>(anyhow::anyhow!("disk full")).context("cannot write a: disk full").context("stopped");
        let text = error.map_or_else(|error| told(&error), |()| String::new());
        assert_eq!(text, "stopped: cannot write a: disk full");
    }
}
