//! What a connection speaks, from its first bytes: TLS, HTTP/1, or something this proxy does not carry.
//!
//! Reads until the answer is certain, however the bytes are cut, and gives up at a deadline. Unknown means refused:
//! nothing is ever passed on unread.

use super::writes_through::writes_through;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// How many bytes one look may take in.
const SNIFF_BYTES_MAX: usize = 4096;
/// How long a connection may stay undecided. Clients open connections ahead of need, so this is not short.
const SNIFF_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest method this proxy takes for one.
const METHOD_BYTES_MAX: usize = 32;
/// What a client sends that speaks HTTP/2 without TLS (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// The first byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// The major version that every TLS record carries.
const TLS_MAJOR: u8 = 0x03;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A TLS handshake.
    Tls,
    /// HTTP/1.
    Http1,
    /// HTTP/2 without TLS, which is refused.
    Http2Plain,
    /// None of these.
    Opaque,
    /// Nothing certain within the time, or closed before.
    Silent,
}

/// Classifies a beginning; `None` while more bytes could still change the answer.
pub(super) fn classify(head: &[u8]) -> Option<Protocol> {
    match head {
        [] | [TLS_HANDSHAKE] => return None,
        [TLS_HANDSHAKE, TLS_MAJOR, ..] => return Some(Protocol::Tls),
        _ => {}
    }
    let token = head.iter().take_while(|byte| is_token(**byte)).count();
    if token == head.len() {
        return (token > METHOD_BYTES_MAX).then_some(Protocol::Opaque);
    }
    if token == 0 || token > METHOD_BYTES_MAX || head[token] != b' ' {
        return Some(Protocol::Opaque);
    }
    if &head[..token] != b"PRI" {
        return Some(Protocol::Http1);
    }
    if head.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(head) {
        return None;
    }
    Some(if head.starts_with(HTTP2_PREFACE) { Protocol::Http2Plain } else { Protocol::Opaque })
}

/// The characters of a method (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Looks at the beginning of a stream and gives the stream back with nothing lost.
pub(super) async fn detect<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Protocol, Rewound<S>)> {
    let mut head = Vec::with_capacity(SNIFF_BYTES_MAX);
    let look = async {
        loop {
            if let Some(protocol) = classify(&head) {
                return Ok::<_, io::Error>(protocol);
            }
            let room = SNIFF_BYTES_MAX.saturating_sub(head.len());
            if room == 0 {
                return Ok(Protocol::Opaque);
            }
            if (&mut stream).take(room as u64).read_buf(&mut head).await? == 0 {
                return Ok(Protocol::Silent);
            }
        }
    };
    let protocol = match tokio::time::timeout(SNIFF_TIMEOUT, look).await {
        Ok(outcome) => outcome?,
        Err(_) => Protocol::Silent,
    };
    Ok((protocol, Rewound { head, taken: 0, stream }))
}

/// A stream whose first bytes were read already and are given out again.
pub(super) struct Rewound<S> {
    head: Vec<u8>,
    taken: usize,
    stream: S,
}

impl<S> Rewound<S> {
    /// A stream that gives out these bytes before its own.
    pub(super) fn new(head: Vec<u8>, stream: S) -> Self {
        Self { head, taken: 0, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.head.len() - self.taken;
        if rest == 0 {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let count = rest.min(out.remaining());
        out.put_slice(&self.head[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.head.len() {
            self.head = Vec::new();
            self.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

writes_through!(Rewound);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn classifies_only_what_is_certain() {
        let cases: [(&[u8], Option<Protocol>); 16] = [
            (b"", None),
            (b"\x16", None),
            (b"\x16\x03", Some(Protocol::Tls)),
            (b"\x16\x03\x01\x02\x00\x01", Some(Protocol::Tls)),
            (b"\x16\x02", Some(Protocol::Opaque)),
            (b"G", None),
            (b"GET", None),
            (b"GET ", Some(Protocol::Http1)),
            (b"M-SEARCH * HTTP/1.1", Some(Protocol::Http1)),
            (b"GET\r\n", Some(Protocol::Opaque)),
            (b" GET /", Some(Protocol::Opaque)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some(Protocol::Opaque)),
            (b"PRI", None),
            (b"PRI * HT", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2Plain)),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Some(Protocol::Opaque)),
        ];
        for (head, expected) in cases {
            assert_eq!(classify(head), expected, "{head:?}");
        }
    }

    #[test]
    fn a_method_without_an_end_is_not_a_method() {
        assert_eq!(classify(&[b'A'; METHOD_BYTES_MAX]), None);
        assert_eq!(classify(&[b'A'; METHOD_BYTES_MAX + 1]), Some(Protocol::Opaque));
    }

    #[tokio::test]
    async fn decides_the_same_when_bytes_arrive_one_by_one_and_gives_all_of_them_back() {
        let hello = b"\x16\x03\x01\x00\x05hello";
        let (mut client, server) = tokio::io::duplex(1);
        let writer = tokio::spawn(async move {
            client.write_all(hello).await.unwrap();
        });
        let (protocol, mut stream) = detect(server).await.unwrap();
        assert_eq!(protocol, Protocol::Tls);
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).await.unwrap();
        writer.await.unwrap();
        assert_eq!(seen, hello);
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_silent() {
        let (client, server) = tokio::io::duplex(8);
        drop(client);
        assert_eq!(detect(server).await.unwrap().0, Protocol::Silent);
    }
}
