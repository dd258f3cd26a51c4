//! What a user and the server say to each other: one message a datagram, as `supervisor::wire` sends them.
//!
//! The request itself is a file in memory whose descriptor comes beside the first message, so that it may be as long as
//! command lines are.

use crate::model::ExitStatus;
use crate::session::SentSecrets;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use zeroize::Zeroizing;

/// Longest request, or file of secrets, in bytes: a command line may have 2 MiB (execve(2)), a profile or policy 1 MiB.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// Most words of a command line.
const WORDS_MAX: usize = 16 * 1024;
/// Most environment variables, files or secrets in a request.
const ENTRIES_MAX: usize = 4096;

/// The descriptors beside [`Say::Begin`]: request, secrets, and the three standard streams.
pub(super) const DESCRIPTORS: usize = 5;

/// What a visit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To run a session.
    Session,
    /// To read the records of one's own sessions.
    Records,
}

/// The first message: all that the server itself reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    /// The caller's omni, since the rest of what they say is understood by the same version alone.
    pub version: String,
    pub kind: Kind,
}

/// What a user says after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Say {
    /// What is wanted comes with this as descriptors.
    Begin,
    /// Give the session this signal.
    Signal(i32),
    /// The job was stopped and goes on.
    Continue,
}

/// What a user is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// There is no room yet.
    Waiting(String),
    /// There will be nothing.
    Refused(String),
    /// The session's process has the standard streams.
    Begun,
    /// The session stopped; the user's job shall too.
    Stopped,
    /// It ended.
    Ended(ExitStatus),
}

/// What a user wants, in words that mean the same on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command line after `omni`.
    pub words: Vec<String>,
    /// The directory it was typed in.
    pub directory: String,
    /// The environment variables that the session may know.
    pub environment: BTreeMap<String, String>,
    /// The profile, read by the user, not by the server: what errors call it, and its text.
    pub profile: (String, String),
    /// The file that a change of the profile goes to, and whether the profile is in it already.
    pub profile_file: Option<(String, bool)>,
    /// The other files that the command line names, by the names it has for them.
    pub files: BTreeMap<String, String>,
    /// The names of the secrets that come beside this.
    pub secrets: Vec<String>,
    /// The caller's file mode creation mask.
    pub umask: u32,
}

impl Request {
    /// Whether it holds no more than it may.
    pub(super) fn check(self) -> io::Result<Self> {
        let Self { words, environment, files, secrets, .. } = &self;
        let entries = [environment.len(), files.len(), secrets.len()].into_iter().max().unwrap_or(0);
        if words.len() > WORDS_MAX || entries > ENTRIES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is out of all proportion"));
        }
        Ok(self)
    }
}

/// Writes a value to a file in memory that nobody can change any more.
pub(super) fn seal(name: &str, value: &impl Serialize) -> io::Result<OwnedFd> {
    let text = Zeroizing::new(serde_json::to_vec(value)?);
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(file);
    file.write_all(&text)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Reads the secrets that a user sent.
///
/// # Errors
/// When they are not what they should be.
pub fn sent_secrets(file: &OwnedFd) -> io::Result<SentSecrets> {
    unseal(file)
}

/// Reads a value from such a file. Anything else is refused unread: reading it could wait, or never end.
///
/// # Errors
/// When it is no sealed file in memory, too long, or not what it should be.
pub(super) fn unseal<T: DeserializeOwned>(file: &OwnedFd) -> io::Result<T> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    let seals = fcntl(file.as_fd(), FcntlArg::F_GET_SEALS).map_err(|_| invalid("it is no file in memory"))?;
    if !SealFlag::from_bits_truncate(seals).contains(wanted) {
        return Err(invalid("it can still be changed"));
    }
    let mut file = File::from(file.try_clone()?);
    let length = file.metadata()?.len();
    if length > DOCUMENT_BYTES_MAX {
        return Err(invalid("it is too long"));
    }
    file.rewind()?;
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0)));
    file.take(DOCUMENT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_again() {
        let sealed = seal("test", &vec!["a", "b"]).unwrap();
        assert_eq!(unseal::<Vec<String>>(&sealed).unwrap(), ["a", "b"]);
        assert_eq!(unseal::<Vec<String>>(&sealed).unwrap(), ["a", "b"], "reading it moves nothing");
    }

    #[test]
    fn what_could_change_or_block_is_not_read() {
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(unseal::<Vec<String>>(&open).unwrap_err().to_string(), "it can still be changed");
        let (pipe, _end) = rustix::pipe::pipe().unwrap();
        assert_eq!(unseal::<Vec<String>>(&pipe).unwrap_err().to_string(), "it is no file in memory");
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let file = rustix::fs::memfd_create("long", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&file, DOCUMENT_BYTES_MAX + 1).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE).unwrap();
        assert_eq!(unseal::<Vec<String>>(&file).unwrap_err().to_string(), "it is too long");
    }

    #[test]
    fn a_request_out_of_proportion_is_refused() {
        let request = Request { words: vec![String::new(); WORDS_MAX], ..Request::default() };
        assert_eq!(request.clone().check().unwrap(), request);
        let longer = Request { words: vec![String::new(); WORDS_MAX + 1], ..request };
        assert!(longer.check().is_err());
    }
}
