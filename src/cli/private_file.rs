//! Files that nobody but their owner may have access to: those of passphrases and tokens.

use anyhow::{Context, ensure};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
