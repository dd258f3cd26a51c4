//! TLS that is not opened: its hello is read, must name the very host that the connection claims, and is passed on as it
//! came. After the hello nobody here sees anything.

use super::Shared;
use super::detect::Rewound;
use super::opaque;
use super::serve::Place;
use crate::model::{Host, RefusalKind, Scheme};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Longest hello that is read, with the records it comes in. Those with keys for later times have some 2 KiB.
const HELLO_BYTES_MAX: usize = 64 * 1024;
/// How long it may take to arrive.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a record's head (RFC 8446, section 5.1).
const RECORD_HEAD_BYTES: usize = 5;
/// The record type of handshakes.
const HANDSHAKE: u8 = 22;
/// The message type of a client's hello (RFC 8446, section 4).
const CLIENT_HELLO: u8 = 1;
/// The extension that names the server (RFC 6066, section 3).
const SERVER_NAME: u16 = 0;
/// The extension that hides the name that is meant (RFC 9849, section 5).
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Passes TLS on.
pub(super) async fn serve<S>(shared: Arc<Shared>, mut stream: S, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reading = tokio::time::timeout(HELLO_TIMEOUT, read(&mut stream));
    let Some(read) = shared.unless_drained(reading).await else { return };
    let read = read.unwrap_or_else(|_| Err("the TLS hello took too long".to_owned()));
    match read.and_then(|(bytes, named)| agrees(&named, &place).map(|()| bytes)) {
        Ok(bytes) => opaque::serve(shared, Rewound::new(bytes, stream), place, Scheme::Tls, true).await,
        Err(reason) => shared.refuse(RefusalKind::Tls, place.to_string(), reason).await,
    }
}

fn agrees(named: &str, place: &Place) -> Result<(), String> {
    let host = Host::parse(named).map_err(|error| format!("the TLS handshake names no host: {error}"))?;
    if host == place.host {
        return Ok(());
    }
    Err(format!("{} and the name of its TLS handshake, {host}, are not the same host", place.source))
}

/// The bytes up to the end of the hello, and the name in it.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Vec<u8>, String), String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(named) = server_name(&bytes)? {
            return Ok((bytes, named));
        }
        let room = HELLO_BYTES_MAX.saturating_sub(bytes.len());
        if room == 0 {
            return Err(format!("the TLS hello is longer than {HELLO_BYTES_MAX} bytes"));
        }
        match (&mut *stream).take(room as u64).read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err("the connection ended within its TLS hello".to_owned()),
            Ok(_) => {}
        }
    }
}

/// The server's name in a hello; none while it is not complete.
fn server_name(bytes: &[u8]) -> Result<Option<String>, String> {
    let Some(message) = message(bytes)? else { return Ok(None) };
    let malformed = || "the TLS hello is malformed".to_owned();
    let mut body = Cursor(&message);
    let extensions = (|| {
        body.take(2 + 32)?;
        body.sized(1)?;
        body.sized(2)?;
        body.sized(1)?;
        if body.0.is_empty() { Some(&[][..]) } else { body.sized(2).filter(|_| body.0.is_empty()) }
    })()
    .ok_or_else(malformed)?;
    let mut named: Option<String> = None;
    let mut rest = Cursor(extensions);
    while !rest.0.is_empty() {
        let (kind, value) = rest.number(2).zip(rest.sized(2)).ok_or_else(malformed)?;
        match u16::try_from(kind) {
            Ok(ENCRYPTED_CLIENT_HELLO) => {
                return Err(
                    "its TLS hello hides the name that is meant (ECH), which a passed-through one must not".into()
                );
            }
            Ok(SERVER_NAME) if named.is_some() => return Err("its TLS hello names two servers".to_owned()),
            Ok(SERVER_NAME) => named = Some(only_name(value).ok_or_else(malformed)?),
            _ => {}
        }
    }
    named.map(Some).ok_or_else(|| "its TLS hello names no server, which a passed-through one must".to_owned())
}

/// The one name in the extension.
fn only_name(value: &[u8]) -> Option<String> {
    let mut outer = Cursor(value);
    let mut list = Cursor(outer.sized(2)?);
    let (kind, name) = (list.number(1)?, list.sized(2)?);
    let alone = kind == 0 && list.0.is_empty() && outer.0.is_empty();
    alone.then(|| std::str::from_utf8(name).ok().map(str::to_owned)).flatten()
}

/// The body of the first handshake message, out of the records that it is cut into.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut records = bytes;
    let mut handshake = Vec::new();
    while let Some((head, rest)) = records.split_at_checked(RECORD_HEAD_BYTES) {
        let [kind, _, _, high, low] = *head else { break };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || length == 0 {
            return Err("the TLS hello is malformed".to_owned());
        }
        let whole = rest.split_at_checked(length);
        let (payload, next) = whole.unwrap_or((rest, &[]));
        handshake.extend_from_slice(payload);
        if handshake.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err("the TLS handshake does not begin with a hello".to_owned());
        }
        if let Some(body) = Cursor(handshake.get(1..).unwrap_or_default()).sized(3) {
            return Ok(Some(body.to_vec()));
        }
        records = next;
    }
    Ok(None)
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// What stands behind its length, which has this many bytes.
    fn sized(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&kind.to_be_bytes()[..], &length, value].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap();
        let list = [&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name.as_bytes()].concat();
        extension(SERVER_NAME, &list)
    }

    /// A hello with these extensions, in records of at most so many bytes.
    fn hello(extensions: &[Vec<u8>], record_bytes: usize) -> Vec<u8> {
        let extensions = extensions.concat();
        let length = u16::try_from(extensions.len()).unwrap().to_be_bytes();
        let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &length, &extensions].concat();
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO][..], &size[1..], &body].concat();
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1][..], &length, part].concat()
        };
        message.chunks(record_bytes).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut() {
        let name = || sni("api.example.com");
        for record_bytes in [1, 7, 4096] {
            let bytes = hello(&[extension(43, &[2, 3, 4]), name()], record_bytes);
            for cut in 0..bytes.len() {
                assert_eq!(server_name(&bytes[..cut]), Ok(None), "{record_bytes} {cut}");
            }
            assert_eq!(server_name(&bytes), Ok(Some("api.example.com".to_owned())));
        }
    }

    #[test]
    fn a_hello_without_one_plain_name_is_refused() {
        let refused = |extensions: &[Vec<u8>]| server_name(&hello(extensions, 4096)).unwrap_err();
        assert!(refused(&[]).contains("names no server"));
        assert!(refused(&[sni("a.example"), sni("b.example")]).contains("two servers"));
        assert!(refused(&[sni("a.example"), extension(ENCRYPTED_CLIENT_HELLO, &[0])]).contains("ECH"));
        let two = [&[0, 8][..], &[0, 0, 1, b'a'], &[0, 0, 1, b'b']].concat();
        assert!(refused(&[extension(SERVER_NAME, &two)]).contains("malformed"));
        assert!(server_name(&[HANDSHAKE, 3, 1, 0, 4, 2, 0, 0, 0]).unwrap_err().contains("does not begin"));
    }
}
