//! The ledger as static files of C2SP's layout (c2sp.org/tlog-tiles), for any web server and the tools of others.

use super::super::{Home, StoreError};
use super::LedgerError;
use super::files::{Files, HASH_FILES, LEVELS, WIDTH};
use super::key::replace;
use super::sign::Checkpointed;
use crate::ledger::{ENTRY_BYTES, Hash, Subtrees};
use std::path::{Path, PathBuf};

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// How many entries the exported ledger has.
    pub size: u64,
    /// How many files were written; those that were there already are final.
    pub written: u64,
}

/// Writes the ledger as it was signed to a directory. What an earlier export wrote there is kept: tiles never change.
pub(in super::super) fn export(home: &Home, signed: &Checkpointed, to: &Path) -> Result<Exported, StoreError> {
    let missing = || LedgerError::Missing { what: "its first entry".to_owned() };
    let mut files = Files::open(home)?.ok_or_else(missing)?;
    let size = signed.checkpoint.size;
    let mut written = 0;
    for tile in tiles(0, size) {
        let entries = files.read(tile.index * WIDTH, tile.width)?;
        // Each entry after its length, in two bytes.
        let length = u16::try_from(ENTRY_BYTES).unwrap_or(u16::MAX).to_be_bytes();
        let bytes = || entries.iter().flat_map(|entry| length.iter().chain(entry)).copied().collect();
        written += write(to, &tile.path("entries"), bytes)?;
    }
    for level in 0..=HASH_FILES {
        for tile in tiles(level, size) {
            let hashes = hashes(&mut files, level, &tile)?;
            let bytes = || hashes.iter().flat_map(|hash| hash.0).collect();
            written += write(to, &tile.path(&level.to_string()), bytes)?;
        }
    }
    // Last, so that it never names a tile that is not there.
    replace(&to.join("checkpoint"), signed.note.to_string().as_bytes())?;
    Ok(Exported { size, written })
}

fn hashes(files: &mut Files, level: u32, tile: &Tile) -> Result<Vec<Hash>, StoreError> {
    let start = tile.index * WIDTH;
    (start..start + tile.width).map(|index| files.subtree(level * LEVELS, index)).collect()
}

/// One tile of a level.
struct Tile {
    index: u64,
    width: u64,
}

/// All tiles of a level in a tree of this size; the last may be partial.
fn tiles(level: u32, size: u64) -> impl Iterator<Item = Tile> {
    let count = size >> (LEVELS * level);
    (0..count.div_ceil(WIDTH)).map(move |index| Tile { index, width: WIDTH.min(count - index * WIDTH) })
}

impl Tile {
    /// Where it lies: three digits of its index in each part of the path.
    fn path(&self, level: &str) -> PathBuf {
        let mut parts = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            parts.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        parts.reverse();
        let mut path = format!("tile/{level}/{}", parts.join("/"));
        if self.width < WIDTH {
            path.push_str(&format!(".p/{}", self.width));
        }
        PathBuf::from(path)
    }
}

/// Writes one file unless it is there; says how many were written.
fn write(to: &Path, name: &Path, bytes: impl FnOnce() -> Vec<u8>) -> Result<u64, StoreError> {
    let path = to.join(name);
    if path.exists() {
        return Ok(0);
    }
    let directory = path.parent().unwrap_or(to);
    let failed = |cause| LedgerError::File { step: "make", path: directory.to_owned(), cause };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut fresh = path.clone().into_os_string();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let written = std::fs::write(&fresh, bytes()).and_then(|()| std::fs::rename(&fresh, &path));
    written.map_err(|cause| LedgerError::File { step: "write", path: path.clone(), cause })?;
    Ok(1)
}
