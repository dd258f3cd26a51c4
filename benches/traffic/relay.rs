//! The least that a proxy which ends TLS has to do: both sides' TLS, and copying what passes. It reads no HTTP, judges nothing
//! and records nothing. What omni takes beside it is what omni does.

use crate::server::{acceptor, listen};
use crate::way::{read_head, trust};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How much is copied at a time: four of TLS's longest records.
const PIECE: usize = 64 * 1024;

/// Serves as an explicit proxy to one server until the process is ended; prints the port. Like omni, it has one thread.
pub async fn relay(server: &str, server_ca: &str, ca_out: &str) -> anyhow::Result<()> {
    let (acceptor, connector) = (acceptor(ca_out)?, trust(server_ca)?);
    let listener = listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, connector, server) = (acceptor.clone(), connector.clone(), server.to_owned());
        tokio::spawn(async move {
            // A connection that breaks is its client's to tell.
            let _ = carry(stream, &acceptor, &connector, &server).await;
        });
    }
}

async fn carry(
    mut client: TcpStream,
    acceptor: &tokio_rustls::TlsAcceptor,
    connector: &tokio_rustls::TlsConnector,
    server: &str,
) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let head = read_head(&mut client).await?;
    let name = head.split([' ', ':']).nth(1).unwrap_or_default().to_owned();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut client = acceptor.accept(client).await?;
    let upstream = TcpStream::connect(server).await?;
    upstream.set_nodelay(true)?;
    let mut upstream = connector.connect(ServerName::try_from(name)?, upstream).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, PIECE, PIECE).await?;
    Ok(())
}
