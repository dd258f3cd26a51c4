//! Two sessions at a time in one workspace: each has a write gate of its own, and what one of them judged must not be changed by the
//! other before it is done. In each attack one session asks again and again for what is allowed as things are, and the other
//! changes how they are.

use crate::protected::{git, repository};
use crate::support::{World, collect, finish};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

/// What both know: how often the first tries, when the second is there, and when it may go.
const COMMON: &str = "\
TRIES = 4000
def exchanged(one, other):
    if libc.syscall(316, -100, one.encode(), -100, other.encode(), 2) < 0: raise OSError(ctypes.get_errno(), 'failed')
def wait_for(path):
    while not os.path.exists(path): os.sched_yield()
def until_over(act):
    found = {}
    open('there', 'w').close()
    while not os.path.exists('over'):
        outcome = attempt(act)
        found[outcome] = found.get(outcome, 0) + 1
    say(found)
def tried(act, won):
    wait_for('there')
    found = {}
    for turn in range(TRIES):
        outcome = attempt(act)
        found[outcome] = found.get(outcome, 0) + 1
        if won(): break
    open('over', 'w').close()
    say(found)
";

/// Runs two probes in sessions of their own at the same time; what each said.
fn at_once(world: &World, codes: [&str; 2]) -> [Value; 2] {
    let started = codes.map(|code| {
        let source = format!("{}\n{COMMON}\n{code}", include_str!("prelude.py"));
        let mut command = world.exec(&[], &["/usr/bin/python3", "-I", "-c", &source]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let said = started.map(|child| collect(child, b"").json());
    for name in ["there", "over"] {
        fs::remove_file(world.workspace().join(name)).unwrap();
    }
    said
}

/// How often something came out so.
fn count(said: &Value, outcome: &str) -> u64 {
    said[outcome].as_u64().unwrap_or(0)
}

attack! {
    /// A file is let be moved among git's own, and a link is not: one takes the other's place.
    fn no_link_takes_the_place_of_a_file_that_is_about_to_be_moved(world) {
        let work = world.workspace();
        repository(world, &work);
        let victim = world.place().join("victim");
        world.write(&victim, "kept\n");
        world.write(&work.join("plain"), "a message\n");
        fs::remove_file(work.join(".git/COMMIT_EDITMSG")).unwrap();
        symlink(&victim, work.join("link")).unwrap();
        let mover = "\
def moved():
    os.rename('plain', '.git/COMMIT_EDITMSG')
    if not os.path.islink('.git/COMMIT_EDITMSG'): os.rename('.git/COMMIT_EDITMSG', 'plain')
tried(moved, lambda: os.path.islink('.git/COMMIT_EDITMSG'))";
        let [mover, swapper] = at_once(world, [mover, "until_over(lambda: exchanged('plain', 'link'))"]);
        assert!(!work.join(".git/COMMIT_EDITMSG").is_symlink(), "{mover} {swapper}");
        git(world, &work, &["commit", "-q", "--allow-empty", "-m", "touch ran"]);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept\n");
        // The control: both were found, and changed.
        assert!(["ok", "EACCES"].iter().all(|outcome| count(&mover, outcome) > 0), "{mover}");
        assert!(count(&swapper, "ok") > 0, "{swapper}");
    }
}

attack! {
    /// What makes a directory a repository is let be made but for the last of it.
    fn two_sessions_do_not_make_a_repository_together(world) {
        let place = world.workspace().join("place");
        fs::create_dir_all(place.join("refs/heads")).unwrap();
        world.write(&place.join("config"), "[core]\n\tbare = true\n[diff]\n\texternal = touch ran;:\n");
        [&place, &place.join("refs"), &place.join("refs/heads")].iter().for_each(|made| world.give(made));
        let git_runs = |place: &Path| {
            let mut command = world.command(Path::new("git"));
            command.current_dir(place).args(["diff", "--no-index", "config", "/dev/null"]);
            finish(command, b"");
            fs::remove_file(place.join("ran")).is_ok()
        };
        let one = "\
def whole(): return os.path.exists('place/HEAD') and os.path.exists('place/objects')
def head():
    os.close(os.open('place/HEAD', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    if not whole(): os.remove('place/HEAD')
tried(head, whole)";
        let other = "\
def objects():
    os.mkdir('place/objects')
    if not os.path.exists('place/HEAD'): os.rmdir('place/objects')
until_over(objects)";
        let [one, other] = at_once(world, [one, other]);
        let whole = ["HEAD", "objects"].map(|name| place.join(name).exists());
        assert!(whole != [true, true] && !git_runs(&place), "{one} {other}");
        assert!(["ok", "EACCES"].iter().all(|outcome| count(&one, outcome) > 0 && count(&other, outcome) > 0), "{one} {other}");
        let _ = fs::create_dir(place.join("objects"));
        world.give(&place.join("objects"));
        world.write(&place.join("HEAD"), "ref: refs/heads/main\n");
        assert!(git_runs(&place), "the control: git takes it for one");
    }
}

attack! {
    /// A repository of the session's own may be told where its remote leads, and the host's may not: they change places.
    fn settings_of_the_hosts_repository_are_not_taken_for_those_of_the_sessions_own(world) {
        let hosts = world.workspace().join("hosts");
        repository(world, &hosts);
        git(world, &hosts, &["remote", "add", "origin", "https://example.com/a.git"]);
        let before = fs::read_to_string(hosts.join(".git/config")).unwrap();
        let one = "\
import subprocess
assert subprocess.run(['git', 'init', '-q', 'own'], capture_output=True).returncode == 0
theirs, own = [os.open(place + '/.git', os.O_RDONLY | os.O_DIRECTORY) for place in ('hosts', 'own')]
changed = open('hosts/.git/config').read().replace('example.com', 'evil.example')
def locked(place):
    lock = os.open('config.lock', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=place)
    os.write(lock, changed.encode()); os.close(lock)
locked(theirs)
def settled(): os.rename('config.lock', 'config', src_dir_fd=theirs, dst_dir_fd=theirs)
def won(): return open(os.open('config', os.O_RDONLY, dir_fd=theirs)).read() == changed
locked(own)
open('ready', 'w').close()
tried(settled, won)
control = attempt(lambda: os.rename('config.lock', 'config', src_dir_fd=own, dst_dir_fd=own))
os.remove('config.lock', dir_fd=theirs)
say(control)";
        let other = "wait_for('ready'); until_over(lambda: exchanged('hosts', 'own'))";
        let [control, other] = at_once(world, [one, other]);
        let whose = ["hosts", "own"].map(|name| world.workspace().join(name)).into_iter().find(|place| place.join("file").exists());
        assert_eq!(fs::read_to_string(whose.unwrap().join(".git/config")).unwrap(), before);
        assert_eq!(control, json!("ok"), "the control");
        assert!(count(&other, "ok") > 0, "the control: they changed places: {other}");
    }
}
