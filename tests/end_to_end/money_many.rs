//! Many calls at once: a budget that two sessions share holds, and what every dialect used is counted to the nano-dollar.

use crate::host;
use crate::simulated::{Call, Provider, calls_told, sum};
use crate::stage::{Actor, Running, Stage, text};
use omni::model::NanoUsd;
use std::fmt::Write as _;
use std::path::PathBuf;

/// How many calls are compared; any other number by this variable.
const CALLS: usize = 200;
const CALLS_VARIABLE: &str = "OMNI_METERED_CALLS";

/// A stream that takes a while, so that many are under way together. Each costs half a cent with the model below.
const SLOW: &str = "
turns:
  - reply: { text: 'One word after the other. ', repeat: 5, chunk_delay_ms: 10, usage: { input: 0, output: 1000 } }
";
const STREAM: &str =
    r#"{"model":"claude-haiku-4-5","max_tokens":1000,"stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
const STREAM_COST: i64 = 5_000_000;
const STREAMS_EACH: usize = 100;

/// Both sessions' calls together would cost a dollar.
const BUDGET: &str =
    "name: both\ntype: spend\nhard_limit: $0.60\non_hard_limit: block-request\nscope: user\nwindow: day\n";
const BUDGET_NANO: i64 = 600_000_000;

const PROFILE: &str = "name: trial\negress:\n- allow: POST api.anthropic.com/**\n- allow: POST api.openai.com/**\n\
                       - allow: POST generativelanguage.googleapis.com/**\n- allow: GET api.openai.com/v1/responses\n\
                       - allow: POST bedrock-runtime.us-east-1.amazonaws.com/**\n";

const HOSTS: [&str; 4] = [
    "api.anthropic.com",
    "api.openai.com",
    "generativelanguage.googleapis.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
];

/// How many of the calls are made over WebSockets besides, each so many on one.
const ON_SOCKETS: usize = 4;
const EACH_SOCKET: usize = 25;

/// Makes each call of a file as a message of a WebSocket (RFC 6455), one after the other, and prints how each ended.
const TALK: &str = r#"
import base64, json, os, socket, ssl, struct, sys

def opened():
    tls = ssl.create_default_context().wrap_socket(socket.create_connection(("api.openai.com", 443)), server_hostname="api.openai.com")
    key = base64.b64encode(os.urandom(16)).decode()
    tls.sendall((f"GET /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
    read = tls.makefile("rb")
    assert b" 101 " in read.readline()
    while read.readline() != b"\r\n":
        pass
    return tls, read

def say(tls, text):
    body, mask = text.encode(), os.urandom(4)
    size = struct.pack("!BBH", 0x81, 0xfe, len(body)) if len(body) < 65536 else struct.pack("!BBQ", 0x81, 0xff, len(body))
    tls.sendall(size + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(body)))

def heard(read):
    first, second = read.read(2)
    assert first == 0x81, first
    size = second & 0x7f
    size = struct.unpack("!H", read.read(2))[0] if size == 126 else struct.unpack("!Q", read.read(8))[0] if size == 127 else size
    return json.loads(read.read(size))

calls = open(sys.argv[1]).read().splitlines()
for start in range(0, len(calls), int(sys.argv[2])):
    tls, read = opened()
    for call in calls[start:start + int(sys.argv[2])]:
        say(tls, call)
        kind = "response.created"
        while kind.split(".")[-1] not in ("completed", "incomplete", "failed", "error"):
            kind = heard(read)["type"]
        print(kind)
    tls.close()
"#;

struct Trial {
    stage: Stage,
    provider: Provider,
}

impl Trial {
    fn new(script: &str) -> Option<Self> {
        if !host::has_sandboxes() {
            return None;
        }
        let stage = Stage::new(Actor::Tester);
        let provider = Provider::start(&stage, script);
        stage.write(&stage.path("trial.yaml"), PROFILE);
        stage.write(&stage.path("budget.yaml"), BUDGET);
        Some(Self { stage, provider })
    }

    fn argument(&self, name: &str) -> String {
        self.stage.path(name).display().to_string()
    }

    /// A session in which curl makes all of these calls side by side, and prints the status of each.
    fn start(&self, name: &str, options: &[&str], calls: &[(String, String)]) -> Running {
        let script: PathBuf = self.stage.workspace().join(name);
        let mut written = String::new();
        for (number, (url, body)) in calls.iter().enumerate() {
            let body_file = format!("{name}-{number}.json");
            self.stage.write(&self.stage.workspace().join(&body_file), body);
            let next = if number > 0 { "next\n" } else { "" };
            writeln!(
                written,
                "{next}silent\nurl = \"https://{url}\"\ndata-binary = \"@{body_file}\"\n\
                 header = \"content-type: application/json\"\noutput = \"/dev/null\"\nwrite-out = \"%{{http_code}}\\n\""
            )
            .unwrap();
        }
        self.stage.write(&script, written);
        // Over one connection of HTTP/2 for each host: curl reads all roots anew for each connection that it makes.
        self.run(options, &["curl", "--parallel", "--parallel-max", "100", "-K", name])
    }

    /// A session in which messages on WebSockets make these calls, and the last event of each is printed.
    fn talk(&self, options: &[&str], messages: &[String]) -> Running {
        let [talk, calls] = ["talk.py", "messages"].map(|name| self.stage.workspace().join(name));
        self.stage.write(&talk, TALK);
        self.stage.write(&calls, messages.join("\n"));
        self.run(options, &["python3", "talk.py", "messages", &EACH_SOCKET.to_string()])
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Running {
        let to = HOSTS.map(|host| format!("{host}:443:{}", self.provider.address));
        let (profile, ca) = (self.argument("trial.yaml"), self.provider.ca.display().to_string());
        let mut arguments = vec!["exec", "--profile", &profile, "--upstream-ca", &ca];
        to.iter().for_each(|to| arguments.extend(["--connect-to", to]));
        arguments.extend(options.iter().chain(&["--"]).chain(command));
        self.stage.start(&mut self.stage.omni(&arguments))
    }
}

/// The statuses that a session's calls had.
fn statuses(session: Running) -> Vec<String> {
    let output = session.finish();
    assert!(output.status.success(), "{}: {} {}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn two_sessions_with_two_hundred_streams_share_one_budget_and_it_holds() {
    let Some(trial) = Trial::new(SLOW) else { return };
    let calls = vec![("api.anthropic.com/v1/messages".to_owned(), STREAM.to_owned()); STREAMS_EACH];
    let budget = trial.argument("budget.yaml");
    let both = ["first", "second"].map(|name| trial.start(name, &["--policy", &budget], &calls));
    let all: Vec<String> = both.into_iter().flat_map(statuses).collect();
    let passed = all.iter().filter(|status| *status == "200").count();
    let refused = all.iter().filter(|status| *status == "402").count();
    assert_eq!(passed + refused, 2 * STREAMS_EACH, "{all:?}");
    let provided = trial.provider.calls();
    assert_eq!(provided.len(), passed, "what was refused never left");
    let (_, told) = sum(&provided);
    let spent: NanoUsd = told.parse().unwrap();
    assert!(spent.0 <= BUDGET_NANO, "{told} is beyond the budget");
    assert!(spent.0 > BUDGET_NANO - 2 * STREAM_COST, "{told}: nothing is refused that there was money for");
    // A third session finds the same account, whatever the first two had in flight.
    let rest = statuses(trial.start("third", &["--policy", &budget], &calls[..1]));
    assert_eq!(rest, ["402"]);
    let output = trial.stage.run(&["spend", "--by", "user", "--json"]);
    let spend: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&spend["calls"], &spend["cost_usd"]), (&passed.into(), &told.as_str().into()));
}

/// What is said decides what is billed: each way to be cached, parts of the answer that are priced by themselves, and each class
/// of service. A request that is the first of its kind fills a cache and a later one reads it, where nothing else is written.
const ASSORTED: &str = "
turns:
- when: { contains: 'cached ' }
  reply: { text: 'Yes.', usage: { input: 1001, cache_read: 702, cache_write: 33, cache_write_long: 44, output: 95 } }
- when: { contains: 'thought ' }
  reply: { text: 'Hm.', usage: { input: 10, output: 907, reasoning: 801 } }
- when: { contains: 'searched ' }
  reply: { text: 'There.', usage: { input: 5003, output: 17, web_searches: 3 } }
- when: { contains: 'hurried ' }
  reply: { text: 'At once.', service_tier: priority }
- when: { contains: 'patient ', model: gpt }
  reply: { text: 'Later.', service_tier: flex, usage: { input: 9007, cache_read: 11, output: 13, reasoning: 5 } }
- when: { contains: 'gathered ' }
  reply: { text: 'With others.', service_tier: batch }
- reply: { text: 'An answer of a few words.' }
";
const WORDS: [&str; 7] = ["cached ", "thought ", "searched ", "hurried ", "patient ", "gathered ", "word "];

/// Numbers below another, the same at every run.
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move |below| {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

/// Messages of all sizes, each of which calls a model.
fn messages(count: usize) -> Vec<String> {
    let mut draw = numbers();
    let mut one = || {
        let model = ["gpt-5.5", "gpt-5-mini"][usize::try_from(draw(2)).unwrap()];
        let words = "word ".repeat(usize::try_from(draw(20_000)).unwrap());
        format!(r#"{{"type":"response.create","model":"{model}","input":[{{"role":"user","content":"{words}"}}]}}"#)
    };
    (0..count).map(|_| one()).collect()
}

/// Calls of every dialect, in one piece and as streams, of all sizes.
fn assorted(count: usize) -> Vec<(String, String)> {
    let mut draw = numbers();
    let models = [
        "claude-haiku-4-5",
        "claude-opus-4-5",
        "gpt-5.5",
        "gpt-5-mini",
        "gemini-2.5-pro",
        "gemini-2.5-flash",
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        "amazon.nova-pro-v1:0",
    ];
    let mut one = || {
        let model = models[usize::try_from(draw(8)).unwrap()];
        let word = WORDS[usize::try_from(draw(7)).unwrap()];
        let (stream, words) = (draw(2) == 0, word.repeat(usize::try_from(draw(2_000)).unwrap()));
        let said = format!(r#"[{{"role":"user","content":"{words}"}}]"#);
        match (&model[..3], draw(2)) {
            ("cla", _) => (
                "api.anthropic.com/v1/messages".to_owned(),
                format!(r#"{{"model":"{model}","max_tokens":900,"stream":{stream},"messages":{said}}}"#),
            ),
            ("gpt", 0) => (
                "api.openai.com/v1/responses".to_owned(),
                format!(r#"{{"model":"{model}","stream":{stream},"input":{said}}}"#),
            ),
            ("gpt", _) => (
                "api.openai.com/v1/chat/completions".to_owned(),
                format!(
                    r#"{{"model":"{model}","stream":{stream},"stream_options":{{"include_usage":true}},"messages":{said}}}"#
                ),
            ),
            ("ant" | "ama", form) => {
                let invoked = form == 0 && model.starts_with("ant");
                let (content, act) = match (invoked, stream) {
                    (true, false) => (format!(r#""{words}""#), "invoke"),
                    (true, true) => (format!(r#""{words}""#), "invoke-with-response-stream"),
                    (false, false) => (format!(r#"[{{"text":"{words}"}}]"#), "converse"),
                    (false, true) => (format!(r#"[{{"text":"{words}"}}]"#), "converse-stream"),
                };
                let body = format!(r#"{{"max_tokens":900,"messages":[{{"role":"user","content":{content}}}]}}"#);
                (format!("bedrock-runtime.us-east-1.amazonaws.com/model/{}/{act}", model.replace(':', "%3A")), body)
            }
            _ => {
                let act = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                let body = format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{words}"}}]}}]}}"#);
                (format!("generativelanguage.googleapis.com/v1beta/models/{model}:{act}"), body)
            }
        }
    };
    (0..count).map(|_| one()).collect()
}

#[test]
fn calls_of_every_dialect_are_counted_to_the_nano_dollar() {
    let Some(trial) = Trial::new(ASSORTED) else { return };
    let count = std::env::var(CALLS_VARIABLE).map_or(CALLS, |count| count.parse().unwrap());
    let answered = statuses(trial.start("assorted", &[], &assorted(count)));
    assert_eq!(answered.iter().filter(|status| *status == "200").count(), count, "{answered:?}");
    let sorted = |mut calls: Vec<Call>| {
        calls.sort_by_key(|call| format!("{call:?}"));
        calls
    };
    let mut told = calls_told(&trial.stage.last_session());
    // Messages on WebSockets are calls as well, each of its own where money is limited.
    let on_sockets = count / ON_SOCKETS;
    let ended = statuses(trial.talk(&["--budget", "$100000"], &messages(on_sockets)));
    assert_eq!(ended, vec!["response.completed"; on_sockets]);
    told.extend(calls_told(&trial.stage.last_session()));
    let (provided, told) = (sorted(trial.provider.calls()), sorted(told));
    assert_eq!(provided.len(), count + on_sockets);
    assert!(provided == told, "{:?} provided, {:?} told", sum(&provided), sum(&told));
}
