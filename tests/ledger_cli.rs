//! The verbs that tell what happened, run as a person runs them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod focus;

use assert_cmd::Command;
use omni::model::{
    BodyEnd, EndReason, Event, ExitStatus, Host, Isolation, NanoUsd, Port, Pricing, RefusalKind, RequestLine,
    RequestNumber, Scheme, SessionId, Tier, Timestamp, Usage, Writer,
};
use omni::store::{Home, Journal, Recorder};
use serde_json::{Value, json};

/// 2023-11-14T22:13:20Z in microseconds.
const START: i64 = 1_700_000_000_000_000;

/// The store of a world: the home's own. tests/postgres runs all of this once more, with one on PostgreSQL for each.
#[allow(dead_code)]
pub fn new_store() -> Option<String> {
    None
}

/// Whether the tests of the embedded store's own files make sense.
#[allow(dead_code)]
pub const EMBEDDED: bool = true;

struct World {
    place: tempfile::TempDir,
    store: Option<String>,
}

impl World {
    fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap(), store: crate::new_store() }
    }

    fn home(&self) -> Home {
        Home::open(&self.place.path().join("home")).unwrap()
    }

    /// What the verb wrote to stdout and stderr, and how it exited.
    fn omni(&self, arguments: &[&str]) -> (String, String, i32) {
        let mut command = Command::cargo_bin("omni").unwrap();
        command.envs(self.store.iter().map(|store| ("OMNI_STORE", store)));
        let output = command.env("OMNI_HOME", self.home().path()).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code().unwrap())
    }

    /// Records a whole session of one model call, one refused request and one refused name.
    fn record(&self, byte: u8) -> SessionId {
        let session = SessionId::from_entropy([byte; 10]);
        let home = self.home();
        let mut supervisor = Journal::create(&home, &session, Writer::Session).unwrap();
        let mut proxy = Journal::create(&home, &session, Writer::Proxy).unwrap();
        let mut at = START;
        let mut next = || {
            at += 1_000;
            Timestamp(at)
        };
        supervisor.record(next(), &started(&session)).unwrap();
        for event in of_the_proxy() {
            proxy.record(next(), &event).unwrap();
        }
        let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
        supervisor.record(next(), &ended).unwrap();
        session
    }
}

fn started(session: &SessionId) -> Event {
    Event::SessionStarted {
        session: session.clone(),
        name: Some("first try".to_owned()),
        user: "ada".to_owned(),
        team: Some("web".to_owned()),
        project: Some("shop".to_owned()),
        tags: [("ticket".to_owned(), "W-7".to_owned())].into(),
        profile: "claude-code".to_owned(),
        argv: vec!["claude".to_owned(), "-p".to_owned(), "hello\u{1b}[2J".to_owned()],
        workspace: "/work".to_owned(),
        policy_hash: "ab".repeat(32),
        isolation: Isolation {
            tier: Tier::Full,
            namespaces: vec!["user".to_owned(), "net".to_owned()],
            landlock_abi: 4,
            seccomp: true,
            network: "anyip+tproxy".to_owned(),
            gaps: Vec::new(),
            limits: Vec::new(),
        },
        omni_version: "0.1.0".to_owned(),
        pid: u32::MAX,
        pid_started_ticks: 1,
    }
}

fn line(method: &str, host: &str, path: &str) -> RequestLine {
    let host = Host::parse(host).unwrap();
    RequestLine { method: method.to_owned(), scheme: Scheme::Https, host, port: Port(443), path: path.to_owned() }
}

fn of_the_proxy() -> Vec<Event> {
    let (call, refused) = (RequestNumber(1), RequestNumber(2));
    let usage = Usage { input: 12, cache_read: 30, output: 45, ..Usage::default() };
    vec![
        Event::RequestAllowed {
            request: call,
            line: line("POST", "api.anthropic.com", "/v1/messages"),
            rule: "POST api.anthropic.com/v1/messages".to_owned(),
            rule_from: None,
            act: None,
            secrets: vec!["anthropic".to_owned()],
            also: Vec::new(),
        },
        Event::RequestCompleted {
            request: call,
            status: 200,
            request_bytes: 100,
            response_bytes: 2_000,
            duration_ms: 350,
            end: BodyEnd::Complete,
        },
        Event::UsageMetered {
            request: call,
            dialect: "anthropic-messages".to_owned(),
            vendor: "anthropic".to_owned(),
            model: "claude-x".to_owned(),
            usage,
            service: String::new(),
            cost: NanoUsd(12_345_000),
            pricing: Pricing::Exact,
            price_table: "2026-01-01".to_owned(),
        },
        Event::RequestDenied {
            request: refused,
            line: line("GET", "evil.example", "/\u{1b}]0;owned\u{7}"),
            rule: None,
            rule_from: None,
            act: None,
            reason: "no rule allows it".to_owned(),
            also: Vec::new(),
        },
        Event::ConnectionRefused {
            kind: RefusalKind::Name,
            target: "tracker.example".to_owned(),
            reason: "no rule names it".to_owned(),
        },
    ]
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_empty_home_says_so_on_stderr_and_nothing_on_stdout() {
    let world = World::new();
    for arguments in [&["sessions"][..], &["sessions", "--json"], &["spend"], &["audit", "log"]] {
        let (out, err, code) = world.omni(arguments);
        assert_eq!((out.as_str(), code), ("", 0), "{arguments:?}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
    let (out, err, code) = world.omni(&["show", "last"]);
    assert_eq!((out.as_str(), code), ("", 1));
    assert!(err.contains("omni exec"), "{err}");
}

#[test]
fn sessions_lists_one_object_a_line() {
    let world = World::new();
    let session = world.record(1);
    let (out, _, code) = world.omni(&["sessions", "--json"]);
    let listed = objects(&out);
    assert_eq!((listed.len(), code), (1, 0));
    let wanted = [
        ("session", json!(session.as_str())),
        ("name", json!("first try")),
        ("profile", json!("claude-code")),
        ("status", json!("finished")),
        ("exit", json!({"code": 0})),
        ("started", json!("2023-11-14T22:13:20.001000Z")),
        ("allowed", json!(1)),
        ("denied", json!(1)),
        ("refused", json!(1)),
        ("cost_usd", json!("0.012345")),
    ];
    for (key, value) in wanted {
        assert_eq!(listed[0][key], value, "{key}");
    }
    let (out, _, _) = world.omni(&["sessions"]);
    assert!(out.lines().nth(1).unwrap().contains("$0.012345"), "{out}");
}

#[test]
fn show_tells_the_whole_story_as_one_object() {
    let world = World::new();
    let session = world.record(1);
    let (out, _, _) = world.omni(&["show", "last", "--json"]);
    let story = &objects(&out)[0];
    assert_eq!(out.lines().count(), 1);
    assert_eq!(story["session"], json!(session.as_str()));
    assert_eq!(story["cost_usd"], json!("0.012345"));
    assert_eq!(story["usage"]["cache_read"], json!(30));
    let call = &story["requests"][0];
    assert_eq!((&call["verdict"], &call["status"]), (&json!("allowed"), &json!(200)));
    assert_eq!(call["url"], json!("https://api.anthropic.com/v1/messages"));
    assert_eq!((&call["model"], &call["cost_usd"]), (&json!("claude-x"), &json!("0.012345")));
    assert_eq!((&call["usage"]["output"], &call["pricing"]), (&json!(45), &json!("exact")));
    let denied = &story["requests"][1];
    assert_eq!((&denied["verdict"], &denied["reason"]), (&json!("denied"), &json!("no rule allows it")));
    assert_eq!(denied.get("model"), None);
    assert_eq!(story["refusals"][0]["target"], json!("tracker.example"));
    let numbers: Vec<_> = story["events"].as_array().unwrap().iter().map(|event| event["number"].clone()).collect();
    assert_eq!(numbers, (1..=7).map(|number| json!(number)).collect::<Vec<_>>());
    assert_eq!(story["events"][3]["cost_usd"], json!("0.012345"));
    assert_eq!(story["events"][3].get("cost"), None);
}

#[test]
fn show_marks_what_was_refused_and_lets_nothing_steer_the_terminal() {
    let world = World::new();
    world.record(1);
    let (out, _, _) = world.omni(&["show", "last"]);
    assert!(out.contains("#1 POST https://api.anthropic.com/v1/messages, allowed by"), "{out}");
    assert!(out.contains("#2 DENIED GET https://evil.example/"), "{out}");
    assert!(out.contains("REFUSED name tracker.example: no rule names it"), "{out}");
    assert!(out.contains("claude-x: 12 in + 30 cache read, 45 out, $0.012345"), "{out}");
    for arguments in [&["show", "last"][..], &["show", "last", "--json"], &["audit", "log"], &["sessions"]] {
        let (out, _, _) = world.omni(arguments);
        assert!(!out.chars().any(|c| c.is_control() && c != '\n'), "{arguments:?}: {out:?}");
    }
}

#[test]
fn an_unknown_or_ambiguous_id_says_what_to_do() {
    let world = World::new();
    let (first, second) = (world.record(0x11), world.record(0x12));
    let (_, err, code) = world.omni(&["show", "2"]);
    assert_eq!(code, 1);
    assert!(err.contains(first.as_str()) && err.contains(second.as_str()), "{err}");
    let (_, err, code) = world.omni(&["show", "zzz"]);
    assert_eq!(code, 1);
    assert!(err.contains("omni sessions"), "{err}");
}

#[test]
fn the_log_is_every_event_in_order() {
    let world = World::new();
    world.record(1);
    let session = world.record(2);
    let (out, _, _) = world.omni(&["audit", "log", "--json", "--session", session.as_str()]);
    let events: Vec<_> = objects(&out).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    let wanted = [
        "session_started",
        "request_allowed",
        "request_completed",
        "usage_metered",
        "request_denied",
        "connection_refused",
        "session_ended",
    ];
    assert_eq!(events, wanted);
    let (all, _, _) = world.omni(&["audit", "log"]);
    assert_eq!(all.lines().count(), 2 * wanted.len());
}

#[test]
fn a_changed_journal_fails_the_check_and_names_the_frame() {
    let world = World::new();
    let session = world.record(1);
    let (out, _, code) = world.omni(&["audit", "verify"]);
    let whole = "2 of 2 journals whole, 7 frames follow from one another\nledger: 7 entries, whole, and not signed yet: \
                 `omni audit checkpoint`\n";
    assert_eq!((out.as_str(), code), (whole, 0));
    let path = world.home().journal(&session, Writer::Proxy);
    let changed = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("no rule allows it");
    assert!(changed);
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(7).position(|window| window == b"no rule").unwrap();
    bytes[place..place + 7].copy_from_slice(b"by rule");
    std::fs::write(&path, bytes).unwrap();
    let (out, _, code) = world.omni(&["audit", "verify", "--json"]);
    assert_eq!(code, 1);
    let broken = objects(&out).into_iter().filter(|report| report["ok"] == json!(false));
    let (broken, ledger): (Vec<_>, Vec<_>) = broken.partition(|report| report.get("writer").is_some());
    assert_eq!(ledger.len(), 1, "the ledger tells of it too");
    assert_eq!((broken.len(), &broken[0]["session"]), (1, &json!(session.as_str())));
    assert_eq!((&broken[0]["writer"], &broken[0]["faults"][0]["seq"]), (&json!("proxy"), &json!(4)));
}

#[test]
fn a_corrupt_database_is_rebuilt_from_the_journals() {
    if !crate::EMBEDDED {
        return;
    }
    let world = World::new();
    world.record(1);
    let (before, _, _) = world.omni(&["show", "last", "--json"]);
    for name in ["omni.db", "omni.db-wal", "omni.db-shm"] {
        std::fs::write(world.home().path().join(name), "no database\n".repeat(1_000)).unwrap();
    }
    let (_, err, code) = world.omni(&["sessions"]);
    assert_eq!(code, 1);
    assert!(err.contains("omni.db") && err.contains("omni audit rebuild"), "{err}");
    assert_eq!(world.omni(&["audit", "rebuild"]).2, 0);
    assert_eq!(world.omni(&["show", "last", "--json"]).0, before);
}

#[test]
fn spend_adds_up_in_exact_decimals() {
    let world = World::new();
    world.record(1);
    world.record(2);
    let (out, _, _) = world.omni(&["spend", "--json"]);
    let wanted = json!({"model": "claude-x", "calls": 2, "cost_usd": "0.02469"});
    for key in ["model", "calls", "cost_usd"] {
        assert_eq!(objects(&out)[0][key], wanted[key], "{key}");
    }
    let (out, err, _) = world.omni(&["spend", "--since", "1h"]);
    assert_eq!((out.as_str(), err.as_str()), ("", "No model call was metered since then.\n"));
}

#[test]
fn spend_is_told_by_team_project_tag_and_profile() {
    let world = World::new();
    world.record(1);
    world.record(2);
    for (by, key) in
        [("team", "web"), ("project", "shop"), ("tag", "ticket=W-7"), ("agent", "claude-code"), ("user", "ada")]
    {
        let (out, err, code) = world.omni(&["spend", "--by", by, "--json"]);
        assert_eq!(code, 0, "{err}");
        let told = objects(&out).remove(0);
        assert_eq!((&told[by], &told["calls"], &told["cost_usd"]), (&json!(key), &json!(2), &json!("0.02469")), "{by}");
    }
    let (out, _, _) = world.omni(&["spend", "--by", "tag"]);
    assert!(out.lines().last().unwrap().contains("total") && out.contains("$0.02469"), "{out}");
}

#[test]
fn the_focus_export_is_as_the_specification_says() {
    let world = World::new();
    let session = world.record(1);
    world.record(2);
    let (table, err, code) = world.omni(&["spend", "--format", "focus"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(focus::faults(&table), [] as [String; 0]);
    let rows = focus::rows(&table);
    assert_eq!(rows.len(), 2);
    let row = &rows[0];
    for (column, value) in [
        ("BilledCost", "0.012345"),
        ("ProviderName", "Anthropic API"),
        ("ServiceProviderName", "Anthropic API"),
        ("HostProviderName", "Anthropic API"),
        ("BillingAccountId", "anthropic"),
        ("ResourceId", "claude-x"),
        ("SubAccountId", "shop"),
        ("ChargePeriodStart", "2023-11-14T22:00:00Z"),
        ("BillingPeriodEnd", "2023-12-01T00:00:00Z"),
        ("x_SessionId", session.as_str()),
        ("x_Pricing", "exact"),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    let tags: Value = serde_json::from_str(&row["Tags"]).unwrap();
    assert_eq!(
        (&tags["ticket"], &tags["omni:team"], &tags["omni:user"]),
        (&json!("W-7"), &json!("web"), &json!("ada"))
    );
    // The check itself finds what is wrong.
    let wrong = table.replace("Usage-Based", "Sometimes").replace(",ListCost,", ",OtherCost,");
    assert_eq!(focus::faults(&wrong).len(), 2 + 2 + 2, "{:?}", focus::faults(&wrong));
    let (empty, _, code) = world.omni(&["spend", "--format", "focus", "--since", "1h"]);
    assert_eq!((empty.lines().count(), code), (1, 0));
}

#[test]
fn the_figures_of_a_trial_period_are_told() {
    let world = World::new();
    world.record(1);
    world.record(2);
    let (out, err, code) = world.omni(&["spend", "--pilot", "--json"]);
    assert_eq!(code, 0, "{err}");
    let told = objects(&out).remove(0);
    assert_eq!((&told["sessions"], &told["tasks"]), (&json!(2), &json!(2)));
    assert_eq!((&told["cost_usd"], &told["cost_per_task_usd"]), (&json!("0.02469"), &json!("0.012345")));
    let (out, _, _) = world.omni(&["spend", "--pilot"]);
    assert!(["time to task", "cost per task", "approvals per hour"].iter().all(|figure| out.contains(figure)), "{out}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;
    let world = World::new();
    world.record(1);
    let binary = assert_cmd::cargo::cargo_bin("omni");
    let mut child = std::process::Command::new(binary)
        .env("OMNI_HOME", world.home().path())
        .args(["audit", "log"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_report_sums_a_period_up_beside_the_one_before() {
    let world = World::new();
    world.record(1);
    let period = ["audit", "report", "--since", "2023-11-14", "--until", "2023-11-15"];
    let (out, _, code) = world.omni(&[&period[..], &["--format", "json"]].concat());
    assert_eq!(code, 0);
    let report: Value = serde_json::from_str(&out).unwrap();
    let counts = |name: &str| (report["counts"][name].as_u64().unwrap(), report["before"][name].as_u64().unwrap());
    assert_eq!((counts("sessions"), counts("requests_allowed"), counts("requests_denied")), ((1, 0), (1, 0), (1, 0)));
    assert_eq!((counts("bytes_sent"), counts("bytes_received"), counts("model_calls")), ((100, 0), (2_000, 0), (1, 0)));
    assert_eq!(report["new_hosts"], json!([{ "name": "api.anthropic.com", "count": 1 }]));
    assert_eq!(report["secrets"], json!([{ "name": "anthropic", "count": 1 }]));
    let spend = json!([{ "user": "ada", "model": "claude-x", "calls": 1, "cost_usd": "0.012345" }]);
    assert_eq!(report["spend"], spend);
    let refused: Vec<_> = report["refusals"].as_array().unwrap().iter().map(|one| one["what"].clone()).collect();
    assert_eq!(refused, [json!("evil.example"), json!("tracker.example")]);
    assert_eq!((&report["weak"], &report["unusual"]), (&json!([]), &json!([])));
    let (text, _, _) = world.omni(&period);
    assert!(text.contains("api.anthropic.com") && text.contains("$0.012345"), "{text}");
    let (page, _, _) = world.omni(&[&period[..], &["--format", "html"]].concat());
    assert!(page.starts_with("<!doctype html>") && page.contains("<td>evil.example</td>"), "{page}");
    assert!(!page.contains("http") || !page.contains("src="), "it loads nothing");
    // Of the day after, what was is what was before.
    let later = ["audit", "report", "--since", "2023-11-15", "--until", "2023-11-16", "--format", "json"];
    let report: Value = serde_json::from_str(&world.omni(&later).0).unwrap();
    assert_eq!((&report["counts"]["sessions"], &report["before"]["sessions"]), (&json!(0), &json!(1)));
}

#[test]
fn the_log_is_asked_by_user_secret_time_and_cost() {
    let world = World::new();
    world.record(1);
    let kinds = |arguments: &[&str]| -> Vec<String> {
        let (out, err, code) = world.omni(&[&["audit", "log", "--json"], arguments].concat());
        assert_eq!(code, 0, "{err}");
        objects(&out).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&["--user", "ada"]).len(), 7);
    assert_eq!(kinds(&["--user", "eve"]), [] as [String; 0]);
    assert_eq!(kinds(&["--secret", "anthropic"]), ["request_allowed", "request_completed", "usage_metered"]);
    assert_eq!(kinds(&["--cost", "0.01"]), ["usage_metered"]);
    assert_eq!(kinds(&["--cost", "0.02"]), [] as [String; 0]);
    assert_eq!(kinds(&["--since", "2023-11-14T22:13:20.006Z"]), ["connection_refused", "session_ended"]);
    assert_eq!(kinds(&["--until", "2023-11-14T22:13:20.002Z"]), ["session_started"]);
    let (_, err, code) = world.omni(&["audit", "log", "--since", "soon"]);
    assert!(code == 1 && err.contains("soon"), "{err}");
}

#[test]
fn what_becomes_of_secrets_is_in_the_ledger_without_their_values_and_before_it_happens() {
    let world = World::new();
    let passphrase = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&passphrase, "a passphrase of the test's\n").unwrap();
    let secret = |arguments: &[&str]| {
        let mut command = Command::cargo_bin("omni").unwrap();
        let command = command.env("OMNI_HOME", world.home().path()).arg("secret").args(arguments);
        let command = command.env("OMNI_PASSPHRASE_FILE", passphrase.path());
        command.write_stdin("a-value-that-stays").output().unwrap()
    };
    let set = ["set", "ci", "--host", "ci.example.com", "--header", "x-api-key", "--env", "CI_KEY"];
    assert!(secret(&set).status.success());
    assert!(secret(&["rm", "ci"]).status.success());
    assert!(!secret(&["rm", "ci"]).status.success(), "what is not there goes nowhere");
    let (out, _, _) = world.omni(&["audit", "log", "--json"]);
    let told: Vec<_> = objects(&out).iter().map(|event| (event["event"].clone(), event["secret"].clone())).collect();
    let guarded = (json!("secret_store_guarded"), Value::Null);
    assert_eq!(told, [guarded, (json!("secret_set"), json!("ci")), (json!("secret_removed"), json!("ci"))]);
    let first = &objects(&out)[1];
    assert!(first["sites"][0].as_str().unwrap().contains("ci.example.com"), "{first}");
    assert_eq!(first["from"], json!(["store:ci"]));
    assert!(!out.contains("a-value-that-stays"), "{out}");
    let (out, _, code) = world.omni(&["audit", "verify"]);
    assert!(code == 0 && out.contains("ledger: 3 entries"), "{out}");
    // It is no session.
    assert_eq!(world.omni(&["sessions"]).0, "");
    assert_eq!(world.omni(&["show", "last"]).2, 1);
    // No record, no effect.
    std::fs::remove_dir_all(world.home().path().join("sessions")).unwrap();
    std::fs::write(world.home().path().join("sessions"), "in the way").unwrap();
    let refused = secret(&set);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("sessions"), "{refused:?}");
    std::fs::remove_file(world.home().path().join("sessions")).unwrap();
    assert_eq!(secret(&["list"]).stdout, b"");
}

/// A journal as docs/journal.md says one is written, of whatever events.
fn written_by_hand(home: &Home, session: &SessionId, events: &[Value]) {
    use sha2::{Digest, Sha256};
    let mut header = b"OMNIJRNL\x00\x01\x02\x00\x00\x00\x00\x00".to_vec();
    header.extend(session.as_str().bytes());
    let mut hash = Sha256::digest([&b"omni journal header v1\0"[..], &header].concat());
    let mut bytes = header;
    for (seq, event) in (1_u64..).zip(events) {
        let payload = format!(r#"{{"seq":{seq},"at":{},"event":{event}}}"#, START + 5_000 + seq.cast_signed());
        hash = Sha256::digest([&b"omni journal frame v1\0"[..], &hash, payload.as_bytes()].concat());
        let length = u32::try_from(payload.len()).unwrap();
        bytes.extend([&length.to_be_bytes()[..], &(!length).to_be_bytes(), payload.as_bytes(), &hash].concat());
    }
    std::fs::write(home.journal(session, Writer::Proxy), bytes).unwrap();
}

#[test]
fn an_event_of_a_later_version_passes_through_everything_that_reads() {
    let world = World::new();
    let (session, home) = (SessionId::from_entropy([5; 10]), world.home());
    let mut supervisor = Journal::create(&home, &session, Writer::Session).unwrap();
    supervisor.record(Timestamp(START), &started(&session)).unwrap();
    let dream = json!({ "event": "dream_had", "request": 1, "about": "electric \u{1b}[2J sheep", "cost": 7 });
    let more = json!({ "event": "request_failed", "request": 1, "reason": "no answer", "mood": { "of": "later" } });
    written_by_hand(&home, &session, &[dream, more]);
    let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
    supervisor.record(Timestamp(START + 9_000), &ended).unwrap();
    let period = ["--since", "2023-11-14", "--until", "2023-11-15"];
    let readers = [
        &["audit", "log"][..],
        &["audit", "log", "--json"],
        &["audit", "log", "--text", "answer"],
        &["show", "last"],
        &["show", "last", "--json"],
        &["sessions"],
        &["spend"],
        &["audit", "export", "--format", "jsonl"],
        &["audit", "export", "--format", "ocsf"],
        &["audit", "export", "--format", "har"],
        &[&["audit", "report"], &period[..]].concat(),
        &["audit", "verify"],
        &["audit", "checkpoint"],
    ];
    for reader in readers {
        let (out, err, code) = world.omni(reader);
        assert_eq!(code, 0, "{reader:?}: {err}");
        assert!(!out.contains('\u{1b}'), "{reader:?}: {out}");
        let shows_all = matches!(reader, ["audit", "log"] | ["audit", "log" | "export", "--json" | "--format", ..])
            && !reader.contains(&"har");
        assert!(!shows_all || (out.contains("dream_had") && out.contains("sheep")), "{reader:?}: {out}");
    }
    let (out, _, _) = world.omni(&["audit", "log", "--json"]);
    assert_eq!(objects(&out)[2]["mood"]["of"], "later", "a field of a later version stays: {out}");
    let (key, _, _) = world.omni(&["audit", "keys"]);
    let (receipt, _, _) = world.omni(&["audit", "prove", "last", "--event", "2"]);
    let path = world.place.path().join("receipt");
    std::fs::write(&path, receipt).unwrap();
    let (out, err, code) = world.omni(&["audit", "verify", "--receipt", path.to_str().unwrap(), "--key", key.trim()]);
    assert!(code == 0 && out.contains("dream_had"), "{out}{err}");
}
