//! A file of lines.

use super::send::Trouble;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// How far from its end a file's last line may begin, in bytes: the largest event, encoded.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// How much is read at once.
const PIECE_BYTES: u64 = 64 << 10;

/// Appends lines and brings them to the disk. The file is opened anew each time, so that it may be moved away.
pub(super) fn append(path: &Path, lines: &[u8]) -> Result<(), Trouble> {
    let failed = |error: io::Error| Trouble::new(format!("{} cannot be written to: {error}", path.display()));
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    let mut file = options.open(path).map_err(failed)?;
    cut_unfinished(&file).map_err(failed)?;
    file.write_all(lines).and_then(|()| file.sync_data()).map_err(failed)
}

/// Removes what a crash left of a line: it was never counted as delivered, and is sent again.
fn cut_unfinished(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let (mut end, least) = (length, length.saturating_sub(LINE_BYTES_MAX));
    while end > least {
        let start = end.saturating_sub(PIECE_BYTES).max(least);
        let mut piece = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(&mut piece, start)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end == length {
        return Ok(());
    }
    let mut first = [0];
    file.read_exact_at(&mut first, end)?;
    if end == least && least > 0 || first != *b"{" {
        return Err(io::Error::other("its last line is unfinished and not omni's"));
    }
    file.set_len(end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_a_crash_left_of_a_line_is_written_anew_and_nothing_of_others_is_touched() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        append(&path, b"{1}\n").unwrap();
        fs::write(&path, "{1}\n{2").unwrap();
        append(&path, b"{2}\n{3}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{1}\n{2}\n{3}\n");
        fs::write(&path, "somebody's").unwrap();
        assert!(append(&path, b"{1}\n").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(append(&link, b"{1}\n").is_err());
    }
}
