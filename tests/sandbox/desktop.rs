//! What listens for the user's own programs: displays, buses, agents of keys. And descriptors, which sockets carry.

use crate::support::{PRELUDE, finish};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A server of the user's, outside, ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open_to_all(listener: &UnixListener, path: &Path) {
    listener.set_nonblocking(true).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}

attack! {
    /// Every program on a display may read its keys and its pictures.
    fn cannot_reach_a_display_or_a_sound_server(world) {
        let runtime = world.place().join("runtime");
        world.write(&runtime.join("x"), "");
        world.write(&world.home().join(".Xauthority"), "the cookie\n");
        let number = 10_000 + std::process::id() % 40_000 + u32::from(world.who == crate::support::Who::Root);
        let directory = Path::new("/tmp/.X11-unix");
        if std::fs::create_dir(directory).is_ok() {
            std::fs::set_permissions(directory, PermissionsExt::from_mode(0o1777)).unwrap();
        }
        let x = directory.join(format!("X{number}"));
        let paths = [x.clone(), runtime.join("wayland-0"), runtime.join("pipewire-0"), runtime.join("at-spi/bus_0")];
        world.write(&runtime.join("at-spi/x"), "");
        let listeners: Vec<UnixListener> = paths.iter().map(|path| UnixListener::bind(path).unwrap()).collect();
        listeners.iter().zip(&paths).for_each(|(listener, path)| open_to_all(listener, path));
        let hidden = SocketAddr::from_abstract_name(x.display().to_string()).unwrap();
        let hidden = UnixListener::bind_addr(&hidden).unwrap();
        hidden.set_nonblocking(true).unwrap();
        let code = "\
def reach(path): socket.socket(socket.AF_UNIX).connect(path)
say([attempt(lambda: reach(path)) for path in arguments] + [attempt(lambda: reach('\\0' + arguments[0])),
    attempt(lambda: open(os.environ['HOME'] + '/.Xauthority').read())])";
        let texts: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(world.probe_outside(code, &texts), crate::support::each("ok", 6));
        let came = || listeners.iter().chain([&hidden]).filter(|listener| listener.accept().is_ok()).count();
        assert_eq!(came(), 5);
        let display = format!(":{number}");
        let source = format!("{PRELUDE}\n{code}");
        let mut argv = vec!["/usr/bin/python3", "-I", "-c", &source];
        argv.extend(&texts);
        let mut inside = world.exec(&["--env", "DISPLAY", "--env", "XDG_RUNTIME_DIR"], &argv);
        inside.env("DISPLAY", &display).env("XDG_RUNTIME_DIR", &runtime);
        let found = finish(inside, b"").json();
        let _ = std::fs::remove_file(&x);
        assert_eq!(found, json!(["ENOENT", "ENOENT", "ENOENT", "ENOENT", "ECONNREFUSED", "ENOENT"]));
        assert_eq!(came(), 0);
    }
}

attack! {
    /// A real bus, which starts programs outside for whoever asks.
    fn cannot_speak_to_a_bus(world) {
        let path = world.place().join("bus");
        let name = format!("omni-attack-bus-{}", world.place().display());
        let bus = |address: String| {
            let mut command = world.command("dbus-daemon".as_ref());
            command.args(["--session", "--nofork", "--nopidfile", "--print-address", &format!("--address={address}")]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut bus = command.spawn().expect("dbus-daemon is missing: scripts/test installs it");
            let mut line = String::new();
            BufReader::new(bus.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert!(line.starts_with("unix:"), "the bus listens: {line:?}");
            Server(bus)
        };
        let _buses = [bus(format!("unix:path={}", path.display())), bus(format!("unix:abstract={name}"))];
        let code = "\
def authenticate(address):
    with socket.socket(socket.AF_UNIX) as bus:
        bus.connect(address); bus.settimeout(20)
        bus.sendall(b'\\0AUTH EXTERNAL ' + str(os.getuid()).encode().hex().encode() + b'\\r\\n')
        if not bus.recv(100).startswith(b'OK'): raise OSError(1, 'no')
say([attempt(lambda: authenticate(address)) for address in (arguments[0], '\\0' + arguments[1])])";
        let arguments = [path.to_str().unwrap(), &name];
        assert_eq!(world.probe_outside(code, &arguments), json!(["ok", "ok"]));
        assert_eq!(world.probe(code, &arguments), json!(["ENOENT", "ECONNREFUSED"]));
        let variable = format!("DBUS_SESSION_BUS_ADDRESS=unix:path={}", path.display());
        let outcome = world.shell(&["--env", &variable], "systemd-run --user true || systemd-run true || echo refused");
        assert_eq!(outcome.text(), "refused\n", "{outcome:?}");
    }
}

attack! {
    /// A real agent, with a key in it. That the harness knows where it listens does not help.
    fn cannot_use_the_keys_of_an_agent(world) {
        let (socket, key) = (world.place().join("agent"), world.place().join("key"));
        let run = |program: &str, arguments: &[&str]| {
            let mut command = world.command(program.as_ref());
            command.args(arguments).env("SSH_AUTH_SOCK", &socket);
            finish(command, b"")
        };
        let mut agent = world.command("ssh-agent".as_ref());
        agent.args(["-D", "-a"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut agent = agent.spawn().expect("ssh-agent is missing: scripts/test installs it");
        // It says where it listens once it does.
        BufReader::new(agent.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let _agent = Server(agent);
        let made = run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "the-users-key", "-f", key.to_str().unwrap()]);
        assert!(made.status.success() && run("ssh-add", &[key.to_str().unwrap()]).status.success(), "{made:?}");
        assert!(run("ssh-add", &["-l"]).text().contains("the-users-key"));
        std::fs::rename(&key, world.home().join("key")).unwrap();
        let variable = format!("SSH_AUTH_SOCK={}", socket.display());
        let script = "ssh-add -l; ssh-add -L; ssh-keygen -q -t ed25519 -N '' -f own && ssh-add own; ls ~/.gnupg; echo done";
        let outcome = world.shell(&["--env", &variable], script);
        assert_eq!(outcome.text(), "done\n", "{outcome:?}");
        assert_eq!(run("ssh-add", &["-l"]).text().lines().count(), 1, "no key was added");
    }
}

attack! {
    /// Descriptors travel in messages; with no way to a socket of the host's, they travel in the sandbox alone.
    fn no_descriptor_goes_out_or_comes_in_by_a_pair_of_sockets(world) {
        let place = tempfile::Builder::new().prefix("omni-attack-").tempdir().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path: PathBuf = place.path().join("host.datagram");
        let host = UnixDatagram::bind(&path).unwrap();
        host.set_nonblocking(true).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        let code = "\
import array
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [os.open('/etc/hosts', os.O_RDONLY)]))]
def over(kind):
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    out = attempt(lambda: one.sendmsg([b'x'], rights, 0, arguments[0]))
    one.sendmsg([b'x'], rights)
    return [out, len(two.recvmsg(10, 100)[1])]
say([over(kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET)]
    + [attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendmsg([b'x'], rights, 0, arguments[0]))])";
        let path = path.to_str().unwrap();
        let outside = world.probe_outside(code, &[path]);
        assert_eq!([&outside[0], &outside[3]], [&json!(["ok", 1]), &json!("ok")], "{outside}");
        let arrived = || std::iter::from_fn(|| host.recv(&mut [0; 8]).ok()).count();
        assert!(arrived() >= 2);
        let inside = world.probe(code, &[path]);
        assert_eq!([&inside[0], &inside[3]], [&json!(["ENOENT", 1]), &json!("ENOENT")], "{inside}");
        // A pair that is connected sends to its other end alone, whatever the address.
        assert_eq!([&inside[1][1], &inside[2][1]], [&json!(1), &json!(1)], "{inside}");
        assert_eq!(arrived(), 0);
    }
}

attack! {
    /// By number, so that a family that nobody here has heard of is tried too.
    fn four_families_of_sockets_exist_and_no_other(world) {
        let code = "\
number, families = int(arguments[0]), json.loads(arguments[1])
def known(family): return any(call(number, family, kind, 0) == 'ok' for kind in (1, 2, 3, 4, 5, 6, 10))
def answers(family): return sorted({call(number, family, kind, protocol) for kind in (1, 2, 3, 4, 5, 6, 10) for protocol in (0, 1, 2, 255)})
say([[family for family in families if known(family)], sorted(set(sum((answers(family) for family in range(64) if not known(family)), [])))])";
        let number = libc::SYS_socket.to_string();
        let every: Vec<_> = (0..64).collect();
        let inside = world.probe(code, &[&number, &json!(every).to_string()]);
        let (unix, inet, inet6, netlink) = (libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK);
        assert_eq!(inside, json!([[unix, inet, inet6, netlink], ["EPERM"]]));
        // Outside, a stock kernel would look for a module at each call for a family that it does not know yet. 63 can be none.
        let some = json!([unix, inet, netlink, 63]).to_string();
        let outside = world.probe_outside(code, &[&number, &some]);
        let there = |family: i32| outside[0].as_array().unwrap().contains(&json!(family));
        assert!(there(unix) && there(inet) && there(netlink), "{outside}");
        assert_ne!(outside[1], json!(["EPERM"]), "{outside}");
    }
}
