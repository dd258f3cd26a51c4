//! Requests that are signed rather than given a secret: the client signs with a placeholder, the proxy with the key.

use super::inject::Misplaced;
use super::signature::{Key, Signature, Signed, TOKEN};
use crate::model::{Port, RequestLine};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};

/// Whether the signature of a request takes in its body's hash.
///
/// # Errors
/// For a body that is signed piece by piece, each piece over the signature before.
pub(super) fn of(headers: &HeaderMap) -> Result<bool, Misplaced> {
    if Signature::is_streamed(headers) {
        let why =
            "its body is signed piece by piece; have the client sign none of it (`UNSIGNED-PAYLOAD`), or all at once";
        return Err(Misplaced::Signed(why));
    }
    Ok(Signature::reads_payload(headers))
}

/// Whether a request is signed by the secret of a placeholder.
pub(super) fn verify(
    secret: &str,
    nth: usize,
    payload: Option<&str>,
    line: &RequestLine,
    target: &str,
    headers: &HeaderMap,
) -> Result<(), Misplaced> {
    let host = host(line);
    let request = Signed { method: &line.method, host: &host, target, payload };
    match signature(headers, nth) {
        Some(signature) if signature.verify(&request, headers, secret) => Ok(()),
        _ => Err(Misplaced::Signed("its signature is not by the placeholder's secret, or not of what arrived here")),
    }
}

/// Signs it by the key. What cannot be signed goes out as it came, and is worth nothing.
pub(super) fn sign(
    key: Key<'_>,
    nth: usize,
    payload: Option<&str>,
    line: &RequestLine,
    target: &str,
    headers: &mut HeaderMap,
) {
    let Some(signature) = signature(headers, nth) else { return };
    headers.remove(TOKEN);
    if let Some(mut token) = key.token.and_then(|token| HeaderValue::from_str(token).ok()) {
        token.set_sensitive(true);
        headers.insert(TOKEN, token);
    }
    let host = host(line);
    let request = Signed { method: &line.method, host: &host, target, payload };
    let signed = signature.anew(&request, headers, key).and_then(|text| HeaderValue::from_str(&text).ok());
    if let Some(mut signed) = signed {
        signed.set_sensitive(true);
        headers.insert(AUTHORIZATION, signed);
    }
}

fn signature(headers: &HeaderMap, nth: usize) -> Option<Signature> {
    headers.get_all(AUTHORIZATION).iter().nth(nth).and_then(|value| value.to_str().ok()).and_then(Signature::parse)
}

/// The host as clients and servers sign it.
fn host(line: &RequestLine) -> String {
    match line.port {
        Port(443) => line.host.to_string(),
        Port(port) => format!("{}:{port}", line.host),
    }
}
