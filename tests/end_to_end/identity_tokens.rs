//! A registry of images that gives short-lived tokens for an identity token, which stands in its owner's own file: a real client gets its
//! image by a placeholder.

use crate::host;
use crate::server::{ALLOWED, REFUSED, certified};
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// The identity token, with characters that a form escapes.
const REAL: &str = "canary.identity+token/0123456789==";
const KIND: &str = "application/vnd.docker.distribution.manifest.v2+json";

struct Registry {
    address: SocketAddr,
    ca_pem: String,
    /// The forms that came for tokens.
    forms: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Registry {
    fn start() -> Self {
        let (ca_pem, config) = certified(&[ALLOWED, REFUSED]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let forms = Arc::<Mutex<Vec<String>>>::default();
        let told = forms.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, told) = (acceptor.clone(), told.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(told.clone(), request));
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, ca_pem, forms, _runtime: runtime }
    }
}

async fn answer(
    forms: Arc<Mutex<Vec<String>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let said = |status: u16, kind: &str, text: String| {
        let builder = Response::builder().status(status).header(CONTENT_TYPE, kind);
        let realm = format!("Bearer realm=\"https://{ALLOWED}/oauth2/token\",service=\"{ALLOWED}\"");
        Ok(builder.header(WWW_AUTHENTICATE, realm).body(Full::new(Bytes::from(text))).unwrap())
    };
    if head.uri.path() == "/oauth2/token" {
        let form = text(&body.collect().await.unwrap().to_bytes());
        let known = form.split('&').any(|pair| pair == "refresh_token=canary.identity%2Btoken%2F0123456789%3D%3D");
        forms.lock().unwrap().push(form);
        let (status, answer) = if known { (200, r#"{"access_token": "short-lived"}"#) } else { (401, "{}") };
        return said(status, "application/json", answer.to_owned());
    }
    match head.headers.get(AUTHORIZATION).is_some_and(|sent| sent == "Bearer short-lived") {
        false => said(401, "application/json", "{}".to_owned()),
        true => said(200, KIND, manifest()),
    }
}

fn manifest() -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    format!(
        r#"{{"schemaVersion": 2, "mediaType": "{KIND}", "layers": [],
            "config": {{"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": "{digest}"}}}}"#
    )
}

#[test]
fn skopeo_by_an_identity_token_of_the_file_of_docker() {
    for actor in Actor::all() {
        if host::has_sandboxes() && host::has(*actor, "skopeo") {
            inspects(*actor);
        }
    }
}

fn inspects(actor: Actor) {
    let (stage, registry) = (Stage::new(actor), Registry::start());
    stage.write(&stage.path("server.pem"), &registry.ca_pem);
    let directory = stage.path("home").join(".docker");
    std::fs::create_dir(&directory).unwrap();
    stage.hand_over(&directory);
    let user = BASE64_STANDARD.encode("00000000-0000-0000-0000-000000000000:");
    let own = format!(r#"{{"auths": {{"{ALLOWED}": {{"auth": "{user}", "identitytoken": "{REAL}"}}}}}}"#);
    stage.write(&directory.join("config.json"), &own);
    let to = format!("{ALLOWED}:443:{}", registry.address);
    let (rule, ca) = (format!("* {ALLOWED}/**"), stage.path("server.pem").display().to_string());
    let arguments = ["exec", "--secret", "docker-login", "--allow", &rule, "--connect-to", &to, "--upstream-ca", &ca];
    // Elsewhere in a form, in another's, and in no form it goes nowhere.
    let script = r#"
        skopeo inspect --raw docker://allowed.example/probe
        held=$(grep -o 'omni-placeholder-[A-Za-z0-9_-]*' ~/.docker/config.json)
        for data in "other=$held" "refresh_token=$held&again=$held"; do
            curl -sS -o /dev/null -w 'misplaced %{http_code}\n' -d "$data" https://allowed.example/oauth2/token
        done
        curl -sS -o /dev/null -w 'misplaced %{http_code}\n' -H 'content-type: text/plain' -d "refresh_token=$held" https://allowed.example/oauth2/token
        env; cat ~/.docker/config.json; grep -rac c[a]nary ~ /tmp | grep -v ':0$'"#;
    let output = stage.run(&[&arguments[..], &["--", "sh", "-c", script]].concat());
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(said.contains("\"schemaVersion\"") && said.contains("identitytoken"), "{actor:?}: {said}");
    assert_eq!(said.matches("misplaced 403").count(), 3, "{actor:?}: {said}");
    assert!(!said.contains("canary") && !said.contains(&BASE64_STANDARD.encode(REAL)), "{actor:?}: {said}");
    let forms = registry.forms.lock().unwrap();
    assert!(!forms.is_empty() && forms.iter().all(|form| !form.contains("ZXepeqer")), "{actor:?}: {forms:?}");
    assert_eq!(std::fs::read_to_string(directory.join("config.json")).unwrap(), own);
}
