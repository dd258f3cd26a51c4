//! Canaries of every kind: secrets that share one beginning, in every source and every file of logins, used by real programs at a
//! server that gives them back in every way. Then every byte that omni wrote, and the memory of every process of the session, is
//! searched for that beginning, in every form that a program could make of it.

use crate::lookout::forms;
use crate::server::{ALLOWED, REFUSED, certified};
use crate::stage::{Actor, Stage, text};
use crate::{host, memory};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// How often is looked whether everything was used.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(20);
/// Where AWS's token service and a model provider are, beside the allowed host.
const HOSTS: [&str; 5] = [ALLOWED, REFUSED, "sts.us-east-1.amazonaws.com", "api.anthropic.com", "platform.claude.com"];
/// The files in which a user's own secrets and logins are, with `@` for what all canaries begin with.
const OWN_FILES: [(&str, &str); 8] = [
    ("keys/file", "@file"),
    ("keys/json", "{\"a\": {\"b\": \"@json\"}}"),
    ("keys/command", "@command"),
    ("keys/injected", "@injected"),
    (".netrc", "machine allowed.example login me password @netrc\n"),
    (".git-credentials", "https://me:@git@allowed.example\n"),
    (".npmrc", "registry=https://allowed.example/\n//allowed.example/:_authToken=@npm\n"),
    (
        ".claude/.credentials.json",
        "{\"claudeAiOauth\": {\"accessToken\": \"sk-ant-oat01-@access\", \"refreshToken\": \"sk-ant-ort01-@renewal\",
            \"expiresAt\": 4102444800000, \"scopes\": [\"user:inference\"], \"subscriptionType\": \"max\"}}",
    ),
];
const PROFILE: &str = "\
name: canaries
command: sh
description: secrets of every kind
filesystem: { workspace: direct }
record_bodies: true
egress:
  - allow: '* allowed.example/**'
  - allow: '* sts.us-east-1.amazonaws.com/**'
  - allow: '* api.anthropic.com/**'
  - allow: '* platform.claude.com/**'
secrets:
  - { name: by-env, from: 'env:CANARY', host: allowed.example, header: x-key, placeholder: { env: P_ENV } }
  - { name: by-file, from: 'file:~/keys/file', host: allowed.example, bearer: true, placeholder: { env: P_FILE } }
  - { name: by-json, from: 'file:~/keys/json#/a/b', host: allowed.example, query: key, placeholder: { env: P_JSON } }
  - { name: by-command, from: 'command:cat ~/keys/command', host: allowed.example, cookie: sid, placeholder: { env: P_COMMAND } }
  - { name: by-store, from: 'store:by-store', host: allowed.example, json: /auth/key, placeholder: { env: P_STORE } }
  - { name: injected, from: 'file:~/keys/injected', inject: true, host: allowed.example, path: /injected, header: x-injected }
  - { name: netrc, preset: netrc }
  - { name: git, preset: git-credentials }
  - { name: npm, preset: npmrc }
  - { name: aws, preset: aws }
  - { name: claude, preset: claude-login }
";
/// What is done inside: each secret is used in its place, in each way of giving it back; then the test looks, and goes on.
const USE: &str = r#"
ask() { curl -sS --max-time 60 "$@" >> answers 2>&1; echo >> answers; }
for way in header chunks gzip error redirect cut; do
    ask -i -H "x-key: $P_ENV" https://allowed.example/$way
    ask -i -H "Authorization: Bearer $P_FILE" https://allowed.example/$way
    ask -i "https://allowed.example/$way?key=$P_JSON"
    ask -i -H "Cookie: sid=$P_COMMAND" https://allowed.example/$way
    ask -i -H 'content-type: application/json' -d "{\"auth\": {\"key\": \"$P_STORE\"}}" https://allowed.example/$way
    ask -i --netrc https://allowed.example/$way
done
ask -i https://allowed.example/injected
ask -i -L -H "x-key: $P_ENV" https://allowed.example/redirect
GIT_TERMINAL_PROMPT=0 git -c credential.helper=store ls-remote https://allowed.example/header >> answers 2>&1
npm view --registry https://allowed.example/ --fetch-retries 0 omni-probe >> answers 2>&1
ask -i --aws-sigv4 aws:amz:us-east-1:sts -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" https://sts.us-east-1.amazonaws.com/header
of() { sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" ~/.claude/.credentials.json; }
ask -i -H "Authorization: Bearer $(of accessToken)" https://api.anthropic.com/chunks
ask -i -H 'content-type: application/json' https://platform.claude.com/v1/oauth/token \
    -d "{\"grant_type\": \"refresh_token\", \"refresh_token\": \"$(of refreshToken)\", \"client_id\": \"c\"}"
ask -i -H "Authorization: Bearer $(of accessToken)" https://api.anthropic.com/gzip
ask -i -H "x-key: $P_ENV" https://refused.example/
ask -i -H "x-key: $P_ENV" http://allowed.example/header
ask -i -H "x-other: $P_ENV" https://allowed.example/header
cat answers; env; cat ~/.netrc ~/.git-credentials ~/.npmrc ~/.claude/.credentials.json
(ulimit -c unlimited; sh -c 'kill -SEGV $$') 2>&1
: > ready
read answer < gate
"#;
/// What the server must have been given for all of that: the ends of the canaries.
const ENDS: [&str; 10] = ["env", "file", "json", "command", "store", "injected", "netrc", "git", "npm", "access"];

/// What all canaries of one trial begin with; nothing else on this machine holds it.
fn beginning() -> String {
    let mut random = [0; 12];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that gives back whatever reaches it.
struct Echo {
    address: SocketAddr,
    ca_pem: String,
    heard: Arc<Mutex<String>>,
    _runtime: tokio::runtime::Runtime,
}

impl Echo {
    /// `tokens` is what it answers to a renewal.
    fn start(tokens: String) -> Self {
        let (ca_pem, config) = certified(&HOSTS);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (heard, tokens) = (Arc::<Mutex<String>>::default(), Arc::new(tokens));
        let told = heard.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, heard, tokens) = (acceptor.clone(), told.clone(), tokens.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (heard, tokens) = (heard.clone(), tokens.clone());
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                            let said = said(&head.headers, head.uri.query().unwrap_or_default(), &body);
                            heard.lock().unwrap().push_str(&said);
                            Ok::<_, Infallible>(match head.uri.path() {
                                // git sends what stands in ~/.netrc first.
                                "/header/info/refs" if !is_of_git(&said) => answer(
                                    Response::builder().status(401).header("www-authenticate", "Basic realm=x"),
                                    b"",
                                ),
                                "/v1/oauth/token" => answer(Response::builder(), tokens.as_bytes()),
                                path => give_back(path, &said),
                            })
                        }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, ca_pem, heard, _runtime: runtime }
    }
}

/// What a request carried, with what was in base64 in the open, too.
fn said(headers: &HeaderMap, query: &str, body: &[u8]) -> String {
    let values: Vec<_> = headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    let basic = values.iter().filter_map(|value| BASE64_STANDARD.decode(value.strip_prefix("Basic ")?).ok());
    let basic: Vec<_> = basic.map(|bytes| text(&bytes)).collect();
    format!("{} {} {query} {}", values.join(" "), basic.join(" "), text(body))
}

/// Whether what was said has the canary of git's own store.
fn is_of_git(said: &str) -> bool {
    said.split_whitespace().any(|word| word.starts_with("me:") && word.ends_with("git"))
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn answer(builder: http::response::Builder, body: &[u8]) -> Answer {
    let body = Full::new(Bytes::copy_from_slice(body)).map_err(|never: Infallible| match never {});
    builder.header("content-type", "application/json").body(body.boxed()).unwrap()
}

fn give_back(path: &str, said: &str) -> Answer {
    let builder = Response::builder();
    // Only what a header may hold.
    let shown: String = said.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let echo = serde_json::json!({"echo": said, "basic": BASE64_STANDARD.encode(said)}).to_string();
    let pieces = |size: usize| {
        echo.as_bytes().chunks(size).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect()
    };
    let streamed = |pieces: Vec<io::Result<Frame<Bytes>>>| {
        Response::new(StreamBody::new(futures_util::stream::iter(pieces)).boxed())
    };
    match path {
        "/gzip" => answer(builder.header("content-encoding", "gzip"), &stored(echo.as_bytes())),
        "/chunks" => streamed(pieces(7)),
        // It breaks off, and the proxy has to say so.
        "/cut" => streamed(pieces(7).into_iter().chain([Err(io::ErrorKind::ConnectionReset.into())]).collect()),
        "/error" => answer(builder.status(500), echo.as_bytes()),
        "/redirect" => answer(
            builder
                .status(302)
                .header("location", format!("https://{REFUSED}/?{}", shown.replace([' ', '"', '{', '}'], "+"))),
            echo.as_bytes(),
        ),
        _ => answer(builder.header("x-echo", shown.trim()), echo.as_bytes()),
    }
}

/// A gzip member that holds a short text as it is.
fn stored(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut member = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01".to_vec();
    member.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
    [&member, text, &[0; 8]].concat()
}

/// One trial.
struct Aviary {
    stage: Stage,
    server: Echo,
    /// What every canary begins with, but those in the environment of omni's own process, which are there by their owner's will.
    forms: Vec<Vec<u8>>,
    beginning: String,
    of_environment: String,
}

impl Aviary {
    fn open(actor: Actor) -> Self {
        let stage = Stage::new(actor);
        let (beginning, of_environment) = (beginning(), self::beginning());
        let tokens = format!(
            r#"{{"access_token": "sk-ant-oat01-{beginning}access2", "refresh_token": "sk-ant-ort01-{beginning}renewal2",
                "expires_in": 28800, "token_type": "Bearer"}}"#
        );
        let server = Echo::start(tokens);
        for (path, contents) in OWN_FILES {
            let file = stage.path("home").join(path);
            let above = file.parent().unwrap();
            if !above.exists() {
                fs::create_dir(above).unwrap();
                stage.hand_over(above);
            }
            stage.write(&file, contents.replace('@', &beginning).replace(&format!("{beginning}allowed"), "@allowed"));
        }
        stage.write(&stage.path("server.pem"), &server.ca_pem);
        stage.write(&stage.path("canaries.yaml"), PROFILE);
        stage.write(&stage.workspace().join("use.sh"), USE);
        let gate = stage.workspace().join("gate");
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        stage.hand_over(&gate);
        Self { stage, server, forms: forms(&beginning), beginning, of_environment }
    }

    /// omni at a terminal of its own, by script(1).
    fn command(&self) -> Command {
        let quoted = |path: PathBuf| format!("'{}'", path.display());
        let to: String = HOSTS.iter().map(|host| format!(" --connect-to {host}:443:{}", self.server.address)).collect();
        let line = format!(
            "{} exec --record --profile {} --upstream-ca {}{to} -- sh use.sh",
            quoted(PathBuf::from(self.stage.omni(&[]).get_program())),
            quoted(self.stage.path("canaries.yaml")),
            quoted(self.stage.path("server.pem"))
        );
        let mut command = self
            .stage
            .command(Path::new("script"), &["-qefc", &line, self.stage.path("tmp/typescript").to_str().unwrap()]);
        let key = |end: &str| format!("{}{end}", self.of_environment);
        command.env("CANARY", key("env")).env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
        command.env("AWS_SECRET_ACCESS_KEY", key("secret")).env("AWS_SESSION_TOKEN", key("token"));
        command
    }

    /// Every file of the trial, but its owner's own, that holds a canary in any form.
    fn holding(&self) -> Vec<String> {
        let own: Vec<PathBuf> = OWN_FILES.iter().map(|(path, _)| self.stage.path("home").join(path)).collect();
        let mut grep = Command::new("grep");
        grep.arg("-rlaF");
        self.every_form().iter().for_each(|form| {
            grep.arg("-e").arg(OsStr::from_bytes(form));
        });
        let found = text(&grep.arg("--devices=skip").arg(self.stage.path("")).output().unwrap().stdout);
        found.lines().filter(|line| !own.contains(&PathBuf::from(line))).map(str::to_owned).collect()
    }

    fn every_form(&self) -> Vec<Vec<u8>> {
        self.forms.iter().cloned().chain(forms(&self.of_environment)).collect()
    }
}

/// The canaries are in the proxy's memory, and where their owner put them, and nowhere else, while the session runs and when it is
/// over.
#[test]
fn a_canary_is_in_the_proxys_memory_and_nowhere_else() {
    let programs = ["script", "curl", "git", "npm"];
    for actor in Actor::all() {
        if host::has_sandboxes() && programs.iter().all(|program| host::has(*actor, program)) {
            nowhere_else(*actor);
        }
    }
}

fn nowhere_else(actor: Actor) {
    let aviary = Aviary::open(actor);
    let stage = &aviary.stage;
    keep(stage, &format!("{}store", aviary.beginning));
    let mut running = stage.start(&mut aviary.command());
    let said = || text(&fs::read(stage.path("tmp/typescript")).unwrap_or_default());
    while !stage.workspace().join("ready").exists() {
        assert!(running.is_running(), "it ended early: {}", said());
        std::thread::sleep(GLANCE);
    }
    let heard = aviary.server.heard.lock().unwrap().clone();
    let (own, env) = (&aviary.beginning, &aviary.of_environment);
    for end in ENDS {
        let canary = if end == "env" { format!("{env}{end}") } else { format!("{own}{end}") };
        assert!(heard.contains(&canary), "{actor:?}: the canary of {end} was not sent: {}", said());
    }
    assert!(
        heard.contains(&format!("{own}access2")) && heard.contains(&format!("{env}token")),
        "{actor:?}: {}",
        said()
    );
    assert!(said().contains("ZXepeqer"), "{actor:?}: {}", said());
    in_memory_of_the_proxy_alone(&aviary, running.pid());
    let control = stage.path("control");
    fs::write(&control, BASE64_STANDARD.encode(format!("before {own}, and after"))).unwrap();
    assert_eq!(aviary.holding(), [control.display().to_string()], "{actor:?}: while it runs");
    fs::remove_file(control).unwrap();

    fs::write(stage.workspace().join("gate"), "go\n").unwrap();
    let output = running.finish();
    assert!(output.status.success(), "{actor:?}: {}", said());
    for (number, arguments) in [
        &["show", "last", "--json"][..],
        &["audit", "log", "--session", "last"],
        &["audit", "export", "--format", "har", "--session", "last"],
        &["replay", "last"],
        &["secret", "list", "--json"],
    ]
    .into_iter()
    .enumerate()
    {
        let told = stage.run(arguments);
        assert!(told.status.success(), "{arguments:?}: {}", text(&told.stderr));
        let file = stage.path(&format!("told-{number}"));
        fs::write(&file, [told.stdout, told.stderr].concat()).unwrap();
    }
    assert_eq!(aviary.holding(), Vec::<String>::new(), "{actor:?}: afterwards");
    let har = text(&fs::read(stage.path("told-2")).unwrap());
    assert!(har.contains("echo"), "{actor:?}: bodies were recorded: {har}");
    let kept = text(&fs::read(stage.path("home/.claude/.credentials.json")).unwrap());
    assert!(kept.contains(&format!("{own}renewal2")), "the renewed login is its owner's: {kept}");
}

/// Keeps a secret in omni's own store.
fn keep(stage: &Stage, value: &str) {
    let value_file = stage.path("home/keys/store");
    stage.write(&value_file, value);
    assert!(stage.run(&["secret", "passphrase", "--none"]).status.success());
    let mut set = stage.omni(&["secret", "set", "by-store", "--host", ALLOWED, "--json", "/auth/key"]);
    let output = set.stdin(fs::File::open(&value_file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::remove_file(value_file).unwrap();
}

/// Of all processes of the session, the proxy alone has canaries, and what it may have forked to read them anew.
fn in_memory_of_the_proxy_alone(aviary: &Aviary, script: u32) {
    let (inside, forms) = (memory::inside(script), aviary.every_form());
    assert!(inside.len() >= 2, "process 1 and the harness are there: {inside:?}");
    for pid in &inside {
        assert_eq!(memory::held(*pid, &forms), Vec::<&Vec<u8>>::new(), "in the sandbox, {pid}");
    }
    // What is outside and runs omni: the session's process and what came of it.
    let outside = memory::of_program(script, Path::new(aviary.stage.omni(&[]).get_program()));
    let holding = |pid: &u32| !memory::held(*pid, &aviary.forms).is_empty();
    let (knowing, ignorant): (Vec<u32>, Vec<u32>) = outside.iter().copied().partition(holding);
    let session = outside.iter().find(|pid| !outside.contains(&memory::parent(**pid).unwrap_or_default())).unwrap();
    assert!(ignorant.contains(session), "the session's process {session} knows: {knowing:?} of {outside:?}");
    let from_proxy = |pid: &u32| memory::parent(*pid).is_some_and(|parent| knowing.contains(&parent));
    let proxies: Vec<&u32> = knowing.iter().filter(|pid| !from_proxy(pid)).collect();
    assert!(proxies.len() == 1 && memory::parent(*proxies[0]) == Some(*session), "{knowing:?} of {outside:?}");
}
