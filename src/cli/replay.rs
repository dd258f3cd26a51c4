//! `omni replay`: play what a session's terminal showed.

use super::listing::{self, Viewer};
use super::server::Route;
use crate::policy::parse_duration;
use crate::session::{Pace, Played, Replay};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

/// Slowest and fastest speed.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// Play what a recorded session's terminal showed, or print the recording (asciicast) into a pipe
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni exec --record -- claude-code\n  omni replay last --speed 4 --idle-limit 2s\n  \
    omni replay last > session.cast"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// How many times as fast as it was
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// The longest pause, such as 2s
    #[arg(long, value_name = "DUR", value_parser = duration)]
    idle_limit: Option<Duration>,
    /// Print the recording as it is, also on a terminal
    #[arg(long)]
    raw: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| SPEEDS.contains(speed));
    speed.ok_or_else(|| format!("`{text}` is no speed: write a number from {} to {}", SPEEDS.start(), SPEEDS.end()))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Plays it.
///
/// # Errors
/// When there is no such session, or no recording of it.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let session = viewer.open()?.find(&args.session)?;
    let replay = Replay::open(viewer.home(), &session)?;
    let mut out = io::stdout().lock();
    if args.raw || !out.is_terminal() {
        replay.copy(&mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    match replay.play(Pace { speed: args.speed, idle_limit: args.idle_limit }, &mut out)? {
        Played::Whole(marks) => {
            for mark in marks {
                eprintln!("omni: {}", listing::printable(&mark));
            }
            Ok(ExitCode::SUCCESS)
        }
        Played::Interrupted(signal) => Ok(ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))),
    }
}
