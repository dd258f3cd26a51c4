//! `omni replay`: play what a session's terminal showed, and beside it what it asked for.

mod requests;

use self::requests::Requests;
use super::listing::{self, Viewer};
use super::server::Route;
use crate::model::Timestamp;
use crate::policy::parse_duration;
use crate::session::{Aside, Pace, Played, Recorded, Replay};
use rustix::termios::{Winsize, tcgetwinsize};
use std::io::{self, IsTerminal, StdoutLock};
use std::process::ExitCode;
use std::time::Duration;

/// Slowest and fastest speed.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=1000.0;
/// The size of a terminal that does not tell.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Play what a recorded session's terminal showed, or print the recording (asciicast) into a pipe
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni exec --record -- claude-code\n  omni replay last --speed 4 --idle-limit 2s\n  \
    omni replay last --requests --at 90s\n  omni replay last --requests | less\n  omni replay last > session.cast"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// Show the session's requests beside its terminal, below it where there is no room; into a pipe both as text
    #[arg(long, visible_alias = "side-by-side", conflicts_with = "raw")]
    requests: bool,
    /// Begin there: so long after the beginning, such as 90s, at a time (RFC 3339), or at a request, such as #3
    #[arg(long, value_name = "T", value_parser = place)]
    at: Option<Place>,
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

/// A place in a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// So long after its beginning.
    After(Duration),
    /// A time.
    Time(Timestamp),
    /// Where the request of this number was judged.
    Request(u64),
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| SPEEDS.contains(speed));
    speed.ok_or_else(|| format!("`{text}` is no speed: write a number from {} to {}", SPEEDS.start(), SPEEDS.end()))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn place(text: &str) -> Result<Place, String> {
    if let Some(number) = text.strip_prefix('#').and_then(|number| number.parse().ok()) {
        return Ok(Place::Request(number));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Place::Time(Timestamp(time.as_microsecond())));
    }
    let wrong = |_| {
        format!("`{text}` is no place: write 90s or 1m30s after the beginning, a time (RFC 3339), or a request, #3")
    };
    parse_duration(text).map(Place::After).map_err(wrong)
}

/// Plays it.
///
/// # Errors
/// When there is no such session, or no recording of it.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let store = viewer.open()?;
    let session = store.find(&args.session)?;
    let replay = Replay::open(viewer.home(), &session)?;
    viewer.note_reading("replay", Some(&session))?;
    let mut out = io::stdout().lock();
    let terminal = out.is_terminal();
    if args.raw || !(terminal || args.requests) {
        anyhow::ensure!(args.at.is_none(), "the recording is printed whole: leave --at out, or ask for --requests");
        replay.copy(&mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let recorded = replay.begin()?;
    let events = if args.requests || args.at.is_some() { store.events(&session)? } else { Vec::new() };
    let mut requests = Requests::new(events, recorded.started());
    let from = args.at.map(|at| begin_at(at, &recorded, &requests)).transpose()?.unwrap_or_default();
    let pace = Pace { speed: args.speed, idle_limit: args.idle_limit, from };
    match (args.requests, terminal) {
        (false, _) => Ok(ended(recorded.play(pace, &mut out)?)),
        (true, true) => Ok(ended(beside(recorded, pace, &mut requests, &mut out)?)),
        (true, false) => {
            recorded.print(from, &mut requests, &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn beside(
    recorded: Recorded,
    pace: Pace,
    requests: &mut impl Aside,
    out: &mut StdoutLock<'_>,
) -> anyhow::Result<Played> {
    let size = || tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0).unwrap_or(SIZE);
    Ok(recorded.play_beside(pace, requests, &size, out)?)
}

/// How long after the recording's beginning a place is.
fn begin_at(place: Place, recorded: &Recorded, requests: &Requests) -> anyhow::Result<Duration> {
    match place {
        Place::After(after) => Ok(after),
        Place::Time(time) => Ok(requests::between(recorded.started(), time)),
        Place::Request(number) => {
            let found = requests.when_judged(number);
            found.ok_or_else(|| anyhow::anyhow!("the session has no request {number}: `omni show` lists them"))
        }
    }
}

fn ended(played: Played) -> ExitCode {
    match played {
        Played::Whole(marks) => {
            for mark in marks {
                eprintln!("omni: {}", listing::printable(&mark));
            }
            ExitCode::SUCCESS
        }
        Played::Interrupted(signal) => ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_time_or_a_request() {
        assert_eq!(place("1m30s"), Ok(Place::After(Duration::from_secs(90))));
        assert_eq!(place("#3"), Ok(Place::Request(3)));
        assert_eq!(place("1970-01-01T00:00:01Z"), Ok(Place::Time(Timestamp(1_000_000))));
        assert!(place("soon").is_err() && place("#x").is_err());
    }
}
