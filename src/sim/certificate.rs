//! The simulated provider's identity: a CA made at start, and one certificate for every name it answers to.

use super::SimError;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The names and addresses that the certificate is good for.
const NAMES: [&str; 9] = [
    "api.anthropic.com",
    "platform.claude.com",
    "api.openai.com",
    "chatgpt.com",
    "generativelanguage.googleapis.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "localhost",
    "127.0.0.1",
    "::1",
];
/// Seconds in a day.
const DAY: i64 = 86_400;
/// Days the certificates are good for, from a day before their making.
const VALID_DAYS: i64 = 30;

/// A CA's certificate, and how to answer TLS in its name.
pub(super) struct Identity {
    pub(super) ca_pem: String,
    pub(super) tls: Arc<rustls::ServerConfig>,
}

impl Identity {
    /// Makes a CA and a certificate; their keys live in this process alone.
    pub(super) fn generate() -> Result<Self, SimError> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(DnType::CommonName, "omni sim rehearsal CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_now(&mut ca);
        let certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
        leaf.distinguished_name.push(DnType::CommonName, "omni sim");
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid_now(&mut leaf);
        let leaf = leaf.signed_by(&key, &issuer)?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { ca_pem: certificate.pem(), tls: Arc::new(tls) })
    }
}

fn valid_now(params: &mut CertificateParams) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_secs()).unwrap_or_default();
    let date = |second: i64| {
        let moment = jiff::Timestamp::from_second(second).unwrap_or_default();
        let date = moment.to_zoned(jiff::tz::TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = date(now - DAY);
    params.not_after = date(now + (VALID_DAYS - 1) * DAY);
}
