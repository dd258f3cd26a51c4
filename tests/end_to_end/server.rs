//! A server of the outside world: TLS on 127.0.0.1 for two names, one that the trials allow and one that they do not.

use crate::lookout::Lookout;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use tokio_rustls::TlsAcceptor;

/// The name that the trials allow.
pub const ALLOWED: &str = "allowed.example";
/// The name that no rule allows, although it would answer.
pub const REFUSED: &str = "refused.example";

/// What is served: a content type and a body for each path.
pub type Pages = BTreeMap<String, (&'static str, Vec<u8>)>;

/// What a server has, and for whom.
struct Kept {
    pages: Pages,
    /// The `Authorization`s that let in; none lets everybody in.
    accepted: Vec<String>,
    lookout: Option<Arc<Lookout>>,
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub ca_pem: String,
    seen: Arc<Mutex<Vec<String>>>,
    // Ends with it.
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start(pages: Pages) -> Self {
        Self::serving(Kept { pages, accepted: Vec::new(), lookout: None })
    }

    /// A server that lets in whoever sends one of these `Authorization`s, and asks all others for one.
    pub fn behind(pages: Pages, accepted: Vec<String>) -> Self {
        Self::serving(Kept { pages, accepted, lookout: None })
    }

    /// The same, and whoever is let in waits until it was looked into the sandbox.
    pub fn watched(pages: Pages, accepted: Vec<String>, lookout: Arc<Lookout>) -> Self {
        Self::serving(Kept { pages, accepted, lookout: Some(lookout) })
    }

    fn serving(kept: Kept) -> Self {
        let (ca_pem, config) = certified(&[ALLOWED, REFUSED]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), seen.clone(), Arc::new(kept)));
        Self { address, ca_pem, seen, _runtime: runtime }
    }

    /// The hosts that were asked for, in order.
    pub fn hosts_seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// An authority, and a server's identity under these names by it.
pub fn certified(names: &[&str]) -> (String, ServerConfig) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (ca_pem, config)
}

async fn serve(
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<String>>>,
    kept: Arc<Kept>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen, kept) = (acceptor.clone(), seen.clone(), kept.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
                seen.lock().unwrap().push(host.to_owned());
                let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                let accepted = &kept.accepted;
                let let_in =
                    accepted.is_empty() || authorization.is_some_and(|sent| accepted.iter().any(|one| one == sent));
                if let Some(lookout) = kept.lookout.as_ref().filter(|_| let_in) {
                    tokio::task::block_in_place(|| lookout.look());
                }
                let answer = if let_in { answer(&kept.pages, request.uri().path()) } else { challenge() };
                async move { Ok::<_, Infallible>(answer) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn challenge() -> Response<Full<Bytes>> {
    let builder = Response::builder().status(StatusCode::UNAUTHORIZED);
    builder.header(WWW_AUTHENTICATE, "Basic realm=\"strict\"").body(Full::default()).unwrap()
}

fn answer(pages: &Pages, path: &str) -> Response<Full<Bytes>> {
    match pages.get(path) {
        Some((kind, body)) => {
            Response::builder().header(CONTENT_TYPE, *kind).body(Full::new(Bytes::from(body.clone()))).unwrap()
        }
        None => Response::builder().status(StatusCode::NOT_FOUND).body(Full::default()).unwrap(),
    }
}

/// A listener on every address of this machine that nothing in a sandbox may ever reach.
pub struct Canary {
    listener: TcpListener,
    pub port: u16,
}

impl Canary {
    pub fn set() -> Self {
        let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    /// Whether anybody connected since the last question.
    pub fn was_reached(&self) -> bool {
        match self.listener.accept() {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }
}
