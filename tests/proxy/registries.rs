//! What real package managers send, told apart by its shape: each client against a registry of a few files.

use crate::support::*;
use bytes::Bytes;
use http::Response;
use omni::model::Event;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is at a registry only once something was published there.
const PUBLISHED: &str = "/index/mi/ne/mine";
const HOST: &str = "api.example.com";

/// A registry: what is at which path. Whatever is sent to it is accepted.
async fn registry(files: HashMap<String, Vec<u8>>) -> Upstream {
    let (files, published) = (Arc::new(files), AtomicBool::new(false));
    Upstream::start(&["h2", "http/1.1"], move |head, _| {
        let (feed, body) = channel();
        let mut response = Response::new(body);
        let found = match (head.method.as_str(), files.get(head.uri.path())) {
            ("GET" | "HEAD", Some(content)) if head.uri.path() != PUBLISHED || published.load(Ordering::Relaxed) => {
                content.clone()
            }
            ("GET" | "HEAD", _) => {
                *response.status_mut() = http::StatusCode::NOT_FOUND;
                Vec::new()
            }
            _ => {
                published.store(true, Ordering::Relaxed);
                br#"{"ok":true,"warnings":{"invalid_categories":[],"invalid_badges":[],"other":[]}}"#.to_vec()
            }
        };
        let kind = if head.uri.path().contains("/simple/") { "text/html" } else { "application/json" };
        response.headers_mut().insert("content-type", kind.parse().unwrap());
        feed.try_send(Ok(hyper::body::Frame::data(Bytes::from(found)))).unwrap();
        response
    })
    .await
}

/// A client's place, and what it did through a proxy with these rules.
struct Trial {
    place: tempfile::TempDir,
    proxy: Proxy,
    upstream: Upstream,
}

impl Trial {
    async fn new(files: HashMap<String, Vec<u8>>, rules: &[&str], denials: &[&str]) -> Self {
        let upstream = registry(files).await;
        let proxy = Proxy::start(Some(&upstream), Wanted { rules, denials, ..Wanted::default() });
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("ca.pem"), proxy.ca_pem()).unwrap();
        Self { place, proxy, upstream }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), contents).unwrap();
    }

    /// Runs a client in a directory of the place; whether it succeeded, and what it said.
    async fn run(&self, directory: &str, program: &str, arguments: &[&str]) -> (bool, String) {
        let ca = self.path("ca.pem");
        let proxy = format!("http://{}", self.proxy.address);
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path(directory)).stdin(Stdio::null());
        // Of the tests' own environment nothing that sets a client up.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if ["pip_", "npm_", "no_proxy", "http_proxy", "all_proxy"].iter().any(|begin| text.starts_with(begin))
                || ["_ca_bundle", "_cert_file", "_cert_dir", "_extra_ca_certs"].iter().any(|end| text.ends_with(end))
            {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.place.path()).env("https_proxy", &proxy).env("HTTPS_PROXY", &proxy);
        command.env("npm_config_cafile", &ca).env("npm_config_update_notifier", "false");
        command.env("PIP_CERT", &ca).env("PIP_CONFIG_FILE", "/dev/null").env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        command.env("CARGO_HTTP_CAINFO", &ca).env("CARGO_HOME", self.path("cargo-home"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The requests that came to the registry, as methods and paths.
    fn arrived(&self, method: &str) -> usize {
        self.upstream.seen.lock().unwrap().iter().filter(|(head, _)| head.method.as_str() == method).count()
    }

    /// What was recorded, as `verdict act`, without what has none.
    fn acts(self) -> Vec<String> {
        let act = |event: Event| match event {
            Event::RequestAllowed { act: Some(act), .. } => Some(format!("allowed {act}")),
            Event::RequestDenied { act: Some(act), .. } => Some(format!("denied {act}")),
            _ => None,
        };
        let mut acts: Vec<String> = self.proxy.stop().into_iter().filter_map(act).collect();
        acts.dedup();
        acts
    }
}

/// Whether a program is there. A machine without it skips its test and says so.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: there is no {program}");
    }
    there
}

fn file(name: &str, content: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    (name.to_owned(), content.as_ref().to_vec())
}

fn output(program: &str, place: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(place).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

const ANYTHING: &str = "* api.example.com/**";
const NO_PUBLISHING: &str = "* *:* act=package-publish";
const NO_INSTALLING: &str = "* *:* act=package-install";

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_and_publishes_as_the_rules_say() {
    if !is_there("npm") {
        return;
    }
    let packed = tempfile::tempdir().unwrap();
    std::fs::write(packed.path().join("package.json"), r#"{"name":"thing","version":"1.0.0"}"#).unwrap();
    output("npm", packed.path(), &["pack", "--offline"]);
    let tarball = std::fs::read(packed.path().join("thing-1.0.0.tgz")).unwrap();
    let document = serde_json::json!({"name": "thing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
        "name": "thing", "version": "1.0.0", "dist": {"tarball": format!("https://{HOST}/thing/-/thing-1.0.0.tgz")}}}});
    let files = || HashMap::from([file("/thing", document.to_string()), file("/thing/-/thing-1.0.0.tgz", &tarball)]);
    let registry = format!("--registry=https://{HOST}/");
    for (denial, installs, publishes) in [(NO_PUBLISHING, true, false), (NO_INSTALLING, false, true)] {
        let trial = Trial::new(files(), &[ANYTHING], &[denial]).await;
        trial.write("app/package.json", r#"{"name":"app","version":"1.0.0","private":true}"#);
        trial.write(".npmrc", format!("//{HOST}/:_authToken=x\n"));
        let install = ["install", "thing@1.0.0", &registry, "--no-audit", "--fund=false", "--fetch-retries=0"];
        let (done, said) = trial.run("app", "npm", &install).await;
        assert_eq!(done, installs, "{said}");
        trial.write("mine/package.json", r#"{"name":"@me/mine","version":"1.0.0"}"#);
        let publish = ["publish", &registry, "--access=public", "--fetch-retries=0"];
        let (done, said) = trial.run("mine", "npm", &publish).await;
        assert_eq!((done, trial.arrived("PUT") > 0), (publishes, publishes), "{said}");
        let acts = trial.acts();
        let verdict = |allowed| if allowed { "allowed" } else { "denied" };
        let expected = [format!("{} npm-install", verdict(installs)), format!("{} npm-publish", verdict(publishes))];
        assert!(expected.iter().all(|act| acts.contains(act)), "{acts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_and_uploads_are_told_apart() {
    const WHEEL: &str = "\
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('thing.py', '')
    wheel.writestr('thing-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: thing\\nVersion: 1.0\\n')
    wheel.writestr('thing-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('thing-1.0.dist-info/RECORD', '')";
    if !is_there("python3") {
        return;
    }
    let name = "thing-1.0-py3-none-any.whl";
    let built = tempfile::tempdir().unwrap();
    output("python3", built.path(), &["-c", WHEEL, name]);
    let wheel = std::fs::read(built.path().join(name)).unwrap();
    let list = format!("<a href=\"https://{HOST}/packages/{name}\">{name}</a>");
    let files = || HashMap::from([file("/simple/thing/", &list), file(&format!("/packages/{name}"), &wheel)]);
    let index = format!("https://{HOST}/simple/");
    let download = ["-m", "pip", "download", "--no-deps", "--retries=0", "-i", &index, "thing"];
    let trial = Trial::new(files(), &["GET api.example.com/** act=pypi-install"], &[]).await;
    let (done, said) = trial.run(".", "python3", &download).await;
    assert!(done, "{said}");
    // As `twine` and its like upload; none of them is a part of Python.
    let url = format!("https://{HOST}/legacy/");
    let upload = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", "ca.pem", "-F", "content=@ca.pem", &url];
    assert_eq!(trial.run(".", "curl", &upload).await, (true, "403".to_owned()));
    assert_eq!(trial.arrived("POST"), 0);
    assert_eq!(trial.acts(), ["allowed pypi-install", "denied pypi-publish"]);
    let trial = Trial::new(files(), &[ANYTHING], &[NO_INSTALLING]).await;
    let (done, said) = trial.run(".", "python3", &download).await;
    assert!(!done, "{said}");
    assert_eq!((trial.upstream.requests(), trial.acts()), (0, vec!["denied pypi-install".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cargo_publishes_and_fetches_as_the_rules_say() {
    if !is_there("cargo") {
        return;
    }
    let config = serde_json::json!({"dl": format!("https://{HOST}/api/v1/crates"), "api": format!("https://{HOST}")});
    let entry = |name: &str| {
        let sum = "0".repeat(64);
        format!(r#"{{"name":"{name}","vers":"1.0.0","deps":[],"cksum":"{sum}","features":{{}},"yanked":false}}"#) + "\n"
    };
    let files = || {
        let config = file("/index/config.json", config.to_string());
        HashMap::from([config, file("/index/th/in/thing", entry("thing")), file(PUBLISHED, entry("mine"))])
    };
    let registries = format!("[registries.local]\nindex = \"sparse+https://{HOST}/index/\"\n[net]\nretry = 0\n");
    let manifest =
        "[package]\nname = \"mine\"\nversion = \"1.0.0\"\nedition = \"2021\"\ndescription = \"d\"\nlicense = \"MIT\"\n";
    for (denial, publishes, fetches) in [(NO_PUBLISHING, false, true), (NO_INSTALLING, true, false)] {
        let trial = Trial::new(files(), &[ANYTHING], &[denial]).await;
        trial.write("cargo-home/config.toml", &registries);
        trial.write("mine/Cargo.toml", manifest);
        trial.write("mine/src/lib.rs", "");
        let publish = ["publish", "--registry=local", "--token=x", "--no-verify", "--allow-dirty"];
        let (done, said) = trial.run("mine", "cargo", &publish).await;
        assert_eq!((done, trial.arrived("PUT")), (publishes, usize::from(publishes)), "{said}");
        trial.write(
            "app/Cargo.toml",
            format!("{manifest}[dependencies]\nthing = {{ version = \"1\", registry = \"local\" }}\n"),
        );
        trial.write("app/src/lib.rs", "");
        // What comes has not the sum that the index says: that it was asked for is what counts.
        trial.run("app", "cargo", &["fetch"]).await;
        let acts = trial.acts();
        let verdict = |allowed| if allowed { "allowed" } else { "denied" };
        let expected = [format!("{} cargo-publish", verdict(publishes)), format!("{} cargo-install", verdict(fetches))];
        assert!(expected.iter().all(|act| acts.contains(act)), "{acts:?}");
    }
}
