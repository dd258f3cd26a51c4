//! `omni doctor`, run as a person runs it: on this machine, and where more user namespaces are forbidden.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// A home of its own, and a directory to work in.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("work")).unwrap();
        Self(place)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("OMNI_HOME", self.0.path().join("home")).current_dir(self.0.path().join("work"));
        command
    }

    fn omni(&self, arguments: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_omni")).args(arguments).output().unwrap()
    }

    /// In a user namespace that allows no further one; `None` where not even that one can be made.
    fn omni_without_namespaces(&self, arguments: &[&str]) -> Option<Output> {
        self.without_namespaces(self.command("unshare"), arguments)
    }

    /// The same, by a command that is or runs unshare(1).
    fn without_namespaces(&self, mut unshare: Command, arguments: &[&str]) -> Option<Output> {
        let forbid = "echo 0 > /proc/sys/user/max_user_namespaces || exit 99; exec \"$@\"";
        unshare.args(["--user", "--keep-caps", "sh", "-c", forbid, "sh", env!("CARGO_BIN_EXE_omni")]).args(arguments);
        let output = unshare.output().ok()?;
        let made = output.status.code() != Some(99) && !String::from_utf8_lossy(&output.stderr).starts_with("unshare:");
        assert!(made || std::env::var_os("OMNI_REQUIRE_SANDBOX").is_none(), "no user namespace: {output:?}");
        made.then_some(output)
    }
}

fn findings(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn find<'a>(findings: &'a [Value], probe: &str) -> &'a Value {
    findings.iter().find(|finding| finding["probe"] == probe).unwrap_or_else(|| panic!("no probe `{probe}`"))
}

#[test]
fn doctor_says_yes_exactly_where_exec_works() {
    let world = World::new();
    let doctor = world.omni(&["doctor", "--json"]);
    let exec = world.omni(&["exec", "--", "true"]);
    assert_eq!(doctor.status.code() == Some(0), exec.status.success(), "{doctor:?}\n{exec:?}");
    let required = std::env::var_os("OMNI_REQUIRE_SANDBOX").is_some();
    assert!(doctor.status.success() || !required, "this machine cannot isolate: {doctor:?}");
    let findings = findings(&doctor);
    for finding in &findings {
        let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["detail", "fix", "needed_for", "ok", "probe"], "{finding}");
        assert!(finding["ok"] != true || finding["fix"].is_null(), "{finding}");
    }
    let tier = find(&findings, "isolation tier");
    assert_eq!(tier["ok"] == true, exec.status.success(), "{tier}");
    let whole = find(&findings, "a whole sandbox");
    assert_eq!(whole["ok"] == true, exec.status.success(), "{whole}");
}

#[test]
fn without_user_namespaces_doctor_says_what_to_do_and_exec_sends_there() {
    let world = World::new();
    let Some(doctor) = world.omni_without_namespaces(&["doctor", "--json"]) else { return };
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    let findings = findings(&doctor);
    let missing = find(&findings, "user namespaces");
    assert_eq!(missing["ok"], false);
    assert!(missing["fix"].as_str().unwrap().contains("user.max_user_namespaces is 0"), "{missing}");
    assert_eq!(find(&findings, "nft tproxy")["ok"], false);
    assert_eq!(find(&findings, "memfd")["ok"], true, "what needs no namespace is probed all the same");
    let tier = find(&findings, "isolation tier");
    assert_eq!(tier["ok"], false, "{tier}");
    assert!(tier["detail"].as_str().unwrap().contains("`full` lacks user namespaces, all namespaces"), "{tier}");

    let exec = world.omni_without_namespaces(&["exec", "--", "true"]).expect("it worked a moment ago");
    let message = String::from_utf8(exec.stderr).unwrap();
    assert_eq!(exec.status.code(), Some(125), "{message}");
    assert!(message.contains("`omni doctor`"), "{message}");
    assert_eq!(message.matches("No space left on device").count(), 1, "{message}");
    assert!(message.contains("there is no tier `full`"), "{message}");
}

#[test]
fn names_of_secrets_are_told_and_their_values_are_not() {
    let world = World::new();
    let mut command = world.command(env!("CARGO_BIN_EXE_omni"));
    command.env_clear().env("OMNI_HOME", world.0.path().join("home")).env("PATH", "/usr/bin:/bin").env("HOME", "/root");
    command.env("OPENAI_API_KEY", "sk-the-value").env("GITHUB_TOKEN", "ghp_the-value").arg("doctor");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("ok       secrets")).expect("a line on secrets");
    assert!(line.contains("GITHUB_TOKEN, OPENAI_API_KEY: without omni"), "{line}");
    assert!(line.ends_with("placeholders do: omni exec --secret openai --secret github"), "{line}");
    assert!(!text.contains("the-value"), "{text}");
}

#[test]
fn a_secret_store_whose_key_nobody_guards_is_told() {
    let world = World::new();
    let store = || find(&findings(&world.omni(&["doctor", "--json"])), "secret store").clone();
    let none = store();
    assert!(none["ok"] == true && none["detail"].as_str().unwrap().starts_with("there is none yet"), "{none}");
    assert!(world.omni(&["secret", "passphrase", "--none"]).status.success());
    // A store is not told apart by whether an older omni made it so without a word, or somebody wanted it.
    let bare = store();
    assert!(bare["ok"] == false && bare["fix"] == "`omni secret passphrase`", "{bare}");
    assert!(bare["detail"].as_str().unwrap().contains("whoever can read your files can read your secrets"), "{bare}");
    std::fs::write(world.0.path().join("home/secrets"), "no store").unwrap();
    let damaged = store();
    assert!(damaged["ok"] == false && damaged["detail"].as_str().unwrap().contains("damaged"), "{damaged}");
}

#[test]
fn files_of_logins_that_are_there_are_told() {
    let world = World::new();
    let home = world.0.path().join("person");
    for path in [".claude/.credentials.json", ".netrc", ".docker/config.json", ".ssh/id_ed25519"] {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "the-value").unwrap();
    }
    let mut command = world.command(env!("CARGO_BIN_EXE_omni"));
    command.env_clear().env("OMNI_HOME", world.0.path().join("home")).env("PATH", "/usr/bin:/bin").env("HOME", &home);
    let output = command.args(["doctor", "--json"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("the-value"));
    let said = find(&findings(&output), "logins")["detail"].as_str().unwrap().to_owned();
    let files = "~/.claude/.credentials.json, ~/.docker/config.json, ~/.netrc, ~/.ssh/id_ed25519: without omni";
    assert!(said.starts_with(files), "{said}");
    let offers = "--secret claude-code --secret claude-login --secret netrc --secret docker-login --ssh HOST";
    assert!(said.ends_with(offers), "{said}");
}

#[test]
fn the_version_of_a_harness_is_asked_in_a_sandbox() {
    let world = World::new();
    if !world.omni(&["exec", "--", "true"]).status.success() {
        return;
    }
    let programs = world.0.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let claude = programs.join("claude");
    // Outside, the host's name would be another.
    std::fs::write(&claude, "#!/bin/sh\necho \"2.1.330 ($1 on $(cat /proc/sys/kernel/hostname))\"\n").unwrap();
    std::fs::set_permissions(&claude, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output =
        world.command(env!("CARGO_BIN_EXE_omni")).env("PATH", path).args(["doctor", "--json"]).output().unwrap();
    let findings = findings(&output);
    assert_eq!(find(&findings, "claude")["detail"], "2.1.330 (--version on omni)");
}

#[test]
fn a_sandbox_that_cannot_be_built_is_given_up_at_once() {
    let world = World::new();
    let trace = world.0.path().join("trace");
    let mut strace = world.command("strace");
    strace.args(["-f", "-qq", "-e", "trace=ppoll,clone3", "-o"]).arg(&trace).arg("unshare");
    let Some(exec) = world.without_namespaces(strace, &["exec", "--", "true"]) else { return };
    assert_eq!(exec.status.code(), Some(125), "{exec:?}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    assert!(trace.contains("CLONE_NEWUSER"), "it was tried: {trace}");
    // A proxy that nobody told to end, say, would be given seconds to settle what is under way.
    assert!(!trace.contains("(Timeout)"), "something was waited for in vain: {trace}");
}
