//! Checkpoints, keys that hand over to one another, and receipts. The key is a file of the home's, wherever the ledger lies.

use super::super::query::stored_frame;
use super::super::summary_row::signed;
use super::super::{Home, StoreError};
use super::files::Files;
use super::key::{SigningKey, check_signature, rename, replace};
use super::table::{Book, known, number_of, place_of};
use super::{LedgerError, read_checkpoint};
use crate::ledger::{
    Checkpoint, Entry, Evidence, Hash, Header, KeyKind, Note, NoteSignature, Receipt, Signed, Submission, Subtrees,
    VerifierKey, consistency, inclusion, origin, root,
};
use crate::model::SessionId;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::io::ErrorKind;
use std::path::PathBuf;

/// A checkpoint of the whole ledger, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpointed {
    /// With its signatures.
    pub note: Note,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The key that signed it.
    pub key: LedgerKey,
}

/// A key of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerKey {
    /// Which one, from 1.
    pub number: u64,
    /// What others check with.
    pub key: VerifierKey,
}

/// A ledger that is open for appending, wherever it lies, as whoever signs it needs it.
pub(in super::super) trait OpenBook {
    /// How many entries it has.
    fn size(&self) -> u64;

    /// The root over its first entries.
    fn root(&mut self, size: u64) -> Result<Hash, StoreError>;

    /// Brings its entries to the disk.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Appends an entry that stands for no frame.
    fn push(&mut self, entry: &Entry) -> Result<(), StoreError>;

    /// The key that signs now, and its number.
    fn current_key(&self) -> Result<Option<(u64, [u8; 32])>, StoreError>;

    /// The key that signed first, after which the ledger is named.
    fn first_key(&self) -> Result<Option<[u8; 32]>, StoreError>;

    /// What was signed under this name.
    fn note(&self, name: &str) -> Result<Option<(Note, Checkpoint)>, StoreError>;

    /// Keeps what was signed under this name, in the place of what was before.
    fn keep_note(&mut self, name: &str, note: &Note) -> Result<(), StoreError>;
}

impl OpenBook for Book<'_> {
    fn size(&self) -> u64 {
        self.files.size()
    }

    fn root(&mut self, size: u64) -> Result<Hash, StoreError> {
        root(&mut self.files, size)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.files.sync()
    }

    fn push(&mut self, entry: &Entry) -> Result<(), StoreError> {
        Book::push(self, entry)
    }

    fn current_key(&self) -> Result<Option<(u64, [u8; 32])>, StoreError> {
        Book::current_key(self)
    }

    fn first_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        Book::first_key(self)
    }

    fn note(&self, name: &str) -> Result<Option<(Note, Checkpoint)>, StoreError> {
        read_checkpoint(&self.home.ledger().join(name))
    }

    fn keep_note(&mut self, name: &str, note: &Note) -> Result<(), StoreError> {
        replace(&self.home.ledger().join(name), note.to_string().as_bytes())
    }
}

/// What the last checkpoint is kept as.
pub(in super::super) const CHECKPOINT: &str = "checkpoint";

/// Runs `act` with the ledger open for appending, in one transaction.
fn with_book<T>(
    connection: &mut Connection,
    home: &Home,
    act: impl FnOnce(&mut Book<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let path = home.database();
    let failed = |error| StoreError::database(&path, "write to", error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let before = known(&transaction).map_err(failed)?;
    let mut book = Book::open(&transaction, home, before)?;
    book.take_folded()?;
    let done = act(&mut book)?;
    book.close().map_err(failed)?;
    drop(book);
    transaction.commit().map_err(failed)?;
    Ok(done)
}

/// Signs the ledger as it is now, unless that was done; makes the key where there is none yet.
pub(in super::super) fn checkpoint(connection: &mut Connection, home: &Home) -> Result<Checkpointed, StoreError> {
    with_book(connection, home, |book| sign(book, home))
}

/// As [`checkpoint`], of a ledger that is open.
pub(in super::super) fn sign(book: &mut dyn OpenBook, home: &Home) -> Result<Checkpointed, StoreError> {
    let (key, number) = current(book, home)?;
    sign_with(book, &key, None).map(|(note, checkpoint)| Checkpointed {
        note,
        checkpoint,
        key: LedgerKey { number, key: key.public().clone() },
    })
}

/// Has a new key sign from now on; the old one signs that it hands over.
pub(in super::super) fn rotate(connection: &mut Connection, home: &Home) -> Result<Checkpointed, StoreError> {
    let signed = with_book(connection, home, |book| announce(book, home))?;
    succeed(home).map(|()| signed)
}

/// Makes a new key, enters it, and has both sign. Once that is kept for good, [`succeed`] puts the new one in the old one's
/// place; what is killed in between is completed when the ledger is signed next.
pub(in super::super) fn announce(book: &mut dyn OpenBook, home: &Home) -> Result<Checkpointed, StoreError> {
    let (old, number) = current(book, home)?;
    // Before there is a second key, so that no checkpoint is left out.
    sign_with(book, &old, None)?;
    let path = next_key_path(home);
    SigningKey::create(&path, KeyKind::Note, |_| old.public().name().to_owned())?;
    let next = read_key(&path)?.ok_or(LedgerError::KeyMissing { path })?;
    book.push(&Entry::Key { number: number + 1, public: *next.public().public() })?;
    hand_over(book, &old, next, number + 1)
}

/// Puts the new key in the old one's place.
pub(in super::super) fn succeed(home: &Home) -> Result<(), StoreError> {
    rename(&next_key_path(home), &key_path(home))
}

fn key_path(home: &Home) -> PathBuf {
    home.ledger().join("key")
}

fn next_key_path(home: &Home) -> PathBuf {
    home.ledger().join("key.next")
}

fn read_key(path: &std::path::Path) -> Result<Option<SigningKey>, StoreError> {
    SigningKey::read(path, KeyKind::Note)
}

/// Signs with both keys.
fn hand_over(
    book: &mut dyn OpenBook,
    old: &SigningKey,
    next: SigningKey,
    number: u64,
) -> Result<Checkpointed, StoreError> {
    let (note, checkpoint) = sign_with(book, old, Some(&next))?;
    book.keep_note(&format!("handover.{number}"), &note)?;
    Ok(Checkpointed { note, checkpoint, key: LedgerKey { number, key: next.public().clone() } })
}

/// The key that signs now. One that was being exchanged when omni was killed is exchanged first.
fn current(book: &mut dyn OpenBook, home: &Home) -> Result<(SigningKey, u64), StoreError> {
    let (path, next_path) = (key_path(home), next_key_path(home));
    let found = read_key(&path)?;
    let Some((number, public)) = book.current_key()? else {
        let key = match found {
            Some(key) if key.public().name() == origin(key.public().public()) => key,
            Some(_) => return Err(LedgerError::KeyForeign { path }.into()),
            None => SigningKey::create(&path, KeyKind::Note, origin)?,
        };
        book.push(&Entry::Key { number: 1, public: *key.public().public() })?;
        return Ok((key, 1));
    };
    let name = book.first_key()?.map(|first| origin(&first));
    let fits = |key: &SigningKey| name.as_deref() == Some(key.public().name());
    let next = read_key(&next_path)?;
    match (found, next) {
        (Some(key), next) if *key.public().public() == public && fits(&key) => {
            if next.is_some() {
                // Made, and not yet announced.
                remove(&next_path)?;
            }
            Ok((key, number))
        }
        (Some(old), Some(next)) if *next.public().public() == public && fits(&old) && fits(&next) => {
            hand_over(book, &old, next, number)?;
            succeed(home)?;
            let key = read_key(&path)?.ok_or(LedgerError::KeyMissing { path })?;
            Ok((key, number))
        }
        (Some(_), _) => Err(LedgerError::KeyForeign { path }.into()),
        (None, _) => Err(LedgerError::KeyMissing { path }.into()),
    }
}

fn remove(path: &std::path::Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(LedgerError::File { step: "remove", path: path.to_owned(), cause: error }.into())
        }
        _ => Ok(()),
    }
}

/// Signs the ledger as it is, unless these keys did.
fn sign_with(
    book: &mut dyn OpenBook,
    key: &SigningKey,
    next: Option<&SigningKey>,
) -> Result<(Note, Checkpoint), StoreError> {
    let size = book.size();
    let now = Checkpoint { origin: key.public().name().to_owned(), size, root: book.root(size)? };
    let keys: Vec<_> = std::iter::once(key).chain(next).collect();
    if let Some((note, last)) = book.note(CHECKPOINT)? {
        // Whoever signs two trees of which neither is the beginning of the other proves nothing any more.
        if last.origin != now.origin || last.size > size || book.root(last.size)? != last.root {
            return Err(LedgerError::Contradiction { size: last.size }.into());
        }
        let signed = |key: &&SigningKey| note.signed_by(key.public(), check_signature) == Signed::Yes(None);
        if last == now && keys.iter().all(signed) {
            return Ok((note, last));
        }
    }
    book.sync()?;
    let text = now.to_string();
    let note = Note { signatures: keys.iter().map(|key| key.sign(&text)).collect(), text };
    book.keep_note(CHECKPOINT, &note)?;
    Ok((note, now))
}

/// What shows that an event of a session is in the ledger.
pub(in super::super) fn receipt(
    connection: &mut Connection,
    home: &Home,
    session: &SessionId,
    number: u64,
) -> Result<Receipt, StoreError> {
    let signed_now = checkpoint(connection, home)?;
    let path = home.database();
    let failed = |error| StoreError::database(&path, "read", error);
    let missing = || LedgerError::Missing { what: format!("event {number} of session {session}") };
    let frame = stored_frame(connection, session, number).map_err(failed)?.ok_or_else(missing)?;
    let place = place_of(connection, session, frame.writer.as_str(), frame.seq).map_err(failed)?;
    let index = place.ok_or_else(missing)?;
    let before = frame.before.unwrap_or_else(|| Header { session: session.clone(), writer: frame.writer }.genesis());
    let mut files = Files::open(home)?.ok_or_else(missing)?;
    let entry = files.read(index, 1)?[0];
    let proof = inclusion(&mut files, index, signed_now.checkpoint.size)?;
    let evidence = Evidence { entry, before, payload: frame.payload };
    let receipt = Receipt { evidence, index, proof, checkpoint: signed_now.note };
    // Rather nothing than a receipt that proves nothing.
    receipt.show().map_err(|fault| LedgerError::Format { path: files.entries_path(), fault })?;
    Ok(receipt)
}

/// What shows that an entry is in the ledger.
pub(in super::super) fn receipt_of_entry(
    connection: &mut Connection,
    home: &Home,
    index: u64,
) -> Result<Receipt, StoreError> {
    let signed_now = checkpoint(connection, home)?;
    let missing = || LedgerError::Missing { what: format!("entry {index}") };
    let mut files = Files::open(home)?.filter(|files| index < files.size()).ok_or_else(missing)?;
    let bytes = files.read(index, 1)?[0];
    let proof = match Entry::decode(&bytes) {
        Some(Entry::Frame { session, writer, seq, .. }) => {
            let path = home.database();
            let number = number_of(connection, &session, writer, seq);
            let number = number.map_err(|error| StoreError::database(&path, "read", error))?;
            return receipt(connection, home, &session, number.ok_or_else(missing)?);
        }
        _ if index < signed_now.checkpoint.size => inclusion(&mut files, index, signed_now.checkpoint.size)?,
        _ => return Err(missing().into()),
    };
    let evidence = Evidence { entry: bytes, before: Hash([0; 32]), payload: Vec::new() };
    Ok(Receipt { evidence, index, proof, checkpoint: signed_now.note })
}

/// What a witness that signed the ledger at `old` entries is to be sent.
pub(in super::super) fn submission(home: &Home, old: u64, signed: &Checkpointed) -> Result<Submission, StoreError> {
    let missing = || LedgerError::Missing { what: "its first entry".to_owned() };
    submission_of(&mut Files::open(home)?.ok_or_else(missing)?, old, signed)
}

/// As [`submission`], of a tree wherever it lies.
pub(in super::super) fn submission_of<S: Subtrees<Error = StoreError>>(
    tree: &mut S,
    old: u64,
    signed: &Checkpointed,
) -> Result<Submission, StoreError> {
    let Checkpointed { note, checkpoint, .. } = signed;
    if old > checkpoint.size {
        return Err(LedgerError::Cut { written: old, left: checkpoint.size }.into());
    }
    let proof = consistency(tree, old, checkpoint.size)?;
    // The ledger's own signatures; whoever else signed is of no use to a witness.
    let own = |line: &&NoteSignature| line.name() == checkpoint.origin;
    let signatures = note.signatures.iter().filter(own).cloned().collect();
    Ok(Submission { old, proof, note: Note { text: note.text.clone(), signatures } })
}

/// Keeps what witnesses signed, unless a newer checkpoint took its place.
pub(in super::super) fn keep_cosigned(
    connection: &mut Connection,
    home: &Home,
    cosigned: &Note,
) -> Result<(), StoreError> {
    with_book(connection, home, |book| keep_signatures(book, cosigned))
}

/// As [`keep_cosigned`], of a ledger that is open.
pub(in super::super) fn keep_signatures(book: &mut dyn OpenBook, cosigned: &Note) -> Result<(), StoreError> {
    let Some((mut note, _)) = book.note(CHECKPOINT)? else { return Ok(()) };
    let fresh: Vec<_> = cosigned.signatures.iter().filter(|line| !note.signatures.contains(line)).cloned().collect();
    if note.text != cosigned.text || fresh.is_empty() {
        return Ok(());
    }
    note.signatures.extend(fresh);
    book.keep_note(CHECKPOINT, &note)
}

/// The keys that ever signed, in their order.
pub(in super::super) fn keys(connection: &Connection) -> rusqlite::Result<Vec<LedgerKey>> {
    if known(connection)?.is_none() {
        return Ok(Vec::new());
    }
    let first: Option<[u8; 32]> =
        connection.query_row("SELECT public FROM ledger_keys WHERE number = 1", [], |row| row.get(0)).optional()?;
    let Some(name) = first.map(|first| origin(&first)) else { return Ok(Vec::new()) };
    let mut statement =
        connection.prepare("SELECT number, public FROM ledger_keys WHERE number <= ?1 ORDER BY number")?;
    let rows =
        statement.query_map([signed(u64::MAX)], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))?;
    let mut keys = Vec::new();
    for row in rows {
        let (number, public) = row?;
        keys.extend(VerifierKey::new(&name, KeyKind::Note, public).ok().map(|key| LedgerKey { number, key }));
    }
    Ok(keys)
}
