//! Who guards the key of the secret store: a passphrase, the desktop, or nobody, which has to be said.

use super::ask::{self, Terminal};
use super::tell;
use crate::cli::listing::record;
use crate::cli::private_file::open_alone;
use crate::model::Event;
use crate::policy::{SecretSource, SecretSpec};
use crate::session::{SystemKeyring, user_name};
use crate::store::{Guard, Home, SecretStore, SecretStoreError};
use anyhow::{Context, bail, ensure};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Shortest passphrase.
const PASSPHRASE_CHARS_MIN: usize = 8;
/// Most bytes that are read of one.
const PASSPHRASE_BYTES_MAX: usize = 4096;
/// The variable that names a file with the passphrase, where no terminal is there to ask on.
const PASSPHRASE_FILE: &str = "OMNI_PASSPHRASE_FILE";

/// A passphrase that nobody has to type.
#[derive(clap::Args)]
pub(super) struct PassphraseFile {
    /// Take the store's passphrase from the first line of this file. Default: of the one that OMNI_PASSPHRASE_FILE names.
    #[arg(long = "passphrase-file", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl PassphraseFile {
    /// The file that the environment names.
    fn of_environment() -> Self {
        Self { file: None }
    }

    fn path(&self) -> Option<PathBuf> {
        let named = || std::env::var_os(PASSPHRASE_FILE).filter(|name| !name.is_empty()).map(PathBuf::from);
        self.file.clone().or_else(named)
    }

    /// The passphrase, where a file of one is named.
    fn read(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let read = |path: PathBuf| {
            let named = || format!("cannot read the passphrase in {}", path.display());
            ask::first_line(open_alone(&path)?, PASSPHRASE_BYTES_MAX).with_context(named)
        };
        self.path().map(read).transpose()
    }
}

fn long_enough(passphrase: Zeroizing<String>) -> anyhow::Result<Zeroizing<String>> {
    let enough = passphrase.chars().count() >= PASSPHRASE_CHARS_MIN;
    ensure!(enough, "a passphrase has at least {PASSPHRASE_CHARS_MIN} characters: nothing was changed");
    Ok(passphrase)
}

/// Sees to it that something can be kept: that somebody guards the key of a new store, and that the passphrase of another was
/// given.
pub(super) fn ready(home: &Home, given: &PassphraseFile) -> anyhow::Result<()> {
    if SecretStore::read(home.path())?.is_new() { begin(home, given) } else { unlock_where_locked(home, given) }
}

/// Has the key of a new store guarded: by the passphrase in a file that was named, by the desktop, by a passphrase that is asked
/// for. Whose key nobody guards is never made by saying nothing.
fn begin(home: &Home, given: &PassphraseFile) -> anyhow::Result<()> {
    if let Some(passphrase) = given.read()? {
        return guard_new(home, Guard::Passphrase(&long_enough(passphrase)?));
    }
    match guard_new(home, Guard::Desktop) {
        Err(error) if matches!(error.downcast_ref(), Some(SecretStoreError::NoDesktop { .. })) => {}
        done => return done,
    }
    let Some(mut terminal) = Terminal::open() else {
        bail!(
            "a new secret store wants to know who guards its key, and no desktop's secret service is open here, nor is there a \
             terminal to ask for a passphrase on: name a file with one, by --passphrase-file FILE or {PASSPHRASE_FILE}; or \
             leave the key to whoever can read your files, by `omni secret passphrase --none`"
        )
    };
    terminal.say(
        "A passphrase is to guard your secrets: no desktop's secret service is open here. It is asked for once, until this \
         machine starts anew.\n",
    )?;
    let passphrase = long_enough(terminal.ask("New passphrase: ")?)?;
    ensure!(*terminal.ask("The same again: ")? == *passphrase, "the two are not the same: nothing was kept");
    guard_new(home, Guard::Passphrase(&passphrase))
}

/// Has the key of a store guarded that is still a new one.
fn guard_new(home: &Home, by: Guard<'_>) -> anyhow::Result<()> {
    let store = SecretStore::edit(home.path())?;
    if store.is_new() { guard(home, store, by) } else { Ok(()) }
}

/// Has another guard the store's key. What cannot be is not recorded; what is recorded is done next.
fn guard(home: &Home, mut store: SecretStore, by: Guard<'_>) -> anyhow::Result<()> {
    let keyring = SystemKeyring::of(home.path());
    let key = store.new_key(by, &keyring)?;
    let (passphrase, desktop) = (matches!(by, Guard::Passphrase(_)), by == Guard::Desktop);
    record(home, &Event::SecretStoreGuarded { user: user_name(), passphrase, desktop })?;
    Ok(store.guard(key, &keyring)?)
}

/// `omni secret passphrase`, where another than a passphrase is to guard the key.
pub(super) fn hand_over(by: Guard<'_>) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    unlock_own(&home)?;
    guard(&home, SecretStore::edit(home.path())?, by)?;
    if by == Guard::File {
        tell("nobody guards the key of the secret store now: whoever can read your files can read your secrets");
    }
    Ok(())
}

/// `omni secret passphrase`.
pub(super) fn new_passphrase(given: &PassphraseFile) -> anyhow::Result<()> {
    let passphrase = match given.read()? {
        Some(passphrase) => long_enough(passphrase)?,
        None => {
            let first = long_enough(ask::line("New passphrase: ")?)?;
            if ask::is_on_a_terminal() {
                ensure!(*ask::line("The same again: ")? == *first, "the two are not the same: nothing was changed");
            }
            first
        }
    };
    let home = Home::from_env()?;
    guard(&home, SecretStore::edit(home.path())?, Guard::Passphrase(&passphrase))
}

/// `omni secret unlock`.
pub(super) fn unlock(given: &PassphraseFile) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let store = SecretStore::read(home.path())?;
    if !store.has_passphrase() {
        tell("no passphrase guards the store: there is nothing to unlock");
        return Ok(());
    }
    let passphrase = match given.read()? {
        Some(passphrase) => passphrase,
        None => ask::line("Passphrase: ")?,
    };
    Ok(store.unlock(&passphrase, &SystemKeyring::of(home.path()))?)
}

/// Takes the passphrase of a locked store, where it can be had; else whoever wants a value says that it is locked.
fn unlock_where_locked(home: &Home, given: &PassphraseFile) -> anyhow::Result<()> {
    let (store, keyring) = (SecretStore::read(home.path())?, SystemKeyring::of(home.path()));
    if !store.is_locked(&keyring) {
        return Ok(());
    }
    let passphrase = match given.read()? {
        Some(passphrase) => passphrase,
        None => match Terminal::open() {
            Some(mut terminal) => terminal.ask("Passphrase of your secrets: ")?,
            None => return Ok(()),
        },
    };
    Ok(store.unlock(&passphrase, &keyring)?)
}

/// The same for this process's own use.
pub fn unlock_own(home: &Home) -> anyhow::Result<()> {
    unlock_where_locked(home, &PassphraseFile::of_environment())
}

/// The same for a session, whose own process must never have the key: another takes the passphrase, and is gone before the
/// session begins. Whatever comes of it, whoever reads the secret says whether the store is open.
pub fn unlock_for<'a>(wanted: impl IntoIterator<Item = &'a SecretSpec>) {
    let is_stored = |spec: &SecretSpec| spec.from.iter().any(|source| matches!(source, SecretSource::Store(_)));
    if !wanted.into_iter().any(is_stored) {
        return;
    }
    let Ok(home) = Home::path_from_env() else { return };
    let locked = SecretStore::read(&home).is_ok_and(|store| store.is_locked(&SystemKeyring::of(&home)));
    let can_be_had = PassphraseFile::of_environment().path().is_some() || ask::is_on_a_terminal();
    if let (true, true, Ok(omni)) = (locked, can_be_had, std::env::current_exe()) {
        // What is on standard output is the harness's alone.
        let _ = Command::new(omni).args(["secret", "unlock"]).stdout(Stdio::null()).status();
    }
}

/// What a person should know of the guard of the store's key; nothing, where somebody guards it.
pub fn warning(store: &SecretStore) -> Option<&'static str> {
    store.is_unprotected().then_some(
        "nobody guards the key of the secret store: whoever can read your files can read your secrets; `omni secret passphrase` \
         has a passphrase guard it",
    )
}
