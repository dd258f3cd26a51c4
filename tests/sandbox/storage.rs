//! Storage that is not as one would like it: for reading only, full, without attributes, gone.

use crate::support::{Outcome, Who, World, finish};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs a command where something is mounted first, in a mount namespace of its own. Only root can.
fn mounted(world: &World, mounts: &str, inner: &Command) -> Option<Outcome> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting takes root");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{mounts}\ncd \"$0\"\nexec \"$@\"")]);
    command.arg(world.workspace()).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(finish(command, b""))
}

/// Whether this is root on a kernel that cannot translate owners in memory yet (tmpfs, before Linux 6.3), which must then be
/// refused, and is.
fn refused_for_its_owners(world: &World, outcome: &Outcome) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let refused = world.who == Who::Root && version < (6, 3);
    if refused {
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("may not support id-mapped mounts"), "{outcome:?}");
    }
    refused
}

/// Mounts `kind` with `options` at a place of the user's and gives it to them.
fn mount(world: &World, kind: &str, options: &str, place: &Path) -> String {
    let owner = fs::metadata(world.home()).unwrap();
    use std::os::unix::fs::MetadataExt;
    format!(
        "mount -t {kind} -o {options} {kind} {0}; chown {1}:{2} {0}; chmod 755 {0};",
        place.display(),
        owner.uid(),
        owner.gid()
    )
}

attack! {
    fn a_workspace_on_a_read_only_file_system_is_one_for_reading(world) {
        let place = world.workspace();
        let prepare = format!("{} echo text > {1}/file; chmod 644 {1}/file; mount -o remount,ro {1}", mount(world, "tmpfs", "size=64k", &place), place.display());
        let script = "cat file; echo more > file; echo new > new; touch /tmp/fine && echo end";
        let Some(outcome) = mounted(world, &prepare, &world.exec(&[], &["sh", "-c", script])) else { return };
        if refused_for_its_owners(world, &outcome) {
            return;
        }
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), "text\nend\n"), "{outcome:?}");
        assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{outcome:?}");
    }
}

attack! {
    fn a_full_workspace_is_full_inside_and_nothing_else_is(world) {
        let place = world.workspace();
        let prepare = format!("{} head -c 65536 /dev/zero > {1}/filler || true", mount(world, "tmpfs", "size=64k", &place), place.display());
        let script = "cp /etc/hosts more; head -c 100000 /dev/zero > /tmp/fine && echo end";
        let Some(outcome) = mounted(world, &prepare, &world.exec(&[], &["sh", "-c", script])) else { return };
        if refused_for_its_owners(world, &outcome) {
            return;
        }
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), "end\n"), "{outcome:?}");
        assert!(outcome.stderr.contains("No space left"), "{outcome:?}");
        assert_eq!(world.list(&["sessions"])[0]["status"], "finished");
    }
}

attack! {
    /// Without a record nothing happens.
    fn where_the_records_have_no_room_nothing_is_started(world) {
        let place = world.place().join("records");
        fs::create_dir(&place).unwrap();
        let fresh = mount(world, "tmpfs", "size=64k", &place);
        let mut command = world.exec(&[], &["echo", "ran"]);
        command.env("OMNI_HOME", &place);
        let closed = format!("{fresh} chmod 700 {};", place.display());
        let full = format!("{closed} head -c 65536 /dev/zero > {}/filler || true", place.display());
        let read_only = format!("{closed} mount -o remount,ro {}", place.display());
        for prepare in [full, read_only] {
            let Some(outcome) = mounted(world, &prepare, &command) else { return };
            assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
            assert!(outcome.stderr.contains(place.to_str().unwrap()), "{outcome:?}");
        }
        let roomy = mount(world, "tmpfs", "size=64m", &place);
        let Some(outcome) = mounted(world, &format!("{roomy} chmod 700 {}", place.display()), &command) else { return };
        assert_eq!(outcome.text(), "ran\n", "{outcome:?}");
    }
}

attack! {
    /// As network file systems often are: no extended attributes, and no translation of owners, which root needs.
    fn a_home_without_attributes_works_and_a_workspace_without_owners_is_refused_to_root(world) {
        let home = mount(world, "ramfs", "mode=755", &world.home());
        let prepare = format!("{home} mkdir {0}/state; chmod 700 {0}/state; chown --reference={0} {0}/state", world.home().display());
        let mut command = world.exec(&[], &["echo", "ran"]);
        command.env("OMNI_HOME", world.home().join("state"));
        let Some(outcome) = mounted(world, &prepare, &command) else { return };
        assert_eq!(outcome.text(), "ran\n", "{outcome:?}");
        let workspace = mount(world, "ramfs", "mode=755", &world.workspace());
        let Some(outcome) = mounted(world, &workspace, &world.exec(&[], &["sh", "-c", "echo ran > file; cat file"])) else { return };
        match world.who {
            Who::Ordinary => assert_eq!(outcome.text(), "ran\n", "{outcome:?}"),
            Who::Root => {
                assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
                assert!(outcome.stderr.contains("id-mapped"), "{outcome:?}");
            }
        }
    }
}

/// A file system in user space that finds a name in any letters, as many network file systems do.
const FOLDING: &str = "\
import errno, fusepy, os, stat, sys
files = {'key': b'a key of the user\\'s\\n', 'other': b'text\\n'}
class Folding(fusepy.Operations):
    def getattr(self, path, handle=None):
        name = path[1:].lower()
        if not name: return dict(st_mode=stat.S_IFDIR | 0o755, st_nlink=2, st_uid=int(sys.argv[2]), st_gid=int(sys.argv[2]))
        if name not in files: raise fusepy.FuseOSError(errno.ENOENT)
        return dict(st_mode=stat.S_IFREG | 0o644, st_nlink=1, st_size=len(files[name]), st_uid=int(sys.argv[2]), st_gid=int(sys.argv[2]))
    def readdir(self, path, handle): return ['.', '..', *files]
    def read(self, path, size, offset, handle): return files[path[1:].lower()][offset:offset + size]
fusepy.FUSE(Folding(), sys.argv[1], foreground=False, allow_other=True, nothreads=True)";

attack! {
    /// To the kernel, a name in other letters is another file, which no cover stands in front of.
    fn nothing_is_said_to_be_hidden_where_another_spelling_finds_it(world) {
        use std::os::unix::fs::MetadataExt;
        let place = world.home().join("folding");
        fs::create_dir(&place).unwrap();
        world.give(&place);
        let profile = |hide: &str| {
            let path = world.place().join("folding.yaml");
            world.write(&path, &format!("name: folding\nfilesystem: {{ read: [~/folding]{hide} }}\n"));
            path.display().to_string()
        };
        let server = world.place().join("folding.py");
        world.write(&server, FOLDING);
        let owner = fs::metadata(world.home()).unwrap().uid();
        let prepare = format!("/usr/bin/python3 {} {} {owner}", server.display(), place.display());
        let run = |profile: String| {
            let inner = world.exec(&["--profile", &profile], &["sh", "-c", "cat ~/folding/KEY ~/folding/Other"]);
            mounted(world, &prepare, &inner)
        };
        let Some(shown) = run(profile("")) else { return };
        if shown.stderr.contains("fusepy") || shown.stderr.contains("fuse:") {
            println!("skipped: no file systems in user space here ({})", shown.stderr);
            return;
        }
        if world.who == Who::Root && shown.stderr.contains("id-mapped") {
            // Root cannot translate owners there, and is refused already for that.
            assert_eq!((shown.code(), shown.text().as_str()), (Some(125), ""), "{shown:?}");
            return;
        }
        assert_eq!(shown.text(), "a key of the user's\ntext\n", "{shown:?}");
        let Some(hidden) = run(profile(", hide: [~/folding/key]")) else { return };
        assert_eq!((hidden.code(), hidden.text().as_str()), (Some(125), ""), "{hidden:?}");
        assert!(hidden.stderr.contains("in other letters"), "{hidden:?}");
    }
}

attack! {
    fn a_directory_that_is_gone_is_no_workspace(world) {
        let gone = world.place().join("gone");
        let script = format!("mkdir {0} && cd {0} && rmdir {0} && exec \"$0\" exec -- echo ran", gone.display());
        let mut command = world.command("sh".as_ref());
        command.args(["-c", &script]).arg(world.binary());
        let outcome = finish(command, b"");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("the current directory is gone"), "{outcome:?}");
    }
}

attack! {
    /// Accounts of services live there: what is in such a home is as little to be seen as in any other.
    fn a_home_among_the_systems_directories_is_replaced_like_any_other(world) {
        let home = Path::new("/opt/omni-attack-home");
        let prepare = format!("mount -t tmpfs tmpfs /opt; mkdir -p {0}/.ssh; echo key > {0}/.ssh/id_ed25519; chmod -R a+rX {0}", home.display());
        let mut command = world.exec(&[], &["sh", "-c", "cat ~/.ssh/id_ed25519; touch ~/own && ls -A ~"]);
        command.env("HOME", home);
        let Some(outcome) = mounted(world, &prepare, &command) else { return };
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), "own\n"), "{outcome:?}");
    }
}

attack! {
    fn a_home_that_is_none_is_said_to_be(world) {
        let ran = |home: &str| {
            let mut command = world.exec(&[], &["echo", "ran"]);
            command.env("HOME", home);
            finish(command, b"")
        };
        assert_eq!(ran(world.home().to_str().unwrap()).text(), "ran\n");
        let relative = ran("somewhere");
        assert_eq!((relative.code(), relative.text().as_str()), (Some(125), ""), "{relative:?}");
        assert!(relative.stderr.contains("set HOME"), "{relative:?}");
        for wide in ["/", "/usr", "/etc", "/proc/self", "/dev/shm"] {
            let outcome = ran(wide);
            assert!(outcome.text().is_empty() && outcome.code() == Some(125), "{wide}: {outcome:?}");
        }
    }
}

attack! {
    fn a_session_that_leaves_too_little_of_the_disk_is_ended_and_told_why(world) {
        let place = world.workspace();
        let small = mount(world, "tmpfs", "size=64m", &place);
        let profile = place.parent().unwrap().join("floor.yaml");
        world.write(&profile, "name: floor\nlimits: { disk_free: 32MiB }\n");
        let flags = ["--profile", profile.to_str().unwrap()];
        let fill = "head -c \"$0\" /dev/zero >filler && echo written; [ \"$1\" = go ] || exec sleep 600";
        let run = |prepare: &str, size: &str, then: &str| {
            mounted(world, &format!("{small} {prepare}"), &world.exec(&flags, &["sh", "-c", fill, size, then]))
        };
        let Some(outcome) = run("", "48M", "stay") else { return };
        if refused_for_its_owners(world, &outcome) {
            return;
        }
        assert_eq!(outcome.code(), Some(123), "{outcome:?}");
        assert!(outcome.stderr.contains("disk_free: less than 32 MiB was left"), "{outcome:?}");
        let session = world.list(&["show", "last"]).remove(0);
        assert_eq!(session["status"], "disk_limit", "{session}");
        let enough = run("", "8M", "go").unwrap();
        assert_eq!((enough.code(), enough.text().as_str()), (Some(0), "written\n"), "{enough:?}");
        let full = format!("head -c 48M /dev/zero >{}/before;", place.display());
        let refused = run(&full, "1", "go").unwrap();
        assert_eq!((refused.code(), refused.text().as_str()), (Some(125), ""), "{refused:?}");
        assert!(refused.stderr.contains("disk_free"), "{refused:?}");
    }
}
