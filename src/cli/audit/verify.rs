//! `omni audit verify`: whether journals, database and ledger are still what was recorded; and receipts, by themselves.

use super::receipt;
use crate::cli::listing::{self, Viewer};
use crate::ledger::{Checkpoint, Note, VerifierKey};
use crate::store::{
    Finding, Home, LedgerFinding, LedgerReport, Report, check_files, check_signature, read_kept_checkpoint,
    read_signed_checkpoint, read_witness_policy,
};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check every journal's hash chain, the database against it and the ledger over all of them; exits with 1 when something
/// is wrong
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit verify\n  omni audit verify --checkpoint kept-elsewhere.txt\n  omni audit \
    verify --json | jq 'select(.ok | not)'\n  omni audit verify --receipt r.txt --key omni/…+…+…"
)]
pub(super) struct VerifyArgs {
    /// Whether the ledger still begins with what this checkpoint was signed over, which was kept elsewhere
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Which ledgers are trusted, and which witnesses must have signed (c2sp.org/tlog-policy)
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,
    /// Check the files of this directory, such as a copy of a home: without a database, and without writing anything
    #[arg(long, value_name = "DIR", conflicts_with = "receipt")]
    files: Option<PathBuf>,
    /// Check this receipt by itself, without any records
    #[arg(long, value_name = "FILE", conflicts_with = "checkpoint")]
    receipt: Option<PathBuf>,
    /// A key of the ledger that is meant, as `omni audit keys` printed it there
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// The journal that the receipt's frame is in: all of it up to there is proven with it
    #[arg(long, value_name = "FILE", requires = "receipt")]
    journal: Option<PathBuf>,
    /// Print one JSON object for each journal, and one for the ledger
    #[arg(long)]
    json: bool,
}

/// Checks what needs no store: a receipt, or a directory's files; none where neither is meant.
///
/// # Errors
/// When a receipt proves nothing, or not by anybody who is trusted; when files cannot be read.
pub(super) fn by_files(args: &VerifyArgs) -> Option<anyhow::Result<ExitCode>> {
    if let Some(path) = &args.receipt {
        let trusted = receipt::Trusted { keys: &args.key, witnesses: args.witnesses.as_deref() };
        return Some(receipt::check(path, &trusted, args.journal.as_deref(), args.json));
    }
    args.files.as_deref().map(|directory| {
        let home = Home::find(directory)?;
        let kept = args.kept()?;
        let (reports, mut ledger) = check_files(&home, &kept)?;
        if let Some(report) = &mut ledger {
            args.judge_signers(report, read_signed_checkpoint(&home)?.as_ref())?;
        }
        args.tell(&reports, ledger.as_ref())
    })
}

/// Does what was asked.
///
/// # Errors
/// When a check could not be made.
pub(super) fn run(args: &VerifyArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    if !args.checkpoint.is_empty() || args.witnesses.is_some() {
        viewer.reads_files()?;
    }
    let kept = args.kept()?;
    let store = viewer.open()?;
    // What is found of the ledger names everybody's sessions.
    let (reports, mut ledger) = if viewer.sees_all() { store.verify_all(&kept)? } else { (store.verify()?, None) };
    if let Some(report) = &mut ledger {
        args.judge_signers(report, store.signed_checkpoint()?.as_ref())?;
    }
    args.tell(&reports, ledger.as_ref())
}

impl VerifyArgs {
    fn kept(&self) -> anyhow::Result<Vec<(Note, Checkpoint)>> {
        Ok(self.checkpoint.iter().map(|path| read_kept_checkpoint(path)).collect::<Result<_, _>>()?)
    }

    /// Whether the ledger is one that is trusted, and enough witnesses signed its checkpoint.
    fn judge_signers(&self, report: &mut LedgerReport, signed: Option<&(Note, Checkpoint)>) -> anyhow::Result<()> {
        if self.key.is_empty() && self.witnesses.is_none() {
            return Ok(());
        }
        let mut policy = self.witnesses.as_deref().map(read_witness_policy).transpose()?.unwrap_or_default();
        for key in &self.key {
            policy.trust(VerifierKey::parse(key)?);
        }
        let own = report.keys.iter().map(|(_, key)| key.clone());
        let judged = match signed {
            None => {
                Err("the ledger has no checkpoint that anybody could have signed: `omni audit checkpoint`".to_owned())
            }
            Some((note, checkpoint)) => policy
                .of_ledger(own)
                .and_then(|policy| policy.accept(note, checkpoint, check_signature))
                .map_err(|fault| fault.to_string()),
        };
        report.faults.extend(judged.err().map(|what| LedgerFinding { index: None, what }));
        Ok(())
    }

    /// Prints what was found.
    fn tell(&self, reports: &[Report], ledger: Option<&LedgerReport>) -> anyhow::Result<ExitCode> {
        let text = if self.json { json(reports, ledger)? } else { human(reports, ledger) };
        listing::emit(&text)?;
        let broken = reports.iter().filter(|report| !report.faults.is_empty()).count();
        let is_whole = ledger.is_none_or(|ledger| ledger.faults.is_empty());
        if broken > 0 {
            eprintln!(
                "{broken} of {} journals are not what was recorded: copy the home before you change anything.",
                reports.len()
            );
        }
        if let Some(ledger) = ledger.filter(|ledger| !ledger.faults.is_empty()) {
            let what = match ledger.first_bad() {
                Some(_) => "The ledger is not what was recorded",
                None => "What was signed of the ledger is not as it should be",
            };
            eprintln!("{what}: copy the home before you change anything.");
        }
        Ok(if broken == 0 && is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A journal's report as `--json` prints it.
#[derive(Serialize)]
struct ReportLine<'a> {
    session: &'a str,
    writer: &'static str,
    ok: bool,
    frames: u64,
    head: String,
    faults: Vec<FindingLine<'a>>,
    notes: Vec<FindingLine<'a>>,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    seq: u64,
    what: &'a str,
}

/// The ledger's report as `--json` prints it.
#[derive(Serialize)]
struct LedgerLine<'a> {
    ledger: Option<&'a str>,
    ok: bool,
    entries: u64,
    root: Option<String>,
    /// How many entries the last checkpoint covers.
    signed: Option<u64>,
    keys: Vec<KeyLine>,
    first_bad: Option<u64>,
    faults: Vec<EntryLine<'a>>,
    notes: Vec<EntryLine<'a>>,
}

#[derive(Serialize)]
struct KeyLine {
    entry: u64,
    key: String,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    entry: Option<u64>,
    what: &'a str,
}

fn finding_lines(findings: &[Finding]) -> Vec<FindingLine<'_>> {
    findings.iter().map(|finding| FindingLine { seq: finding.seq, what: &finding.what }).collect()
}

fn entry_lines(findings: &[LedgerFinding]) -> Vec<EntryLine<'_>> {
    findings.iter().map(|finding| EntryLine { entry: finding.index, what: &finding.what }).collect()
}

fn json(reports: &[Report], ledger: Option<&LedgerReport>) -> anyhow::Result<String> {
    let mut text = String::new();
    for report in reports {
        text.push_str(&listing::json_line(&ReportLine {
            session: report.session.as_str(),
            writer: report.writer.as_str(),
            ok: report.faults.is_empty(),
            frames: report.frames,
            head: report.head.to_string(),
            faults: finding_lines(&report.faults),
            notes: finding_lines(&report.notes),
        })?);
    }
    if let Some(report) = ledger {
        text.push_str(&listing::json_line(&LedgerLine {
            ledger: report.origin.as_deref(),
            ok: report.faults.is_empty(),
            entries: report.size,
            root: report.root.map(|root| root.to_base64()),
            signed: report.signed,
            keys: report.keys.iter().map(|(entry, key)| KeyLine { entry: *entry, key: key.to_string() }).collect(),
            first_bad: report.first_bad(),
            faults: entry_lines(&report.faults),
            notes: entry_lines(&report.notes),
        })?);
    }
    Ok(text)
}

fn human(reports: &[Report], ledger: Option<&LedgerReport>) -> String {
    let mut text = String::new();
    for report in reports {
        let findings = report.faults.iter().map(|finding| ("BROKEN", finding));
        for (word, finding) in findings.chain(report.notes.iter().map(|finding| ("note", finding))) {
            let (session, writer) = (report.session.as_str(), report.writer.as_str());
            let what = listing::printable(&finding.what);
            text.push_str(&format!("{word:<6}  {session}  {writer}  frame {}: {what}\n", finding.seq));
        }
    }
    let frames: u64 = reports.iter().map(|report| report.frames).sum();
    let whole = reports.iter().filter(|report| report.faults.is_empty()).count();
    text.push_str(&ledger.map_or_else(String::new, findings_of_ledger));
    text.push_str(&format!("{whole} of {} journals whole, {frames} frames follow from one another\n", reports.len()));
    text.push_str(&ledger.map_or_else(String::new, state_of_ledger));
    text
}

fn findings_of_ledger(report: &LedgerReport) -> String {
    let findings = report.faults.iter().map(|finding| ("BROKEN", finding));
    let findings = findings.chain(report.notes.iter().map(|finding| ("note", finding)));
    findings
        .map(|(word, finding)| {
            let place = finding.index.map_or_else(String::new, |index| format!("  entry {index}"));
            format!("{word:<6}  ledger{place}: {}\n", listing::printable(&finding.what))
        })
        .collect()
}

fn state_of_ledger(report: &LedgerReport) -> String {
    let size = report.size;
    let state = match report.first_bad() {
        Some(index) => format!("the first bad entry is {index}"),
        None if !report.faults.is_empty() => "its entries are sound, what was signed is not".to_owned(),
        None => match report.signed {
            None => "whole, and not signed yet: `omni audit checkpoint`".to_owned(),
            Some(signed) if signed == size => "whole, and all of them are signed".to_owned(),
            Some(signed) => format!("whole, and the first {signed} are signed"),
        },
    };
    let name = report.origin.as_deref().map_or_else(String::new, |origin| format!(" {}", listing::printable(origin)));
    format!("ledger{name}: {size} entries, {state}\n")
}
