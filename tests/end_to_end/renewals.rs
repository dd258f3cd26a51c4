//! Harnesses whose owner's login expires in the middle of a session: they renew it from inside, at a server that gives each
//! token that renews once, and never hold a token, old or new.

use crate::host;
use crate::lookout::{Control, Lookout};
use crate::server::certified;
use crate::simulated::Provider;
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

/// The first call works, the second is told that its token has expired, as many times as the harness asks by it.
const SCRIPT: &str = "
turns:
  - when: { after_tool: true }
    times: REFUSALS
    reply: { status: 401, error: { message: 'the token has expired' } }
  - when: { after_tool: true }
    times: 1
    reply: { run: 'cat LOGIN > renewed 2>&1; grep -rac can[a]ry $HOME /tmp 2>/dev/null | grep -v :0 >> canaries; : > ready; read answer < gate' }
  - when: { after_tool: true }
    reply: { text: 'Done.' }
  - reply: { run: 'cat /proc/[0-9]*/environ > environments 2>/dev/null; cat LOGIN > login 2>&1; \
    grep -rac can[a]ry $HOME /tmp 2>/dev/null | grep -v :0 > canaries; true' }
";

/// What every secret part of a token begins with: of a JSON Web Token its signature, since its claims stand in the look-alike, too.
const BEGINNING: &str = "canary5vT0kY3n";

/// A server that renews a login: by the last token that it gave, once.
struct TokenServer {
    address: SocketAddr,
    ca_pem: String,
    seen: Arc<Mutex<Vec<Value>>>,
    _runtime: tokio::runtime::Runtime,
}

/// The tokens of a login after so many renewals.
type Tokens = fn(usize) -> Value;

impl TokenServer {
    fn start(host: &str, path: &'static str, tokens: Tokens) -> Self {
        let (ca_pem, config) = certified(&[host]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let seen = Arc::<Mutex<Vec<Value>>>::default();
        let told = seen.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), told.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let seen = seen.clone();
                        async move {
                            let right = request.uri().path() == path;
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            Ok::<_, Infallible>(if right {
                                renew(&seen, &body, tokens)
                            } else {
                                answer(200, &json!({}))
                            })
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

fn renew(seen: &Mutex<Vec<Value>>, body: &[u8], tokens: Tokens) -> http::Response<Full<bytes::Bytes>> {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut seen = seen.lock().unwrap();
    seen.push(asked.clone());
    let done = seen.iter().filter(|asked| asked["omni_test_ok"] == true).count();
    if asked["grant_type"] == "refresh_token" && asked["refresh_token"] == tokens(done)["refresh_token"] {
        seen.last_mut().unwrap()["omni_test_ok"] = true.into();
        return answer(200, &tokens(done + 1));
    }
    answer(400, &json!({"error": "invalid_grant", "error_description": "the token was used before"}))
}

fn answer(status: u16, body: &Value) -> http::Response<Full<bytes::Bytes>> {
    let builder = http::Response::builder().status(status).header("content-type", "application/json");
    builder.body(Full::new(body.to_string().into())).unwrap()
}

/// A harness and the login that it has.
struct Login {
    program: &'static str,
    secret: &'static str,
    /// The file, and what is in it at first.
    file: &'static str,
    contents: fn() -> Value,
    tokens: Tokens,
    /// Where it renews its login, and where its models are.
    renewal: (&'static str, &'static str),
    models: &'static str,
    /// How often it is refused before it renews: Codex reads its file again first.
    refusals: &'static str,
    command: &'static [&'static str],
}

impl Login {
    fn try_everybody(&self) {
        for actor in Actor::all() {
            if host::has_sandboxes() && host::has(*actor, self.program) {
                self.try_as(*actor);
            }
        }
    }

    fn try_as(&self, actor: Actor) {
        let stage = Stage::new(actor);
        let script = SCRIPT.replace("LOGIN", &format!("~/{}", self.file)).replace("REFUSALS", self.refusals);
        // What a WebSocket was begun with is good until its end.
        let provider = Provider::start_with(&stage, &script, &["--no-websockets"]);
        let server = TokenServer::start(self.renewal.0, self.renewal.1, self.tokens);
        let file = stage.path("home").join(self.file);
        let directory = file.parent().unwrap();
        fs::create_dir(directory).unwrap();
        stage.hand_over(directory);
        stage.write(&file, (self.contents)().to_string());
        let roots = format!("{}{}", fs::read_to_string(&provider.ca).unwrap(), server.ca_pem);
        stage.write(&stage.path("roots.pem"), roots);
        let (roots, models) = (stage.path("roots.pem"), format!("{}:443:{}", self.models, provider.address));
        let renewal = format!("{}:443:{}", self.renewal.0, server.address);
        let mut arguments = vec!["exec", "--secret", self.secret, "--connect-to", &models, "--connect-to", &renewal];
        arguments.extend(["--upstream-ca", roots.to_str().unwrap(), "--"]);
        arguments.extend(self.command);
        let lookout = Lookout::new(&stage, &[BEGINNING], "ZXepeqer");
        let output = lookout.run_to_gate(&stage, &mut stage.omni(&arguments));
        lookout.assert_found_nothing(Control { in_memory: true, in_files: true }, &(self.program, actor));
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && said.contains("Done."), "{} {actor:?}: {said}", self.program);

        let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
        // Both tokens were used outside, the new one after the old one, and once renewed it was enough.
        let used: Vec<_> =
            provider.requests().iter().filter(|request| !request["model"].is_null()).map(bearer).collect();
        let token = |number: usize| (self.tokens)(number)["access_token"].as_str().unwrap().to_owned();
        assert!(used.first() == Some(&token(0)) && used.last() == Some(&token(1)), "{log}");
        assert!(used.iter().all(|used| [token(0), token(1)].contains(used)), "{log}");
        let seen = server.seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 1, "{seen:?}");
        let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let kept = kept.to_string();
        for name in ["access_token", "refresh_token"] {
            assert!(kept.contains((self.tokens)(1)[name].as_str().unwrap()), "{name} is not in {kept}");
        }
        assert!(kept.contains("stays") && fs::metadata(&file).unwrap().mode() & 0o777 == 0o600);

        let read = |name: &str| text(&fs::read(stage.workspace().join(name)).unwrap());
        for login in ["login", "renewed"].map(read) {
            assert!(login.contains("ZXepeqer") && !login.contains("canary"), "{login}");
        }
        assert!(!read("environments").contains("canary"));
        assert_eq!(read("canaries"), "", "files in which something of the login stands");
        let recorded =
            std::process::Command::new("grep").args(["-rlaF", "canary"]).arg(stage.path("home/state")).output();
        assert_eq!(text(&recorded.unwrap().stdout), "");
        assert!(log.contains(&format!("tokens of {} renewed", self.secret)), "{log}");
    }
}

fn bearer(request: &Value) -> String {
    let sent = request["headers"]["authorization"].as_str().unwrap_or_default();
    sent.strip_prefix("Bearer ").unwrap_or(sent).to_owned()
}

fn claude_tokens(number: usize) -> Value {
    json!({"access_token": format!("sk-ant-oat01-{BEGINNING}-access-{number}-0123456789"), "expires_in": 28_800,
        "refresh_token": format!("sk-ant-ort01-{BEGINNING}-renewal-{number}-0123456789"), "scope": "user:inference user:profile",
        "token_type": "Bearer"})
}

fn codex_tokens(number: usize) -> Value {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let account = json!({"chatgpt_account_id": "account-1", "chatgpt_plan_type": "pro", "chatgpt_user_id": "user-1"});
    let claims = json!({"exp": 4_102_444_800_u64, "iat": 1_764_000_000 + number, "jti": "canary", "email": "a@b.example",
        "https://api.openai.com/auth": account});
    let jwt = |name: &str| {
        let head = part(json!({"alg": "RS256", "typ": "JWT"}));
        format!("{head}.{}.{BEGINNING}-signature-of-{name}-{number}", part(claims.clone()))
    };
    json!({"access_token": jwt("access"), "id_token": jwt("identity"), "refresh_token": format!("rt.{BEGINNING}-renewal-{number}")})
}

#[test]
fn claude_code_renews_a_login_that_it_never_sees() {
    let login = Login {
        program: "claude",
        secret: "claude-login",
        file: ".claude/.credentials.json",
        contents: || {
            let tokens = claude_tokens(0);
            json!({"claudeAiOauth": {"accessToken": tokens["access_token"], "refreshToken": tokens["refresh_token"],
                "expiresAt": 4_102_444_800_000_u64, "scopes": ["user:inference", "user:profile"], "subscriptionType": "max"},
                "mcpOAuth": {"server": {"accessToken": "canary, and it stays"}}})
        },
        tokens: claude_tokens,
        renewal: ("platform.claude.com", "/v1/oauth/token"),
        models: "api.anthropic.com",
        refusals: "1",
        command: &["claude-code", "-p", "Look around", "--dangerously-skip-permissions"],
    };
    login.try_everybody();
}

#[test]
fn codex_renews_a_login_that_it_never_sees() {
    let login = Login {
        program: "codex",
        secret: "codex-login",
        file: ".codex/auth.json",
        contents: || {
            let mut tokens = codex_tokens(0);
            tokens["account_id"] = "account-1".into();
            json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": tokens, "note": "it stays",
                "last_refresh": "2026-11-27T00:00:00Z"})
        },
        tokens: codex_tokens,
        renewal: ("auth.openai.com", "/oauth/token"),
        models: "chatgpt.com",
        refusals: "2",
        // The simulated provider reads no compressed bodies.
        command: &["codex", "exec", "--skip-git-repo-check", "--disable", "enable_request_compression", "Look around"],
    };
    login.try_everybody();
}
