//! System calls that no harness needs, and ways around the filter that refuses them.

use crate::support::{Who, World};
use serde_json::{Value, json};

/// What came of each call by name, in a sandbox and outside.
fn calls(world: &World, list: &[(&str, i64, &str)]) -> (Value, Value) {
    let code = list.iter().map(|(name, number, arguments)| format!("({name:?}, call({number}{arguments}))"));
    let code = format!("say(dict([{}]))", code.collect::<Vec<_>>().join(", "));
    (world.probe(&code, &[]), world.probe_outside(&code, &[]))
}

/// Every call is refused inside by the filter, and outside reaches the kernel, which refuses the bad arguments instead.
/// What an ordinary user is not permitted anyway shows only as root.
fn refused(world: &World, expected: &str, list: &[(&str, i64, &str)]) {
    let (inside, outside) = calls(world, list);
    for (name, ..) in list {
        assert_eq!(inside[name], expected, "{name}: {inside}");
        if world.who == Who::Root {
            assert_ne!(outside[name], expected, "{name}: {outside}");
        }
    }
}

/// The version of the kernel that runs.
fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap().split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

attack! {
    fn cannot_mount(world) {
        refused(world, "EPERM", &[
            ("mount", libc::SYS_mount, ", b'none', b'/nonexistent', b'tmpfs', 0, None"),
            ("umount2", libc::SYS_umount2, ", b'/nonexistent', 0"),
            ("pivot_root", libc::SYS_pivot_root, ", b'/nonexistent', b'/nonexistent'"),
            ("chroot", libc::SYS_chroot, ", b'/nonexistent'"),
            ("fsopen", libc::SYS_fsopen, ", b'nonexistent', 0"),
            ("fsconfig", libc::SYS_fsconfig, ", -1, 0, None, None, 0"),
            ("fsmount", libc::SYS_fsmount, ", -1, 0, 0"),
            ("fspick", libc::SYS_fspick, ", -100, b'/nonexistent', 0"),
            ("open_tree", libc::SYS_open_tree, ", -100, b'/nonexistent', 0"),
            ("move_mount", libc::SYS_move_mount, ", -1, b'', -1, b'', 0"),
            ("mount_setattr", libc::SYS_mount_setattr, ", -1, b'', 0, None, 0"),
        ]);
    }
}

attack! {
    /// open_tree_attr(2) is a mounting call of Linux 6.15. What the next kernel brings, nobody has looked at yet.
    fn cannot_use_a_system_call_that_is_too_new_to_be_judged(world) {
        let new = [
            ("open_tree_attr", 467, ", -100, b'/nonexistent', 0, None, 0"),
            ("setxattrat", 463, ", -1, b'', 0, b'user.x', None, 0"),
        ];
        let (inside, outside) = calls(world, &new);
        // Linux 6.15 and 6.13 brought them.
        for ((name, ..), since) in new.into_iter().zip([(6, 15), (6, 13)]) {
            assert_eq!(inside[name], "ENOSYS", "{name}: {inside}");
            if world.who == Who::Root {
                assert_eq!(outside[name] == "ENOSYS", kernel() < since, "{name}: {outside}");
            }
        }
    }
}

attack! {
    /// A cover in front of a file is a mount; as long as it cannot be taken off, it stays.
    fn cannot_take_a_cover_off(world) {
        let code = format!("\
before = open('/etc/hosts').read()
outcome = [call({}, b'/etc/hosts', 2), attempt(lambda: os.unlink('/etc/hosts')), attempt(lambda: os.rename('/etc/hosts', '/tmp/x')),
    attempt(lambda: open('/etc/hosts', 'w'))]
say(outcome + [open('/etc/hosts').read() == before])", libc::SYS_umount2);
        let found = world.probe(&code, &[]);
        assert_eq!(found, json!(["EPERM", "EROFS", "EXDEV", "EROFS", true]));
        assert!(std::fs::write(world.place().join("hosts"), "").is_ok());
    }
}

attack! {
    fn cannot_make_or_join_a_namespace(world) {
        let code = format!("\
flags = dict(user=0x10000000, mount=0x20000, pid=0x20000000, network=0x40000000, ipc=0x8000000, uts=0x4000000, cgroup=0x2000000, time=0x80)
def clone(flag):
    # SIGCHLD tells the parent. The child of a successful clone ends at once.
    ctypes.set_errno(0)
    pid = libc.syscall(ctypes.c_long({clone}), ctypes.c_long(flag | 17), None, None, None, None)
    if pid == 0: os._exit(0)
    if pid > 0: os.waitpid(pid, 0)
    return 'ok' if pid > 0 else name(ctypes.get_errno())
joined = os.open('/proc/self/ns/uts', os.O_RDONLY)
say(dict(unshare={{kind: call({unshare}, flag) for kind, flag in flags.items()}} if arguments else None,
    clone={{kind: clone(flag) for kind, flag in flags.items() if kind != 'time'}},
    clone3=call({clone3}, None, 0), setns=call({setns}, joined, 0), plain=clone(0)))",
            clone = libc::SYS_clone, unshare = libc::SYS_unshare, clone3 = libc::SYS_clone3, setns = libc::SYS_setns);
        let inside = world.probe(&code, &["all"]);
        for kind in ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"] {
            assert_eq!(inside["unshare"][kind], "EPERM", "{kind}: {inside}");
            assert_eq!(inside["clone"][kind], "EPERM", "{kind}: {inside}");
        }
        assert_eq!([&inside["clone3"], &inside["setns"], &inside["plain"]], ["ENOSYS", "EPERM", "ok"]);
        let outside = world.probe_outside(&code, &[]);
        assert_eq!(outside["clone"]["user"], "ok", "{outside}");
        assert_eq!(outside["clone3"], "EINVAL", "{outside}");
    }
}

attack! {
    /// It opens sockets and files in the kernel's own name, around every filter.
    fn cannot_use_io_uring(world) {
        let parameters = ", 4, ctypes.create_string_buffer(256)";
        let list = [
            ("io_uring_setup", libc::SYS_io_uring_setup, parameters),
            ("io_uring_enter", libc::SYS_io_uring_enter, ", -1, 0, 0, 0, None, 0"),
            ("io_uring_register", libc::SYS_io_uring_register, ", -1, 0, None, 0"),
        ];
        refused(world, "ENOSYS", &list);
    }
}

attack! {
    fn cannot_use_what_kernel_exploits_start_from(world) {
        refused(world, "EPERM", &[
            ("bpf", libc::SYS_bpf, ", 9999, None, 0"),
            ("perf_event_open", libc::SYS_perf_event_open, ", None, 0, -1, -1, 0"),
            ("userfaultfd", libc::SYS_userfaultfd, ", 0x7fff0000"),
            ("keyctl", libc::SYS_keyctl, ", 0, -3, 0"),
            ("add_key", libc::SYS_add_key, ", b'nonexistent', b'x', b'x', 1, -1"),
            ("request_key", libc::SYS_request_key, ", b'nonexistent', b'x', None, 0"),
            ("personality", libc::SYS_personality, ", 0x0400000"),
            ("kexec_load", libc::SYS_kexec_load, ", 0, 10**6, None, 0"),
            ("kexec_file_load", libc::SYS_kexec_file_load, ", -1, -1, 0, None, 0x7fff0000"),
            ("init_module", libc::SYS_init_module, ", None, 0, b''"),
            ("finit_module", libc::SYS_finit_module, ", -1, b'', 0"),
            ("delete_module", libc::SYS_delete_module, ", b'nonexistent-module', 0"),
            ("fanotify_init", libc::SYS_fanotify_init, ", 0x7fffffff, 0"),
            ("quotactl", libc::SYS_quotactl, ", 0x7fffffff, b'/nonexistent', 0, None"),
            ("swapon", libc::SYS_swapon, ", b'/nonexistent', 0"),
            ("swapoff", libc::SYS_swapoff, ", b'/nonexistent'"),
            ("acct", libc::SYS_acct, ", b'/nonexistent'"),
            ("syslog", libc::SYS_syslog, ", 10, None, 0"),
            ("clock_settime", libc::SYS_clock_settime, ", 9999, None"),
            ("adjtimex", libc::SYS_adjtimex, ", None"),
            ("modify_ldt", libc::SYS_modify_ldt, ", 9999, None, 0"),
            ("kcmp", libc::SYS_kcmp, ", 0x7ffffff, 0x7ffffff, 0, 0, 0"),
            ("pidfd_getfd", libc::SYS_pidfd_getfd, ", -1, -1, 0"),
            ("move_pages", libc::SYS_move_pages, ", 0x7ffffff, 0, None, None, None, 0x7fff"),
        ]);
    }
}

#[cfg(target_arch = "x86_64")]
attack! {
    /// Calls by the 32-bit way have other numbers, so a filter by number must not let them in.
    fn cannot_make_a_32_bit_system_call(world) {
        let code = "\
import mmap
def machine(instructions):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(instructions)
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
say([in_child(lambda: machine(bytes.fromhex('c3'))),
    in_child(lambda: machine(bytes.fromhex('b814000000cd80c3')))])";
        let outside = world.probe_outside(code, &[]);
        assert_eq!(outside[0], "exit 0", "{outside}");
        assert_eq!(world.probe(code, &[]), json!(["exit 0", format!("signal {}", libc::SIGSYS)]));
        if outside[1] != "exit 0" {
            println!("no control: this kernel has no 32-bit system calls ({outside})");
        }
    }
}

#[cfg(target_arch = "x86_64")]
attack! {
    fn cannot_make_an_x32_system_call(world) {
        const X32: i64 = 0x4000_0000;
        let list = [
            ("getpid", libc::SYS_getpid, ""),
            ("x32 getpid", libc::SYS_getpid | X32, ""),
            ("x32 socket", libc::SYS_socket | X32, ", 40, 1, 0"),
            ("x32 unshare", libc::SYS_unshare | X32, ", 0x10000000"),
        ];
        let (inside, _) = calls(world, &list);
        assert_eq!(inside, json!({
            "getpid": "ok", "x32 getpid": "ENOSYS", "x32 socket": "ENOSYS", "x32 unshare": "ENOSYS",
        }));
    }
}

attack! {
    /// A control group that the harness may write is a way out of its bounds, or to a program run by the kernel.
    fn cannot_change_its_control_group(world) {
        let code = "\
import glob
say([open('/proc/self/cgroup').read(), glob.glob('/sys/**'), attempt(lambda: os.listdir('/sys/fs/cgroup')),
    [line for line in open('/proc/self/mountinfo') if ' - cgroup' in line or ' - sysfs' in line]])";
        let inside = world.probe(code, &[]);
        assert_eq!([&inside[1], &inside[2], &inside[3]], [&json!([]), &json!("ENOENT"), &json!([])]);
        // Its own group is the root of what it can see: the name on the host is not told.
        assert!(inside[0].as_str().unwrap().lines().all(|line| line.ends_with(":/")), "{inside}");
        assert_ne!(world.probe_outside(code, &[])[1], json!([]));
    }
}

attack! {
    fn has_no_capability_and_cannot_gain_one(world) {
        let status = "[line.split(':')[1].strip() for line in open('/proc/self/status')\
            if line.startswith(('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp:'))]";
        let code = format!("say({status})");
        let none = "0000000000000000";
        assert_eq!(world.probe(&code, &[]), json!([none, none, none, none, none, "1", "2"]));
        if world.who == Who::Root {
            assert_ne!(world.probe_outside(&code, &[])[2], none);
        }
        let outcome = world.shell(&[], "cp /usr/bin/su . && ./su -c id; su -c id </dev/null");
        assert!(!outcome.text().contains("uid=0"), "{outcome:?}");
    }
}

attack! {
    /// With the host's terminal, this would type a command into the user's shell.
    fn cannot_type_into_the_terminal(world) {
        let code = "\
import fcntl, termios
terminal = os.open('/dev/tty', os.O_RDWR)
def type(request): fcntl.ioctl(terminal, request, b'x')
say([os.isatty(0), os.ttyname(0), attempt(lambda: fcntl.ioctl(terminal, termios.FIONREAD, b'0000')),
    attempt(lambda: type(termios.TIOCSTI)), attempt(lambda: type(termios.TIOCSTI | 0x100000000 - (1 << 32))),
    attempt(lambda: type(termios.TIOCLINUX))])";
        // util-linux's script(1) gives the program a terminal of its own.
        let run = |line: &str| {
            let mut command = world.command(std::path::Path::new("script"));
            command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
            command.env("TERM", "dumb").env("PROBE", format!("{}\n{code}", crate::support::PRELUDE));
            let text = crate::support::finish(command, b"").text();
            // The terminal may echo the end of script's own input, before or after.
            let said = &text[text.find('[').unwrap_or_default()..];
            let first = serde_json::Deserializer::from_str(said).into_iter::<Value>().next();
            first.unwrap_or_else(|| panic!("nothing was said: {text:?}")).unwrap_or_else(|_| panic!("not JSON: {text:?}"))
        };
        let python = "/usr/bin/python3 -I -c \"$PROBE\"";
        let inside = run(&format!("{} exec -q --env PROBE -- sh -c '{}'", world.binary().display(), python.replace('\'', "")));
        assert_eq!(inside, json!([true, "/dev/pts/0", "ok", "EPERM", "EPERM", "EPERM"]));
        let outside = run(python);
        assert_eq!([&outside[0], &outside[2]], [&json!(true), &json!("ok")]);
        if outside[3] != "ok" {
            println!("no control: this kernel refuses TIOCSTI to everybody ({outside})");
        }
    }
}
