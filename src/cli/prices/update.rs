//! `omni prices update`: another table in the place of the one that ships with omni.

use crate::cli::listing;
use crate::meter::PriceTable;
use crate::model::Event;
use crate::session::user_name;
use crate::store::{Home, installed_prices_path};
use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The command line of `omni prices update`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// A table in the form of the shipped one (docs/prices.md)
    #[arg(required_unless_present = "shipped")]
    file: Option<PathBuf>,
    /// The file's hash, from whoever published it and by another way than the file
    #[arg(long, value_name = "HEX", required_unless_present = "shipped")]
    sha256: Option<String>,
    /// Go back to the table that ships with omni
    #[arg(long, conflicts_with_all = ["file", "sha256"])]
    shipped: bool,
}

/// Installs a table, or removes the installed one.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env()?;
    let installed = installed_prices_path(home.path());
    let (Some(file), Some(hash)) = (&args.file, &args.sha256) else {
        return go_back(&home, &installed);
    };
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if !found.eq_ignore_ascii_case(hash.trim()) {
        bail!(
            "{} has the hash {found}, not the one that was given: it is another file, and nothing was changed",
            file.display()
        );
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not text", file.display()))?;
    let table = PriceTable::parse(&text).with_context(|| format!("{} cannot be used", file.display()))?;
    let change =
        Event::PricesChanged { user: user_name(), price_table: table.version().to_owned(), sha256: Some(found) };
    listing::record(&home, &change)?;
    write_whole(&installed, text.as_bytes()).with_context(|| format!("cannot write {}", installed.display()))?;
    eprintln!(
        "omni: sessions that begin now are charged by the table of {} ({} lines)",
        table.version(),
        table.models().count()
    );
    Ok(ExitCode::SUCCESS)
}

fn go_back(home: &Home, installed: &Path) -> anyhow::Result<ExitCode> {
    if installed.exists() {
        let price_table = PriceTable::embedded().version().to_owned();
        listing::record(home, &Event::PricesChanged { user: user_name(), price_table, sha256: None })?;
    }
    match fs::remove_file(installed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", installed.display()))
        }
        _ => {
            eprintln!(
                "omni: sessions that begin now are charged by the shipped table of {}",
                PriceTable::embedded().version()
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Either the old file or the whole new one is there, whatever happens.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
