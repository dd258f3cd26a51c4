//! Connections to the places that a person named; no harness has a say in them.

use super::send::Trouble;
use super::target::{Place, TlsFiles};
use crate::proxy::Roots;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection, in TLS or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects. `protocol` is what is spoken inside TLS, where it has a name.
pub(super) async fn connect(place: &Place, protocol: Option<&[u8]>) -> Result<Box<dyn Stream>, Trouble> {
    let Place { host, port, tls } = place;
    let unreachable = |error: std::io::Error| Trouble::new(format!("it cannot be reached at {host}:{port}: {error}"));
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
    let Some(files) = tls else { return Ok(Box::new(stream)) };
    let mut config = client_config(files)?;
    config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
    let name = ServerName::try_from(host.clone());
    let name = name.map_err(|_| Trouble::new(format!("no certificate can be for `{host}`")))?;
    let secured = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = secured.map_err(|error| Trouble::new(format!("TLS with {host}:{port} failed: {error}")))?;
    Ok(Box::new(stream))
}

fn client_config(files: &TlsFiles) -> Result<ClientConfig, Trouble> {
    let roots = match &files.ca {
        Some(path) => {
            let pem = read(path)?;
            if CertificateDer::pem_slice_iter(&pem).flatten().next().is_none() {
                return Err(Trouble::new(format!("{} holds no certificate", path.display())));
            }
            Roots::from_pem(pem, None)
        }
        None => Roots::from_system(None),
    };
    let config = roots.and_then(|roots| roots.client_config());
    let mut config = config.map_err(|error| Trouble::new(error.to_string()))?;
    if let Some((certificate, key)) = &files.own {
        config.client_auth_cert_resolver = Arc::new(own_certificate(&config, certificate, key)?);
    }
    Ok(config)
}

/// The one certificate that omni has for a place.
fn own_certificate(config: &ClientConfig, certificate: &Path, key: &Path) -> Result<SingleCertAndKey, Trouble> {
    let unusable = |path: &Path, why: String| Trouble::new(format!("{} cannot be used: {why}", path.display()));
    let pem = read(certificate)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(certificate, error.to_string()))?;
    let pem = zeroize::Zeroizing::new(read(key)?);
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(key, error.to_string()))?;
    let certified = CertifiedKey::from_der(chain, secret, config.crypto_provider());
    certified.map(SingleCertAndKey::from).map_err(|error| unusable(key, error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    std::fs::read(path).map_err(|error| Trouble::new(format!("{} cannot be read: {error}", path.display())))
}
