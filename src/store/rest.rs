//! Bringing journals to rest: what nobody writes to any more, and was folded, is kept packed from then on.
//!
//! The packed file takes the place of the one that was written, in one step and not before it was read back from the disk: at
//! every moment there is one whole journal. Nobody waits for it but whoever asks the store, and each time for a few alone.

use super::read::{Position, Reader};
use super::{Home, StoreError};
use crate::ledger::{Header, Packer, Tail, packed_header};
use crate::model::Writer;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long nobody must have written to a journal.
pub(super) const QUIET_MIN: Duration = Duration::from_secs(3_600);
/// Of how many sessions at most one look brings the journals to rest. Each waits for the disk once or twice.
pub(super) const SESSIONS_MAX: usize = 8;
/// The journals that can be brought to rest: to the third is written again long after a session's end.
pub(super) const WRITERS: [Writer; 2] = [Writer::Session, Writer::Proxy];

/// Whether nobody has written to a file for as long as it takes.
pub(super) fn is_quiet(found: &std::fs::Metadata) -> bool {
    let age = |time: SystemTime| time.elapsed().ok();
    found.modified().ok().and_then(age).is_some_and(|age| age >= QUIET_MIN)
}

/// Packs one journal, if it is just what was folded of it and nobody may write to it. Whether there is nothing more to do for
/// it, now or later.
pub(super) fn bring_to_rest(home: &Home, header: &Header, folded: &Position) -> Result<bool, StoreError> {
    let path = home.journal(&header.session, header.writer);
    let Some(mut reader) = Reader::open(home, header.clone())? else { return Ok(true) };
    if reader.is_packed() {
        return Ok(true);
    }
    // Held until the other file is in its place. Where there are no locks, it stays as it is.
    if reader.file().try_lock().is_err() {
        return Ok(false);
    }
    if reader.length()? != folded.offset {
        return Ok(true);
    }
    let aside = Aside(path.with_extension("packing"));
    let failed = |cause| StoreError::write(&aside.0, cause);
    let written = write_packed(&mut reader, header, folded, &aside.0)?;
    let Some(file) = written else { return Ok(true) };
    // It is as old as what it holds.
    let modified = reader.file().metadata().and_then(|found| found.modified());
    modified.and_then(|time| file.set_modified(time)).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    if !holds(&aside.0, header, folded)? {
        return Ok(false);
    }
    std::fs::rename(&aside.0, &path).map_err(failed)?;
    Ok(true)
}

/// A file that is gone again, unless it took another's place.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // Mostly it was renamed.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a journal's packed file; none where the journal is not the whole one that was folded.
fn write_packed(
    reader: &mut Reader,
    header: &Header,
    folded: &Position,
    to: &Path,
) -> Result<Option<File>, StoreError> {
    let failed = |cause| StoreError::write(to, cause);
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(to);
    let mut file = BufWriter::new(file.map_err(failed)?);
    file.write_all(&packed_header(header, folded.offset)).map_err(failed)?;
    let (mut packer, mut position) = (Packer::default(), Position::start(header));
    loop {
        let piece = reader.next(position)?;
        for frame in &piece.decoded.frames {
            if let Some(block) = packer.push(header.writer, frame) {
                file.write_all(&block).map_err(failed)?;
            }
        }
        position = Position { chain: piece.decoded.chain, offset: piece.decoded.end };
        if piece.more {
            continue;
        }
        if piece.decoded.tail != Tail::Clean || position.chain != folded.chain {
            return Ok(None);
        }
        file.write_all(&packer.finish().unwrap_or_default()).map_err(failed)?;
        return file.into_inner().map(Some).map_err(|error: io::IntoInnerError<_>| failed(error.into_error()));
    }
}

/// Whether a packed file has just the frames that were folded.
fn holds(path: &Path, header: &Header, folded: &Position) -> Result<bool, StoreError> {
    let Some(mut reader) = Reader::open_file(path, header.clone())? else { return Ok(false) };
    let mut position = Position::start(header);
    loop {
        let piece = reader.next(position)?;
        position = Position { chain: piece.decoded.chain, offset: piece.decoded.end };
        if !piece.more {
            let same = position.chain == folded.chain && position.offset == folded.offset;
            return Ok(same && reader.is_packed());
        }
    }
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
