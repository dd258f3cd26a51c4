//! Reading secrets anew while the session runs. The proxy can open no file and run no command; it asks a process that can.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// How long a source may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer: the longest secret, or why there is none.
const ANSWER_BYTES_MAX: usize = 64 * 1024 + 1024;

/// Stands where the place of a secret does, and says that a login was renewed: what changed of its file follows.
pub const RENEWAL: u32 = u32::MAX;
/// Longest text about a renewal: its tokens and times.
pub const RENEWAL_BYTES_MAX: usize = 512 * 1024;

/// A login was renewed.
#[derive(Serialize, Deserialize)]
pub struct Renewed {
    /// Its preset's name.
    pub login: String,
    /// What changed of its file, by where in it.
    pub changes: BTreeMap<String, Value>,
}

/// The way to the process that reads secrets.
pub(super) struct Keeper {
    /// None once an answer did not come: the next would be taken for it.
    stream: Mutex<Option<UnixStream>>,
}

/// How reading a secret anew went.
pub(super) type Read = Result<Zeroizing<String>, String>;

impl Keeper {
    /// Takes the connection over. The runtime must be there.
    pub(super) fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: Mutex::new(Some(UnixStream::from_std(stream)?)) })
    }

    /// Has the secret with this place in the list read, unless somebody else did since `wanted`. `settle` takes what was
    /// read before the next may ask.
    pub(super) async fn read(&self, index: usize, is_settled: impl Fn() -> bool, settle: impl FnOnce(Read)) {
        let mut stream = self.stream.lock().await;
        if is_settled() {
            return;
        }
        let asked = u32::try_from(index).unwrap_or(RENEWAL - 1).to_be_bytes();
        settle(asked_in_time(&mut stream, &asked).await);
    }

    /// Has what a renewal changed written into the login's file.
    pub(super) async fn write(&self, renewed: &Renewed) -> Result<(), String> {
        let text = Zeroizing::new(serde_json::to_vec(renewed).unwrap_or_default());
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if text.len() > RENEWAL_BYTES_MAX {
            return Err("the new tokens are too long".to_owned());
        }
        let asked = Zeroizing::new([&RENEWAL.to_be_bytes()[..], &length.to_be_bytes(), &text].concat());
        let mut stream = self.stream.lock().await;
        asked_in_time(&mut stream, &asked).await.map(drop)
    }
}

async fn asked_in_time(stream: &mut Option<UnixStream>, asked: &[u8]) -> Read {
    let answer = match stream.as_mut() {
        Some(open) => tokio::time::timeout(ANSWER_TIMEOUT, ask(open, asked)).await,
        None => Ok(Err(io::ErrorKind::NotConnected.into())),
    };
    match answer {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => {
            *stream = None;
            Err("the process that reads secrets is gone: start the session anew".to_owned())
        }
        Err(_) => {
            *stream = None;
            Err(format!("its source did not answer in {} s", ANSWER_TIMEOUT.as_secs()))
        }
    }
}

async fn ask(stream: &mut UnixStream, asked: &[u8]) -> io::Result<Read> {
    stream.write_all(asked).await?;
    let is_value = stream.read_u8().await? == 1;
    let length = stream.read_u32().await? as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut bytes).await?;
    let text = std::str::from_utf8(&bytes).map_err(io::Error::other)?;
    Ok(if is_value { Ok(Zeroizing::new(text.to_owned())) } else { Err(text.to_owned()) })
}

/// When a secret was last read or tried, and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) at: Instant,
    pub(super) problem: Option<String>,
}

impl Attempt {
    /// It went well just now.
    pub(super) fn good() -> Self {
        Self { at: Instant::now(), problem: None }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex as StdMutex};

    #[tokio::test]
    async fn many_who_wait_are_served_by_one_reading() {
        let (proxys, own) = StdUnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        let mut own = UnixStream::from_std(own).unwrap();
        let keeper = Arc::new(Keeper::new(proxys).unwrap());
        let settled = Arc::new(StdMutex::new(None::<Instant>));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (keeper, settled) = (keeper.clone(), settled.clone());
            waiting.spawn(async move {
                let wanted = Instant::now();
                let is_settled = || settled.lock().unwrap().is_some_and(|at| at >= wanted);
                let take = |read: Read| {
                    assert_eq!(read.unwrap().as_str(), "value");
                    *settled.lock().unwrap() = Some(Instant::now());
                };
                keeper.read(3, is_settled, take).await;
                assert!(is_settled());
            });
        }
        // One thread: all of them have come to wait before the socket is looked at.
        let mut place = [0; 4];
        own.read_exact(&mut place).await.unwrap();
        assert_eq!(place, [0, 0, 0, 3]);
        own.write_all(b"\x01\0\0\0\x05value").await.unwrap();
        while let Some(done) = waiting.join_next().await {
            done.unwrap();
        }
        let more = own.try_read(&mut place).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
    }
}
