//! One event on one line, for a person and for a program.

use super::listing;
use crate::model::{
    BodyEnd, BodySide, EndReason, Event, ExitStatus, FileAct, Isolation, NanoUsd, Pricing, RefusalKind, RequestLine,
    Scheme, Tier, UNMETERED,
};
use crate::store::StoredEvent;
use serde::Serialize;
use serde_json::{Map, Value};

/// An event as `--json` prints it: where it stands, then its own fields.
#[derive(Serialize)]
pub(super) struct EventLine<'a> {
    session: &'a str,
    number: u64,
    at: String,
    writer: &'a str,
    seq: u64,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<'a> EventLine<'a> {
    pub(super) fn new(stored: &'a StoredEvent) -> anyhow::Result<Self> {
        let mut fields: Map<String, Value> = serde_json::from_str(&stored.json)?;
        // Money is printed as a decimal string of dollars; and no key may come twice.
        if let Some(cost) = fields.remove("cost") {
            let decimal = cost.as_i64().map(|nano| Value::String(NanoUsd(nano).to_decimal()));
            fields.insert("cost_usd".to_owned(), decimal.unwrap_or(cost));
        }
        for key in ["session", "number", "at", "writer", "seq"] {
            fields.remove(key);
        }
        Ok(Self {
            session: stored.session.as_str(),
            number: stored.number,
            at: stored.at.to_rfc3339(),
            writer: &stored.writer,
            seq: stored.seq,
            fields,
        })
    }
}

/// The event in a few words. What comes from outside is escaped.
pub(super) fn describe(stored: &StoredEvent) -> String {
    let text = match stored.event() {
        Some(event) => words(&event),
        None => format!("{} {} (this omni does not know the event)", stored.kind, stored.json),
    };
    listing::printable(&text).into_owned()
}

/// What was done with a secret or a key.
fn use_words(event: &Event) -> String {
    match event {
        Event::SecretMissing { secret, from } if from.starts_with("the policy ") => {
            format!("secret {secret} left out: {from}")
        }
        Event::SecretMissing { secret, from } => format!("secret {secret} has no value in {from}"),
        Event::SshSigned { key, host, user } => format!("ssh login {user}@{host} signed by {key}"),
        Event::SshRefused { key, host, reason } => format!("ssh login {host} by {key} REFUSED: {reason}"),
        Event::SecretRenewed { secret, problem: None, .. } => format!("tokens of {secret} renewed"),
        Event::SecretRenewed { secret, problem: Some(why), .. } => {
            format!("tokens of {secret} renewed, and NOT WRITTEN BACK: {why}; log in outside of omni anew")
        }
        _ => String::new(),
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::SessionStarted { profile, argv, user, isolation, .. } => {
            let (how, command) = (isolation_words(isolation), argv.join(" "));
            format!("session started for {user}, profile {profile}, {how}: {command}")
        }
        Event::ProxyStarted { secrets, price_table, .. } if secrets.is_empty() => {
            format!("proxy started, no secrets, prices of {price_table}")
        }
        Event::ProxyStarted { secrets, price_table, .. } => {
            format!("proxy started, secrets {}, prices of {price_table}", secrets.join(", "))
        }
        Event::SecretMissing { .. }
        | Event::SshSigned { .. }
        | Event::SshRefused { .. }
        | Event::SecretRenewed { .. } => use_words(event),
        Event::NameResolved { name, address } => format!("name {name} is {address} in the sandbox"),
        Event::ConnectionRefused { kind, target, reason } => format!("REFUSED {} {target}: {reason}", refusal(*kind)),
        Event::RequestAllowed { .. }
        | Event::RequestDenied { .. }
        | Event::PushRead { .. }
        | Event::RequestFailed { .. }
        | Event::RequestCompleted { .. }
        | Event::BodyRecorded { .. }
        | Event::UsageMetered { .. } => words_of_request(event),
        Event::RuleAdded { .. } | Event::PolicyChanged { .. } => words_of_policy(event),
        Event::HoldPlaced { .. }
        | Event::HoldSettled { .. }
        | Event::ApprovalAsked { .. }
        | Event::ApprovalAnswered { .. }
        | Event::ApprovalJoined { .. }
        | Event::ConsentGiven { .. }
        | Event::ConsentUsed { .. }
        | Event::ModelReplaced { .. }
        | Event::BudgetReached { .. }
        | Event::BudgetRaised { .. } => words_of_consent(event),
        Event::PortPublished { .. } | Event::PublishedPortEntered { .. } | Event::PublishedPortLeft { .. } => {
            words_of_port(event)
        }
        Event::ViewerAttached { .. } | Event::ViewerLeft { .. } => words_of_viewer(event),
        Event::SessionDetached { pid, .. } => format!("session detached from its terminal, now process {pid}"),
        Event::StopRequested { user } => format!("{user} asked for the session's end"),
        Event::OutputFiltered { refused } => {
            let kinds: Vec<_> = refused.iter().map(|(kind, count)| format!("{kind} {count}×")).collect();
            format!("kept from the terminal: {}", kinds.join(", "))
        }
        Event::RecordingStopped { reason } => format!("recording stopped: {reason}"),
        Event::LimitReached(reached) => reached.to_string(),
        Event::SecretFilesHidden { count, paths, incomplete } => hidden_words(*count, paths, *incomplete),
        Event::SecretFileRead { path } => format!("a secret file was read: {path}"),
        Event::HiddenFileReplaced { path } => replaced_words(path),
        Event::FileRefused { act, path, rule } => refused_file(*act, path, rule),
        Event::FileRefusalsUntold { count } => format!("REFUSED {count} more changes of protected files"),
        Event::HarnessExited { status } => format!("harness ended, {}", exit(*status)),
        Event::SessionEnded { reason, exit: status } => format!("session {}, {}", end_reason(*reason), exit(*status)),
        Event::ChangesApplied { .. } => applied_words(event),
        Event::ChangesRolledBack { reason } => format!("changes rolled back: {reason}"),
        Event::LedgerRead { .. }
        | Event::SecretSet { .. }
        | Event::SecretRemoved { .. }
        | Event::SecretStoreGuarded { .. }
        | Event::PricesChanged { .. } => words_of_installation(event),
        Event::PrivatePartsForgotten { user, reason, bodies, recording } => {
            format!("{user} had {bodies} B of bodies and {recording} B of the terminal's recording forgotten: {reason}")
        }
        Event::ChangesDiscarded { changes: Some(changes) } => format!("changes discarded: {changes}"),
        Event::ChangesDiscarded { changes: None } => "changes discarded, uncounted".to_owned(),
    }
}

/// What happened to one request; nothing for other events.
fn words_of_request(event: &Event) -> String {
    match event {
        Event::RequestAllowed { request, line, rule, rule_from, act, secrets, .. } => {
            let with = if secrets.is_empty() { String::new() } else { format!(", with {}", secrets.join(", ")) };
            let from = rule_from.as_ref().map_or_else(String::new, |from| format!(" ({from})"));
            let what = act.as_ref().map_or_else(String::new, |act| format!(", {act}"));
            format!("#{} {} {}{what}, allowed by `{rule}`{from}{with}", request.0, line.method, url(line))
        }
        Event::RequestDenied { request, line, reason, .. } => {
            format!("#{} DENIED {} {}: {reason}", request.0, line.method, url(line))
        }
        Event::PushRead { request, repository, updates, count, signed } => {
            let (how, rest) =
                (if *signed { "signed push" } else { "push" }, count.saturating_sub(updates.len() as u64));
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            format!("#{} {how} to {repository}: {}{rest}", request.0, updates.join(", "))
        }
        Event::RequestFailed { request, reason } => format!("#{} failed: {reason}", request.0),
        Event::RequestCompleted { request, status, request_bytes, response_bytes, duration_ms, end } => {
            let end = body_end(*end);
            format!("#{} {status}, {request_bytes} B up, {response_bytes} B down, {duration_ms} ms{end}", request.0)
        }
        Event::BodyRecorded { request, side, bytes, missing, .. } => {
            let whose = if *side == BodySide::Request { "its body" } else { "its answer's body" };
            let missing = missing.as_ref().map_or_else(String::new, |why| format!(", not whole: {why}"));
            format!("#{} {whose} was recorded, {bytes} B{missing}", request.0)
        }
        Event::UsageMetered { request, dialect, model, .. } if dialect == UNMETERED => {
            format!("#{} {model}: not metered, nobody can say what it costs", request.0)
        }
        Event::UsageMetered { request, model, usage, service, cost, pricing, .. } => {
            let (cost, service) =
                (listing::money(*cost, 0), if service.is_empty() { "" } else { &format!(", {service}") });
            format!("#{} {model}: {}, {cost}{service}{}", request.0, listing::tokens(usage), pricing_words(*pricing))
        }
        _ => String::new(),
    }
}

/// What was taken over of a workspace's changes; nothing for other events.
fn applied_words(event: &Event) -> String {
    let Event::ChangesApplied { added, modified, deleted, executables, overwritten, .. } = event else {
        return String::new();
    };
    let counted = |what: &str, paths: &[String]| match paths {
        [] => String::new(),
        _ => format!("; {what}: {}", paths.join(", ")),
    };
    let (run, lost) = (counted("may execute on the host", executables), counted("over the host's own", overwritten));
    format!("changes applied: {added} added, {modified} modified, {deleted} deleted{run}{lost}")
}

/// What happened to the installation as a whole; nothing for other events.
fn words_of_installation(event: &Event) -> String {
    match event {
        Event::LedgerRead { user, command, of_session: Some(session) } => {
            format!("{user} reads session {session} by `{command}`")
        }
        Event::LedgerRead { user, command, of_session: None } => {
            format!("{user} reads what is recorded by `{command}`")
        }
        Event::SecretSet { user, secret, sites, from } => {
            format!("{user} keeps the secret {secret} for {}, from {}", sites.join(", "), from.join(", "))
        }
        Event::SecretRemoved { user, secret } => format!("{user} removes the secret {secret}"),
        Event::SecretStoreGuarded { user, passphrase: true, .. } => {
            format!("{user} has a passphrase guard the secrets")
        }
        Event::SecretStoreGuarded { user, desktop: true, .. } => format!("{user} has the desktop guard the secrets"),
        Event::SecretStoreGuarded { user, .. } => format!("{user} has nobody guard the key of the secrets"),
        Event::PricesChanged { user, price_table, sha256: Some(sha256) } => {
            format!("{user} installs the prices of {price_table}, file {sha256}")
        }
        Event::PricesChanged { user, price_table, sha256: None } => {
            format!("{user} goes back to the shipped prices of {price_table}")
        }
        _ => String::new(),
    }
}

/// What is told of ports that are published.
fn words_of_port(event: &Event) -> String {
    match event {
        Event::PortPublished { address, port } => format!("port {port} of the sandbox is published at {address}"),
        Event::PublishedPortEntered { connection, port, from } => {
            format!("#{connection} from {from} to the published port {port}")
        }
        Event::PublishedPortLeft { connection, reason: Some(reason), .. } => {
            format!("#{connection} from outside went nowhere: {reason}")
        }
        Event::PublishedPortLeft { connection, bytes_in, bytes_out, end, reason: None } => {
            let end = body_end(*end);
            format!("#{connection} from outside ended, {bytes_in} bytes in, {bytes_out} bytes out{end}")
        }
        _ => event.kind().to_owned(),
    }
}

/// What happened to money and to questions; nothing for other events.
fn words_of_consent(event: &Event) -> String {
    let money = |amount: &NanoUsd| listing::money(*amount, 0);
    match event {
        Event::HoldPlaced { request, amount, bound } if amount < bound => {
            format!("#{} {} held, all that was left of up to {}", request.0, money(amount), money(bound))
        }
        Event::HoldPlaced { request, amount, .. } => format!("#{} {} held", request.0, money(amount)),
        Event::HoldSettled { request, held, charged, estimated } => {
            let how = if *estimated { ", reckoned" } else { "" };
            let over = if charged > held { ", MORE than was held" } else { "" };
            format!("#{} {} charged of {} held{how}{over}", request.0, money(charged), money(held))
        }
        Event::ApprovalAsked { question, request, what, why, .. } => {
            format!("question {question}: may #{} {what}? {why}", request.0)
        }
        Event::ApprovalAnswered { question, answer, by, reason } => {
            let by = by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            format!("question {question}: {answer}{by}{reason}")
        }
        Event::ApprovalJoined { question, request } => {
            format!("#{} waits for the answer to question {question}", request.0)
        }
        Event::ConsentGiven { consent, covers, by, .. } => {
            format!("{by} consents to `{}` from now on, as {consent}", covers.join("`, `"))
        }
        Event::ConsentUsed { consent, request, what } => format!("#{} {what}: by the consent {consent}", request.0),
        Event::ModelReplaced { request, policy, from, to } => {
            format!("#{} goes to {to} instead of {from}, by the budget `{policy}`", request.0)
        }
        Event::BudgetReached { policy, percent, spent } => {
            format!("{} spent, {percent} % of the budget `{policy}`", money(spent))
        }
        Event::BudgetRaised { policy, by, limit } => {
            format!("{by} raised the limit of the budget `{policy}` to {}", money(limit))
        }
        _ => String::new(),
    }
}

fn words_of_policy(event: &Event) -> String {
    match event {
        Event::RuleAdded { user, rule, .. } => format!("{user} added the rule `{rule}`"),
        Event::PolicyChanged { user, file, .. } => format!("{user} changed the policy {file}"),
        _ => String::new(),
    }
}

fn words_of_viewer(event: &Event) -> String {
    match event {
        Event::ViewerAttached { viewer, user, read_only } => {
            let how = if *read_only { " to look" } else { "" };
            format!("viewer {viewer} attached{how}: {user}")
        }
        Event::ViewerLeft { viewer } => format!("viewer {viewer} left"),
        _ => String::new(),
    }
}

/// What a sandbox reached.
fn isolation_words(isolation: &Isolation) -> String {
    let layers = isolation.namespaces.len();
    let tier = if isolation.tier == Tier::Full { String::new() } else { format!("tier {}, ", isolation.tier) };
    let seccomp = if isolation.seccomp { ", seccomp" } else { "" };
    let landlock = match isolation.landlock_abi {
        0 => String::new(),
        abi => format!(", landlock {abi}"),
    };
    let limits: String = isolation.limits.iter().map(|limit| format!(", {limit}")).collect();
    format!("{tier}{layers} namespaces{landlock}{seccomp}{limits}")
}

/// The URL of a request; a scheme's own port is left out.
pub(super) fn url(line: &RequestLine) -> String {
    let (scheme, usual) = match line.scheme {
        Scheme::Http => ("http", 80),
        Scheme::Https => ("https", 443),
        Scheme::Tcp | Scheme::Tls => return format!("{}://{}:{}", line.scheme, line.host, line.port),
    };
    let port = if line.port.0 == usual { String::new() } else { format!(":{}", line.port.0) };
    format!("{scheme}://{}{port}{}", line.host, line.path)
}

fn hidden_words(count: u64, paths: &[String], incomplete: bool) -> String {
    let some = if paths.is_empty() { String::new() } else { format!(": {}", paths.join(", ")) };
    let more = if (paths.len() as u64) < count { ", …" } else { "" };
    let rest = if incomplete { "; not all of the workspace was looked at, and deeper ones are visible" } else { "" };
    format!("{count} files hidden that look like secrets{some}{more}{rest}")
}

fn replaced_words(path: &str) -> String {
    format!("{path}, which is hidden, was replaced outside, and is hidden again")
}

fn refused_file(act: FileAct, path: &str, rule: &str) -> String {
    let act = match act {
        FileAct::Write => "write",
        FileAct::Make => "make",
        FileAct::Remove => "remove",
        FileAct::MoveAway => "move away",
        FileAct::MoveHere => "move something to",
        FileAct::Link => "link",
        FileAct::Attributes => "change the permissions or attributes of",
    };
    format!("REFUSED to {act} {path}: `{rule}` is protected")
}

/// What kind of thing was refused, in a word.
pub(super) fn refusal(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Name => "name",
        RefusalKind::Protocol => "protocol",
        RefusalKind::Tls => "tls",
        RefusalKind::Limit => "limit",
    }
}

fn body_end(end: BodyEnd) -> &'static str {
    match end {
        BodyEnd::Complete => "",
        BodyEnd::ClientGone => ", the client went away",
        BodyEnd::UpstreamBroke => ", the upstream broke off",
        BodyEnd::QuotaReached => ", cut off since a rule lets no more through",
        BodyEnd::RuleAdded => ", cut off by a rule that was added",
        BodyEnd::BudgetReached => ", cut off since it outran the budget",
        BodyEnd::SessionEnded => ", cut off by the session's end",
    }
}

fn pricing_words(pricing: Pricing) -> &'static str {
    match pricing {
        Pricing::Exact => "",
        Pricing::Incomplete => " at least (the answer broke off)",
        Pricing::UnknownModel => " (unknown model, at the dearest prices)",
        Pricing::Unreadable => " (the usage could not be read)",
    }
}

fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Finished => "finished",
        EndReason::NotStarted => "ended: the harness could not be started",
        EndReason::Timeout => "ended: its time was up",
        EndReason::Stopped => "ended: somebody stopped it",
        EndReason::MemoryLimit => "ended: its memory was used up",
        EndReason::DiskLimit => "ended: its room on the disk was used up",
        EndReason::ProxyLost => "ended: the proxy died",
        EndReason::Interrupted => "interrupted",
    }
}

fn exit(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Host, Port, SessionId, Timestamp};

    fn stored(json: &str) -> StoredEvent {
        StoredEvent {
            entry: 9,
            session: SessionId::from_entropy([0; 10]),
            number: 4,
            writer: "proxy".to_owned(),
            seq: 3,
            at: Timestamp(1),
            kind: "request_failed".to_owned(),
            json: json.to_owned(),
        }
    }

    #[test]
    fn an_event_stays_on_one_line_and_cannot_steer_the_terminal() {
        let event = stored(r#"{"event":"request_failed","request":2,"reason":"\u001b]0;x\u0007\nfoo"}"#);
        assert_eq!(describe(&event), "#2 failed: \\u{1b}]0;x\\u{7}\\nfoo");
    }

    #[test]
    fn money_in_json_is_a_decimal_string_and_no_key_comes_twice() {
        let event = stored(r#"{"event":"later","cost":1500000000,"number":77,"session":"x"}"#);
        let wanted = concat!(
            r#"{"session":"0000000000000000","number":4,"at":"1970-01-01T00:00:00.000001Z","writer":"proxy","seq":3,"#,
            r#""cost_usd":"1.50","event":"later"}"#
        );
        assert_eq!(serde_json::to_string(&EventLine::new(&event).unwrap()).unwrap(), wanted);
    }

    #[test]
    fn a_url_leaves_the_usual_port_out() {
        let line = |port| RequestLine {
            method: "GET".to_owned(),
            scheme: Scheme::Https,
            host: Host::parse("::1").unwrap(),
            port: Port(port),
            path: "/x".to_owned(),
        };
        assert_eq!(url(&line(443)), "https://[::1]/x");
        assert_eq!(url(&line(8443)), "https://[::1]:8443/x");
    }
}
