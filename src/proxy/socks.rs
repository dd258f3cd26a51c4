//! The gateway as a SOCKS5 proxy (RFC 1928): CONNECT, by name or address, without authentication. What comes through is
//! judged like any other connection to its place.

use super::serve::Place;
use crate::model::{Host, Port};
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of the protocol.
const VERSION: u8 = 5;
/// The one before it, which is refused.
const VERSION_4: u8 = 4;
/// The method of no authentication (RFC 1928, section 3).
const NO_AUTHENTICATION: u8 = 0;
/// What says that no offered method is taken.
const NO_METHOD: u8 = 0xff;
/// The only command that is served (section 4).
const CONNECT: u8 = 1;
/// Replies (section 6).
const SUCCEEDED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const HOST_UNREACHABLE: u8 = 4;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_NOT_SUPPORTED: u8 = 8;
/// What SOCKS4 says to a request that is refused: version 0, code 91.
const REFUSED_4: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];
/// How long a client may take to say where it wants to go.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a client is told of its wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may speak.
    Speak,
    /// A rule refuses the place, or none allows it.
    NotAllowed,
    /// There is nobody.
    Unreachable,
}

/// Tells it.
pub(super) async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, answer: Answer) -> Result<(), String> {
    let code = match answer {
        Answer::Speak => SUCCEEDED,
        Answer::NotAllowed => NOT_ALLOWED,
        Answer::Unreachable => HOST_UNREACHABLE,
    };
    reply(stream, code).await
}

/// Where a client wants to go, which it is to be answered; or why it was sent away, for the record.
pub(super) async fn welcome<S>(stream: &mut S) -> Result<Place, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let talked = tokio::time::timeout(TIMEOUT, talk(stream)).await;
    talked.unwrap_or_else(|_| Err("a SOCKS client took too long to say where it wants to go".to_owned()))
}

async fn talk<S>(stream: &mut S) -> Result<Place, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match byte(stream).await? {
        VERSION => {}
        VERSION_4 => {
            say(stream, &REFUSED_4).await?;
            return Err("SOCKS4 is not carried: use SOCKS5 with names (socks5h://)".to_owned());
        }
        _ => return Err("the gateway is a plain HTTP/1 or SOCKS5 proxy: use an http:// or socks5h:// URL".to_owned()),
    }
    let count = byte(stream).await?;
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods).await.map_err(|_| broke_off())?;
    if !methods.contains(&NO_AUTHENTICATION) {
        say(stream, &[VERSION, NO_METHOD]).await?;
        return Err("a SOCKS client wants to authenticate, and there is nothing to: give no user".to_owned());
    }
    say(stream, &[VERSION, NO_AUTHENTICATION]).await?;
    let (version, command) = (byte(stream).await?, byte(stream).await?);
    let _reserved = byte(stream).await?;
    if version != VERSION {
        return Err("a SOCKS client changed its version".to_owned());
    }
    let host = host(stream).await?;
    let port = Port(stream.read_u16().await.map_err(|_| broke_off())?);
    if command != CONNECT {
        reply(stream, COMMAND_NOT_SUPPORTED).await?;
        return Err("of SOCKS5 only CONNECT is carried, neither BIND nor UDP".to_owned());
    }
    let Some(host) = host.filter(|_| port.0 != 0) else {
        reply(stream, ADDRESS_NOT_SUPPORTED).await?;
        return Err("a SOCKS client wants to go to no usable host and port".to_owned());
    };
    Ok(Place { source: "the target of SOCKS5", host, port })
}

/// The host that is asked for; none if it is not one.
async fn host<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<Option<Host>, String> {
    match byte(stream).await? {
        1 => {
            let bits = stream.read_u32().await.map_err(|_| broke_off())?;
            Ok(Some(IpAddr::V4(bits.into()).into()))
        }
        3 => {
            let mut name = vec![0; usize::from(byte(stream).await?)];
            stream.read_exact(&mut name).await.map_err(|_| broke_off())?;
            Ok(String::from_utf8(name).ok().and_then(|name| Host::parse(&name).ok()))
        }
        4 => {
            let bits = stream.read_u128().await.map_err(|_| broke_off())?;
            Ok(Some(IpAddr::V6(bits.into()).to_canonical().into()))
        }
        _ => {
            reply(stream, ADDRESS_NOT_SUPPORTED).await?;
            Err("a SOCKS client names its target in a way that there is not".to_owned())
        }
    }
}

async fn byte<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u8, String> {
    stream.read_u8().await.map_err(|_| broke_off())
}

async fn reply<S: AsyncWrite + Unpin>(stream: &mut S, code: u8) -> Result<(), String> {
    // The address that it says is bound is nobody's business, and nobody uses it.
    say(stream, &[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).await.map_err(|_| broke_off())?;
    stream.flush().await.map_err(|_| broke_off())
}

fn broke_off() -> String {
    "a SOCKS client broke off".to_owned()
}
