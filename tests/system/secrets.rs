//! Root's secrets go where root said and nowhere else, and a user's own stay the user's.

use crate::machine::{Files, Machine, on_a_machine};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const KEY: &str = "sk-ant-api03-of-the-machine-and-nobodys-else";
const OWN_KEY: &str = "sk-ant-api03-of-ada-alone";
/// Sends what the harness has for a key to a host, and says what it has.
const SEND: &str =
    "echo $ANTHROPIC_API_KEY; curl -sk -o page https://HOST/v1/models -H \"x-api-key: $ANTHROPIC_API_KEY\"";

/// A simulated provider, which writes down every header that reaches it.
struct Provider {
    place: tempfile::TempDir,
    process: Child,
    address: String,
}

impl Provider {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
        command.args(["sim", "--json", "--ca-out"]).arg(place.path().join("ca.pem"));
        command.arg("--record").arg(place.path().join("record.jsonl"));
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let address = told["listening"].as_str().unwrap().trim_start_matches("https://").to_owned();
        Self { place, process, address }
    }

    fn ca(&self) -> PathBuf {
        self.place.path().join("ca.pem")
    }

    /// Everything that arrived, as text.
    fn heard(&self) -> String {
        std::fs::read_to_string(self.place.path().join("record.jsonl")).unwrap_or_default()
    }

    /// `system.yaml` of a machine whose requests all go here.
    fn system(&self) -> String {
        format!("connect_to: ['::{}']\nupstream_ca: {}\n", self.address, self.ca().display())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `secrets.yaml` with one key, and its file beside it.
fn secrets(key: &Path, users: &str) -> String {
    format!(
        "secrets:\n  - name: anthropic\n    from: file:{}\n    host: api.anthropic.com\n    header: x-api-key\n    \
         placeholder: {{ env: ANTHROPIC_API_KEY }}\n{users}",
        key.display()
    )
}

fn roots_key(place: &tempfile::TempDir) -> PathBuf {
    let path = place.path().join("key");
    std::fs::write(&path, KEY).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn send(machine: &Machine, user: &crate::machine::User, flags: &[&str], host: &str) -> crate::machine::Outcome {
    machine.shell(user, &[&["--allow", "* *.anthropic.com/**"], flags].concat(), &SEND.replace("HOST", host))
}

#[test]
fn the_machines_key_goes_to_its_host_and_the_user_holds_a_placeholder() {
    let (provider, place) = (Provider::start(), tempfile::tempdir().unwrap());
    let (system, secrets) = (provider.system(), secrets(&roots_key(&place), ""));
    on_a_machine(Files { system: &system, secrets: &secrets, ..Files::default() }, |machine| {
        let elsewhere = send(machine, &machine.ada, &[], "www.anthropic.com");
        assert!(elsewhere.stdout.starts_with("sk-ant-api03-") && !elsewhere.stdout.contains(KEY), "{elsewhere:?}");
        assert!(!provider.heard().contains(KEY), "{}", provider.heard());
        let outcome = send(machine, &machine.ada, &[], "api.anthropic.com");
        assert!(!outcome.stdout.contains(KEY), "{outcome:?}");
        assert!(provider.heard().contains(KEY), "the control: {}", provider.heard());
    });
}

#[test]
fn the_machines_key_is_nowhere_that_a_user_can_look() {
    let (provider, place) = (Provider::start(), tempfile::tempdir().unwrap());
    let (system, secrets) = (provider.system(), secrets(&roots_key(&place), ""));
    on_a_machine(Files { system: &system, secrets: &secrets, ..Files::default() }, |machine| {
        let mut session = machine.start(&machine.ada, &[], "echo up; read word");
        session.line();
        // Every process that this user may read the memory or environment of, at the moment when the proxy holds the key.
        let look = format!(
            "import os, sys\nfound = 0\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n    \
             if int(pid) == os.getpid(): continue\n    for name in ('environ', 'cmdline'):\n        try:\n            \
             found += {KEY:?}.encode() in open(f'/proc/{{pid}}/{{name}}', 'rb').read()\n        except OSError: pass\n\
             try: open('{}').read(); found += 1\nexcept OSError: pass\nprint(found)",
            place.path().join("key").display()
        );
        let mut command = machine.command(&machine.ada, Path::new("/usr/bin/python3"));
        // From standard input: in its own command line it would be found.
        let looked = crate::machine::finish(
            {
                command.args(["-I", "-"]);
                command
            },
            look.as_bytes(),
        );
        assert_eq!(looked.stdout, "0\n", "{looked:?}");
        session.end();
    });
}

#[test]
fn a_user_cannot_have_the_machines_key_sent_to_a_place_of_their_own() {
    let (provider, place) = (Provider::start(), tempfile::tempdir().unwrap());
    let secrets = secrets(&roots_key(&place), "");
    on_a_machine(Files { secrets: &secrets, ..Files::default() }, |machine| {
        let ca = machine.ada.home.join("ca.pem");
        machine.ada.write(&ca, &std::fs::read_to_string(provider.ca()).unwrap());
        let (ca, to) = (ca.display().to_string(), format!("api.anthropic.com:443:{}", provider.address));
        for flags in
            [&["--connect-to", to.as_str()][..], &["--upstream-ca", &ca], &["--connect-to", &to, "--upstream-ca", &ca]]
        {
            let outcome = send(machine, &machine.ada, flags, "api.anthropic.com");
            assert_eq!(outcome.code(), Some(125), "{flags:?}: {outcome:?}");
            assert!(outcome.stderr.contains("you may not say where requests go"), "{outcome:?}");
        }
        assert_eq!(provider.heard(), "");
    });
}

#[test]
fn a_key_for_some_is_not_for_others() {
    let (provider, place) = (Provider::start(), tempfile::tempdir().unwrap());
    let secrets = secrets(&roots_key(&place), "    users: [omni-test]\n");
    let system = provider.system();
    on_a_machine(Files { system: &system, secrets: &secrets, ..Files::default() }, |machine| {
        let bobs = send(machine, &machine.bob, &[], "api.anthropic.com");
        assert_eq!(bobs.stdout, "\n", "{bobs:?}");
        assert!(!provider.heard().contains(KEY));
        send(machine, &machine.ada, &[], "api.anthropic.com");
        assert!(provider.heard().contains(KEY));
    });
}

/// A profile with a key of the user's own.
fn own_profile(machine: &Machine, from: &str) -> String {
    let path = machine.ada.home.join("keyed.yaml");
    let text = format!(
        "name: keyed\nsecrets:\n  - name: own\n    from: '{from}'\n    host: api.anthropic.com\n    header: x-api-key\n    \
         placeholder: {{ env: ANTHROPIC_API_KEY }}\n"
    );
    machine.ada.write(&path, &text);
    path.display().to_string()
}

#[test]
fn a_users_own_key_works_and_is_the_users_alone() {
    let provider = Provider::start();
    let system = provider.system();
    on_a_machine(Files { system: &system, ..Files::default() }, |machine| {
        let key = machine.ada.home.join("key");
        machine.ada.write(&key, OWN_KEY);
        for from in [format!("file:{}", key.display()), format!("command:cat {}; id -u >> seen", key.display())] {
            let before = provider.heard().len();
            let profile = own_profile(machine, &from);
            let outcome = send(machine, &machine.ada, &["--profile", &profile], "api.anthropic.com");
            assert!(outcome.stdout.starts_with("sk-ant-api03-") && !outcome.stdout.contains(OWN_KEY), "{outcome:?}");
            if from.starts_with("file") {
                assert!(provider.heard()[before..].contains(OWN_KEY), "{}", provider.heard());
            }
        }
        // The command ran as the user, in their workspace.
        let seen = std::fs::read_to_string(machine.ada.work().join("seen")).unwrap();
        assert_eq!(seen, format!("{}\n", machine.ada.uid));
        let kept = Command::new("grep").args(["-r", "-c", OWN_KEY]).arg(machine.path("records")).output().unwrap();
        assert!(!String::from_utf8_lossy(&kept.stdout).lines().any(|line| !line.ends_with(":0")), "{kept:?}");
    });
}

#[test]
fn a_secret_that_only_root_can_read_is_none_of_a_users() {
    let (provider, place) = (Provider::start(), tempfile::tempdir().unwrap());
    let (system, key) = (provider.system(), roots_key(&place));
    on_a_machine(Files { system: &system, ..Files::default() }, |machine| {
        for from in [format!("file:{}", key.display()), format!("command:cat {}", key.display())] {
            let profile = own_profile(machine, &from);
            let outcome = send(machine, &machine.ada, &["--profile", &profile], "api.anthropic.com");
            assert!(!outcome.stdout.contains(KEY), "{outcome:?}");
        }
        assert!(!provider.heard().contains(KEY), "{}", provider.heard());
    });
}

#[test]
fn secrets_that_others_could_read_are_not_used() {
    let place = tempfile::tempdir().unwrap();
    on_a_machine(Files::default(), |machine| {
        let path = machine.path("etc/secrets.yaml");
        std::fs::write(&path, secrets(&roots_key(&place), "")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let outcome = machine.shell(&machine.ada, &[], "echo out");
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(125), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("can be read by others than root"), "{outcome:?}");
    });
}

#[test]
fn logins_and_agents_of_a_users_own_stay_with_the_user_and_omni_says_how_they_work() {
    on_a_machine(Files::default(), |machine| {
        let home = &machine.ada.home;
        machine.ada.write(&home.join(".netrc"), "machine a.example login me password canary\n");
        std::fs::create_dir(home.join(".claude")).unwrap();
        let login =
            r#"{"claudeAiOauth": {"accessToken": "canary", "refreshToken": "canary", "expiresAt": 4102444800000}}"#;
        machine.ada.write(&home.join(".claude/.credentials.json"), login);
        let own = "is in a file of yours, which the machine's server does not read: run omni without it";
        let agent = "the machine's server does not reach your agent: run omni without it";
        for (flags, why) in
            [(["--secret", "netrc"], own), (["--secret", "claude-login"], own), (["--ssh", "git.example"], agent)]
        {
            let outcome = machine.shell(&machine.ada, &flags, "echo out");
            assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(125), ""), "{flags:?}: {outcome:?}");
            assert!(outcome.stderr.contains(why) && !outcome.stderr.contains("canary"), "{flags:?}: {outcome:?}");
        }
        let kept = Command::new("grep").args(["-r", "-l", "canary"]).arg(machine.path("records")).output().unwrap();
        assert!(kept.stdout.is_empty(), "{kept:?}");
    });
}
