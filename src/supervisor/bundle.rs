//! The certificates that the proxy makes while the sandbox is built, in a file in memory: the length of the session CA's own
//! certificate (four bytes, native order), that certificate, and the bundle for programs, which has the host's roots too.

use super::root::Root;
use rustix::fs::sendfile;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of the length that the file begins with.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Both, for the steps that show them.
#[derive(Debug)]
pub(super) struct Bundle {
    file: File,
    own: Vec<u8>,
    /// The file of the sandbox that holds the bundle, once there is one.
    written: Option<PathBuf>,
}

/// Writes the file that [`Bundle::open`] reads.
///
/// # Errors
/// Those of writing.
pub fn write_bundle(file: &OwnedFd, own: &[u8], parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::from(file.try_clone()?);
    file.write_all(&u32::try_from(own.len()).map_err(io::Error::other)?.to_ne_bytes())?;
    file.write_all(own)?;
    parts.iter().try_for_each(|part| file.write_all(part))
}

impl Bundle {
    /// Opens what the proxy wrote.
    pub(super) fn open(certificates: &OwnedFd) -> io::Result<Self> {
        let file = File::from(certificates.try_clone()?);
        let mut length = [0; LENGTH_BYTES];
        file.read_exact_at(&mut length, 0)?;
        let mut own = vec![0; u32::from_ne_bytes(length) as usize];
        file.read_exact_at(&mut own, LENGTH_BYTES as u64)?;
        Ok(Self { file, own, written: None })
    }

    /// The session CA's own certificate.
    pub(super) fn own(&self) -> &[u8] {
        &self.own
    }

    /// The bundle's bytes.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length()?).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, self.start())?;
        Ok(bytes)
    }

    /// Writes the bundle to a file of the sandbox, without taking it through this process's memory.
    pub(super) fn write_to(&mut self, root: &Root, path: &Path, mode: u32) -> io::Result<()> {
        let target = root.make_file(path, mode)?;
        let (mut offset, end) = (self.start(), self.start() + self.length()?);
        while offset < end {
            let left = usize::try_from(end - offset).map_err(io::Error::other)?;
            if sendfile(&target, &self.file, Some(&mut offset), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.written.get_or_insert_with(|| path.to_owned());
        Ok(())
    }

    /// The file of the sandbox that holds it already.
    pub(super) fn written(&self) -> Option<&Path> {
        self.written.as_deref()
    }

    fn start(&self) -> u64 {
        (LENGTH_BYTES + self.own.len()) as u64
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(self.start()))
    }
}
