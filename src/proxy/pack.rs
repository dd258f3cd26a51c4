//! The commits at the beginning of a pack (gitformat-pack(5)), to see whether a reference only moves forward: whether what
//! is there already is among the ancestors of what is to be there.
//!
//! An id is the hash of its object, so that whoever shows a chain of commits from the new one back to the old one has
//! proved it. What is not proved here may be forward all the same: the server may have the commits between already.

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use std::collections::{HashMap, HashSet};

/// How much of a pack is read.
pub(super) const PACK_BYTES_MAX: usize = 4 << 20;
/// Longest commit that is read.
const COMMIT_BYTES_MAX: usize = 256 << 10;
/// Bytes of all commits that are kept, as others may be written as their differences.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Bytes of a pack's head: `PACK`, a version, the number of objects.
const HEAD_BYTES: usize = 12;
/// Types of objects.
const COMMIT: u8 = 1;
const TAG: u8 = 4;
/// An object that is written as its difference to one further ahead in the pack.
const OFFSET_DELTA: u8 = 6;

/// The reading of one pack. Every object is read once, however the pack comes in pieces.
pub(super) struct Pack {
    algorithm: &'static Algorithm,
    /// Bytes that were read.
    at: usize,
    /// The parents of each commit, by their ids in hexadecimal.
    parents: HashMap<String, Vec<String>>,
    /// Each commit by where it begins.
    kept: HashMap<usize, Vec<u8>>,
    kept_bytes: usize,
}

/// Why nothing more is read.
enum Stop {
    /// More of it is needed.
    Short,
    /// There are no more commits, or none that can be read.
    Over,
}

impl Pack {
    /// Begins to read the pack of a repository whose ids have so many characters.
    pub(super) fn new(id_characters: usize) -> Self {
        let algorithm = if id_characters == 40 { &SHA1_FOR_LEGACY_USE_ONLY } else { &SHA256 };
        Self { algorithm, at: 0, parents: HashMap::new(), kept: HashMap::new(), kept_bytes: 0 }
    }

    /// Reads on, given all of the pack that there is by now; false once there is nothing more to learn.
    pub(super) fn read(&mut self, pack: &[u8]) -> bool {
        loop {
            match self.object(pack) {
                Ok(()) if self.kept_bytes <= KEPT_BYTES_MAX => {}
                Err(Stop::Short) => return pack.len() < PACK_BYTES_MAX,
                Ok(()) | Err(Stop::Over) => return false,
            }
        }
    }

    /// Whether one commit is among the ancestors of another, as far as is known.
    pub(super) fn follows(&self, new: &str, old: &str) -> bool {
        let (mut seen, mut next) = (HashSet::new(), vec![new]);
        while let Some(id) = next.pop() {
            let Some(parents) = self.parents.get(id) else { continue };
            if parents.iter().any(|parent| parent == old) {
                return true;
            }
            next.extend(parents.iter().map(String::as_str).filter(|parent| seen.insert(*parent)));
        }
        false
    }

    /// Reads the head, or one object.
    fn object(&mut self, pack: &[u8]) -> Result<(), Stop> {
        if self.at == 0 {
            let head = pack.get(..HEAD_BYTES).ok_or(Stop::Short)?;
            if !head.starts_with(b"PACK\0\0\0") || !matches!(head[7], 2 | 3) {
                return Err(Stop::Over);
            }
            self.at = HEAD_BYTES;
        }
        let begin = self.at;
        let mut rest = pack.get(begin..).unwrap_or_default();
        let (kind, size) = kind_and_size(&mut rest)?;
        let content = match kind {
            COMMIT | TAG => self.inflated(pack, rest, size)?,
            OFFSET_DELTA => {
                let back = distance(&mut rest)?;
                let base = begin.checked_sub(back).and_then(|base| self.kept.get(&base)).cloned().ok_or(Stop::Over)?;
                let delta = self.inflated(pack, rest, size)?;
                applied(&base, &delta).ok_or(Stop::Over)?
            }
            _ => return Err(Stop::Over),
        };
        if kind != TAG {
            self.keep(begin, content);
        }
        Ok(())
    }

    /// What was compressed, all of it, and what follows is what is read next.
    fn inflated(&mut self, pack: &[u8], rest: &[u8], size: usize) -> Result<Vec<u8>, Stop> {
        if size > COMMIT_BYTES_MAX {
            return Err(Stop::Over);
        }
        let mut state = InflateState::new_boxed(DataFormat::Zlib);
        // One byte more, so that the end of the stream is seen.
        let (mut out, mut taken, mut written) = (vec![0; size + 1], 0, 0);
        loop {
            let result = inflate(&mut state, &rest[taken..], &mut out[written..], MZFlush::None);
            taken += result.bytes_consumed;
            written += result.bytes_written;
            match result.status {
                Ok(MZStatus::StreamEnd) if written == size => break,
                Ok(MZStatus::Ok) if result.bytes_consumed + result.bytes_written > 0 && written <= size => {}
                Ok(MZStatus::Ok) | Err(MZError::Buf) if taken == rest.len() && written <= size => {
                    return Err(Stop::Short);
                }
                _ => return Err(Stop::Over),
            }
        }
        self.at = pack.len() - (rest.len() - taken);
        out.truncate(size);
        Ok(out)
    }

    fn keep(&mut self, begin: usize, content: Vec<u8>) {
        let mut context = Context::new(self.algorithm);
        context.update(format!("commit {}\0", content.len()).as_bytes());
        context.update(&content);
        let id = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.parents.insert(id, parents(&content));
        self.kept_bytes += content.len();
        self.kept.insert(begin, content);
    }
}

/// The parents that a commit names: the lines behind its tree, as git itself reads them. What looks like one further on is
/// none.
fn parents(commit: &[u8]) -> Vec<String> {
    let mut lines = commit.split(|byte| *byte == b'\n');
    let Some(_) = lines.next().filter(|line| line.starts_with(b"tree ")) else { return Vec::new() };
    let parent = |line: &[u8]| line.strip_prefix(b"parent ").and_then(|id| String::from_utf8(id.to_vec()).ok());
    lines.map_while(parent).collect()
}

fn byte(rest: &mut &[u8]) -> Result<u8, Stop> {
    let (first, others) = rest.split_first().ok_or(Stop::Short)?;
    *rest = others;
    Ok(*first)
}

fn kind_and_size(rest: &mut &[u8]) -> Result<(u8, usize), Stop> {
    let first = byte(rest)?;
    let (mut size, mut shift, mut more) = (usize::from(first & 15), 4_u32, first & 128 != 0);
    while more {
        let next = byte(rest)?;
        let part = usize::from(next & 127).checked_shl(shift).filter(|_| shift < 56).ok_or(Stop::Over)?;
        (size, shift, more) = (size | part, shift + 7, next & 128 != 0);
    }
    Ok((first >> 4 & 7, size))
}

/// How far back the base of a difference begins.
fn distance(rest: &mut &[u8]) -> Result<usize, Stop> {
    let mut next = byte(rest)?;
    let mut distance = usize::from(next & 127);
    while next & 128 != 0 {
        next = byte(rest)?;
        let grown = distance.checked_add(1).and_then(|more| more.checked_mul(128)).ok_or(Stop::Over)?;
        distance = grown | usize::from(next & 127);
    }
    Ok(distance)
}

/// A number of a difference: seven bits in each byte, the lowest first.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let (mut value, mut shift) = (0, 0_u32);
    loop {
        let next = byte(rest).ok()?;
        value |= usize::from(next & 127).checked_shl(shift).filter(|_| shift < 56)?;
        if next & 128 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

/// What a difference makes of its base.
fn applied(base: &[u8], mut delta: &[u8]) -> Option<Vec<u8>> {
    let (from, to) = (number(&mut delta)?, number(&mut delta)?);
    if from != base.len() || to > COMMIT_BYTES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(to);
    while !delta.is_empty() {
        let order = byte(&mut delta).ok()?;
        if order & 128 == 0 {
            let (added, rest) = delta.split_at_checked(usize::from(order)).filter(|_| order != 0)?;
            out.extend_from_slice(added);
            delta = rest;
        } else {
            let mut part = |bits: std::ops::Range<u8>| {
                let first = bits.start;
                bits.filter(|bit| order >> bit & 1 == 1).try_fold(0, |value, bit| {
                    byte(&mut delta).ok().map(|next| value | usize::from(next) << (8 * (bit - first)))
                })
            };
            let (offset, size) = (part(0..4)?, part(4..7)?);
            let size = if size == 0 { 0x10000 } else { size };
            out.extend_from_slice(base.get(offset..offset.checked_add(size)?)?);
        }
        if out.len() > to {
            return None;
        }
    }
    (out.len() == to).then_some(out)
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
