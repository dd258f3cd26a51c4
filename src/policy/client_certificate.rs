//! Secrets that are a client's certificate and its key, which the proxy presents in TLS handshakes: what `secrets:` may say of
//! them.

use super::document::Node;
use super::error::Complaint;
use super::read_secret::read_sources;
use super::secret::{Mode, Place, SecretSource, Site};

/// Who puts the secret into its place: a certificate's key signs a handshake that the proxy makes, and nothing of the sandbox's
/// stands for it.
pub(super) fn mode(mode: Mode, sites: &[Site], whole: &Complaint, complaints: &mut Vec<Complaint>) -> Mode {
    let is_certificate = |site: &&Site| site.place == Place::ClientCertificate;
    if !sites.iter().any(|site| is_certificate(&site)) {
        return mode;
    }
    let mut complain = |message: &str, hint: &str| {
        complaints.push(Complaint { message: message.to_owned(), hint: Some(hint.to_owned()), ..whole.clone() });
    };
    if !sites.iter().all(|site| is_certificate(&site)) {
        complain("a client's certificate has another place, too", "declare what stands in requests as another secret");
    }
    if sites.iter().any(|site| site.path != "/") {
        let hint = "leave `path` out: a connection is for every path";
        complain("a client's certificate is for one path", hint);
    }
    Mode::Inject
}

/// Reads `certificate:`, where the certificate is that belongs to the key.
pub(super) fn sources(node: Option<Node>, sites: &[Site], complaints: &mut Vec<Complaint>) -> Vec<SecretSource> {
    let Some(node) = node else { return Vec::new() };
    if !sites.iter().any(|site| site.place == Place::ClientCertificate) {
        let hint = "add `client_certificate: true`, or remove it";
        complaints.push(node.complaint("`certificate` belongs to a client's key, and the secret is none", hint));
    }
    read_sources(node, complaints)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::secret::SecretSpec;
    use super::*;

    fn read(more: &str) -> Result<SecretSpec, String> {
        let text = format!("name: mesh\nfrom: file:/k.pem\nhost: a.example\n{more}");
        SecretSpec::parse("test", &text).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_sandbox_holds_nothing_of_a_client_certificate() {
        let spec = read("port: 8443\nclient_certificate: true\ncertificate: file:/c.pem").unwrap();
        assert_eq!((spec.mode, spec.placeholder_env.len(), spec.is_document()), (Mode::Inject, 0, true));
        assert_eq!(spec.certificate, [SecretSource::File("/c.pem".to_owned())]);
        assert_eq!(spec.sites[0].to_string(), "the client's certificate of requests to https://a.example:8443");
    }

    #[test]
    fn a_client_certificate_is_for_whole_connections_alone() {
        for (more, expected) in [
            ("client_certificate: true\npath: /v1", "is for one path"),
            ("client_certificate: true\nplaceholder: { env: KEY }", "is injected, and has a placeholder"),
            ("bearer: true\ncertificate: file:/c.pem", "the secret is none"),
            ("client_certificate: 1", "can only be `true`"),
        ] {
            let said = read(more).unwrap_err();
            assert!(said.contains(expected), "{more}: {said}");
        }
    }
}
