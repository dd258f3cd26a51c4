//! Sockets that are not the internet, and other ways for two programs to meet.

use crate::support::{Who, finish};
use serde_json::json;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

attack! {
    fn cannot_open_other_kinds_of_sockets(world) {
        let code = "\
kinds = dict(
    unix=(1, 1, 0), inet=(2, 1, 0), inet6=(10, 1, 0), udp=(2, 2, 0), route=(16, 3, 0),
    vsock=(40, 1, 0), vsock_datagram=(40, 2, 0), packet=(17, 3, 0x300), old_packet=(2, 10, 0x300), alg=(38, 5, 0), rxrpc=(33, 2, 10),
    bluetooth=(31, 3, 0), xdp=(44, 3, 0), can=(29, 3, 1), tipc=(30, 1, 0), kcm=(41, 2, 0), qipcrtr=(42, 2, 0), appletalk=(5, 2, 0),
    raw_icmp=(2, 3, 1), raw_icmp6=(10, 3, 58), raw=(2, 3, 255), ping=(2, 2, 1), ping6=(10, 2, 58),
    raw_flags=(2, 3 | 0o2000000 | 0o4000, 1), high_bits=(40 | 1 << 32, 1, 0),
    diag=(16, 3, 4), netfilter=(16, 3, 12), uevent=(16, 3, 15), generic=(16, 3, 16), audit=(16, 3, 9), xfrm=(16, 3, 6), connector=(16, 3, 11))
say({kind: call(int(arguments[0]), *values) for kind, values in kinds.items()})";
        let number = libc::SYS_socket.to_string();
        let inside = world.probe(code, &[&number]);
        for (kind, outcome) in inside.as_object().unwrap() {
            let useful = ["unix", "inet", "inet6", "udp", "route"].contains(&kind.as_str());
            assert_eq!(outcome, if useful { "ok" } else { "EPERM" }, "{kind}");
        }
        let outside = world.probe_outside(code, &[&number]);
        assert_eq!([&outside["diag"], &outside["generic"], &outside["uevent"]], ["ok", "ok", "ok"], "{outside}");
        if world.who == Who::Root {
            assert_eq!([&outside["raw_icmp"], &outside["raw"], &outside["netfilter"]], ["ok", "ok", "ok"], "{outside}");
        }
    }
}

attack! {
    fn only_local_socket_pairs_can_be_made(world) {
        let code = "\
pair = ctypes.create_string_buffer(8)
say([call(int(arguments[0]), family, 1, 0, pair) for family in (1, 40, 30, 2)])";
        let number = libc::SYS_socketpair.to_string();
        assert_eq!(world.probe(code, &[&number]), json!(["ok", "EPERM", "EPERM", "EPERM"]));
        assert_eq!(world.probe_outside(code, &[&number])[0], "ok");
    }
}

/// Tries to connect to each path.
const CONNECT: &str = "\
def reach(path):
    kind = socket.SOCK_DGRAM if path.endswith('.datagram') else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as local: local.connect(path)
say([attempt(lambda: reach(path)) for path in arguments])";

/// A listening socket that everybody may connect to.
fn everybodys(path: PathBuf) -> (UnixListener, String) {
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    (listener, path.display().to_string())
}

attack! {
    /// Where daemons such as Docker's or D-Bus listen, the sandbox has nothing.
    fn cannot_reach_a_daemon_by_its_path(world) {
        let place_in = |parent: &str| tempfile::Builder::new().prefix("omni-attack-").tempdir_in(parent).unwrap();
        let writable: &[&str] = if world.who == Who::Root { &["/run", "/tmp", "/var/tmp", "/dev/shm"] } else { &["/tmp", "/var/tmp", "/dev/shm"] };
        let places: Vec<_> = writable.iter().map(|place| place_in(place)).collect();
        let mut sockets = Vec::new();
        for place in &places {
            std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
            sockets.push(everybodys(place.path().join("daemon.sock")));
        }
        sockets.push(everybodys(world.home().join("agent.sock")));
        let paths: Vec<&str> = sockets.iter().map(|(_, path)| path.as_str()).collect();
        let outside = world.probe_outside(CONNECT, &paths);
        assert!(outside.as_array().unwrap().iter().all(|outcome| outcome == "ok"), "{outside}");
        let came = || sockets.iter().filter(|(listener, _)| listener.accept().is_ok()).count();
        assert_eq!(came(), sockets.len());
        let inside = world.probe(CONNECT, &paths);
        assert!(inside.as_array().unwrap().iter().all(|outcome| outcome == "ENOENT"), "{inside}");
        assert_eq!(came(), 0);
        let usual = [
            "/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock",
            "/run/crio/crio.sock", "/run/libvirt/libvirt-sock", "/run/snapd.socket", "/run/dbus/system_bus_socket",
            "/run/systemd/private", "/run/user/0/bus", "/run/user/1000/bus", "/tmp/.X11-unix/X0",
        ];
        let inside = world.probe(CONNECT, &usual);
        assert!(inside.as_array().unwrap().iter().all(|outcome| outcome == "ENOENT"), "{inside}");
    }
}

attack! {
    /// Filters on `socket` forget that a pair has sockets too, which can send anywhere.
    fn cannot_send_a_datagram_to_the_host_from_a_socket_pair(world) {
        let place = tempfile::Builder::new().prefix("omni-attack-").tempdir().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = place.path().join("host.datagram");
        let host = UnixDatagram::bind(&path).unwrap();
        host.set_nonblocking(true).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        let code = "\
one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
say([attempt(lambda: one.sendto(b'x', arguments[0])), attempt(lambda: one.sendmsg([b'x'], [], 0, arguments[0])),
    attempt(lambda: two.connect(arguments[0]))])";
        let path = path.to_str().unwrap();
        assert_eq!(world.probe_outside(code, &[path]), json!(["ok", "ok", "ok"]));
        assert!(host.recv(&mut [0; 8]).is_ok() && host.recv(&mut [0; 8]).is_ok());
        assert_eq!(world.probe(code, &[path]), json!(["ENOENT", "ENOENT", "ENOENT"]));
        assert!(host.recv(&mut [0; 8]).is_err(), "nothing came");
    }
}

attack! {
    /// Such names have no file, so no mount hides them.
    fn cannot_reach_an_abstract_socket(world) {
        let name = format!("omni-attack-{}", world.place().display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let host = UnixListener::bind_addr(&address).unwrap();
        host.set_nonblocking(true).unwrap();
        let code = "say(attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0' + arguments[0])))";
        assert_eq!(world.probe_outside(code, &[&name]), "ok");
        assert!(host.accept().is_ok());
        assert_eq!(world.probe(code, &[&name]), "ECONNREFUSED");
        assert!(host.accept().is_err());
    }
}

attack! {
    /// A socket that lies in the workspace is part of it: who listens there talks with the harness.
    fn a_socket_in_the_workspace_is_reachable(world) {
        let (host, path) = everybodys(world.workspace().join("server.sock"));
        assert_eq!(world.probe(CONNECT, &[&path]), json!(["ok"]), "the documented limit");
        assert!(host.accept().is_ok());
    }
}

attack! {
    fn cannot_share_memory_or_messages_with_the_host(world) {
        // A segment, a queue and a named piece of memory, which stay until they are taken away.
        let make = "\
import mmap
key = int(arguments[0])
segment = libc.shmget(key, 4096, 0o1666)
queue = libc.mq_open(arguments[1].encode(), os.O_CREAT | os.O_RDWR, ctypes.c_uint(0o666), None)
open('/dev/shm' + arguments[1], 'w').close()
say([segment, queue >= 0])";
        let find = "\
def found(result): return 'ok' if result >= 0 else name(ctypes.get_errno())
libc = ctypes.CDLL(None, use_errno=True)
say([found(libc.shmget(int(arguments[0]), 0, 0)), found(libc.mq_open(arguments[1].encode(), os.O_RDONLY)),
    attempt(lambda: open('/dev/shm' + arguments[1]))])";
        let take_away = "\
libc.shmctl(int(arguments[2]), 0, None)
libc.mq_unlink(arguments[1].encode())
os.unlink('/dev/shm' + arguments[1])
say('done')";
        let key = (0x6f00_0000 | std::process::id() << 1 | u32::from(world.who == Who::Root)).to_string();
        let name = format!("/omni-attack-{key}");
        let made = world.probe_outside(make, &[&key, &name]);
        let segment = made[0].to_string();
        let (outside, inside) = (world.probe_outside(find, &[&key, &name]), world.probe(find, &[&key, &name]));
        world.probe_outside(take_away, &[&key, &name, &segment]);
        assert_eq!(made[1], true, "{made}");
        assert_eq!(outside, json!(["ok", "ok", "ok"]));
        assert_eq!(inside, json!(["ENOENT", "ENOENT", "ENOENT"]));
    }
}

attack! {
    /// The keys of an agent outside stay outside, and so do the names of desktop sockets.
    fn is_not_told_of_agents_buses_and_displays(world) {
        let names = [
            "SSH_AUTH_SOCK", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY",
            "XAUTHORITY", "PULSE_SERVER", "DOCKER_HOST", "VSCODE_IPC_HOOK_CLI", "WSL_INTEROP", "TMUX", "KRB5CCNAME",
        ];
        let run = |mut command: Command| {
            command.envs(names.map(|name| (name, "/run/user/1000/x")));
            finish(command, b"").text()
        };
        let outside = run(world.command(Path::new("env")));
        let inside = run(world.exec(&[], &["env"]));
        assert!(names.iter().all(|name| outside.contains(&format!("{name}="))));
        assert!(!names.iter().any(|name| inside.contains(&format!("{name}="))), "{inside}");
    }
}
