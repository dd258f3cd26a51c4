//! Client programs in the sandbox, each told of no proxy: what is allowed answers, what is not is refused with a message,
//! and nothing else on this machine hears of it.

use crate::host;
use crate::server::{ALLOWED, Canary, Pages, REFUSED, Server};
use crate::stage::{Actor, Stage, text};
use std::path::PathBuf;
use std::process::{Command, Output};

pub const HELLO: &str = "Hello from the allowed host.";
/// What a refusal says, for programs that show it.
const MESSAGE: &str = "omni refused GET https://refused.example/";
/// What is left of it in programs that show nothing but the status.
pub const STATUS: &str = "403";
pub const COMMIT: &str = "3f786850e387550fdab836ed7e6dc881de23001b";

/// One client: what it runs for a URL, and what it then says.
pub struct Client {
    pub program: &'static str,
    /// A shell command that asks for `$URL`; `$TOOL` is its program, where that is not the system's.
    pub command: &'static str,
    /// What of the allowed host it asks for, and what it then prints.
    pub page: &'static str,
    pub answer: &'static str,
    /// What it prints when it is refused.
    pub refusal: &'static str,
    /// Finds its program, where that is not the system's.
    pub tool: Option<fn(&Stage) -> Option<Tool>>,
}

/// A program that the sandbox does not show by itself.
pub struct Tool {
    pub program: PathBuf,
    /// What has to be shown for it to run.
    pub shown: PathBuf,
}

/// What one trial needs besides its client.
struct Outside {
    server: Server,
    canary: Canary,
}

impl Client {
    pub fn try_everybody(&self, pages: impl Fn() -> Pages) {
        for actor in Actor::all() {
            let stage = Stage::new(*actor);
            let there = || match self.tool {
                None => host::has(*actor, self.program),
                Some(find) => find(&stage).is_some(),
            };
            if host::has_sandboxes() && there() {
                self.try_on(&stage, pages());
            }
        }
    }

    fn try_on(&self, stage: &Stage, pages: Pages) {
        let actor = stage.actor;
        let outside = Outside { server: Server::start(pages), canary: Canary::set() };
        stage.write(&stage.path("server.pem"), &outside.server.ca_pem);

        let allowed = self.ask(stage, &outside, &format!("https://{ALLOWED}{}", self.page));
        assert!(allowed.status.success(), "{} {actor:?}: {}", self.program, said(&allowed));
        assert!(said(&allowed).contains(self.answer), "{} {actor:?}: {}", self.program, said(&allowed));

        let refused = self.ask(stage, &outside, &format!("https://{REFUSED}/"));
        assert!(said(&refused).contains(self.refusal), "{} {actor:?}: {}", self.program, said(&refused));
        let story = stage.last_session();
        let denied = story["requests"].as_array().unwrap().iter().filter(|request| request["verdict"] == "denied");
        assert_ne!(denied.count(), 0, "{}: {story}", self.program);

        let port = outside.canary.port;
        for address in ["127.0.0.1".to_owned(), "[::1]".to_owned(), own_address()] {
            let strayed = self.ask(stage, &outside, &format!("http://{address}:{port}/"));
            assert!(!said(&strayed).contains(self.answer), "{} {actor:?}: {}", self.program, said(&strayed));
        }
        assert!(!outside.canary.was_reached(), "{} reached this machine's own listener", self.program);
        let seen = outside.server.hosts_seen();
        assert!(!seen.is_empty() && seen.iter().all(|host| host == ALLOWED), "{} {actor:?}: {seen:?}", self.program);
    }

    fn ask(&self, stage: &Stage, outside: &Outside, url: &str) -> Output {
        let server = outside.server.address;
        let (to_allowed, to_refused) = (format!("{ALLOWED}:443:{server}"), format!("{REFUSED}:443:{server}"));
        let (rule, url) = (format!("GET,HEAD {ALLOWED}/**"), format!("URL={url}"));
        let ca = stage.path("server.pem").display().to_string();
        let mut arguments = vec!["exec", "--allow", &rule, "--connect-to", &to_allowed, "--connect-to", &to_refused];
        let tool = self
            .tool
            .and_then(|find| find(stage))
            .map(|Tool { program, shown }| (format!("{}:ro", shown.display()), format!("TOOL={}", program.display())));
        if let Some((shown, tool)) = &tool {
            arguments.extend(["--mount", shown, "--env", tool]);
        }
        arguments.extend(["--upstream-ca", &ca, "--env", &url, "--", "sh", "-c", self.command]);
        stage.run(&arguments)
    }
}

/// An address of this machine that is no loopback, if it has one; else another of loopback.
fn own_address() -> String {
    let output = Command::new("hostname").arg("-I").output();
    let all = output.map(|output| text(&output.stdout)).unwrap_or_default();
    let address = all.split_whitespace().find(|address| address.contains('.'));
    address.unwrap_or("127.0.0.2").to_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

pub fn page(path: &str, kind: &'static str, body: impl Into<Vec<u8>>) -> Pages {
    Pages::from([(path.to_owned(), (kind, body.into()))])
}

pub fn hello() -> Pages {
    page("/hello", "text/plain", HELLO)
}

pub const PLAIN: Client =
    Client { program: "", command: "", page: "/hello", answer: HELLO, refusal: MESSAGE, tool: None };

#[test]
fn curl() {
    Client { program: "curl", command: r#"curl -sS --max-time 20 "$URL""#, ..PLAIN }.try_everybody(hello);
}

#[test]
fn wget() {
    let command = r#"wget -q -O- -t 1 -T 20 --content-on-error "$URL""#;
    Client { program: "wget", command, ..PLAIN }.try_everybody(hello);
}

#[test]
fn git() {
    let references = format!("{COMMIT}\trefs/heads/main\n");
    let command = r#"git ls-remote "$URL""#;
    let client =
        Client { program: "git", command, page: "/project.git", answer: "refs/heads/main", refusal: STATUS, ..PLAIN };
    client.try_everybody(|| page("/project.git/info/refs", "text/plain", references.clone()));
}

#[test]
fn python_urllib() {
    let command = r#"python3 -c '
import os, urllib.error, urllib.request
try: print(urllib.request.urlopen(os.environ["URL"], timeout=20).read().decode())
except urllib.error.HTTPError as refusal: print(refusal.read().decode())'"#;
    Client { program: "python3", command, ..PLAIN }.try_everybody(hello);
}

#[test]
fn python_requests() {
    let command = r#"python3 -c '
import os, requests
print(requests.get(os.environ["URL"], timeout=20).text)'"#;
    if host::has_python_module("requests") {
        Client { program: "python3", command, ..PLAIN }.try_everybody(hello);
    }
}

#[test]
fn node_fetch() {
    let command = r#"node -e 'fetch(process.env.URL).then(answer => answer.text()).then(console.log)'"#;
    Client { program: "node", command, ..PLAIN }.try_everybody(hello);
}

#[test]
fn pip() {
    let command = r#"python3 -m pip --isolated --disable-pip-version-check --retries 0 --timeout 20 install -vv \
        --index-url "$URL" --target installed omni-probe && cat installed/omni_probe.py"#;
    if host::has_python_module("pip") {
        let client = Client { program: "python3", command, page: "/simple/", refusal: STATUS, ..PLAIN };
        client.try_everybody(package_index);
    }
}

/// A package index with one package, made by Python's own zip.
pub fn package_index() -> Pages {
    let stage = Stage::new(Actor::Tester);
    let wheel = stage.path("omni_probe-1.0-py3-none-any.whl");
    let made = Command::new("python3")
        .arg("-c")
        .arg(format!(
            "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('omni_probe.py', '# {HELLO}')
    wheel.writestr('omni_probe-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: omni-probe\\nVersion: 1.0\\n')
    wheel.writestr('omni_probe-1.0.dist-info/WHEEL',
                   'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('omni_probe-1.0.dist-info/RECORD', '')"
        ))
        .arg(&wheel)
        .status();
    assert!(made.unwrap().success());
    let link = "<!DOCTYPE html><a href=\"/omni_probe-1.0-py3-none-any.whl\">omni_probe-1.0-py3-none-any.whl</a>";
    let mut pages = page("/simple/omni-probe/", "text/html", link);
    let wheel = std::fs::read(&wheel).unwrap();
    pages.extend(page("/omni_probe-1.0-py3-none-any.whl", "application/octet-stream", wheel));
    pages
}

#[test]
fn npm() {
    let command = r#"npm install --registry "$URL" --fetch-retries 0 --fetch-timeout 20000 --no-audit --no-fund \
        omni-probe && cat node_modules/omni-probe/hello.txt"#;
    let client = Client { program: "npm", command, page: "/", refusal: STATUS, ..PLAIN };
    client.try_everybody(package_registry);
}

/// A registry of packages with one package, made by tar.
pub fn package_registry() -> Pages {
    let stage = Stage::new(Actor::Tester);
    let package = stage.path("package");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("package.json"), r#"{"name":"omni-probe","version":"1.0.0"}"#).unwrap();
    std::fs::write(package.join("hello.txt"), HELLO).unwrap();
    let archive = stage.path("package.tgz");
    let made = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(stage.path("")).arg("package").status();
    assert!(made.unwrap().success());
    let tarball = format!("https://{ALLOWED}/omni-probe-1.0.0.tgz");
    let version = serde_json::json!({ "name": "omni-probe", "version": "1.0.0", "dist": { "tarball": tarball } });
    let all = serde_json::json!({
        "name": "omni-probe", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version },
    });
    let mut pages = page("/omni-probe", "application/json", all.to_string());
    pages.extend(page("/omni-probe-1.0.0.tgz", "application/octet-stream", std::fs::read(&archive).unwrap()));
    pages
}

#[test]
fn the_canary_sings_when_it_is_reached() {
    let canary = Canary::set();
    assert!(!canary.was_reached());
    drop(std::net::TcpStream::connect(("127.0.0.1", canary.port)).unwrap());
    assert!(canary.was_reached());
}
