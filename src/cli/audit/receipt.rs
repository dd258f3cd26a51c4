//! `omni audit prove`, and checking what it gives by its file alone.

use crate::cli::listing::{self, Viewer};
use crate::ledger::{
    Checkpoint, Entry, Hash, Header, RECEIPT_BYTES_MAX, Receipt, VerifierKey, WitnessPolicy, decode, event_json,
    event_kind, unpack,
};
use crate::model::{SessionId, Writer};
use crate::store::{check_signature, read_witness_policy};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

/// Largest journal that is compared with a receipt: some millions of frames.
const JOURNAL_BYTES_MAX: u64 = 4 << 30;

/// Print a receipt, which shows to anybody, without the records, that an event is in this ledger
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit prove last > receipt.txt\n  omni audit prove 4f2 --event 17 > receipt.txt\n  \
    omni audit verify --receipt receipt.txt --key omni/…+…+…"
)]
pub(super) struct ProveArgs {
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "SESSION", required_unless_present = "entry")]
    session: Option<String>,
    /// Which of its events, as `omni audit log` numbers them; without it, the last, whose hash covers all before it in its
    /// journal
    #[arg(long, value_name = "NUMBER", requires = "session")]
    event: Option<u64>,
    /// An entry of the ledger, counted from 0, in place of a session's event
    #[arg(long, value_name = "INDEX", conflicts_with = "session")]
    entry: Option<u64>,
}

/// Makes the receipt.
///
/// # Errors
/// When there is no such event, or nothing can be signed.
pub(super) fn prove(args: &ProveArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let mut store = viewer.open()?;
    let receipt = match (&args.session, args.entry) {
        (Some(session), _) => {
            let session = store.find(session)?;
            viewer.note_reading("audit prove", Some(&session))?;
            let number = args.event.unwrap_or(store.session(&session)?.0.events);
            store.receipt(&session, number)?
        }
        (None, Some(index)) => {
            ensure!(viewer.sees_all(), "an entry may be of another's session: name one of yours");
            store.receipt_of_entry(index)?
        }
        (None, None) => bail!("name a session or an entry"),
    };
    listing::emit(&receipt.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Who is believed.
pub(super) struct Trusted<'a> {
    /// Keys of ledgers.
    pub keys: &'a [String],
    /// A policy's file.
    pub witnesses: Option<&'a Path>,
}

impl Trusted<'_> {
    fn policy(&self) -> anyhow::Result<WitnessPolicy> {
        ensure!(
            self.witnesses.is_some() || !self.keys.is_empty(),
            "say whom you trust: --key with what `omni audit keys` prints where the ledger is, or --witnesses"
        );
        let mut policy = self.witnesses.map(read_witness_policy).transpose()?.unwrap_or_default();
        for key in self.keys {
            policy.trust(VerifierKey::parse(key)?);
        }
        Ok(policy)
    }
}

/// Checks a receipt by its file, and a journal by the receipt.
///
/// # Errors
/// With the first thing that does not follow.
pub(super) fn check(
    path: &Path,
    trusted: &Trusted<'_>,
    journal: Option<&Path>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let policy = trusted.policy()?;
    let bytes = read(path, RECEIPT_BYTES_MAX as u64)?;
    let receipt = Receipt::parse(&bytes).with_context(|| format!("{}", path.display()))?;
    let shown = receipt.show().with_context(|| format!("{}", path.display()))?;
    let witnesses = policy.accept(&receipt.checkpoint, &shown.checkpoint, check_signature)?;
    let frames = journal.map(|journal| check_journal(journal, &shown.entry)).transpose()?;
    let text = match json {
        true => listing::json_line(&json_of(&receipt, &shown.entry, &shown.checkpoint, &witnesses, frames))?,
        false => human(&receipt, &shown.entry, &shown.checkpoint, &witnesses, frames),
    };
    listing::emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// How many of a journal's frames the receipt proves: all up to its own.
fn check_journal(path: &Path, entry: &Entry) -> anyhow::Result<u64> {
    let Entry::Frame { session, writer, seq, hash } = entry else {
        bail!("the receipt's entry stands for no frame of a journal");
    };
    let bytes = read(path, JOURNAL_BYTES_MAX)?;
    let header = Header { session: session.clone(), writer: *writer };
    let bytes = unpack(&header, &bytes).unwrap_or(bytes);
    let decoded = decode(&header, &bytes);
    let frame = usize::try_from(*seq).ok().and_then(|seq| decoded.frames.get(seq.checked_sub(1)?));
    let found: Option<Hash> = frame.map(|frame| frame.hash);
    ensure!(
        found == Some(*hash),
        "{} is not the journal that the receipt is of: it differs at or before frame {seq}, or it ends before it",
        path.display()
    );
    Ok(*seq)
}

fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let named = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path).with_context(named)?.take(most + 1).read_to_end(&mut bytes).with_context(named)?;
    ensure!(bytes.len() as u64 <= most, "{} is too large", path.display());
    Ok(bytes)
}

/// What the frame says; null where its entry stands for none.
fn event(receipt: &Receipt) -> Value {
    let json = event_json(&receipt.evidence.payload);
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null)
}

fn place(entry: &Entry) -> (Option<&SessionId>, Option<Writer>, Option<u64>) {
    match entry {
        Entry::Frame { session, writer, seq, .. } => (Some(session), Some(*writer), Some(*seq)),
        Entry::Key { .. } | Entry::Other { .. } => (None, None, None),
    }
}

fn json_of(
    receipt: &Receipt,
    entry: &Entry,
    checkpoint: &Checkpoint,
    witnesses: &[String],
    frames: Option<u64>,
) -> Value {
    let (session, writer, seq) = place(entry);
    json!({
        "ok": true,
        "ledger": checkpoint.origin,
        "entry": receipt.index,
        "entries": checkpoint.size,
        "session": session.map(SessionId::as_str),
        "writer": writer.map(Writer::as_str),
        "seq": seq,
        "event": event(receipt),
        "witnesses": witnesses,
        "journal_frames": frames,
    })
}

fn human(
    receipt: &Receipt,
    entry: &Entry,
    checkpoint: &Checkpoint,
    witnesses: &[String],
    frames: Option<u64>,
) -> String {
    let what = match entry {
        Entry::Frame { session, writer, seq, .. } => {
            let kind = event_json(&receipt.evidence.payload).and_then(event_kind).unwrap_or_default();
            format!(
                "{}, frame {seq} of the {} journal of session {session}",
                listing::printable(&kind),
                writer.as_str()
            )
        }
        Entry::Key { number, .. } => format!("key {number} of the ledger"),
        Entry::Other { kind } => format!("something of a later version, of kind {kind}"),
    };
    let witnesses =
        if witnesses.is_empty() { String::new() } else { format!(", witnessed by {}", witnesses.join(", ")) };
    let journal = frames.map_or_else(String::new, |frames| {
        format!("the journal is the one that was entered, up to and including frame {frames}\n")
    });
    let (index, size, origin) = (receipt.index, checkpoint.size, &checkpoint.origin);
    let text = format!("proven: entry {index} of {size} in the ledger {origin} is {what}{witnesses}\n{journal}");
    listing::printable_lines(&text)
}
