//! `omni policy test`: a file's own examples, and what it would have said of requests that sessions made.
//!
//! Headers and queries are not recorded. A request about which the verdict hangs on one is told as unknown, and not as judged.
//! Rules of the command line count as far as the record names them.

use crate::cli::listing::{Viewer, emit, json_line, printable};
use crate::cli::profile;
use crate::model::{Event, RequestLine, RequestNumber, SessionId};
use crate::policy::{
    Act, Change, Effect, History, Level, Particulars, Policy, PolicyFile, Profile, RefUpdate, RequestFacts, RuleSource,
    SessionFacts, Verdict, WrittenRule, is_policy_file, parse_policy_file,
};
use crate::store::Summary;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Most sessions that are judged again, unless some are named.
const SESSIONS_MAX: usize = 50;
/// The status where requests would be judged otherwise; what goes wrong has 1, and a wrong command line 2.
const EXIT_CHANGED: u8 = 3;

/// What is tested by what.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A policy file, or a profile that would take the place of a session's own.
    file: PathBuf,
    /// A session to judge again, or `last`; repeatable. Without any, the newest fifty.
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,
    /// Print one JSON object for each request that would be judged otherwise.
    #[arg(long)]
    json: bool,
}

/// What becomes of a request where that hangs on what is not recorded.
const UNKNOWN: &str = "unknown";

/// A request that would be judged otherwise, or could be.
#[derive(Serialize)]
struct Changed {
    session: String,
    request: u64,
    method: String,
    url: String,
    was: &'static str,
    now: &'static str,
    by: String,
}

/// A request as it was judged.
struct Past {
    number: RequestNumber,
    line: RequestLine,
    act: Option<Act>,
    verdict: &'static str,
    /// The secrets that went with it.
    secrets: Vec<String>,
    /// How many secret files were read before.
    files_read: usize,
}

/// What a session's record says.
#[derive(Default)]
struct Record {
    past: Vec<Past>,
    updates: BTreeMap<RequestNumber, Vec<RefUpdate>>,
    bytes: BTreeMap<RequestNumber, u64>,
    spent: BTreeMap<RequestNumber, crate::model::NanoUsd>,
    /// The secret files that were read, in their order.
    files_read: Vec<String>,
    /// Rules of the session's level, with what they say.
    rules: Vec<WrittenRule>,
    /// How many requests were refused for something that no rule says.
    unjudged: usize,
}

/// The file, as one of either kind.
enum File {
    Policy(String, PolicyFile),
    Profile(Box<Profile>),
}

/// Tests.
///
/// # Errors
/// For a file that is not sound or whose examples do not hold, and for a session that is not there.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let text = profile::read(&args.file)?;
    let label = args.file.display().to_string();
    let (file, examples) = match is_policy_file(&text) {
        true => {
            let file = parse_policy_file(&label, &text)?;
            let examples = file.examples;
            (File::Policy(label, file), examples)
        }
        false => (File::Profile(Box::new(Profile::parse(&label, &text)?)), 0),
    };
    let store = viewer.open()?;
    let wanted: Vec<SessionId> = match args.sessions.as_slice() {
        [] => store.sessions()?.into_iter().take(SESSIONS_MAX).map(|(summary, _)| summary.session).collect(),
        named => named.iter().map(|named| store.find(named)).collect::<Result<_, _>>()?,
    };
    let (mut judged, mut unjudged, mut changed, mut unknown) = (0, 0, 0, 0);
    for session in &wanted {
        let (summary, _) = store.session(session)?;
        let events: Vec<Event> = store.events(session)?.iter().filter_map(|stored| stored.event()).collect();
        let record = record(&events);
        let policy = policy(&file, &summary, &record)?;
        (judged, unjudged) = (judged + record.past.len(), unjudged + record.unjudged);
        for one in retry(&policy, &summary, record) {
            match one.now {
                UNKNOWN => unknown += 1,
                _ => changed += 1,
            }
            emit(&if args.json { json_line(&one)? } else { human(&one) })?;
        }
    }
    let sessions = wanted.len();
    let hang = match unknown {
        0 => String::new(),
        count => format!(", and of {count} it cannot be said, since headers and queries are not recorded"),
    };
    eprintln!(
        "{examples} examples hold; of {judged} requests of {sessions} sessions, {changed} would be judged otherwise{hang} \
         ({unjudged} more were refused for what no rule says)"
    );
    Ok(if changed + unknown == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CHANGED) })
}

fn human(changed: &Changed) -> String {
    let Changed { session, request, method, url, was, now, by } = changed;
    let by = if *now == UNKNOWN { format!(": the file reads {by}") } else { format!(", by {by}") };
    format!("{}\n", printable(&format!("{session} #{request} {method} {url}: {was} -> {now}{by}")))
}

fn record(events: &[Event]) -> Record {
    let mut record = Record::default();
    let mut asked = BTreeSet::new();
    for event in events {
        match event {
            Event::ApprovalAsked { request, rule: Some(_), .. }
            | Event::ApprovalJoined { request, .. }
            | Event::ConsentUsed { request, .. } => _ = asked.insert(*request),
            Event::PushRead { request, updates, .. } => {
                let updates = updates.iter().filter_map(|update| reference(update)).collect();
                record.updates.insert(*request, updates);
            }
            Event::RequestAllowed { request, line, rule, rule_from, act, secrets, also } => {
                record.name_also(also);
                let verdict = if asked.contains(request) { "ask" } else { "allow" };
                record.enter(*request, line, act.as_deref(), verdict);
                if let Some(past) = record.past.last_mut() {
                    past.secrets.clone_from(secrets);
                }
                record.name(verdict, rule, rule_from.as_deref());
            }
            Event::RequestDenied { request, line, rule, rule_from, act, reason, also } => {
                record.name_also(also);
                let by_rules = rule.is_some() || reason.starts_with("no rule allows");
                match (asked.contains(request), by_rules) {
                    (true, _) => record.enter(*request, line, act.as_deref(), "ask"),
                    (false, true) => record.enter(*request, line, act.as_deref(), "deny"),
                    (false, false) => record.unjudged += 1,
                }
                let verdict = if asked.contains(request) { "ask" } else { "deny" };
                rule.iter().for_each(|rule| record.name(verdict, rule, rule_from.as_deref()));
            }
            Event::RequestCompleted { request, request_bytes, .. } => _ = record.bytes.insert(*request, *request_bytes),
            Event::SecretFileRead { path } => record.files_read.push(path.clone()),
            Event::UsageMetered { request, cost, .. } => _ = record.spent.insert(*request, *cost),
            Event::RuleAdded { rule, .. } => {
                if let Some((effect, text)) =
                    rule.split_once(' ').and_then(|(word, text)| Some((Effect::named(word)?, text)))
                {
                    record.rules.push(WrittenRule::alone(effect, text));
                }
            }
            _ => {}
        }
    }
    record
}

impl Record {
    fn enter(&mut self, number: RequestNumber, line: &RequestLine, act: Option<&str>, verdict: &'static str) {
        let act = act.and_then(Act::parse);
        let files_read = self.files_read.len();
        self.past.push(Past { number, line: line.clone(), act, verdict, secrets: Vec::new(), files_read });
    }

    /// Remembers the rules that took part beside the one that decided, as the record names them.
    fn name_also(&mut self, also: &[String]) {
        for told in also {
            let parts = told.split_once(' ').and_then(|(word, rest)| Some((word, rest.rsplit_once(" (")?)));
            if let Some((word, (rule, from))) = parts {
                self.name(word, rule, Some(from));
            }
        }
    }

    /// Remembers a rule that stands in no file.
    fn name(&mut self, verdict: &str, rule: &str, from: Option<&str>) {
        let own = from.is_some_and(|from| from.starts_with(Level::Session.as_str()));
        if let Some(effect) = Effect::named(verdict).filter(|_| own) {
            let written = WrittenRule::alone(effect, rule);
            if !self.rules.contains(&written) {
                self.rules.push(written);
            }
        }
    }
}

fn reference(text: &str) -> Option<RefUpdate> {
    let (change, name) = text.split_once(' ')?;
    let (change, name) = (Change::named(change)?, name.to_owned());
    Some(RefUpdate { name, change, old: String::new(), new: String::new() })
}

/// What the session would have been held to.
fn policy(file: &File, summary: &Summary, record: &Record) -> anyhow::Result<Policy> {
    // A profile that is gone is as if it allowed what the record names.
    let own = summary.profile.as_deref().and_then(|name| profile::load(name).ok());
    let mut sources = Vec::new();
    if let File::Policy(label, file) = file {
        sources.push(file.source(Level::Organisation, label));
    }
    let profile = match file {
        File::Profile(profile) => Some(&**profile),
        File::Policy(..) => own.as_ref(),
    };
    sources.extend(profile.map(|profile| RuleSource {
        level: Level::Profile,
        label: &profile.name,
        rules: &profile.egress,
        clauses: &[],
    }));
    // What was a rule once may be none to this version.
    let sound = |rule: &&WrittenRule| Policy::compile(&[recorded(std::slice::from_ref(*rule))]).is_ok();
    let rules: Vec<WrittenRule> = record.rules.iter().filter(sound).cloned().collect();
    sources.push(recorded(&rules));
    Ok(Policy::compile(&sources)?)
}

fn recorded(rules: &[WrittenRule]) -> RuleSource<'_> {
    RuleSource { level: Level::Session, label: "the record", rules, clauses: &[] }
}

/// What a verdict is called, and what it rests on.
fn said(judged: Result<Verdict, BTreeSet<String>>) -> (&'static str, String) {
    match judged {
        Ok(Verdict::Allow(grant)) => ("allow", format!("`{}` ({})", grant.rule(), grant.rule_from())),
        Ok(Verdict::Ask(question)) => ("ask", format!("`{}` ({})", question.rule.text, question.rule.from)),
        Ok(Verdict::Deny(refusal)) => {
            let rule = refusal.rule.map(|rule| format!("`{}` ({})", rule.text, rule.from));
            ("deny", rule.unwrap_or_else(|| "no rule that allows it".to_owned()))
        }
        Err(names) => (UNKNOWN, names.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// Judges a session's requests again, in their order, and gives those that would end otherwise, or could.
fn retry(policy: &Policy, summary: &Summary, record: Record) -> Vec<Changed> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let session = SessionFacts {
        user: text(&summary.user),
        profile: text(&summary.profile),
        name: text(&summary.name),
        workspace: text(&summary.workspace),
        ..SessionFacts::default()
    };
    let (mut history, mut changed) = (History::default(), Vec::new());
    for Past { number, line, act, verdict: was, secrets, files_read } in record.past {
        Arc::make_mut(&mut history.secret_files).extend(record.files_read.iter().take(files_read).cloned());
        let updates = record.updates.get(&number).map_or(&[][..], Vec::as_slice);
        let upload = record.bytes.get(&number).copied().unwrap_or_default();
        let by = Particulars {
            query: None,
            headers: None,
            act,
            updates,
            upload: Some(upload),
            session: Some(&session),
            history: Some(&history),
        };
        let (now, rule) = said(policy.decide_recorded(RequestFacts { line: line.clone(), disagreement: None }, &by));
        if now != was {
            let url = format!("{}://{}:{}{}", line.scheme, line.host, line.port.0, line.path);
            let (session, request, method) = (summary.session.to_string(), number.0, line.method.clone());
            changed.push(Changed { session, request, method, url, was, now, by: rule });
        }
        if was != "deny" {
            history.requests += 1;
            Arc::make_mut(&mut history.hosts).insert(line.host.to_string());
            history.acts.extend(act);
            history.secrets.extend(secrets);
            history.uploaded += upload;
            if let Some(cost) = record.spent.get(&number) {
                (history.spent, history.calls) = (history.spent.plus(*cost), history.calls + 1);
            }
        }
    }
    changed
}
