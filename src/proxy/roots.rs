//! Whom the proxy trusts to vouch for upstreams: the host's own roots, and those the user adds.
//!
//! The bytes are read while there still is a file system; they are parsed when the first upstream needs them.

use super::key_store::key_store;
use super::{Authority, ProxyError};
use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Where systems keep all their roots in one file, as Go's standard library looks for them.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// What is spoken inside TLS to upstreams, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The suite that is asked for first, and taken where a client offers it: processors have instructions for all of it, hashing
/// included, and a handshake hashes a lot.
const PREFERRED: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;

/// The one cryptography this program uses.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != PREFERRED);
        Arc::new(provider)
    };
    PROVIDER.get_or_init(make).clone()
}

/// The roots for verifying upstreams, as PEM texts that were read and not parsed yet.
pub struct Roots {
    system: Vec<u8>,
    extra: Vec<u8>,
    builtin: bool,
}

impl Roots {
    /// Reads the host's roots now: the file that `SSL_CERT_FILE` names, else the system's bundle. A host that has none
    /// gets Mozilla's, which are built in. `extra_pem` is trusted as well.
    ///
    /// # Errors
    /// [`ProxyError::ExtraRoots`] when `extra_pem` holds no certificate.
    pub fn from_system(extra_pem: Option<&[u8]>) -> Result<Self, ProxyError> {
        let named = std::env::var_os("SSL_CERT_FILE");
        let places = named.iter().map(Path::new).chain(BUNDLES.iter().map(Path::new));
        let bundle = places.filter_map(|place| std::fs::read(place).ok()).find(|bytes| !bytes.is_empty());
        let system = bundle.unwrap_or_else(native);
        Self::from_pem(system, extra_pem)
    }

    /// Roots out of PEM text alone; an empty `system` means Mozilla's.
    ///
    /// # Errors
    /// [`ProxyError::ExtraRoots`] when `extra_pem` holds no certificate.
    pub fn from_pem(system: Vec<u8>, extra_pem: Option<&[u8]>) -> Result<Self, ProxyError> {
        let extra = extra_pem.unwrap_or_default().to_vec();
        if extra_pem.is_some() && CertificateDer::pem_slice_iter(&extra).flatten().next().is_none() {
            return Err(ProxyError::ExtraRoots);
        }
        Ok(Self { builtin: system.is_empty(), system, extra })
    }

    /// The bundle that programs in the sandbox are to trust, in parts: the host's roots and the session's authority, as PEM.
    #[must_use]
    pub fn bundle<'a>(&'a self, authority: &'a Authority) -> Vec<&'a [u8]> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in [&self.system[..], &self.extra, authority.certificate_pem().as_bytes()] {
            if parts.last().is_some_and(|last| !last.is_empty() && !last.ends_with(b"\n")) {
                parts.push(b"\n");
            }
            parts.push(part);
        }
        parts
    }

    /// The same for Java, which reads no PEM: a key store without a password (PKCS #12), in parts.
    #[must_use]
    pub fn key_store(&self, authority: &Authority) -> [Vec<u8>; 2] {
        key_store(&[&self.system, &self.extra, authority.certificate_pem().as_bytes()])
    }

    /// What a TLS client that verifies against these roots needs. Costs milliseconds: it parses all of them.
    ///
    /// # Errors
    /// [`ProxyError::Tls`] when there is none to be had.
    pub fn client_config(&self) -> Result<ClientConfig, ProxyError> {
        let mut store = RootCertStore::empty();
        for pem in [&self.system, &self.extra] {
            store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
        }
        if self.builtin {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| ProxyError::Tls { what: "upstreams".to_owned(), source })?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// The host's roots where they are not in one well-known file, as PEM.
fn native() -> Vec<u8> {
    use base64::Engine as _;
    let mut pem = String::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        let text = base64::engine::general_purpose::STANDARD.encode(&certificate);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem.into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::SessionId;
    use std::time::SystemTime;

    #[test]
    fn the_bundle_holds_the_hosts_roots_and_the_sessions_authority() {
        let session = SessionId::from_entropy([1; 10]);
        let host = Authority::generate(&session, SystemTime::now()).unwrap();
        let ours = Authority::generate(&session, SystemTime::now()).unwrap();
        let roots = Roots::from_pem(host.certificate_pem().trim_end().as_bytes().to_vec(), None).unwrap();
        let bundle = roots.bundle(&ours).concat();
        assert_eq!(CertificateDer::pem_slice_iter(&bundle).flatten().count(), 2);
    }

    #[test]
    fn a_host_without_roots_gets_the_built_in_ones() {
        let roots = Roots::from_pem(Vec::new(), None).unwrap();
        assert!(roots.builtin && roots.client_config().is_ok());
    }

    #[test]
    fn extra_roots_must_be_certificates() {
        assert!(matches!(Roots::from_pem(Vec::new(), Some(b"hello")), Err(ProxyError::ExtraRoots)));
    }
}
