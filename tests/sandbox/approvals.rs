//! Questions to people and their answers: who is asked, how often, and for how long a yes holds. An upstream is the witness.

use crate::support::{Outcome, World, collect, finish};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a question may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const GLANCE: Duration = Duration::from_millis(20);
/// Where the upstream is, to the harness.
const RULE: &str = "* http://asked.example/**";

/// A server that answers everything and writes down what came, a line each.
const SERVER: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with open(sys.argv[1], "a") as log: log.write(self.command + " " + self.path + " " + body.decode() + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_POST = answer
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// Sends each request that a line names, all at once, and says of each what became of it: path, body, status, and why.
const CLIENT: &str = r#"
import http.client, threading
lock = threading.Lock()
def send(method, path, body):
    host = "asked.example"
    if path.startswith("//"): host, path = path[2:].split("/", 1)[0], "/" + path[2:].split("/", 1)[1]
    connection = http.client.HTTPConnection(host)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read().decode()
    with lock: say([path, body, answer.status, text])
for line in sys.stdin:
    method, path, body = line.rstrip("\n").split(" ")
    threading.Thread(target=send, args=(method, path, body)).start()
"#;

pub struct Upstream {
    child: Child,
    to: String,
    log: PathBuf,
}

impl Upstream {
    pub fn start(world: &World) -> Self {
        let log = world.place().join("came");
        world.write(&log, "");
        let mut command = world.command(Path::new("/usr/bin/python3"));
        command.args(["-I", "-c", SERVER]).arg(&log).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
        Self { child, to: format!("::127.0.0.1:{}", port.trim()), log }
    }

    pub fn came(&self) -> Vec<String> {
        std::fs::read_to_string(&self.log).unwrap().lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A harness that sends what it is told.
pub struct Harness {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Harness {
    pub fn start(world: &World, upstream: &Upstream, flags: &[&str]) -> Self {
        let source = format!("{}\n{CLIENT}", crate::support::PRELUDE);
        let to = ["--connect-to", &upstream.to];
        let mut command = world.exec(&[&to, flags].concat(), &["/usr/bin/python3", "-I", "-c", &source]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    pub fn send(&mut self, request: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{request}").unwrap();
    }

    /// What became of a request: its path with its body, the status, and what was told.
    pub fn hear(&mut self) -> (String, u64, String) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let text = |index: usize| said[index].as_str().unwrap().to_owned();
        (format!("{} {}", text(0), text(1)), said[2].as_u64().unwrap(), text(3))
    }

    pub fn ask(&mut self, request: &str) -> (u64, String) {
        self.send(request);
        let (_, status, told) = self.hear();
        (status, told)
    }

    pub fn end(self) {
        let outcome = collect(self.child, b"");
        assert!(outcome.status.success(), "{outcome:?}");
    }
}

/// The questions that wait, once there are so many.
pub fn questions(world: &World, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waiting = world.list(&["approvals"]);
        if waiting.len() == count {
            return waiting;
        }
        assert!(Instant::now() < deadline, "{count} questions do not come: {waiting:?}");
        std::thread::sleep(GLANCE);
    }
}

pub fn events(world: &World, kind: &str) -> Vec<Value> {
    let mut all = world.list(&["audit", "log", "--session", "last"]);
    all.retain(|event| event["event"] == kind);
    all
}

/// Waits for so many events.
fn recorded(world: &World, kind: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = events(world, kind);
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "{count} {kind} do not come: {found:?}");
        std::thread::sleep(GLANCE);
    }
}

pub fn omni(world: &World, words: &[&str]) -> Outcome {
    let mut command = world.omni();
    command.args(words);
    finish(command, b"")
}

attack! {
    fn a_consent_answers_the_same_question_in_later_sessions_and_no_other(world) {
        let upstream = Upstream::start(world);
        let mut first = Harness::start(world, &upstream, &["--await-approvals", "--ask", RULE]);
        first.send("POST /x one");
        let [asked] = &questions(world, 1)[..] else { panic!("one") };
        assert_eq!(asked["rule"], "POST http://asked.example/x");
        assert_eq!(asked["yes"], serde_json::json!(["once", "session", "always"]));
        let id = asked["id"].as_str().unwrap();
        let given = omni(world, &["approve", id, "--always"]);
        assert!(given.status.success() && given.stderr.contains("POST http://asked.example/x"), "{given:?}");
        assert_eq!(first.hear(), ("/x one".to_owned(), 200, String::new()));
        first.end();
        assert_eq!(events(world, "consent_given")[0]["covers"][0], "POST http://asked.example/x");
        let consents = world.list(&["approvals", "consents"]);
        assert_eq!((consents.len(), &consents[0]["id"]), (1, &asked["id"]));
        // Nobody could be asked here, so that what goes goes by the consent.
        let asks = |flags: &[&str]| {
            let mut later = Harness::start(world, &upstream, flags);
            let statuses = ["POST /x two", "POST /y two", "GET /x two"].map(|request| later.ask(request).0);
            later.end();
            statuses
        };
        assert_eq!(asks(&["--ask", RULE]), [200, 403, 403]);
        assert_eq!(events(world, "consent_used").len(), 1);
        assert_eq!(asks(&["--ask", RULE, "--deny", "POST http://asked.example/x"]), [403, 403, 403], "a deny always wins");
        assert_eq!(asks(&["--ask", "* http://asked.example/x"]), [403, 403, 403], "another rule asks");
        let both = ["--ask", RULE, "--ask", "POST http://asked.example/x"];
        assert_eq!(asks(&both), [403, 403, 403], "one rule more asks");
        let elsewhere = world.place().join("elsewhere");
        world.write(&elsewhere.join("x"), "");
        assert_eq!(asks(&["--ask", RULE, "--workspace", elsewhere.to_str().unwrap()]), [403, 403, 403]);
        // A repository cannot bring one along.
        let own = world.workspace().join(".omni/policy.yaml");
        world.write(&own, "type: egress\nconsents: [POST http://asked.example/y]\nrules: [{ ask: '* *:*' }]\n");
        let refused = world.shell(&[], "true");
        assert!(refused.code() == Some(125) && refused.stderr.contains("unknown key `consents`"), "{refused:?}");
        std::fs::remove_file(&own).unwrap();
        // Taken back, it answers nothing any more, in a session that runs either.
        let mut running = Harness::start(world, &upstream, &["--ask", RULE]);
        assert_eq!(running.ask("POST /x three").0, 200);
        assert!(omni(world, &["approvals", "revoke", id]).status.success());
        assert_eq!(running.ask("POST /x four").0, 403);
        running.end();
        assert_eq!(world.list(&["approvals", "consents"]), [] as [Value; 0]);
        assert_eq!(upstream.came(), ["POST /x one", "POST /x two", "POST /x three"]);
    }
}

attack! {
    fn the_same_request_shares_a_question_and_a_changed_one_asks_anew(world) {
        let upstream = Upstream::start(world);
        let mut harness = Harness::start(world, &upstream, &["--await-approvals", "--ask", RULE]);
        for _ in 0..3 {
            harness.send("POST /x?a=1 one");
        }
        questions(world, 1);
        recorded(world, "approval_joined", 2);
        let [asked] = &questions(world, 1)[..] else { panic!("one") };
        assert!(asked["preview"].as_str().unwrap().starts_with("?a=1\none"), "{asked}");
        let id = asked["id"].as_str().unwrap();
        assert!(omni(world, &["approve", id]).status.success());
        for _ in 0..3 {
            assert_eq!(harness.hear().1, 200);
        }
        let late = omni(world, &["deny", id]);
        assert!(!late.status.success(), "{late:?}");
        // A changed body or query is another request, and so is the same one once more.
        for (request, asked) in [("POST /x?a=1 two", 2), ("POST /x?a=2 one", 3), ("POST /x?a=1 one", 4)] {
            harness.send(request);
            let [question] = &questions(world, 1)[..] else { panic!("one") };
            assert_eq!(question["question"], asked, "{request}");
            assert!(omni(world, &["deny", "last", "--reason", "not today"]).status.success());
            let (_, status, told) = harness.hear();
            assert!(status == 403 && told.contains("said no: not today"), "{told}");
        }
        // What was denied a moment ago is not asked about again.
        assert_eq!(harness.ask("POST /x?a=1 one").0, 403);
        assert_eq!(events(world, "approval_asked").len(), 4);
        harness.end();
        assert_eq!(upstream.came(), vec!["POST /x?a=1 one"; 3]);
    }
}

attack! {
    fn an_answer_for_the_session_is_one_to_all_that_wait_alike(world) {
        let upstream = Upstream::start(world);
        let mut harness = Harness::start(world, &upstream, &["--await-approvals", "--ask", RULE]);
        for request in ["POST /x one", "POST /x two", "POST /y three"] {
            harness.send(request);
        }
        let waiting = questions(world, 3);
        let of = |path: &str| waiting.iter().find(|asked| asked["what"].as_str().unwrap().ends_with(path)).unwrap();
        assert!(omni(world, &["approve", of("/x")["id"].as_str().unwrap(), "--session"]).status.success());
        let mut went = [harness.hear(), harness.hear()];
        went.sort();
        assert_eq!(went.map(|(what, status, _)| (what, status)), [("/x one".to_owned(), 200), ("/x two".to_owned(), 200)]);
        assert_eq!(harness.ask("POST /x four").0, 200);
        let [left] = &questions(world, 1)[..] else { panic!("one") };
        assert_eq!(left["id"], of("/y")["id"]);
        // A policy that changed meanwhile asks anew, and a rule that denies outweighs a yes.
        assert!(omni(world, &["policy", "ask", "last", "POST http://asked.example/y"]).status.success());
        assert!(omni(world, &["approve", left["id"].as_str().unwrap()]).status.success());
        let [again] = &questions(world, 1)[..] else { panic!("one") };
        assert_ne!((&again["id"], &again["digest"]), (&left["id"], &left["digest"]));
        assert!(omni(world, &["policy", "deny", "last", "* http://asked.example/y"]).status.success());
        assert!(omni(world, &["approve", again["id"].as_str().unwrap()]).status.success());
        assert_eq!(harness.hear().1, 403);
        harness.end();
        assert_eq!(upstream.came().len(), 3);
    }
}

attack! {
    fn nobody_is_flooded_and_a_question_ends_with_its_time_or_its_client(world) {
        let upstream = Upstream::start(world);
        let mut harness = Harness::start(world, &upstream, &["--await-approvals", "--ask", RULE]);
        for number in 0..33 {
            harness.send(&format!("POST /{number} x"));
        }
        let (_, status, told) = harness.hear();
        assert!(status == 403 && told.contains("32 questions wait for an answer already"), "{told}");
        assert_eq!(questions(world, 32).len(), 32);
        // Whoever asked leaves: nothing is left to answer.
        let id = world.list(&["approvals"])[0]["id"].as_str().unwrap().to_owned();
        let _ = harness.child.kill();
        drop(harness);
        assert_eq!(questions(world, 0).len(), 0);
        assert!(!omni(world, &["approve", &id]).status.success());
        let mut short = Harness::start(world, &upstream, &["--await-approvals", "--answer-within", "1s", "--ask", RULE]);
        let (status, told) = short.ask("POST /late x");
        assert!(status == 403 && told.contains("nobody answered in time"), "{told}");
        short.end();
        assert_eq!(events(world, "approval_answered")[0]["answer"], "expired");
        assert_eq!(upstream.came(), [] as [&str; 0]);
    }
}

/// A message bus of the user's own, and what a monitor on it saw.
struct Bus {
    daemon: Child,
    monitor: Child,
    address: String,
    seen: PathBuf,
}

impl Bus {
    fn start(world: &World) -> Self {
        let mut command = world.command("dbus-daemon".as_ref());
        let at = format!("--address=unix:path={}", world.place().join("bus").display());
        command.args(["--session", "--nofork", "--nopidfile", "--print-address", &at]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut daemon = command.spawn().expect("dbus-daemon is missing: scripts/test installs it");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let seen = world.place().join("seen");
        let mut command = world.command("dbus-monitor".as_ref());
        command.args(["--address", address.trim(), "interface='org.freedesktop.Notifications'"]);
        let file = std::fs::File::create(&seen).unwrap();
        let monitor = command.stdout(file).spawn().expect("dbus-monitor is missing: it comes with dbus-daemon");
        let bus = Self { daemon, monitor, address: address.trim().to_owned(), seen };
        // It says so once it looks.
        bus.wait_for("NameLost");
        bus
    }

    fn seen(&self) -> String {
        std::fs::read_to_string(&self.seen).unwrap()
    }

    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().contains(text) {
            assert!(Instant::now() < deadline, "no {text} on the bus: {}", self.seen());
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        for child in [&mut self.monitor, &mut self.daemon] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

attack! {
    fn a_desktop_is_told_that_a_question_waits_and_nothing_of_what_is_sent(world) {
        let (upstream, bus) = (Upstream::start(world), Bus::start(world));
        let run = |more: &[&str], path: &str| {
            let flags = ["--await-approvals", "--connect-to", &upstream.to, "--ask", RULE];
            let url = format!("http://asked.example/{path}?key=sk-1");
            let mut command = world.exec(&[&flags, more].concat(), &["curl", "-s", "-d", "the body", &url]);
            command.env("DBUS_SESSION_BUS_ADDRESS", &bus.address).stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.stderr(Stdio::piped()).spawn().unwrap();
            let [asked] = &questions(world, 1)[..] else { panic!("one") };
            assert!(omni(world, &["approve", "last"]).status.success());
            assert!(collect(child, b"").status.success());
            asked["id"].as_str().unwrap().to_owned()
        };
        let silent = run(&["--no-notification"], "first");
        let told = run(&[], "secret-path");
        bus.wait_for(&told);
        let seen = bus.seen();
        for part in ["member=Notify", "string \"A session of omni's asks\"", "POST asked.example: omni approve"] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        for part in [silent.as_str(), "body", "sk-1", "secret-path"] {
            assert!(!seen.contains(part), "{part}: {seen}");
        }
        assert_eq!(upstream.came().len(), 2);
    }
}

/// Speaks first on each connection that a line names, and says what came back before the end.
const UNREAD_CLIENT: &str = r#"
import queue, socket, threading
opened = queue.Queue()
def speak(host):
    with socket.create_connection((host, 7000)) as connection:
        opened.put(connection)
        connection.sendall(b"SSH-2.0-hello\r\n")
        said = b""
        try:
            while chunk := connection.recv(4096): said += chunk
        except OSError: pass
        say([host, said.decode(), 0, ""])
for line in sys.stdin:
    if line.strip() == "leave": opened.get().shutdown(socket.SHUT_RDWR)
    else: threading.Thread(target=speak, args=(line.strip(),)).start()
"#;

attack! {
    fn a_connection_that_is_not_read_waits_for_a_person_before_its_first_byte_goes_out(world) {
        let answering = crate::support::Witness::listen();
        let flags = ["--await-approvals", "--ask", "tcp://db.example:7000", "--ask", "tcp://other.example:7000"];
        let to = format!("::127.0.0.1:{}", answering.port());
        let start = || {
            let source = format!("{}\n{UNREAD_CLIENT}", crate::support::PRELUDE);
            let mut command = world.exec(&[&["--connect-to", &to], &flags[..]].concat(), &["/usr/bin/python3", "-I", "-c", &source]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap());
            Harness { child, said }
        };
        let mut harness = start();
        harness.send("db.example");
        let [asked] = &questions(world, 1)[..] else { panic!("one") };
        assert_eq!(asked["what"], "CONNECT tcp://db.example:7000");
        assert_eq!(asked["rule"], "tcp://db.example:7000");
        harness.send("db.example");
        recorded(world, "approval_joined", 1);
        assert_eq!(answering.visitors(), 0, "nobody was called before somebody said yes");
        assert!(omni(world, &["approve", "last", "--session"]).status.success());
        harness.send("db.example");
        let (mut met, deadline) = (0, Instant::now() + PATIENCE);
        while met < 3 {
            assert!(Instant::now() < deadline, "{met} of 3 connections came");
            std::thread::sleep(GLANCE);
            met += answering.visitors();
        }
        let came = [harness.hear().0, harness.hear().0, harness.hear().0];
        assert_eq!((came, met), (["db.example "; 3].map(str::to_owned), 3));
        harness.send("other.example");
        questions(world, 1);
        assert!(omni(world, &["deny", "last", "--reason", "not there"]).status.success());
        assert_eq!(harness.hear().0, "other.example ");
        assert_eq!(answering.visitors(), 0);
        let denied = events(world, "request_denied");
        assert!(denied[0]["reason"].as_str().unwrap().contains("said no: not there"), "{denied:?}");
        harness.end();
        // Whoever asks and leaves takes the question along.
        let mut harness = start();
        harness.send("db.example");
        questions(world, 1);
        harness.send("leave");
        assert_eq!(harness.hear().0, "db.example ");
        assert_eq!(recorded(world, "approval_answered", 1)[0]["answer"], "cancelled");
        assert_eq!(questions(world, 0).len(), 0);
        harness.end();
        assert_eq!(answering.visitors(), 0);
    }
}
