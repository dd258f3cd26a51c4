//! Rules that are added while the session runs: read from a socket of packets (unix(7), SOCK_SEQPACKET), checked here
//! whoever checked them before, recorded, and only then let count.

use super::Shared;
use crate::model::Event;
use crate::policy::{Effect, WrittenRule};
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Longest packet.
const PACKET_BYTES_MAX: usize = 16 * 1024;
/// Longest explanation of what is wrong with a rule, which may repeat it.
const WHY_CHARACTERS_MAX: usize = 2_000;
/// Most rules that one session can be given.
const ADDED_MAX: usize = 1_000;

/// A rule to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// Its sender's number for it, which the answer bears.
    pub number: u32,
    /// Who adds it.
    pub user: String,
    /// The rule's effect, as a word.
    pub effect: String,
    /// The rule's text.
    pub rule: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// The number.
    pub number: u32,
    /// Why it does not count; nothing where it does.
    pub refused: Option<String>,
}

/// Takes rules until nobody is left who could add one.
pub(super) async fn take(shared: Arc<Shared>, socket: UnixStream) {
    let mut added = 0;
    while let Ok(Some(amendment)) = socket.async_io(Interest::READABLE, || receive(socket.as_fd())).await {
        let number = amendment.number;
        let refused = match added < ADDED_MAX {
            true => add(&shared, amendment).await.err().map(|why| why.chars().take(WHY_CHARACTERS_MAX).collect()),
            false => Some(format!("{ADDED_MAX} rules were added to this session, as many as it takes")),
        };
        added += usize::from(refused.is_none());
        let Ok(answer) = serde_json::to_vec(&Amended { number, refused }) else { return };
        let send = || Ok(rustix::net::send(&socket, &answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?);
        if socket.async_io(Interest::WRITABLE, send).await.is_err() {
            return;
        }
    }
}

fn receive(socket: impl AsFd) -> io::Result<Option<Amendment>> {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    let (count, whole) = rustix::net::recv(socket, &mut packet, RecvFlags::TRUNC)?;
    match packet.get(..count) {
        Some([]) | None => Ok(None),
        Some(_) if whole > count => Err(io::Error::from(io::ErrorKind::InvalidData)),
        Some(message) => Ok(Some(serde_json::from_slice(message)?)),
    }
}

async fn add(shared: &Shared, amendment: Amendment) -> Result<(), String> {
    let Amendment { user, effect, rule, .. } = amendment;
    let effect = Effect::named(&effect).ok_or_else(|| format!("`{effect}` is no effect of a rule"))?;
    let written = WrittenRule::alone(effect, &rule);
    let (policy, rule) = shared.policy.with(&written).map_err(|errors| errors.to_string())?;
    let added = Event::RuleAdded { user, rule, policy_hash: policy.hash() };
    shared.books.clerk.record(added).await.map_err(|error| error.to_string())?;
    shared.policy.replace(policy);
    Ok(())
}

/// The socket as this room waits on it.
pub(super) fn open(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
