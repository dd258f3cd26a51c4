//! Accepting connections and carrying requests to the stage.

use super::body::Paced;
use super::certificate::Identity;
use super::record::{Line, Record, now};
use super::reply::{Request, Response, Stage, is_responses, json_response};
use super::script::Script;
use super::{Options, SimError, websocket};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, UPGRADE};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Largest request body that is taken in, in bytes; harnesses send whole histories in one.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Most connections at a time; more wait their turn.
const CONNECTIONS_MAX: usize = 1024;
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait after a failed accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A simulated provider that is bound to its address.
pub struct Sim {
    listener: TcpListener,
    address: SocketAddr,
    ca_pem: String,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
}

/// What every connection needs.
pub(super) struct Shared {
    pub(super) stage: Stage,
    pub(super) record: Record,
    websockets: bool,
}

impl Sim {
    /// Binds the address, makes the certificates, opens the files. From here on clients can connect.
    ///
    /// # Errors
    /// A [`SimError`] for the step that failed.
    pub fn bind(options: Options) -> Result<Self, SimError> {
        let Options { listen, script, ca_out, record, websockets } = options;
        let identity = Identity::generate()?;
        let record = Record::open(record.as_deref())?;
        let stage = Stage::new(script, Script::default_script()?);
        let failed = |source| SimError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if let Some(path) = ca_out {
            fs::write(&path, &identity.ca_pem).map_err(|source| SimError::Write { path, source })?;
        }
        let (ca_pem, tls) = (identity.ca_pem, TlsAcceptor::from(identity.tls));
        Ok(Self { listener, address, ca_pem, tls, shared: Arc::new(Shared { stage, record, websockets }) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the CA that clients have to trust, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// [`SimError::Runtime`] when serving cannot begin.
    pub fn run(self) -> Result<(), SimError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(SimError::Runtime)?.block_on(self.serve())
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// [`SimError::Runtime`] when serving cannot begin.
    pub async fn serve(self) -> Result<(), SimError> {
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(SimError::Runtime)?;
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return Ok(()) };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (tls, shared) = (self.tls.clone(), Arc::clone(&self.shared));
            tokio::spawn(async move {
                connection(stream, tls, shared).await;
                drop(permit);
            });
        }
    }
}

/// Serves one connection to its end. What goes wrong on it is the client's to notice.
async fn connection(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await else { return };
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(exchange(request, &shared).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

/// One request and its response, written down before it is sent.
async fn exchange(mut request: hyper::Request<Incoming>, shared: &Arc<Shared>) -> hyper::Response<Paced> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let line = line_of(&head);
    let websocket = shared.websockets && head.method == "GET" && is_responses(head.uri.path());
    if let Some(headers) = websocket.then(|| websocket::accept(&head.headers)).flatten() {
        let opened = Line { status: 101, ..line.clone() };
        if shared.record.write(&opened).is_ok() {
            let call = Line { version: "WebSocket".to_owned(), ..line };
            tokio::spawn(websocket::serve(upgrade, Arc::clone(shared), call));
            let mut answer = hyper::Response::new(Paced::whole(String::new()));
            (*answer.status_mut(), *answer.headers_mut()) = (hyper::StatusCode::SWITCHING_PROTOCOLS, headers);
            return answer;
        }
    }
    let body = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map(|all| all.to_bytes());
    let (mut response, request_bytes) = match &body {
        Ok(body) => {
            let host = line.host.rsplit_once(':').map_or(line.host.as_str(), |(name, _)| name);
            let upgrade = head.headers.contains_key(UPGRADE);
            let account = head.headers.get("chatgpt-account-id").and_then(|value| value.to_str().ok());
            let (method, path) = (head.method.as_str(), head.uri.path());
            (shared.stage.respond(&Request { method, host, path, upgrade, account, body }), body.len())
        }
        Err(error) if error.is::<LengthLimitError>() => (json_response(413, json!({"error": "too large"})), 0),
        Err(_) => (json_response(400, json!({"error": "the body broke off"})), 0),
    };
    let line = Line { request_bytes, ..line }.of(&response);
    if let Err(error) = shared.record.write(&line) {
        // A rehearsal whose record has holes proves nothing.
        response = json_response(500, json!({"error": format!("the record cannot be written: {error}")}));
    }
    send(response).await
}

/// What the record says of a request, before there is an answer.
fn line_of(head: &hyper::http::request::Parts) -> Line {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let named = head.headers.get(HOST).and_then(|value| value.to_str().ok());
    Line {
        time: now(),
        method: head.method.to_string(),
        host: authority.or(named).unwrap_or_default().to_owned(),
        path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        version: format!("{:?}", head.version),
        headers: headers(&head.headers),
        request_bytes: 0,
        dialect: None,
        model: None,
        stream: false,
        status: 0,
        turn: None,
        usage: None,
        service_tier: None,
        broken: false,
    }
}

async fn send(response: Response) -> hyper::Response<Paced> {
    if !response.delay.is_zero() {
        tokio::time::sleep(response.delay).await;
    }
    let mut sent = hyper::Response::new(response.body);
    *sent.status_mut() = hyper::StatusCode::from_u16(response.status).unwrap_or_default();
    sent.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(response.content_type));
    sent
}

/// All headers by name; repeated ones joined.
fn headers(all: &HeaderMap) -> BTreeMap<String, String> {
    let mut by_name = BTreeMap::<String, String>::new();
    for (name, value) in all {
        let value = String::from_utf8_lossy(value.as_bytes());
        let entry = by_name.entry(name.to_string());
        entry.and_modify(|text| *text = format!("{text}, {value}")).or_insert_with(|| value.into_owned());
    }
    by_name
}
