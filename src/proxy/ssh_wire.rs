//! The words of an SSH agent's protocol (draft-miller-ssh-agent), and what of SSH's own stands in them (RFC 4251, 4252, 4253;
//! OpenSSH's PROTOCOL and PROTOCOL.agent).

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

/// What a client asks for.
pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const EXTENSION: u8 = 27;
/// What an agent answers.
pub(super) const FAILURE: u8 = 5;
pub(super) const SUCCESS: u8 = 6;
pub(super) const IDENTITIES_ANSWER: u8 = 12;
pub(super) const SIGN_RESPONSE: u8 = 14;
/// The extension by which OpenSSH tells to which host a connection leads.
pub(super) const SESSION_BIND: &[u8] = b"session-bind@openssh.com";
/// SSH_MSG_USERAUTH_REQUEST (RFC 4252, section 6).
const USERAUTH_REQUEST: u8 = 50;
/// The ways of logging in by a key, the second of which names the host's key too.
const METHODS: [&[u8]; 2] = [b"publickey", b"publickey-hostbound-v00@openssh.com"];
/// Longest part of an elliptic curve's signature: that of P-521.
const SCALAR_BYTES_MAX: usize = 66;

/// What is still to be read.
pub(super) struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text as it is written, with its length.
pub(super) fn written(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], text].concat()
}

/// The fingerprint of a key, as OpenSSH shows it.
#[must_use]
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// That a host's key signed a session's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionBind {
    pub host_key: Vec<u8>,
    pub session: Vec<u8>,
    /// Whether the agent is passed on to that host.
    pub forwarding: bool,
}

impl SessionBind {
    /// Reads what follows the extension's name; none where the signature is not the key's.
    pub(super) fn read(mut words: Words<'_>) -> Option<Self> {
        let (host_key, session, signature) = (words.text()?, words.text()?, words.text()?);
        let forwarding = words.byte()? != 0;
        let sound = words.is_over() && verifies(host_key, session, signature);
        sound.then(|| Self { host_key: host_key.to_vec(), session: session.to_vec(), forwarding })
    }
}

/// A request to log in, which is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub session: Vec<u8>,
    pub user: String,
    /// The host's key, where the way of logging in names it.
    pub host_key: Option<Vec<u8>>,
}

impl Login {
    /// Reads what a client wants signed by a key; none for anything but a login by that very key.
    pub(super) fn read(data: &[u8], key: &[u8]) -> Option<Self> {
        let mut words = Words(data);
        let session = words.text()?.to_vec();
        if words.byte()? != USERAUTH_REQUEST {
            return None;
        }
        let user = String::from_utf8(words.text()?.to_vec()).ok()?;
        let (service, method) = (words.text()?, words.text()?);
        let signed = words.byte()? == 1;
        let (_algorithm, named) = (words.text()?, words.text()?);
        let host_key = if method == METHODS[1] { Some(words.text()?.to_vec()) } else { None };
        let sound =
            signed && service == b"ssh-connection" && METHODS.contains(&method) && named == key && words.is_over();
        sound.then_some(Self { session, user, host_key })
    }
}

/// Whether a signature is a key's, of this text.
fn verifies(key: &[u8], text: &[u8], signature: &[u8]) -> bool {
    try_verify(key, text, signature).unwrap_or(false)
}

fn try_verify(key: &[u8], text: &[u8], signature: &[u8]) -> Option<bool> {
    let mut signature = Words(signature);
    let (algorithm, value) = (signature.text()?, signature.text()?);
    let mut key = Words(key);
    let kind = key.text()?;
    let verified = |by: &'static dyn VerificationAlgorithm, key: &[u8], value: &[u8]| {
        UnparsedPublicKey::new(by, key).verify(text, value).is_ok()
    };
    Some(match (kind, algorithm) {
        (b"ssh-ed25519", b"ssh-ed25519") => verified(&ED25519, key.text()?, value),
        (b"ssh-rsa", b"rsa-sha2-256" | b"rsa-sha2-512") => {
            let (e, n) = (unsigned(key.text()?), unsigned(key.text()?));
            let by = match algorithm {
                b"rsa-sha2-256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                _ => &signature::RSA_PKCS1_2048_8192_SHA512,
            };
            RsaPublicKeyComponents { n, e }.verify(by, text, value).is_ok()
        }
        (kind, algorithm) if kind == algorithm => {
            let (by, length): (&'static dyn VerificationAlgorithm, usize) = match kind {
                b"ecdsa-sha2-nistp256" => (&ECDSA_P256_SHA256_FIXED, 32),
                b"ecdsa-sha2-nistp384" => (&ECDSA_P384_SHA384_FIXED, 48),
                b"ecdsa-sha2-nistp521" => (&ECDSA_P521_SHA512_FIXED, SCALAR_BYTES_MAX),
                _ => return None,
            };
            key.text()?;
            let mut parts = Words(value);
            let fixed = [scalar(parts.text()?, length)?, scalar(parts.text()?, length)?].concat();
            verified(by, key.text()?, &fixed)
        }
        _ => false,
    })
}

/// A number without the zeroes that keep it from being negative.
fn unsigned(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[first..]
}

/// A number of this length.
fn scalar(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let number = unsigned(number);
    let missing = length.checked_sub(number.len())?;
    Some([&vec![0; missing][..], number].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    fn bind(key: &[u8], session: &[u8], signature: &[u8]) -> Option<SessionBind> {
        let text = [written(key), written(session), written(signature), vec![0]].concat();
        SessionBind::read(Words(&text))
    }

    #[test]
    fn only_the_hosts_own_key_binds_a_session_to_it() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = [written(b"ssh-ed25519"), written(pair.public_key().as_ref())].concat();
        let signature = [written(b"ssh-ed25519"), written(pair.sign(b"session").as_ref())].concat();
        assert_eq!(bind(&key, b"session", &signature).unwrap().host_key, key);
        assert!(bind(&key, b"another", &signature).is_none() && bind(&key, b"session", b"").is_none());

        let curve = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let kind = written(b"ecdsa-sha2-nistp256");
        let key = [kind.clone(), written(b"nistp256"), written(curve.public_key().as_ref())].concat();
        let signed = curve.sign(&SystemRandom::new(), b"session").unwrap();
        let (r, s) = signed.as_ref().split_at(32);
        // As SSH writes numbers: none negative.
        let number = |part: &[u8]| written(&[&[0][..], part].concat());
        let signature = [kind, written(&[number(r), number(s)].concat())].concat();
        assert!(bind(&key, b"session", &signature).is_some() && bind(&key, b"other", &signature).is_none());
    }

    #[test]
    fn nothing_but_a_login_by_the_very_key_is_read_as_one() {
        let login = |method: &[u8], rest: &[u8]| {
            let head =
                [written(b"id"), vec![50], written(b"git"), written(b"ssh-connection"), written(method), vec![1]];
            [head.concat(), written(b"ssh-ed25519"), written(b"key"), rest.to_vec()].concat()
        };
        let expected = Login { session: b"id".to_vec(), user: "git".to_owned(), host_key: None };
        assert_eq!(Login::read(&login(METHODS[0], b""), b"key"), Some(expected.clone()));
        let bound = login(METHODS[1], &written(b"host"));
        assert_eq!(Login::read(&bound, b"key"), Some(Login { host_key: Some(b"host".to_vec()), ..expected }));
        for bad in [&login(METHODS[0], b"more")[..], &login(METHODS[1], b""), &login(b"password", b""), b"SSHSIG", b""]
        {
            assert_eq!(Login::read(bad, b"key"), None);
        }
        assert_eq!(Login::read(&bound, b"another"), None);
        assert_eq!(fingerprint(b""), "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
    }
}
