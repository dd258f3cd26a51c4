//! Shipping to programs of others: every entry at least once, whatever happens between.

use crate::receivers::{Certificates, Receiver, Rsyslog, Running, TOKEN, lines, wait_until};
use crate::world::{World, documented, objects};
use omni::model::{Event, RequestNumber};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// More than one batch.
const MANY: u64 = 2_500;

fn many() -> Vec<Event> {
    let failed = |request| Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() };
    (1..=MANY).map(failed).collect()
}

/// How often each entry arrived.
fn arrived(entries: impl Iterator<Item = u64>) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    entries.for_each(|entry| *counts.entry(entry).or_insert(0) += 1);
    counts
}

fn entry_of(line: &Value) -> u64 {
    line["entry"].as_u64().unwrap_or_else(|| panic!("{line}"))
}

/// Everything from the first entry to the last but none, and each at least once.
fn is_whole(counts: &BTreeMap<u64, usize>, entries: u64) -> bool {
    counts.keys().copied().eq(0..entries)
}

fn token(world: &World) -> String {
    let path = world.path("token");
    fs::write(&path, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn splunk(world: &World, receiver: &Receiver, tls: &Certificates) -> String {
    format!("splunk+https://localhost:{}?ca={}&token=file:{}", receiver.port, tls.ca.display(), token(world))
}

#[test]
fn a_file_gets_every_entry_in_order_and_goes_on_where_it_was_left() {
    let world = World::new();
    world.record(1, &documented());
    world.printed(&["audit", "checkpoint"]);
    let path = world.path("log.jsonl");
    let place = format!("file:{}", path.display());
    world.printed(&["audit", "ship", "--once", &place]);
    let first = lines(&path);
    // One more than events: the key that signs.
    assert_eq!(first.iter().map(entry_of).collect::<Vec<_>>(), (0..documented().len() as u64 + 1).collect::<Vec<_>>());
    assert_eq!(first.iter().filter(|line| line["event"] == "ledger_key").count(), 1);
    let exported = objects(&world.printed(&["audit", "export", "--format", "jsonl"]));
    assert_eq!(first.iter().filter(|line| line["event"] != "ledger_key").cloned().collect::<Vec<_>>(), exported);
    world.record(2, &documented()[..3]);
    // As a crash leaves it: half a line that nobody was told of.
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"entry\":").unwrap();
    world.printed(&["audit", "ship", "--once", &place]);
    world.printed(&["audit", "ship", "--once", &place]);
    let all = lines(&path);
    assert_eq!(all.iter().map(entry_of).collect::<Vec<_>>(), (0..first.len() as u64 + 3).collect::<Vec<_>>());
}

#[test]
fn a_ledger_that_was_exchanged_is_not_gone_on_with() {
    let (world, other) = (World::new(), World::new());
    let place = format!("file:{}", world.path("log").display());
    for (home, byte) in [(&world, 1), (&other, 2)] {
        home.record(byte, &documented()[..3]);
        home.printed(&["audit", "ship", "--once", &place.replace("/log", &format!("/log{byte}"))]);
    }
    fs::remove_dir_all(world.home().join("ledger")).unwrap();
    fs::rename(other.home().join("ledger"), world.home().join("ledger")).unwrap();
    for name in ["omni.db", "omni.db-wal", "omni.db-shm"] {
        let _ = fs::remove_file(world.home().join(name));
        let _ = fs::rename(other.home().join(name), world.home().join(name));
    }
    let (_, err, code) = world.omni(&["audit", "ship", "--once", &place.replace("/log", "/log1")]);
    assert_eq!(code, 1);
    assert!(err.contains("another ledger") && err.contains("audit verify"), "{err}");
    assert_eq!(lines(&world.path("log1")).len(), 3);
}

#[test]
fn rsyslog_gets_every_entry_over_tls_and_reads_each_part() {
    let world = World::new();
    let tls = Certificates::make(&world);
    let Some(server) = Rsyslog::start(&world, &tls, "x509/certvalid") else { return };
    world.record(1, &documented());
    let own = format!("cert={}&key={}", tls.certificate.display(), tls.key.display());
    let place = format!("syslog+tls://localhost:{}?ca={}&{own}", server.port, tls.ca.display());
    world.printed(&["audit", "ship", "--once", &place]);
    let text = || fs::read_to_string(&server.out).unwrap_or_default();
    // What rsyslog read is on its way to the file.
    wait_until("every message", || text().matches('\n').count() >= documented().len());
    let text = text();
    let parts: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(9, '|').collect()).collect();
    for (place, (part, event)) in parts.iter().zip(documented()).enumerate() {
        assert_eq!(
            (part[0], part[4], part[6]),
            ("13", "omni", &event.kind()[..event.kind().len().min(32)]),
            "{part:?}"
        );
        assert!(part[7].contains(&format!("[meta sequenceId=\"{}\"]", place + 1)), "{part:?}");
        let line: Value =
            serde_json::from_str(part[8].trim_start()).unwrap_or_else(|error| panic!("{error}: {part:?}"));
        assert_eq!((entry_of(&line), &line["event"]), (place as u64, &json!(event.kind())));
        assert_eq!(part[5], line["session"]);
    }
    // Nobody without a certificate of that issuer is let in; nothing is lost by it.
    let (_, err, code) = world.omni(&["audit", "ship", "--once", &place.replace(&own, "name=stranger")]);
    assert_eq!(code, 1);
    assert!(err.contains("wait in the ledger, and none is lost"), "{err}");
}

#[test]
fn splunks_collector_gets_every_entry_though_it_was_busy_and_the_shipper_was_killed() {
    let world = World::new();
    let tls = Certificates::make(&world);
    let Some(mut receiver) = Receiver::start(&world, "hec", 0, Some(&tls)) else { return };
    world.record(1, &many());
    let place = splunk(&world, &receiver, &tls);
    receiver.say("503 1");
    let mut command = world.command(&["audit", "ship", &place]);
    let mut shipper = Running::start({
        command.stderr(Stdio::piped());
        command
    });
    wait_until("the first batch", || !receiver.received().is_empty());
    let is_all = |receiver: &Receiver| is_whole(&arrived(received(receiver)), MANY);
    wait_until("all of it", || is_all(&receiver));
    // The next batch is taken, and its answer never comes.
    receiver.say("hold");
    world.record(2, &many());
    assert_eq!(receiver.running.line(), "held");
    shipper.kill();
    let before = receiver.received().len() as u64;
    assert!(before > MANY && before < 2 * MANY, "{before} of {}", 2 * MANY);
    world.printed(&["audit", "ship", "--once", &place]);
    let counts = arrived(received(&receiver));
    assert!(is_whole(&counts, 2 * MANY), "{} of {}", counts.len(), 2 * MANY);
    // What was taken without an answer came twice, and nothing else.
    assert_eq!(counts.values().filter(|count| **count == 2).count() as u64, before - MANY);
    assert!(counts.values().all(|count| *count <= 2));
    for event in receiver.received().iter().take(3) {
        assert_eq!(
            (&event["sourcetype"], &event["fields"]["omni_event"]),
            (&json!("omni:jsonl"), &json!("request_failed"))
        );
    }
}

fn received(receiver: &Receiver) -> impl Iterator<Item = u64> + use<> {
    receiver.received().into_iter().map(|event| entry_of(&event["event"]))
}

#[test]
fn a_place_that_is_away_is_told_of_and_gets_everything_when_it_is_back() {
    let world = World::new();
    let tls = Certificates::make(&world);
    // A port where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    world.record(1, &many());
    let place = format!("splunk+https://localhost:{port}?ca={}&token=file:{}", tls.ca.display(), token(&world));
    let mut command = world.command(&["audit", "ship", &place]);
    let log = world.path("shipper.log");
    command.stderr(fs::File::create(&log).unwrap());
    let _shipper = Running::start(command);
    let said = || fs::read_to_string(&log).unwrap();
    wait_until("the message", || said().contains(&format!("{MANY} entries wait in the ledger, and none is lost")));
    // Sessions go on meanwhile: nothing of theirs waits for a place.
    world.record(2, &documented());
    let Some(receiver) = Receiver::start(&world, "hec", port, Some(&tls)) else { return };
    let all = MANY + documented().len() as u64;
    wait_until("everything", || is_whole(&arrived(received(&receiver)), all));
    wait_until("the good news", || said().contains("it works again"));
    assert!(!said().contains(TOKEN), "{}", said());
}

#[test]
fn a_token_that_is_not_taken_and_a_place_that_takes_less_lose_nothing() {
    let world = World::new();
    let tls = Certificates::make(&world);
    let Some(receiver) = Receiver::start(&world, "hec", 0, Some(&tls)) else { return };
    world.record(1, &many());
    let place = splunk(&world, &receiver, &tls);
    fs::write(world.path("token"), "another").unwrap();
    let (_, err, code) = world.omni(&["audit", "ship", "--once", &place]);
    assert_eq!((code, receiver.received()), (1, Vec::new()));
    assert!(
        err.contains("does not take the token") && err.contains("none is lost") && !err.contains("another"),
        "{err}"
    );
    fs::set_permissions(world.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let (_, err, _) = world.omni(&["audit", "ship", "--once", &place]);
    assert!(err.contains("others could read"), "{err}");
    token(&world);
    receiver.say("413");
    world.printed(&["audit", "ship", "--once", &place]);
    assert!(arrived(received(&receiver)).values().eq(vec![1; MANY as usize].iter()));
}

#[test]
fn opentelemetry_gets_a_log_record_for_each_entry_and_spans_of_sessions_and_model_calls() {
    let world = World::new();
    let Some(logs) = Receiver::start(&world, "logs", 0, None) else { return };
    let Some(traces) = Receiver::start(&world, "traces", 0, None) else { return };
    let events = in_order();
    let (mut journal, session) = world.journal(1);
    World::append(&mut journal, 0, &events[..3]);
    let ship = |receiver: &Receiver, signal: &str| {
        world.printed(&["audit", "ship", "--once", &format!("otlp+http://127.0.0.1:{}?signal={signal}", receiver.port)])
    };
    ship(&logs, "logs");
    // What the first process saw of the call, the next has to look up.
    ship(&traces, "traces");
    assert_eq!(traces.received(), [] as [Value; 0]);
    World::append(&mut journal, 3, &events[3..]);
    ship(&logs, "logs");
    ship(&traces, "traces");
    let received = logs.received();
    assert_eq!(received.len(), events.len());
    let attributes = |one: &Value| -> BTreeMap<String, Value> {
        let pairs = one["attributes"].as_array().unwrap().iter();
        pairs.map(|pair| (pair["key"].as_str().unwrap().to_owned(), pair["value"].clone())).collect()
    };
    for (place, (line, event)) in received.iter().zip(&events).enumerate() {
        let one = &line["one"];
        assert_eq!(one["eventName"], format!("omni.{}", event.kind()));
        assert_eq!(attributes(one)["omni.entry"], json!({ "intValue": place.to_string() }));
        assert_eq!(attributes(one)["session.id"], json!({ "stringValue": session }));
    }
    let spans = traces.received();
    let call = spans.iter().find(|span| span["one"]["name"] == "chat claude-sonnet-4-5").expect("a model call");
    let whole = spans.iter().find(|span| span["one"]["name"] == "invoke_agent claude-code").expect("a session");
    let of_call = attributes(&call["one"]);
    for (key, value) in [
        ("gen_ai.provider.name", json!({ "stringValue": "anthropic" })),
        ("gen_ai.operation.name", json!({ "stringValue": "chat" })),
        ("gen_ai.request.model", json!({ "stringValue": "claude-sonnet-4-5" })),
        ("gen_ai.usage.input_tokens", json!({ "intValue": "42" })),
        ("gen_ai.usage.output_tokens", json!({ "intValue": "45" })),
        ("http.response.status_code", json!({ "intValue": "200" })),
        ("server.address", json!({ "stringValue": "api.anthropic.com" })),
    ] {
        assert_eq!(of_call.get(key), Some(&value), "{key}");
    }
    assert_eq!(call["one"]["parentSpanId"], whole["one"]["spanId"]);
    assert_eq!(call["one"]["traceId"], whole["one"]["traceId"]);
    assert_eq!(call["resource"]["attributes"][0], json!({ "key": "service.name", "value": { "stringValue": "omni" } }));
    let time = |span: &Value, key: &str| span["one"][key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time(call, "startTimeUnixNano") < time(call, "endTimeUnixNano"));
    assert!(time(whole, "startTimeUnixNano") < time(call, "startTimeUnixNano"));
    assert_eq!(spans.len(), 2);
}

/// One session with one model call, in the order in which they happen.
fn in_order() -> Vec<Event> {
    let wanted =
        ["session_started", "request_allowed", "request_completed", "usage_metered", "harness_exited", "session_ended"];
    let of = |kind: &&str| documented().into_iter().find(|event| event.kind() == *kind).unwrap();
    wanted.iter().map(of).collect()
}

#[test]
fn no_session_starts_where_records_must_be_shipped_and_are_not() {
    let world = World::new();
    let (policy, workspace) = (world.path("policy.yaml"), world.path("workspace"));
    fs::write(&policy, "type: shipping\nwithin: 1h\n").unwrap();
    fs::create_dir(&workspace).unwrap();
    let exec = || {
        let [policy, workspace] = [&policy, &workspace].map(|path| path.to_str().unwrap());
        world.omni(&["exec", "--no-system", "--policy", policy, "--workspace", workspace, "--", "true"])
    };
    let (_, err, code) = exec();
    assert!(code != 0 && err.contains("records are shipped nowhere"), "{code}: {err}");
    assert_eq!(world.printed(&["sessions"]), "");
    world.printed(&["audit", "ship", "--once", &format!("file:{}?name=here", world.path("log").display())]);
    let (_, err, _) = exec();
    assert!(!err.contains("no session starts here"), "{err}");
    // As it is when nobody shipped for longer than that.
    let mark = world.home().join("shipping/here.mark");
    let mut old: Value = serde_json::from_slice(&fs::read(&mark).unwrap()).unwrap();
    old["caught_up"] = json!(old["caught_up"].as_i64().unwrap() - 3_601_000_000);
    fs::write(&mark, old.to_string()).unwrap();
    let (_, err, code) = exec();
    assert!(code != 0 && err.contains("here had everything at"), "{code}: {err}");
}

#[test]
fn numbers_are_in_the_format_that_prometheus_reads() {
    let world = World::new();
    world.record(1, &documented());
    let path = world.path("log");
    world.printed(&["audit", "ship", "--once", &format!("file:{}?name=here", path.display())]);
    let text = world.printed(&["audit", "metrics"]);
    for wanted in [
        "omni_requests_total{verdict=\"allowed\"} 1\n",
        "omni_requests_total{verdict=\"denied\"} 1\n",
        "omni_model_tokens_total{model=\"claude-sonnet-4-5\",type=\"output\"} 45\n",
        "omni_model_cost_usd_total{model=\"claude-sonnet-4-5\"} 0.012345\n",
        "omni_shipping_waiting_entries{place=\"here\"} 0\n",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    crate::metrics::check(&text);
}
