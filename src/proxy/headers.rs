//! Which headers end at a proxy, in both directions (RFC 9110, section 7.6.1).

use http::header::{
    ALT_SVC, CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

/// Headers that belong to one connection, whatever a `Connection` header says.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];
/// Headers that a `Connection` header cannot take away, because the proxy's own work rests on them.
const NEVER_NOMINATED: [HeaderName; 2] = [http::header::CONTENT_LENGTH, HOST];

/// Leaves what is meant for the upstream.
pub(super) fn clean_request(headers: &mut HeaderMap) {
    let trailers = headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip_hop_by_hop(headers);
    // The upstream's name is written anew from the grant, and the proxy answers an Expect itself.
    headers.remove(HOST);
    headers.remove(EXPECT);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
    count_forward(headers);
}

/// One more way is behind it (RFC 9110, section 7.6.2). What may go no further was refused.
fn count_forward(headers: &mut HeaderMap) {
    let left = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
    if let Some(left) = left {
        headers.insert(MAX_FORWARDS, left.saturating_sub(1).into());
    }
}

/// Leaves what is meant for the client. An `Alt-Svc` would invite it to a way round this proxy.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(ALT_SVC);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // `Connection` is one of them, so that without any nothing is nominated either.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !NEVER_NOMINATED.contains(name))
        .collect();
    for name in HOP_BY_HOP.iter().chain(&nominated) {
        headers.remove(name);
    }
}

/// HTTP/2 clients may cut cookies into several headers; HTTP/1 servers want one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_belongs_to_one_connection_ends_here() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Mine"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic abc"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("x-mine", "1"),
            ("host", "a.example"),
            ("accept", "*/*"),
        ]);
        clean_request(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("accept", "*/*")]));
    }

    #[test]
    fn an_answer_does_not_invite_to_another_way() {
        let mut headers = map(&[("alt-svc", "h3=\":443\""), ("connection", "close"), ("content-length", "3")]);
        clean_response(&mut headers);
        assert_eq!(headers, map(&[("content-length", "3")]));
    }

    #[test]
    fn the_length_of_a_body_cannot_be_nominated_away() {
        let mut headers = map(&[("connection", "content-length"), ("content-length", "3")]);
        clean_request(&mut headers);
        assert_eq!(headers, map(&[("content-length", "3")]));
    }

    #[test]
    fn each_forwarding_is_counted() {
        let mut headers = map(&[("max-forwards", "10")]);
        clean_request(&mut headers);
        assert_eq!(headers, map(&[("max-forwards", "9")]));
    }

    #[test]
    fn cut_cookies_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        clean_request(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    }
}
