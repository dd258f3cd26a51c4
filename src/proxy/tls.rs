//! Terminating TLS in the name of the host that is claimed.
//!
//! A handshake for another name is carried through all the same, so that the request in it can be answered with the
//! reason why it is refused; the contradiction is part of its claim.

use super::Shared;
use super::ahead::{Ahead, Gathered};
use super::serve::{self, Place};
use super::websocket::Relaying;
use crate::model::{Host, RefusalKind, Scheme};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take for its side of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// A handshake that succeeded.
struct Shaken<S> {
    stream: TlsStream<Ahead<S>>,
    other_sni: Option<String>,
}

/// Serves what comes inside TLS. What follows is to be awaited.
pub(super) async fn terminate<S>(shared: Arc<Shared>, stream: S, place: Place) -> Option<Relaying>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(&shared, stream, &place));
    let shaken = shared.unless_drained(shaking).await?;
    let shaken = shaken.unwrap_or_else(|_| Err("the client took too long for its side of the handshake".to_owned()));
    let Shaken { stream, other_sni } = match shaken {
        Ok(shaken) => shaken,
        Err(reason) => {
            shared.refuse(RefusalKind::Tls, place.to_string(), reason).await;
            return None;
        }
    };
    let claim = place.claim(Scheme::Https, other_sni);
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    // In a box, since it passes through many hands that would each keep room for it.
    let stream = Box::new(Gathered::new(stream));
    if is_http2 {
        serve::http2(shared, stream, claim).await;
        return None;
    }
    serve::http1(shared, stream, claim).await
}

async fn handshake<S>(shared: &Shared, stream: S, place: &Place) -> Result<Shaken<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), Ahead::new(stream));
    let start = acceptor.await.map_err(|error| format!("the TLS handshake cannot be read: {error}"))?;
    let sni = start.client_hello().server_name().map(str::to_owned);
    let named = match &sni {
        None => place.host.clone(),
        Some(sni) => Host::parse(sni).map_err(|error| format!("the TLS handshake names no host: {error}"))?,
    };
    let other_sni = (named != place.host).then(|| named.to_string());
    let config = shared.authority.server_config(&named).map_err(|error| error.to_string())?;
    let stream = start.into_stream(config).await;
    let hint = "if it does not trust omni's certificate authority, point it at the bundle in SSL_CERT_FILE";
    let stream = stream.map_err(|error| format!("the client broke the TLS handshake off: {error}; {hint}"))?;
    Ok(Shaken { stream, other_sni })
}
