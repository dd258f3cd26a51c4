//! Reading a journal's file piece by piece, so that no file is too large.

use super::{Home, StoreError};
use crate::ledger::{Chain, Decoded, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, Tail, decode, resume};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// How much of a journal is in memory at once; several times the largest frame, so that every piece holds a whole one.
const PIECE_BYTES_MAX: u64 = 4 * PAYLOAD_BYTES_MAX as u64;

/// A verified place in a journal's file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// The frames before it and the last hash.
    pub chain: Chain,
    /// The same place in bytes; 0 is before the header.
    pub offset: u64,
}

/// A journal's file that is being read.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    header: Header,
    piece: Vec<u8>,
}

/// What one piece held.
pub(super) struct Piece<'a> {
    /// The frames and how they end.
    pub decoded: Decoded<'a>,
    /// Whether the file goes on after the piece, so that its torn end means nothing.
    pub more: bool,
}

impl Position {
    /// The file's beginning.
    pub fn start(header: &Header) -> Self {
        Self { chain: Chain::begin(header), offset: 0 }
    }
}

impl Reader {
    /// Opens a journal for reading; none when there is no such file.
    pub fn open(home: &Home, header: Header) -> Result<Option<Self>, StoreError> {
        let path = home.journal(&header.session, header.writer);
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path) {
            Ok(file) => Ok(Some(Self { path, file, header, piece: Vec::new() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(StoreError::JournalRead { path, cause }),
        }
    }

    /// How long the file is now, in bytes.
    pub fn length(&self) -> Result<u64, StoreError> {
        let failed = |cause| StoreError::JournalRead { path: self.path.clone(), cause };
        self.file.metadata().map(|found| found.len()).map_err(failed)
    }

    /// Reads and verifies what follows a place, up to the piece's bound.
    pub fn next(&mut self, from: Position) -> Result<Piece<'_>, StoreError> {
        let failed = |cause| StoreError::JournalRead { path: self.path.clone(), cause };
        self.piece.clear();
        self.file.seek(SeekFrom::Start(from.offset)).map_err(failed)?;
        (&self.file).take(PIECE_BYTES_MAX).read_to_end(&mut self.piece).map_err(failed)?;
        let full = self.piece.len() as u64 == PIECE_BYTES_MAX;
        let decoded = if from.offset < HEADER_BYTES as u64 {
            decode(&self.header, &self.piece)
        } else {
            resume(from.chain, from.offset, &self.piece)
        };
        let more = full && !matches!(decoded.tail, Tail::Broken { .. });
        Ok(Piece { decoded, more })
    }
}
