//! `omni store`: where records are kept, and taking them elsewhere.

use super::listing::{emit, printable};
use crate::store::{Home, copy_store, copy_to_files, open_store};
use anyhow::{Context, bail, ensure};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

/// See where records are kept, or take them to another store.
///
/// They are in the home's own database unless `--store`, OMNI_STORE or the home's file `store` names one on PostgreSQL, which
/// several machines can share (docs/store.md).
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni store show\n  omni store copy ~/.local/share/omni postgres://omni@db.example/omni"
)]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    Show(ShowArgs),
    Copy(CopyArgs),
}

/// Print where records are kept, and what is there
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni store show")]
struct ShowArgs {}

/// Take a home's records over to PostgreSQL, or write PostgreSQL's to files
///
/// The first keeps every hash and number, needs an empty store, and is done whole or not at all; from then on the home keeps its
/// records there. The second writes journals and ledger as files to a new directory, which `omni audit verify --files` checks.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  omni store copy ~/.local/share/omni postgres://omni@db.example/omni\n  \
    omni store copy postgres://omni@db.example/omni /backup/omni")]
struct CopyArgs {
    /// A home's directory, or the address of a store on PostgreSQL
    from: String,
    /// The address of an empty store on PostgreSQL, or a new directory
    to: String,
}

/// Does what was asked.
///
/// # Errors
/// When a store cannot be opened, or what arrived is not what was sent.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.act {
        Act::Show(ShowArgs {}) => show(),
        Act::Copy(CopyArgs { from, to }) => match (is_address(&from), is_address(&to)) {
            (false, true) => copy(Path::new(&from), &to),
            (true, false) => write_files(&from, Path::new(&to)),
            (true, true) => bail!("PostgreSQL copies its databases by itself: pg_dump {} | psql …", "-n omni"),
            (false, false) => {
                bail!("a home's directory is copied as a directory; name a store as postgres://HOST/DATABASE")
            }
        },
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn show() -> anyhow::Result<ExitCode> {
    let home = Home::from_env()?;
    let place = home.store().map_or_else(|| home.database().display().to_string(), ToString::to_string);
    let mut store = open_store(&home)?;
    store.fold_all()?;
    let sessions = store.sessions()?.len();
    let signed = store.signed_checkpoint()?.map_or(0, |(_, checkpoint)| checkpoint.size);
    emit(&format!("{}\n{sessions} sessions, {signed} entries of the ledger signed\n", printable(&place)))?;
    Ok(ExitCode::SUCCESS)
}

fn copy(from: &Path, to: &str) -> anyhow::Result<ExitCode> {
    ensure!(from.is_dir(), "{} is no home's directory", from.display());
    super::warn_of_password(to);
    let home = Home::open(from)?.embedded();
    let target = home.clone().with_store(to)?;
    let address = target.store().context("it names no store")?;
    let copied = copy_store(&home, address)?;
    // Without its password, which is no file's of omni's: PostgreSQL's own has it.
    let path = home.store_file();
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "{address}").and_then(|()| file.sync_all()));
    written
        .with_context(|| format!("all was copied, and {} cannot be written: put {address} there", path.display()))?;
    eprintln!(
        "omni: {} sessions, {} events, {} model calls and {} entries of the ledger are at {address} now, root {}; {} names it",
        copied.sessions,
        copied.events,
        copied.calls,
        copied.entries,
        copied.root.to_base64(),
        path.display()
    );
    if address.has_password() {
        eprintln!("omni: the password is not kept: put it into ~/.pgpass (docs/store.md)");
    }
    Ok(ExitCode::SUCCESS)
}

fn write_files(from: &str, to: &Path) -> anyhow::Result<ExitCode> {
    super::warn_of_password(from);
    let home = Home::from_env()?.with_store(from)?;
    let sessions = copy_to_files(&home, home.store().context("it names no store")?, to)?;
    eprintln!("omni: the journals of {sessions} sessions and the ledger are in {}", to.display());
    Ok(ExitCode::SUCCESS)
}
