//! A connection to an upstream, plain or in TLS, as the pool sees it, which overhears how many requests it takes.

use super::ahead::{Ahead, Gathered};
use super::client_certificate::{explained, is_explained};
use super::lanes::{Lanes, Told};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Bytes of an HTTP/2 frame's head (RFC 9113, section 4.1).
const FRAME_HEAD_BYTES: usize = 9;
/// The type of the frame that a server must begin with.
const SETTINGS: u8 = 4;
/// Longest such frame that is read: any server's has a few dozen bytes.
const SETTINGS_BYTES_MAX: usize = 16 * 1024;
/// The setting that says how many requests at a time are taken (RFC 9113, section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// Most bytes that are read of what a server said before it closed a connection that is written to.
const LAST_WORDS_BYTES_MAX: usize = 16 * 1024;

/// A connection to an upstream.
pub(super) struct Leg {
    stream: Stream,
    /// What the server said last, where that was read when it took no more.
    last_words: Vec<u8>,
    overhearing: Option<Overhearing>,
    /// Keeps the lane from making another connection while this one lasts.
    told: Option<Told>,
}

/// Whom a connection serves: a lane of a host.
pub(super) struct Errand {
    /// Where to tell how many requests the connection takes.
    pub lanes: Arc<Lanes>,
    /// The host, as lanes name it.
    pub host: Arc<str>,
    /// Which of the host's lanes.
    pub lane: usize,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<Gathered<TlsStream<Ahead<TcpStream>>>>),
}

/// The beginning of an HTTP/2 server's first frame, and whom to tell what it says.
struct Overhearing {
    errand: Errand,
    frame: Vec<u8>,
}

impl Leg {
    /// Plain TCP.
    pub(super) fn plain(stream: TcpStream, errand: &Errand) -> Self {
        errand.lanes.tell_single(&errand.host);
        Self { stream: Stream::Plain(stream), last_words: Vec::new(), overhearing: None, told: None }
    }

    /// Verified TLS.
    pub(super) fn tls(stream: TlsStream<Ahead<TcpStream>>, errand: Errand) -> Self {
        let stream = Stream::Tls(Box::new(Gathered::new(stream)));
        let mut leg = Self { stream, last_words: Vec::new(), overhearing: None, told: None };
        if leg.is_http2() {
            leg.overhearing = Some(Overhearing { errand, frame: Vec::new() });
        } else {
            errand.lanes.tell_single(&errand.host);
        }
        leg
    }

    /// Why nothing more can be written: the server's alert about the client's certificate, where there is one. In the newest TLS it comes
    /// after the handshake, with the end of the connection right behind it, which a client that writes hears of first.
    fn explain_write(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let Stream::Tls(stream) = &mut self.stream else { return error };
        if !self.last_words.is_empty() {
            return error;
        }
        let mut room = vec![0; LAST_WORDS_BYTES_MAX];
        let mut out = ReadBuf::new(&mut room);
        match Pin::new(stream).poll_read(cx, &mut out) {
            Poll::Ready(Err(said)) => Some(explained(said)).filter(is_explained).unwrap_or(error),
            _ => {
                self.last_words = out.filled().to_vec();
                error
            }
        }
    }

    /// What came of writing.
    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        polled.map_err(|error| self.explain_write(cx, error))
    }

    /// Whether HTTP/2 is spoken on it.
    pub(super) fn is_http2(&self) -> bool {
        matches!(&self.stream, Stream::Tls(stream) if stream.get_ref().get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

impl Overhearing {
    /// Takes the next bytes, and tells when the frame is over.
    fn feed(&mut self, bytes: &[u8]) -> Option<Told> {
        let room = (FRAME_HEAD_BYTES + SETTINGS_BYTES_MAX).saturating_sub(self.frame.len());
        self.frame.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Errand { lanes, host, lane } = &self.errand;
        streams(&self.frame).map(|limit| lanes.tell(host, *lane, limit))
    }
}

/// How many requests a server takes, by its first frame; none while that is not complete.
fn streams(frame: &[u8]) -> Option<usize> {
    let (head, payload) = frame.split_at_checked(FRAME_HEAD_BYTES)?;
    let length = head[..3].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    if head[3] != SETTINGS || length > SETTINGS_BYTES_MAX {
        return Some(usize::MAX);
    }
    let named = |entry: &[u8]| match entry {
        [a, b, value @ ..] if u16::from_be_bytes([*a, *b]) == MAX_CONCURRENT_STREAMS => {
            Some(value.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        }
        _ => None,
    };
    // The last of several values counts.
    Some(payload.get(..length)?.chunks_exact(6).filter_map(named).next_back().unwrap_or(usize::MAX))
}

impl AsyncRead for Leg {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let leg = self.get_mut();
        let before = out.filled().len();
        if !leg.last_words.is_empty() {
            let count = leg.last_words.len().min(out.remaining());
            out.put_slice(&leg.last_words[..count]);
            leg.last_words.drain(..count);
            return Poll::Ready(Ok(()));
        }
        ready!(match &mut leg.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, out).map_err(explained),
        })?;
        if let Some(overhearing) = &mut leg.overhearing
            && let Some(told) = overhearing.feed(&out.filled()[before..])
        {
            (leg.overhearing, leg.told) = (None, Some(told));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Leg {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let leg = self.get_mut();
        let polled = match &mut leg.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        leg.written(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let leg = self.get_mut();
        let polled = match &mut leg.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        leg.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let leg = self.get_mut();
        let polled = match &mut leg.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        leg.written(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::server::WebPkiClientVerifier;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that demands a client's certificate, and the settings of a client that has none.
    fn demanding() -> (rustls::ServerConfig, rustls::ClientConfig) {
        let made = rcgen::generate_simple_self_signed(vec!["server.example".to_owned()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let (roots, provider) = (Arc::new(roots), super::super::roots::provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (server, client)
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_closed_is_why_nothing_can_be_written() {
        let (server, client) = demanding();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refusing = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            assert!(tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(stream).await.is_err());
        });
        let name = ServerName::try_from("server.example").unwrap();
        let stream = Ahead::new(tokio::net::TcpStream::connect(address).await.unwrap());
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let mut leg = Leg {
            stream: Stream::Tls(Box::new(Gathered::new(connector.connect(name, stream).await.unwrap()))),
            last_words: Vec::new(),
            overhearing: None,
            told: None,
        };
        refusing.await.unwrap();
        // What the server does not read any more has its system cut the connection off.
        let error = loop {
            if let Err(error) = leg.write_all(&[0; 4096]).await {
                break error;
            }
        };
        assert!(is_explained(&error) && error.to_string().contains("wants a client's certificate"), "{error}");
        assert!(leg.read(&mut [0; 16]).await.is_err());
    }

    #[test]
    fn a_servers_first_frame_says_how_many_requests_it_takes() {
        let frame = b"\0\0\x0c\x04\0\0\0\0\0\0\x04\0\x01\0\0\0\x03\0\0\0\x80";
        assert_eq!(streams(frame), Some(128));
        for cut in 0..frame.len() {
            assert_eq!(streams(&frame[..cut]), None, "{cut}");
        }
        assert_eq!(streams(b"\0\0\0\x04\0\0\0\0\0"), Some(usize::MAX));
        assert_eq!(streams(b"HTTP/1.1 400 Bad Request"), Some(usize::MAX));
        assert_eq!(streams(b"\xff\xff\xff\x04\0\0\0\0\0"), Some(usize::MAX));
    }
}
