//! Upstreams without manners: what they do with a connection, byte by byte, is the test's own.

use crate::support::{NAMES, Seen, Upstream, certified};
use rcgen::CertificateParams;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What one does with a connection.
pub type Behaviour = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One without TLS; `behave` is told how many came before.
pub async fn plain(behave: impl Fn(usize, TcpStream) -> Behaviour + Send + 'static) -> Upstream {
    let (ca_pem, _) = certified(&NAMES, &[], |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(behave(counted.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    Upstream { address, ca_pem, seen: Seen::default(), connections }
}

/// One with TLS and a certificate for these names, adjusted.
pub async fn tls(
    names: &[&str],
    adjust: impl FnOnce(&mut CertificateParams),
    behave: impl Fn(usize, TlsStream<TcpStream>) -> Behaviour + Send + Sync + 'static,
) -> Upstream {
    let (ca_pem, config) = certified(names, &["http/1.1"], adjust);
    let (acceptor, behave) = (TlsAcceptor::from(Arc::new(config)), Arc::new(behave));
    let upstream = plain(move |number, stream| {
        let (acceptor, behave) = (acceptor.clone(), behave.clone());
        Box::pin(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                behave(number, stream).await;
            }
        })
    });
    Upstream { ca_pem, ..upstream.await }
}

/// One with TLS that answers every connection's first request by these bytes, and closes as one should.
pub async fn saying(bytes: impl Into<Vec<u8>>) -> Upstream {
    let bytes = Arc::new(bytes.into());
    tls(
        &NAMES,
        |_| {},
        move |_, mut stream| {
            let bytes = bytes.clone();
            Box::pin(async move {
                head(&mut stream).await;
                // The proxy may have heard enough before the end.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            })
        },
    )
    .await
}

/// The head of a request, up to the end of it or of the connection.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}
