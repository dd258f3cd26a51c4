//! What the tier `landlock` lets a harness reach: the proxy, whoever it says it connects to.

use crate::stage;
use crate::support::{Witness, each, finish};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;

enclosed! {
    fn nothing_but_the_proxy_can_be_connected_to(world) {
        let witness = Witness::listen();
        let code = "
port = int(arguments[0])
def to(address, family=socket.AF_INET):
    return attempt(lambda: socket.socket(family, socket.SOCK_STREAM).connect(address))
say([to(('127.0.0.1', port)), to(('203.0.113.1', 3128)), to(('::1', port), socket.AF_INET6),
     to(('::ffff:127.0.0.1', port), socket.AF_INET6)])";
        let port = witness.port().to_string();
        assert_eq!(stage::probe(world, code, &[&port]), each("EACCES", 4));
        assert_eq!(witness.visitors(), 0);
        assert_eq!(world.probe_outside(code, &[&port])[0], "ok");
        assert_eq!(witness.visitors(), 2, "from outside, by both spellings");
    }
}

enclosed! {
    /// What process 1 reads of the address may be another by the time that it is heeded.
    fn an_address_that_changes_meanwhile_leads_to_the_proxy_or_nowhere(world) {
        let witness = Witness::listen();
        let code = "
port = int(arguments[0])
def address(host, port):
    return struct.pack('=H', socket.AF_INET) + struct.pack('!H', port) + socket.inet_aton(host) + bytes(8)
gateway, wanted = address('10.77.0.1', 3128), address('127.0.0.1', port)
memory = ctypes.create_string_buffer(gateway, 16)
done = False
def flip():
    while not done:
        ctypes.memmove(memory, wanted, 16)
        ctypes.memmove(memory, gateway, 16)
threading.Thread(target=flip).start()
handed = refused = 0
for _ in range(300):
    one = socket.socket()
    if call(42, one.fileno(), ctypes.byref(memory), 16) == 'ok':
        handed += one.getpeername()[1] != port
    else:
        refused += 1
done = True
say([handed > 0, handed + refused])";
        assert_eq!(stage::probe(world, code, &[&witness.port().to_string()]), json!([true, 300]));
        assert_eq!(witness.visitors(), 0);
    }
}

enclosed! {
    fn no_other_kind_of_socket_can_be_made(world) {
        let code = "
def make(*what):
    return attempt(lambda: socket.socket(*what))
MPTCP, FASTOPEN = 262, 0x20000000
say([make(socket.AF_UNIX, socket.SOCK_STREAM), make(socket.AF_UNIX, socket.SOCK_DGRAM), make(socket.AF_INET, socket.SOCK_DGRAM),
     make(socket.AF_INET6, socket.SOCK_DGRAM), make(socket.AF_INET, socket.SOCK_RAW, 1), make(socket.AF_INET, socket.SOCK_STREAM, MPTCP),
     make(socket.AF_PACKET, socket.SOCK_RAW), make(socket.AF_VSOCK, socket.SOCK_STREAM), make(socket.AF_NETLINK, socket.SOCK_RAW, 12),
     attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)), attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)),
     attempt(lambda: socket.socket().sendto(b'x', FASTOPEN, ('127.0.0.1', int(arguments[0])))),
     attempt(lambda: socket.socket().listen())])";
        let witness = Witness::listen();
        assert_eq!(stage::probe(world, code, &[&witness.port().to_string()]), each("EPERM", 13));
        assert_eq!(witness.visitors(), 0);
        let usual = "say([attempt(socket.socketpair), attempt(socket.socket)])";
        assert_eq!(stage::probe(world, usual, &[]), each("ok", 2));
    }
}

enclosed! {
    fn no_memory_or_queue_of_the_machine_can_be_reached_by_its_number(world) {
        let code = "say([call(number, 0x1234, 0, 0o1666) for number in (29, 30, 31, 64, 65, 66, 68, 69, 70, 71)])";
        assert_eq!(stage::probe(world, code, &[]), each("EPERM", 10));
    }
}

enclosed! {
    fn cannot_take_a_port_of_the_machine(world) {
        let bind = "say(attempt(lambda: socket.socket().bind(('127.0.0.1', 0))))";
        assert_eq!(stage::probe(world, bind, &[]), "EACCES");
        assert_eq!(world.probe_outside(bind, &[]), "ok");
    }
}

enclosed! {
    fn the_proxy_judges_and_the_record_keeps_what_was_refused(world) {
        let script = "curl -sS -o denied -w '%{http_code}' http://example.com/; \
                      curl -sS --noproxy '*' http://203.0.113.7:8080/ 2>&1 | tail -1";
        let outcome = stage::shell(world, &[], script);
        assert!(outcome.text().starts_with("403"), "{outcome:?}");
        let denied = std::fs::read_to_string(world.workspace().join("denied")).unwrap();
        assert!(denied.contains("GET http://example.com"), "{denied}");
        let story = world.list(&["show", "last"]).remove(0);
        assert_eq!(story["requests"][0]["verdict"], "denied", "{story}");
        let refusals = story["refusals"].as_array().unwrap();
        assert!(refusals.iter().any(|refusal| refusal["target"] == "203.0.113.7:8080"), "{story}");
    }
}

enclosed! {
    fn an_allowed_request_goes_out_and_its_answer_comes_back(world) {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
            String::from_utf8(head).unwrap()
        });
        let instead = format!("example.test:80:127.0.0.1:{port}");
        let flags = ["--allow", "GET http://example.test/**", "--connect-to", &instead];
        let outcome = finish(stage::exec(world, &flags, &["curl", "-sS", "http://example.test/greeting"]), b"");
        assert_eq!(outcome.text(), "hello", "{outcome:?}");
        assert!(serving.join().unwrap().starts_with("GET /greeting HTTP/1.1\r\n"));
    }
}
