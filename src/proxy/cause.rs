//! Why there is no answer from an upstream, as one word that programs can go by.

use super::client_certificate;
use rustls::CertificateError;
use std::io;

/// The header that has the word, for clients whose form of an error has no place for it.
pub(super) const HEADER: &str = "x-omni-cause";

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The name has no address.
    Dns,
    /// Its addresses are not dialled.
    NotPublic,
    /// Nobody listens.
    Refused,
    /// Nobody answered in time.
    TimedOut,
    /// No way leads there.
    Unreachable,
    /// The connection was ended without an answer.
    Reset,
    CertificateExpired,
    CertificateTooEarly,
    CertificateOfAnotherName,
    CertificateOfAnUnknownRoot,
    /// It is not good in another way.
    Certificate,
    /// The client's does not hold now.
    ClientCertificateExpired,
    /// The server wants one of the client's, or another.
    ClientCertificateRefused,
    /// The handshake failed otherwise.
    Tls,
    /// What came is not HTTP.
    Protocol,
    /// The proxy on the way there says no.
    UpstreamProxy,
}

impl Cause {
    /// The word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::NotPublic => "address_not_public",
            Self::Refused => "connection_refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Reset => "connection_reset",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateTooEarly => "certificate_not_yet_valid",
            Self::CertificateOfAnotherName => "certificate_wrong_name",
            Self::CertificateOfAnUnknownRoot => "certificate_unknown_root",
            Self::Certificate => "certificate_invalid",
            Self::ClientCertificateExpired => "client_certificate_expired",
            Self::ClientCertificateRefused => "client_certificate_refused",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::UpstreamProxy => "upstream_proxy",
        }
    }

    /// What a socket's error means.
    pub(super) fn of(error: &io::Error) -> Self {
        use io::ErrorKind;
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::of_tls(tls);
        }
        if client_certificate::is_explained(error) {
            return Self::ClientCertificateRefused;
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => {
                Self::Unreachable
            }
            ErrorKind::InvalidData => Self::Protocol,
            _ => Self::Reset,
        }
    }

    /// What an error of TLS means.
    pub(super) fn of_tls(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(why) = error else { return Self::Tls };
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::CertificateExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::CertificateTooEarly,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::CertificateOfAnotherName
            }
            CertificateError::UnknownIssuer => Self::CertificateOfAnUnknownRoot,
            _ => Self::Certificate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_socket_says_has_a_word() {
        use io::ErrorKind;
        let of = |kind: ErrorKind| Cause::of(&kind.into()).as_str();
        assert_eq!(of(ErrorKind::ConnectionRefused), "connection_refused");
        assert_eq!(of(ErrorKind::TimedOut), "timed_out");
        assert_eq!(of(ErrorKind::HostUnreachable), "unreachable");
        assert_eq!(
            (of(ErrorKind::ConnectionReset), of(ErrorKind::UnexpectedEof)),
            ("connection_reset", "connection_reset")
        );
        let certificate = |why| Cause::of_tls(&rustls::Error::InvalidCertificate(why)).as_str();
        assert_eq!(certificate(CertificateError::NotValidYet), "certificate_not_yet_valid");
        assert_eq!(certificate(CertificateError::Revoked), "certificate_invalid");
    }
}
