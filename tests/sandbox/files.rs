//! Reading what was not shown, writing what was not given.

use crate::support::{Who, World, each, finish};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// What no stranger may see, as it lies in a home directory.
const TREASURES: [&str; 7] = [
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".config/gh/hosts.yml",
    ".mozilla/firefox/profiles.ini",
    ".git-credentials",
    ".claude/.credentials.json",
];
/// Tries to read each path it is given.
const READ: &str = "say([attempt(lambda: open(path).read()) for path in arguments])";

fn plant(world: &World) -> Vec<String> {
    let paths: Vec<PathBuf> = TREASURES.iter().map(|name| world.home().join(name)).collect();
    paths.iter().for_each(|path| world.write(path, "a secret of the user's\n"));
    paths.iter().map(|path| path.display().to_string()).collect()
}

fn words(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

attack! {
    fn cannot_read_the_ssh_key(world) {
        let paths = plant(world);
        assert_eq!(world.probe_outside(READ, &words(&paths)), each("ok", 7));
        assert_eq!(world.probe(READ, &words(&paths)), each("ENOENT", 7), "absent, not merely closed");
    }
}

attack! {
    fn cannot_list_the_home_directory(world) {
        plant(world);
        let list = "say(sorted(os.listdir(os.environ['HOME'])))";
        assert!(world.probe_outside(list, &[]).as_array().unwrap().contains(&json!(".ssh")));
        assert_eq!(world.probe(list, &[]), json!([]));
    }
}

attack! {
    fn cannot_follow_a_link_of_the_workspace_out_of_it(world) {
        let paths = plant(world);
        let link = world.workspace().join("innocent");
        symlink(&paths[0], &link).unwrap();
        symlink(world.home().join(".ssh"), world.workspace().join("directory")).unwrap();
        let ways = [link.display().to_string(), format!("{}/directory/id_ed25519", world.workspace().display())];
        assert_eq!(world.probe_outside(READ, &words(&ways)), json!(["ok", "ok"]));
        assert_eq!(world.probe(READ, &words(&ways)), json!(["ENOENT", "ENOENT"]));
    }
}

attack! {
    fn cannot_reach_the_host_through_proc(world) {
        let treasure = plant(world)[0].clone();
        let up = format!("/proc/self/cwd/../home/.ssh/{}", "id_ed25519");
        let ways = [format!("/proc/self/root{treasure}"), up, format!("/proc/thread-self/root{treasure}")];
        assert_eq!(world.probe_outside(READ, &words(&ways)), json!(["ok", "ok", "ok"]));
        assert_eq!(world.probe(READ, &words(&ways)), json!(["ENOENT", "ENOENT", "ENOENT"]));
        let first = [format!("/proc/1/root{treasure}"), "/proc/1/cwd/etc/passwd".into(), "/proc/1/fd/3".into()];
        assert_eq!(world.probe(READ, &words(&first)), json!(["EACCES", "EACCES", "EACCES"]));
    }
}

attack! {
    /// What the harness writes into its home lands in the sandbox's own, and is gone with it.
    fn cannot_change_the_shell_start_files(world) {
        let names = [".bashrc", ".zshenv", ".profile", ".gitconfig", ".config/autostart/x.desktop", ".ssh/authorized_keys"];
        let paths: Vec<String> = names.iter().map(|name| world.home().join(name).display().to_string()).collect();
        paths.iter().for_each(|path| world.write(Path::new(path), "the user's own\n"));
        let append = "\
def append(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'a') as file: file.write('evil\\n')
say([attempt(lambda: append(path)) for path in arguments])";
        let control = world.home().join("control");
        world.write(&control, "");
        assert_eq!(world.probe_outside(append, &[control.to_str().unwrap()]), json!(["ok"]));
        assert_eq!(fs::read_to_string(&control).unwrap(), "evil\n");
        world.probe(append, &words(&paths));
        for path in &paths {
            assert_eq!(fs::read_to_string(path).unwrap(), "the user's own\n", "{path}");
        }
    }
}

attack! {
    fn cannot_change_the_system(world) {
        let write = "\
def create(path): os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
say([attempt(lambda: create(path)) for path in arguments])";
        let places = ["/usr/bin/omni-attack", "/etc/omni-attack", "/omni-attack", "/opt/omni-attack", "/run/omni/ca.pem"];
        let control = world.workspace().join("control").display().to_string();
        assert_eq!(world.probe(write, &[&control]), json!(["ok"]));
        let found = world.probe(write, &places);
        assert_eq!(found, json!(["EROFS", "EROFS", "EROFS", "EROFS", "EACCES"]));
        assert!(places[..4].iter().all(|place| !Path::new(place).exists()));
    }
}

attack! {
    /// As root, this is what the translated identity is for.
    fn cannot_read_the_password_hashes(world) {
        let found = world.probe(READ, &["/etc/shadow", "/etc/passwd"]);
        assert_eq!(found, json!(["EACCES", "ok"]));
        if world.who == Who::Root {
            assert_eq!(world.probe_outside(READ, &["/etc/shadow"]), json!(["ok"]));
        }
    }
}

attack! {
    fn cannot_open_a_file_by_its_handle(world) {
        let code = "\
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
mount = ctypes.c_int()
named = call(int(arguments[0]), -100, b'/etc/passwd', handle, ctypes.byref(mount), 0)
place = os.open('/etc', os.O_RDONLY)
say([named, call(int(arguments[1]), place, handle, 0)])";
        let numbers = [libc::SYS_name_to_handle_at.to_string(), libc::SYS_open_by_handle_at.to_string()];
        let outside = world.probe_outside(code, &words(&numbers));
        assert_eq!(outside[0], "ok");
        if world.who == Who::Root {
            assert_eq!(outside[1], "ok");
        }
        assert_eq!(world.probe(code, &words(&numbers)), json!(["EPERM", "EPERM"]));
    }
}

attack! {
    /// A shell that has the host's root directory open starts omni.
    fn cannot_use_a_descriptor_that_the_caller_left_open(world) {
        let look = "say(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))";
        let run = |program: &str, look: &str| {
            let mut command = world.command(Path::new("/bin/sh"));
            let script = format!("exec 7</ 8<\"$HOME\" 9<\"$0\"; exec {program} /usr/bin/python3 -I -c \"$1\"");
            command.arg("-c").arg(script).arg(world.binary()).arg(look);
            finish(command, b"").json()
        };
        let look = format!("import json, os\ndef say(value): print(json.dumps(value))\n{look}");
        let listed = |value: Value| serde_json::from_value::<Vec<i32>>(value).unwrap();
        let outside = listed(run("env", &look));
        assert!([7, 8, 9].iter().all(|fd| outside.contains(fd)), "{outside:?}");
        // The three standard streams, and the directory that is being listed.
        assert_eq!(listed(run("\"$0\" exec --", &look)), [0, 1, 2, 3]);
    }
}

attack! {
    /// The standard streams are the caller's gift; as a directory, such a gift would be the whole host.
    fn a_directory_on_stdin_leads_nowhere(world) {
        let treasure = plant(world)[0].clone();
        let code = "import os, sys\n\
            def attempt(action):\n    try: action()\n    except OSError as error: return error.errno\n    return 0\n\
            path = sys.argv[1].lstrip('/')\n\
            print([attempt(lambda: open(f'/proc/self/fd/3/{path}')), attempt(lambda: os.open(path, 0, dir_fd=3)), \
            attempt(lambda: os.listdir(3))])";
        let run = |program: &str| {
            let mut command = world.command(Path::new("/bin/sh"));
            let inner = "exec 3<&0 </dev/null; exec /usr/bin/python3 -I -c \"$0\" \"$1\"";
            let script = format!("exec {program} sh -c '{inner}' \"$1\" \"$2\" </");
            command.arg("-c").arg(script).arg(world.binary()).arg(code).arg(&treasure);
            finish(command, b"").text()
        };
        assert_eq!(run("env").trim(), "[0, 0, 0]");
        assert_eq!(run("\"$0\" exec --"), "", "omni refuses to hand it over");
    }
}

attack! {
    fn cannot_write_kernel_settings(world) {
        let paths = [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/hostname",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv4/ip_unprivileged_port_start",
            "/proc/sys/fs/file-max",
        ];
        let open = "say([attempt(lambda: os.close(os.open(path, os.O_WRONLY))) for path in arguments])";
        if world.who == Who::Root {
            assert_eq!(world.probe_outside(open, &paths), each("ok", 6));
        }
        let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
        assert_eq!(world.probe(open, &["/proc/self/oom_score_adj"]), json!(["ok"]));
        assert_eq!(world.probe(open, &paths), each("EACCES", 6));
        let absent = ["/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent", "/sys/kernel/mm/ksm/run"];
        assert_eq!(world.probe(open, &absent), each("ENOENT", 3));
        assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

attack! {
    fn cannot_find_a_device_that_matters(world) {
        let list = "say(sorted(os.listdir('/dev')))";
        let outside = world.probe_outside(list, &[]);
        assert!(outside.as_array().unwrap().len() > 20, "{outside}");
        let harmless = [
            "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
        ];
        assert_eq!(world.probe(list, &[]), json!(harmless));
    }
}

attack! {
    fn cannot_make_a_device(world) {
        let code = "\
import stat
path = os.path.join(arguments[0], 'device')
say([attempt(lambda: os.mknod(path, kind | 0o600, os.makedev(1, 3))) for kind in (stat.S_IFCHR, stat.S_IFBLK)]
    + [attempt(lambda: os.mknod(path, stat.S_IFIFO | 0o600))])";
        let here = world.workspace().display().to_string();
        if world.who == Who::Root {
            let outside = world.probe_outside("import stat\nsay(attempt(lambda: os.mknod('control', stat.S_IFCHR, os.makedev(1, 3))))", &[]);
            assert_eq!(outside, "ok");
        }
        assert_eq!(world.probe(code, &[&here]), json!(["EPERM", "EPERM", "ok"]));
    }
}

attack! {
    /// On the host, such a file would run as the workspace's owner, root not excepted, for whoever starts it.
    fn cannot_leave_a_set_user_id_program_behind(world) {
        let code = "\
def made(name, flags=0, mode=0o644): return os.open(name, os.O_CREAT | os.O_WRONLY | flags, mode)
os.umask(0)
ways = [
    lambda: os.chmod(made('a') and 'a', 0o4755),
    lambda: os.fchmod(made('b'), 0o4755),
    lambda: os.chmod(made('c') and 'c', 0o4755, dir_fd=os.open('.', os.O_RDONLY)),
    lambda: made('d', 0, 0o4755),
    lambda: os.mknod('e', 0o104755),
]
outcome = [attempt(way) for way in ways]
os.close(made('f'))
outcome.append(call(int(arguments[0]), -100, b'f', 0o4755, 0))
how = struct.pack('QQQ', os.O_CREAT | os.O_WRONLY, 0o4755, 0)
outcome.append(call(int(arguments[1]), -100, b'g', how, 24))
outcome.append(attempt(lambda: os.chmod('f', 0o755)))
say(outcome)";
        let numbers = ["452".to_owned(), libc::SYS_openat2.to_string()];
        let set_id = |directory: &Path| {
            let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
            let mut names: Vec<_> = files.filter(|file| file.metadata().unwrap().mode() & 0o4000 != 0).map(|file| file.file_name()).collect();
            names.sort();
            names
        };
        let control = world.place().join("control");
        fs::create_dir(&control).unwrap();
        world.give(&control);
        let outside = world.probe_outside(&format!("os.chdir('{}')\n{code}", control.display()), &words(&numbers));
        // Linux before 6.6 has no fchmodat2, and inside it is refused all the same.
        let sixth = if outside[5] == "ENOSYS" { "ENOSYS" } else { "ok" };
        assert_eq!(outside, json!(["ok", "ok", "ok", "ok", "ok", sixth, "ok", "ok"]));
        assert_eq!(set_id(&control).len(), 6, "all but the one whose bit was taken away again");
        let inside = world.probe(code, &words(&numbers));
        assert_eq!(inside, json!(["EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "ENOSYS", "ok"]));
        assert!(set_id(&world.workspace()).is_empty(), "{:?}", set_id(&world.workspace()));
    }
}

attack! {
    /// Hiding covers a name. A second name that the host's file already has is not known to be one.
    fn a_hidden_file_stays_visible_under_a_second_name(world) {
        let profile = "\
name: hiding
command: sh
description: grants a directory and hides a file in it
filesystem: { workspace: direct, write: [~/.agent], hide: [~/.agent/credentials] }
";
        let file = world.place().join("hiding.yaml");
        world.write(&file, profile);
        let hidden = world.home().join(".agent/credentials");
        world.write(&hidden, "the key\n");
        fs::hard_link(&hidden, world.home().join(".agent/second")).unwrap();
        let read = "say([open(os.path.expanduser('~/.agent/' + name)).read() for name in ('credentials', 'second')]\
            + [attempt(lambda: os.link(os.path.expanduser('~/.agent/credentials'), os.path.expanduser('~/.agent/third')))])";
        let found = world.probe_with(&["--profile", file.to_str().unwrap()], read, &[]);
        assert_eq!(found, json!(["", "the key\n", "EXDEV"]), "the second name is the documented limit");
        assert!(!world.home().join(".agent/third").exists());
    }
}
