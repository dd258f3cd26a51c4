//! The price table that holds here: the one that ships with omni, or the one installed in its place, and a person's own prices.

use super::StoreError;
use crate::meter::{PriceTable, own_prices};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// Largest file of prices that is read.
const BYTES_MAX: u64 = 8 << 20;

/// Where an installed table lies, in omni's home.
#[must_use]
pub fn installed_prices_path(home: &Path) -> PathBuf {
    home.join("prices.jsonl")
}

/// Where a person's own prices lie, in omni's home.
#[must_use]
pub fn own_prices_path(home: &Path) -> PathBuf {
    home.join("prices.yaml")
}

/// The price table that holds for the sessions of a home, which need not exist.
///
/// # Errors
/// [`StoreError::Prices`] where one of the two files cannot be read or is wrong: a session that went on would charge by
/// prices that nobody meant.
pub fn load_prices(home: &Path) -> Result<PriceTable, StoreError> {
    let installed = installed_prices_path(home);
    let wrong = |path: &Path, why: String| StoreError::Prices { path: path.to_owned(), why };
    let table = match read(&installed)? {
        Some(text) => PriceTable::parse(&text).map_err(|error| wrong(&installed, error.to_string()))?,
        None => PriceTable::embedded(),
    };
    let own = own_prices_path(home);
    let Some(text) = read(&own)? else { return Ok(table) };
    let prices = own_prices(&text).map_err(|error| wrong(&own, error.to_string()))?;
    let hash = Sha256::digest(text.as_bytes());
    let name: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(table.with(prices, &format!("own-{name}")))
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    let wrong = |why: String| StoreError::Prices { path: path.to_owned(), why };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
        Ok(found) if found.len() > BYTES_MAX => {
            Err(wrong(format!("it has {} bytes, more than {BYTES_MAX}", found.len())))
        }
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(|error| wrong(error.to_string())),
    }
}
