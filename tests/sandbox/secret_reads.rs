//! Files that look like secrets and are shown: that one was read is known before anything is decided after it, however it was
//! read. A server outside is the witness of what went.

use crate::approvals::{events, omni, questions};
use crate::support::{World, collect};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long bytes may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether they have.
const GLANCE: Duration = Duration::from_millis(20);

/// A server that answers requests, and otherwise nothing, and writes down every byte that came.
const SERVER: &str = r#"
import socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def serve(connection):
    while True:
        try: said = connection.recv(65536)
        except OSError: return
        if not said: return
        with open(sys.argv[1], "ab") as log: log.write(said)
        if said.startswith(b"GET "): connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

/// Does what each line says, in its order, and says what came of it.
const CLIENT: &str = r#"
import http.client, mmap, os, socket
held = {}
def get(path):
    connection = http.client.HTTPConnection("a.example")
    connection.request("GET", path)
    answer = connection.getresponse()
    return [answer.status, answer.read().decode()]
def read(path):
    with open(path) as file: return file.read()
def mapped(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory: return bytes(memory).decode()
def linked(path):
    os.link(path, "innocent"); return read("innocent")
def renamed(path):
    os.rename(path, "harmless"); return read("harmless")
def pointed(path):
    os.symlink(path, "pointer"); return read("pointer")
def appended(path):
    with open(path, "a") as file: file.write("more")
    return read(path)
def run(path):
    reader = os.popen("/bin/cat " + path); return reader.read()
def begin(port, host, text):
    held["it"] = socket.create_connection((host, port)); held["it"].sendall(text.encode())
    return "begun"
def go_on(text):
    try:
        held["it"].sendall(text.encode()); held["it"].settimeout(30)
        return held["it"].recv(65536).decode()
    except OSError as error: return "broken"
for line in sys.stdin:
    verb, *rest = json.loads(line)
    say(globals()[verb](*rest))
"#;

struct Witness {
    child: Child,
    port: String,
    log: PathBuf,
}

impl Witness {
    fn start(world: &World) -> Self {
        let log = world.place().join("bytes");
        world.write(&log, "");
        let mut command = world.command(Path::new("/usr/bin/python3"));
        command.args(["-I", "-c", SERVER]).arg(&log).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
        Self { child, port: port.trim().to_owned(), log }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn await_bytes(&self, bytes: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.heard().contains(bytes) {
            assert!(Instant::now() < deadline, "`{bytes}` does not come: {}", self.heard());
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Harness {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Harness {
    fn start(world: &World, witness: &Witness, flags: &[&str]) -> Self {
        let source = format!("{}\n{CLIENT}", crate::support::PRELUDE);
        let to = format!("::127.0.0.1:{}", witness.port);
        let open = ["--connect-to", &to, "--allow", "* http://a.example/**", "--allow", "tcp://b.example:7000"];
        let mut command = world.exec(&[&open, flags].concat(), &["/usr/bin/python3", "-I", "-c", &source]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn tell(&mut self, words: Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{words}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"))
    }

    fn does(&mut self, words: Value) -> Value {
        self.tell(words);
        self.hear()
    }

    fn get(&mut self, path: &str) -> u64 {
        self.does(json!(["get", path]))[0].as_u64().unwrap()
    }

    fn end(self) {
        let outcome = collect(self.child, b"");
        assert!(outcome.status.success(), "{outcome:?}");
    }
}

/// What closes the way out, and a profile that shows some secrets.
const AFTER: &str = "type: condition\nname: closed\neffect: deny\ncondition: size(history.secret_files) > 0\n";

fn flags(world: &World, policy: &str, workspace: &str) -> Vec<String> {
    let path = |name: &str| world.place().join(name);
    world.write(&path("organisation.yaml"), policy);
    let profile = format!(
        "name: shown\nfilesystem:\n  workspace: {workspace}\n  secret_files: {{ allow: [.env.test, certs/**] }}\n"
    );
    world.write(&path("shown.yaml"), &profile);
    for name in [".env.test", "certs/own.pem", "plain", ".env"] {
        world.write(&world.workspace().join(name), &format!("the text of {name}"));
    }
    let name = |name: &str| path(name).display().to_string();
    vec!["--profile".to_owned(), name("shown.yaml"), "--policy".to_owned(), name("organisation.yaml")]
}

fn start(world: &World, witness: &Witness, flags: &[String]) -> Harness {
    Harness::start(world, witness, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Reads a file in one way, after it was shown that reading others changes nothing.
fn try_way(world: &World, witness: &Witness, workspace: &str, way: &str, file: &str) {
    for name in ["innocent", "harmless", "pointer"] {
        let _ = std::fs::remove_file(world.workspace().join(name));
    }
    let flags = flags(world, AFTER, workspace);
    let mut harness = start(world, witness, &flags);
    assert_eq!(harness.does(json!(["read", "plain"])), "the text of plain");
    assert_eq!(harness.does(json!(["read", ".env"])), "", "hidden, and no secret is read by it");
    assert_eq!(harness.get("/before"), 200, "{way}");
    let read = harness.does(json!([way, file]));
    assert!(read.as_str().unwrap().starts_with(&format!("the text of {file}")), "{way}: {read}");
    let refused = harness.does(json!(["get", "/stolen"]));
    assert_eq!(refused[0], 403, "{workspace} {way}");
    assert!(refused[1].as_str().unwrap().contains("the condition `closed: "), "{refused}");
    harness.end();
    let told = events(world, "secret_file_read");
    assert!(told.len() == 1 && told[0]["path"] == file, "{workspace} {way}: {told:?}");
}

attack! {
    fn nothing_goes_out_once_a_secret_file_was_read_in_whatever_way(world) {
        let witness = Witness::start(world);
        for (workspace, way, file) in [
            ("direct", "read", ".env.test"),
            ("direct", "linked", "certs/own.pem"),
            ("direct", "renamed", ".env.test"),
            ("overlay", "mapped", ".env.test"),
            ("overlay", "appended", "certs/own.pem"),
            ("overlay", "renamed", ".env.test"),
            ("overlay", "linked", ".env.test"),
            ("read-only", "run", ".env.test"),
        ] {
            try_way(world, &witness, workspace, way, file);
        }
        assert!(witness.heard().contains("GET /before") && !witness.heard().contains("/stolen"));
    }
}

attack! {
    fn what_was_begun_before_a_secret_file_was_read_sends_nothing_after_it(world) {
        let witness = Witness::start(world);
        let flags = flags(world, AFTER, "direct");
        let head = "POST /upload HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        for (begin, first, second) in [
            (json!(["begin", 80, "a.example", head]), "first", "6\r\nstolen\r\n0\r\n\r\n"),
            (json!(["begin", 7000, "b.example", "SSH-2.0-unread\r\n"]), "unread", "stolen"),
        ] {
            let mut harness = start(world, &witness, &flags);
            assert_eq!(harness.does(begin), "begun");
            witness.await_bytes(first);
            assert_ne!(harness.does(json!(["read", ".env.test"])), "");
            let answer = harness.does(json!(["go_on", second]));
            assert!(answer == "" || answer == "broken" || answer.as_str().unwrap().contains(" 403 "), "{answer}");
            harness.end();
        }
        assert!(!witness.heard().contains("stolen"), "{}", witness.heard());
        // Where nothing forbids it, it goes.
        let open = flags_without_policy(world, &flags);
        let mut harness = start(world, &witness, &open);
        assert_eq!(harness.does(json!(["begin", 7000, "b.example", "SSH-2.0-again\r\n"])), "begun");
        witness.await_bytes("again");
        assert_ne!(harness.does(json!(["read", ".env.test"])), "");
        harness.tell(json!(["go_on", "stolen"]));
        witness.await_bytes("stolen");
        drop(witness);
        harness.hear();
        harness.end();
        assert_eq!(events(world, "secret_file_read")[0]["path"], ".env.test", "recorded, asked for or not");
    }
}

fn flags_without_policy(world: &World, flags: &[String]) -> Vec<String> {
    world.write(&world.place().join("organisation.yaml"), "type: egress\nrules: []\n");
    flags.to_vec()
}

attack! {
    fn a_gate_asks_once_a_secret_file_was_read_and_one_that_cannot_be_watched_counts_as_read(world) {
        let witness = Witness::start(world);
        let gate = "type: gate\nname: look\nrule: '* http://a.example/**'\nafter: secret-file\n";
        let mut all = flags(world, gate, "overlay");
        all.push("--await-approvals".to_owned());
        let mut harness = start(world, &witness, &all);
        assert_eq!(harness.get("/one"), 200);
        assert_ne!(harness.does(json!(["read", "certs/own.pem"])), "");
        harness.tell(json!(["get", "/two"]));
        assert_eq!(questions(world, 1)[0]["what"], "GET http://a.example/two");
        assert!(omni(world, &["approve", "last"]).status.success());
        assert_eq!(harness.hear()[0], 200);
        harness.end();
        // A policy that is tested later knows of it, too.
        let tested = omni(world, &["policy", "test", "--session", "last", &all[3]]);
        assert_eq!(tested.code(), Some(0), "{tested:?}");
        // One file by two names is two behind an overlay.
        let plain = world.workspace().join("twin");
        std::fs::hard_link(world.workspace().join(".env.test"), &plain).unwrap();
        let mut harness = start(world, &witness, &flags(world, AFTER, "overlay"));
        assert_eq!(harness.get("/three"), 403);
        harness.end();
        let told = events(world, "secret_file_read");
        assert!(told[0]["path"].as_str().unwrap().contains("could be watched"), "{told:?}");
        std::fs::remove_file(plain).unwrap();
    }
}
