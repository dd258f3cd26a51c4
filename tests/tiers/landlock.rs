//! What the tier `landlock` holds: files, processes, and an end of everything.

use crate::stage;
use crate::support::{Who, each, ends_within};
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

enclosed! {
    fn cannot_read_what_lies_in_the_home(world) {
        let key = world.home().join(".ssh/id_ed25519");
        world.write(&key, "the key");
        world.write(&world.workspace().join("note"), "a note");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
        let code = "
def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return name(error.errno)
say([read(path) for path in arguments])";
        let (key, home) = (key.to_str().unwrap(), world.home().join(".ssh"));
        let seen = stage::probe(world, code, &[key, "note"]);
        assert_eq!(seen, json!(["EACCES", "a note"]));
        assert_eq!(world.probe_outside(code, &[key]), json!(["the key"]));
        let listed = stage::probe(world, "say(attempt(lambda: os.listdir(arguments[0])))", &[home.to_str().unwrap()]);
        assert_eq!(listed, "EACCES");
    }
}

enclosed! {
    fn cannot_write_or_change_permissions_outside_the_workspace(world) {
        let outside = world.place().join("outside");
        std::fs::create_dir(&outside).unwrap();
        world.give(&outside);
        let file = outside.join("file");
        world.write(&file, "whole");
        for place in [&outside, &file] {
            // Even where everybody may.
            std::fs::set_permissions(place, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let code = "
f, d = arguments
say([attempt(act) for act in (
    lambda: open(f, 'w'), lambda: open(d + '/new', 'w'), lambda: os.truncate(f, 0), lambda: os.unlink(f),
    lambda: os.rename(f, 'mine'), lambda: os.link(f, 'mine'), lambda: os.chmod(f, 0o600),
    lambda: os.chmod('link', 0o600), lambda: os.chmod('../outside/file', 0o600), lambda: os.chmod(d, 0o700))])";
        std::os::unix::fs::symlink(&file, world.workspace().join("link")).unwrap();
        let seen = stage::probe(world, code, &[file.to_str().unwrap(), outside.to_str().unwrap()]);
        let seen: Vec<_> = seen.as_array().unwrap().iter().map(|seen| seen.as_str().unwrap().to_owned()).collect();
        assert!(seen.iter().all(|seen| ["EACCES", "EXDEV", "EPERM"].contains(&seen.as_str())), "{seen:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "whole");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o777);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }
}

enclosed! {
    fn works_in_the_workspace_and_in_its_own_temporary_directory(world) {
        let code = "
import tempfile
open('script', 'w').write('#!/bin/sh\\necho ran\\n')
os.chmod('script', 0o755)
os.mkdir('sub'); os.chmod('sub/../script', 0o750); os.rename('script', 'sub/script')
directory = os.open('sub', os.O_RDONLY)
os.chmod('script', 0o700, dir_fd=directory)
with tempfile.NamedTemporaryFile() as file:
    file.write(b'x')
say([os.popen('sub/script').read(), oct(os.stat('sub/script').st_mode & 0o777), os.environ['HOME'] == os.path.expanduser('~')])";
        assert_eq!(stage::probe(world, code, &[]), json!(["ran\n", "0o700", true]));
        let mode = world.workspace().join("sub/script").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

enclosed! {
    fn cannot_make_a_program_that_runs_as_its_owner(world) {
        let code = "
open('f', 'w').close()
say([attempt(lambda: os.chmod('f', 0o4755)), attempt(lambda: os.fchmod(os.open('f', os.O_RDONLY), 0o4755))])";
        assert_eq!(stage::probe(world, code, &[]), each("EPERM", 2));
        assert_eq!(world.workspace().join("f").metadata().unwrap().permissions().mode() & 0o4000, 0);
    }
}

enclosed! {
    fn cannot_touch_the_users_other_processes(world) {
        let mut sleeper = world.command("sleep".as_ref());
        let mut sleeper = sleeper.env("TOKEN", "the-token").arg("300").spawn().unwrap();
        let code = "
import signal, resource
pid = int(arguments[0])
say([attempt(act) for act in (
    lambda: os.kill(pid, 0), lambda: os.kill(pid, signal.SIGKILL), lambda: os.kill(os.getppid(), signal.SIGKILL),
    lambda: open(f'/proc/{pid}/environ').read(), lambda: os.readlink(f'/proc/{pid}/fd/0'),
    lambda: os.readlink(f'/proc/{pid}/cwd'), lambda: open(f'/proc/{pid}/mem', 'rb'),
    lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, 1)), lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    lambda: os.sched_setaffinity(pid, {0}))])";
        let seen = stage::probe(world, code, &[&sleeper.id().to_string()]);
        let refused = |seen: &serde_json::Value| ["EPERM", "EACCES"].contains(&seen.as_str().unwrap());
        assert!(seen.as_array().unwrap().iter().all(refused), "{seen}");
        assert!(sleeper.try_wait().unwrap().is_none(), "it lives");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

enclosed! {
    fn nothing_outlives_the_session(world) {
        let script = "(setsid sh -c 'sh -c \"echo \\$\\$ > pid; exec sleep 300\" &') & until [ -s pid ]; do :; done; echo $HOME";
        let outcome = stage::shell(world, &[], script);
        assert!(outcome.status.success(), "{outcome:?}");
        let pid = std::fs::read_to_string(world.workspace().join("pid")).unwrap().trim().parse().unwrap();
        assert!(ends_within(pid, Duration::ZERO), "{pid} lives");
        let home = std::path::PathBuf::from(outcome.text().trim());
        assert!(home.is_absolute() && !home.parent().unwrap().exists(), "{}", home.display());
    }
}

enclosed! {
    fn nothing_outlives_an_omni_that_is_killed(world) {
        let script = "setsid sleep 300 & echo $! $HOME; wait";
        let mut command = stage::exec(world, &[], &["sh", "-c", script]);
        let mut omni = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(omni.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let (pid, home) = line.trim().split_once(' ').expect("the sleeper's id and a home");
        let private = std::path::Path::new(home).parent().unwrap().to_owned();
        assert!(private.exists());
        omni.kill().unwrap();
        omni.wait().unwrap();
        assert!(ends_within(pid.parse().unwrap(), Duration::from_secs(30)), "{pid} lives");
        // Whoever removes the directory holds the pipe until it is done.
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap();
        assert!(!private.exists(), "{} is left", private.display());
    }
}

enclosed! {
    fn the_harness_is_nobody_special(world) {
        let code = "
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines() if ':' in line)
say([os.getuid() != 0, os.getgid() != 0, status['CapEff'].strip(), status['CapPrm'].strip(), status['NoNewPrivs'].strip(),
     status['Seccomp'].strip(), sorted(int(n) for n in os.listdir('/proc/self/fd'))[:3]])";
        let none = "0000000000000000";
        assert_eq!(stage::probe(world, code, &[]), json!([true, true, none, none, "1", "2", [0, 1, 2]]));
    }
}

#[test]
fn root_is_told_that_its_workspace_would_make_the_harness_root() {
    if !stage::has_whole_landlock() {
        println!("skipped: this kernel's Landlock makes no weaker tier");
        return;
    }
    crate::support::try_as(Who::Root, |world| {
        let mut command = world.command("/usr/bin/python3".as_ref());
        command.args(["-I", "-c", include_str!("container.py")]).arg(world.binary());
        command.args(["exec", "--minimum-isolation", "landlock", "--", "true"]);
        let outcome = crate::support::finish(command, b"");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("belongs to root"), "{outcome:?}");
    });
}

enclosed! {
    /// What is hidden within a grant cannot be, so the grant is not made, and the record says so.
    fn a_grant_around_something_hidden_is_withheld(world) {
        world.write(&world.home().join(".tool/credentials"), "the password");
        world.write(&world.home().join(".tool/settings"), "plain");
        world.write(&world.home().join(".other/settings"), "other");
        let profile = world.place().join("profile.yaml");
        world.write(&profile, "name: tool\nfilesystem: { read: [~/.other], write: [~/.tool], hide: [~/.tool/credentials] }\n");
        let script = "cat ~/.tool/credentials ~/.tool/settings; cat ~/.other/settings";
        let outcome = stage::shell(world, &["--profile", profile.to_str().unwrap()], script);
        assert_eq!(outcome.text(), "other", "{outcome:?}");
        let gaps = stage::isolation(world)["gaps"].to_string();
        assert!(gaps.contains("/.tool is withheld"), "{gaps}");
    }
}

enclosed! {
    fn a_login_in_a_file_is_a_placeholder_here_too_and_the_agent_is_out_of_reach(world) {
        world.write(&world.home().join(".netrc"), "machine a.example login me password canary\n");
        let outcome = stage::shell(world, &["--secret", "netrc"], "cat ~/.netrc");
        let said = outcome.text();
        assert!(said.starts_with("machine a.example login me password omni-placeholder-"), "{outcome:?}");
        let outcome = stage::shell(world, &["--ssh", "git.example"], "echo out");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("the tier `landlock` has no place for an agent's socket"), "{outcome:?}");
    }
}
