//! The trusted certificates as Java reads them: PKCS #12 (RFC 7292) that is neither encrypted nor sealed with a password, since
//! nothing in it is secret.
//!
//! What makes Java trust an entry is an attribute of its own beside the certificate. Without a seal, Java asks for no password
//! and takes any.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem::{Finder, find};

/// Longest certificate that is taken over, as PEM: several times what any authority's is.
const PEM_BYTES_MAX: usize = 64 * 1024;
/// Most certificates that are taken over.
const CERTIFICATES_MAX: usize = 4_096;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTETS: u8 = 0x04;
/// A string of two bytes for each letter.
const BMP_STRING: u8 = 0x1e;
/// The explicit tag 0.
const TAGGED: u8 = 0xa0;

/// Object identifiers, with tag and length: `data` of PKCS #7, the bag of a certificate, an X.509 certificate, the name of an
/// entry, Oracle's mark of an entry that is trusted, and what it is trusted for, which is everything.
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const CERTIFICATE_BAG: &[u8] = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x03";
const X509: &[u8] = b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x09\x16\x01";
const FRIENDLY_NAME: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x14";
const TRUSTED_USAGE: &[u8] = b"\x06\x0c\x60\x86\x48\x01\x86\xf9\x66\xad\xca\x7b\x01\x01";
const ANY_USAGE: &[u8] = b"\x06\x04\x55\x1d\x25\x00";
const VERSION_3: &[u8] = b"\x02\x01\x03";

/// The key store of every certificate that stands in these PEM texts, each trusted, in two parts: the second is long, and is
/// made in one go.
pub(super) fn key_store(parts: &[&[u8]]) -> [Vec<u8>; 2] {
    // As DER, with all that is around it, a certificate is shorter than as PEM.
    let mut bags = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    let (mut count, mut text) = (0, Vec::new());
    for part in parts {
        each_certificate(part, &mut text, |base64| {
            if count < CERTIFICATES_MAX && bag(&mut bags, base64, count).is_some() {
                count += 1;
            }
        });
    }
    [head_of_store(bags.len()), bags]
}

/// Everything before the bags: `PFX` with `ContentInfo` of the type `data`, whose one element is another, of the bags.
fn head_of_store(bags: usize) -> Vec<u8> {
    let mut head = around(SEQUENCE, Vec::new(), bags);
    for before in [&[][..], VERSION_3] {
        // Each head is around all that came before it, from the inside out.
        head = around(OCTETS, head, bags);
        head = around(TAGGED, head, bags);
        head.splice(0..0, DATA.iter().copied());
        head = around(SEQUENCE, head, bags);
        head.splice(0..0, before.iter().copied());
        head = around(SEQUENCE, head, bags);
    }
    head
}

fn around(tag: u8, inner: Vec<u8>, bags: usize) -> Vec<u8> {
    let mut outer = Vec::new();
    head(&mut outer, tag, inner.len() + bags);
    outer.extend(inner);
    outer
}

/// `SafeBag` of one trusted certificate, under a name that no other has; none for what is no certificate.
fn bag(bags: &mut Vec<u8>, base64: &[u8], number: usize) -> Option<()> {
    let padding = base64.iter().rev().take_while(|byte| **byte == b'=').count();
    let length = (base64.len() / 4 * 3).checked_sub(padding)?;
    let name: Vec<u8> = format!("omni-{number}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    let called = Sizes::of_attribute(FRIENDLY_NAME, size(name.len()));
    let trusted = Sizes::of_attribute(TRUSTED_USAGE, ANY_USAGE.len());
    let attributes = size(called.whole) + size(trusted.whole);
    // From the inside out.
    let octets = size(length);
    let kind_and_value = X509.len() + size(octets);
    let certificate = size(kind_and_value);
    let whole = CERTIFICATE_BAG.len() + size(certificate) + size(attributes);
    let start = bags.len();
    head(bags, SEQUENCE, whole);
    bags.extend_from_slice(CERTIFICATE_BAG);
    head(bags, TAGGED, certificate);
    head(bags, SEQUENCE, kind_and_value);
    bags.extend_from_slice(X509);
    head(bags, TAGGED, octets);
    head(bags, OCTETS, length);
    let contents = bags.len();
    let decoded = STANDARD.decode_vec(base64, bags).is_ok();
    if !decoded || bags.get(contents) != Some(&SEQUENCE) || bags.len() != contents + length {
        bags.truncate(start);
        return None;
    }
    head(bags, SET, attributes);
    called.begin(bags, FRIENDLY_NAME);
    head(bags, BMP_STRING, name.len());
    bags.extend_from_slice(&name);
    trusted.begin(bags, TRUSTED_USAGE);
    bags.extend_from_slice(ANY_USAGE);
    Some(())
}

/// How long an attribute is, and the set of its one value.
struct Sizes {
    whole: usize,
    set: usize,
}

impl Sizes {
    /// Of one of this kind, with a value that is so long with all that is around it.
    fn of_attribute(kind: &[u8], value: usize) -> Self {
        Self { whole: kind.len() + size(value), set: value }
    }

    /// Writes what comes before the value.
    fn begin(&self, out: &mut Vec<u8>, kind: &[u8]) {
        head(out, SEQUENCE, self.whole);
        out.extend_from_slice(kind);
        head(out, SET, self.set);
    }
}

/// How long an element of DER is, of contents that are so long.
fn size(contents: usize) -> usize {
    1 + 1 + if contents < 0x80 { 0 } else { significant(&contents.to_be_bytes()).len() } + contents
}

/// Writes tag and length of an element, the length in as few bytes as it takes.
fn head(out: &mut Vec<u8>, tag: u8, length: usize) {
    let bytes = length.to_be_bytes();
    out.push(tag);
    match (u8::try_from(length), significant(&bytes)) {
        (Ok(short @ ..0x80), _) => out.push(short),
        // At most eight bytes.
        (_, long) => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
}

fn significant(bytes: &[u8; size_of::<usize>()]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

/// Gives every certificate of a PEM text, in base 64 without breaks; what is none is passed over, as every reader of such
/// bundles does.
fn each_certificate(pem: &[u8], text: &mut Vec<u8>, mut act: impl FnMut(&[u8])) {
    let begin = Finder::new(b"-----BEGIN CERTIFICATE-----");
    let mut rest = pem;
    while let Some(at) = begin.find(rest) {
        rest = &rest[at + begin.needle().len()..];
        let Some(end) = find(&rest[..rest.len().min(PEM_BYTES_MAX)], b"-----END") else { continue };
        text.clear();
        rest[..end].split(u8::is_ascii_whitespace).for_each(|line| text.extend_from_slice(line));
        act(text);
        rest = &rest[end..];
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// The store of two certificates, of which OpenSSL lists what is in it.
    #[test]
    fn another_reader_finds_every_certificate() {
        let made = |seed| {
            super::super::Authority::generate(
                &crate::model::SessionId::from_entropy([seed; 10]),
                std::time::SystemTime::now(),
            )
            .unwrap()
        };
        let (one, two) = (made(1), made(2));
        let odd = b"# a comment\n-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nMII";
        let crlf = two.certificate_pem().replace('\n', "\r\n");
        let store = key_store(&[one.certificate_pem().as_bytes(), odd, crlf.as_bytes()]).concat();
        let place = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(place.path(), &store).unwrap();
        let openssl = Command::new("openssl")
            .args(["pkcs12", "-nomac", "-passin", "pass:", "-nokeys", "-in"])
            .arg(place.path())
            .stderr(Stdio::null())
            .output();
        let text = String::from_utf8(openssl.unwrap().stdout).unwrap();
        let lines = |pem: &str| pem.lines().map(str::to_owned).collect::<Vec<_>>().join("\n");
        assert!(text.contains(lines(one.certificate_pem()).trim()), "{text}");
        assert!(text.contains(lines(two.certificate_pem()).trim()), "{text}");
        assert_eq!(text.matches("friendlyName: omni-").count(), 2, "{text}");
    }

    #[test]
    fn lengths_take_as_few_bytes_as_they_need() {
        for (length, expected) in [
            (0, &[OCTETS, 0][..]),
            (0x7f, &[OCTETS, 0x7f]),
            (0x80, &[OCTETS, 0x81, 0x80]),
            (0xff, &[OCTETS, 0x81, 0xff]),
            (0x100, &[OCTETS, 0x82, 1, 0]),
            (0x1_0000, &[OCTETS, 0x83, 1, 0, 0]),
        ] {
            let mut written = Vec::new();
            head(&mut written, OCTETS, length);
            assert_eq!(written, expected);
            assert_eq!(size(length), written.len() + length);
        }
    }

    #[test]
    fn a_host_without_certificates_has_an_empty_store() {
        let empty = key_store(&[b"", b"no certificate"]).concat();
        assert_eq!(usize::from(empty[1]), empty.len() - 2);
    }
}
