//! Packs as git writes them, and as it would not.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn id(content: &[u8]) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("commit {}\0", content.len()).as_bytes());
    context.update(content);
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn commit(parents: &[&str], word: &str) -> Vec<u8> {
    let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
    let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    format!("tree {tree}\n{parents}author a <a> 0 +0000\ncommitter a <a> 0 +0000\n\n{word}\n").into_bytes()
}

fn object(kind: u8, between: &[u8], content: &[u8]) -> Vec<u8> {
    let (mut size, mut head) = (content.len(), Vec::new());
    let mut first = kind << 4 | u8::try_from(size & 15).unwrap();
    size >>= 4;
    while size > 0 {
        head.push(first | 128);
        first = u8::try_from(size & 127).unwrap();
        size >>= 7;
    }
    head.push(first);
    [&head, between, &miniz_oxide::deflate::compress_to_vec_zlib(content, 6)].concat()
}

fn pack(objects: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(objects.len()).unwrap().to_be_bytes();
    [&b"PACK\0\0\0\x02"[..], &count, &objects.concat(), &[7; 20]].concat()
}

const OLD: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";

#[test]
fn a_chain_of_commits_back_to_the_old_one_is_found() {
    let first = commit(&[OLD], "first");
    let second = commit(&[OTHER, &id(&first)], "second");
    let bytes = pack(&[object(1, &[], &second), object(1, &[], &first), object(2, &[], b"tree")]);
    let mut reading = Pack::new(40);
    assert!(!reading.read(&bytes));
    assert!(reading.follows(&id(&second), OLD) && reading.follows(&id(&second), OTHER));
    assert!(reading.follows(&id(&first), OLD) && !reading.follows(&id(&first), OTHER));
    assert!(!reading.follows(OLD, OLD) && !reading.follows(OTHER, &id(&second)));
    for cut in 0..bytes.len() {
        let mut reading = Pack::new(40);
        reading.read(&bytes[..cut]);
        reading.read(&bytes);
        assert!(reading.follows(&id(&second), OLD), "{cut}");
    }
}

#[test]
fn a_commit_that_is_written_as_a_difference_is_read() {
    let first = commit(&[OLD], "first");
    let second = commit(&[&id(&first)], "second");
    // The line of the tree from the base, the rest anew.
    let line = first.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let rest = &second[line..];
    let size = |length: usize| [u8::try_from(length & 127).unwrap() | 128, u8::try_from(length >> 7).unwrap()];
    let mut delta = [&size(first.len())[..], &size(second.len()), &[0x90, u8::try_from(line).unwrap()]].concat();
    for part in rest.chunks(127) {
        delta.push(u8::try_from(part.len()).unwrap());
        delta.extend_from_slice(part);
    }
    let base = object(1, &[], &first);
    let back = u8::try_from(base.len()).unwrap();
    assert!(back < 128, "{back}");
    let mut reading = Pack::new(40);
    reading.read(&pack(&[base, object(OFFSET_DELTA, &[back], &delta)]));
    assert!(reading.follows(&id(&second), OLD));
}

#[test]
fn what_only_looks_like_a_parent_proves_nothing() {
    let tree = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
    let people = "author a <a> 0 +0000\ncommitter a <a> 0 +0000\n";
    for content in [
        format!("{tree}{people}parent {OLD}\n\nx\n"),
        format!("{tree}{people}\nparent {OLD}\n"),
        format!("parent {OLD}\n{tree}{people}\nx\n"),
        format!("{tree}gpgsig -\n parent {OLD}\n{people}\nx\n"),
        format!("{tree}parent  {OLD}\n{people}\nx\n"),
    ] {
        let mut reading = Pack::new(40);
        reading.read(&pack(&[object(1, &[], content.as_bytes())]));
        assert!(!reading.follows(&id(content.as_bytes()), OLD), "{content}");
    }
    // Nor does an object of another kind, or what is not in the pack.
    let content = commit(&[OLD], "x");
    for kind in [2, 3, 4, 7] {
        let mut reading = Pack::new(40);
        reading.read(&pack(&[object(kind, &[], &content)]));
        assert!(!reading.follows(&id(&content), OLD), "{kind}");
    }
    let mut reading = Pack::new(40);
    assert!(!reading.read(b"PACK\0\0\0\x09\0\0\0\x01"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut reading = Pack::new(40);
        reading.read(&[b"PACK\0\0\0\x02\0\0\0\x01".as_slice(), &bytes].concat());
        let _ = applied(&bytes, &bytes);
    }
}
