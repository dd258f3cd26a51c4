//! gRPC as its own library speaks it: calls and conversations over HTTP/2, whose outcome stands in trailers.

use crate::support::*;
use omni::model::{BodyEnd, Event};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Debian's Python, whose gRPC the tests' needs name.
const PYTHON: &str = "/usr/bin/python3";

const SERVER: &str = r#"
import grpc, sys
from concurrent import futures
def unary(request, context):
    mine = dict(context.invocation_metadata()).get("x-mine", "")
    if request == b"fail": context.abort(grpc.StatusCode.NOT_FOUND, "there is no such thing")
    context.set_trailing_metadata((("x-sum", mine),))
    return b"hello " + request
def talk(requests, context):
    count = 0
    for request in requests:
        count += 1
        yield b"re: " + request
    context.set_trailing_metadata((("x-sum", str(count)),))
handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary), "Refused": grpc.unary_unary_rpc_method_handler(unary),
    "Talk": grpc.stream_stream_rpc_method_handler(talk)}
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("omni.Test", handlers),))
key, certificate = (open(path, "rb").read() for path in sys.argv[1:3])
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
server.start()
print(port, flush=True)
sys.stdin.read()
"#;

const CLIENT: &str = r#"
import grpc, queue, sys
roots = grpc.ssl_channel_credentials(open(sys.argv[1], "rb").read())
channel = grpc.secure_channel("api.example.com:443", roots)
unary = channel.unary_unary("/omni.Test/Unary")
answer, call = unary.with_call(b"world", metadata=(("x-mine", "yes"),), timeout=60)
print(answer.decode(), call.code().name, dict(call.trailing_metadata())["x-sum"])
try: unary(b"fail", timeout=60)
except grpc.RpcError as error: print(error.code().name, error.details())
try: channel.unary_unary("/omni.Test/Refused")(b"x", timeout=60)
except grpc.RpcError as error: print(error.code().name)
print(len(unary(b"x" * 2000000, timeout=60)))
said = queue.Queue()
talk = channel.stream_stream("/omni.Test/Talk")(iter(said.get, None), timeout=60)
for word in (b"one", b"two", b"three"):
    said.put(word)
    # Nothing more is said before this is answered.
    print(next(talk).decode())
said.put(None)
print(next(talk, "over"), talk.code().name, dict(talk.trailing_metadata())["x-sum"])
"#;

const HEARD: &str = "hello world OK yes\nNOT_FOUND there is no such thing\nPERMISSION_DENIED\n2000006\nre: one\nre: two\nre: three\nover OK 3\n";

fn is_there() -> bool {
    let there = Command::new(PYTHON).args(["-c", "import grpc"]).output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: {PYTHON} has no gRPC (Debian's python3-grpcio)");
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_client_calls_and_talks_both_ways() {
    if !is_there() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (ca_pem, leaf, key) = issued(&NAMES, |_| {});
    std::fs::write(at("key"), key.serialize_pem()).unwrap();
    std::fs::write(at("leaf"), leaf.pem()).unwrap();
    let mut serving = Command::new(PYTHON);
    serving.args(["-c", SERVER]).args([at("key"), at("leaf")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = serving.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
    let address = format!("127.0.0.1:{}", port.trim()).parse().unwrap();
    let upstream = Upstream { address, ca_pem, seen: Seen::default(), connections: Default::default() };
    let rules = ["POST api.example.com/omni.Test/*"];
    let wanted = Wanted { rules: &rules, denials: &["* api.example.com/omni.Test/Refused"], ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    std::fs::write(at("roots"), proxy.ca_pem()).unwrap();
    let mut client = Command::new(PYTHON);
    client.args(["-c", CLIENT]).arg(at("roots")).env("grpc_proxy", format!("http://{}", proxy.address));
    let heard = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
    // The end of what it reads ends the server.
    drop(server.stdin.take());
    server.wait().unwrap();
    assert_eq!(String::from_utf8_lossy(&heard.stdout), HEARD, "{}", String::from_utf8_lossy(&heard.stderr));
    let told = |event: &Event| match event {
        Event::RequestCompleted { status, end, .. } => Some((*status, *end)),
        _ => None,
    };
    let ends: Vec<_> = proxy.stop().iter().filter_map(told).collect();
    assert_eq!(ends, [(200, BodyEnd::Complete); 4]);
}
