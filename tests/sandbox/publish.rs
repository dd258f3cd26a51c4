//! Ports of the sandbox on the host: those that were published, and no others.

use crate::support::{PRELUDE, Witness, World, collect};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Stdio};

/// Listens at the ports that are named, says so, and answers so many connections, each with what it said in capitals.
const SERVE: &str = "\
import select
count, places = int(arguments[0]), json.loads(arguments[1])
def listen(address, port):
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
    s.bind((address, port)); s.listen()
    return s
sockets = [listen(*place) for place in places]
print('up', flush=True)
heard = []
for _ in range(count):
    ready = select.select(sockets, [], [])[0][0]
    s = ready.accept()[0]
    said = b''
    while piece := s.recv(65536): said += piece
    s.sendall(said.upper()); s.close()
    heard.append([ready.getsockname()[1], len(said)])
say(heard)";

/// A session that serves, once it does.
fn serving(world: &World, flags: &[&str], count: usize, places: &Value) -> Child {
    let (source, count, places) = (format!("{PRELUDE}\n{SERVE}"), count.to_string(), places.to_string());
    let mut omni = world.exec(flags, &["/usr/bin/python3", "-I", "-c", &source, &count, &places]);
    let mut child = omni.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    // One byte at a time, so that the rest stays for whoever collects it.
    let mut out = BufReader::with_capacity(1, child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    child.stdout = Some(out.into_inner());
    if line != "up\n" {
        panic!("{:?}", collect(child, b""));
    }
    child
}

fn events(world: &World, kind: &str) -> Vec<Value> {
    let all = world.list(&["audit", "log", "--session", "last"]);
    all.into_iter().filter(|event| event["event"] == kind).collect()
}

/// Where on the host the published ports are listened for.
fn published(world: &World) -> Vec<SocketAddr> {
    let places = events(world, "port_published");
    places.iter().map(|event| event["address"].as_str().unwrap().parse().unwrap()).collect()
}

/// What is answered to this, to the end.
fn ask(at: SocketAddr, said: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at)?;
    stream.write_all(said)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

attack! {
    /// The control: a published port is reached, in either family, and every byte is counted.
    fn a_published_port_is_reached_from_the_hosts_loopback(world) {
        let child = serving(world, &["--publish", "0:8000", "--publish", "0:8002"], 3, &json!([["127.0.0.1", 8000], ["::1", 8002]]));
        let at = published(world);
        assert!(at.iter().all(|at| at.ip() == Ipv4Addr::LOCALHOST), "{at:?}");
        let large = vec![b'x'; 300_000];
        assert_eq!(ask(at[0], b"hello").unwrap(), b"HELLO");
        assert_eq!(ask(at[1], b"by ipv6").unwrap(), b"BY IPV6");
        assert!(ask(at[0], &large).unwrap() == large.to_ascii_uppercase());
        // One address of the loopback, not all of it.
        for at in &at {
            let beside = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), at.port());
            assert_eq!(ask(beside, b"hello").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        }
        let outcome = collect(child, b"");
        assert_eq!(outcome.json(), json!([[8000, 5], [8002, 7], [8000, 300_000]]), "{outcome:?}");
        let entered: Vec<_> = events(world, "published_port_entered").iter().map(|event| json!([event["connection"], event["port"]])).collect();
        assert_eq!(entered, [json!([1, 8000]), json!([2, 8002]), json!([3, 8000])]);
        let left: Vec<_> = events(world, "published_port_left").iter().map(|event| json!([event["connection"], event["bytes_in"], event["bytes_out"], event["end"]])).collect();
        assert_eq!(left, [json!([1, 5, 5, "complete"]), json!([2, 7, 7, "complete"]), json!([3, 300_000, 300_000, "complete"])]);
    }
}

attack! {
    /// What listens inside listens inside alone, even at an address that stands for all and at a port of somebody outside.
    fn cannot_be_reached_at_a_port_that_was_not_published(world) {
        let witness = Witness::listen();
        let port = witness.port();
        let child = serving(world, &["--publish", "0:8000"], 1, &json!([["127.0.0.1", 8000], ["0.0.0.0", port]]));
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
        assert_eq!(witness.visitors(), 1, "it is whoever listens outside who was reached");
        let at = published(world);
        assert_eq!(ask(at[0], b"hello").unwrap(), b"HELLO");
        let outcome = collect(child, b"");
        assert_eq!(outcome.json(), json!([[8000, 5]]), "{outcome:?}");
    }
}

attack! {
    /// There is nothing inside to publish with, and nothing to be seen of what reaches in.
    fn cannot_publish_by_itself(world) {
        let code = "\
def listen(address):
    s = socket.socket(); s.bind((address, 8000)); s.listen()
    return s
processes = sorted(int(entry) for entry in os.listdir('/proc') if entry.isdigit())
kept = listen('0.0.0.0')
families = [attempt(lambda: socket.socket(family, socket.SOCK_RAW)) for family in (socket.AF_INET, socket.AF_PACKET)]
say([processes, os.getpid(), families])";
        let found = world.probe_with(&["--publish", "0:8000"], code, &[]);
        let own = found[1].as_u64().unwrap();
        assert_eq!(found[0], json!([1, own]), "process 1 and the probe: {found}");
        assert_eq!(found[2], json!(["EPERM", "EPERM"]));
        assert_eq!(published(world).len(), 1);
        // Without the flag the same program listens for nobody.
        let found = world.probe(code, &[]);
        assert_eq!(found[0].as_array().unwrap().len(), 2);
        assert_eq!(published(world), []);
    }
}

attack! {
    /// A connection that finds nobody is told, and one that is left open ends with the session.
    fn a_port_at_which_nobody_listens_takes_nothing(world) {
        let child = serving(world, &["--publish", "0:8000", "--publish", "0:8001"], 1, &json!([["127.0.0.1", 8000]]));
        let at = published(world);
        let nothing = ask(at[1], b"");
        assert!(nothing.as_ref().map_or(true, Vec::is_empty), "{nothing:?}");
        assert_eq!(ask(at[0], b"hello").unwrap(), b"HELLO");
        collect(child, b"");
        let left = events(world, "published_port_left");
        let reasons: Vec<_> = left.iter().filter_map(|event| event["reason"].as_str()).collect();
        assert_eq!(reasons.len(), 1, "{left:?}");
        assert!(reasons[0].contains("nothing took it at port 8001 in the sandbox: Connection refused"), "{reasons:?}");
    }
}

attack! {
    /// A policy that stands above the user says to whom ports may be published at most.
    fn a_policy_forbids_publishing(world) {
        let place = |name: &str| world.place().join(name);
        let (none, loopback) = (place("none.yaml"), place("loopback.yaml"));
        world.write(&none, "name: closed\ntype: publish\nat_most: none\n");
        world.write(&loopback, "name: near\ntype: publish\nat_most: loopback\n");
        let run = |policy: &std::path::Path, port| world.shell(&["--policy", policy.to_str().unwrap(), "--publish", port], "echo ran");
        let closed = run(&none, "0:8000");
        assert_eq!((closed.code(), closed.text().as_str()), (Some(125), ""));
        assert!(closed.stderr.contains("none.yaml lets nothing be published"), "{closed:?}");
        let open = run(&loopback, "0.0.0.0:0:8000");
        assert_eq!((open.code(), open.text().as_str()), (Some(125), ""));
        assert!(open.stderr.contains("loopback.yaml lets ports be published to this machine's loopback alone"), "{open:?}");
        assert_eq!(run(&loopback, "0:8000").text(), "ran\n");
        // A workspace may say so too, and what runs in it cannot take it back.
        world.write(&world.workspace().join(".omni/policy.yaml"), "name: closed\ntype: publish\nat_most: none\n");
        let closed = world.shell(&["--publish", "0:8000"], "echo ran");
        assert!(closed.stderr.contains(".omni/policy.yaml lets nothing be published"), "{closed:?}");
    }
}
