//! A hudsucker proxy that changes nothing, whose upstream is always the one server of the benchmark.
//!
//! `omni-bench-peer SERVER_PORT SERVER_CA CA_OUT` prints its port and serves until it is ended. Both its sides send
//! small writes at once: sockets of a listener that has `TCP_NODELAY` have it too.

use http::Uri;
use hudsucker::Proxy;
use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use hudsucker::rustls::crypto::aws_lc_rs;
use hudsucker::rustls::pki_types::CertificateDer;
use hudsucker::rustls::pki_types::pem::PemObject;
use hudsucker::rustls::{ClientConfig, RootCertStore};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::Future;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How many leaves hudsucker keeps; its example's number.
const LEAVES: u64 = 1000;
const BACKLOG: u32 = 1024;

/// Connects to the server, whatever is asked for.
#[derive(Clone)]
struct ToServer(SocketAddr);

impl tower_service::Service<Uri> for ToServer {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let server = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, server_ca, ca_out] = words.as_slice() else { return Err("SERVER_PORT SERVER_CA CA_OUT".into()) };
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(verifying(server_ca)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(ToServer((Ipv4Addr::LOCALHOST, port.parse()?).into()));
    let listener = listen()?;
    let port = listener.local_addr()?.port();
    let proxy = Proxy::builder().with_listener(listener).with_ca(authority(ca_out)?).with_http_connector(connector);
    let proxy = proxy.build()?;
    println!("{port}");
    io::stdout().flush()?;
    Ok(proxy.start().await?)
}

fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(BACKLOG)
}

fn authority(ca_out: &str) -> Result<RcgenAuthority, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key)?.pem();
    std::fs::write(ca_out, &pem)?;
    Ok(RcgenAuthority::new(Issuer::from_ca_cert_pem(&pem, key)?, LEAVES, aws_lc_rs::default_provider()))
}

fn verifying(server_ca: &str) -> Result<ClientConfig, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(server_ca)? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
