//! Other namespaces, other ways to make a system call, and programs that gain something by being started.

use crate::support::{Who, finish};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

attack! {
    /// By the file in /proc, by a descriptor of a process, by every flag, by the program that does nothing else.
    fn cannot_join_the_namespaces_of_another_process(world) {
        let code = "\
kinds = ('user', 'mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup', 'time')
setns, pidfd_open = int(arguments[0]), int(arguments[1])
def descriptor(): return libc.syscall(ctypes.c_long(pidfd_open), ctypes.c_long(os.getppid() or 1), ctypes.c_long(0))
def join(path, flag): return call(setns, os.open(path, os.O_RDONLY), flag)
flags = (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x80, 0x7e020080)
import subprocess
def run(*argv): return subprocess.run(argv, capture_output=True).returncode != 0
say(dict(first=[attempt(lambda: os.open('/proc/1/ns/' + kind, os.O_RDONLY)) for kind in kinds],
    own=[call(setns, os.open('/proc/self/ns/' + kind, os.O_RDONLY), 0) for kind in kinds],
    process=[call(setns, descriptor(), flag) for flag in flags],
    programs=[run('nsenter', '--target', '1', '--all', 'true'), run('unshare', '--user', 'true'), run('unshare', '--mount', 'true')]))";
        let numbers = [libc::SYS_setns.to_string(), libc::SYS_pidfd_open.to_string()];
        let numbers = numbers.each_ref().map(String::as_str);
        let inside = world.probe(code, &numbers);
        assert_eq!(inside, json!({
            "first": vec!["EACCES"; 8], "own": vec!["EPERM"; 8], "process": vec!["EPERM"; 9], "programs": [true, true, true],
        }));
        let outside = world.probe_outside(code, &numbers);
        assert_eq!(outside["programs"][1], false, "a user namespace can be made outside: {outside}");
        if world.who == Who::Root {
            assert_eq!(outside["own"][5], "ok", "{outside}");
        }
    }
}

attack! {
    /// clone3(2) takes its flags from memory, where no filter can look; so it is not there, whatever it is asked.
    fn cannot_make_a_namespace_by_any_call_that_makes_processes(world) {
        let code = "\
clone3, clone, vfork = map(int, arguments)
def made(pid):
    if pid == 0: os._exit(0)
    if pid > 0: os.waitpid(pid, 0)
    return 'ok' if pid > 0 else name(ctypes.get_errno())
def by_clone3(flags, size):
    ctypes.set_errno(0)
    block = ctypes.create_string_buffer(struct.pack('11Q', flags, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0))
    return made(libc.syscall(ctypes.c_long(clone3), block, ctypes.c_long(size)))
def by_clone(flags):
    ctypes.set_errno(0)
    return made(libc.syscall(ctypes.c_long(clone), ctypes.c_long(flags | 17), None, None, None, None))
user, rest = 0x10000000, (0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000)
say(dict(clone3=[by_clone3(flags, size) for flags in (0, user, user | 0x20000, 0x40000000) for size in (64, 80, 88)],
    clone=[by_clone(user | flag) for flag in (0,) + rest], high=by_clone(user | 1 << 40), alone=[by_clone(flag) for flag in rest], plain=by_clone(0)))";
        let numbers = [libc::SYS_clone3.to_string(), libc::SYS_clone.to_string(), libc::SYS_vfork.to_string()];
        let numbers = numbers.each_ref().map(String::as_str);
        let inside = world.probe(code, &numbers);
        assert_eq!(inside, json!({
            "clone3": vec!["ENOSYS"; 12], "clone": vec!["EPERM"; 7], "high": "EPERM", "alone": vec!["EPERM"; 6], "plain": "ok",
        }));
        let outside = world.probe_outside(code, &numbers);
        assert_eq!((&outside["clone3"][3], &outside["clone"][0], &outside["plain"]), (&json!("ok"), &json!("ok"), &json!("ok")), "{outside}");
    }
}

/// A 32-bit program (elf(5)) of these instructions alone.
#[cfg(target_arch = "x86_64")]
fn program_of_32_bits(instructions: &[u8]) -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let size = HEADERS + u32::try_from(instructions.len()).unwrap();
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    for word in [BASE + HEADERS, 52, 0, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(instructions);
    file
}

#[cfg(target_arch = "x86_64")]
attack! {
    /// Their numbers are others: what is socket(2) there is a harmless call here.
    fn a_32_bit_program_makes_no_system_call(world) {
        // `mov eax, CALL; mov ebx, ARGUMENT; int 0x80`, and then exit(0).
        let call = |number: u8, argument: u32| {
            let mut code = vec![0xb8, number, 0, 0, 0, 0xbb];
            code.extend_from_slice(&argument.to_le_bytes());
            code.extend_from_slice(&[0xcd, 0x80]);
            code
        };
        let exit = call(1, 0);
        let directory = world.workspace();
        for (name, before) in [("exit", Vec::new()), ("getpid", call(20, 0)), ("brk", call(45, 0))] {
            let path = directory.join(name);
            fs::write(&path, program_of_32_bits(&[before, exit.clone()].concat())).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            world.give(&path);
            let outside = finish(world.command(&path), b"");
            let inside = finish(world.exec(&[], &[path.to_str().unwrap()]), b"");
            if outside.code() == Some(0) {
                assert_eq!(inside.signal(), Some(libc::SIGSYS), "{name}: {inside:?}");
            } else {
                println!("no control: this kernel runs no 32-bit programs ({outside:?})");
                assert_ne!(inside.code(), Some(0), "{name}: {inside:?}");
            }
        }
    }
}

attack! {
    /// The host has programs that run as root for everybody, and a workspace may hold one.
    fn a_set_user_id_program_gives_nothing(world) {
        let path = world.workspace().join("identity");
        fs::copy("/usr/bin/id", &path).unwrap();
        if world.who == Who::Root {
            // Another owner than the one who starts it, so that the bit would show.
            std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        } else if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        } else {
            println!("no control: only root can make another's program");
        }
        fs::set_permissions(&path, PermissionsExt::from_mode(0o6755)).unwrap();
        let mut control = world.command(&path);
        let outside = finish({ control.arg("-un"); control }, b"").text();
        let own = finish({ let mut command = world.command("id".as_ref()); command.arg("-un"); command }, b"").text();
        if rustix::process::geteuid().is_root() {
            assert_ne!(outside, own, "outside the bit counts");
        }
        let code = "\
import subprocess
def ids(program): return [subprocess.run([program, flag], capture_output=True, text=True).stdout.strip() for flag in ('-u', '-g', '-ru', '-rg')]
say([ids('./identity'), ids('/usr/bin/id'), [os.stat(path).st_mode & 0o4000 != 0 for path in ('./identity', '/usr/bin/su')]])";
        let inside: Value = world.probe(code, &[]);
        assert_eq!(inside[0], inside[1], "{inside}");
        assert_eq!(inside[2], json!([true, true]), "{inside}");
    }
}

attack! {
    fn the_kernels_memory_and_messages_are_out_of_reach(world) {
        let paths = ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/uinput", "/dev/input/event0",
            "/dev/vda", "/dev/loop-control", "/dev/mapper/control"];
        let open = "say([attempt(lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))) for path in arguments])";
        assert_eq!(world.probe(open, &paths), crate::support::each("ENOENT", paths.len()));
        let closed = ["/proc/sysrq-trigger", "/proc/kcore", "/proc/kmsg", "/proc/kpageflags", "/proc/sys/kernel/sysrq", "/proc/irq/default_smp_affinity"];
        let write = "say([attempt(lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))) for path in arguments])";
        let found = world.probe(write, &closed);
        assert!(found.as_array().unwrap().iter().all(|outcome| ["EACCES", "ENOENT", "EROFS", "EPERM"].iter().any(|no| outcome == no)), "{found}");
        let addresses = "say(any(int(line.split()[0], 16) for line in open('/proc/kallsyms').readlines()[:1000]) if os.path.exists('/proc/kallsyms') else False)";
        assert_eq!(world.probe(addresses, &[]), false, "the kernel's addresses are blanked");
        if world.who == Who::Root {
            assert_eq!(world.probe_outside(open, &["/dev/kmsg"]), json!(["ok"]));
            assert_eq!(world.probe_outside(write, &["/proc/irq/default_smp_affinity"]), json!(["ok"]));
        }
    }
}

attack! {
    /// A link in a place where everybody may write, put where omni will write next, has an end elsewhere.
    fn omni_makes_nothing_where_others_may_write(world) {
        let trace = world.place().join("trace");
        let mut command = world.command("strace".as_ref());
        command.args(["-f", "-qq", "-e", "signal=none", "-e", "trace=openat,open,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat,rename,bind"]);
        command.arg("-o").arg(&trace).arg(world.binary()).args(["exec", "--", "true"]);
        assert_eq!(finish(command, b"").code(), Some(0));
        let calls = fs::read_to_string(&trace).unwrap();
        let makes = |line: &&str| ["O_CREAT", "mkdir", "mknod", "symlink", "link(", "linkat(", "rename", "creat("].iter().any(|word| line.contains(word));
        let state = world.omni_home().display().to_string();
        assert!(calls.lines().filter(makes).any(|line| line.contains(&state)), "the trace sees what is made: {calls}");
        let shared = ["\"/tmp/", "\"/var/tmp/", "\"/dev/shm/", "\"/run/"];
        let strays: Vec<_> = calls.lines().filter(makes).filter(|line| shared.iter().any(|place| line.contains(place)) && !line.contains(&state)).collect();
        assert_eq!(strays, Vec::<&str>::new());
        // The session's own, in its directory of the state, which it holds open.
        let control = |line: &str| line.contains("\"/proc/self/fd/") && line.contains("/control\"}");
        assert!(!calls.lines().any(|line| line.contains("bind(") && line.contains("AF_UNIX") && !control(line)), "no other socket with a name is made: {calls}");
    }
}

attack! {
    fn a_state_directory_that_is_a_link_or_open_to_others_is_refused(world) {
        let ran = |place: &std::path::Path| {
            let mut command = world.exec(&[], &["echo", "ran"]);
            command.env("OMNI_HOME", place);
            finish(command, b"")
        };
        let (elsewhere, link, open) = (world.place().join("elsewhere"), world.place().join("link"), world.place().join("open"));
        for (path, mode) in [(&elsewhere, 0o700), (&open, 0o777)] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            world.give(path);
        }
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        assert_eq!(ran(&elsewhere).text(), "ran\n");
        fs::remove_dir_all(&elsewhere).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        for bad in [&link, &open] {
            let outcome = ran(bad);
            assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
            assert!(outcome.stderr.contains(bad.to_str().unwrap()), "{outcome:?}");
        }
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was made behind the link");
    }
}

attack! {
    /// On Windows' Linux a magic interpreter starts Windows programs; its socket and its registration are the ways there.
    fn nothing_registers_or_reaches_an_interpreter_of_other_systems_programs(world) {
        let code = "\
paths = ('/proc/sys/fs/binfmt_misc/register', '/proc/sys/fs/binfmt_misc/WSLInterop', '/run/WSL', '/mnt/c', '/init', '/mnt/wsl')
say([attempt(lambda: os.stat(path)) for path in paths] + ['WSL_INTEROP' in os.environ])";
        let mut command = world.exec(&[], &["/usr/bin/python3", "-I", "-c", &format!("{}\n{code}", crate::support::PRELUDE)]);
        command.env("WSL_INTEROP", "/run/WSL/1_interop");
        let inside = finish(command, b"").json();
        assert_eq!(inside, json!(["ENOENT", "ENOENT", "ENOENT", "ENOENT", "ENOENT", "ENOENT", false]));
        if world.who == Who::Root {
            let mount = "unshare --mount sh -c 'mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && test -w /proc/sys/fs/binfmt_misc/register && echo there'";
            let mut control = world.command("sh".as_ref());
            control.args(["-c", mount]);
            if finish(control, b"").text() != "there\n" {
                println!("no control: this kernel has no binfmt_misc");
            }
        }
    }
}
