//! Files that nobody but their owner may have access to: those of passphrases and tokens.

use anyhow::{Context, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// What others may do with a file that is not its owner's alone.
const MODE_OTHERS: u32 = 0o077;

/// Opens one.
///
/// # Errors
/// When it cannot be opened, or others could read or change it.
pub(super) fn open_alone(path: &Path) -> anyhow::Result<File> {
    let named = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(named)?;
    let is_alone = file.metadata().with_context(named)?.mode() & MODE_OTHERS == 0;
    ensure!(is_alone, "others could read {}: make it yours alone, by `chmod 600`", path.display());
    Ok(file)
}

/// Reads a line of so many bytes at most, without its end, and leaves no copy of it behind.
///
/// # Errors
/// When it cannot be read, or is no text.
pub(super) fn first_line(from: impl Read, most: usize) -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(most + 1));
    BufReader::new(from.take(most as u64)).read_line(&mut line)?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}
