//! Taking a home's records over to PostgreSQL, with every hash and number, and handing them back as files.

use super::ledger::{HASH_LEVELS, LEVELS, Tree};
use super::link::{Fault, Link, Parameter};
use super::rebuilt::{write_journals, write_ledger};
use super::summary_row::{id, plain};
use super::{Postgres, StoreAddress, locks, verify};
use crate::ledger::{Frontier, Hash, leaf_hash};
use crate::model::SessionId;
use crate::store::ledger::{Files, mark_moved, moved_to, note_files};
use crate::store::summary_row::signed;
use crate::store::{Home, Sqlite, Status, Store, StoreError, blocks};
use rusqlite::types::Value;
use std::path::Path;

/// How many rows are sent at once.
const PAGE_ROWS: usize = 2_000;
/// How many bytes are sent at once, more or less.
const PAGE_BYTES: usize = 8 << 20;
/// How many entries are read back at once.
const PAGE_ENTRIES: u64 = 16_384;

/// What was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How many sessions.
    pub sessions: u64,
    /// How many events.
    pub events: u64,
    /// How many model calls.
    pub calls: u64,
    /// What they cost together, in billionths of a dollar.
    pub cost_nano: i128,
    /// How many entries the ledger has.
    pub entries: u64,
    /// The root over them, computed from what was read back.
    pub root: Hash,
}

/// A table, and its columns as both stores have them: `user` is a word of PostgreSQL's.
struct Table {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    types: &'static [&'static str],
    /// What is added up on both sides.
    sum: &'static str,
}

/// The table that the embedded store has in another form.
const EVENTS: &str = "events";

/// The tables whose rows are taken over as they are, each after those that it refers to.
const TABLES: [Table; 7] = [
    Table {
        name: "sessions",
        from: "session, name, user, profile, argv, workspace, policy_hash, pid, pid_started_ticks, started, ended, \
               end_reason, exit, events, allowed, denied, refused, failed, calls, inexact, cost_nano, input, cache_read, \
               cache_write, cache_write_long, output, reasoning, web_searches, team, project",
        to: "session, name, user_name, profile, argv, workspace, policy_hash, pid, pid_started_ticks, started, ended, \
             end_reason, exit, events, allowed, denied, refused, failed, calls, inexact, cost_nano, input, cache_read, \
             cache_write, cache_write_long, output, reasoning, web_searches, team, project",
        types: &[
            "text", "text", "text", "text", "text", "text", "text", "bigint", "bigint", "bigint", "bigint", "text",
            "text", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint",
            "bigint", "bigint", "bigint", "bigint", "bigint", "text", "text",
        ],
        sum: "cost_nano",
    },
    Table {
        name: "journals",
        from: "session, writer, frames, head_hash, folded_bytes, fault",
        to: "session, writer, frames, head_hash, folded_bytes, fault",
        types: &["text", "text", "bigint", "bytea", "bigint", "text"],
        sum: "folded_bytes",
    },
    Table {
        name: EVENTS,
        // Opened from blocks.
        from: "",
        to: "entry, session, number, writer, seq, at, kind, payload, hash",
        types: &["bigint", "text", "bigint", "text", "bigint", "bigint", "text", "bytea", "bytea"],
        sum: "number",
    },
    Table {
        name: "calls",
        from: "session, number, at, model, exact, cost_nano, input, cache_read, cache_write, cache_write_long, output, \
               reasoning, web_searches",
        to: "session, number, at, model, exact, cost_nano, input, cache_read, cache_write, cache_write_long, output, \
             reasoning, web_searches",
        types: &[
            "text", "bigint", "bigint", "text", "boolean", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint",
            "bigint", "bigint",
        ],
        sum: "cost_nano",
    },
    Table {
        name: "accounts",
        from: "session, user, team, project, agent, pid, pid_started_ticks",
        to: "session, user_name, team, project, agent, pid, pid_started_ticks",
        types: &["text", "text", "text", "text", "text", "bigint", "bigint"],
        sum: "pid",
    },
    Table {
        name: "charges",
        from: "session, request, at, nano, state",
        to: "session, request, at, nano, state",
        types: &["text", "bigint", "bigint", "bigint", "text"],
        sum: "nano",
    },
    Table {
        name: "ledger_runs",
        from: "session, writer, seq, place, count",
        to: "session, writer, seq, place, count",
        types: &["text", "text", "bigint", "bigint", "bigint"],
        sum: "count",
    },
];

/// Takes over what a home has in its embedded store, all or nothing, to a store on PostgreSQL that is empty. From then on the
/// home's own ledger takes nothing in any more: one log cannot go on in two places. Where it was broken off after all was
/// there, it is completed.
///
/// # Errors
/// [`StoreError::CopyRefused`] when the store is not empty, a session runs, or the home's ledger is not whole, and a
/// [`StoreError`] of either database.
pub fn copy_store(home: &Home, to: &StoreAddress) -> Result<Copied, StoreError> {
    let mut from = Sqlite::open(home)?;
    if moved_to(home)?.is_none() {
        from.fold_all()?;
    }
    if let Some((running, _)) =
        from.sessions()?.into_iter().find(|(_, status)| !status.is_over() && *status != Status::Starting)
    {
        return Err(refused(format!("session {} is running; wait for its end, or stop it", running.session)));
    }
    if let Some(fault) = from.ledger_fault.take() {
        return Err(fault.into());
    }
    let store = Postgres::open(home, to)?;
    // Nobody folds or appends meanwhile.
    let failed = from.failed("read");
    from.connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    let mut files = Files::open(home)?;
    let source = Source { from: &from, files: files.as_mut(), home, machine: &store.machine };
    let source = std::cell::RefCell::new(source);
    store.link.transaction("copy to", |link| {
        locks::wait(link, locks::LEDGER)?;
        link.batch("SET LOCAL statement_timeout = 0")?;
        let mut source = source.borrow_mut();
        if is_empty(link)? {
            source.send(link)?;
        } else if !source.is_there(link)? {
            return Err(refused("it is not empty: a copy adds to nothing".to_owned()).into());
        }
        let copied = source.compare(link)?;
        // Before the commit: rather a ledger that takes nothing in than one that goes on in two places.
        mark_moved(home, &to.to_string())?;
        Ok(copied)
    })
}

fn refused(why: String) -> StoreError {
    StoreError::CopyRefused { why }
}

fn is_empty(link: &Link) -> Result<bool, Fault> {
    let text = "SELECT EXISTS (SELECT 1 FROM sessions) OR EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM accounts) \
                OR EXISTS (SELECT 1 FROM ledger_entries)";
    Ok(!link.query_one(text, &[])?.try_get::<_, bool>(0)?)
}

struct Source<'a> {
    from: &'a Sqlite,
    files: Option<&'a mut Files>,
    home: &'a Home,
    machine: &'a str,
}

impl Source<'_> {
    /// Whether a table was made yet: some are when they are first needed.
    fn has(&self, table: &str) -> Result<bool, StoreError> {
        let text = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
        self.from.connection.query_row(text, [table], |row| row.get(0)).map_err(self.from.failed("read"))
    }

    fn size(&self) -> u64 {
        self.files.as_ref().map_or(0, |files| files.size())
    }

    fn send(&mut self, link: &Link) -> Result<(), Fault> {
        for table in &TABLES {
            if table.name == EVENTS {
                self.send_events(link, table)?;
            } else if self.has(table.name)? {
                self.send_table(link, table)?;
            }
        }
        self.send_ledger(link)
    }

    fn send_table(&self, link: &Link, table: &Table) -> Result<(), Fault> {
        let failed = self.from.failed("read");
        let connection = &self.from.connection;
        let mut statement =
            connection.prepare(&format!("SELECT {} FROM {}", table.from, table.name)).map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        let mut page = Page::of(table);
        while let Some(row) = rows.next().map_err(&failed)? {
            for (index, column) in page.columns.iter_mut().enumerate() {
                let value = row.get(index).map_err(&failed)?;
                page.bytes += column.push(value).ok_or_else(|| mismatch(table))?;
            }
            page.rows += 1;
            if page.rows >= PAGE_ROWS || page.bytes >= PAGE_BYTES {
                page.send(link, table, self.machine)?;
                page = Page::of(table);
            }
        }
        page.send(link, table, self.machine)
    }

    /// The embedded store has them in blocks.
    fn send_events(&self, link: &Link, table: &Table) -> Result<(), Fault> {
        let mut page = Page::of(table);
        let sent = blocks::after(&self.from.connection, 0, |block| {
            let block = block.open()?;
            for (kept, chain) in block.hashed()? {
                let event = block.event(&kept)?;
                let row = [
                    Value::Integer(signed(kept.entry)),
                    Value::Text(event.session.to_string()),
                    Value::Integer(signed(kept.number)),
                    Value::Text(event.writer),
                    Value::Integer(signed(chain.frames())),
                    Value::Integer(event.at.0),
                    Value::Text(event.kind),
                    Value::Blob(kept.payload.to_vec()),
                    Value::Blob(chain.head().0.to_vec()),
                ];
                for (column, value) in page.columns.iter_mut().zip(row) {
                    page.bytes += column.push(value).unwrap_or_default();
                }
                page.rows += 1;
            }
            if page.rows >= PAGE_ROWS || page.bytes >= PAGE_BYTES {
                page.send(link, table, self.machine).map_err(Sending::Server)?;
                page = Page::of(table);
            }
            Ok::<_, Sending>(true)
        });
        match sent {
            Ok(()) => page.send(link, table, self.machine),
            Err(Sending::Server(fault)) => Err(fault),
            Err(Sending::Database(error)) => Err(self.from.failed("read")(error).into()),
        }
    }

    fn send_ledger(&mut self, link: &Link) -> Result<(), Fault> {
        let size = self.size();
        let mut tree = Tree::open(link)?;
        while tree.size < size {
            let count = PAGE_ENTRIES.min(size - tree.size);
            let entries = match &self.files {
                Some(files) => files.read(tree.size, count)?,
                None => Vec::new(),
            };
            tree.append(&entries)?;
        }
        if self.has("ledger_keys")? {
            let failed = self.from.failed("read");
            let text = "SELECT number, place, public FROM ledger_keys";
            let mut statement = self.from.connection.prepare(text).map_err(&failed)?;
            let mut rows = statement.query([]).map_err(&failed)?;
            while let Some(row) = rows.next().map_err(&failed)? {
                let (number, place): (i64, i64) = (row.get(0).map_err(&failed)?, row.get(1).map_err(&failed)?);
                let public: Vec<u8> = row.get(2).map_err(&failed)?;
                let text = "INSERT INTO ledger_keys (number, place, public) VALUES ($1, $2, $3)";
                link.execute(text, &[&number, &place, &public])?;
            }
        }
        for (name, note) in note_files(self.home)? {
            link.execute("INSERT INTO ledger_notes (name, note) VALUES ($1, $2)", &[&name, &note])?;
        }
        let text = "UPDATE ledger SET size = $1, events = (SELECT coalesce(max(entry), 0) FROM events)";
        link.execute(text, &[&signed(size)]).map(drop)
    }

    /// Whether an earlier copy got all of it there.
    fn is_there(&self, link: &Link) -> Result<bool, Fault> {
        let size: i64 = link.query_one("SELECT size FROM ledger", &[])?.try_get(0)?;
        if size != signed(self.size()) {
            return Ok(false);
        }
        for table in &TABLES {
            if self.totals(table)? != totals(link, table)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compares what arrived with what is here: tables by counts and sums, every journal by its chain of hashes, the ledger
    /// by its root.
    fn compare(&mut self, link: &Link) -> Result<Copied, Fault> {
        for table in &TABLES {
            let (here, there) = (self.totals(table)?, totals(link, table)?);
            if here != there {
                return Err(differs(&format!("table {}: {here:?} here and {there:?} there", table.name)));
            }
        }
        for row in link.query("SELECT session FROM sessions", &[])? {
            let session = id(row.try_get(0)?)?;
            if let Some(report) = verify::rows_of(link, &session)?.into_iter().find(|report| !report.faults.is_empty())
            {
                let writer = report.writer.as_str();
                return Err(differs(&format!("the {writer} journal of session {session}: {:?}", report.faults)));
            }
        }
        let (here, there) = (self.root()?, root_there(link, self.size())?);
        if here != there {
            return Err(differs("the ledger's root"));
        }
        let [(sessions, _), (events, _), (calls, cost_nano)] =
            [0, 2, 3].map(|index| totals(link, &TABLES[index])).map(Result::unwrap_or_default);
        Ok(Copied { sessions, events, calls, cost_nano, entries: self.size(), root: there })
    }

    fn totals(&self, table: &Table) -> Result<(u64, i128), Fault> {
        if table.name == EVENTS {
            return self.total_events();
        }
        if !self.has(table.name)? {
            return Ok((0, 0));
        }
        let failed = self.from.failed("read");
        let text = format!("SELECT {} FROM {}", table.sum, table.name);
        let mut statement = self.from.connection.prepare(&text).map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        let (mut count, mut sum) = (0, 0);
        while let Some(row) = rows.next().map_err(&failed)? {
            count += 1;
            sum += i128::from(row.get::<_, Option<i64>>(0).map_err(&failed)?.unwrap_or_default());
        }
        Ok((count, sum))
    }

    /// How many there are, and the sum of their numbers, by what the blocks say they have.
    fn total_events(&self) -> Result<(u64, i128), Fault> {
        let failed = self.from.failed("read");
        let mut statement = self.from.connection.prepare("SELECT number, count FROM blocks").map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        let (mut total, mut sum) = (0, 0);
        while let Some(row) = rows.next().map_err(&failed)? {
            let (number, count): (i64, i64) = (row.get(0).map_err(&failed)?, row.get(1).map_err(&failed)?);
            total += count.cast_unsigned();
            sum += i128::from(count) * (i128::from(number) + i128::from(number) + i128::from(count) - 1) / 2;
        }
        Ok((total, sum))
    }

    fn root(&mut self) -> Result<Hash, Fault> {
        let (size, mut frontier) = (self.size(), Frontier::default());
        while let Some(files) = self.files.as_mut().filter(|_| frontier.size() < size) {
            let entries = files.read(frontier.size(), PAGE_ENTRIES.min(size - frontier.size()))?;
            entries.iter().for_each(|entry| frontier.push(leaf_hash(entry), |_, _, _| {}));
        }
        Ok(frontier.root())
    }
}

/// What kept events from being sent.
enum Sending {
    Database(rusqlite::Error),
    Server(Fault),
}

impl From<rusqlite::Error> for Sending {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn mismatch(table: &Table) -> Fault {
    StoreError::StoreDamaged { what: format!("a value of another type in table {}", table.name) }.into()
}

fn differs(what: &str) -> Fault {
    refused(format!("what arrived is not what was sent ({what}), so nothing was kept")).into()
}

fn totals(link: &Link, table: &Table) -> Result<(u64, i128), Fault> {
    let Table { name, sum, .. } = table;
    let row = link.query_one(&format!("SELECT count(*), coalesce(sum({sum}), 0)::text FROM {name}"), &[])?;
    let sum: String = row.try_get(1)?;
    Ok((row.try_get::<_, i64>(0)?.cast_unsigned(), sum.parse().map_err(|_| mismatch(table))?))
}

/// The root, computed from the entries as they are read back, and whether the hashes kept above them follow from them.
fn root_there(link: &Link, size: u64) -> Result<Hash, Fault> {
    let tree = Tree::open(link)?;
    let mut frontier = Frontier::default();
    let mut kept = Vec::new();
    while frontier.size() < size {
        let entries = tree.read(frontier.size(), PAGE_ENTRIES.min(size - frontier.size()))?;
        for entry in &entries {
            frontier.push(leaf_hash(entry), |level, place, hash| {
                if level > 0 && level % LEVELS == 0 && level / LEVELS <= HASH_LEVELS {
                    kept.push((level / LEVELS, place, *hash));
                }
            });
        }
    }
    for (level, place, hash) in kept {
        if tree.hashes(level, place, 1)? != [hash] {
            return Err(differs("a hash of the ledger's tree"));
        }
    }
    Ok(frontier.root())
}

/// Values of one column on their way.
enum Column {
    Text(Vec<Option<String>>),
    Number(Vec<Option<i64>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Truth(Vec<Option<bool>>),
}

impl Column {
    fn of(kind: &str) -> Self {
        match kind {
            "text" => Self::Text(Vec::new()),
            "bytea" => Self::Bytes(Vec::new()),
            "boolean" => Self::Truth(Vec::new()),
            _ => Self::Number(Vec::new()),
        }
    }

    /// Takes a value; how many bytes it has, or none where it is of another type.
    fn push(&mut self, value: Value) -> Option<usize> {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => column.push(Some(plain(&text))),
            (Self::Text(column), Value::Null) => column.push(None),
            (Self::Number(column), Value::Integer(number)) => column.push(Some(number)),
            (Self::Number(column), Value::Null) => column.push(None),
            (Self::Truth(column), Value::Integer(number)) => column.push(Some(number != 0)),
            (Self::Bytes(column), Value::Blob(bytes)) => {
                let length = bytes.len();
                column.push(Some(bytes));
                return Some(length);
            }
            _ => return None,
        }
        Some(0)
    }

    fn parameter(&self) -> Parameter<'_> {
        match self {
            Self::Text(column) => column,
            Self::Number(column) => column,
            Self::Bytes(column) => column,
            Self::Truth(column) => column,
        }
    }
}

/// Rows on their way, a column at a time.
struct Page {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Page {
    fn of(table: &Table) -> Self {
        Self { columns: table.types.iter().map(|kind| Column::of(kind)).collect(), rows: 0, bytes: 0 }
    }

    fn send(&self, link: &Link, table: &Table, machine: &str) -> Result<(), Fault> {
        let Table { name, to, types, .. } = table;
        if self.rows == 0 {
            return Ok(());
        }
        let arrays: Vec<_> = (1..).zip(*types).map(|(index, kind)| format!("${index}::{kind}[]")).collect();
        let arrays = arrays.join(", ");
        let with_machine = ["sessions", "accounts"].contains(name);
        let mut parameters: Vec<Parameter<'_>> = self.columns.iter().map(Column::parameter).collect();
        let text = match with_machine {
            true => {
                parameters.push(&machine);
                let last = parameters.len();
                format!(
                    "INSERT INTO {name} ({to}, machine) SELECT given.*, ${last}::text FROM unnest({arrays}) AS given"
                )
            }
            false => format!("INSERT INTO {name} ({to}) SELECT * FROM unnest({arrays})"),
        };
        link.execute(&text, &parameters).map(drop)
    }
}

/// Writes the journals and the ledger of a store on PostgreSQL to a directory, as files that `omni audit verify --directory`
/// and everybody's tools read; how many sessions there were. The directory must be new or empty.
///
/// # Errors
/// [`StoreError::CopyRefused`] when it is not, and a [`StoreError`] of the server.
pub fn copy_to_files(home: &Home, from: &StoreAddress, to: &Path) -> Result<u64, StoreError> {
    let failed = |cause| StoreError::HomeOpen { path: to.to_owned(), cause };
    std::fs::create_dir_all(to).map_err(failed)?;
    if std::fs::read_dir(to).map_err(failed)?.next().is_some() {
        return Err(refused(format!("{} is not empty", to.display())));
    }
    let store = Postgres::open(home, from)?;
    store.link.moment(|link| {
        let sessions: Vec<SessionId> = super::query::ids(link, None)?;
        for session in &sessions {
            write_journals(link, to, session)?;
        }
        write_ledger(link, to)?;
        Ok(sessions.len() as u64)
    })
}
