//! The files of a ledger and of journals, made again from what PostgreSQL keeps: byte for byte those that the embedded store
//! and the machines have. So one check, one export and anybody's tools serve both.

use super::fold::hash;
use super::ledger::HASH_LEVELS;
use super::link::{Fault, Link};
use super::summary_row::id;
use crate::ledger::{ENTRY_BYTES, Header};
use crate::model::{SessionId, Writer};
use crate::store::summary_row::signed;
use crate::store::{Home, LedgerError, StoreError};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many entries or hashes are asked for at once.
const PAGE_ROWS: u64 = 16_384;
/// How many events are asked for at once.
const PAGE_EVENTS: i64 = 1_000;

/// A directory of files made again, which goes when it is dropped.
pub(super) struct Scratch {
    home: Home,
    /// How many entries the store noted that the ledger has.
    pub noted: u64,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is in the way of nothing.
        let _ = std::fs::remove_dir_all(self.home.path());
    }
}

impl Scratch {
    fn make(home: &Home) -> Result<Self, StoreError> {
        let mut name = [0; 8];
        let failed = |path: &Path, cause| StoreError::HomeOpen { path: path.to_owned(), cause };
        getrandom::fill(&mut name).map_err(|error| failed(home.path(), error.into()))?;
        let path = home.path().join(format!("check-{:016x}", u64::from_ne_bytes(name)));
        DirBuilder::new().mode(0o700).create(&path).map_err(|cause| failed(&path, cause))?;
        Ok(Self { home: Home::find(&path)?, noted: 0 })
    }

    /// The ledger alone.
    pub fn of_ledger(link: &Link, home: &Home) -> Result<Self, StoreError> {
        let mut scratch = Self::make(home)?;
        scratch.noted = link.moment(|link| write_ledger(link, scratch.home.path()))?;
        Ok(scratch)
    }

    /// The ledger, and the journals of all machines: of this one they are the files themselves.
    pub fn of_everything(link: &Link, home: &Home, machine: &str) -> Result<Self, StoreError> {
        let mut scratch = Self::make(home)?;
        scratch.noted = link.moment(|link| {
            for row in link.query("SELECT session, machine FROM sessions", &[])? {
                let session = id(row.try_get(0)?)?;
                if row.try_get::<_, &str>(1)? != machine {
                    write_journals(link, scratch.home.path(), &session)?;
                    continue;
                }
                let place = scratch.home.session(&session);
                make_directories(&scratch.home.sessions())?;
                std::os::unix::fs::symlink(home.session(&session), &place).map_err(failed("make", &place))?;
            }
            write_ledger(link, scratch.home.path())
        })?;
        Ok(scratch)
    }

    /// Where they are.
    pub fn home(&self) -> &Home {
        &self.home
    }
}

fn failed(step: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Fault + use<> {
    let path = path.to_owned();
    move |cause| match StoreError::write(&path, cause) {
        StoreError::JournalWrite { path, cause } => LedgerError::File { step, path, cause }.into(),
        full => full.into(),
    }
}

fn make_directories(path: &Path) -> Result<(), Fault> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))
}

fn create(path: &Path) -> Result<BufWriter<File>, Fault> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    options.map(BufWriter::new).map_err(failed("make", path))
}

/// Writes the ledger's files into a directory's `ledger/`; how many entries the store noted that there are.
pub(super) fn write_ledger(link: &Link, directory: &Path) -> Result<u64, Fault> {
    let row =
        link.query_one("SELECT size, (SELECT coalesce(max(place) + 1, 0) FROM ledger_entries) FROM ledger", &[])?;
    let (noted, size) = (row.try_get::<_, i64>(0)?.cast_unsigned(), row.try_get::<_, i64>(1)?.cast_unsigned());
    let directory = directory.join("ledger");
    if size > 0 {
        make_directories(&directory)?;
        let text = "SELECT place, entry FROM ledger_entries WHERE place >= $1 AND place < $2 ORDER BY place";
        write_rows::<ENTRY_BYTES>(&directory.join("entries"), size, |from, to| {
            link.query(text, &[&signed(from), &signed(to)])
        })?;
    }
    for level in 1..=HASH_LEVELS {
        let level = i32::try_from(level).unwrap_or(i32::MAX);
        let text = "SELECT coalesce(max(place) + 1, 0) FROM ledger_hashes WHERE level = $1";
        let count = link.query_one(text, &[&level])?.try_get::<_, i64>(0)?.cast_unsigned();
        if count > 0 {
            make_directories(&directory)?;
            let text =
                "SELECT place, hash FROM ledger_hashes WHERE level = $1 AND place >= $2 AND place < $3 ORDER BY place";
            write_rows::<32>(&directory.join(format!("hashes.{level}")), count, |from, to| {
                link.query(text, &[&level, &signed(from), &signed(to)])
            })?;
        }
    }
    for row in link.query("SELECT name, note FROM ledger_notes", &[])? {
        let (name, note): (&str, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        if name.chars().all(|character| character.is_ascii_alphanumeric() || character == '.') && !name.starts_with('.')
        {
            make_directories(&directory)?;
            let path = directory.join(name);
            create(&path)?.write_all(note).map_err(failed("write", &path))?;
        }
    }
    Ok(noted)
}

/// Writes rows of one width, one after another. Zeros stand where one is missing, which no check takes for one.
fn write_rows<const WIDTH: usize>(
    path: &Path,
    count: u64,
    rows: impl Fn(u64, u64) -> Result<Vec<tokio_postgres::Row>, Fault>,
) -> Result<(), Fault> {
    let mut file = create(path)?;
    let mut from = 0;
    while from < count {
        let to = (from + PAGE_ROWS).min(count);
        let mut page = vec![0; usize::try_from(to - from).unwrap_or_default() * WIDTH];
        for row in rows(from, to)? {
            let index = usize::try_from(row.try_get::<_, i64>(0)?.cast_unsigned() - from).unwrap_or(usize::MAX);
            let bytes: &[u8] = row.try_get(1)?;
            if let Some(slot) = page.chunks_exact_mut(WIDTH).nth(index).filter(|_| bytes.len() == WIDTH) {
                slot.copy_from_slice(bytes);
            }
        }
        file.write_all(&page).map_err(failed("write", path))?;
        from = to;
    }
    file.flush().map_err(failed("write", path))
}

/// Writes one session's journals into a directory's `sessions/ID/`.
pub(super) fn write_journals(link: &Link, directory: &Path, session: &SessionId) -> Result<(), Fault> {
    let text = "SELECT number, payload, hash FROM events WHERE session = $1 AND writer = $2 AND number > $3 \
                ORDER BY number LIMIT $4";
    let directory: PathBuf = directory.join("sessions").join(session.as_str());
    make_directories(&directory)?;
    for writer in Writer::ALL {
        let mut after = 0_i64;
        let path = directory.join(format!("{}.journal", writer.as_str()));
        let known = "SELECT 1 FROM journals WHERE session = $1 AND writer = $2";
        if link.query_opt(known, &[&session.as_str(), &writer.as_str()])?.is_none() {
            continue;
        }
        let mut file = create(&path)?;
        let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(failed("write", &path));
        put(&Header { session: session.clone(), writer }.encode())?;
        loop {
            let rows = link.query(text, &[&session.as_str(), &writer.as_str(), &after, &PAGE_EVENTS])?;
            for row in &rows {
                after = row.try_get(0)?;
                let payload: &[u8] = row.try_get(1)?;
                let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                put(&length.to_be_bytes())?;
                put(&(!length).to_be_bytes())?;
                put(payload)?;
                put(&hash(row.try_get(2)?)?.0)?;
            }
            if rows.is_empty() {
                break;
            }
        }
        file.flush().map_err(failed("write", &path))?;
    }
    Ok(())
}
