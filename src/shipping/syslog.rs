//! A syslog server over TLS (RFC 5425), which says nothing back.
//!
//! What was written to a connection may be lost with it. So each batch has a connection of its own, which omni ends for its
//! side, and which the server ends for its own when it has read to that end. Only then is the batch delivered.

use super::dial::connect;
use super::send::Trouble;
use super::target::Place;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Most bytes of what a server says all the same that are passed over.
const SAID_BYTES_MAX: usize = 64 << 10;

/// Sends framed messages, and waits until the server has read them.
pub(super) async fn send(place: &Place, messages: &[u8]) -> Result<(), Trouble> {
    let broken = |error: std::io::Error| Trouble::new(format!("the connection broke: {error}"));
    let mut stream = connect(place, None).await?;
    stream.write_all(messages).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    stream.shutdown().await.map_err(broken)?;
    let (mut piece, mut said) = ([0; 1024], 0);
    loop {
        match stream.read(&mut piece).await {
            Ok(0) => return Ok(()),
            Ok(count) if said < SAID_BYTES_MAX => said += count,
            Ok(_) => return Err(Trouble::new("it talks without end, so it is no syslog server".to_owned())),
            // It ended the connection without TLS's goodbye. Had it not read everything, the kernel would have said so.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(broken(error)),
        }
    }
}
