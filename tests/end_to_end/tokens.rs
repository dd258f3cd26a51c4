//! Client programs that log in, at a server that lets nobody in without the real token: each works with a placeholder, in the
//! file or variable in which it looks, and the token is nowhere inside and in no record.

use crate::clients::{COMMIT, HELLO, hello, package_index, package_registry, page};
use crate::host;
use crate::lookout::{Control, Lookout};
use crate::server::{ALLOWED, Pages, REFUSED, Server};
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::process::Command;

/// The real token, which only the server and omni know.
const REAL: &str = "ghp_0canary1canary2canary3canary4canary5";
/// The mark of every placeholder.
const MARK: &str = "ZXepeqer";
const PROFILE: &str = "\
name: tokens
command: sh
description: one token for one host
filesystem: { workspace: direct }
egress:
  - allow: 'GET,HEAD allowed.example/**'
secrets:
  - name: token
    from: env:REAL_TOKEN
    sites:
      - { host: allowed.example, basic: me }
      - { host: allowed.example, bearer: true }
    placeholder:
      env: TOKEN
      shape: github
      files:
        - { path: ~/.netrc, text: \"machine allowed.example login me password PLACEHOLDER\\n\" }
        - { path: ~/.npmrc, text: \"//allowed.example/:_authToken=PLACEHOLDER\\n\" }
";

/// What is asked inside, and what of the server's it shows when it was let in.
struct Login {
    program: &'static str,
    command: &'static str,
    answer: &'static str,
}

impl Login {
    fn try_everybody(&self, pages: impl Fn() -> Pages) {
        for actor in Actor::all() {
            if host::has_sandboxes() && host::has(*actor, self.program) {
                self.try_as(*actor, pages());
            }
        }
    }

    fn try_as(&self, actor: Actor, pages: Pages) {
        let stage = Stage::new(actor);
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("me:{REAL}")));
        let lookout = Lookout::new(&stage, &[REAL], MARK);
        let server = Server::watched(pages, vec![basic, format!("Bearer {REAL}")], lookout.clone());
        stage.write(&stage.path("server.pem"), &server.ca_pem);
        stage.write(&stage.path("tokens.yaml"), PROFILE);

        let output = lookout.run(&stage, &mut self.asking(&stage, &server, REAL));
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && said.contains(self.answer), "{} {actor:?}: {said}", self.program);
        assert!(said.contains("held: ghp_ZX") && !said.contains(REAL), "{} {actor:?}: {said}", self.program);
        assert!(!is_written(&stage, REAL), "{} {actor:?}: the token is in a file", self.program);
        assert!(is_written(&stage, ALLOWED), "the search finds what is there");

        lookout.assert_found_nothing(Control { in_memory: true, in_files: true }, &(self.program, actor));
        let output = self.asking(&stage, &server, "another-token").output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!said.contains(self.answer), "the server lets nobody in without the token: {said}");
    }

    fn asking(&self, stage: &Stage, server: &Server, token: &str) -> Command {
        let to = format!("{ALLOWED}:443:{}", server.address);
        let (profile, ca) = (stage.path("tokens.yaml"), stage.path("server.pem"));
        let script = format!("{} ; code=$?; echo held: $TOKEN; env; cat ~/.netrc ~/.npmrc; exit $code", self.command);
        let flags = ["exec", "--profile", profile.to_str().unwrap(), "--connect-to", &to, "--upstream-ca"];
        let arguments: Vec<&str> = flags.into_iter().chain([ca.to_str().unwrap(), "--", "sh", "-c", &script]).collect();
        let mut command = stage.omni(&arguments);
        command.env("REAL_TOKEN", token);
        command
    }
}

/// Whether a file of the stage holds a text.
fn is_written(stage: &Stage, needle: &str) -> bool {
    let found = Command::new("grep").args(["-rqaF", needle]).arg(stage.path("")).status().unwrap();
    found.success()
}

/// A secret that a person must say yes to: without anybody to ask nothing goes, and each yes is for what it was said to.
#[test]
fn a_secret_waits_for_a_person_who_is_asked() {
    if !host::has_sandboxes() || !host::has(Actor::Tester, "curl") {
        return;
    }
    let stage = Stage::new(Actor::Tester);
    let server = Server::behind(hello(), vec![format!("Bearer {REAL}")]);
    stage.write(&stage.path("server.pem"), &server.ca_pem);
    stage.write(&stage.path("tokens.yaml"), PROFILE.replace("from:", "approve: session\n    from:"));
    let to = format!("{ALLOWED}:443:{}", server.address);
    let (profile, ca) =
        (stage.path("tokens.yaml").display().to_string(), stage.path("server.pem").display().to_string());
    let call = r#"curl -sS --max-time 60 -H "Authorization: Bearer $TOKEN" https://allowed.example/hello"#;
    let script = format!("{call}; {call}");
    let exec = |flags: &[&'static str]| {
        let mut arguments = vec!["exec", "--profile", &profile, "--connect-to", &to, "--upstream-ca", &ca];
        arguments.extend(flags);
        arguments.extend(["--", "sh", "-c", &script]);
        let mut command = stage.omni(&arguments);
        command.env("REAL_TOKEN", REAL);
        command
    };
    let output = exec(&[]).output().unwrap();
    let said = text(&output.stdout);
    assert!(!said.contains(HELLO) && said.contains("nobody"), "{said}");
    assert_eq!(server.hosts_seen(), Vec::<String>::new(), "nothing goes without an answer");

    let mut running = stage.start(&mut exec(&["--await-approvals"]));
    let question = loop {
        let listed = text(&stage.run(&["approvals", "--json"]).stdout);
        if let Some(line) = listed.lines().next() {
            break serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert!(running.is_running(), "it ended without a question");
    };
    assert!(question["why"].as_str().unwrap().contains("the secret `token` would be used"), "{question}");
    assert!(stage.run(&["approve", "last"]).status.success());
    let output = running.finish();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(said.matches(HELLO.trim()).count(), 2, "one answer is enough for the session: {said}");
    let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
    assert_eq!(log.matches("with token").count(), 2, "each use is told: {log}");
}

/// A stage whose token is for both hosts, with the server that knows it.
fn for_two_hosts(actor: Actor, more: &str) -> (Stage, Server) {
    let (stage, server) = (Stage::new(actor), Server::behind(hello(), vec![format!("Bearer {REAL}")]));
    stage.write(&stage.path("server.pem"), &server.ca_pem);
    let profile = PROFILE
        .replace("egress:", "egress:\n  - allow: 'GET refused.example/**'")
        .replace("    sites:", &format!("    {more}\n    sites:\n      - {{ host: refused.example, bearer: true }}"));
    stage.write(&stage.path("tokens.yaml"), profile);
    (stage, server)
}

/// An omni that runs this script there.
fn exec_there(stage: &Stage, server: &Server, flags: &[&str], script: &str) -> Command {
    let to = [ALLOWED, REFUSED].map(|host| format!("{host}:443:{}", server.address));
    let (profile, ca) = (stage.path("tokens.yaml"), stage.path("server.pem"));
    let mut arguments = vec!["exec", "--profile", profile.to_str().unwrap(), "--upstream-ca", ca.to_str().unwrap()];
    to.iter().for_each(|to| arguments.extend(["--connect-to", to]));
    arguments.extend(flags);
    arguments.extend(["--", "sh", "-c", script]);
    let mut command = stage.omni(&arguments);
    command.env("REAL_TOKEN", REAL);
    command
}

/// The first host twice, then the second.
const THREE_USES: &str = r#"
for host in allowed allowed refused; do
  curl -sS --max-time 60 -H "Authorization: Bearer $TOKEN" https://$host.example/hello; echo
done
"#;

#[test]
fn a_person_answers_from_another_terminal_for_each_host_or_for_each_use() {
    if !host::has_sandboxes() || !host::has(Actor::Tester, "curl") {
        return;
    }
    for (approve, questions) in [("host", 2), ("use", 3)] {
        let (stage, server) = for_two_hosts(Actor::Tester, &format!("approve: {approve}"));
        let mut running = stage.start(&mut exec_there(&stage, &server, &["--await-approvals"], THREE_USES));
        let mut asked = std::collections::BTreeSet::new();
        while running.is_running() {
            let listed = text(&stage.run(&["approvals", "--json"]).stdout);
            for line in listed.lines() {
                let question: serde_json::Value = serde_json::from_str(line).unwrap();
                let (id, why) = (question["id"].as_str().unwrap(), question["why"].as_str().unwrap());
                assert!(why.contains("the secret `token` would be used"), "{question}");
                if asked.insert(id.to_owned()) {
                    assert!(stage.run(&["approve", id]).status.success(), "{question}");
                }
            }
        }
        let output = running.finish();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!((said.matches(HELLO.trim()).count(), asked.len()), (3, questions), "{approve}: {said}");
        let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
        assert_eq!(log.matches("with token").count(), 3, "{log}");
        assert!(log.matches("the secret `token` would be used").count() >= questions, "{log}");
    }
}

#[test]
fn a_policy_forbids_a_secret_to_some_and_has_a_person_asked_by_others() {
    if !host::has_sandboxes() || !host::has(Actor::Tester, "curl") {
        return;
    }
    let (stage, server) = for_two_hosts(Actor::Tester, "approve: session");
    let policy = |text: &str| stage.write(&stage.path("policy.yaml"), format!("type: secret\nname: tight\n{text}"));
    let file = stage.path("policy.yaml").display().to_string();
    let script = format!("env; {THREE_USES}");
    policy("hosts: refused.example\nusers: [nobody-here]\n");
    let output = exec_there(&stage, &server, &["--policy", &file], &script).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!said.contains(HELLO.trim()) && !said.contains("TOKEN="), "{said}");
    let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
    assert!(log.contains("secret token left out: the policy `tight` of ") && !log.contains("with token"), "{log}");

    // The stricter of the two counts.
    policy("secrets: ['tok*']\napprove: use\n");
    let mut command = exec_there(&stage, &server, &["--policy", &file, "--await-approvals"], &script);
    let mut running = stage.start(&mut command);
    let mut answered = 0;
    while running.is_running() {
        answered += usize::from(stage.run(&["approve", "last"]).status.success());
    }
    let said = text(&running.finish().stdout);
    assert_eq!((said.matches(HELLO.trim()).count(), answered), (3, 3), "{said}");
}

#[test]
fn curl_by_netrc() {
    let command = "curl -sS --netrc --max-time 20 https://allowed.example/hello";
    Login { program: "curl", command, answer: HELLO }.try_everybody(hello);
}

#[test]
fn curl_by_bearer() {
    let command = r#"curl -sS --max-time 20 -H "Authorization: Bearer $TOKEN" https://allowed.example/hello"#;
    Login { program: "curl", command, answer: HELLO }.try_everybody(hello);
}

#[test]
fn git_by_netrc() {
    let references = format!("{COMMIT}\trefs/heads/main\n");
    let login = Login {
        program: "git",
        command: "GIT_TERMINAL_PROMPT=0 git ls-remote https://allowed.example/project.git",
        answer: "refs/heads/main",
    };
    login.try_everybody(|| page("/project.git/info/refs", "text/plain", references.clone()));
}

#[test]
fn git_by_a_credential_helper() {
    let references = format!("{COMMIT}\trefs/heads/main\n");
    let command = r#"rm -f ~/.netrc; touch ~/.netrc; GIT_TERMINAL_PROMPT=0 git \
        -c credential.helper='!f() { echo username=me; echo "password=$TOKEN"; }; f' \
        ls-remote https://allowed.example/project.git"#;
    let login = Login { program: "git", command, answer: "refs/heads/main" };
    login.try_everybody(|| page("/project.git/info/refs", "text/plain", references.clone()));
}

#[test]
fn python_requests_by_netrc() {
    let command = r#"python3 -c '
import requests
print(requests.get("https://allowed.example/hello", timeout=20).text)'"#;
    if host::has_python_module("requests") {
        Login { program: "python3", command, answer: HELLO }.try_everybody(hello);
    }
}

#[test]
fn pip_by_netrc() {
    let command = r#"python3 -m pip --isolated --disable-pip-version-check --no-cache-dir --no-input --retries 0 \
        --timeout 20 install --index-url https://allowed.example/simple/ --target installed omni-probe \
        && cat installed/omni_probe.py; rm -rf installed"#;
    if host::has_python_module("pip") {
        Login { program: "python3", command, answer: HELLO }.try_everybody(package_index);
    }
}

#[test]
fn npm_by_npmrc() {
    let command = r#"npm install --registry https://allowed.example/ --fetch-retries 0 --fetch-timeout 20000 --no-audit \
        --no-fund --prefer-online omni-probe && cat node_modules/omni-probe/hello.txt; rm -rf node_modules"#;
    Login { program: "npm", command, answer: HELLO }.try_everybody(package_registry);
}
