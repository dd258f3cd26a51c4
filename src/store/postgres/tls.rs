//! TLS to PostgreSQL: rustls, as everywhere else, with the server's certificate and name checked.

use super::address::StoreAddress;
use crate::store::StoreError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::client;

/// What makes one protected connection.
pub(super) struct Connector {
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    /// One that trusts the roots in this file, or those of the system.
    ///
    /// # Errors
    /// [`StoreError::StoreAway`] when there are no roots, or no certificate could bear the server's name.
    pub fn new(address: &StoreAddress, name: &str, roots: Option<&Path>) -> Result<Self, StoreError> {
        let failed = |cause: String| StoreError::StoreAway { store: address.to_string(), cause };
        let mut trusted = RootCertStore::empty();
        match roots {
            Some(path) => {
                let wrong = |error| failed(format!("the roots in {} cannot be used: {error}", path.display()));
                for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
                    let added = trusted.add(certificate.map_err(wrong)?);
                    added.map_err(|error| failed(format!("a root in {} is none: {error}", path.display())))?;
                }
            }
            None => drop(trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if trusted.is_empty() {
            return Err(failed(
                "there is no root certificate to check the server's with; name one by sslrootcert".to_owned(),
            ));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| failed(error.to_string()))?;
        let config = builder.with_root_certificates(trusted).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).map_err(|error| failed(error.to_string()))?;
        Ok(Self { connector: Arc::new(config).into(), name })
    }
}

impl TlsConnect<TcpStream> for Connector {
    type Stream = Protected;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Protected>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        let handshake = self.connector.connect(self.name, stream);
        Box::pin(async move { handshake.await.map(|stream| Protected(Box::new(stream))) })
    }
}

/// A protected connection.
pub(super) struct Protected(Box<client::TlsStream<TcpStream>>);

impl TlsStream for Protected {
    /// None: the certificate and the name in it are checked, which binds the password to the server already.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Protected {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Protected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
