//! The certificates that the proxy makes while the sandbox is built, in a file in memory: two lengths (four bytes each, native
//! order), of the session CA's own certificate and of the key store; then that certificate, the key store, and the bundle for
//! programs. Both of these have the host's roots too.

use super::plan::Contents;
use super::root::Root;
use rustix::fs::sendfile;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of one length that the file begins with.
const LENGTH_BYTES: usize = size_of::<u32>();

/// All of them, for the steps that show them.
#[derive(Debug)]
pub(super) struct Bundle {
    file: File,
    own: Vec<u8>,
    pem: Part,
    key_store: Part,
}

/// One of the two that are long.
#[derive(Debug)]
struct Part {
    /// Where it lies.
    bytes: Range<u64>,
    /// The file of the sandbox that holds it, once there is one.
    written: Option<PathBuf>,
}

/// Writes the file that [`Bundle::open`] reads.
///
/// # Errors
/// Those of writing.
pub fn write_bundle(file: &OwnedFd, own: &[u8], key_store: &[Vec<u8>], parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::from(file.try_clone()?);
    for length in [own.len(), key_store.iter().map(Vec::len).sum()] {
        file.write_all(&u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes())?;
    }
    file.write_all(own)?;
    key_store.iter().map(Vec::as_slice).chain(parts.iter().copied()).try_for_each(|part| file.write_all(part))
}

impl Bundle {
    /// Opens what the proxy wrote.
    pub(super) fn open(certificates: &OwnedFd) -> io::Result<Self> {
        let file = File::from(certificates.try_clone()?);
        let length = |index: usize| -> io::Result<u64> {
            let mut length = [0; LENGTH_BYTES];
            file.read_exact_at(&mut length, (index * LENGTH_BYTES) as u64)?;
            Ok(u32::from_ne_bytes(length).into())
        };
        let own_from = 2 * LENGTH_BYTES as u64;
        let store_from = own_from + length(0)?;
        let pem_from = store_from + length(1)?;
        let own = read(&file, &(own_from..store_from))?;
        let part = |bytes: Range<u64>| Part { bytes, written: None };
        let end = file.metadata()?.len();
        Ok(Self { own, pem: part(pem_from..end), key_store: part(store_from..pem_from), file })
    }

    /// The session CA's own certificate.
    pub(super) fn own(&self) -> &[u8] {
        &self.own
    }

    /// The bytes of one of the two that are long: [`Contents::CaKeyStore`], else the bundle.
    pub(super) fn read(&self, which: &Contents) -> io::Result<Vec<u8>> {
        read(&self.file, &self.part(which).bytes)
    }

    /// Writes one of them to a file of the sandbox, without taking it through this process's memory.
    pub(super) fn write_to(&mut self, root: &Root, path: &Path, mode: u32, which: &Contents) -> io::Result<()> {
        let target = root.make_file(path, mode)?;
        let Range { start: mut offset, end } = self.part(which).bytes;
        while offset < end {
            let left = usize::try_from(end - offset).map_err(io::Error::other)?;
            if sendfile(&target, &self.file, Some(&mut offset), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let part = if *which == Contents::CaKeyStore { &mut self.key_store } else { &mut self.pem };
        part.written.get_or_insert_with(|| path.to_owned());
        Ok(())
    }

    /// The file of the sandbox that holds one of them already.
    pub(super) fn written(&self, which: &Contents) -> Option<&Path> {
        self.part(which).written.as_deref()
    }

    fn part(&self, which: &Contents) -> &Part {
        if *which == Contents::CaKeyStore { &self.key_store } else { &self.pem }
    }
}

fn read(file: &File, bytes: &Range<u64>) -> io::Result<Vec<u8>> {
    let length = usize::try_from(bytes.end.saturating_sub(bytes.start)).map_err(io::Error::other)?;
    let mut read = vec![0; length];
    file.read_exact_at(&mut read, bytes.start)?;
    Ok(read)
}
