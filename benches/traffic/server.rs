//! The server: `/bytes/N` answers so many bytes, any request's body is read and counted, `/ws` is a WebSocket that says
//! nothing.

use crate::way::{DOMAIN, NAME, WEBSOCKET_ACCEPT, WEBSOCKET_KEY};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::PrivateKeyDer;
use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// Bytes of one piece of a long answer.
const PIECE: usize = 64 * 1024;
static ZEROES: [u8; PIECE] = [0; PIECE];

/// Serves until the process is ended; prints the port.
pub async fn serve(ca_out: &str) -> anyhow::Result<()> {
    let acceptor = acceptor(ca_out)?;
    let listener = listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = hyper::service::service_fn(answer);
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            builder.serve_connection_with_upgrades(TokioIo::new(stream), answer).await.ok();
        });
    }
}

/// A TLS server for the name and all below it, whose certificate is written to a file.
pub fn acceptor(ca_out: &str) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
    let key = rcgen::KeyPair::generate()?;
    let names = vec![NAME.to_owned(), format!("*.{DOMAIN}")];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    std::fs::write(ca_out, certificate.pem())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
        )?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}

/// A port of this machine, printed.
pub async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    Ok(listener)
}

/// What is answered: nothing but a head, or so many bytes.
type Answer = Either<Full<Bytes>, Zeroes>;

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    if request.uri().path() == "/ws" {
        return Ok(open_websocket(request));
    }
    let length = request.uri().path().strip_prefix("/bytes/").and_then(|length| length.parse().ok());
    let mut body = request.into_body();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
    Ok(Response::new(match length {
        Some(left) => Either::Right(Zeroes { left }),
        None => Either::Left(Full::new(read.to_string().into())),
    }))
}

fn open_websocket(mut request: Request<Incoming>) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::default()));
    if request.headers().get("sec-websocket-key").is_none_or(|key| key != WEBSOCKET_KEY) {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let _ = TokioIo::new(stream).read_to_end(&mut Vec::new()).await;
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in
        [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", WEBSOCKET_ACCEPT)]
    {
        response.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    response
}

/// So many bytes, in pieces that are not made anew.
pub struct Zeroes {
    /// How many are to come.
    pub left: usize,
}

impl Body for Zeroes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.min(PIECE);
        self.left -= piece;
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from_static(&ZEROES[..piece])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}
