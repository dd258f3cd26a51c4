//! `omni show`: everything about one session.

use super::event_line::{EventLine, describe, refusal, url};
use super::listing::{self, Viewer};
use super::server::Route;
use super::sessions::{SessionHead, ending};
use crate::model::{BodyEnd, Event, Isolation, NanoUsd, Pricing, RequestNumber, SessionId, Tier, Usage};
use crate::session::overlay::{Layer, OverlayError, count_waiting};
use crate::store::{Status, StoredEvent, Summary};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Show one session: what it did, what it was refused, what it cost
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni show last\n  omni show 4f2 --json | jq '.requests[] | select(.verdict == \"denied\")'"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A session as `--json` prints it.
#[derive(Serialize)]
struct SessionStory<'a> {
    #[serde(flatten)]
    head: SessionHead<'a>,
    cost_usd: String,
    model_calls: u64,
    model_calls_inexact: u64,
    usage: Usage,
    fault: Option<&'a str>,
    isolation: Option<Isolation>,
    /// How many paths differ behind the overlay; none where there is none.
    changes_waiting: Option<usize>,
    requests: Vec<RequestStory>,
    refusals: Vec<RefusalStory>,
    events: Vec<EventLine<'a>>,
}

/// One request from judgement to its last byte.
#[derive(Debug, PartialEq, Serialize)]
struct RequestStory {
    request: RequestNumber,
    at: String,
    method: String,
    url: String,
    verdict: &'static str,
    rule: Option<String>,
    /// Whose rule that is, and where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_from: Option<String>,
    /// The other rules that were about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
    /// What it does, where its shape tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<String>,
    secrets: Vec<String>,
    status: Option<u16>,
    request_bytes: Option<u64>,
    response_bytes: Option<u64>,
    duration_ms: Option<u64>,
    end: Option<BodyEnd>,
    /// Why it was denied, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What it used in all, when it was a model call.
    #[serde(flatten)]
    call: Option<CallStory>,
    /// The single calls, where there were several: those on a WebSocket, or in what was fetched of a batch.
    #[serde(skip_serializing_if = "is_single")]
    calls: Vec<CallStory>,
}

/// What a model call used.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct CallStory {
    model: String,
    dialect: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    vendor: String,
    usage: Usage,
    /// The class of service that it was billed as, where that is not the usual one.
    #[serde(skip_serializing_if = "String::is_empty")]
    service: String,
    cost_usd: String,
    pricing: Pricing,
    price_table: String,
    #[serde(skip)]
    cost: NanoUsd,
}

/// Something refused before it was a request.
#[derive(Debug, PartialEq, Serialize)]
struct RefusalStory {
    number: u64,
    at: String,
    kind: &'static str,
    target: String,
    reason: String,
}

/// Shows the session.
///
/// # Errors
/// When the store cannot be opened or read, or there is no such session.
pub(super) fn run(args: Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let store = viewer.open()?;
    let session: SessionId = store.find(&args.session)?;
    viewer.note_reading("show", Some(&session))?;
    let (summary, status) = store.session(&session)?;
    let events = store.events(&session)?;
    let layer = Layer::find(viewer.home(), &session);
    let changes = viewer.with_their_rights(|| count_waiting(layer, !status.is_over()))?;
    let text = match args.json {
        true => json(&summary, status, &events, changes.ok().flatten())?,
        false => human(&summary, status, &events, waiting(&session, changes)),
    };
    listing::emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What waits behind the session's overlay, in words.
fn waiting(session: &SessionId, changes: Result<Option<usize>, OverlayError>) -> Option<String> {
    match changes {
        Ok(None) => None,
        Ok(Some(count)) => Some(format!("{count} waiting; omni diff {session}")),
        Err(error) => Some(format!("waiting; {error}")),
    }
}

fn json(summary: &Summary, status: Status, events: &[StoredEvent], changes: Option<usize>) -> anyhow::Result<String> {
    let (requests, refusals) = stories(events);
    listing::json_line(&SessionStory {
        head: SessionHead::new(summary, status),
        cost_usd: summary.cost.to_decimal(),
        model_calls: summary.calls,
        model_calls_inexact: summary.inexact,
        usage: summary.usage,
        fault: summary.fault.as_deref(),
        isolation: isolation(events),
        changes_waiting: changes,
        requests,
        refusals,
        events: events.iter().map(EventLine::new).collect::<Result<_, _>>()?,
    })
}

/// What the sandbox reached, where it was built.
fn isolation(events: &[StoredEvent]) -> Option<Isolation> {
    events.iter().find_map(|stored| match stored.event() {
        Some(Event::SessionStarted { isolation, .. }) => Some(isolation),
        _ => None,
    })
}

/// The tier, and what it leaves open.
fn reached(isolation: &Isolation) -> String {
    let landlock = match isolation.landlock_abi {
        0 => "no Landlock".to_owned(),
        abi => format!("Landlock {abi}"),
    };
    let tier = match isolation.tier {
        Tier::Full => format!("full, {landlock}"),
        tier => format!("{tier}, not full; {landlock}"),
    };
    std::iter::once(tier).chain(isolation.gaps.iter().cloned()).collect::<Vec<_>>().join("; ")
}

/// Requests and refusals out of the events they are spread over.
fn stories(events: &[StoredEvent]) -> (Vec<RequestStory>, Vec<RefusalStory>) {
    let mut requests = BTreeMap::<RequestNumber, RequestStory>::new();
    let mut refusals = Vec::new();
    for stored in events {
        match stored.event() {
            Some(Event::ConnectionRefused { kind, target, reason }) => {
                let (number, at) = (stored.number, stored.at.to_rfc3339());
                refusals.push(RefusalStory { number, at, kind: refusal(kind), target, reason });
            }
            Some(event) => take_in(&mut requests, stored, event),
            None => {}
        }
    }
    (requests.into_values().collect(), refusals)
}

/// Takes in what an event says of its request; other events say nothing of one.
fn take_in(requests: &mut BTreeMap<RequestNumber, RequestStory>, stored: &StoredEvent, event: Event) {
    match event {
        Event::RequestAllowed { request, line, rule, rule_from, act, secrets, also } => {
            let new = RequestStory::new(request, stored, line.method.clone(), url(&line), "allowed");
            requests.insert(request, RequestStory { rule: Some(rule), rule_from, act, secrets, also, ..new });
        }
        Event::RequestDenied { request, line, rule, rule_from, act, reason, also } => {
            let new = RequestStory::new(request, stored, line.method.clone(), url(&line), "denied");
            requests.insert(request, RequestStory { rule, rule_from, act, also, reason: Some(reason), ..new });
        }
        Event::RequestFailed { request, reason } => {
            requests.entry(request).and_modify(|story| story.reason = Some(reason));
        }
        Event::RequestCompleted { request, status, request_bytes, response_bytes, duration_ms, end } => {
            requests.entry(request).and_modify(|story| {
                story.status = Some(status);
                story.request_bytes = Some(request_bytes);
                story.response_bytes = Some(response_bytes);
                story.duration_ms = Some(duration_ms);
                story.end = Some(end);
            });
        }
        Event::UsageMetered { request, dialect, vendor, model, usage, service, cost, pricing, price_table } => {
            let Some(story) = requests.get_mut(&request) else { return };
            let cost_usd = cost.to_decimal();
            let call = CallStory { model, dialect, vendor, usage, service, cost_usd, pricing, price_table, cost };
            story.calls.push(call.clone());
            story.call = Some(story.call.take().map_or(call.clone(), |before| before.and(call)));
        }
        _ => {}
    }
}

fn is_single(calls: &[CallStory]) -> bool {
    calls.len() <= 1
}

impl CallStory {
    /// Both together, under the later one's name, and no more exact than the less exact of the two.
    fn and(self, later: Self) -> Self {
        let (usage, cost) = (self.usage.plus(later.usage), self.cost.plus(later.cost));
        let pricing = if self.pricing == Pricing::Exact { later.pricing } else { self.pricing };
        Self { usage, cost, cost_usd: cost.to_decimal(), pricing, ..later }
    }
}

impl RequestStory {
    fn new(request: RequestNumber, stored: &StoredEvent, method: String, url: String, verdict: &'static str) -> Self {
        Self {
            request,
            at: stored.at.to_rfc3339(),
            method,
            url,
            verdict,
            rule: None,
            rule_from: None,
            also: Vec::new(),
            act: None,
            secrets: Vec::new(),
            status: None,
            request_bytes: None,
            response_bytes: None,
            duration_ms: None,
            end: None,
            reason: None,
            call: None,
            calls: Vec::new(),
        }
    }
}

fn human(summary: &Summary, status: Status, events: &[StoredEvent], changes: Option<String>) -> String {
    let mut text = header(summary, status, isolation(events).as_ref(), changes);
    text.push('\n');
    let width = summary.events.to_string().len();
    for stored in events {
        // Of the time only the part within the day: the header has the date.
        let moment = stored.at.to_rfc3339();
        let clock = moment.split_once('T').map_or(moment.as_str(), |(_, clock)| clock.get(..12).unwrap_or(clock));
        text.push_str(&format!("{:>width$}  {clock}  {}\n", stored.number, describe(stored)));
    }
    text.push_str(&totals(summary, events));
    text
}

fn header(summary: &Summary, status: Status, isolation: Option<&Isolation>, changes: Option<String>) -> String {
    let mut lines = vec![("session", summary.session.to_string())];
    let mut line = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    line("name", summary.name.clone());
    line("status", Some(ending(status, summary)));
    line("profile", summary.profile.clone());
    line("command", (!summary.argv.is_empty()).then(|| summary.argv.join(" ")));
    line("workspace", summary.workspace.clone());
    line("started", summary.started.map(|at| format!("{} UTC", listing::second(at))));
    line("ended", summary.ended.map(|at| format!("{} UTC", listing::second(at))));
    line("policy", summary.policy_hash.clone());
    line("isolation", isolation.map(reached));
    line("changes", changes);
    line("damage", summary.fault.clone());
    lines.iter().map(|(name, value)| format!("{name:<10} {}\n", listing::printable(value))).collect()
}

/// What the session came to: models, requests, money.
fn totals(summary: &Summary, events: &[StoredEvent]) -> String {
    let mut models = BTreeMap::<String, (u64, u64, Usage, NanoUsd)>::new();
    for stored in events {
        if let Some(Event::UsageMetered { model, usage, cost, pricing, .. }) = stored.event() {
            let sum = models.entry(model).or_default();
            let inexact = u64::from(pricing != Pricing::Exact);
            *sum = (sum.0 + 1, sum.1 + inexact, sum.2.plus(usage), sum.3.plus(cost));
        }
    }
    let row = |(model, (calls, inexact, usage, cost)): (String, (u64, u64, Usage, NanoUsd))| {
        vec![model, calls.to_string(), listing::tokens(&usage), listing::money(cost, inexact)]
    };
    let mut text = String::from("\n");
    if !models.is_empty() {
        let rows = models.into_iter().map(row).collect();
        text.push_str(&listing::table(&["MODEL", "CALLS", "TOKENS", "COST"], &["CALLS", "COST"], rows));
        text.push('\n');
    }
    let counts = summary.requests;
    let cost = listing::money(summary.cost, summary.inexact);
    let (allowed, denied, refused, failed) = (counts.allowed, counts.denied, counts.refused, counts.failed);
    text.push_str(&format!(
        "requests: {allowed} allowed, {failed} of them failed, {denied} denied; connections refused: {refused}; cost {cost}\n"
    ));
    text
}
