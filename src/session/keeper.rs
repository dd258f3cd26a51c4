//! Reading secrets anew while a session runs, for a proxy that can open no file and run no command: a process of its own, made
//! where a secret wants it, that hears the proxy alone and ends with it.

use super::login_file::write_back;
use super::secrets::first_value;
use crate::policy::SecretSpec;
use crate::proxy::{RENEWAL, RENEWAL_BYTES_MAX, Renewed};
use crate::sys::{self, Forked, fork_single_threaded};
use rustix::process::Signal;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use zeroize::Zeroizing;

/// Forks it, unless no secret is to be read anew. The secrets are known by their places in the list.
pub(super) fn start<'a>(
    specs: impl Iterator<Item = &'a SecretSpec> + Clone,
    home: &Path,
) -> io::Result<Option<UnixStream>> {
    if specs.clone().all(|spec| spec.refresh.is_none()) {
        return Ok(None);
    }
    let (ours, theirs) = UnixStream::pair()?;
    match fork_single_threaded()? {
        Forked::Parent { .. } => Ok(Some(ours)),
        Forked::Child => {
            drop(ours);
            let specs: Vec<&SecretSpec> = specs.collect();
            std::process::exit(i32::from(keep(theirs, &specs, home).is_err()));
        }
    }
}

/// Answers until the proxy is gone.
fn keep(mut proxy: UnixStream, specs: &[&SecretSpec], home: &Path) -> io::Result<()> {
    // The proxy's other descriptors are the proxy's: whoever waits for their end must not wait for this process.
    sys::close_inherited_except(&[proxy.as_fd()])?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut place = [0; 4];
    while proxy.read_exact(&mut place).is_ok() {
        let done = match u32::from_be_bytes(place) {
            RENEWAL => keep_renewal(&mut proxy, home)?.map(|()| Zeroizing::default()),
            place => match specs.get(place as usize) {
                Some(spec) => read(spec, home),
                None => Err("there is no such secret".to_owned()),
            },
        };
        let (is_value, text) = match done {
            Ok(value) => (1, value),
            Err(problem) => (0, Zeroizing::new(problem)),
        };
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        proxy.write_all(&[is_value])?;
        proxy.write_all(&length.to_be_bytes())?;
        proxy.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Takes what a renewal changed of a login, and writes it into the login's file.
fn keep_renewal(proxy: &mut UnixStream, home: &Path) -> io::Result<Result<(), String>> {
    let mut length = [0; 4];
    proxy.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > RENEWAL_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    proxy.read_exact(&mut bytes)?;
    let Renewed { login, changes } = serde_json::from_slice(&bytes)?;
    Ok(write_back(&login, changes, home).map_err(|error| error.to_string()))
}

fn read(spec: &SecretSpec, home: &Path) -> Result<Zeroizing<String>, String> {
    first_value(spec, home).map(Zeroizing::new)
}
