//! The session's own certificate authority: a key that lives for one session and signs for the names it visits.
//!
//! Leaves are signed with a key of their own, so that no server key can ever sign for another. Neither key is written
//! anywhere.

use super::ProxyError;
use crate::model::{Host, SessionId};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long the authority is valid: longer than any session is meant to be.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far back it is valid: a clock that was wrong when the session began is set back by weeks, seldom by more.
const BACK: Duration = LIFETIME;
/// How long a leaf is valid.
const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long before its end a leaf is made anew, so that no handshake ever meets one that is about to end.
const RENEWED_BEFORE: Duration = Duration::from_secs(60 * 60);
/// How far the validity of a leaf reaches back, for clocks that differ a little.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// How many leaves are kept; the oldest goes first.
const LEAVES_MAX: usize = 1024;
/// How many TLS sessions of one name can be resumed.
const RESUMPTIONS_MAX: usize = 64;
/// How many of them a handshake makes. Whoever resumes one gets another.
const TICKETS: usize = 1;
/// What is spoken inside TLS, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate authority of one session.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    since: SystemTime,
    until: SystemTime,
    leaf_key: KeyPair,
    /// The same key as TLS signs with it: reading it anew for each host would take longer than signing.
    signer: Arc<dyn SigningKey>,
    leaves: Mutex<Leaves>,
}

/// The leaves made so far, oldest first in `order`.
#[derive(Default)]
struct Leaves {
    by_host: HashMap<Host, Leaf>,
    order: VecDeque<Host>,
}

/// What a server that stands for a host needs, and when it is to be made anew.
struct Leaf {
    config: Arc<ServerConfig>,
    /// Before that it is not valid yet, which a clock that is set back comes to.
    since: SystemTime,
    renewed: SystemTime,
}

impl Leaf {
    fn is_good(&self, now: SystemTime) -> bool {
        (self.since..self.renewed).contains(&now)
    }
}

impl Authority {
    /// Makes a fresh authority, valid for the 30 days before `now` and those after it.
    ///
    /// # Errors
    /// [`ProxyError::Certificate`] when no key can be made.
    pub fn generate(session: &SessionId, now: SystemTime) -> Result<Self, ProxyError> {
        let failed = |source| ProxyError::Certificate { what: "the session's authority".to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let (since, until) = (now - BACK, now + LIFETIME);
        let mut params = CertificateParams::default();
        params.distinguished_name = called(&format!("omni session {session}"));
        params.not_before = since.into();
        params.not_after = until.into();
        params.serial_number = Some(serial()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let leaf_key = KeyPair::generate().map_err(failed)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            since,
            until,
            signer: signer(&leaf_key)?,
            leaf_key,
            leaves: Mutex::default(),
        })
    }

    /// The authority's certificate, which the sandbox is to trust, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the certificate's DER, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&self.certificate).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a TLS server that stands for `host` needs; made once per host and day.
    pub(super) fn server_config(&self, host: &Host) -> Result<Arc<ServerConfig>, ProxyError> {
        self.server_config_at(host, SystemTime::now())
    }

    fn server_config_at(&self, host: &Host, now: SystemTime) -> Result<Arc<ServerConfig>, ProxyError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let known = leaves.by_host.get(host);
        if let Some(leaf) = known.filter(|leaf| leaf.is_good(now)) {
            return Ok(leaf.config.clone());
        }
        let is_new = known.is_none();
        let config = Arc::new(self.sign(host, now)?);
        if is_new {
            if leaves.order.len() >= LEAVES_MAX
                && let Some(oldest) = leaves.order.pop_front()
            {
                leaves.by_host.remove(&oldest);
            }
            leaves.order.push_back(host.clone());
        }
        let (since, renewed) = (now - BACKDATED, now + LEAF_LIFETIME - RENEWED_BEFORE);
        let leaf = Leaf { config: config.clone(), since, renewed };
        leaves.by_host.insert(host.clone(), leaf);
        Ok(config)
    }

    fn sign(&self, host: &Host, now: SystemTime) -> Result<ServerConfig, ProxyError> {
        let leaf = self.leaf(host, now).map_err(|source| ProxyError::Certificate { what: host.to_string(), source })?;
        let tls = |source| ProxyError::Tls { what: host.to_string(), source };
        let certified = CertifiedKey::new(vec![leaf, self.certificate.clone()], self.signer.clone());
        let mut config = ServerConfig::builder_with_provider(super::roots::provider())
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.session_storage = ServerSessionMemoryCache::new(RESUMPTIONS_MAX);
        config.send_tls13_tickets = TICKETS;
        config.ignore_client_order = true;
        Ok(config)
    }

    /// A leaf that ends after a day, or with the authority. A client checks the subject alternative name; the subject is for people.
    fn leaf(&self, host: &Host, now: SystemTime) -> Result<CertificateDer<'static>, rcgen::Error> {
        let name = match host {
            Host::Name(name) => name.as_str().to_owned(),
            Host::Address(address) => address.to_string(),
        };
        let mut params = CertificateParams::new(vec![name])?;
        params.distinguished_name = called("omni session leaf");
        params.not_before = (now - BACKDATED).max(self.since).into();
        params.not_after = (now + LEAF_LIFETIME).min(self.until).into();
        params.serial_number = Some(serial().map_err(|_| rcgen::Error::RingUnspecified)?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&self.leaf_key, &self.issuer)?.der().clone())
    }
}

/// The key as TLS signs with it.
fn signer(key: &KeyPair) -> Result<Arc<dyn SigningKey>, ProxyError> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let loaded = super::roots::provider().key_provider.load_private_key(der);
    loaded.map_err(|source| ProxyError::Tls { what: "leaves".to_owned(), source })
}

fn called(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// A random serial number: two certificates of one issuer with the same number are refused by some clients.
fn serial() -> Result<SerialNumber, ProxyError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|cause| ProxyError::Entropy { cause })?;
    // The number must be positive.
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    fn authority() -> Authority {
        Authority::generate(&SessionId::from_entropy([7; 10]), SystemTime::now()).unwrap()
    }

    fn verifies(authority: &Authority, host: &str, as_name: &str, at: SystemTime) -> bool {
        let leaf = authority.leaf(&Host::parse(host).unwrap(), SystemTime::now()).unwrap();
        is_good(authority, &leaf, as_name, at)
    }

    fn is_good(authority: &Authority, leaf: &CertificateDer<'_>, as_name: &str, at: SystemTime) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let provider = super::super::roots::provider();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(as_name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(leaf, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn a_leaf_is_good_for_its_own_name_or_address_and_no_other() {
        let authority = authority();
        let now = SystemTime::now();
        assert!(verifies(&authority, "api.example.com", "api.example.com", now));
        assert!(verifies(&authority, "192.0.2.1", "192.0.2.1", now));
        assert!(verifies(&authority, "[2001:db8::1]", "2001:db8::1", now));
        assert!(!verifies(&authority, "api.example.com", "example.com", now));
        assert!(!verifies(&authority, "192.0.2.1", "192.0.2.2", now));
    }

    #[test]
    fn a_leaf_ends_after_a_day() {
        let end = SystemTime::now() + LEAF_LIFETIME;
        assert!(verifies(&authority(), "a.example", "a.example", end - Duration::from_secs(60)));
        assert!(!verifies(&authority(), "a.example", "a.example", end + Duration::from_secs(60)));
    }

    #[test]
    fn every_hour_of_a_month_has_a_leaf_that_is_good_for_another() {
        let (authority, host) = (authority(), Host::parse("a.example").unwrap());
        let (start, hour) = (SystemTime::now(), Duration::from_secs(60 * 60));
        let leaf_at = |now| authority.server_config_at(&host, now).unwrap();
        let (mut made, mut last) = (0, None);
        for hours in 0..30 * 24 {
            let now = start + hour * hours;
            let config = leaf_at(now);
            if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &config)) {
                made += 1;
                let leaf = authority.leaf(&host, now).unwrap();
                let until = now + LEAF_LIFETIME - Duration::from_secs(1);
                assert!(is_good(&authority, &leaf, "a.example", until.min(authority.until - hour / 60)), "{hours}");
            }
            last = Some(config);
        }
        assert_eq!((made, authority.leaves.lock().unwrap().order.len()), ((30 * 24_u32).div_ceil(23), 1));
    }

    #[test]
    fn a_leaf_is_renewed_an_hour_before_its_end() {
        let (authority, host) = (authority(), Host::parse("a.example").unwrap());
        let now = SystemTime::now();
        let first = authority.server_config_at(&host, now).unwrap();
        let renewed = now + LEAF_LIFETIME - RENEWED_BEFORE;
        let before = authority.server_config_at(&host, renewed - Duration::from_secs(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &before));
        assert!(!Arc::ptr_eq(&first, &authority.server_config_at(&host, renewed).unwrap()));
    }

    #[test]
    fn where_the_clock_is_set_back_a_leaf_is_made_that_is_good_then() {
        let (authority, host) = (authority(), Host::parse("a.example").unwrap());
        let now = SystemTime::now();
        let first = authority.server_config_at(&host, now).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.server_config_at(&host, now - BACKDATED).unwrap()));
        let back = now - Duration::from_secs(14 * 24 * 60 * 60);
        assert!(!is_good(&authority, &authority.leaf(&host, now).unwrap(), "a.example", back));
        assert!(!Arc::ptr_eq(&first, &authority.server_config_at(&host, back).unwrap()));
        assert!(is_good(&authority, &authority.leaf(&host, back).unwrap(), "a.example", back));
        assert!(!is_good(&authority, &authority.leaf(&host, back).unwrap(), "a.example", now), "and again later");
        assert!(!Arc::ptr_eq(&first, &authority.server_config_at(&host, now).unwrap()));
    }

    #[test]
    fn whoever_comes_first_together_shares_one_leaf() {
        let (authority, host) = (authority(), Host::parse("a.example").unwrap());
        let visit = || -> Vec<_> { (0..125).map(|_| authority.server_config(&host).unwrap()).collect() };
        let visits: Vec<_> = std::thread::scope(|scope| {
            let visitors: Vec<_> = (0..8).map(|_| scope.spawn(visit)).collect();
            visitors.into_iter().flat_map(|visitor| visitor.join().unwrap()).collect()
        });
        assert!(visits.len() == 1000 && visits.iter().all(|visit| Arc::ptr_eq(visit, &visits[0])));
    }

    #[test]
    fn no_leaf_outlives_its_authority() {
        let authority = authority();
        let late = authority.until - Duration::from_secs(120);
        let leaf = authority.leaf(&Host::parse("a.example").unwrap(), late).unwrap();
        assert!(is_good(&authority, &leaf, "a.example", late));
        assert!(!is_good(&authority, &leaf, "a.example", authority.until + Duration::from_secs(60)));
    }

    #[test]
    fn the_leaf_key_is_not_the_authoritys_key() {
        let authority = authority();
        assert_ne!(authority.leaf_key.public_key_raw(), authority.issuer.key().public_key_raw());
    }

    #[test]
    fn a_leaf_names_its_issuers_key() {
        let authority = authority();
        let leaf = authority.leaf(&Host::parse("a.example").unwrap(), SystemTime::now()).unwrap();
        // The object identifier 2.5.29.35, authorityKeyIdentifier.
        assert!(leaf.windows(5).any(|bytes| bytes == [0x06, 0x03, 0x55, 0x1d, 0x23]));
    }

    #[test]
    fn leaves_are_kept_and_bounded() {
        let authority = authority();
        let host = |index: usize| Host::parse(&format!("h{index}.example")).unwrap();
        let first = authority.server_config(&host(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.server_config(&host(0)).unwrap()));
        for index in 1..=LEAVES_MAX {
            authority.server_config(&host(index)).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &authority.server_config(&host(0)).unwrap()));
        assert!(authority.leaves.lock().unwrap().by_host.len() <= LEAVES_MAX);
    }
}
