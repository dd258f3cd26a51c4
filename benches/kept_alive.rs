//! Both ends of the measurement that `scripts/bench` makes: an HTTPS server that answers 1 KiB, and a client that sends
//! one request after another over one connection and prints the quantiles.
//!
//! The same client runs on the host, straight to the server, and in a sandbox, through the proxy.

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// The name that the server's certificate is for.
const NAME: &str = "bench.example";
const BODY: [u8; 1024] = [b'x'; 1024];
const WARM_UP: usize = 200;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["serve", ca_out] => runtime.block_on(serve(ca_out)),
        ["load", address, ca, count] => runtime.block_on(load(address, ca, count.parse()?)),
        ["connect", address, ca, count] => runtime.block_on(connect_often(address, ca, count.parse()?)),
        // `cargo bench` and `cargo test --all-targets` call it without a word: there is nothing to do alone.
        _ => Ok(()),
    }
}

/// Serves until the process is ended; prints the port.
async fn serve(ca_out: &str) -> anyhow::Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    std::fs::write(ca_out, certificate.pem())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
        )?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = hyper::service::service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(Bytes::from_static(&BODY))))
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), answer).await.ok();
        });
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

async fn open(address: &str, tls: &tokio_rustls::TlsConnector) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let stream = tls.connect(ServerName::try_from(NAME)?, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn trust(ca: &str) -> anyhow::Result<tokio_rustls::TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

async fn ask(sender: &mut Sender) -> anyhow::Result<Duration> {
    let request = hyper::Request::get("/1k").header("host", NAME).body(Empty::new())?;
    let started = Instant::now();
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status() == 200, "answered {}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(body.len() == BODY.len(), "a body of {} bytes", body.len());
    Ok(started.elapsed())
}

/// One kept-alive connection, `count` requests.
async fn load(address: &str, ca: &str, count: usize) -> anyhow::Result<()> {
    let mut sender = open(address, &trust(ca)?).await?;
    for _ in 0..WARM_UP {
        ask(&mut sender).await?;
    }
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        sender.ready().await?;
        times.push(ask(&mut sender).await?);
    }
    print_quantiles(times);
    Ok(())
}

/// A new connection for every request.
async fn connect_often(address: &str, ca: &str, count: usize) -> anyhow::Result<()> {
    let tls = trust(ca)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        ask(&mut open(address, &tls).await?).await?;
        times.push(started.elapsed());
    }
    print_quantiles(times);
    Ok(())
}

/// `p50 p99` in microseconds.
fn print_quantiles(mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
    println!("{} {}", at(50), at(99));
}
