//! The hash tree over the ledger's entries, as RFC 6962 (§2.1) and RFC 9162 (§2.1) have it.
//!
//! Whoever keeps the tree offers the hashes of complete subtrees; everything else follows from those.

use super::Hash;
use sha2::{Digest, Sha256};

/// Most hashes in a proof: a tree of 2^63 entries has no longer path.
pub const PROOF_HASHES_MAX: usize = 63;
/// Keep leaves and inner nodes apart (RFC 6962, §2.1).
const LEAF: [u8; 1] = [0];
const NODE: [u8; 1] = [1];

/// The hash of one entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update(LEAF).chain_update(entry).finalize().into())
}

/// The hash of two neighbouring subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update(NODE).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The root of a tree without entries.
#[must_use]
pub fn empty_root() -> Hash {
    Hash(Sha256::new().finalize().into())
}

/// Somewhere the hashes of complete subtrees come from.
pub trait Subtrees {
    /// Why one cannot be had.
    type Error;

    /// The hash over the entries from `index << level` on, `1 << level` of them. All of them are in the tree.
    ///
    /// # Errors
    /// Whatever keeps the tree from being read.
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two below `count`, which is at least 2: where RFC 6962 splits a tree.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The hash over the entries from `start` up to `end`. `start` is where a split of the tree begins.
fn range<S: Subtrees>(tree: &mut S, start: u64, end: u64) -> Result<Hash, S::Error> {
    let count = end - start;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return tree.subtree(level, start >> level);
    }
    let middle = start + split(count);
    let (left, right) = (range(tree, start, middle)?, range(tree, middle, end)?);
    Ok(node_hash(&left, &right))
}

/// The root of the tree as it was with `size` entries.
///
/// # Errors
/// Whatever keeps the tree from being read.
pub fn root<S: Subtrees>(tree: &mut S, size: u64) -> Result<Hash, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range(tree, 0, size) }
}

/// What proves that the entry at `index`, below `size`, is in the tree of that size: from its sibling up.
///
/// # Errors
/// Whatever keeps the tree from being read.
pub fn inclusion<S: Subtrees>(tree: &mut S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range(tree, middle, end)?);
            end = middle;
        } else {
            path.push(range(tree, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What proves that the tree of `old` entries is the beginning of that of `new`; `old` is not larger.
///
/// # Errors
/// Whatever keeps the tree from being read.
pub fn consistency<S: Subtrees>(tree: &mut S, old: u64, new: u64) -> Result<Vec<Hash>, S::Error> {
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut start, mut end, mut proof, mut whole) = (0, new, Vec::new(), true);
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range(tree, middle, end)?);
            end = middle;
        } else {
            proof.push(range(tree, start, middle)?);
            start = middle;
            whole = false;
        }
    }
    // Who checks the proof has the old root, which is this very subtree when the old tree was complete.
    if !whole {
        proof.push(range(tree, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that follows from an entry's hash and its proof (RFC 9162, §2.1.3.2); none when the proof has the wrong length.
#[must_use]
pub fn root_from_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether a proof shows that a tree is the beginning of another (RFC 9162, §2.1.4.2). Each is its size and root.
#[must_use]
pub fn is_consistent(old: (u64, Hash), new: (u64, Hash), proof: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 {
        return proof.is_empty() && old_root == empty_root();
    }
    if old_size >= new_size {
        return old_size == new_size && proof.is_empty() && old_root == new_root;
    }
    let (first, rest) = match proof.split_first() {
        _ if old_size.is_power_of_two() => (old_root, proof),
        Some((first, rest)) => (*first, rest),
        None => return false,
    };
    let (mut place, mut last) = (old_size - 1, new_size - 1);
    while place & 1 == 1 {
        (place, last) = (place >> 1, last >> 1);
    }
    let (mut of_old, mut of_new) = (first, first);
    for hash in rest {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            (of_old, of_new) = (node_hash(hash, &of_old), node_hash(hash, &of_new));
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            of_new = node_hash(&of_new, hash);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && of_old == old_root && of_new == new_root
}

/// A tree that is walked through from its first entry, of which only the right edge is kept.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    size: u64,
    /// The hashes of the complete subtrees that the size is made of, the largest first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// How many entries it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes one entry's hash in, and tells of each subtree that it completes: its level, its index and its hash.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(u32, u64, &Hash)) {
        completed(0, self.size, &leaf);
        self.add(0, leaf, &mut completed);
    }

    /// Takes the tree over the entries that come next in, and tells of each subtree that both complete together. The size so far is
    /// a multiple of the power of two that is not below that tree's size: as where entries are divided into parts of one.
    pub fn join(&mut self, next: &Self, mut completed: impl FnMut(u32, u64, &Hash)) {
        let levels = (0..u64::BITS).rev().filter(|level| next.size >> level & 1 == 1);
        for (level, peak) in levels.zip(&next.peaks) {
            self.add(level, *peak, &mut completed);
        }
    }

    /// Takes the next complete subtree of a level in.
    fn add(&mut self, level: u32, subtree: Hash, completed: &mut impl FnMut(u32, u64, &Hash)) {
        let (mut hash, mut above) = (subtree, level);
        while self.size >> above & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            above += 1;
            completed(above, self.size >> above, &hash);
        }
        self.peaks.push(hash);
        self.size += 1 << level;
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}
