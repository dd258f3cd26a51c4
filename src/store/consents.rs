//! The consents that people gave beyond one session: a file of a person's own that is only added to, a line for each that is
//! given or taken back.
//!
//! It lies in the home, which no sandbox is shown and no repository brings along. A file that cannot be read holds no consent.

use super::{Home, StoreError};
use crate::model::{SessionId, Timestamp};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Group and others' permission to write.
const MODE_WRITE_OTHERS: u32 = 0o022;

/// A person's yes to requests of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingConsent {
    /// What it is named by: the question that it first answered.
    pub id: String,
    /// Whose sessions it is for.
    pub user: String,
    /// The profile of those sessions.
    pub profile: String,
    /// The directory that they work in.
    pub workspace: String,
    /// The rules, as texts, that together say which requests it is about.
    pub covers: Vec<String>,
    /// The rules whose question it answers, in canonical form.
    pub asked_by: Vec<String>,
    /// Who gave it.
    pub by: String,
    /// In which session.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Given(StandingConsent),
    TakenBack { id: String, by: String, at: Timestamp },
}

/// What a question must be to be answered by a consent.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose session asks.
    pub user: &'a str,
    /// Its profile.
    pub profile: &'a str,
    /// The directory it works in.
    pub workspace: &'a str,
    /// The narrowest rules that together are about the request.
    pub covers: &'a [String],
    /// The rules that ask, in canonical form.
    pub asked_by: &'a [String],
}

impl StandingConsent {
    /// Whether it answers: it is about all that is wanted, and answers all that ask.
    #[must_use]
    pub fn answers(&self, wanted: &Wanted<'_>) -> bool {
        let same = self.user == wanted.user && self.profile == wanted.profile && self.workspace == wanted.workspace;
        let within = |all: &[String], some: &[String]| !some.is_empty() && some.iter().all(|one| all.contains(one));
        same && within(&self.covers, wanted.covers) && within(&self.asked_by, wanted.asked_by)
    }
}

/// The consents that count now.
///
/// # Errors
/// [`StoreError::Consents`] for a file that cannot be read, that others can write to, or in which a line makes no sense.
pub fn read_consents(home: &Home) -> Result<Vec<StandingConsent>, StoreError> {
    let failed = |cause| StoreError::Consents { path: home.consents(), cause };
    let text = match open(home, OFlags::RDONLY).and_then(|file| file.map(text).transpose()) {
        Ok(None) => return Ok(Vec::new()),
        other => other.map_err(failed)?.unwrap_or_default(),
    };
    let mut counts: Vec<StandingConsent> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match serde_json::from_str(line).map_err(|error| failed(error.into()))? {
            Line::Given(consent) => counts.push(consent),
            Line::TakenBack { id, .. } => counts.retain(|consent| consent.id != id),
        }
    }
    Ok(counts)
}

/// Adds a consent, which is on the disk when this returns.
///
/// # Errors
/// [`StoreError::Consents`] when it cannot be written.
pub fn give_consent(home: &Home, consent: StandingConsent) -> Result<(), StoreError> {
    append(home, &Line::Given(consent))
}

/// Takes a consent back: no question is answered by it any more, in sessions that run either.
///
/// # Errors
/// [`StoreError::Consents`] when that cannot be written.
pub fn take_consent_back(home: &Home, id: &str, by: &str, at: Timestamp) -> Result<(), StoreError> {
    append(home, &Line::TakenBack { id: id.to_owned(), by: by.to_owned(), at })
}

fn append(home: &Home, line: &Line) -> Result<(), StoreError> {
    let failed = |cause| StoreError::Consents { path: home.consents(), cause };
    let write = || -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        let mut file = open(home, flags)?.ok_or(io::ErrorKind::NotFound)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let before = text(file.try_clone()?)?;
        // What was cut off by a full disk must not swallow what follows.
        let ends = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        let line = format!("{ends}{}\n", serde_json::to_string(line)?);
        if (before.len() + line.len()) as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it would be longer than {FILE_BYTES_MAX} bytes")));
        }
        file.write_all(line.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed)
}

/// Opens the file; none where it is not there and is not to be made.
fn open(home: &Home, flags: OFlags) -> io::Result<Option<File>> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(home.consents(), flags, Mode::RUSR | Mode::WUSR) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => File::from(other?),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.mode() & MODE_WRITE_OTHERS != 0 {
        return Err(io::Error::other("it is not a file that its owner alone can write to"));
    }
    Ok(Some(file))
}

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    match read as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes"))),
        false => Ok(text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn consent(id: &str) -> StandingConsent {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        StandingConsent {
            id: id.to_owned(),
            user: "ada".to_owned(),
            profile: "codex".to_owned(),
            workspace: "/w".to_owned(),
            covers: texts(&["POST a.example/x", "POST a.example/y"]),
            asked_by: texts(&["ask * a.example:443/**"]),
            by: "ada".to_owned(),
            session: SessionId::from_entropy([1; 10]),
            at: Timestamp(1),
        }
    }

    #[test]
    fn a_consent_answers_what_it_is_about_and_nothing_wider() {
        let consent = consent("a");
        let (covers, asked_by) = (consent.covers.clone(), consent.asked_by.clone());
        let (user, profile, workspace) = ("ada", "codex", "/w");
        let wanted = Wanted { user, profile, workspace, covers: &covers[..1], asked_by: &asked_by };
        assert!(consent.answers(&wanted));
        let wider = [covers[0].clone(), "POST a.example/z".to_owned()];
        let stricter = [asked_by[0].clone(), "ask POST a.example:443/x".to_owned()];
        for other in [
            Wanted { covers: &wider, ..wanted },
            Wanted { covers: &[], ..wanted },
            Wanted { asked_by: &stricter, ..wanted },
            Wanted { asked_by: &[], ..wanted },
            Wanted { user: "bob", ..wanted },
            Wanted { profile: "claude-code", ..wanted },
            Wanted { workspace: "/w/x", ..wanted },
        ] {
            assert!(!consent.answers(&other), "{other:?}");
        }
    }

    #[test]
    fn what_was_taken_back_counts_no_more_and_what_is_broken_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        assert_eq!(read_consents(&home).unwrap(), []);
        for id in ["a", "b"] {
            give_consent(&home, consent(id)).unwrap();
        }
        take_consent_back(&home, "a", "ada", Timestamp(2)).unwrap();
        assert_eq!(read_consents(&home).unwrap(), [consent("b")]);
        let whole = std::fs::read_to_string(home.consents()).unwrap();
        std::fs::write(home.consents(), &whole[..whole.len() - 3]).unwrap();
        read_consents(&home).unwrap_err();
        std::fs::write(home.consents(), &whole).unwrap();
        std::fs::set_permissions(home.consents(), PermissionsExt::from_mode(0o666)).unwrap();
        read_consents(&home).unwrap_err();
        std::fs::remove_file(home.consents()).unwrap();
        std::os::unix::fs::symlink("/dev/null", home.consents()).unwrap();
        read_consents(&home).unwrap_err();
        give_consent(&home, consent("c")).unwrap_err();
    }
}
