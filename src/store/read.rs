//! Reading a journal's file piece by piece, so that no file is too large, as it was written or at rest.

use super::{Home, StoreError};
use crate::ledger::{
    BLOCK_OVERHEAD_BYTES, Chain, Decoded, HEADER_BYTES, Header, HeaderFault, PACKED_HEADER_BYTES, PAYLOAD_BYTES_MAX,
    Tail, Unpacked, Why, block_length, decode, read_packed_header, resume,
};
use crate::model::{SessionId, Writer};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How much of a journal is in memory at once; several times the largest frame, so that every piece holds a whole one.
const PIECE_BYTES_MAX: u64 = 4 * PAYLOAD_BYTES_MAX as u64;
/// The same of a journal at rest, whose frames are in memory twice.
const UNPACKED_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
/// The length and its inverse before a block.
const LENGTH_BYTES: usize = 8;

/// A verified place in a journal's file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// The frames before it and the last hash.
    pub chain: Chain,
    /// The same place in bytes as the journal was written; 0 is before the header.
    pub offset: u64,
}

/// A journal's file that is being read.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    header: Header,
    piece: Vec<u8>,
    packed: Option<Packed>,
}

/// Where in a journal at rest was read up to.
#[derive(Debug)]
struct Packed {
    /// How long it was as it was written, if it is the journal of its place.
    length: Result<u64, HeaderFault>,
    /// The next block in the file.
    next: u64,
    /// The same place as the journal was written.
    place: Position,
    unpacked: Unpacked,
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
        Self::open_file(&home.journal(&header.session, header.writer), header)
    }

    /// Opens a file as a journal; none when there is no such file.
    pub fn open_file(path: &Path, header: Header) -> Result<Option<Self>, StoreError> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let failed = |cause| StoreError::JournalRead { path: path.to_owned(), cause };
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut first = [0; PACKED_HEADER_BYTES];
        let packed = match file.read_exact_at(&mut first, 0) {
            Ok(()) => read_packed_header(&header, &first).map(|length| Packed::of(&header, length)),
            // A journal that is just begun is shorter.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(cause) => return Err(failed(cause)),
        };
        Ok(Some(Self { path: path.to_owned(), file, header, piece: Vec::new(), packed }))
    }

    /// How long the journal is now, in bytes as it was written.
    pub fn length(&self) -> Result<u64, StoreError> {
        if let Some(Packed { length: Ok(length), .. }) = &self.packed {
            return Ok(*length);
        }
        self.file.metadata().map(|found| found.len()).map_err(self.failed())
    }

    /// Whether the journal is at rest.
    pub fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn failed(&self) -> impl Fn(io::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |cause| StoreError::JournalRead { path: path.clone(), cause }
    }

    /// Reads and verifies what follows a place, up to the piece's bound.
    pub fn next(&mut self, from: Position) -> Result<Piece<'_>, StoreError> {
        let failed = self.failed();
        if let Some(packed) = &mut self.packed {
            return packed.next(&self.file, &self.header, from).map_err(failed);
        }
        self.piece.clear();
        self.file.seek(SeekFrom::Start(from.offset)).map_err(&failed)?;
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

impl Packed {
    fn of(header: &Header, length: Result<u64, HeaderFault>) -> Self {
        let place = Position { offset: HEADER_BYTES as u64, ..Position::start(header) };
        Self { length, next: PACKED_HEADER_BYTES as u64, place, unpacked: Unpacked::default() }
    }

    /// As [`Reader::next`]: blocks lead to the place, from where was read up to or from the first.
    fn next(&mut self, file: &File, header: &Header, from: Position) -> io::Result<Piece<'_>> {
        if let Err(fault) = self.length {
            let tail = Tail::Broken { offset: 0, seq: 0, why: Why::Header(fault) };
            let decoded = Decoded { frames: Vec::new(), chain: from.chain, end: 0, tail };
            return Ok(Piece { decoded, more: false });
        }
        if from.offset < self.place.offset {
            *self = Self::of(header, self.length);
        }
        self.skip(file, from)?;
        let before = self.place;
        let more = self.open(file)?;
        let mut decoded = self.unpacked.frames(before.chain, before.offset);
        self.place = Position { chain: decoded.chain, offset: decoded.end };
        let known = usize::try_from(from.chain.frames().saturating_sub(before.chain.frames()));
        decoded.frames.drain(..known.unwrap_or(usize::MAX).min(decoded.frames.len()));
        let more = more && !matches!(decoded.tail, Tail::Broken { .. });
        Ok(Piece { decoded, more })
    }

    /// Moves on to the piece that has a place in it.
    fn skip(&mut self, file: &File, from: Position) -> io::Result<()> {
        while self.place.offset < from.offset {
            let before = (self.next, self.place);
            let more = self.open(file)?;
            let decoded = self.unpacked.frames(before.1.chain, before.1.offset);
            if decoded.end > from.offset || !more || matches!(decoded.tail, Tail::Broken { .. }) {
                (self.next, self.place) = before;
                break;
            }
            self.place = Position { chain: decoded.chain, offset: decoded.end };
        }
        Ok(())
    }

    /// Opens the blocks that come next, up to the piece's bound; whether there may be more.
    fn open(&mut self, file: &File) -> io::Result<bool> {
        self.unpacked.clear();
        let mut block = Vec::new();
        while self.unpacked.len() < UNPACKED_BYTES_MAX {
            let mut lengths = [0; LENGTH_BYTES];
            let found = read_up_to(file, &mut lengths, self.next)?;
            if found == 0 {
                return Ok(false);
            }
            let length = block_length(lengths).filter(|_| found == LENGTH_BYTES);
            let Some(length) = length else { return Ok(self.unpacked.damage()) };
            block.resize(length + BLOCK_OVERHEAD_BYTES - LENGTH_BYTES, 0);
            let found = read_up_to(file, &mut block, self.next + LENGTH_BYTES as u64)?;
            if found < block.len() {
                return Ok(self.unpacked.damage());
            }
            if !self.unpacked.push(&block) {
                return Ok(false);
            }
            self.next += (length + BLOCK_OVERHEAD_BYTES) as u64;
        }
        Ok(true)
    }
}

/// Whether a journal is as long as when so much of it was folded; where nothing was, whether there is none.
pub(super) fn is_as_long(home: &Home, session: &SessionId, writer: Writer, folded: Option<u64>) -> bool {
    let found = std::fs::symlink_metadata(home.journal(session, writer)).ok().map(|found| found.len());
    // One that is at rest is shorter than it was written.
    let packed = || {
        let reader = Reader::open(home, Header { session: session.clone(), writer }).ok()??;
        reader.packed?.length.ok()
    };
    found == folded || (found.is_some() && folded.is_some() && packed() == folded)
}

/// Reads as much as there is.
fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
