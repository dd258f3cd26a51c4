//! A way to the server, and connections by it.

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The name of a server that was visited before.
pub const NAME: &str = "bench.example";
/// Below it, every name is the server's as well.
pub const DOMAIN: &str = "bench.example";
/// The key and its answer that RFC 6455 gives as an example.
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Most bytes of the head of an answer that is read here rather than by hyper.
const HEAD_BYTES_MAX: usize = 4096;

/// How to reach the server.
pub struct Way {
    /// Where to connect to; none where each name is to be looked up.
    address: Option<SocketAddr>,
    /// What that is to be told, if it is a proxy.
    target: Option<Target>,
    tls: tokio_rustls::TlsConnector,
}

/// Where a proxy is asked to go.
enum Target {
    /// To the name that is visited.
    Name,
    /// To an address, whatever the name.
    Address(String),
}

impl Way {
    /// By `address` (`*` for whatever a name stands for), over the proxy, if that is not `-`.
    pub async fn open(address: &str, proxy: &str, ca: &str) -> anyhow::Result<Self> {
        let target = match (proxy, address) {
            ("-", _) => None,
            (_, "*") => Some(Target::Name),
            (_, address) => Some(Target::Address(address.to_owned())),
        };
        let address = match if target.is_some() { proxy } else { address } {
            "*" => None,
            address => Some(address.parse().with_context(|| format!("{address} is no address"))?),
        };
        Ok(Self { address, target, tls: trust(ca)? })
    }

    /// The address to connect to for a name. It costs a question where names are looked up.
    pub async fn find(&self, name: &str) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.address {
            return Ok(address);
        }
        let found = tokio::net::lookup_host((name, 443)).await?.next();
        found.with_context(|| format!("{name} has no address"))
    }

    /// A new connection, ready for a request.
    pub async fn connect(&self, name: &str, address: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        if let Some(target) = &self.target {
            let target = match target {
                Target::Name => format!("{name}:443"),
                Target::Address(address) => address.clone(),
            };
            stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
            let head = read_head(&mut stream).await?;
            anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "the proxy answered {head}");
        }
        Ok(self.tls.connect(ServerName::try_from(name.to_owned())?, stream).await?)
    }
}

/// Reads an answer's head; the server sends nothing after it by itself.
pub async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        anyhow::ensure!(head.len() < HEAD_BYTES_MAX, "a head without an end");
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

/// A TLS client that trusts the certificates of this file, and resumes nothing.
pub fn trust(ca: &str) -> anyhow::Result<tokio_rustls::TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}
