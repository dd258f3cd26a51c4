//! What can keep the proxy from running.

/// Why the proxy could not start or go on. What goes wrong with one connection is answered and recorded instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A certificate could not be made.
    #[error("cannot make a certificate for {what}: {source}")]
    Certificate {
        /// Whom it was for.
        what: String,
        /// What the library says.
        source: rcgen::Error,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS for {what}: {source}")]
    Tls {
        /// Whom it was for.
        what: String,
        /// What the library says.
        source: rustls::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {cause}")]
    Entropy {
        /// What the system says.
        cause: getrandom::Error,
    },
    /// The extra roots hold no certificate.
    #[error("the extra roots hold no certificate: give a file with `-----BEGIN CERTIFICATE-----` blocks")]
    ExtraRoots,
    /// A secret's value cannot stand in a header.
    #[error("the secret `{name}` cannot be put into a header: its value has a line break or another control character")]
    SecretValue {
        /// The secret's name.
        name: String,
    },
    /// A secret's value is not what its place wants.
    #[error("the secret `{name}` cannot be used: {reason}")]
    SecretDocument {
        /// The secret's name.
        name: String,
        /// What is wrong with its value, and nothing of it.
        reason: String,
    },
    /// A listener or the runtime could not be used.
    #[error("cannot start the proxy: {step}: {source}")]
    Start {
        /// What was being done.
        step: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The first fact could not be recorded.
    #[error("cannot start the proxy: its journal cannot be written; free some disk space and try again")]
    NotRecorded,
    /// A placeholder that could not be found again where it does not belong.
    #[error("the placeholder of the secret `{name}` has no mark by which it can be found again")]
    Placeholder {
        /// The secret's name.
        name: String,
    },
    /// Two secrets are both to be put into one place.
    #[error(
        "the secrets `{first}` and `{second}` are both to be put into {place}: leave one out, or give one a longer `path`"
    )]
    SecretsInOnePlace {
        /// One secret's name.
        first: String,
        /// The other's.
        second: String,
        /// The place.
        place: String,
    },
    /// A header of a binding is not a header's name.
    #[error("{header} cannot be, so the secret `{name}` has no place")]
    Header {
        /// The secret's name.
        name: String,
        /// What was written.
        header: String,
    },
}
