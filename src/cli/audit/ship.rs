//! `omni audit ship`: the ledger, sent to where a team gathers its logs.

use crate::cli::listing::{self, Viewer};
use crate::cli::private_file::open_alone;
use crate::cli::secret::unlock_own;
use crate::session::SystemKeyring;
use crate::shipping::{Shipment, SystemClock, Target, TokenSource, ship};
use crate::store::{Home, SecretStore};
use anyhow::{Context, ensure};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Longest token, in bytes.
const TOKEN_BYTES_MAX: u64 = 16 << 10;
/// Longest file of places, in bytes.
const PLACES_BYTES_MAX: u64 = 1 << 20;
/// Most places.
const PLACES_MAX: usize = 32;

/// Send the ledger to where a team gathers its logs, and go on with what is recorded, from where it was left
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit ship file:/var/log/omni.jsonl\n  omni audit ship \
    'syslog+tls://siem.example?format=ocsf'\n  omni audit ship 'splunk+https://splunk.example?token=store:splunk'\n  omni \
    audit ship otlp+http://127.0.0.1:4318 'otlp+http://127.0.0.1:4318?signal=traces'\n\ndocs/exports.md tells all places and \
    their settings.")]
pub(super) struct ShipArgs {
    /// Where to: file:PATH, syslog+tls://HOST, splunk+https://HOST, otlp+https://HOST
    #[arg(value_name = "PLACE", required_unless_present = "places")]
    targets: Vec<String>,
    /// A file with such a place on each line
    #[arg(long, value_name = "FILE")]
    places: Option<PathBuf>,
    /// End when everything that is there was delivered, or could not be
    #[arg(long)]
    once: bool,
}

/// Ships.
///
/// # Errors
/// When a place is wrong, or could not be delivered to for good.
pub(super) fn run(args: &ShipArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    viewer.reads_files()?;
    let targets = targets(args)?;
    let home = viewer.home();
    // Once, and before anything is sent: what sends runs beside others, and waits for nobody at a terminal.
    if targets.iter().any(Target::wants_store) {
        unlock_own(home)?;
    }
    ship(&Shipment {
        home,
        targets: &targets,
        once: args.once,
        read_token: &|source| read_token(source, home).map_err(|error| format!("{error:#}")),
        report: &|text| eprintln!("omni: {}", listing::printable_lines(text)),
        clock: &SystemClock,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn targets(args: &ShipArgs) -> anyhow::Result<Vec<Target>> {
    let open = |path: &Path| {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        read(file, path, PLACES_BYTES_MAX)
    };
    let file = args.places.as_deref().map(open).transpose()?;
    let lines = file.iter().flat_map(|text| text.lines()).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let all = args.targets.iter().map(String::as_str).chain(lines);
    let targets = all.map(Target::parse).collect::<Result<Vec<_>, _>>()?;
    ensure!(!targets.is_empty(), "the file of places names none");
    ensure!(targets.len() <= PLACES_MAX, "there are more than {PLACES_MAX} places");
    Ok(targets)
}

fn read(file: File, path: &Path, most: u64) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    file.take(most + 1).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= most, "{} is too long", path.display());
    Ok(text)
}

fn read_token(source: &TokenSource, home: &Home) -> anyhow::Result<Zeroizing<String>> {
    match source {
        TokenSource::Env(name) => {
            std::env::var(name).map(Zeroizing::new).with_context(|| format!("the variable {name} holds no text"))
        }
        TokenSource::File(path) => read(open_alone(path)?, path, TOKEN_BYTES_MAX),
        TokenSource::Store(name) => Ok(SecretStore::read(home.path())?.value(name, &SystemKeyring::of(home.path()))?),
    }
}
