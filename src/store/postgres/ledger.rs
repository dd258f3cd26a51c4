//! The ledger in the tables of PostgreSQL: the same entries, hashes and notes that the embedded store keeps in files.
//!
//! Entries are appended in the transaction that folds, so that an event is in the tables and in the ledger or in neither.

use super::fold::hash;
use super::link::{Fault, Link};
use super::locks;
use super::query;
use crate::ledger::{
    Checkpoint, ENTRY_BYTES, Entry, Evidence, Hash, Header, KeyKind, Note, Receipt, Subtrees, VerifierKey, inclusion,
    leaf_hash, node_hash, origin, root,
};
use crate::model::{SessionId, Writer};
use crate::store::ledger::{CHECKPOINT, Checkpointed, LedgerKey, OpenBook, sign};
use crate::store::summary_row::signed;
use crate::store::{Home, LedgerError, StoreError};
use std::collections::HashMap;

/// Binary levels of the tree from one kept hash to the next.
pub(super) const LEVELS: u32 = 8;
/// Entries, or hashes, below one kept hash.
const WIDTH: u64 = 1 << LEVELS;
/// Levels of kept hashes: four are enough for 2^40 entries.
pub(super) const HASH_LEVELS: u32 = 4;
/// How many frames are taken into the ledger at once.
const BATCH: i64 = 16_384;

/// Takes everything that was folded and is not in the ledger yet into it. The caller has the ledger's lock. Returns what keeps
/// frames from being taken in; then the ledger is as it was.
pub(super) fn enter(link: &Link) -> Result<Option<LedgerError>, Fault> {
    link.batch("SAVEPOINT ledger")?;
    match Ledger::open(link)?.take_folded() {
        Ok(()) => Ok(None),
        Err(Fault::Store(StoreError::Ledger(fault @ LedgerError::Gap { .. }))) => {
            link.batch("ROLLBACK TO SAVEPOINT ledger")?;
            Ok(Some(fault))
        }
        Err(other) => Err(other),
    }
}

/// The tree in the tables.
pub(super) struct Tree<'a> {
    link: &'a Link,
    /// How many entries it has.
    pub size: u64,
}

impl<'a> Tree<'a> {
    /// The tree as it is now.
    pub fn open(link: &'a Link) -> Result<Self, Fault> {
        let size: i64 = link.query_one("SELECT size FROM ledger", &[])?.try_get(0)?;
        Ok(Self { link, size: size.cast_unsigned() })
    }

    /// Reads `count` entries from `start` on.
    pub fn read(&self, start: u64, count: u64) -> Result<Vec<[u8; ENTRY_BYTES]>, Fault> {
        let text = "SELECT entry FROM ledger_entries WHERE place >= $1 AND place < $2 ORDER BY place";
        let rows = self.link.query(text, &[&signed(start), &signed(start + count)])?;
        let entries = rows.iter().map(|row| {
            let bytes: &[u8] = row.try_get(0)?;
            bytes.try_into().map_err(|_| damaged("an entry of the ledger"))
        });
        let entries: Vec<_> = entries.collect::<Result<_, Fault>>()?;
        match entries.len() as u64 == count {
            true => Ok(entries),
            false => Err(damaged("the ledger's entries, of which some are missing")),
        }
    }

    /// The hashes of one level from `start` on, all of which are there.
    pub fn hashes(&self, level: u32, start: u64, count: u64) -> Result<Vec<Hash>, Fault> {
        let text = "SELECT hash FROM ledger_hashes WHERE level = $1 AND place >= $2 AND place < $3 ORDER BY place";
        let level = i32::try_from(level).unwrap_or(i32::MAX);
        let rows = self.link.query(text, &[&level, &signed(start), &signed(start + count)])?;
        let hashes: Vec<_> = rows.iter().map(|row| hash(row.try_get(0)?)).collect::<Result<_, Fault>>()?;
        match hashes.len() as u64 == count {
            true => Ok(hashes),
            false => Err(damaged("the ledger's hashes, of which some are missing")),
        }
    }

    /// Appends entries, and the hashes that they complete.
    pub fn append(&mut self, entries: &[[u8; ENTRY_BYTES]]) -> Result<(), Fault> {
        let places: Vec<i64> = (self.size..).take(entries.len()).map(signed).collect();
        let bytes: Vec<&[u8]> = entries.iter().map(|entry| &entry[..]).collect();
        let text = "INSERT INTO ledger_entries (place, entry) SELECT * FROM unnest($1::bigint[], $2::bytea[])";
        self.link.execute(text, &[&places, &bytes])?;
        let before = self.size;
        self.size += entries.len() as u64;
        for level in 1..=HASH_LEVELS {
            let (have, want) = (before >> (LEVELS * level), self.size >> (LEVELS * level));
            if have < want {
                self.complete(level, have, want)?;
            }
        }
        Ok(())
    }

    /// Keeps the hashes of one level from `have` to `want`.
    fn complete(&self, level: u32, have: u64, want: u64) -> Result<(), Fault> {
        let mut hashes: Vec<Vec<u8>> = Vec::new();
        for index in have..want {
            hashes.push(combine(self.below(level, index, WIDTH)?).0.to_vec());
        }
        let places: Vec<i64> = (have..want).map(signed).collect();
        let text = "INSERT INTO ledger_hashes (level, place, hash) \
                    SELECT $1, given.* FROM unnest($2::bigint[], $3::bytea[]) AS given";
        self.link.execute(text, &[&i32::try_from(level).unwrap_or(i32::MAX), &places, &hashes]).map(drop)
    }

    /// The `count` hashes below a place, of the level below.
    fn below(&self, level: u32, index: u64, count: u64) -> Result<Vec<Hash>, Fault> {
        match level {
            1 => Ok(self.read(index * count, count)?.iter().map(|entry| leaf_hash(entry)).collect()),
            _ => self.hashes(level - 1, index * count, count),
        }
    }

    fn hash_of(&self, level: u32, index: u64) -> Result<Hash, Fault> {
        let kept = level / LEVELS;
        match level {
            0 => Ok(leaf_hash(&self.read(index, 1)?[0])),
            _ if level.is_multiple_of(LEVELS) && kept <= HASH_LEVELS => Ok(self.hashes(kept, index, 1)?[0]),
            _ if kept > HASH_LEVELS => {
                let (left, right) = (self.hash_of(level - 1, 2 * index)?, self.hash_of(level - 1, 2 * index + 1)?);
                Ok(node_hash(&left, &right))
            }
            _ => Ok(combine(self.below(kept + 1, index, 1 << (level - kept * LEVELS))?)),
        }
    }
}

impl Subtrees for Tree<'_> {
    type Error = StoreError;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, StoreError> {
        told(self.link, self.hash_of(level, index))
    }
}

/// The root of a complete tree over these hashes, which are a power of two.
fn combine(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| node_hash(&pair[0], &pair[pair.len() - 1])).collect();
    }
    hashes[0]
}

pub(super) fn damaged(what: &str) -> Fault {
    Fault::Store(StoreError::StoreDamaged { what: what.to_owned() })
}

/// A journal, as rows name it.
type Journal = (String, String);

/// The ledger while it is appended to, in a transaction that has its lock.
pub(super) struct Ledger<'a> {
    link: &'a Link,
    tree: Tree<'a>,
    /// Up to which of the folded events all are in it.
    events: i64,
    next: HashMap<Journal, i64>,
}

impl<'a> Ledger<'a> {
    /// Opens it for appending.
    pub fn open(link: &'a Link) -> Result<Self, Fault> {
        let row = link.query_one("SELECT size, events FROM ledger", &[])?;
        let tree = Tree { link, size: row.try_get::<_, i64>(0)?.cast_unsigned() };
        Ok(Self { link, tree, events: row.try_get(1)?, next: HashMap::new() })
    }

    /// Appends all that was folded and is not in it yet.
    pub fn take_folded(&mut self) -> Result<(), Fault> {
        let text = "SELECT entry, session, writer, seq, hash FROM events WHERE entry > $1 ORDER BY entry LIMIT $2";
        loop {
            let rows = self.link.query(text, &[&self.events, &BATCH])?;
            let Some(last) = rows.last() else { return Ok(()) };
            let upto = last.try_get(0)?;
            let (mut entries, mut runs) = (Vec::with_capacity(rows.len()), Runs::default());
            for row in &rows {
                let journal: Journal = (row.try_get(1)?, row.try_get(2)?);
                let (seq, hash) = (row.try_get(3)?, hash(row.try_get(4)?)?);
                let next = self.next_of(&journal)?;
                if seq < next {
                    continue;
                }
                let entry = encode(&journal, seq, hash).filter(|_| seq == next);
                entries.push(entry.ok_or_else(|| gap(&journal, seq))?);
                runs.add(&journal, seq, signed(self.tree.size + entries.len() as u64 - 1));
                self.next.insert(journal, seq + 1);
            }
            if !entries.is_empty() {
                self.tree.append(&entries)?;
                runs.insert(self.link)?;
            }
            self.events = upto;
            self.note_size()?;
        }
    }

    fn note_size(&self) -> Result<(), Fault> {
        let text = "UPDATE ledger SET size = $1, events = $2";
        self.link.execute(text, &[&signed(self.tree.size), &self.events]).map(drop)
    }

    /// The number of the first frame of a journal that is not in the ledger.
    fn next_of(&self, journal: &Journal) -> Result<i64, Fault> {
        if let Some(next) = self.next.get(journal) {
            return Ok(*next);
        }
        let text = "SELECT seq + count FROM ledger_runs WHERE session = $1 AND writer = $2 ORDER BY seq DESC LIMIT 1";
        let row = self.link.query_opt(text, &[&journal.0, &journal.1])?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(1))
    }

    fn key(&self, text: &str) -> Result<Option<(i64, [u8; 32])>, Fault> {
        let Some(row) = self.link.query_opt(text, &[])? else { return Ok(None) };
        Ok(Some((row.try_get(0)?, hash(row.try_get(1)?)?.0)))
    }

    fn enter_key(&mut self, entry: &Entry) -> Result<(), Fault> {
        let missing = || LedgerError::Missing { what: format!("{entry:?}") };
        let bytes = entry.encode().ok_or_else(missing)?;
        if let Entry::Key { number, public } = entry {
            let text = "INSERT INTO ledger_keys (number, place, public) VALUES ($1, $2, $3)";
            self.link.execute(text, &[&signed(*number), &signed(self.tree.size), &&public[..]])?;
        }
        self.tree.append(&[bytes])?;
        self.note_size()
    }
}

fn gap(journal: &Journal, seq: i64) -> Fault {
    let writer = Writer::from_name(&journal.1).map_or("unknown", Writer::as_str);
    LedgerError::Gap { session: journal.0.clone(), writer, seq: seq.cast_unsigned() }.into()
}

fn encode(journal: &Journal, seq: i64, hash: Hash) -> Option<[u8; ENTRY_BYTES]> {
    let session = journal.0.parse().ok()?;
    let writer = Writer::from_name(&journal.1)?;
    Entry::Frame { session, writer, seq: seq.cast_unsigned(), hash }.encode()
}

/// Runs a step on the ledger within a transaction; what it met is told as a [`StoreError`], which the transaction unwraps.
fn told<T>(link: &Link, done: Result<T, Fault>) -> Result<T, StoreError> {
    done.map_err(|fault| link.explain("write to", fault))
}

impl OpenBook for Ledger<'_> {
    fn size(&self) -> u64 {
        self.tree.size
    }

    fn root(&mut self, size: u64) -> Result<Hash, StoreError> {
        root(&mut self.tree, size)
    }

    /// The commit does.
    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn push(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let done = self.enter_key(entry);
        told(self.link, done)
    }

    fn current_key(&self) -> Result<Option<(u64, [u8; 32])>, StoreError> {
        let found = self.key("SELECT number, public FROM ledger_keys ORDER BY number DESC LIMIT 1");
        Ok(told(self.link, found)?.map(|(number, public)| (number.cast_unsigned(), public)))
    }

    fn first_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        let found = self.key("SELECT number, public FROM ledger_keys WHERE number = 1");
        Ok(told(self.link, found)?.map(|(_, public)| public))
    }

    fn note(&self, name: &str) -> Result<Option<(Note, Checkpoint)>, StoreError> {
        told(self.link, note(self.link, name))
    }

    fn keep_note(&mut self, name: &str, note: &Note) -> Result<(), StoreError> {
        let text = "INSERT INTO ledger_notes (name, note) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET note = $2";
        let done = self.link.execute(text, &[&name, &note.to_string().as_bytes()]);
        told(self.link, done).map(drop)
    }
}

/// What was signed under this name.
pub(super) fn note(link: &Link, name: &str) -> Result<Option<(Note, Checkpoint)>, Fault> {
    let Some(row) = link.query_opt("SELECT note FROM ledger_notes WHERE name = $1", &[&name])? else { return Ok(None) };
    let wrong = |_| damaged("a note that was signed");
    let note = Note::parse(row.try_get(0)?).map_err(wrong)?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(wrong)?;
    Ok(Some((note, checkpoint)))
}

/// Runs `act` with the ledger open for appending, in one transaction.
pub(super) fn with_ledger<T>(
    link: &Link,
    act: impl Fn(&mut Ledger<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    link.transaction("write to", |link| {
        locks::wait(link, locks::LEDGER)?;
        let mut ledger = Ledger::open(link)?;
        ledger.take_folded()?;
        Ok(act(&mut ledger)?)
    })
}

/// The keys that ever signed, in their order.
pub(super) fn keys(link: &Link) -> Result<Vec<LedgerKey>, Fault> {
    let rows = link.query("SELECT number, public FROM ledger_keys ORDER BY number", &[])?;
    let mut keys: Vec<(u64, [u8; 32])> = Vec::new();
    for row in &rows {
        keys.push((row.try_get::<_, i64>(0)?.cast_unsigned(), hash(row.try_get(1)?)?.0));
    }
    let Some(name) = keys.first().map(|(_, first)| origin(first)) else { return Ok(Vec::new()) };
    let key = |(number, public)| Some(LedgerKey { number, key: VerifierKey::new(&name, KeyKind::Note, public).ok()? });
    Ok(keys.into_iter().filter_map(key).collect())
}

/// What shows that an event of a session is in the ledger. Where its key is another machine's, what that signed last counts.
pub(super) fn receipt(link: &Link, home: &Home, session: &SessionId, number: u64) -> Result<Receipt, StoreError> {
    let signed_now = signed_now(link, home)?;
    link.moment(|link| {
        let missing = || LedgerError::Missing { what: format!("event {number} of session {session}") };
        let frame = query::stored_frame(link, session, number)?.ok_or_else(missing)?;
        let place = place_of(link, session, frame.writer.as_str(), frame.seq)?;
        let index = place.filter(|index| *index < signed_now.checkpoint.size).ok_or_else(missing)?;
        let header = Header { session: session.clone(), writer: frame.writer };
        let before = frame.before.unwrap_or_else(|| header.genesis());
        let mut tree = Tree::open(link)?;
        let entry = tree.read(index, 1)?[0];
        let evidence = Evidence { entry, before, payload: frame.payload };
        prove(&mut tree, evidence, index, &signed_now)
    })
}

/// What shows that an entry is in the ledger.
pub(super) fn receipt_of_entry(link: &Link, home: &Home, index: u64) -> Result<Receipt, StoreError> {
    let signed_now = signed_now(link, home)?;
    let missing = || LedgerError::Missing { what: format!("entry {index}") };
    if index >= signed_now.checkpoint.size {
        return Err(missing().into());
    }
    let bytes = link.again("read", |link| Ok(Tree::open(link)?.read(index, 1)?[0]))?;
    if let Some(Entry::Frame { session, writer, seq, .. }) = Entry::decode(&bytes) {
        let text = "SELECT number FROM events WHERE session = $1 AND writer = $2 AND seq = $3";
        let number = link.again("read", |link| {
            link.query_opt(text, &[&session.as_str(), &writer.as_str(), &signed(seq)])?
                .map(|row| Ok(row.try_get::<_, i64>(0)?.cast_unsigned()))
                .transpose()
        })?;
        return receipt(link, home, &session, number.ok_or_else(missing)?);
    }
    link.moment(|link| {
        let evidence = Evidence { entry: bytes, before: Hash([0; 32]), payload: Vec::new() };
        prove(&mut Tree::open(link)?, evidence, index, &signed_now)
    })
}

fn prove(tree: &mut Tree<'_>, evidence: Evidence, index: u64, signed: &Checkpointed) -> Result<Receipt, Fault> {
    let proof = inclusion(tree, index, signed.checkpoint.size)?;
    let receipt = Receipt { evidence, index, proof, checkpoint: signed.note.clone() };
    // Rather nothing than a receipt that proves nothing.
    receipt.show().map_err(|_| damaged("the ledger, whose proofs show nothing"))?;
    Ok(receipt)
}

/// Signs the ledger where its key is ours, and else takes what was signed last.
fn signed_now(link: &Link, home: &Home) -> Result<Checkpointed, StoreError> {
    let fault = match with_ledger(link, |ledger| sign(ledger, home)) {
        Err(StoreError::Ledger(fault @ (LedgerError::KeyMissing { .. } | LedgerError::KeyForeign { .. }))) => fault,
        other => return other,
    };
    let (last, keys) = link.again("read", |link| Ok((note(link, CHECKPOINT)?, keys(link)?)))?;
    match (last, keys.into_iter().last()) {
        (Some((note, checkpoint)), Some(key)) => Ok(Checkpointed { note, checkpoint, key }),
        _ => Err(fault.into()),
    }
}

/// Where a frame is in the ledger; none when it is not.
fn place_of(link: &Link, session: &SessionId, writer: &str, seq: u64) -> Result<Option<u64>, Fault> {
    let text = "SELECT place + $3 - seq FROM ledger_runs WHERE session = $1 AND writer = $2 AND seq <= $3 \
                AND seq + count > $3 ORDER BY seq DESC LIMIT 1";
    let row = link.query_opt(text, &[&session.as_str(), &writer, &signed(seq)])?;
    Ok(row.map(|row| row.try_get::<_, i64>(0)).transpose()?.map(i64::cast_unsigned))
}

/// The first entry that is not there, or stands for another frame than the tables have.
pub(super) fn first_unlike(link: &Link) -> Result<Option<u64>, StoreError> {
    let text = "SELECT r.place + g, r.session, r.writer, r.seq + g, e.entry, v.hash FROM ledger_runs r \
                CROSS JOIN LATERAL generate_series(0, r.count - 1) AS g \
                LEFT JOIN ledger_entries e ON e.place = r.place + g \
                LEFT JOIN events v ON v.session = r.session AND v.writer = r.writer AND v.seq = r.seq + g \
                WHERE r.place >= (SELECT coalesce(max(place), 0) FROM ledger_runs WHERE place <= $1) \
                AND r.place + g >= $1 ORDER BY r.place, g LIMIT $2";
    let mut from = 0_i64;
    loop {
        let rows = link.again("read", |link| link.query(text, &[&from, &BATCH]))?;
        for row in &rows {
            let place = link.again("read", |_| Ok(row.try_get::<_, i64>(0)?))?;
            let same = link.again("read", |_| is_noted(row))?;
            if !same {
                return Ok(Some(place.cast_unsigned()));
            }
            from = place + 1;
        }
        if rows.is_empty() {
            return Ok(None);
        }
    }
}

/// Whether an entry stands for the frame that the tables have at its place.
fn is_noted(row: &tokio_postgres::Row) -> Result<bool, Fault> {
    let (journal, seq): (Journal, i64) = ((row.try_get(1)?, row.try_get(2)?), row.try_get(3)?);
    let (entry, frame): (Option<&[u8]>, Option<&[u8]>) = (row.try_get(4)?, row.try_get(5)?);
    let (Some(entry), Some(frame)) = (entry, frame) else { return Ok(false) };
    Ok(encode(&journal, seq, hash(frame)?).is_some_and(|noted| noted[..] == *entry))
}

/// Neighbouring frames of one journal at neighbouring places: journal, first frame, first place, how many.
#[derive(Default)]
pub(super) struct Runs(Vec<(Journal, i64, i64, i64)>);

impl Runs {
    pub fn add(&mut self, journal: &Journal, seq: i64, place: i64) {
        match self.0.last_mut() {
            Some((last, first, start, count))
                if last == journal && *first + *count == seq && *start + *count == place =>
            {
                *count += 1;
            }
            _ => self.0.push((journal.clone(), seq, place, 1)),
        }
    }

    fn insert(&self, link: &Link) -> Result<(), Fault> {
        let text = "INSERT INTO ledger_runs (session, writer, seq, place, count) \
                    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])";
        let sessions: Vec<&str> = self.0.iter().map(|run| run.0.0.as_str()).collect();
        let writers: Vec<&str> = self.0.iter().map(|run| run.0.1.as_str()).collect();
        let column = |pick: fn(&(Journal, i64, i64, i64)) -> i64| self.0.iter().map(pick).collect::<Vec<_>>();
        let (seqs, places, counts) = (column(|run| run.1), column(|run| run.2), column(|run| run.3));
        link.execute(text, &[&sessions, &writers, &seqs, &places, &counts]).map(drop)
    }
}
