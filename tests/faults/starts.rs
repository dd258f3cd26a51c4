//! Starts with a fault in them.

use crate::calls::{is_tried, name};
use crate::support::{Outcome, Who, Witness, World, finish, try_as};
use crate::tracer::{Deed, Role, Target, Trace, follow};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

/// What the harness says of the box it finds itself in.
const DIGEST: &str = include_str!("digest.py");

/// A profile with a bit of everything: a grant, something in it that is for reading only, something hidden at two depths.
const PROFILE: &str = "\
name: faulty
filesystem: { workspace: direct, write: [~/.agent], read: [~/.agent/look], hide: [~/.agent/key, ~/.agent/deep/key] }
";

/// A world in which every start is the same.
pub struct Stage<'a> {
    world: &'a World,
    witness: Witness,
    /// Further flags of every start.
    flags: &'a [&'a str],
}

/// A start, what was seen of it, and what it said.
pub struct Start {
    pub trace: Trace,
    pub stdout: String,
    pub stderr: String,
}

impl<'a> Stage<'a> {
    pub fn new(world: &'a World) -> Self {
        for file in [".agent/look", ".agent/key", ".agent/deep/key", ".ssh/id_ed25519"] {
            world.write(&world.home().join(file), "the user's\n");
        }
        world.write(&world.place().join("faulty.yaml"), PROFILE);
        let witness = Witness::listen();
        let namespaces: BTreeMap<String, String> = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
            .map(|kind| {
                (kind.to_owned(), std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string())
            })
            .into();
        let host = json!({ "namespaces": namespaces, "port": witness.port() });
        world.write(&world.workspace().join("host.json"), &host.to_string());
        world.write(&world.workspace().join("digest.py"), DIGEST);
        let temporary = world.place().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        world.give(&temporary);
        Self { world, witness, flags: &[] }
    }

    #[allow(clippy::zombie_processes, reason = "whoever follows it reaps it")]
    pub fn start(&self, target: Option<(Target, Deed)>, swap: &dyn Fn()) -> Start {
        let mut command = self.world.command(Path::new("/bin/sh"));
        // It stops itself, so that it is followed before it becomes omni.
        command
            .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
            .arg(self.world.binary())
            .arg("exec")
            .args(self.flags)
            .arg("--profile");
        command.arg(self.world.place().join("faulty.yaml")).args(["--", "/usr/bin/python3", "-I", "digest.py"]);
        command.env("TMPDIR", self.world.place().join("temporary"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read = |stream: &mut dyn Read| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (out, err) = (std::thread::spawn(move || read(&mut stdout)), std::thread::spawn(move || read(&mut stderr)));
        let trace = follow(&child, target, swap);
        Start { trace, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
    }

    /// What must hold after every start, however it went: nothing is left of it.
    fn leaks(&self, start: &Start, deed: Option<Deed>) -> Vec<String> {
        let place = self.world.place().to_str().unwrap();
        let mentions = |path: &str| std::fs::read_to_string(path).unwrap().contains(place);
        let temporary = std::fs::read_dir(self.world.place().join("temporary")).unwrap().count();
        let mut leaks = Vec::new();
        for (leaked, what) in [
            (start.trace.stuck, "it waited for ever"),
            (start.trace.left > 0, "processes outlived it"),
            (mentions("/proc/self/mountinfo"), "a mount is left"),
            (mentions("/proc/net/unix"), "a socket is left"),
            // Of an omni that was killed, the next one removes it.
            (
                deed != Some(Deed::Kill) && has_group(Path::new("/sys/fs/cgroup"), start.trace.session),
                "a control group is left",
            ),
            (temporary > 0, "a temporary file is left"),
            (self.witness.visitors() > 0, "the host's loopback was reached"),
            (start.stderr.contains("panicked at src/"), "it panicked"),
        ] {
            if leaked {
                leaks.push(what.to_owned());
            }
        }
        leaks
    }

    /// The store takes what is there, and says that it is whole.
    fn check_store(&self) {
        let run = |arguments: &[&str]| {
            let mut command = self.world.omni();
            command.args(arguments);
            finish(command, b"")
        };
        let outcome: Outcome = run(&["audit", "verify"]);
        assert!(outcome.status.success(), "{outcome:?}");
        let outcome = run(&["sessions", "--json"]);
        assert!(outcome.status.success(), "{outcome:?}");
    }
}

/// The calls to strike: of each kind in each process the first (as root) and the last (as an ordinary user), or all.
fn targets(who: Who, calls: &[(Option<Role>, i64)]) -> Vec<Target> {
    let all = std::env::var("OMNI_FAULTS").is_ok_and(|value| value == "all");
    let mut counts: BTreeMap<(Role, i64), usize> = BTreeMap::new();
    for (role, call) in calls {
        if let Some(role) = role.filter(|role| *role != Role::Other && is_tried(*call)) {
            *counts.entry((role, *call)).or_default() += 1;
        }
    }
    let chosen = |count: usize| match who {
        _ if all => (1..=count).collect(),
        Who::Root => BTreeSet::from([1]),
        Who::Ordinary => BTreeSet::from([count]),
    };
    let one = |((role, call), count): (&(Role, i64), &usize)| {
        let (role, call) = (*role, *call);
        chosen(*count).into_iter().map(move |occurrence| Target { role, call, occurrence }).collect::<Vec<_>>()
    };
    counts.iter().flat_map(one).collect()
}

/// What is wrong with a start that had a fault in it, if anything.
fn judge(stage: &Stage<'_>, start: &Start, whole: &Value, deed: Deed) -> Vec<String> {
    let mut wrong = stage.leaks(start, Some(deed));
    let ran = start.stdout.lines().last().map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    match ran {
        Some(digest) if digest != *whole && !is_cut_off(start, &digest, whole) => {
            wrong.push(format!("the box is another: {}", difference(&digest, whole)))
        }
        Some(_) => {}
        None if start.trace.ended == 0 => wrong.push("it said that all went well, and nothing ran".to_owned()),
        None if deed != Deed::Kill && !is_refusal(start) => wrong.push(format!("it ended by {}", start.trace.ended)),
        None => {}
    }
    wrong
}

/// Whether there is a control group of this session's at or below a place.
fn has_group(place: &Path, session: u32) -> bool {
    let below = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let name = format!("omni-{session}-");
    below.any(|entry| entry.file_name().to_string_lossy().starts_with(&name) || has_group(&entry.path(), session))
}

/// Whether omni ended as it does when it cannot start a harness: by its own code, with a reason.
fn is_refusal(start: &Start) -> bool {
    let says = |what: &str| start.stderr.lines().any(|line| line.contains(what));
    match start.trace.ended {
        125 => says("omni: "),
        // The program itself could not be looked at or executed.
        126 => says("omni: ") && says("executed"),
        // The loader's own end, and that of Rust's runtime, before there is anything of ours.
        127 => says("does not exist") || says("error while loading shared libraries") || says("thread-local storage"),
        // What the standard library takes for impossible.
        101 => says("panicked at /rustc/"),
        code => code == -libc::SIGABRT && says("fatal runtime error"),
    }
}

/// Whether it is the box that was planned but for its way out: the proxy died, and the harness asked before the session had ended.
fn is_cut_off(start: &Start, digest: &Value, whole: &Value) -> bool {
    let mut planned = whole.clone();
    planned["network"][0] = Value::from("Connection refused");
    *digest == planned && start.stderr.contains("the proxy died")
}

fn difference(one: &Value, other: &Value) -> String {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return format!("{one}") };
    let differ = other.iter().filter(|(key, value)| one.get(*key) != Some(value));
    differ.map(|(key, value)| format!("{key}: {:?} instead of {value}", one.get(key))).collect::<Vec<_>>().join("; ")
}

fn strike_all(world: &World, deed: Deed, roles: &[Role], flags: &[&str]) {
    let stage = Stage { flags, ..Stage::new(world) };
    let whole = stage.start(None, &|| ());
    assert_eq!((whole.trace.ended, stage.leaks(&whole, None)), (0, Vec::new()), "{}", whole.stderr);
    let digest: Value = serde_json::from_str(whole.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(digest["status"]["Seccomp"], "2", "{digest}");
    let limited = flags.iter().any(|flag| flag.starts_with("--pids"));
    assert_eq!(digest["at_once"].as_u64() < Some(40), limited, "{digest}");
    let mut wrong = Vec::new();
    let (mut struck, mut ran) = (0, 0);
    for target in targets(world.who, &whole.trace.calls).into_iter().filter(|target| roles.contains(&target.role)) {
        let start = stage.start(Some((target, deed)), &|| ());
        struck += usize::from(start.trace.struck);
        ran += usize::from(!start.stdout.is_empty());
        let found = judge(&stage, &start, &digest, deed);
        if std::env::var("OMNI_FAULTS").is_ok() {
            let call = name(target.call);
            println!(
                "{:?} {call} {}: {} {:?} {}",
                target.role,
                target.occurrence,
                start.trace.ended,
                start.stdout.is_empty(),
                start.stderr.trim()
            );
        }
        for what in found {
            wrong.push(format!(
                "{:?} {} {}: {what} ({:?})",
                target.role,
                name(target.call),
                target.occurrence,
                start.stderr.trim()
            ));
        }
    }
    stage.check_store();
    println!("{struck} calls struck, {ran} harnesses ran all the same");
    assert!(struck > 20, "only {struck} calls were struck");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! strikes {
    ($($name:ident: $who:expr, $deed:expr, $roles:expr $(, $flag:literal)*;)*) => {
        $(#[test]
        fn $name() {
            try_as($who, |world| strike_all(world, $deed, &$roles, &[$($flag),*]));
        })*
    };
}

strikes! {
    a_call_that_fails_in_the_session_never_weakens_roots_box: Who::Root, Deed::Fail(libc::EIO), [Role::Session];
    a_call_that_fails_in_the_session_never_weakens_an_ordinary_users_box: Who::Ordinary, Deed::Fail(libc::EIO), [Role::Session];
    a_call_that_fails_in_roots_proxy_never_weakens_the_box: Who::Root, Deed::Fail(libc::EIO), [Role::Proxy];
    a_call_that_fails_in_an_ordinary_users_proxy_never_weakens_the_box: Who::Ordinary, Deed::Fail(libc::EIO), [Role::Proxy];
    a_call_that_fails_in_roots_sandbox_never_weakens_it: Who::Root, Deed::Fail(libc::EIO), [Role::Sandbox, Role::Harness];
    a_call_that_fails_in_an_ordinary_users_sandbox_never_weakens_it: Who::Ordinary, Deed::Fail(libc::EIO), [Role::Sandbox, Role::Harness];
    a_call_that_fails_in_roots_layered_sandbox_never_weakens_it: Who::Root, Deed::Fail(libc::EIO), [Role::Sandbox], "--fs=overlay";
    a_call_that_fails_in_a_layered_session_never_weakens_its_box: Who::Ordinary, Deed::Fail(libc::EIO), [Role::Session, Role::Sandbox], "--fs=overlay";
    a_call_that_fails_in_a_session_with_limits_never_weakens_its_box: Who::Root, Deed::Fail(libc::EIO), [Role::Session, Role::Sandbox], "--pids=40";
    roots_omni_killed_at_any_call_leaves_nothing: Who::Root, Deed::Kill, [Role::Session];
    an_ordinary_users_omni_killed_at_any_call_leaves_nothing: Who::Ordinary, Deed::Kill, [Role::Session];
    a_proxy_killed_at_any_call_leaves_nothing: Who::Ordinary, Deed::Kill, [Role::Proxy];
    a_sandbox_killed_at_any_call_leaves_nothing: Who::Ordinary, Deed::Kill, [Role::Sandbox, Role::Harness];
}
