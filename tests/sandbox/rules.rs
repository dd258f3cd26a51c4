//! Rules on what a harness sends, tried from inside with real programs, and rules that come while it runs.

use crate::support::{World, collect, finish};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server of the host: git's own over http for what lies in its directory, and a greeting for everything else.
const SERVER: &str = r#"
import http.server, os, subprocess, sys
root = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        whole = b""
        while True:
            size = int(self.rfile.readline(), 16)
            whole += self.rfile.read(size)
            self.rfile.readline()
            if size == 0: return whole
    def answer(self):
        body = self.body()
        path, _, query = self.path.partition("?")
        status, fields, content = 200, [("Content-Type", "text/plain")], b"hello"
        if path.startswith("/me/"):
            environment = dict(os.environ, GIT_PROJECT_ROOT=root, GIT_HTTP_EXPORT_ALL="1", REQUEST_METHOD=self.command,
                PATH_INFO=path, QUERY_STRING=query, CONTENT_TYPE=self.headers.get("content-type", ""),
                CONTENT_LENGTH=str(len(body)), GIT_PROTOCOL=self.headers.get("git-protocol", ""),
                REMOTE_USER="t", REMOTE_ADDR="127.0.0.1")
            out = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=environment).stdout
            head, _, content = out.partition(b"\r\n\r\n")
            fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
            status = next((int(value[:3]) for name, value in fields if name == "Status"), 200)
        self.send_response(status)
        for name, value in fields:
            if name != "Status": self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_GET = do_POST = do_PUT = answer
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// A running server, ended with its test.
struct Server {
    child: Child,
    to: String,
}

impl Server {
    fn start(world: &World) -> Self {
        let root = served(world);
        std::fs::create_dir(&root).unwrap();
        world.give(&root);
        let mut command = world.command(Path::new("/usr/bin/python3"));
        command.args(["-I", "-c", SERVER]).arg(&root).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
        Self { child, to: format!("git.example:80:127.0.0.1:{}", port.trim()) }
    }

    /// Flags that lead to it, with these rules.
    fn flags<'a>(&'a self, rules: &[&'a str]) -> Vec<&'a str> {
        let rules = rules.iter().flat_map(|rule| ["--allow", rule]);
        ["--connect-to", &self.to].into_iter().chain(rules).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn served(world: &World) -> PathBuf {
    world.place().join("served")
}

/// Runs git outside as the user, and gives what it printed.
fn git(world: &World, place: &Path, words: &str) -> String {
    let mut command = world.command(Path::new("git"));
    command.arg("-C").arg(place);
    for setting in ["user.name=t", "user.email=t@example.com", "init.defaultBranch=main"] {
        command.args(["-c", setting]);
    }
    let outcome = finish(with(command, words), b"");
    assert!(outcome.status.success(), "{words}: {outcome:?}");
    outcome.text()
}

fn with(mut command: Command, words: &str) -> Command {
    command.args(words.split(' '));
    command
}

/// A repository at the server, and the workspace as a clone of it that is one commit ahead.
fn repository(world: &World) {
    git(world, &served(world), "init -q --bare me/it.git");
    git(world, &served(world).join("me/it.git"), "config http.receivepack true");
    let workspace = world.workspace();
    git(world, &workspace, "init -q");
    git(world, &workspace, "commit -q --allow-empty -m first");
    git(world, &workspace, &format!("push -q {} main", served(world).join("me/it.git").display()));
    git(world, &workspace, "remote add origin http://git.example/me/it.git");
    git(world, &workspace, "commit -q --allow-empty -m second");
}

fn events(world: &World, kind: &str) -> Vec<Value> {
    let mut all = world.list(&["audit", "log", "--session", "last"]);
    all.retain(|event| event["event"] == kind);
    all
}

attack! {
    fn cannot_push_to_another_branch_than_the_rules_name(world) {
        let server = Server::start(world);
        repository(world);
        let flags = server.flags(&["GET,POST http://git.example/me/it.git/** push=feature/*"]);
        let of = |name: &str| git(world, &served(world).join("me/it.git"), &format!("rev-parse --verify {name}"));
        let before = of("main");
        for refspec in ["main", "main:refs/tags/v1", ":main", "main:feature/a/b", "+main:main", "main:feature/ok main:main"] {
            let outcome = world.shell(&flags, &format!("git push origin {refspec}"));
            assert!(!outcome.status.success() && outcome.stderr.contains("(refused by omni)"), "{refspec}: {outcome:?}");
            assert!(outcome.stderr.contains("remote: omni refused POST http://git.example/me/it.git/git-receive-pack"), "{outcome:?}");
        }
        let left = git(world, &served(world).join("me/it.git"), "for-each-ref --format=%(refname)");
        assert_eq!((of("main"), left.as_str()), (before, "refs/heads/main\n"));
        // The control: the branch that is named arrives.
        let outcome = world.shell(&flags, "git push origin main:feature/a");
        assert!(outcome.status.success(), "{outcome:?}");
        assert_eq!(of("feature/a"), git(world, &world.workspace(), "rev-parse main"));
        let pushed = events(world, "push_read");
        let updates: Vec<&Value> = pushed.iter().map(|event| &event["updates"]).collect();
        assert_eq!(updates, [&json!([]), &json!(["create refs/heads/feature/a"])]);
        assert_eq!(pushed[1]["repository"], "/me/it.git");
    }
}

/// One request after another over one connection, each when a line comes; prints its status.
const CLIENT: &str = "\
import http.client
connection = http.client.HTTPConnection('git.example')
for line in sys.stdin:
    connection.request('GET', line.strip())
    answer = connection.getresponse()
    answer.read()
    say(answer.status)";

/// The harness, as one that is told what to ask for.
struct Asking {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Asking {
    fn start(world: &World, flags: &[&str]) -> Self {
        let source = format!("{}\n{CLIENT}", crate::support::PRELUDE);
        let mut command = world.exec(flags, &["/usr/bin/python3", "-I", "-c", &source]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn ask(&mut self, path: &str) -> u16 {
        writeln!(self.child.stdin.as_mut().unwrap(), "{path}").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().parse().unwrap_or_else(|_| panic!("{path}: {line:?}"))
    }
}

attack! {
    fn a_rule_that_comes_while_it_runs_counts_at_once_and_opens_nothing_that_is_denied(world) {
        let server = Server::start(world);
        let policy = world.place().join("organisation.yaml");
        world.write(&policy, "type: egress\nrules:\n  - deny: \"* http://git.example/secret/**\"\n");
        let mut flags = server.flags(&[]);
        flags.extend(["--policy", policy.to_str().unwrap()]);
        let mut harness = Asking::start(world, &flags);
        assert_eq!(harness.ask("/a"), 403);
        let give = |effect: &str, rule: &str| {
            let mut command = world.omni();
            command.args(["policy", effect, "last", rule]);
            finish(command, b"")
        };
        let given = give("allow", "GET http://git.example/**");
        assert!(given.status.success() && given.text().contains("allow GET http://git.example/**"), "{given:?}");
        assert_eq!((harness.ask("/a"), harness.ask("/secret/a")), (200, 403));
        assert!(give("deny", "* http://git.example/b").status.success());
        assert_eq!((harness.ask("/a"), harness.ask("/b")), (200, 403));
        assert!(give("limit", "* http://git.example rate=1/h").status.success());
        assert_eq!((harness.ask("/a"), harness.ask("/a")), (200, 429));
        let wrong = give("allow", "GET http://*");
        assert!(!wrong.status.success() && wrong.stderr.contains("allows every host there is"), "{wrong:?}");
        let outcome = collect(harness.child, b"");
        assert!(outcome.status.success(), "{outcome:?}");
        let added = events(world, "rule_added");
        let rules: Vec<&Value> = added.iter().map(|event| &event["rule"]).collect();
        assert_eq!(rules, ["allow GET http://git.example/**", "deny * http://git.example/b", "limit * http://git.example/** rate=1/h"]);
        assert!(added.iter().all(|event| event["user"].as_str().is_some_and(|user| !user.is_empty())), "{added:?}");
        // And nothing is left to add to.
        assert!(give("allow", "GET http://git.example/**").stderr.contains("does not run"));
    }
}

attack! {
    fn a_workspaces_own_policy_makes_things_stricter_and_cannot_be_changed_from_inside(world) {
        let server = Server::start(world);
        let own = world.workspace().join(".omni/policy.yaml");
        world.write(&own, "type: egress\nrules:\n  - deny: \"* http://git.example/secret/**\"\n");
        let flags = server.flags(&["* http://git.example/**"]);
        let ask = |path: &str| format!("curl -s -o /dev/null -w '%{{http_code}} ' http://git.example{path}");
        let outcome = world.shell(&flags, &format!("{}; {}", ask("/a"), ask("/secret/a")));
        assert_eq!(outcome.text(), "200 403 ", "{outcome:?}");
        let [denied] = &events(world, "request_denied")[..] else { panic!("one") };
        assert_eq!(denied["rule_from"], "project .omni/policy.yaml:3");
        let mut explain = world.omni();
        explain.args(["policy", "explain", "GET", "http://git.example/secret/a"]);
        assert!(finish(explain, b"").text().contains("(project, .omni/policy.yaml:3)"));
        // From inside it is there to read, and nothing else; nor can one be made where there is none.
        for act in ["echo > .omni/policy.yaml", "rm .omni/policy.yaml", "mv .omni other", "rm -r .omni", "echo x > .omni/more"] {
            assert!(!world.shell(&flags, act).status.success(), "{act}");
        }
        assert!(world.shell(&flags, "cat .omni/policy.yaml").status.success());
        std::fs::remove_dir_all(own.parent().unwrap()).unwrap();
        assert!(!world.shell(&flags, "mkdir .omni").status.success());
        assert!(world.shell(&flags, &ask("/secret/a")).text().starts_with("200"), "the control: without it this goes");
        world.write(&own, "type: egress\nrules:\n  - allow: \"* http://git.example/**\"\n");
        let refused = world.shell(&flags, "true");
        assert!(refused.code() == Some(125) && refused.stderr.contains(".omni/policy.yaml:3:13: a workspace cannot allow anything"), "{refused:?}");
        std::fs::remove_file(&own).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &own).unwrap();
        let refused = world.shell(&flags, "true");
        assert!(refused.code() == Some(125) && refused.stderr.contains("make it a plain file"), "{refused:?}");
    }
}
