//! Other processes: those of the host, process 1 of the sandbox, and what must not stay.

use crate::support::{World, collect, ends_within, finish};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A process of the same user outside, which ends when its input does.
struct Victim(Child);

impl Victim {
    fn of(world: &World) -> Self {
        let mut command = world.command(Path::new("cat"));
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

attack! {
    fn cannot_touch_a_process_of_the_host(world) {
        let mut victim = Victim::of(world);
        let code = format!("\
pid = int(arguments[0])
buffer = ctypes.create_string_buffer(64)
vector = ctypes.create_string_buffer(struct.pack('PN', ctypes.addressof(buffer), 8))
remote = ctypes.create_string_buffer(struct.pack('PN', 0x1000, 8))
def trace():
    ctypes.set_errno(0)
    if libc.ptrace(16, pid, None, None): raise OSError(ctypes.get_errno(), 'ptrace')
    os.waitpid(pid, 0)
    libc.ptrace(17, pid, None, None)
say(dict(seen=os.path.exists(f'/proc/{{pid}}'), kill=attempt(lambda: os.kill(pid, 0)), trace=attempt(trace),
    read=call({}, pid, vector, 1, remote, 1, 0), open=call({}, pid, 0), limits=call({}, pid, 7, None, None),
    priority=attempt(lambda: os.getpriority(os.PRIO_PROCESS, pid)), memory=attempt(lambda: open(f'/proc/{{pid}}/mem', 'rb'))))",
            libc::SYS_process_vm_readv, libc::SYS_pidfd_open, libc::SYS_prlimit64);
        let outside = world.probe_outside(&code, &[&victim.pid()]);
        for act in ["kill", "trace", "open", "limits", "memory"] {
            assert_eq!(outside[act], "ok", "{act}: {outside}");
        }
        let inside = world.probe(&code, &[&victim.pid()]);
        let expected = json!({
            "seen": false, "kill": "ESRCH", "trace": "ESRCH", "read": "ESRCH", "open": "ESRCH", "limits": "ESRCH",
            "priority": "ESRCH", "memory": "ENOENT",
        });
        assert_eq!(inside, expected);
        assert!(victim.lives());
    }
}

attack! {
    fn killing_everybody_kills_nobody_outside(world) {
        let mut victim = Victim::of(world);
        let code = "\
child = os.fork()
if child == 0:
    while True: signal.pause()
os.kill(-1, signal.SIGKILL)
say(['survived', os.WTERMSIG(os.waitpid(child, 0)[1])])";
        assert_eq!(world.probe(code, &[]), json!(["survived", libc::SIGKILL]));
        assert!(victim.lives());
    }
}

attack! {
    fn sees_no_process_but_its_own(world) {
        let mut victim = Victim::of(world);
        let code = "say([pid for pid in os.listdir('/proc') if pid.isdigit()])";
        let outside: Vec<String> = serde_json::from_value(world.probe_outside(code, &[])).unwrap();
        assert!(outside.contains(&victim.pid()));
        assert_eq!(world.probe(code, &[]), json!(["1", "2"]));
        assert!(victim.lives());
    }
}

attack! {
    /// Everybody may read a command line, so process 1 shows none of omni's: rules, mounts and values stand in it.
    fn process_1_tells_nothing(world) {
        let code = "say({what: attempt(lambda: open('/proc/1/' + what, 'rb').read()) for what in ('environ', 'mem', 'maps', 'auxv')}\
            | {'cmdline': open('/proc/1/cmdline').read().strip('\\0'), 'own': 'PRECIOUS' in open('/proc/self/cmdline').read(),\
            'fd': attempt(lambda: os.listdir('/proc/1/fd')), 'exe': attempt(lambda: os.readlink('/proc/1/exe'))})";
        let inside = world.probe_with(&["--env", "TOKEN=PRECIOUS", "--allow", "GET example.com"], code, &["PRECIOUS"]);
        assert_eq!(inside, json!({
            "cmdline": "omni", "own": true, "environ": "EACCES", "mem": "EACCES", "maps": "EACCES", "auxv": "EACCES",
            "fd": "EACCES", "exe": "EACCES",
        }));
    }
}

attack! {
    /// Right from its first instruction: process 1 must have closed itself by then.
    fn cannot_trace_process_1(world) {
        let code = format!("\
ctypes.set_errno(0)
traced = libc.ptrace(16, 1, None, None)
say([name(ctypes.get_errno()) if traced else 'ok', call({}, 1, None, 0, None, 0, 0), attempt(lambda: os.kill(1, signal.SIGKILL))])",
            libc::SYS_process_vm_readv);
        for _ in 0..3 {
            // Process 1 is deaf to signals from inside; that it is still there shows in that the answer arrives.
            let found = world.probe(&code, &[]);
            assert_eq!(found[0], "EPERM");
            assert_eq!(world.shell(&[], "kill -9 1; kill -TERM 1; echo alive").text(), "alive\n");
        }
    }
}

attack! {
    /// A daemon detaches from everything that ends with its parent: terminal, group, session.
    fn a_daemon_does_not_outlive_the_session(world) {
        let script = "\
import fcntl
def daemon(path):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            held = os.open(path, os.O_CREAT | os.O_RDWR)
            fcntl.flock(held, fcntl.LOCK_EX)
            os.write(ready, b'x')
            os.closerange(0, 3)
            signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True: signal.pause()
        os._exit(0)
    os.wait()
waiting, ready = os.pipe()
for path in arguments: daemon(path)
for path in arguments: os.read(waiting, 1)
say('left')";
        let paths: Vec<String> = (0..3).map(|n| world.workspace().join(format!("held{n}")).display().to_string()).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(world.probe(script, &paths), "left");
        // A lock lives as long as its holder: all can be had, so all are gone.
        let take = "import fcntl\nsay([attempt(lambda: fcntl.flock(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)) for path in arguments])";
        assert_eq!(world.probe_outside(take, &paths), json!(["ok", "ok", "ok"]));
        let mut control = world.command(Path::new("flock"));
        control.args([paths[0], "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut control = control.spawn().unwrap();
        std::io::Write::write_all(control.stdin.as_mut().unwrap(), b"x\n").unwrap();
        std::io::Read::read_exact(control.stdout.as_mut().unwrap(), &mut [0; 2]).unwrap();
        assert_eq!(world.probe_outside(take, &paths[..1]), json!(["EAGAIN"]), "a lock that is held shows");
        drop(control.stdin.take());
        collect(control, b"");
    }
}

attack! {
    /// The core file of a harness would hold what it held.
    fn a_crash_leaves_no_core_file(world) {
        let crash = "ulimit -c unlimited 2>/dev/null; kill -SEGV $$";
        let outcome = world.shell(&[], crash);
        assert_eq!(outcome.signal(), Some(libc::SIGSEGV), "{outcome:?}");
        assert_eq!(std::fs::read_dir(world.workspace()).unwrap().count(), 0);
        let limits = "import resource\nsay(resource.getrlimit(resource.RLIMIT_CORE))";
        assert_eq!(world.probe(limits, &[]), json!([0, 0]));
    }
}

attack! {
    /// Which program is started by which way is nobody's rule here: a copy, the loader, memory. All are as confined.
    fn a_program_started_another_way_is_as_confined(world) {
        let key = world.home().join(".ssh/id_ed25519");
        world.write(&key, "the key\n");
        let code = "\
path = arguments[0]
memory = os.memfd_create('cat')
os.write(memory, open('/bin/cat', 'rb').read())
open('copy', 'wb').write(open('/bin/cat', 'rb').read()); os.chmod('copy', 0o755)
loader = [f'/lib64/{n}' for n in sorted(os.listdir('/lib64')) if n.startswith('ld-')][:1]
def run(argv):
    import subprocess
    return subprocess.run(argv + [path], pass_fds=[memory], capture_output=True).stdout.decode()
say([run([f'/proc/self/fd/{memory}']), run([os.path.abspath('copy')])] + [run([each, '/bin/cat']) for each in loader])";
        let path = key.to_str().unwrap();
        let read = |value: Value| serde_json::from_value::<Vec<String>>(value).unwrap();
        assert!(read(world.probe_outside(code, &[path])).iter().all(|text| text == "the key\n"));
        assert!(read(world.probe(code, &[path])).iter().all(String::is_empty));
    }
}

attack! {
    /// Variables that make programs run other code or look elsewhere; the harness's environment begins empty.
    fn the_callers_environment_does_not_arrive(world) {
        let names = [
            "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "NODE_OPTIONS", "PYTHONSTARTUP", "PYTHONPATH", "PERL5OPT",
            "RUBYOPT", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "JAVA_TOOL_OPTIONS", "HTTPS_PROXY", "https_proxy", "ALL_PROXY",
            "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OMNI_HOME", "OMNI_TOKEN", "UNHEARD_OF",
        ];
        // omni itself goes by these outside, and starts with no proxy that is none.
        let hostile = names.map(|name| match name.ends_with("_PROXY") || name.ends_with("_proxy") {
            true => (name, "http://nonexistent-omni-attack:3128"),
            false => (name, "/nonexistent-omni-attack"),
        });
        let mut outside = world.command(Path::new("env"));
        outside.envs(hostile);
        let outside = finish(outside, b"").text();
        assert!(hostile.iter().all(|(name, value)| outside.contains(&format!("{name}={value}"))), "{outside}");
        let mut inside = world.exec(&[], &["env"]);
        inside.envs(hostile).env("OMNI_HOME", world.omni_home());
        let inside = finish(inside, b"");
        assert!(!inside.text().contains("nonexistent-omni-attack"), "{}", inside.text());
        let has = |name: &str| inside.text().lines().any(|line| line.split_once('=').is_some_and(|(known, _)| known == name));
        // The one of these that omni sets itself, to something of its own: it tells Java where the certificates are.
        let own = "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/run/omni/";
        assert!(inside.text().lines().filter(|line| line.starts_with("JAVA_TOOL_OPTIONS=")).all(|line| line.starts_with(own)));
        let mut others = names.iter().filter(|name| **name != "JAVA_TOOL_OPTIONS");
        assert!(has("HOME") && !others.any(|name| has(name)), "{}", inside.text());
    }
}

attack! {
    /// Under supervision by nobody, with a name for the session but no door to omni.
    fn cannot_command_omni_from_inside(world) {
        let omni = format!("{}:/mnt/omni:ro", world.binary().display());
        let outcome = world.shell(&["--mount", &omni], "/mnt/omni exec -- true");
        assert!(outcome.stderr.contains("refused new namespaces"), "{outcome:?}");
        let outcome = world.shell(&["--mount", &omni], "/mnt/omni sessions --json");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), ""), "no session is known there: {outcome:?}");
        assert_eq!(world.list(&["sessions"]).len(), 2);
    }
}

attack! {
    /// Ending the harness by hand ends everything: the proof is that nothing holds the pipe any more.
    fn what_the_harness_started_dies_with_it(world) {
        let script = "sleep 600 & setsid sleep 600 & nohup sleep 600 2>/dev/null & echo started; kill -9 $$";
        let child = world.exec(&[], &["sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        // Its output ends only when the last holder is gone.
        let outcome = collect(child, b"");
        assert_eq!((outcome.text().as_str(), outcome.signal()), ("started\n", Some(libc::SIGKILL)));
        assert!(ends_within(pid, Duration::ZERO));
    }
}
