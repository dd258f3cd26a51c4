//! A request as a person types it.

use crate::model::{Host, Port, RequestLine, Scheme};
use anyhow::{Context, bail};

/// Reads a method and a URL as the line of a request.
pub(super) fn request_line(method: &str, url: &str) -> anyhow::Result<RequestLine> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some((scheme, _)) if !scheme.contains('/') => {
            bail!("`{scheme}` is not a scheme of requests: write http or https")
        }
        _ => (Scheme::Https, url),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[after_brackets..].rfind(':') {
        Some(colon) => authority.split_at(after_brackets + colon),
        None => (authority, ""),
    };
    let host = Host::parse(host).with_context(|| format!("`{url}` is not a URL"))?;
    let port = match port.strip_prefix(':') {
        None => scheme.default_port(),
        Some(port) => Port(port.parse().with_context(|| format!("`{port}` is not a port"))?),
    };
    let path = if path.is_empty() { "/" } else { path };
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        bail!("`{path}` is not how a path is judged: leave `.` and `..` out");
    }
    Ok(RequestLine { method: method.to_ascii_uppercase(), scheme, host, port, path: path.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_url() {
        for url in ["ftp://a.com", "https://", "https://a.com:x/", "https://a.com/../b", "https://u@a.com/"] {
            assert!(request_line("GET", url).is_err(), "{url}");
        }
        assert_eq!(request_line("GET", "https://[::1]:8443/x").expect("a request").port, Port(8443));
    }
}
