//! `omni audit checkpoint` and `omni audit keys`: what is signed, and by what.

use super::cosign;
use crate::cli::listing::{self, Viewer};
use crate::ledger::Checkpoint;
use crate::store::{LedgerKey, check_signature, read_witness_policy};
use anyhow::ensure;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Sign the ledger as it is, and print that: kept elsewhere, it shows later that nothing before it was changed
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit checkpoint > /mnt/elsewhere/checkpoint\n  omni audit checkpoint --witnesses \
    witnesses.txt"
)]
pub(super) struct CheckpointArgs {
    /// Have the witnesses of this policy that have an address sign it too (c2sp.org/tlog-policy)
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,
}

/// Print the keys that sign this ledger, for whoever checks what it signed
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit keys\n  omni audit keys --rotate")]
pub(super) struct KeysArgs {
    /// Have a new key sign from now on; the old one signs that it hands over
    #[arg(long)]
    rotate: bool,
    /// Print one JSON object for each key
    #[arg(long)]
    json: bool,
}

/// Signs.
///
/// # Errors
/// When it cannot be signed, or not by enough witnesses.
pub(super) fn checkpoint(args: &CheckpointArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let Some(path) = args.witnesses.as_deref() else {
        let signed = viewer.open()?.checkpoint()?;
        listing::emit(&signed.note.to_string())?;
        return Ok(ExitCode::SUCCESS);
    };
    viewer.reads_files()?;
    let policy = read_witness_policy(path)?;
    let mut store = viewer.open()?;
    let (note, failures) = cosign::gather(store.as_mut(), &policy)?;
    listing::emit(&note.to_string())?;
    for failure in &failures {
        eprintln!("omni: {}", listing::printable_lines(failure));
    }
    // The keys of a ledger hand over to one another, so that a policy may name any of them.
    let own = store.ledger_keys()?.into_iter().map(|own| own.key);
    policy.of_ledger(own)?.accept(&note, &Checkpoint::parse(&note.text)?, check_signature)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the keys, the newest last.
///
/// # Errors
/// When the store cannot be read, or no new key made.
pub(super) fn keys(args: &KeysArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let mut store = viewer.open()?;
    if args.rotate {
        ensure!(viewer.sees_all(), "only root can change the key of the machine's ledger");
        store.rotate_key()?;
    } else {
        // The first time, this makes the key.
        store.checkpoint()?;
    }
    for LedgerKey { number, key } in store.ledger_keys()? {
        let line = match args.json {
            true => listing::json_line(&json!({ "number": number, "key": key.to_string() }))?,
            false => format!("{key}\n"),
        };
        listing::emit(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}
