//! The tree and its texts beside published vectors and an implementation by others (Cloudflare's `tlog_tiles`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::convert::Infallible;
use tlog_tiles::{
    HashReader, check_record, check_tree, prove_record, prove_tree, record_hash, stored_hashes, tree_hash,
};

/// A tree that keeps the hashes of its entries alone.
struct Leaves(Vec<Hash>);

impl Subtrees for Leaves {
    type Error = Infallible;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
        if level == 0 {
            return Ok(self.0[usize::try_from(index).unwrap()]);
        }
        let (left, right) = (self.subtree(level - 1, 2 * index)?, self.subtree(level - 1, 2 * index + 1)?);
        Ok(node_hash(&left, &right))
    }
}

impl Leaves {
    fn of(entries: &[Vec<u8>]) -> Self {
        Self(entries.iter().map(|entry| leaf_hash(entry)).collect())
    }
}

/// The others' tree.
struct Stored(Vec<tlog_tiles::Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

impl Stored {
    fn of(entries: &[Vec<u8>]) -> Self {
        let mut tree = Self(Vec::new());
        for (index, entry) in (0..).zip(entries) {
            let more = stored_hashes(index, entry, &tree).unwrap();
            tree.0.extend(more);
        }
        tree
    }
}

fn theirs(hash: Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("entry {number}").into_bytes()).collect()
}

/// The entries and roots that implementations of Certificate Transparency test themselves with.
#[test]
fn roots_are_those_of_certificate_transparency() {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Leaves(inputs.iter().map(|input| leaf_hash(input)).collect());
    let mut frontier = Frontier::default();
    for (size, wanted) in (0u64..).zip(roots) {
        assert_eq!(root(&mut tree, size).unwrap().to_string(), wanted, "{size}");
        assert_eq!(frontier.root().to_string(), wanted, "{size}");
        if let Some(leaf) = tree.0.get(usize::try_from(size).unwrap()) {
            frontier.push(*leaf, |_, _, _| {});
        }
    }
}

#[test]
fn roots_and_proofs_are_those_of_others() {
    let entries = entries(70);
    let (mut ours, stored) = (Leaves::of(&entries), Stored::of(&entries));
    for size in 1..=entries.len() as u64 {
        let top = root(&mut ours, size).unwrap();
        assert_eq!(theirs(top), tree_hash(size, &stored).unwrap(), "{size}");
        for index in 0..size {
            let proof = inclusion(&mut ours, index, size).unwrap();
            let leaf = ours.0[usize::try_from(index).unwrap()];
            let of_theirs: Vec<_> = prove_record(size, index, &stored).unwrap();
            assert_eq!(proof.iter().copied().map(theirs).collect::<Vec<_>>(), of_theirs, "{index} in {size}");
            assert_eq!(root_from_inclusion(leaf, index, size, &proof), Some(top), "{index} in {size}");
            check_record(&of_theirs, size, theirs(top), index, record_hash(&entries[usize::try_from(index).unwrap()]))
                .unwrap();
        }
        for old in 1..=size {
            let (before, proof) = (root(&mut ours, old).unwrap(), consistency(&mut ours, old, size).unwrap());
            let of_theirs = prove_tree(size, old, &stored).unwrap();
            assert_eq!(proof.iter().copied().map(theirs).collect::<Vec<_>>(), of_theirs, "{old} to {size}");
            assert!(is_consistent((old, before), (size, top), &proof), "{old} to {size}");
            check_tree(&of_theirs, size, theirs(top), old, theirs(before)).unwrap();
        }
    }
}

#[test]
fn a_proof_of_something_else_is_none() {
    let mut tree = Leaves::of(&entries(21));
    let roots: Vec<_> = (0..=21).map(|size| root(&mut tree, size).unwrap()).collect();
    for index in 0..21 {
        let proof = inclusion(&mut tree, index, 21).unwrap();
        let leaf = tree.0[usize::try_from(index).unwrap()];
        let shown =
            |leaf, index, size, proof: &[Hash]| root_from_inclusion(leaf, index, size, proof) == Some(roots[21]);
        assert!(!shown(node_hash(&leaf, &leaf), index, 21, &proof));
        assert!((0..21).filter(|other| *other != index).all(|other| !shown(leaf, other, 21, &proof)));
        assert!(!shown(leaf, index, 21, &proof[1..]) && !shown(leaf, index, 21, &[&proof[..], &proof[..1]].concat()));
        assert!(!shown(leaf, 21, 21, &proof) && !shown(leaf, index, index, &proof));
    }
    for old in 1..21u64 {
        let proof = consistency(&mut tree, old, 21).unwrap();
        let shown = |old, before, proof: &[Hash]| is_consistent((old, before), (21, roots[21]), proof);
        let before = roots[usize::try_from(old).unwrap()];
        assert!(shown(old, before, &proof));
        assert!(!shown(old, node_hash(&before, &before), &proof));
        assert!(!shown(old, before, &proof[1..]) && !shown(old, before, &[&proof[..], &proof[..1]].concat()));
        assert!(!is_consistent((21, roots[21]), (old, before), &proof));
    }
    assert!(is_consistent((0, roots[0]), (21, roots[21]), &[]) && !is_consistent((0, roots[1]), (21, roots[21]), &[]));
    assert!(
        is_consistent((21, roots[21]), (21, roots[21]), &[]) && !is_consistent((21, roots[20]), (21, roots[21]), &[])
    );
}

#[test]
fn the_frontier_tells_of_each_subtree_it_completes() {
    let mut tree = Leaves::of(&entries(40));
    let (mut frontier, mut told) = (Frontier::default(), Vec::new());
    for leaf in tree.0.clone() {
        frontier.push(leaf, |level, index, hash| told.push((level, index, *hash)));
        assert_eq!(frontier.root(), root(&mut tree, frontier.size()).unwrap());
    }
    assert_eq!(told.len(), 40 + 20 + 10 + 5 + 2 + 1);
    for (level, index, hash) in told {
        assert_eq!(tree.subtree(level, index).unwrap(), hash, "{level} {index}");
    }
}

#[test]
fn an_entry_is_its_bytes() {
    use crate::model::{SessionId, Writer};
    let session = SessionId::from_entropy([7; 10]);
    for entry in [
        Entry::Frame { session, writer: Writer::Proxy, seq: 1 << 40, hash: Hash([9; 32]) },
        Entry::Key { number: 2, public: [3; 32] },
    ] {
        let bytes = entry.encode().unwrap();
        assert_eq!(Entry::decode(&bytes), Some(entry.clone()));
        // Each byte counts: another one is another entry, or none.
        for place in 0..ENTRY_BYTES {
            let mut other = bytes;
            other[place] ^= 1;
            assert_ne!(Entry::decode(&other), Some(entry.clone()), "{place}");
        }
    }
    assert_eq!(Entry::decode(&[0; ENTRY_BYTES]), None);
    assert_eq!(Entry::decode(&[77; ENTRY_BYTES]), Some(Entry::Other { kind: 77 }));
}

pub(super) fn check(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// The example of golang.org/x/mod/sumdb/note, whose format C2SP took over.
#[test]
fn a_published_note_is_its_signers() {
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let bytes = format!("{text}\n{line}");
    let (note, key) = (Note::parse(bytes.as_bytes()).unwrap(), VerifierKey::parse(key).unwrap());
    assert_eq!((note.text.as_str(), note.to_string()), (text, bytes.clone()));
    assert_eq!(note.signed_by(&key, check), Signed::Yes(None));
    assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    let other = Note::parse(bytes.replace("your problem is", "your problem was").as_bytes()).unwrap();
    assert_eq!(other.signed_by(&key, check), Signed::Forged);
    let stranger = VerifierKey::new("PeterNeumann", KeyKind::Note, [1; 32]).unwrap();
    assert_eq!(note.signed_by(&stranger, check), Signed::No);
}

#[test]
fn what_we_sign_is_what_others_verify() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
    let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let key = VerifierKey::new("omni/test", KeyKind::Note, public).unwrap();
    let text = Checkpoint { origin: "omni/test".to_owned(), size: 3, root: Hash([1; 32]) }.to_string();
    let signature = NoteSignature::new(&key, pair.sign(text.as_bytes()).as_ref().to_vec());
    let note = Note { text, signatures: vec![signature] };
    let theirs = signed_note::Note::from_bytes(note.to_string().as_bytes()).unwrap();
    let verifier = signed_note::StandardVerifier::new(&key.to_string()).unwrap();
    theirs.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).unwrap();
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text.as_bytes()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size(), checkpoint.hash().0), ("omni/test", 3, [1; 32]));
}

#[test]
fn texts_that_are_none_are_refused() {
    for text in ["", "a\n", "a\n\n", "a\n\nb\n", "a\n\n\u{2014} x AAAA\n", "a\r\n\n\u{2014} x AAAAAAA=\n"] {
        assert!(matches!(Note::parse(text.as_bytes()), Err(FormatError::Note(_))), "{text:?}");
    }
    let root = Hash([0; 32]).to_base64();
    for text in ["", "a\n1\n", &format!("a\n01\n{root}\n"), "a\n1\nAAAA\n", &format!("a\n1\n{root}\n\n")] {
        assert!(matches!(Checkpoint::parse(text), Err(FormatError::Checkpoint(_))), "{text:?}");
    }
    for key in ["a", "a+b+c", "a+00000000+AQ==", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"] {
        assert!(matches!(VerifierKey::parse(key), Err(FormatError::Key { .. })), "{key}");
    }
}

#[test]
fn a_tree_joined_of_parts_is_the_tree_over_all_and_completes_the_same() {
    let all = entries(77);
    for part in [1, 2, 8, 16, 128] {
        for size in 0..=all.len() {
            let (mut whole, mut joined) = (Frontier::default(), Frontier::default());
            let (mut wanted, mut found) = (Vec::new(), Vec::new());
            all[..size].iter().for_each(|entry| {
                whole.push(leaf_hash(entry), |level, index, hash| wanted.push((level, index, *hash)))
            });
            for (number, entries) in (0_u64..).zip(all[..size].chunks(part)) {
                let (mut next, start) = (Frontier::default(), number * part as u64);
                entries.iter().for_each(|entry| {
                    next.push(leaf_hash(entry), |level, index, hash| {
                        found.push((level, (start >> level) + index, *hash))
                    })
                });
                joined.join(&next, |level, index, hash| found.push((level, index, *hash)));
            }
            assert_eq!((joined.size(), joined.root()), (whole.size(), whole.root()), "{size} by {part}");
            let key = |one: &(u32, u64, Hash)| (one.0, one.1);
            wanted.sort_by_key(key);
            found.sort_by_key(key);
            assert_eq!(found, wanted, "{size} by {part}");
        }
    }
}
