//! Keys that are exchanged for tokens, at servers that check each JSON Web Token by an implementation of their own: the sandbox
//! has a placeholder for the token, and neither the key nor any token is inside.

use crate::host;
use crate::server::certified;
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, DATE, HOST, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

const NAMES: [&str; 4] = ["api.github.com", "clock.example", "oauth2.googleapis.com", "storage.googleapis.com"];
/// How far ahead the clock of one of them is, in seconds.
const AHEAD: i64 = 3_600;
const PROFILE: &str = "\
name: exchanges
command: sh
description: keys that are exchanged
filesystem: { workspace: direct }
egress:
  - allow: 'GET api.github.com/**'
  - allow: 'GET clock.example/**'
  - allow: 'GET storage.googleapis.com/**'
secrets:
  - name: bot
    preset: github-app
    from: file:PLACE/app.pem
    github_app: { app: 12, installation: 34, permissions: { contents: read } }
  - name: short
    from: file:PLACE/app.pem
    github_app: { app: 12, installation: 35 }
    sites: [ { host: api.github.com, path: /short, bearer: true } ]
    placeholder: { env: SHORT }
  - name: gone
    from: file:PLACE/app.pem
    github_app: { app: 12, installation: 36 }
    inject: true
    sites: [ { host: api.github.com, path: /gone, bearer: true } ]
  - name: ahead
    from: file:PLACE/app.pem
    github_app: { app: 12, installation: 34, api: 'https://clock.example/api/v3' }
    inject: true
    sites: [ { host: clock.example, bearer: true } ]
  - { name: cloud, preset: gcp-service-account, from: file:PLACE/account.json, google_account: { scopes: [one, two] } }
  - name: person
    from: file:PLACE/person.json
    google_account: {}
    inject: true
    sites: [ { host: storage.googleapis.com, path: /person, bearer: true } ]
";
/// Eight at once, of which one exchanges; then what is exchanged anew each time, and what cannot be.
const SCRIPT: &str = r#"
ask() { curl -sS --max-time 60 "$@"; echo; }
for n in 1 2 3 4 5 6 7 8; do ask -H "Authorization: token $GH_TOKEN" https://api.github.com/many & done; wait
ask -u "x-access-token:$GH_TOKEN" https://api.github.com/basic
ask -H "Authorization: Bearer $SHORT" https://api.github.com/short
ask -H "Authorization: Bearer $SHORT" https://api.github.com/short
ask -w '%{http_code}' https://api.github.com/gone
ask https://clock.example/ahead
ask -H "Authorization: Bearer $CLOUDSDK_AUTH_ACCESS_TOKEN" https://storage.googleapis.com/cloud
ask https://storage.googleapis.com/person
ask -H "Authorization: Bearer $GH_TOKEN" https://storage.googleapis.com/stray
env; cat ~/.netrc; grep -rac can[a]ry $HOME /tmp 2>/dev/null | grep -v :0
true
"#;

/// Keys, and what PyJWT says of tokens that they signed.
struct Verifier {
    process: Child,
    ways: (ChildStdin, BufReader<ChildStdout>),
    keys: Value,
}

impl Verifier {
    fn start(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/jwt_verifier.py");
        let mut command = Command::new(python);
        let mut process = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let ways = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut verifier = Self { process, ways, keys: Value::Null };
        verifier.keys = verifier.line();
        verifier
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.ways.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The claims of a token that is signed by the key; none of another.
    fn claims(&mut self, jwt: &str, audience: Option<&str>) -> Option<Value> {
        writeln!(self.ways.0, "{}", json!({"jwt": jwt, "audience": audience})).unwrap();
        Some(self.line()["claims"].take()).filter(|claims| !claims.is_null())
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the servers share.
struct Vendors {
    verifier: Mutex<Verifier>,
    /// What was exchanged, in order, and what came of it.
    exchanged: Mutex<Vec<(String, u16)>>,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn stamp(at: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at).unwrap()
}

impl Vendors {
    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let host = head.headers.get(HOST).map_or(head.uri.host().unwrap_or_default(), |host| host.to_str().unwrap());
        let sent = |name| head.headers.get(name).map_or("", |value: &http::HeaderValue| value.to_str().unwrap());
        let path = head.uri.path().to_owned();
        if head.method == "GET" {
            let basic = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode("x-access-token:ghs_canary34"));
            let right: &[&str] = match path.as_str() {
                "/many" => &["token ghs_canary34"],
                "/basic" => &[&basic],
                "/short" => &["Bearer ghs_canary35"],
                "/ahead" => &["Bearer ghs_canary34"],
                "/cloud" => &["Bearer ya29.canary-account"],
                "/person" => &["Bearer ya29.canary-person"],
                _ => &[],
            };
            let let_in = right.contains(&sent(AUTHORIZATION));
            return if let_in {
                (200, json!({"let in at": path}))
            } else {
                (401, json!({"message": "Bad credentials"}))
            };
        }
        let (status, told) = match host {
            "oauth2.googleapis.com" => self.google(body),
            _ if sent(USER_AGENT).is_empty() || sent(ACCEPT).is_empty() => (403, json!({"message": "no agent"})),
            _ => self.github(host, &path, sent(AUTHORIZATION), body),
        };
        self.exchanged.lock().unwrap().push((format!("{host}{path}"), status));
        (status, told)
    }

    fn github(&self, host: &str, path: &str, authorization: &str, body: &[u8]) -> (u16, Value) {
        let jwt = authorization.strip_prefix("Bearer ").unwrap_or_default();
        let Some(claims) = self.verifier.lock().unwrap().claims(jwt, None) else {
            return (401, json!({"message": "A JSON web token could not be decoded"}));
        };
        let now = now() + if host == "clock.example" { AHEAD } else { 0 };
        let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_i64().unwrap());
        if claims["iss"] != "12" || iat > now || exp <= now || exp > now + 600 {
            return (401, json!({"message": "'Expiration time' claim ('exp') is too far in the future"}));
        }
        let installation = path.rsplit('/').nth(1).unwrap();
        let narrowed: Value = serde_json::from_slice(body).unwrap();
        let lasts = match installation {
            "34" if host == "api.github.com" && narrowed != json!({"permissions": {"contents": "read"}}) => {
                return (422, json!({"message": "not narrowed"}));
            }
            "34" => 3_600,
            "35" => 0,
            _ => return (404, json!({"message": "Not Found"})),
        };
        (201, json!({"token": format!("ghs_canary{installation}"), "expires_at": stamp(now + lasts).to_string()}))
    }

    fn google(&self, body: &[u8]) -> (u16, Value) {
        let body = std::str::from_utf8(body).unwrap();
        if body == "grant_type=refresh_token&client_id=id&client_secret=canary-s&refresh_token=1%2F%2Fcanary" {
            return (200, json!({"access_token": "ya29.canary-person", "expires_in": 3599, "token_type": "Bearer"}));
        }
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        let jwt = body.strip_prefix(grant).unwrap_or_default();
        let claims = self.verifier.lock().unwrap().claims(jwt, Some("https://oauth2.googleapis.com/token"));
        let right = claims.is_some_and(|claims| {
            let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_i64().unwrap());
            let holds = iat <= now() && exp > now() && exp - iat <= 3_600;
            claims["scope"] == "one two" && claims["iss"] == "bot@project.example" && holds
        });
        match right {
            true => (200, json!({"access_token": "ya29.canary-account", "expires_in": 3599, "token_type": "Bearer"})),
            false => (400, json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."})),
        }
    }
}

struct Servers {
    address: SocketAddr,
    ca_pem: String,
    vendors: Arc<Vendors>,
    _runtime: tokio::runtime::Runtime,
}

impl Servers {
    fn start(verifier: Verifier) -> Self {
        let (ca_pem, mut config) = certified(&NAMES);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let vendors = Arc::new(Vendors { verifier: Mutex::new(verifier), exchanged: Mutex::default() });
        let shared = vendors.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, vendors) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let vendors = vendors.clone();
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let (status, told) = vendors.answer(&head, &body);
                            let ahead = head.uri.path().starts_with("/api/v3");
                            let date = stamp(now() + if ahead { AHEAD } else { 0 });
                            let date = date.strftime("%a, %d %b %Y %T GMT").to_string();
                            let builder = Response::builder().status(status).header(DATE, date);
                            Ok::<_, Infallible>(builder.body(Full::new(Bytes::from(told.to_string()))).unwrap())
                        }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, ca_pem, vendors, _runtime: runtime }
    }
}

#[test]
fn keys_of_apps_and_accounts_are_exchanged_for_tokens_outside() {
    for actor in Actor::all() {
        if host::has_sandboxes()
            && host::has(*actor, "curl")
            && let Some(python) = host::tool(*actor, "agents/bin/python3")
        {
            exchanges(*actor, &python);
        }
    }
}

fn exchanges(actor: Actor, python: &Path) {
    let stage = Stage::new(actor);
    let verifier = Verifier::start(python);
    let key = |form: &str| verifier.keys[form].as_str().unwrap().to_owned();
    let account = json!({"type": "service_account", "client_email": "bot@project.example", "private_key_id": "k",
        "private_key": key("pkcs8"), "token_uri": "https://oauth2.googleapis.com/token", "note": "canary"});
    let person = json!({"type": "authorized_user", "client_id": "id", "client_secret": "canary-s", "refresh_token": "1//canary"});
    let part = key("pkcs1").lines().nth(2).unwrap().to_owned();
    stage.write(&stage.path("app.pem"), key("pkcs1"));
    stage.write(&stage.path("account.json"), serde_json::to_string_pretty(&account).unwrap());
    stage.write(&stage.path("person.json"), person.to_string());
    stage.write(&stage.path("profile.yaml"), PROFILE.replace("PLACE", &stage.path("").display().to_string()));
    let servers = Servers::start(verifier);
    stage.write(&stage.path("roots.pem"), &servers.ca_pem);
    let to = NAMES.map(|name| format!("{name}:443:{}", servers.address));
    let said = stage.run_script(&to, SCRIPT);
    let let_in = |path: &str| said.matches(&format!(r#"{{"let in at":"{path}"}}"#)).count();
    let counts = ["/many", "/basic", "/short", "/ahead", "/cloud", "/person"].map(let_in);
    assert_eq!(counts, [8, 1, 2, 1, 1, 1], "{actor:?}: {said}");
    let gone = "the secret `gone` cannot be exchanged for a token: api.github.com answered 404: Not Found";
    assert!(said.contains(gone) && said.contains("503"), "{actor:?}: {said}");
    assert!(said.contains("the placeholder of the secret `bot` stands in"), "{actor:?}: {said}");
    assert!(said.contains("GH_TOKEN=ghs_ZX") && said.contains("CLOUDSDK_AUTH_ACCESS_TOKEN=ya29.ZX"), "{said}");
    assert!(!said.contains("canary") && !said.contains(&part), "{actor:?}: {said}");

    let mut exchanged = servers.vendors.exchanged.lock().unwrap().clone();
    exchanged.sort();
    let app = |host: &str, number: u32, status| (format!("{host}/app/installations/{number}/access_tokens"), status);
    let google = ("oauth2.googleapis.com/token".to_owned(), 200);
    // One for the eight at once and all after them; one for each use of what does not last; a second by the server's clock.
    let expected = [
        app("api.github.com", 34, 201),
        app("api.github.com", 35, 201),
        app("api.github.com", 35, 201),
        app("api.github.com", 36, 404),
        app("clock.example/api/v3", 34, 201),
        app("clock.example/api/v3", 34, 401),
        google.clone(),
        google,
    ];
    assert_eq!(exchanged, expected, "{actor:?}");
    let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
    assert!(log.contains("tokens of bot renewed") && log.contains("with bot"), "{log}");
    assert!(log.contains("POST https://api.github.com/app/installations/34/access_tokens"), "{log}");
    let jwt = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS25"#);
    for secret in ["canary", &part, &jwt] {
        let recorded = Command::new("grep").args(["-rlaF", secret]).arg(stage.path("home/state")).output();
        assert_eq!(text(&recorded.unwrap().stdout), "", "{secret} is in a record");
    }
}
