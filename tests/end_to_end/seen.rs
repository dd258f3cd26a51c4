//! Seeing what a session does: the log while it runs, bodies that are recorded, and their export for browsers.

use crate::clients::page;
use crate::host;
use crate::server::{ALLOWED, REFUSED, Server};
use crate::stage::{Actor, Stage, text};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const SECRET: &str = "sk-real-0123456789abcdefghij";
const QUESTION: &str = "a question of the client's";
const ANSWER: &str = "an answer of the server's";

/// A session that asks once, waits for the file `go`, and asks for what is refused.
const SCRIPT: &str = r#"curl -sS -d "$QUESTION" "$URL/answer"
curl -sS -H 'content-type: application/json' -d "{\"key\":\"$KEY\"}" "$URL/echo"
until [ -e go ]; do sleep 0.1; done
curl -sS "$REFUSED/""#;

const PROFILE: &str = r#"
name: seen
egress:
  - allow: GET,POST allowed.example/**
secrets:
  - name: key
    from: env:REAL_KEY
    host: allowed.example
    json: /key
    placeholder: { env: KEY }
"#;

/// A log that is being followed; a test that fails does not leave it behind.
struct Followed {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Followed {
    fn begin(stage: &Stage, arguments: &[&str]) -> Self {
        let arguments = [&["audit", "log", "--follow", "--json"], arguments].concat();
        let mut child = stage.omni(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads on until an event of this kind comes.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the log ended before {kind}");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server() -> Server {
    let mut pages = page("/answer", "text/plain", ANSWER);
    pages.extend(page("/echo", "application/json", format!(r#"{{"echo":"{SECRET}"}}"#)));
    pages.extend(page("/picture", "image/png", b"\x89PNG\xff\xfe".to_vec()));
    Server::start(pages)
}

/// A session's command, with a flag of its own.
fn session(stage: &Stage, server: &Server, flag: &str, script: &str) -> Command {
    stage.write(&stage.path("server.pem"), &server.ca_pem);
    stage.write(&stage.path("seen.yaml"), PROFILE);
    let to = |host: &str| format!("{host}:443:{}", server.address);
    let [allowed, refused] = [to(ALLOWED), to(REFUSED)];
    let [profile, ca] = ["seen.yaml", "server.pem"].map(|name| stage.path(name).display().to_string());
    let [url, bad] = [format!("URL=https://{ALLOWED}"), format!("REFUSED=https://{REFUSED}")];
    let question = format!("QUESTION={QUESTION}");
    let arguments = [
        &["exec", "--profile", &profile, flag, "--upstream-ca", &ca],
        &["--connect-to", &allowed, "--connect-to", &refused, "--env", &url, "--env", &bad, "--env", &question][..],
        &["--", "sh", "-c", script],
    ];
    let mut command = stage.omni(&arguments.concat());
    command.env("REAL_KEY", SECRET);
    command
}

/// Every file below a directory that holds a text.
fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let output = Command::new("grep").args(["-rlaF", "--", text]).arg(directory).output().unwrap();
    crate::stage::text(&output.stdout).lines().map(str::to_owned).collect()
}

fn try_everybody(act: impl Fn(&Stage)) {
    for actor in Actor::all() {
        if host::has_sandboxes() && host::has(*actor, "curl") {
            act(&Stage::new(*actor));
        }
    }
}

#[test]
fn the_log_is_followed_while_a_session_runs_that_began_later() {
    try_everybody(|stage| {
        let server = server();
        let mut everything = Followed::begin(stage, &[]);
        let mut refusals = Followed::begin(stage, &["--verdict", "denied", "--host", REFUSED]);
        let mut running = stage.start(&mut session(stage, &server, "--quiet", SCRIPT));
        let allowed = everything.until("request_allowed");
        assert_eq!((&allowed["host"], &allowed["path"]), (&ALLOWED.into(), &"/answer".into()));
        everything.until("request_completed");
        // What was seen happened while the session waits for what is made now.
        assert!(running.is_running(), "{:?}", stage.actor);
        stage.write(&stage.workspace().join("go"), "");
        let output = running.finish();
        assert!(text(&output.stdout).contains(ANSWER), "{}{}", text(&output.stdout), text(&output.stderr));
        everything.until("session_ended");
        // Nothing else was printed there before it.
        let mut line = String::new();
        refusals.lines.read_line(&mut line).unwrap();
        let denied: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&denied["event"], &denied["host"]), (&"request_denied".into(), &REFUSED.into()));
        everything.interrupt();
        refusals.interrupt();
    });
}

#[test]
fn recorded_bodies_hold_no_secret_and_are_exported_for_browsers() {
    try_everybody(|stage| {
        let server = server();
        stage.write(&stage.workspace().join("go"), "");
        let script = format!("echo $KEY > key; {SCRIPT}\ncurl -sS \"$URL/picture\" > picture");
        let output = session(stage, &server, "--record-bodies", &script).output().unwrap();
        assert!(text(&output.stdout).contains(ANSWER), "{}{}", text(&output.stdout), text(&output.stderr));
        let placeholder = std::fs::read_to_string(stage.workspace().join("key")).unwrap();

        let home = stage.path("home/state");
        for hidden in [SECRET, placeholder.trim()] {
            assert_eq!(files_with(&home, hidden), [] as [String; 0], "{:?}", stage.actor);
        }
        // They are sealed by a key of the session's own.
        assert_eq!(files_with(&home, QUESTION), [] as [String; 0]);
        let session = std::fs::read_dir(home.join("sessions")).unwrap().next().unwrap().unwrap();
        for sealed in [session.path().join("bodies"), home.join("keys").join(session.file_name())] {
            assert_eq!(sealed.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }

        let exported = stage.run(&["audit", "export", "--format", "har", "--session", "last"]);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        for hidden in [SECRET, placeholder.trim()] {
            assert!(!text(&exported.stdout).contains(hidden), "{:?}", stage.actor);
        }
        let har: Value = serde_json::from_slice(&exported.stdout).unwrap();
        let entries = har["log"]["entries"].as_array().unwrap();
        let told: Vec<_> = entries
            .iter()
            .map(|entry| {
                let (request, content) = (&entry["request"], &entry["response"]["content"]);
                let sent = request["postData"]["text"].as_str().unwrap_or_default();
                let got = content["text"].as_str().unwrap_or_default();
                (request["url"].as_str().unwrap(), entry["response"]["status"].as_u64().unwrap(), sent, got)
            })
            .collect();
        let stars = "*".repeat(SECRET.len());
        let (sent, got) = (format!(r#"{{"key":"{stars}"}}"#), format!(r#"{{"echo":"{stars}"}}"#));
        let expected = [
            ("https://allowed.example/answer", 200, QUESTION, ANSWER),
            ("https://allowed.example/echo", 200, &sent, &got),
            ("https://refused.example/", 0, "", ""),
            ("https://allowed.example/picture", 200, "", "iVBORw=="),
        ];
        assert_eq!((&told[..3], told[3].0), (&expected[..3], expected[3].0));
        assert_eq!(entries[3]["response"]["content"]["encoding"], "base64");
        validate(stage, &exported.stdout);
        let shipped = stage.path("home/shipped.jsonl");
        let place = format!("file:{}", shipped.display());
        for words in [
            &["audit", "export", "--format", "jsonl"][..],
            &["audit", "export", "--format", "ocsf"],
            &["audit", "ship", "--once", &place],
            &["audit", "metrics"],
        ] {
            let told = stage.run(words);
            assert!(told.status.success(), "{words:?}: {}", text(&told.stderr));
            let left = format!("{}{}", text(&told.stdout), std::fs::read_to_string(&shipped).unwrap_or_default());
            for hidden in [SECRET, placeholder.trim(), QUESTION, ANSWER] {
                assert!(!left.contains(hidden), "{words:?}, {:?}", stage.actor);
            }
            let control = if words.contains(&"metrics") { "omni_requests_total" } else { "/echo" };
            assert!(left.contains(control), "{words:?}: {left}");
        }
    });
}

#[test]
fn without_being_asked_no_body_is_recorded() {
    try_everybody(|stage| {
        let server = server();
        let output = session(stage, &server, "--quiet", r#"curl -sS -d "$QUESTION" "$URL/answer""#).output().unwrap();
        assert!(text(&output.stdout).contains(ANSWER), "{}{}", text(&output.stdout), text(&output.stderr));
        for body in [QUESTION, ANSWER] {
            assert_eq!(files_with(&stage.path("home/state"), body), [] as [String; 0], "{:?}", stage.actor);
        }
        let exported = stage.run(&["audit", "export", "--format", "har"]);
        assert!(text(&exported.stdout).contains("https://allowed.example/answer"), "{}", text(&exported.stderr));
        validate(stage, &exported.stdout);
    });
}

/// Holds a file against the schema of HAR 1.2 (npm `har-schema`), with Python's `jsonschema`; one that lacks something must
/// fail.
fn validate(stage: &Stage, har: &[u8]) {
    const VALIDATOR: &str = r##"
import json, pathlib, sys
from jsonschema import Draft6Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT6
schemas = [json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).glob("*.json")]
pairs = [(schema["$id"].rstrip("#"), Resource.from_contents(schema, DRAFT6)) for schema in schemas]
whole = next(schema for schema in schemas if schema["$id"] == "har.json#")
validator = Draft6Validator(whole, registry=Registry().with_resources(pairs))
har = json.load(open(sys.argv[2]))
for error in validator.iter_errors(har): print("WRONG", error.json_path, error.message)
del har["log"]["entries"][0]["response"]["status"]
print("finds", [error.json_path for error in validator.iter_errors(har)])
"##;
    let (Some(python), Some(schema)) = (
        host::tool(Actor::Tester, "agents/bin/python3"),
        host::tool(Actor::Tester, "node_modules/har-schema/lib/har.json"),
    ) else {
        return;
    };
    let file = stage.path("session.har");
    stage.write(&file, har);
    let output =
        Command::new(python).args(["-c", VALIDATOR]).arg(schema.parent().unwrap()).arg(&file).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(said, "finds ['$.log.entries[0].response']\n");
}
