//! What a home's journals go by in a store that several machines share.

use super::link::{Fault, Link};
use crate::model::SessionId;
use crate::store::{Home, StoreError};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Random bytes that tell homes apart.
const SEED_BYTES: usize = 16;
/// Hexadecimal digits of a machine's name.
const DIGITS: usize = 16;
/// Tells one installation of a system from another (machine-id(5)): a copy of a home on another is another machine.
const MACHINE_ID: &str = "/etc/machine-id";

/// Enters this home into the list of machines, and returns what it goes by.
///
/// # Errors
/// [`StoreError::HomeOpen`] when the home cannot be written to, and a [`StoreError`] of the server.
pub(super) fn enter(link: &Link, home: &Home) -> Result<String, StoreError> {
    let machine = name(home)?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let known = link.again("read", |link| {
        Ok(link.query_opt("SELECT 1 FROM machines WHERE machine = $1 AND name = $2", &[&machine, &host])?.is_some())
    })?;
    if !known {
        let text = "INSERT INTO machines (machine, name) VALUES ($1, $2) ON CONFLICT (machine) DO UPDATE SET name = $2";
        link.again("write to", |link| link.execute(text, &[&machine, &host]))?;
    }
    Ok(machine)
}

fn name(home: &Home) -> Result<String, StoreError> {
    let path = home.path().join("machine");
    let failed = |cause| StoreError::HomeOpen { path: path.clone(), cause };
    let mut seed = [0; SEED_BYTES];
    getrandom::fill(&mut seed).map_err(|error| failed(error.into()))?;
    let text: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let mut kept = Vec::new();
    let file = File::open(&path).map_err(failed)?;
    file.take(4 * SEED_BYTES as u64).read_to_end(&mut kept).map_err(failed)?;
    if kept.len() != 2 * SEED_BYTES {
        return Err(failed(ErrorKind::InvalidData.into()));
    }
    let installation = std::fs::read(MACHINE_ID).unwrap_or_default();
    let digest =
        Sha256::new().chain_update("omni machine v1\0").chain_update(kept).chain_update(installation).finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(DIGITS).collect())
}

/// The name of the machine that a session's files are on; none where that is this one, or nothing is known of it.
pub(super) fn elsewhere(link: &Link, session: &SessionId, machine: &str) -> Result<Option<String>, Fault> {
    let text = "SELECT machines.name FROM sessions JOIN machines USING (machine) WHERE session = $1 AND machine <> $2";
    Ok(link.query_opt(text, &[&session.as_str(), &machine])?.map(|row| row.try_get(0)).transpose()?)
}
