//! What holds whichever of the shipped profiles a harness runs under.

use crate::support::{PRELUDE, Witness, finish};
use serde_json::{Value, json};

const TREASURES: [&str; 6] = [
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".config/gh/hosts.yml",
    ".mozilla/firefox/profiles.ini",
    ".git-credentials",
];

/// Tries one act of each kind.
const TRY: &str = "\
given = json.load(open('given.json'))
port, numbers, treasures = given['port'], given['numbers'], given['treasures']
def reach():
    with socket.create_connection(('127.0.0.1', port), 1): pass
def route_of(number, *values): return call(numbers[number], *values)
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
say(dict(
    treasures=[attempt(lambda: open(path).read()) for path in treasures],
    capabilities=[status[name].strip() for name in ('CapPrm', 'CapEff', 'CapBnd', 'CapAmb')],
    locks=[status[name].strip() for name in ('NoNewPrivs', 'Seccomp')], loopback=attempt(reach),
    vsock=route_of('socket', 40, 1, 0), ring=route_of('io_uring_setup', 4, None), trace=route_of('bpf', 9999, None, 0),
    mount=route_of('mount', b'none', b'/mnt', b'tmpfs', 0, None), processes=len([p for p in os.listdir('/proc') if p.isdigit()]) < 10,
    system=attempt(lambda: open('/etc/omni-attack', 'w')), root=os.getuid() == 0, first=attempt(lambda: open('/proc/1/environ')),
    records=attempt(lambda: os.listdir(os.environ['HOME'] + '/../state')), sockets=attempt(lambda: os.listdir('/run/dbus')),
    user=attempt(lambda: open(os.environ['HOME'] + '/.bashrc', 'a').write('x'))))";

attack! {
    fn every_shipped_profile_keeps_what_is_kept_for_all(world) {
        let witness = Witness::listen();
        let paths: Vec<String> = TREASURES.iter().map(|name| world.home().join(name).display().to_string()).collect();
        paths.iter().for_each(|path| world.write(std::path::Path::new(path), "a secret of the user's\n"));
        let start_up = world.home().join(".bashrc");
        world.write(&start_up, "the user's own\n");
        let numbers = json!({
            "socket": libc::SYS_socket, "io_uring_setup": libc::SYS_io_uring_setup, "bpf": libc::SYS_bpf, "mount": libc::SYS_mount,
        });
        let given = json!({ "port": witness.port(), "numbers": numbers, "treasures": paths });
        world.write(&world.workspace().join("given.json"), &given.to_string());
        // A program that heeds no argument, since some profiles give theirs some.
        let probe = world.workspace().join("probe");
        world.write(&probe, &format!("#!/usr/bin/python3 -I\n{PRELUDE}\n{TRY}"));
        std::fs::set_permissions(&probe, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let control = "\
def reach():
    with socket.create_connection(('127.0.0.1', int(arguments[0])), 1): pass
say([attempt(lambda: open(arguments[1]).read()), attempt(reach), attempt(lambda: socket.socket(40, 1, 0))])";
        let outside = world.probe_outside(control, &[&witness.port().to_string(), &paths[0]]);
        assert_eq!(outside, json!(["ok", "ok", "ok"]));
        assert_eq!(witness.visitors(), 1);
        let none = "0000000000000000";
        let kept = json!({
            "treasures": ["ENOENT", "ENOENT", "ENOENT", "ENOENT", "ENOENT", "ENOENT"], "capabilities": [none, none, none, none],
            "locks": ["1", "2"], "loopback": "ECONNREFUSED", "vsock": "EPERM", "ring": "ENOSYS", "trace": "EPERM", "mount": "EPERM",
            "processes": true, "system": "EROFS", "root": false, "first": "EACCES", "records": "ENOENT", "sockets": "ENOENT", "user": "ok",
        });
        let listed = world.list(&["profile", "list"]);
        let names: Vec<&str> = listed.iter().map(|profile| profile["name"].as_str().unwrap()).collect();
        assert!(names.len() >= 3 && names.contains(&"default") && names.contains(&"claude-code"), "{names:?}");
        for name in names {
            let found: Value = finish(world.exec(&["--profile", name], &["./probe"]), b"").json();
            assert_eq!(found, kept, "{name}");
        }
        assert_eq!(witness.visitors(), 0);
        let kept_file = std::fs::read_to_string(&start_up).unwrap();
        assert_eq!(kept_file.trim_end_matches('x'), "the user's own\n", "what is written to the home stays in the sandbox's own");
    }
}
