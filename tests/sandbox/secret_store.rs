//! omni's own store: a key goes in by standard input, comes out at its site alone, and is nowhere else meanwhile.

use crate::secrets::{Provider, fresh_key};
use crate::support::{Outcome, World, collect, finish};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// `omni secret WORDS`. A new store's key is left without a guard here, which is said once.
fn secret(world: &World, words: &[&str], input: &str) -> Outcome {
    if words[0] == "set" && !world.omni_home().join("secrets").exists() {
        let unguarded = unprepared(world, &["passphrase", "--none"], "");
        assert!(unguarded.status.success() && unguarded.stderr.contains("nobody guards the key"), "{unguarded:?}");
    }
    unprepared(world, words, input)
}

/// The same as it is, and with no terminal to ask on.
fn unprepared(world: &World, words: &[&str], input: &str) -> Outcome {
    finish(alone(world, &[], words), input.as_bytes())
}

fn alone(world: &World, environment: &[(&str, &str)], words: &[&str]) -> Command {
    let mut command = world.command("setsid".as_ref());
    command.arg("--wait").arg(world.binary()).arg("secret").args(words).envs(environment.iter().copied());
    command
}

/// A session that uses the stored key.
fn with_key(world: &World, provider: &Provider, argv: &[&str]) -> Command {
    let to = format!("api.anthropic.com:443:{}", provider.address);
    let ca = provider.certificate.display().to_string();
    let flags =
        ["--secret", "anthropic", "--allow", "* api.anthropic.com/**", "--connect-to", &to, "--upstream-ca", &ca];
    world.exec(&flags, argv)
}

/// Whether a file below the state directory holds a text.
fn written(world: &World, needle: &str) -> String {
    let mut command = world.command("grep".as_ref());
    command.args(["-rlaF", needle]).arg(world.omni_home());
    finish(command, b"").text()
}

/// Whether the memory of a process holds a text, as far as it can be read.
fn in_memory(pid: &str, needle: &str) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter_map(|line| line.split_once(' ')).filter(|(_, rest)| rest.starts_with('r')).any(|(range, _)| {
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        let read = memory.read_at(&mut bytes, start).unwrap_or(0);
        bytes[..read].windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

attack! {
    fn a_stored_key_reaches_its_vendor_and_lies_nowhere_in_the_open(world) {
        let (provider, key) = (Provider::start(world), fresh_key());
        let set = secret(world, &["set", "anthropic"], &format!("{key}\n"));
        assert!(set.status.success() && set.stderr.contains("ANTHROPIC_API_KEY holds a placeholder"), "{set:?}");
        let listed = secret(world, &["list", "--json"], "").json();
        assert_eq!((&listed["name"], &listed["from"][0]), (&"anthropic".into(), &"store:anthropic".into()));
        let ask = "curl -s -o /dev/null -H \"x-api-key: $ANTHROPIC_API_KEY\" https://api.anthropic.com/v1/models; \
            printf %s \"$ANTHROPIC_API_KEY\"; echo; exec cat";
        let mut command = with_key(world, &provider, &["sh", "-c", ask]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut held = String::new();
        stdout.read_line(&mut held).unwrap();
        assert!(held.starts_with("sk-ant-api03-") && held.trim() != key, "{held}");
        let (_, heard) = provider.heard();
        assert_eq!(heard.last().unwrap()["headers"]["x-api-key"], key.as_str());
        if rustix::process::geteuid().is_root() {
            let omni = child.id();
            let children = std::fs::read_to_string(format!("/proc/{omni}/task/{omni}/children")).unwrap();
            let title = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let proxy = children.split_whitespace().find(|pid| title(pid).trim_end_matches('\0') != "omni").unwrap();
            assert!(in_memory(proxy, &key), "the search finds it where it must be");
            assert!(!in_memory(&omni.to_string(), &key), "the session's process holds the key");
        }
        let outcome = collect(child, b"");
        assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        assert!(!outcome.stderr.contains(&key), "{outcome:?}");
        assert_ne!(written(world, "api.anthropic.com"), "", "there are records, and they can be searched");
        assert_eq!(written(world, &key), "");
    }
}

attack! {
    fn no_key_is_left_unguarded_by_saying_nothing(world) {
        let key = fresh_key();
        let names = || {
            let there = std::fs::read_dir(world.omni_home()).into_iter().flatten().flatten();
            there.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name.starts_with("secrets")).collect::<Vec<_>>()
        };
        let guarded = || world.list(&["audit", "log"]).into_iter().filter(|event| event["event"] == "secret_store_guarded").collect::<Vec<_>>();
        let silent = unprepared(world, &["set", "anthropic"], &key);
        assert_eq!((silent.code(), silent.text().as_str()), (Some(1), ""), "{silent:?}");
        for way in ["--passphrase-file FILE", "OMNI_PASSPHRASE_FILE", "omni secret passphrase --none"] {
            assert!(silent.stderr.contains(way), "{way}: {silent:?}");
        }
        assert!(!silent.stderr.contains(&key) && !names().iter().any(|name| name != "secrets.lock"), "{silent:?}");
        assert_eq!(guarded(), Vec::<serde_json::Value>::new());

        let file = world.place().join("passphrase");
        let path = file.to_str().unwrap();
        let set = |contents: &str, mode: u32| {
            world.write(&file, contents);
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            unprepared(world, &["set", "anthropic", "--passphrase-file", path], &key)
        };
        for (contents, mode, why) in [("correct horse\n", 0o644, "others could read"), ("short\n", 0o600, "at least 8 characters")] {
            let refused = set(contents, mode);
            assert!(refused.code() == Some(1) && refused.stderr.contains(why), "{why}: {refused:?}");
            assert!(!names().contains(&"secrets".to_owned()), "{why}");
        }
        let set = set("correct horse\nand no more\n", 0o600);
        if set.stderr.contains("the kernel keeps no key here") {
            assert!(set.stderr.contains("omni secret passphrase --none"), "{set:?}");
            println!("skipped: {}", set.stderr);
            return;
        }
        assert!(set.status.success() && !names().contains(&"secrets.key".to_owned()), "{set:?}");
        assert_eq!(guarded().iter().map(|event| event["passphrase"].clone()).collect::<Vec<_>>(), [true]);

        let start = |environment: &[(&str, &str)]| {
            let mut command = world.exec(&["--secret", "anthropic"], &["sh", "-c", "echo held $ANTHROPIC_API_KEY; env"]);
            command.envs(environment.iter().copied());
            finish(command, b"")
        };
        assert!(start(&[]).text().starts_with("held sk-ant-api03-"), "the kernel keeps the key");
        assert!(unprepared(world, &["lock"], "").status.success());
        let locked = start(&[]);
        assert!(locked.code() == Some(125) && locked.stderr.contains("run `omni secret unlock`"), "{locked:?}");
        let removed = unprepared(world, &["remove", "anthropic"], "");
        assert!(removed.code() == Some(1) && removed.stderr.contains("run `omni secret unlock`"), "{removed:?}");
        // A machine that nobody sits at names the file; the sandbox hears nothing of it.
        let unattended = start(&[("OMNI_PASSPHRASE_FILE", path)]);
        let said = unattended.text();
        assert!(said.starts_with("held sk-ant-api03-") && !said.contains("PASSPHRASE") && !said.contains(&key), "{unattended:?}");
        assert!(start(&[]).text().starts_with("held sk-ant-api03-"), "once is enough");
        // To leave the key unguarded has to be said, is told, and is recorded.
        let bared = unprepared(world, &["passphrase", "--none"], "");
        assert!(bared.status.success() && names().contains(&"secrets.key".to_owned()), "{bared:?}");
        let list = unprepared(world, &["list"], "");
        for told in [&bared.stderr, &list.stderr] {
            assert!(told.contains("nobody guards the key of the secret store") && told.contains("can read your secrets"), "{told}");
        }
        assert_eq!(guarded().iter().map(|event| event["passphrase"].clone()).collect::<Vec<_>>(), [true, false]);
        assert!(start(&[]).text().starts_with("held sk-ant-api03-"));
    }
}

attack! {
    fn a_store_that_cannot_be_opened_keeps_the_session_from_starting(world) {
        let (provider, key) = (Provider::start(world), fresh_key());
        assert!(secret(world, &["set", "anthropic"], &key).status.success());
        let store = world.omni_home().join("secrets");
        let whole = std::fs::read(&store).unwrap();
        let mut newer = whole.clone();
        newer["omni secrets\n".len() + 1] = 3;
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for (bytes, reason) in [(newer, "of version 3"), (changed, "does not open the secret store")] {
            std::fs::write(&store, bytes).unwrap();
            let outcome = finish(with_key(world, &provider, &["echo", "started"]), b"");
            assert!(outcome.code() == Some(125) && outcome.stderr.contains(reason), "{reason}: {outcome:?}");
            assert!(outcome.stdout.is_empty() && !outcome.stderr.contains(&key), "{outcome:?}");
        }
        std::fs::write(&store, whole).unwrap();
        assert_eq!(finish(with_key(world, &provider, &["echo", "started"]), b"").text(), "started\n");
        assert!(secret(world, &["remove", "anthropic"], "").status.success());
        assert_eq!(secret(world, &["list", "--json"], "").text(), "");
    }
}

attack! {
    fn a_value_that_cannot_be_a_secret_is_refused_and_not_shown(world) {
        for (value, reason) in [("", "it is empty"), ("line\nbreak-canary", "line break"), ("caf\u{e9}-canary", "no header can carry")] {
            let outcome = secret(world, &["set", "github"], value);
            assert!(outcome.code() == Some(1) && outcome.stderr.contains(reason), "{outcome:?}");
            assert!(!outcome.stderr.contains("canary"), "{outcome:?}");
        }
        let large = secret(world, &["set", "github"], &"x".repeat(1 << 20));
        assert!(large.code() == Some(1) && large.stderr.contains("longer than any key"), "{large:?}");
        let mut command = world.omni();
        command.args(["secret", "set", "github"]);
        let no_text = finish(command, b"\xff\xfe canary");
        assert!(no_text.code() == Some(1) && no_text.stderr.contains("the value is no text"), "{no_text:?}");
        assert!(!no_text.stderr.contains("canary"), "{no_text:?}");
        let unknown = secret(world, &["set", "githb"], "value");
        assert!(unknown.code() == Some(1) && unknown.stderr.contains("did you mean `github`"), "{unknown:?}");
        assert_eq!(secret(world, &["list", "--json"], "").text(), "");
    }
}

attack! {
    fn a_document_of_several_lines_is_kept_where_a_secret_is_one(world) {
        let pem = "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----\n";
        let place = ["set", "mesh", "--host", "mesh.example", "--port", "8443", "--client-certificate"];
        let set = secret(world, &place, pem);
        let told = "the client's certificate of requests to https://mesh.example:8443";
        assert!(set.status.success() && set.stderr.contains(told), "{set:?}");
        let unsaid = secret(world, &["set", "github-app"], pem);
        assert!(unsaid.code() == Some(1) && unsaid.stderr.contains("has no `github_app`"), "{unsaid:?}");
        let app = ["set", "github-app", "--app", "12", "--installation", "34"];
        let broken = secret(world, &app, "canary\0");
        assert!(broken.code() == Some(1) && broken.stderr.contains("stands in no text"), "{broken:?}");
        let set = secret(world, &app, pem);
        assert!(set.status.success() && set.stderr.contains("GH_TOKEN holds a placeholder"), "{set:?}");
        assert_eq!(written(world, "canary"), "");
        // It gets to the proxy as it was, which knows it for no key.
        for (name, why) in [("mesh", "it holds no certificate"), ("github-app", "its private key is no RSA key")] {
            let outcome = finish(world.exec(&["--secret", name], &["echo", "started"]), b"");
            let told = format!("the secret `{name}` cannot be used: {why}");
            assert!(outcome.code() == Some(125) && outcome.stderr.contains(&told), "{outcome:?}");
            assert!(outcome.stdout.is_empty() && !outcome.stderr.contains("canary"), "{outcome:?}");
        }
    }
}

/// A key in a file outside, looked at anew all the time.
const ROTATING: &str = "\
name: rotating
command: sh
description: a key that changes
filesystem: { workspace: direct }
egress:
  - allow: '* api.anthropic.com/**'
secrets:
  - name: anthropic
    from: 'file:KEYFILE'
    refresh: 1ms
    host: api.anthropic.com
    header: x-api-key
    placeholder: { env: KEY, shape: anthropic }
";

attack! {
    /// The proxy can open no file by then; what reads it anew does so as the user, outside, and is gone with the session.
    fn a_key_that_changes_outside_is_used_at_once(world) {
        let (provider, keys) = (Provider::start(world), [fresh_key(), fresh_key()]);
        let (file, profile) = (world.place().join("key"), world.place().join("rotating.yaml"));
        world.write(&profile, &ROTATING.replace("KEYFILE", file.to_str().unwrap()));
        world.write(&file, &keys[0]);
        let to = format!("api.anthropic.com:443:{}", provider.address);
        let ca = provider.certificate.display().to_string();
        let flags = ["--profile", profile.to_str().unwrap(), "--connect-to", &to, "--upstream-ca", &ca];
        let ask = "until test -e stop; do curl -s -o /dev/null -w '%{http_code}\\n' -H \"x-api-key: $KEY\" \
            https://api.anthropic.com/v1/models; done";
        let mut command = world.exec(&flags, &["sh", "-c", ask]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        // Each answer is one more look; the change is there in the next but one at the latest.
        let mut until = |what: &str, is_so: &dyn Fn(&str) -> bool| {
            let seen: Vec<String> = answers.by_ref().map_while(Result::ok).take(20).take_while(|line| !is_so(line)).collect();
            assert!(seen.len() < 20, "{what}: {seen:?}");
        };
        let heard = |key: &str| provider.heard().1.last().is_some_and(|line| line["headers"]["x-api-key"] == key);
        until("the first key", &|line| line == "200" && heard(&keys[0]));
        world.write(&file, &keys[1]);
        until("the second key", &|line| line == "200" && heard(&keys[1]));
        std::fs::remove_file(&file).unwrap();
        until("no key", &|line| line == "503");
        world.write(&file, &keys[0]);
        until("the first key again", &|line| line == "200" && heard(&keys[0]));
        world.write(&world.workspace().join("stop"), "");
        assert!(answers.count() < 20, "it goes on");
        assert_eq!(collect(child, b"").code(), Some(0));
    }
}

attack! {
    fn a_wrong_passphrase_opens_nothing_and_the_right_one_does(world) {
        let key = fresh_key();
        assert!(secret(world, &["set", "anthropic"], &key).status.success());
        let guarded = secret(world, &["passphrase"], "correct horse\n");
        if guarded.stderr.contains("the kernel keeps no key here") {
            println!("skipped: {}", guarded.stderr);
            return;
        }
        assert!(guarded.status.success() && !world.omni_home().join("secrets.key").exists(), "{guarded:?}");
        let start = || finish(world.exec(&["--secret", "anthropic"], &["sh", "-c", "echo held $ANTHROPIC_API_KEY"]), b"");
        assert!(start().text().starts_with("held sk-ant-api03-"), "the kernel keeps the key");
        assert!(secret(world, &["lock"], "").status.success());
        let locked = start();
        assert!(locked.code() == Some(125) && locked.stderr.contains("run `omni secret unlock`"), "{locked:?}");
        let wrong = secret(world, &["unlock"], "wrong horse\n");
        assert!(wrong.code() == Some(1) && wrong.stderr.contains("this is not the passphrase"), "{wrong:?}");
        assert!(!wrong.stderr.contains("wrong horse") && start().code() == Some(125), "{wrong:?}");
        assert!(secret(world, &["unlock"], "correct horse\n").status.success());
        assert!(start().text().starts_with("held sk-ant-api03-"));
        // So that the kernel keeps nothing of this test.
        assert!(secret(world, &["lock"], "").status.success());
    }
}

attack! {
    fn two_secrets_for_one_place_are_refused_and_one_without_a_value_is_left_out(world) {
        let profile = world.place().join("odd.yaml");
        let start = |secrets: &str| {
            world.write(&profile, &format!("name: odd\nsecrets:\n{secrets}"));
            let mut command = world.exec(&["--profile", profile.to_str().unwrap()], &["sh", "-c", "echo started ${GONE:-without}"]);
            command.env("ONE", "canary-one-of-two").env("TWO", "canary-two-of-two");
            finish(command, b"")
        };
        let one = |name: &str| format!("  - {{ name: {name}, from: 'env:{}', inject: true, host: a.example, bearer: true }}\n", name.to_uppercase());
        let both = start(&format!("{}{}", one("one"), one("two")));
        assert_eq!((both.code(), both.text().as_str()), (Some(125), ""), "{both:?}");
        assert!(both.stderr.contains("`one`") && both.stderr.contains("`two`") && !both.stderr.contains("canary"), "{both:?}");
        let gone = start("  - { name: gone, from: ['env:NOT_THERE', 'file:/none/such'], host: a.example, bearer: true, placeholder: { env: GONE } }\n");
        assert_eq!(gone.text(), "started without\n", "{gone:?}");
        let told = world.list(&["audit", "log", "--session", "last"]).into_iter().find(|event| event["event"] == "secret_missing");
        assert_eq!(told.expect("it is recorded")["secret"], "gone");
    }
}
