//! What of the host is shown: places that were swapped or led elsewhere meanwhile, and places that nobody may be shown.

use crate::support::{Outcome, Who, World, collect, finish};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const KEY: &str = "a key of the user's\n";

fn key(world: &World) -> PathBuf {
    let key = world.home().join(".ssh/id_ed25519");
    world.write(&key, KEY);
    key
}

/// A profile in a file, with these grants.
fn profile(world: &World, filesystem: &str) -> String {
    let path = world.place().join("profile.yaml");
    world.write(&path, &format!("name: granting\nfilesystem: {{ workspace: direct, {filesystem} }}\n"));
    path.display().to_string()
}

fn run(world: &World, flags: &[&str], script: &str) -> Outcome {
    finish(world.exec(flags, &["sh", "-c", script]), b"")
}

/// omni said no, for this reason, and nothing ran.
fn refused(outcome: &Outcome, reason: &str) {
    assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
    assert!(outcome.stderr.contains(reason), "{outcome:?}");
}

attack! {
    fn places_that_reach_the_whole_machine_are_mounted_for_nobody(world) {
        let ran = |source: &str| run(world, &["--mount", &format!("{source}:/mnt/shown:ro")], "echo ran");
        let fine = world.place().join("fine");
        fs::create_dir(&fine).unwrap();
        assert_eq!(ran(fine.to_str().unwrap()).text(), "ran\n");
        for (place, reason) in [
            ("/", "far more than a project"), ("/home", "far more than a project"), ("/tmp", "far more than a project"),
            (world.home().to_str().unwrap(), "far more than a project"),
            ("/proc", "the kernel's own"), ("/proc/sys", "the kernel's own"), ("/proc/self/root", "far more than a project"),
            ("/sys", "the kernel's own"), ("/dev", "the kernel's own"), ("/dev/null", "which no sandbox is given"),
            ("/run", "daemons listen"),
        ] {
            refused(&ran(place), reason);
        }
    }
}

attack! {
    fn a_profile_that_asks_for_them_is_refused_too(world) {
        let flags = |file: &str| ["--profile".to_owned(), file.to_owned()];
        for grant in ["read: [/]", "read: [~]", "write: [/proc]", "read: [/proc/sys]", "write: [/sys/fs]", "read: [/dev/shm]", "read: [/run]"] {
            let flags = flags(&profile(world, grant));
            let outcome = run(world, &[&flags[0], &flags[1]], "echo ran");
            assert!(!outcome.status.success() && outcome.text().is_empty(), "{grant}: {outcome:?}");
            let reasons = ["profile.yaml", "the kernel's own", "daemons listen", "builds that place itself"];
            assert!(reasons.iter().any(|reason| outcome.stderr.contains(reason)), "{grant}: {outcome:?}");
        }
        fs::create_dir(world.home().join("fine")).unwrap();
        let flags = flags(&profile(world, "read: [~/fine]"));
        assert_eq!(run(world, &[&flags[0], &flags[1]], "echo ran").text(), "ran\n");
    }
}

attack! {
    /// Docker's, an agent's or a bus's: whoever is asked there acts outside.
    fn a_socket_is_mounted_for_nobody_wherever_it_lies(world) {
        let sockets = [world.home().join("docker.sock"), world.place().join("S.gpg-agent")];
        for socket in &sockets {
            let _listener = UnixListener::bind(socket).unwrap();
            fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
            let mount = format!("{}:/mnt/socket", socket.display());
            refused(&run(world, &["--mount", &mount], "echo ran"), "is a socket");
        }
        let granting = profile(world, "write: [~/docker.sock]");
        refused(&run(world, &["--profile", &granting], "echo ran"), "is a socket");
        let pipe = world.place().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(&run(world, &["--mount", &format!("{}:/mnt/pipe", pipe.display())], "echo ran"), "is a named pipe");
        let file = world.place().join("file");
        world.write(&file, "fine\n");
        assert_eq!(run(world, &["--mount", &format!("{}:/mnt/file:ro", file.display())], "cat /mnt/file").text(), "fine\n");
    }
}

attack! {
    /// A grant of the directory around is no grant of who listens there.
    fn known_sockets_of_the_users_programs_are_hidden_in_what_is_granted(world) {
        let directories = [".docker/run", ".gnupg", ".ssh/agent"].map(|name| world.home().join(name));
        directories.iter().for_each(|directory| world.write(&directory.join("x"), ""));
        let names = [".docker/run/docker.sock", ".gnupg/S.gpg-agent", ".gnupg/S.gpg-agent.ssh", ".ssh/agent/s.agent"];
        let paths = names.map(|name| world.home().join(name));
        let listeners = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
        for (listener, path) in listeners.iter().zip(&paths) {
            listener.set_nonblocking(true).unwrap();
            fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let code = "\
def reach(path): socket.socket(socket.AF_UNIX).connect(path)
say([attempt(lambda: reach(path)) for path in arguments] + [os.path.exists(os.path.expanduser('~/.gnupg/x'))])";
        let texts = paths.each_ref().map(|path| path.display().to_string());
        let texts = texts.each_ref().map(String::as_str);
        assert_eq!(world.probe_outside(code, &texts), json!(["ok", "ok", "ok", "ok", true]));
        let came = || listeners.iter().filter(|listener| listener.accept().is_ok()).count();
        assert_eq!(came(), 4);
        let granting = profile(world, "write: [~/.docker, ~/.gnupg, ~/.ssh]");
        let inside = world.probe_with(&["--profile", &granting], code, &texts);
        assert_eq!(inside, json!(["ENOENT", "EACCES", "EACCES", "ENOENT", true]));
        assert_eq!(came(), 0);
    }
}

attack! {
    /// The harness of an earlier session left a link where the next one's profile grants a file.
    fn a_link_that_an_earlier_session_left_in_a_grant_is_not_followed(world) {
        let key = key(world);
        fs::create_dir(world.home().join(".agent")).unwrap();
        world.give(&world.home().join(".agent"));
        let granting = profile(world, "write: [~/.agent], read: [~/.agent/settings.json, ~/.agent/sub/look]");
        let flags = ["--profile", granting.as_str()];
        let plant = format!("ln -s {} ~/.agent/settings.json && echo planted", key.display());
        assert_eq!(run(world, &flags, &plant).text(), "planted\n");
        assert_eq!(fs::read_to_string(world.home().join(".agent/settings.json")).unwrap(), KEY, "outside it leads there");
        let look = run(world, &flags, "cat ~/.agent/settings.json; cat ~/.ssh/id_ed25519; echo looked");
        assert_eq!(look.text(), "looked\n", "{look:?}");
        // The same by a directory on the way.
        let plant = format!("ln -s {} ~/.agent/sub && echo planted", key.parent().unwrap().display());
        assert_eq!(run(world, &flags, &plant).text(), "planted\n");
        fs::rename(&key, key.parent().unwrap().join("look")).unwrap();
        refused(&run(world, &flags, "cat ~/.agent/sub/look"), "an earlier session may have left it");
    }
}

attack! {
    /// A person's own links lie where no harness may write, and count.
    fn a_link_of_the_users_own_is_followed(world) {
        world.write(&world.home().join("dotfiles/agent/settings.json"), "mine\n");
        symlink(world.home().join("dotfiles/agent"), world.home().join(".agent")).unwrap();
        let granting = profile(world, "write: [~/.agent], read: [~/.agent/settings.json]");
        let outcome = run(world, &["--profile", &granting], "cat ~/.agent/settings.json; echo x > ~/.agent/settings.json");
        assert_eq!(outcome.text(), "mine\n", "{outcome:?}");
        assert_eq!(fs::read_to_string(world.home().join(".agent/settings.json")).unwrap(), "mine\n");
    }
}

attack! {
    /// Renaming the directory that a hidden file lies in would leave it in the open in the next session.
    fn what_is_hidden_cannot_be_moved_into_the_open(world) {
        world.write(&world.home().join(".agent/deep/er/key"), KEY);
        let granting = profile(world, "write: [~/.agent], hide: [~/.agent/deep/er/key]");
        let rename = "\
os.chdir(os.path.expanduser('~/.agent'))
os.mkdir('deep/own')
say([attempt(lambda: os.rename(source, source + '-moved')) for source in ('deep', 'deep/er', 'deep/er/key', 'deep/own')])";
        let found = world.probe_with(&["--profile", &granting], rename, &[]);
        assert_eq!(found, json!(["EBUSY", "EBUSY", "EBUSY", "ok"]));
        let search = "grep -r key ~/.agent; grep -rl user ~/.agent; ls ~/.agent";
        assert_eq!(run(world, &["--profile", &granting], search).text(), "deep\n");
        assert_eq!(fs::read_to_string(world.home().join(".agent/deep/er/key")).unwrap(), KEY);
    }
}

attack! {
    fn what_is_hidden_is_hidden_wherever_else_it_is_mounted(world) {
        world.write(&world.home().join(".agent/key"), KEY);
        let granting = profile(world, "write: [~/.agent], hide: [~/.agent/key]");
        let mount = format!("{}:/mnt/again:ro", world.home().join(".agent").display());
        let read = "say([open(path).read() for path in (os.path.expanduser('~/.agent/key'), '/mnt/again/key')])";
        let found = world.probe_with(&["--profile", &granting, "--mount", &mount], read, &[]);
        assert_eq!(found, json!(["", ""]));
    }
}

attack! {
    /// `--mount ./data` means the data, not what a harness made of it since.
    fn a_mount_that_was_turned_into_a_link_out_of_the_workspace_is_refused(world) {
        key(world);
        fs::create_dir(world.workspace().join("data")).unwrap();
        world.give(&world.workspace().join("data"));
        assert_eq!(run(world, &["--mount", "data:/mnt/data:ro"], "rmdir data && ln -s ../home/.ssh data && ls /mnt/data; echo ran").text(), "ran\n");
        refused(&run(world, &["--mount", "data:/mnt/data:ro"], "cat /mnt/data/id_ed25519"), "leads out of the workspace");
        let beside = world.place().join("beside");
        fs::create_dir(&beside).unwrap();
        assert_eq!(run(world, &["--mount", "../beside:/mnt/beside:ro"], "echo ran").text(), "ran\n");
    }
}

attack! {
    /// A sandbox's covers stay in the sandbox also where the host's mounts are shared, as systemd makes them.
    fn no_mount_of_a_sandbox_appears_on_a_host_whose_mounts_are_shared(world) {
        let host = |script: &str| {
            let mut command = Command::new("unshare");
            let namespaces: &[&str] = match world.who {
                Who::Root => &["--mount", "--propagation", "shared"],
                // A user's own mounts are all that they can share; root's are theirs to receive alone.
                Who::Ordinary => &["--user", "--map-current-user", "--keep-caps", "--mount", "--propagation", "shared"],
            };
            command = if world.who == Who::Root { command } else { world.command(Path::new("unshare")) };
            command.args(namespaces).args(["sh", "-c", script]).arg(world.binary());
            command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", world.home());
            command.env("OMNI_HOME", world.omni_home()).current_dir(world.workspace());
            finish(command, b"")
        };
        let look = "cut -d' ' -f5- /proc/self/mountinfo | sed 's/shared:[0-9]*//' | sort | sha256sum; sha256sum < /etc/hosts;";
        let outcome = host(&format!("{look} \"$0\" exec -- true || exit 1; {look}"));
        let text = outcome.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((outcome.code(), lines.len()), (Some(0), 4), "{outcome:?}");
        assert_eq!(lines[..2], lines[2..], "{outcome:?}");
        // The witness sees what does spread: a mount in a copy of the namespace, whose mounts are peers.
        let spreads = host("grep -c omni-attack-spread /proc/self/mountinfo; \
            unshare --mount --propagation unchanged mount -t tmpfs omni-attack-spread /mnt; grep -c omni-attack-spread /proc/self/mountinfo");
        let text = spreads.text();
        let seen: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(matches!(seen[..], [0, times] if times > 0), "{spreads:?}");
    }
}

attack! {
    /// What the host mounts while a session runs does not appear inside either.
    fn a_later_mount_of_the_host_does_not_appear_in_a_sandbox(world) {
        if world.who == Who::Ordinary {
            println!("skipped: mounting where a sandbox would see it takes root");
            return;
        }
        let script = "mkdir \"$2\"; \"$0\" exec --mount \"$1\":/mnt/shown -- sh -c 'echo ready; read line; ls /mnt/shown/in' <&3 & \
            exec 3<&-; read go; mount -t tmpfs tmpfs \"$2\" && touch \"$2\"/later && ls \"$2\"; echo go >&4; exec 4>&-; wait";
        let shown = world.place().join("shown");
        fs::create_dir(&shown).unwrap();
        let pipes = format!("mkfifo {0}/p; exec 3<>{0}/p 4>{0}/p; {script}", world.place().display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "shared", "sh", "-c", &pipes]).arg(world.binary()).arg(&shown).arg(shown.join("in"));
        command.env("HOME", world.home()).env("OMNI_HOME", world.omni_home()).current_dir(world.workspace());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
        let outcome = collect(child, b"go\n");
        assert_eq!(outcome.text(), "later\n", "outside it is there, inside it is not: {outcome:?}");
    }
}
