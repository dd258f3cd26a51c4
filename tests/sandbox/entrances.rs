//! The ways in which a program can get to the proxy: as if there were none, by CONNECT, by an absolute URL, and by SOCKS5.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::JoinHandle;

/// A server of the host's that greets everybody, and says at the end how many came.
struct Greeting {
    port: u16,
    serving: JoinHandle<usize>,
}

impl Greeting {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            let mut count = 0;
            while let Ok((mut stream, _)) = listener.accept() {
                let mut head = [0; 4096];
                // The test's own last connection says nothing and means the end.
                if stream.read(&mut head).unwrap_or(0) == 0 {
                    break;
                }
                count += 1;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
            }
            count
        });
        Self { port, serving }
    }

    fn end(self) -> usize {
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap());
        self.serving.join().unwrap()
    }
}

/// Each request at each entrance, one after the other, and the status of each.
const ASK: &str = r"
def entered(entrance, host):
    if entrance == 'direct': return socket.create_connection((host.rstrip('.'), 80), 60)
    s = socket.create_connection(('10.77.0.1', 3128), 60)
    if entrance == 'connect':
        s.sendall(f'CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n'.encode())
        head = b''
        while not head.endswith(b'\r\n\r\n'): head += s.recv(1)
    if entrance == 'socks':
        s.sendall(b'\5\1\0'); s.recv(2)
        s.sendall(b'\5\1\0\3' + bytes([len(host)]) + host.encode() + struct.pack('>H', 80))
        reply = b''
        while len(reply) < 10: reply += s.recv(10 - len(reply))
    return s
def ask(entrance, method, host, path):
    with entered(entrance, host) as s:
        target = f'http://{host}{path}' if entrance == 'url' else path
        s.sendall(f'{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'.encode())
        return int(s.makefile('rb').readline().split()[1])
say([[ask(entrance, *request) for entrance in ('direct', 'connect', 'url', 'socks')] for request in json.loads(arguments[0])])";

attack! {
    /// One decision, whichever way a request came: the same answer, by the same rule, in the same words in the record.
    fn a_request_means_the_same_at_every_entrance(world) {
        let server = Greeting::start();
        let to = format!("::127.0.0.1:{}", server.port);
        let flags = ["--allow", "GET http://one.entrances.test/ok/**", "--deny", "* http://one.entrances.test/ok/no/**", "--connect-to", &to];
        let one = "one.entrances.test";
        let requests = [
            ("GET", one, "/ok/a", 200),
            ("GET", "ONE.Entrances.TEST.", "/ok/a", 200),
            ("GET", one, "/ok/x/..//%62?q=1", 200),
            ("GET", one, "/ok/%6eo/c", 403),
            ("GET", one, "/other", 403),
            ("POST", one, "/ok/a", 403),
            ("GET", "two.entrances.test", "/ok/a", 403),
            ("GET", one, "/ok/../..", 400),
            ("TRACE", one, "/ok/a", 405),
        ];
        let asked: Vec<Value> = requests.iter().map(|(method, host, path, _)| json!([method, host, path])).collect();
        let found = world.probe_with(&flags, ASK, &[&json!(asked).to_string()]);
        let expected: Vec<Value> = requests.iter().map(|(.., status)| json!([status, status, status, status])).collect();
        assert_eq!(found, json!(expected));
        assert_eq!(server.end(), 3 * 4, "those that were allowed, and no other");
        let events = world.list(&["audit", "log", "--session", "last"]);
        let told = |event: &&Value| event["event"] == "request_allowed" || event["event"] == "request_denied";
        let keys = ["event", "line", "rule", "rule_from", "reason"];
        let verdicts: Vec<Vec<Value>> = events.iter().filter(told).map(|event| keys.map(|key| event[key].clone()).to_vec()).collect();
        assert_eq!(verdicts.len(), requests.len() * 4, "{events:#?}");
        for (request, verdicts) in requests.iter().zip(verdicts.chunks(4)) {
            assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{request:?}: {verdicts:#?}");
        }
    }
}
