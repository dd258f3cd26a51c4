//! Being a unit of a service manager: it is told when the work has begun, and may have the group of the
//! sessions kept by a process of its own.

use super::error::ServerError;
use crate::supervisor::make_room_for_shares;
use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the manager wants to be told (sd_notify(3)).
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Says that others may come; nothing where nobody asked for it.
///
/// # Errors
/// When the manager cannot be told, which then would wait in vain.
pub fn tell_ready() -> Result<(), ServerError> {
    let Some(address) = std::env::var_os(VARIABLE).filter(|address| !address.is_empty()) else { return Ok(()) };
    notify(address.as_bytes()).map_err(ServerError::calling("tell the service manager that the work has begun"))
}

fn notify(address: &[u8]) -> io::Result<()> {
    let address = match address.split_first() {
        // A name without a file.
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// Keeps the control group that this process was started in, for sessions that a server beside it starts: without a process
/// in it, systemd would remove it. Returns at SIGTERM or SIGINT.
///
/// # Errors
/// A [`ServerError`] when the group cannot be divided.
pub fn keep_group() -> Result<(), ServerError> {
    let mut set = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT].into_iter().for_each(|signal| set.add(signal));
    set.thread_block().map_err(ServerError::calling("block signals"))?;
    make_room_for_shares().map_err(ServerError::calling("divide the control group"))?;
    tell_ready()?;
    set.wait().map_err(ServerError::calling("wait for the end"))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_by_a_path_and_by_a_name_without_a_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let name = format!("omni-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&by_name).unwrap()];
        notify(path.as_os_str().as_bytes()).unwrap();
        notify(format!("@{name}").as_bytes()).unwrap();
        for socket in heard {
            let mut bytes = [0; 16];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1");
        }
        assert!(notify(place.path().join("nobody").as_os_str().as_bytes()).is_err());
    }
}
