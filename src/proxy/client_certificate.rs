//! Certificates of clients: presented to the one host and port that a secret is bound to, where the server asks for one in its
//! handshake. The key signs there, in this process, and goes nowhere.

use super::ProxyError;
use super::roots::{Roots, provider};
use crate::model::{Host, HostName, Port};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, SignatureScheme};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::TlsConnector;

/// Most certificates that stand with a key: its own and those of the authorities between it and a root.
const CHAIN_MAX: usize = 16;

/// A certificate, its key, and when it holds.
pub(super) struct Identity {
    key: Arc<CertifiedKey>,
    /// From when to when it holds, in seconds since 1970.
    valid: (i64, i64),
}

impl Identity {
    /// Reads PEM: the client's certificate, those between it and a root, and its key, in any order of the two kinds.
    ///
    /// The error is for a person and holds nothing of the key.
    pub(super) fn parse(pem: &str) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().take(CHAIN_MAX).collect();
        let first = chain.first().ok_or("it holds no certificate: add the source of one as `certificate`")?;
        let valid = validity(first).ok_or("its certificate cannot be read")?;
        if pem.contains("ENCRYPTED") {
            return Err("its key is encrypted: give it without a passphrase, from omni's store".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "it holds no private key".to_owned())?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => "its key is not the key of its certificate".to_owned(),
            _ => "its key is of a kind that cannot be used".to_owned(),
        })?;
        Ok(Self { key: Arc::new(key), valid })
    }

    /// Why it does not hold at a moment, if it does not.
    fn problem(&self, now: SystemTime) -> Option<String> {
        let (from, until) = self.valid;
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        let day = |at: i64| jiff::Timestamp::from_second(at).map_or_else(|_| String::new(), |at| at.to_string());
        if now > until {
            return Some(format!("it expired at {}", day(until)));
        }
        (now < from).then(|| format!("it does not hold before {}; is this machine's clock right?", day(from)))
    }
}

/// One secret's certificate, as it is at the moment.
pub(super) struct Presented {
    secret: String,
    current: RwLock<Arc<Identity>>,
}

impl Presented {
    /// The certificate of the secret of this name.
    pub(super) fn new(secret: String, identity: Identity) -> Arc<Self> {
        Arc::new(Self { secret, current: RwLock::new(Arc::new(identity)) })
    }

    /// Presents another from now on. Connections that stand were made by the one before.
    pub(super) fn replace(&self, identity: Identity) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }

    fn current(&self) -> Arc<Identity> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presented({})", self.secret)
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A place, and the settings of connections there: those that speak HTTP/2 too, and those that do not.
struct Place {
    presented: Arc<Presented>,
    connectors: [OnceLock<TlsConnector>; 2],
}

/// The certificates of a session, each at its places alone.
#[derive(Default)]
pub(super) struct ClientCertificates(HashMap<(HostName, Port), Place>);

impl ClientCertificates {
    /// Presents a certificate at one more place.
    pub(super) fn add(&mut self, host: HostName, port: Port, presented: Arc<Presented>) {
        self.0.insert((host, port), Place { presented, connectors: Default::default() });
    }

    /// How to connect to a place that has a certificate; none for others, which are never offered any.
    ///
    /// # Errors
    /// Why the certificate is of no use now.
    pub(super) fn connector(
        &self,
        (host, port): (&Host, Port),
        http1: bool,
        roots: &Roots,
    ) -> Option<Result<TlsConnector, Useless>> {
        let Host::Name(host) = host else { return None };
        let Place { presented, connectors } = self.0.get(&(host.clone(), port))?;
        let useless = |reason: String| Useless { secret: presented.secret.clone(), reason };
        if let Some(problem) = presented.current().problem(SystemTime::now()) {
            return Some(Err(useless(problem)));
        }
        let cell = &connectors[usize::from(http1)];
        let made = || -> Result<TlsConnector, ProxyError> {
            let mut config = roots.client_config()?;
            if http1 {
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
            }
            config.client_auth_cert_resolver = presented.clone();
            // What is resumed is resumed as who it was, whoever the certificate has become.
            config.resumption = Resumption::disabled();
            Ok(TlsConnector::from(Arc::new(config)))
        };
        Some(match cell.get() {
            Some(connector) => Ok(connector.clone()),
            None => made().map(|made| cell.get_or_init(|| made).clone()).map_err(|error| useless(error.to_string())),
        })
    }
}

/// A certificate cannot be presented.
pub(super) struct Useless {
    /// The secret that it is.
    pub(super) secret: String,
    /// Why.
    pub(super) reason: String,
}

/// Says what a server's alert about the client's certificate means, where an error is one. In the newest TLS it comes after the
/// handshake, when the client believes that all is well.
pub(super) fn explained(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = tls else { return error };
    let said = match alert {
        AlertDescription::CertificateRequired => {
            "the server wants a client's certificate, and got none: bind one to it by `client_certificate: true`"
        }
        AlertDescription::CertificateExpired => "the server finds the client's certificate expired",
        AlertDescription::CertificateRevoked => "the server finds the client's certificate revoked",
        AlertDescription::UnknownCA => "the server does not know who signed the client's certificate",
        AlertDescription::DecryptError => "the server cannot verify what the client's certificate is signed by",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "the server does not accept the client's certificate",
        _ => return error,
    };
    io::Error::new(io::ErrorKind::PermissionDenied, said)
}

/// Whether an error was made by [`explained`]: no socket says this without a number of the system's.
pub(super) fn is_explained(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

const SEQUENCE: u8 = 0x30;
/// `UTCTime`, with two digits of the year, and `GeneralizedTime`, with four (X.690, section 11).
const TIMES: [(u8, usize); 2] = [(0x17, 2), (0x18, 4)];
/// The explicit tag of a certificate's version.
const VERSION: u8 = 0xa0;

/// From when to when a certificate holds (RFC 5280, section 4.1.2.5), in seconds since 1970.
fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, body, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = element(body).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Its number, the kind of its signature, and who signed it.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, times, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, from, rest) = element(times)?;
    let (last, until, _) = element(rest)?;
    Some((seconds(tag, from)?, seconds(last, until)?))
}

/// The first element of DER: its tag, what is in it, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ ..0x80 => (short, rest),
        long => {
            let (bytes, rest) =
                rest.split_at_checked(long & 0x7f).filter(|(bytes, _)| (1..=4).contains(&bytes.len()))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// A time of a certificate, in the one form that RFC 5280 has for each kind.
fn seconds(tag: u8, written: &[u8]) -> Option<i64> {
    let (_, digits) = TIMES.into_iter().find(|(known, _)| *known == tag)?;
    let text = std::str::from_utf8(written).ok()?.strip_suffix('Z')?;
    if text.len() != digits + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at(digits);
    let year: i16 = year.parse().ok()?;
    let year = match (digits, year) {
        (2, 50..) => 1900 + year,
        (2, _) => 2000 + year,
        _ => year,
    };
    let part = |at: usize| rest[at..at + 2].parse::<i8>().ok();
    let date = jiff::civil::Date::new(year, part(0)?, part(2)?).ok()?;
    let time = jiff::civil::Time::new(part(4)?, part(6)?, part(8)?, 0).ok()?;
    let at = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(at.timestamp().as_second())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::Duration;

    fn made(from: i32, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn at(year: i16) -> SystemTime {
        let second = jiff::civil::date(year, 6, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second();
        UNIX_EPOCH + Duration::from_secs(u64::try_from(second).unwrap())
    }

    #[test]
    fn a_certificate_holds_from_its_beginning_to_its_end() {
        // One of the times has two digits of its year, the other four.
        let (certificate, key) = made(2020, 2055);
        let identity = Identity::parse(&format!("{key}{certificate}")).unwrap();
        assert_eq!(identity.problem(at(2026)), None);
        assert_eq!(identity.problem(at(2055)).unwrap(), "it expired at 2055-01-01T00:00:00Z");
        assert!(identity.problem(at(2019)).unwrap().starts_with("it does not hold before 2020-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_certificate_with_its_key_says_what_is_missing() {
        let ((certificate, key), (_, another)) = (made(2020, 2055), made(2020, 2055));
        let why = |pem: String| Identity::parse(&pem).err().unwrap();
        assert!(why(key.clone()).starts_with("it holds no certificate"));
        assert_eq!(why(certificate.clone()), "it holds no private key");
        assert_eq!(why(format!("{certificate}{another}")), "its key is not the key of its certificate");
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(why(format!("{certificate}{locked}")).contains("without a passphrase"));
        let broken = format!("{certificate}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        assert_eq!(why(broken), "its key is of a kind that cannot be used");
    }

    #[test]
    fn any_bytes_are_read_as_a_certificate_without_a_panic() {
        let (certificate, _) = made(2020, 2055);
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        assert!(validity(&der).is_some());
        for end in 0..der.len() {
            assert_eq!(validity(&der[..end]), None);
        }
        for at in 0..der.len().min(120) {
            let mut other = der.to_vec();
            other[at] ^= 0x85;
            let _ = validity(&other);
        }
    }
}
