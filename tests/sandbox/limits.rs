//! Using the machine up: memory, processes, processor time, open files, room in memory. Whoever stands by outside must
//! not notice.
//!
//! What holds the limits differs from machine to machine, so each test says what it saw at work.

use crate::support::{Outcome, PRELUDE, Who, World, each, finish};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where omni itself goes, so that a group of version 2 can be divided.
const OWN_LEAF: &str = "omni-supervisors";

/// Control groups of the attacker's own, made by root as systemd's `Delegate=yes` would. Dropping removes them.
struct Delegated(Vec<PathBuf>);

impl Delegated {
    /// None where this test may make none, which only root may.
    fn to(world: &World) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can make control groups here");
            return None;
        }
        let name = format!("limits-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made = Self(parents().into_iter().map(|parent| parent.join(&name)).collect());
        for group in &made.0 {
            std::fs::create_dir(group).unwrap();
            world.give(group);
            for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"] {
                if group.join(file).exists() {
                    world.give(&group.join(file));
                }
            }
        }
        Some(made)
    }

    /// A command that starts in the groups.
    fn start(&self, command: &Command) -> Command {
        let enter = |group: &PathBuf| {
            // Once a session has divided a group of version 2, nobody may be in it but here.
            let leaf = group.join(OWN_LEAF);
            let place = if leaf.exists() { &leaf } else { group };
            format!("echo $$ >{}/cgroup.procs && ", place.display())
        };
        let groups: Vec<_> = self.0.iter().map(enter).collect();
        let mut inside = Command::new("sh");
        inside.arg("-c").arg(format!("{}exec \"$@\"", groups.concat())).arg("sh");
        inside.arg(command.get_program()).args(command.get_args()).env_clear();
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside.current_dir(command.get_current_dir().unwrap());
        inside
    }

    fn run(&self, world: &World, flags: &[&str], argv: &[&str]) -> Outcome {
        finish(self.start(&world.exec(flags, argv)), b"")
    }

    /// What is left of sessions.
    fn left(&self) -> Vec<PathBuf> {
        let entries = self.0.iter().flat_map(|group| std::fs::read_dir(group).unwrap().flatten());
        let directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        directories.filter(|path| !path.ends_with(OWN_LEAF)).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in &self.0 {
            let below = std::fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
            for path in below.filter(|path| path.is_dir()).collect::<Vec<_>>() {
                let _ = std::fs::remove_dir(path);
            }
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// Where groups with the three controllers can be made: the unified hierarchy's root, or this process's own groups of
/// version 1.
fn parents() -> Vec<PathBuf> {
    let unified = Path::new("/sys/fs/cgroup");
    if let Ok(list) = std::fs::read_to_string(unified.join("cgroup.controllers")) {
        assert!(
            ["memory", "pids", "cpu"].iter().all(|name| list.split_whitespace().any(|each| each == *name)),
            "{list}"
        );
        std::fs::write(unified.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
        return vec![unified.to_owned()];
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut parents = Vec::new();
    for controller in ["memory", "pids", "cpu"] {
        let mut lines = own.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        let line = lines.find(|line| line[1].split(',').any(|each| each == controller)).unwrap();
        let parent = unified.join(line[1]).join(line[2].trim_start_matches('/'));
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    }
    parents
}

/// The last session, as it is on record.
fn last(world: &World) -> Value {
    world.list(&["show", "last"]).remove(0)
}

fn event<'a>(session: &'a Value, kind: &str) -> &'a Value {
    let events = session["events"].as_array().unwrap();
    events.iter().find(|event| event["event"] == kind).unwrap_or_else(|| panic!("no `{kind}`: {session}"))
}

/// What held a limit, which is said aloud.
fn holder(session: &Value, limit: &str) -> String {
    let limits = event(session, "session_started")["isolation"]["limits"].as_array().unwrap();
    let held = limits.iter().find(|held| held["limit"] == limit).unwrap_or_else(|| panic!("no {limit}: {limits:?}"));
    println!("{limit} was held by {}", held["held_by"]);
    held["held_by"].as_str().unwrap().to_owned()
}

fn python<'a>(code: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["/usr/bin/python3", "-I", "-c", code], arguments].concat()
}

/// A process of the host that answers, or does not.
struct Bystander(std::process::Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn answers(&mut self) {
        use std::io::{Read, Write};
        self.0.stdin.as_mut().unwrap().write_all(b"there?").unwrap();
        let mut answer = [0; 6];
        self.0.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"there?");
        assert!(Command::new("true").status().unwrap().success(), "the host starts programs as before");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Four ways of taking 160 MiB, and saying so.
const BALLOONS: &str = "\
import os, signal, sys
block = b'x' * (1 << 20)
def fill(file):
    for _ in range(160): os.write(file, block)
kept = []
{'heap': lambda: kept.append(bytearray(os.urandom(1 << 20)) * 160),
 'tmp': lambda: fill(os.open('/tmp/balloon', os.O_CREAT | os.O_WRONLY)),
 'shm': lambda: fill(os.open('/dev/shm/balloon', os.O_CREAT | os.O_WRONLY)),
 'memfd': lambda: fill(os.memfd_create('balloon')),
 'children': lambda: [os.fork() or (kept.append(bytearray(os.urandom(1 << 20)) * 40), signal.pause()) for _ in range(4)] and signal.pause(),
}[sys.argv[1]]()
print('full')";

attack! {
    fn whoever_takes_more_memory_than_the_session_has_ends_it(world) {
        let Some(groups) = Delegated::to(world) else { return };
        let mut bystander = Bystander::new();
        for way in ["heap", "tmp", "shm", "memfd", "children"] {
            let outcome = groups.run(world, &["--memory", "96MiB"], &python(BALLOONS, &[way]));
            assert_eq!((outcome.code(), outcome.text().as_str()), (Some(123), ""), "{way}: {outcome:?}");
            assert!(outcome.stderr.contains("memory: 96 MiB reached"), "{way}: {outcome:?}");
            let session = last(world);
            let by = holder(&session, "memory");
            assert_eq!(session["status"], "memory_limit", "{session}");
            let reached = event(&session, "limit_reached");
            assert_eq!((&reached["limit"], &reached["amount"], &reached["held_by"]), (&json!("memory"), &json!(96 << 20), &json!(by)));
            assert_eq!(event(&session, "session_ended")["exit"], json!({ "code": 123 }));
            bystander.answers();
        }
        for way in ["heap", "tmp", "shm", "memfd"] {
            let outcome = groups.run(world, &["--memory", "320MiB"], &python(BALLOONS, &[way]));
            assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), "full\n"), "{way}: {outcome:?}");
        }
        assert!(groups.left().is_empty(), "{:?}", groups.left());
    }
}

/// Forks, and makes threads, until it may not, at most 200 of each.
const BOMB: &str = "\
import os, signal, threading, time, json
def processes():
    children = []
    try:
        while len(children) < 200:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except BlockingIOError: pass
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return len(children)
def threads():
    made, stop = 0, threading.Event()
    try:
        while made < 200:
            threading.Thread(target=stop.wait, daemon=True).start()
            made += 1
    except RuntimeError: pass
    stop.set()
    return made
print(json.dumps([processes(), threads()]))";

attack! {
    fn a_fork_bomb_stays_in_its_bounds(world) {
        let Some(groups) = Delegated::to(world) else { return };
        let mut bystander = Bystander::new();
        let outcome = groups.run(world, &["--pids", "40"], &python(BOMB, &[]));
        assert_eq!((outcome.code(), outcome.json()), (Some(0), json!([39, 39])), "{outcome:?}");
        bystander.answers();
        let session = last(world);
        assert!(holder(&session, "pids").starts_with("cgroup"), "{session}");
        let reached = event(&session, "limit_reached");
        assert_eq!((&reached["limit"], &reached["amount"]), (&json!("pids"), &json!(40)));
        assert!(reached["times"].as_u64().unwrap() >= 2, "{reached}");
        let free = groups.run(world, &[], &python(BOMB, &[]));
        assert_eq!(free.json(), json!([200, 200]), "{free:?}");
    }
}

attack! {
    /// The kernel counts a user's processes by user namespace, and a sandbox has one of its own.
    fn without_groups_a_fork_bomb_stays_in_its_bounds_too(world) {
        if world.who == Who::Root {
            return;
        }
        let others: Vec<_> = (0..4).map(|_| finish(world.exec(&["--pids", "40"], &python(BOMB, &[])), b"")).collect();
        assert!(others.iter().all(|outcome| outcome.json() == json!([39, 39])), "{others:?}");
        println!("pids were held by {}", holder(&last(world), "pids"));
    }
}

attack! {
    fn a_session_whose_profile_says_nothing_cannot_take_every_process_id(world) {
        let code = "import resource\nsay(resource.getrlimit(resource.RLIMIT_NPROC))";
        let inside: Vec<u64> = serde_json::from_value(world.probe(code, &[])).unwrap();
        assert!(inside.iter().all(|limit| *limit <= 8193), "{inside:?}");
    }
}

attack! {
    fn spinning_takes_no_more_than_its_share(world) {
        let Some(groups) = Delegated::to(world) else { return };
        let spin = "\
import os, time, json
def used():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
before, end = used(), time.monotonic() + 1.5
if os.fork() == 0:
    while time.monotonic() < end: pass
    os._exit(0)
while time.monotonic() < end: pass
os.wait()
print(json.dumps(used() - before))";
        // So little that a machine on which much else goes on lets them have more: else nothing would be reached.
        let outcome = groups.run(world, &["--cpus", "0.05"], &python(spin, &[]));
        let used = outcome.json().as_f64().unwrap();
        assert!(used < 0.6, "two spinners for 1.5 s used {used} s of a twentieth of a processor: {outcome:?}");
        let session = last(world);
        holder(&session, "cpus");
        assert_eq!(event(&session, "limit_reached")["limit"], "cpus");
        assert_eq!(session["status"], "finished", "having to wait ends nothing");
    }
}

fn with_limits(world: &World, limits: &str) -> String {
    let profile = world.place().join("limited.yaml");
    world.write(&profile, &format!("name: limited\nlimits: {limits}\n"));
    profile.to_str().unwrap().to_owned()
}

attack! {
    fn no_more_files_are_open_than_the_profile_says(world) {
        let code = "\
def many():
    global kept
    kept = []
    while len(kept) < 400: kept.append(open('/dev/null'))
say([attempt(many), len(kept)])";
        let profile = with_limits(world, "{ files: 64 }");
        let inside = world.probe_with(&["--profile", &profile], code, &[]);
        assert_eq!((&inside[0], inside[1].as_u64().unwrap() <= 61), (&json!("EMFILE"), true), "{inside}");
        assert_eq!(holder(&last(world), "files"), "rlimit");
        assert_eq!(world.probe(code, &[]), json!(["ok", 400]));
    }
}

attack! {
    fn directories_in_memory_are_full_when_the_profile_says(world) {
        let code = "\
def fill(place):
    def write():
        with open(place + '/balloon', 'wb', 0) as file:
            for _ in range(8): file.write(bytes(1 << 20))
    outcome = attempt(write)
    os.unlink(place + '/balloon')
    return outcome
say([fill(place) for place in ['/tmp', '/var/tmp', '/dev/shm', os.environ['HOME']]])";
        let profile = with_limits(world, "{ tmp: 4MiB }");
        let flags = ["--profile", profile.as_str()];
        assert_eq!(world.probe_with(&flags, code, &[]), each("ENOSPC", 4));
        assert_eq!(holder(&last(world), "tmp"), "tmpfs");
        assert_eq!(world.probe(code, &[]), each("ok", 4));
    }
}

attack! {
    fn the_changes_of_an_overlay_take_no_more_room_than_the_profile_says(world) {
        world.write(&world.workspace().join("kept"), "as it was\n");
        let profile = with_limits(world, "{ disk: 8MiB }");
        let flags = ["--profile", profile.as_str(), "--fs", "overlay"];
        // Spread over directories and files, of which one look takes in a part.
        let fill = "\
import os, sys, time
for directory in range(64):
    os.mkdir(str(directory))
    for number in range(int(sys.argv[1])): open(f'{directory}/{number}', 'wb').write(bytes(16384))
print('written', flush=True)
if sys.argv[2] == 'stay': time.sleep(600)";
        let outcome = finish(world.exec(&flags, &python(fill, &["16", "stay"])), b"");
        assert_eq!(outcome.code(), Some(123), "{outcome:?}");
        assert!(outcome.stderr.contains("disk: 8 MiB reached"), "{outcome:?}");
        let session = last(world);
        assert_eq!((session["status"].as_str(), holder(&session, "disk").as_str()), (Some("disk_limit"), "watch"));
        assert_eq!(event(&session, "limit_reached")["limit"], "disk");
        assert_eq!(std::fs::read_dir(world.workspace()).unwrap().count(), 1, "the workspace is as it was");
        let outcome = finish(world.exec(&flags, &python(fill, &["2", "go"])), b"");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), "written\n"), "{outcome:?}");
        let direct = finish(world.exec(&flags[..2], &["true"]), b"");
        assert_eq!(direct.code(), Some(125), "{direct:?}");
        assert!(direct.stderr.contains("use it with `--fs overlay`"), "{direct:?}");
    }
}

attack! {
    /// A file without a byte takes memory of the kernel all the same.
    fn directories_in_memory_hold_no_endless_number_of_files(world) {
        let code = "\
def crowd():
    for number in range(4000): os.close(os.open(f'/tmp/{number}', os.O_CREAT | os.O_WRONLY))
say(attempt(crowd))";
        let profile = with_limits(world, "{ tmp: 4MiB }");
        assert_eq!(world.probe_with(&["--profile", &profile], code, &[]), json!("ENOSPC"));
        assert_eq!(world.probe(code, &[]), json!("ok"));
    }
}

attack! {
    fn cannot_reach_its_own_control_group(world) {
        let Some(groups) = Delegated::to(world) else { return };
        let code = "\
shown = sorted({line.strip().split(':', 2)[2] for line in open('/proc/self/cgroup') if line.split(':')[1] in ('', 'memory', 'pids', 'cpu')})
mounted = [line for line in open('/proc/self/mountinfo') if ' - cgroup' in line]
files = os.path.exists('/sys/fs/cgroup')
def mount(kind): return call(165, kind, b'/tmp', kind, 0, 0)
say(dict(shown=shown, mounted=mounted, files=files, one=mount(b'cgroup'), two=mount(b'cgroup2')))";
        let source = format!("{PRELUDE}\n{code}");
        let flags = ["--memory", "256MiB", "--pids", "100", "--cpus", "2"];
        let outcome = groups.run(world, &flags, &python(&source, &[]));
        let inside = outcome.json();
        let expected = json!({ "shown": ["/"], "mounted": [], "files": false, "one": "EPERM", "two": "EPERM" });
        assert_eq!(inside, expected, "{outcome:?}");
    }
}

attack! {
    fn a_limit_that_nothing_can_hold_is_refused_with_the_way_to_get_it(world) {
        if world.who == Who::Root {
            return;
        }
        for (flag, amount) in [("--memory", "1GiB"), ("--cpus", "1")] {
            let outcome = finish(world.exec(&[flag, amount], &["touch", "started"]), b"");
            assert_eq!(outcome.code(), Some(125), "{outcome:?}");
            let said = outcome.stderr.contains("nothing here can hold the limit on");
            let way = outcome.stderr.contains("Delegate=yes") || outcome.stderr.contains("have root give you");
            assert!(said && way, "{outcome:?}");
            assert!(!world.workspace().join("started").exists());
        }
    }
}

attack! {
    fn a_killed_omni_leaves_an_empty_group_that_the_next_start_removes(world) {
        use std::io::Read;
        let Some(groups) = Delegated::to(world) else { return };
        let mut command = groups.start(&world.exec(&["--memory", "256MiB", "--pids", "50"], &["sh", "-c", "echo ready; exec sleep 600"]));
        let mut omni = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut word = [0; 6];
        omni.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
        let busy = groups.left();
        assert!(!busy.is_empty());
        let inside = |group: &PathBuf| std::fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count();
        assert!(busy.iter().all(|group| inside(group) >= 2), "process 1 and the harness are in it");
        omni.kill().unwrap();
        // Its output ends when the last of its processes does.
        omni.stdout.as_mut().unwrap().read_to_end(&mut Vec::new()).unwrap();
        omni.wait().unwrap();
        let outcome = groups.run(world, &["--memory", "256MiB", "--pids", "50"], &["true"]);
        assert_eq!((outcome.code(), groups.left()), (Some(0), Vec::new()), "{outcome:?}");
    }
}
