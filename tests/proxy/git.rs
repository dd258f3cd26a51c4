//! Real pushes with the real git, through the proxy, to git's own server, whose repository is the witness.

use crate::support::*;
use bytes::Bytes;
use http::{Response, request};
use http_body_util::{BodyExt, Full};
use omni::model::Event;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// git's own server as its documentation has it: one process a request (git-http-backend(1)).
fn backend(root: &Path, head: &request::Parts, body: &Bytes) -> Answer {
    let header =
        |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REMOTE_USER", "tester")
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = body.clone();
    // It may refuse before it has read everything.
    let feeding = std::thread::spawn(move || stdin.write_all(&sent));
    let out = child.wait_with_output().unwrap().stdout;
    let _ = feeding.join();
    let end = out.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (fields, content) = (String::from_utf8_lossy(&out[..end]).into_owned(), &out[end + 4..]);
    let (feed, answer) = channel();
    feed.try_send(Ok(hyper::body::Frame::data(Bytes::copy_from_slice(content)))).unwrap();
    let mut response = Response::new(answer);
    for line in fields.lines() {
        let (name, value) = line.split_once(':').unwrap();
        match name {
            "Status" => *response.status_mut() = value.trim()[..3].parse().unwrap(),
            name => drop(
                response.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.trim().parse().unwrap()),
            ),
        }
    }
    response
}

/// A server of large files that takes everything and remembers nothing (the Git LFS API).
fn large_files(path: &str, body: &Bytes) -> Answer {
    let answer = if path.ends_with("/objects/batch") {
        let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
        let (oid, size) = (&asked["objects"][0]["oid"], &asked["objects"][0]["size"]);
        let href = format!("https://api.example.com/store/{}", oid.as_str().unwrap());
        serde_json::json!({"transfer": "basic", "objects": [{"oid": oid, "size": size, "actions": {"upload": {"href": href}}}]})
    } else {
        serde_json::json!({"ours": [], "theirs": []})
    };
    let mut response = Response::new(text(&answer.to_string()));
    response.headers_mut().insert("content-type", "application/vnd.git-lfs+json".parse().unwrap());
    response
}

/// A repository at a server, a clone of it, and a proxy between them.
struct Bench {
    place: TempDir,
    proxy: Proxy,
    upstream: Upstream,
}

impl Bench {
    async fn new(rules: &[&str], denials: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let (root, here) = (place.path().join("served"), place.path().join("clone"));
        std::fs::create_dir(&root).unwrap();
        run(git(place.path()).args(["init", "-q", "--bare", "-b", "main", "served/me/it.git"]));
        run(git(&root.join("me/it.git")).args(["config", "http.receivepack", "true"]));
        run(git(&root.join("me/it.git")).args(["config", "receive.advertisePushOptions", "true"]));
        run(git(&root.join("me/it.git")).args(["config", "receive.certNonceSeed", "seed"]));
        run(git(place.path()).args(["init", "-q", "-b", "main", "clone"]));
        let served = root.clone();
        let upstream = Upstream::start(&["h2", "http/1.1"], move |head, body| match head.uri.path() {
            path if path.contains("/info/lfs/") || path.starts_with("/store/") => large_files(path, body),
            _ => backend(&served, head, body),
        })
        .await;
        let proxy = Proxy::start(Some(&upstream), Wanted { rules, denials, ..Wanted::default() });
        std::fs::write(place.path().join("ca.pem"), proxy.ca_pem()).unwrap();
        let bench = Self { place, proxy, upstream };
        bench.commit("first");
        run(git(&here).args(["push", "-q", root.join("me/it.git").to_str().unwrap(), "main"]));
        run(git(&here).args(["remote", "add", "origin", "https://api.example.com/me/it.git"]));
        bench
    }

    fn clone(&self) -> PathBuf {
        self.place.path().join("clone")
    }

    fn commit(&self, name: &str) {
        run(git(&self.clone()).args(["commit", "-q", "--allow-empty", "-m", name]));
    }

    /// Git through the proxy; whether it succeeded, and what it said.
    async fn git(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = git(&self.clone());
        command
            .env("https_proxy", format!("http://{}", self.proxy.address))
            .env("GIT_SSL_CAINFO", self.place.path().join("ca.pem"))
            .args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The references at the server.
    fn references(&self) -> Vec<String> {
        let served = self.place.path().join("served/me/it.git");
        let output = run(git(&served).args(["for-each-ref", "--format=%(refname)"]));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn id(&self, place: &str, name: &str) -> String {
        let output = run(git(&self.place.path().join(place)).args(["rev-parse", name]));
        String::from_utf8(output.stdout).unwrap()
    }

    fn pushes(self) -> Vec<Vec<String>> {
        let updates = |event: Event| match event {
            Event::PushRead { updates, repository, .. } => {
                assert!(repository.starts_with("/me/"), "{repository}");
                Some(updates).filter(|updates| !updates.is_empty())
            }
            _ => None,
        };
        self.proxy.stop().into_iter().filter_map(updates).collect()
    }
}

fn git(place: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(place).env_clear().stdin(Stdio::null());
    command
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "t").env(format!("GIT_{role}_EMAIL"), "t@example.com");
    }
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

const FETCH: &str = "GET,POST api.example.com/me/it.git/** act=git-fetch";

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_allowed_is_pushed_and_another_is_refused_in_gits_own_words() {
    let bench = Bench::new(&[FETCH, "GET,POST api.example.com/me/it.git/** push=feature/*"], &[]).await;
    bench.commit("second");
    let before = bench.id("served/me/it.git", "main");
    let (done, said) = bench.git(&["push", "origin", "main"]).await;
    assert!(!done && said.contains("! [remote rejected] main -> main (refused by omni)"), "{said}");
    assert!(
        said.contains("remote: omni refused POST https://api.example.com/me/it.git/git-receive-pack: no rule allows"),
        "{said}"
    );
    assert!(said.contains("push=refs/heads/main"), "the rule to add: {said}");
    assert_eq!(bench.id("served/me/it.git", "main"), before);
    let (done, said) = bench.git(&["push", "origin", "HEAD:refs/heads/feature/a"]).await;
    assert!(done, "{said}");
    assert_eq!(bench.id("served/me/it.git", "feature/a"), bench.id("clone", "HEAD"));
    // Several in one push: all or nothing.
    let (done, said) = bench.git(&["push", "origin", "HEAD:refs/heads/feature/b", "main"]).await;
    assert!(!done && said.matches("refused by omni").count() >= 2, "{said}");
    let (done, said) = bench.git(&["push", "origin", ":refs/heads/main"]).await;
    assert!(!done && said.contains("to delete refs/heads/main"), "{said}");
    let (done, said) = bench.git(&["push", "origin", "HEAD:refs/tags/v1"]).await;
    assert!(!done && said.contains("create refs/tags/v1"), "{said}");
    assert_eq!(bench.references(), ["refs/heads/feature/a", "refs/heads/main"]);
    let (done, said) = bench.git(&["fetch", "origin"]).await;
    assert!(done, "{said}");
    let expected = [
        &["forward refs/heads/main"][..],
        &["create refs/heads/feature/a"],
        // The server has that commit by now, so that the push does not show where it leads.
        &["update refs/heads/main", "create refs/heads/feature/b"],
        &["delete refs/heads/main"],
        &["create refs/tags/v1"],
    ];
    assert_eq!(bench.pushes(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_reference_can_be_told_apart() {
    let rules = ["GET,POST api.example.com/me/it.git/** push:create=** push:create,update,delete=**"];
    let denials = ["* api.example.com/** push:delete=**", "* *:*/** push:update=main", "* *:*/** push=refs/tags/**"];
    let bench = Bench::new(&rules, &denials).await;
    bench.commit("second");
    for (arguments, expected) in [
        (&["push", "origin", "HEAD:refs/heads/new"][..], true),
        (&["push", "origin", "HEAD:refs/heads/main"], false),
        (&["push", "--force", "origin", "HEAD~1:refs/heads/new"], false),
        (&["push", "origin", ":refs/heads/new"], false),
        (&["push", "origin", "HEAD:refs/tags/v1"], false),
        (&["push", "-o", "an-option", "origin", "HEAD:refs/heads/other"], true),
    ] {
        let (done, said) = bench.git(arguments).await;
        assert_eq!(done, expected, "{arguments:?}: {said}");
    }
    assert_eq!(bench.references(), ["refs/heads/main", "refs/heads/new", "refs/heads/other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_may_only_move_forward_is_not_forced() {
    let rules = ["GET,POST api.example.com/me/it.git/** push:create,forward=**", FETCH];
    let bench = Bench::new(&rules, &["* *:*/** push:force=never"]).await;
    for word in ["second", "third", "fourth"] {
        bench.commit(word);
    }
    let push = async |arguments: &[&str]| {
        let (done, said) = bench.git(&[&["push"], arguments].concat()).await;
        assert!(done || said.contains("no rule allows POST"), "{said}");
        done
    };
    assert!(push(&["origin", "HEAD~1:refs/heads/main"]).await, "two commits further");
    assert!(push(&["-o", "an-option", "origin", "HEAD:refs/heads/main"]).await, "one, with options");
    assert!(!push(&["--force", "origin", "HEAD~2:refs/heads/main"]).await, "back again");
    assert!(!push(&["--force", "origin", "HEAD~3:refs/heads/main"]).await);
    bench.git(&["checkout", "-q", "HEAD~1"]).await;
    bench.commit("another fourth");
    assert!(!push(&["--force", "origin", "HEAD:refs/heads/main"]).await, "beside what is there");
    assert!(push(&["origin", "HEAD:refs/heads/never"]).await, "a new branch moves nothing");
    bench.git(&["checkout", "-q", "--detach", "origin/main"]).await;
    bench.commit("fifth");
    bench.git(&["merge", "-q", "-m", "both", "origin/never"]).await;
    assert!(push(&["origin", "HEAD:refs/heads/main"]).await, "a merge is forward");
    assert_eq!(bench.id("served/me/it.git", "main"), bench.id("clone", "HEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_shallow_pushes_pass_whole() {
    let bench = Bench::new(&["GET,POST api.example.com/me/it.git/** push=big,shallow", FETCH], &[]).await;
    // More than git sends with a length, so that it tries first and then sends in chunks.
    let noise: Vec<u8> =
        (0u32..1_000_000).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(bench.clone().join("noise"), noise).unwrap();
    run(git(&bench.clone()).args(["add", "noise"]));
    bench.commit("big");
    let (done, said) = bench.git(&["push", "origin", "HEAD:refs/heads/big"]).await;
    assert!(done, "{said}");
    assert_eq!(bench.id("served/me/it.git", "big"), bench.id("clone", "HEAD"));
    let (done, said) = bench.git(&["push", "origin", "HEAD~1:refs/heads/not-big"]).await;
    assert!(!done, "{said}");
    let (done, said) = bench.git(&["clone", "--depth", "1", "https://api.example.com/me/it.git", "shallow"]).await;
    assert!(done, "{said}");
    let shallow = bench.clone().join("shallow");
    run(git(&shallow).args(["commit", "-q", "--allow-empty", "-m", "on top"]));
    let (done, said) = bench.git(&["-C", "shallow", "push", "origin", "HEAD:refs/heads/shallow"]).await;
    assert!(done, "{said}");
    assert_eq!(bench.id("served/me/it.git", "shallow"), bench.id("clone/shallow", "HEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_push_is_read_from_its_certificate() {
    let bench = Bench::new(&["GET,POST api.example.com/me/it.git/** push=feature/*"], &[]).await;
    let key = bench.place.path().join("key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    run(git(&bench.clone()).args(["config", "gpg.format", "ssh"]));
    run(git(&bench.clone()).args(["config", "user.signingkey"]).arg(&key));
    let (done, said) = bench.git(&["push", "--signed", "origin", "HEAD:refs/heads/feature/a"]).await;
    assert!(done, "{said}");
    let (done, said) = bench.git(&["push", "--signed", "origin", "HEAD:refs/heads/other"]).await;
    assert!(!done && said.contains("refused by omni"), "{said}");
    assert_eq!(bench.references(), ["refs/heads/feature/a", "refs/heads/main"]);
    let signed = |event: &Event| matches!(event, Event::PushRead { signed: true, .. });
    assert_eq!(bench.proxy.stop().iter().filter(|event| signed(event)).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_a_form_that_cannot_be_read_goes_nowhere_whatever_the_rules() {
    let bench = Bench::new(&["* api.example.com/**"], &[]).await;
    let mut client = bench.proxy.client::<Full<Bytes>>("api.example.com").await;
    let zero = "0".repeat(40);
    let line = format!("{zero} {} refs/heads/x\0 report-status", "1".repeat(40));
    let good = format!("{:04x}{line}0000", line.len() + 4);
    let kind = ("content-type", "application/x-git-receive-pack-request");
    let service = "/me/it.git/git-receive-pack";
    for (method, path, headers, body, reason) in [
        ("POST", service, &[kind, ("content-encoding", "gzip")][..], good.as_str(), "compressed"),
        ("POST", service, &[], &good, "smart protocol"),
        ("PUT", service, &[kind], &good, "smart protocol"),
        ("POST", "/me/it.git//git-receive-pack", &[kind, ("x-a", "b")], "zzzz", "not as git writes it"),
        ("POST", "/elsewhere", &[kind], &good, "smart protocol"),
        ("POST", service, &[kind], &good[..20], "ends before"),
        ("POST", service, &[kind], "0001", "not as git writes it"),
        ("PUT", "/me/it.git/refs/heads/main", &[], "x", "smart protocol"),
        ("MKCOL", "/me/it.git/objects/12/", &[], "", "smart protocol"),
        ("LOCK", "/me/it.git/info/refs", &[], "", "smart protocol"),
    ] {
        let mut builder = http::Request::builder().method(method).uri(path).header("host", "api.example.com");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let request = builder.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        client.ready().await.unwrap();
        let (status, said) = told(client.send_request(request).await.unwrap()).await;
        assert!(status == 403 && said.contains(reason), "{method} {path} {body:?}: {status} {said}");
    }
    assert_eq!(bench.upstream.requests(), 0);
    let mut builder = http::Request::builder().method("POST").uri(service).header("host", "api.example.com");
    builder = builder.header(kind.0, kind.1);
    client.ready().await.unwrap();
    let answer = client.send_request(builder.body(Full::new(Bytes::from(good))).unwrap()).await.unwrap();
    drop(answer.into_body().collect().await);
    assert_eq!(bench.upstream.requests(), 1, "the same push in git's own form arrives");
    assert_eq!(bench.upstream.last().1.len(), line.len() + 8, "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_where_their_branch_may() {
    if !Command::new("git").args(["lfs", "version"]).output().unwrap().status.success() {
        println!("skipped: there is no git-lfs");
        return;
    }
    let rules = [FETCH, "GET,POST api.example.com/me/it.git/** push=feature/*", "PUT api.example.com/store/**"];
    let bench = Bench::new(&rules, &[]).await;
    let here = bench.clone();
    run(git(&here).args(["lfs", "install", "--local"]));
    run(git(&here).args(["lfs", "track", "*.bin"]));
    std::fs::write(here.join("large.bin"), "large").unwrap();
    run(git(&here).args(["add", "."]));
    bench.commit("large");
    let stored = || bench.upstream.seen.lock().unwrap().iter().filter(|(head, _)| head.method == "PUT").count();
    let (done, said) = bench.git(&["lfs", "push", "origin", "main"]).await;
    assert!(
        !done && said.contains("omni refused POST https://api.example.com/me/it.git/info/lfs/objects/batch"),
        "{said}"
    );
    assert_eq!(stored(), 0);
    run(git(&here).args(["checkout", "-q", "-b", "feature/a"]));
    let (done, said) = bench.git(&["push", "origin", "feature/a"]).await;
    assert!(done, "{said}");
    assert_eq!((stored(), bench.id("served/me/it.git", "feature/a")), (1, bench.id("clone", "HEAD")));
    let act = |event: Event| match event {
        Event::RequestDenied { act, .. } => act,
        _ => None,
    };
    assert_eq!(bench.proxy.stop().into_iter().filter_map(act).collect::<Vec<_>>(), ["git-lfs-upload"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_large_files_that_could_be_read_in_two_ways_goes_nowhere() {
    let bench = Bench::new(&["* api.example.com/**"], &["* api.example.com/** act=git-lfs-upload"]).await;
    let mut client = bench.proxy.client::<Full<Bytes>>("api.example.com").await;
    let path = "/me/it.git/info/lfs/objects/batch";
    for (body, expected) in [
        (r#"{"operation":"upload","objects":[{"oid":"a","size":1}]}"#, 403),
        (r#"{"operation":"download","Operation":"upload","objects":[{"oid":"a","size":1}]}"#, 403),
        ("not json", 403),
        (r#"{"operation":"download","objects":[{"oid":"a","size":1}]}"#, 200),
    ] {
        client.ready().await.unwrap();
        let request = crate::support::request("POST", "api.example.com", path, body);
        let (status, said) = told(client.send_request(request).await.unwrap()).await;
        assert_eq!(status, expected, "{body}: {said}");
    }
    assert_eq!(bench.upstream.requests(), 1);
    assert!(String::from_utf8_lossy(&bench.upstream.last().1).starts_with(r#"{"operation":"download","objects""#));
}
