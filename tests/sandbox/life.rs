//! How a session ends, and what is left when omni itself is killed.

use crate::support::{PRELUDE, World, collect, ends_within, finish, wait};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Bounded by what a killed proxy may take to settle.
const END_TIMEOUT: Duration = Duration::from_secs(10);

attack! {
    fn omni_exits_as_the_harness_did(world) {
        for code in [0, 7, 125, 255] {
            assert_eq!(world.shell(&[], &format!("exit {code}")).code(), Some(code));
        }
    }
}

attack! {
    fn omni_dies_by_the_signal_that_the_harness_died_by(world) {
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV, libc::SIGINT, libc::SIGABRT] {
            let outcome = world.shell(&[], &format!("kill -{signal} $$"));
            assert_eq!((outcome.code(), outcome.signal()), (None, Some(signal)), "{outcome:?}");
        }
    }
}

attack! {
    fn a_program_that_is_missing_or_not_one_says_so(world) {
        world.write(&world.workspace().join("text"), "no program");
        let code = |argv: &[&str]| finish(world.exec(&[], argv), b"").code();
        assert_eq!([code(&["no-such-program"]), code(&["./text"]), code(&["true"])], [Some(127), Some(126), Some(0)]);
    }
}

attack! {
    fn a_script_whose_interpreter_is_not_there_says_so(world) {
        let script = world.workspace().join("script");
        world.write(&script, "#!/no/such/interpreter\n");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let outcome = finish(world.exec(&[], &["./script"]), b"");
        assert_eq!(outcome.code(), Some(127), "{outcome:?}");
        assert!(outcome.stderr.contains("what its first line names"), "{outcome:?}");
    }
}

/// Starts a harness that says when it is ready, and waits for that.
fn ready(mut command: Command) -> std::process::Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ready\n");
    child
}

fn send(child: &std::process::Child, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

attack! {
    fn signals_to_omni_reach_the_harness(world) {
        use nix::sys::signal::Signal;
        for (signal, name) in [(Signal::SIGINT, "INT"), (Signal::SIGTERM, "TERM"), (Signal::SIGHUP, "HUP"), (Signal::SIGUSR1, "USR1")] {
            let script = format!("trap 'echo heard; exit 3' {name}; echo ready; while :; do read line || exit 4; done");
            let mut child = ready(world.exec(&[], &["sh", "-c", &script]));
            send(&child, signal);
            // The end of input comes only after this, so it is the signal that was heard.
            let mut heard = [0; 6];
            child.stdout.as_mut().unwrap().read_exact(&mut heard).unwrap();
            let outcome = collect(child, b"");
            assert_eq!((outcome.code(), &heard), (Some(3), b"heard\n"), "{name}: {outcome:?}");
        }
    }
}

attack! {
    fn a_signal_that_the_harness_does_not_handle_ends_it_by_that_signal(world) {
        let mut child = world.exec(&[], &["cat"]);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Once it echoes, it is `cat` and no longer on its way there.
        child.stdin.as_mut().unwrap().write_all(b"ready\n").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        // Held open, so that the end of input does not come first.
        let _stdin = child.stdin.take();
        send(&child, nix::sys::signal::Signal::SIGINT);
        assert_eq!(collect(child, b"").signal(), Some(libc::SIGINT));
    }
}

attack! {
    /// As `nohup` has it, or a script that starts something in the background.
    fn a_signal_that_the_caller_ignores_does_not_reach_the_harness(world) {
        let mut command = world.command(Path::new("sh"));
        command.args(["-c", "trap '' HUP; exec \"$0\" exec -- sh -c 'echo ready; read line; kill -HUP $$; exit 3'"]);
        command.arg(world.binary());
        let child = ready(command);
        send(&child, nix::sys::signal::Signal::SIGHUP);
        let outcome = collect(child, b"line\n");
        assert_eq!(outcome.code(), Some(3), "{outcome:?}");
    }
}

attack! {
    /// Fetching a secret may take as long as it likes; whoever does not want to wait must not have to.
    fn a_signal_ends_a_session_that_has_not_started(world) {
        let (pipe, profile) = (world.place().join("started"), world.place().join("waits.yaml"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        world.give(&pipe);
        let command = format!("echo $$ >{}; exec sleep 1000", pipe.display());
        world.write(&profile, &format!("\
name: waits
secrets:
  - name: key
    from: \"command:{command}\"
    host: api.example.com
    header: x-api-key
    placeholder: {{ env: KEY, shape: anthropic }}
"));
        let mut omni = world.exec(&["--profile", profile.to_str().unwrap()], &["true"]);
        let child = omni.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let fetching: u32 = std::fs::read_to_string(&pipe).unwrap().trim().parse().unwrap();
        send(&child, nix::sys::signal::Signal::SIGINT);
        let outcome = collect(child, b"");
        assert_eq!(outcome.signal(), Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("SIGINT came before the harness was started"), "{outcome:?}");
        assert!(ends_within(fetching, END_TIMEOUT), "the command that fetches the secret outlived the session");
        assert_eq!(world.list(&["sessions"])[0]["status"], "not_started");
    }
}

attack! {
    fn pipes_carry_every_byte_unchanged(world) {
        let mut random = vec![0; 1 << 20];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let outcome = finish(world.exec(&[], &["cat"]), &random);
        assert_eq!(outcome.code(), Some(0));
        assert!(outcome.stdout == random, "{} bytes of {}", outcome.stdout.len(), random.len());
    }
}

attack! {
    fn a_session_does_not_depend_on_who_hears_its_messages(world) {
        let (nobody, stderr) = std::io::pipe().unwrap();
        drop(nobody);
        // This profile's key is missing, which is said.
        let mut omni = world.exec(&["--profile", "claude-code"], &["sh", "-c", "echo done; exit 3"]);
        let child = omni.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let outcome = collect(child, b"");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(3), "done\n"), "{outcome:?}");
    }
}

attack! {
    /// Programs open `/dev/stdin` and `/dev/stderr` by name, which asks for rights over the pipe itself.
    fn pipes_can_be_opened_by_name(world) {
        let mut command = world.command(Path::new("sh"));
        let script = "cat | \"$0\" exec -- sh -c 'cat /dev/stdin; echo out >/dev/stdout; echo error >/dev/stderr' 2>&1 | cat";
        command.args(["-c", script]).arg(world.binary());
        let outcome = finish(command, b"in\n");
        assert_eq!(outcome.text(), "in\nout\nerror\n", "{outcome:?}");
    }
}

attack! {
    fn time_that_is_up_ends_the_session(world) {
        let script = "trap '' TERM INT HUP; while :; do sleep 1000; done";
        let outcome = finish(world.exec(&["--timeout", "1s"], &["sh", "-c", script]), b"");
        assert_eq!(outcome.code(), Some(121), "{outcome:?}");
    }
}

/// Starts omni, kills it, and waits as its descendants' new parent until there is none left. Says how many there were.
const KILL_AND_COUNT: &str = "\
import select, subprocess, time
libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
moment, deadline = float(arguments[0]), float(arguments[1])
omni = subprocess.Popen(arguments[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
if moment < 0:
    assert omni.stdout.readline() == b'ready\\n'
else:
    select.select([], [], [], moment)
os.kill(omni.pid, signal.SIGKILL)
omni.wait()
until, orphans = time.monotonic() + deadline, []
signal.signal(signal.SIGALRM, lambda *_: None)
class Late(Exception): pass
def late(*_): raise Late
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, deadline)
left = []
try:
    while True:
        orphans.append(os.wait()[0])
except ChildProcessError:
    pass
except Late:
    left = open('/proc/self/task/%d/children' % os.getpid()).read().split()
    for pid in left: os.kill(int(pid), signal.SIGKILL)
say(dict(orphans=len(orphans), left=len(left), killed=-omni.returncode))";

fn kill_at(world: &World, moment: &str, script: &str) -> Value {
    let mut command = world.command(Path::new("/usr/bin/python3"));
    command.args(["-I", "-c", &format!("{PRELUDE}\n{KILL_AND_COUNT}"), moment, &END_TIMEOUT.as_secs().to_string()]);
    command.arg(world.binary()).args(["exec", "--", "sh", "-c", script]);
    finish(command, b"").json()
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

attack! {
    fn killing_omni_leaves_no_process_mount_or_socket(world) {
        let script = "setsid sleep 600 & trap '' TERM HUP; echo ready; while :; do sleep 600; done";
        let found = kill_at(world, "-1", script);
        assert_eq!((&found["left"], &found["killed"]), (&json!(0), &json!(libc::SIGKILL)), "{found}");
        assert!(found["orphans"].as_u64().unwrap() >= 2, "the proxy and the sandbox were there: {found}");
        assert!(!mounts().contains(world.place().to_str().unwrap()), "no mount of the host has to do with it");
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
        assert!(!sockets.contains(world.place().to_str().unwrap()));
        let sessions = world.list(&["sessions"]);
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        assert_eq!(sessions[0]["status"], "interrupted", "{sessions:?}");
    }
}

attack! {
    /// The delays are where the kill falls, not what anything waits for.
    fn killing_omni_while_it_starts_leaves_nothing(world) {
        for step in 0..12 {
            let moment = format!("{}", f64::from(step) * 0.006);
            let found = kill_at(world, &moment, "sleep 600");
            assert_eq!((&found["left"], &found["killed"]), (&json!(0), &json!(libc::SIGKILL)), "at {moment} s: {found}");
        }
        assert!(!mounts().contains(world.place().to_str().unwrap()));
        let states = world.list(&["sessions"]);
        // One that was killed before its start was recorded is not known to have been more than prepared.
        let expected = |session: &Value| session["status"] == "interrupted" || session["status"] == "starting";
        assert!(states.iter().all(expected), "{states:?}");
        assert_eq!(world.shell(&[], "true").code(), Some(0), "and the store takes the next session");
        let verified = { let mut command = world.omni(); command.args(["audit", "verify"]); finish(command, b"") };
        assert_eq!(verified.code(), Some(0), "{verified:?}");
    }
}

attack! {
    /// The proxy is the only way out; without it there is no session.
    fn a_session_ends_with_its_proxy(world) {
        let mut child = ready(world.exec(&[], &["sh", "-c", "echo ready; exec cat"]));
        let omni = child.id();
        let children = std::fs::read_to_string(format!("/proc/{omni}/task/{omni}/children")).unwrap();
        // The sandbox's process 1 has the name that omni gave it; the other child is the proxy.
        let title = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let proxy = children.split_whitespace().find(|pid| title(pid).trim_end_matches('\0') != "omni").unwrap();
        let pid = nix::unistd::Pid::from_raw(proxy.parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let status = wait(&mut child, END_TIMEOUT);
        assert_eq!(status.code(), Some(125));
    }
}

attack! {
    /// A full standard output must not take the record with it.
    fn a_closed_output_does_not_stop_the_record(world) {
        let mut command = world.exec(&[], &["sh", "-c", "trap '' PIPE; read line; echo x; exit 5"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        assert_eq!(collect(child, b"").code(), Some(5));
        assert_eq!(world.list(&["sessions"])[0]["status"], "finished");
    }
}
