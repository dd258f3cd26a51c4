//! Root with a user's rights for as long as it does something on their word.

use super::error::ServerError;
use super::peer::Peer;
use nix::unistd::{Gid, Uid, setresgid, setresuid};

/// What a call leaves alone: -1 (setresuid(2)).
const SAME: u32 = u32::MAX;

/// Does something with the rights of a user: their effective user and group, and no capability. Their other groups this
/// process has from its start. Only the effective ids change, so that the user has no hold over this process meanwhile:
/// signals and tracing go by the real and saved ones (kill(2), ptrace(2)). A process that ends with its parent still does.
///
/// # Errors
/// [`ServerError::Call`] when the rights cannot be taken or given back; then nothing must go on.
pub fn with_rights_of<T>(peer: &Peer, work: impl FnOnce() -> T) -> Result<T, ServerError> {
    let same = (Uid::from_raw(SAME), Gid::from_raw(SAME));
    let groups = |gid| setresgid(same.1, Gid::from_raw(gid), same.1);
    let users = |uid| setresuid(same.0, Uid::from_raw(uid), same.0);
    let bond =
        rustix::process::parent_process_death_signal().map_err(ServerError::calling("see what ends with what"))?;
    let parent = rustix::process::getppid();
    groups(peer.gid).and_then(|()| users(peer.uid)).map_err(ServerError::calling("take the user's rights"))?;
    let done = work();
    users(0).and_then(|()| groups(0)).map_err(ServerError::calling("give the user's rights back"))?;
    if bond.is_some() {
        // Changing ids undid it (prctl(2), PR_SET_PDEATHSIG).
        rustix::process::set_parent_process_death_signal(bond).map_err(ServerError::calling("end with the parent"))?;
        if rustix::process::getppid() != parent {
            return Err(ServerError::Lost);
        }
    }
    Ok(done)
}

/// The same with the rights of whoever visits, and with those that this process has where nobody does.
///
/// # Errors
/// As [`with_rights_of`].
pub fn with_rights_of_visitor<T>(visitor: Option<&Peer>, work: impl FnOnce() -> T) -> Result<T, ServerError> {
    match visitor {
        Some(peer) => with_rights_of(peer, work),
        None => Ok(work()),
    }
}
