//! Which files git keeps, as its index has them (gitformat-index(5)), versions 2 to 4.

use std::collections::BTreeSet;

/// Bytes before the first entry: signature, version, number of entries.
const HEAD_BYTES: usize = 12;
/// Bytes of an entry before its flags: times, device, inode, mode, owners, size and a SHA-1.
const ENTRY_BYTES: usize = 60;
/// A flag that another two bytes of flags follow.
const EXTENDED: u16 = 0x4000;

/// Those of the paths that stand in an index; none when it is not understood.
pub(super) fn tracked(index: &[u8], paths: &BTreeSet<Vec<u8>>) -> Option<BTreeSet<Vec<u8>>> {
    let version = number(index, 4)?;
    if index.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let count = number(index, 8)?;
    let (mut at, mut name, mut found) = (HEAD_BYTES, Vec::new(), BTreeSet::new());
    for _ in 0..count {
        let flags = u16::from_be_bytes(index.get(at + ENTRY_BYTES..at + ENTRY_BYTES + 2)?.try_into().ok()?);
        let start = at + ENTRY_BYTES + 2 + if version >= 3 && flags & EXTENDED != 0 { 2 } else { 0 };
        let (start, kept) = match version {
            4 => cut(index, start, name.len())?,
            _ => (start, 0),
        };
        let length = index.get(start..)?.iter().position(|byte| *byte == 0)?;
        name.truncate(kept);
        name.extend_from_slice(&index[start..start + length]);
        // Up to version 3, one to eight zero bytes bring an entry to a multiple of eight.
        let end = start + length;
        at = if version == 4 { end + 1 } else { at + (end - at + 8) / 8 * 8 };
        if paths.contains(&name) {
            found.insert(name.clone());
        }
    }
    Some(found)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// How much of the last name version 4 keeps: it says how many bytes to take off, in git's own variable-length numbers.
fn cut(bytes: &[u8], mut at: usize, length: usize) -> Option<(usize, usize)> {
    let mut byte = *bytes.get(at)?;
    let mut value = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        at += 1;
        byte = *bytes.get(at)?;
        value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
    }
    Some((at + 1, length.checked_sub(value)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn git(place: &Path, words: &[&str]) {
        let done = Command::new("git").current_dir(place).args(words).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    #[test]
    fn finds_what_git_keeps_in_every_version() {
        let place = tempfile::tempdir().unwrap();
        git(place.path(), &["init", "-q"]);
        for name in ["a.pem", "certs/b.pem", "certs/bc.pem", "z"] {
            std::fs::create_dir_all(place.path().join("certs")).unwrap();
            std::fs::write(place.path().join(name), name).unwrap();
        }
        git(place.path(), &["add", "."]);
        std::fs::write(place.path().join("c.pem"), "").unwrap();
        let wanted = BTreeSet::from(["a.pem", "certs/bc.pem", "c.pem"].map(|name| name.as_bytes().to_vec()));
        let expected = BTreeSet::from(["a.pem", "certs/bc.pem"].map(|name| name.as_bytes().to_vec()));
        for version in ["2", "3", "4"] {
            git(place.path(), &["update-index", "--index-version", version]);
            let index = std::fs::read(place.path().join(".git/index")).unwrap();
            assert_eq!(tracked(&index, &wanted), Some(expected.clone()), "{version}");
            for cut in [0, 11, 30, 80] {
                assert_eq!(tracked(&index[..cut], &wanted), None);
            }
        }
    }
}
