//! What the verbs that list things share: opening the store, tables, JSON lines, and text that cannot attack a terminal.

use crate::model::{Event, NanoUsd, SessionId, Timestamp, Usage};
pub(super) use crate::model::{harmless_json, printable};
use crate::server::{Peer, with_rights_of_visitor};
use crate::store::{Home, Store, open_store, record_of_installation};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// As [`printable`], for what has several lines: they stay.
pub(super) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Whose records are shown, and to whom.
pub(super) struct Viewer {
    home: Home,
    user: Option<String>,
    /// Who asks at the other end of the machine's server; none where it is this process's user.
    visitor: Option<Peer>,
}

impl Viewer {
    /// This process's user, who sees their own records whole.
    pub(super) fn own() -> anyhow::Result<Self> {
        Ok(Self { home: Home::from_env()?, user: None, visitor: None })
    }

    /// A visitor of the machine's server, who sees of its records those of their own sessions, or everything.
    pub(super) fn visitor(home: Home, peer: Peer) -> Self {
        Self { home, user: (!peer.is_root()).then(|| peer.name.clone()), visitor: Some(peer) }
    }

    /// Does something with the rights of whoever asks: what lies at a path of theirs is theirs to look at and to change.
    ///
    /// # Errors
    /// When they cannot be taken or given back.
    pub(super) fn with_their_rights<T>(&self, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        Ok(with_rights_of_visitor(self.visitor.as_ref(), work)?)
    }

    /// Records that records are read, where somebody reads them who could not without omni: the owner of a home reads its
    /// files as they like, and an entry that they can leave out would show nothing.
    ///
    /// # Errors
    /// When it cannot be recorded; then nothing is to be shown.
    pub(super) fn note_reading(&self, command: &str, session: Option<&SessionId>) -> anyhow::Result<()> {
        let Some(peer) = &self.visitor else { return Ok(()) };
        let event =
            Event::LedgerRead { user: peer.name.clone(), command: command.to_owned(), of_session: session.cloned() };
        record(&self.home, &event)
    }

    /// Whether there is nothing in the home that they may not see.
    pub(super) fn sees_all(&self) -> bool {
        self.user.is_none()
    }

    /// Refuses to go on where files that are named are not those of whoever names them.
    pub(super) fn reads_files(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.visitor.is_none(),
            "the machine's server reads and writes no files of its visitors: run this as root, with --no-system and with \
             OMNI_HOME set to the server's home"
        );
        Ok(())
    }

    /// The user whom the machine's server shows only their own, if it does.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The home with the records.
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// Opens the store and takes in what journals have new.
    pub(super) fn open(&self) -> anyhow::Result<Box<dyn Store>> {
        let mut store = open_store(&self.home)?;
        store.see_as(self.user.clone());
        store.fold_all()?;
        if let Some(fault) = store.ledger_fault().filter(|_| self.sees_all()) {
            eprintln!("omni: {}", printable_lines(&fault.to_string()));
        }
        Ok(store)
    }
}

/// Records a fact about a home's installation as a whole. Its effect is to follow, and only if this succeeds.
///
/// # Errors
/// When it cannot be recorded.
pub(super) fn record(home: &Home, event: &Event) -> anyhow::Result<()> {
    Ok(record_of_installation(home, Timestamp(jiff::Timestamp::now().as_microsecond()), event)?)
}

/// Writes to stdout; a reader that has gone away is no error.
pub(super) fn emit(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// One value as one line of JSON.
pub(super) fn json_line<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let mut line = harmless_json(&serde_json::to_string(value)?);
    line.push('\n');
    Ok(line)
}

/// A table without borders; columns named in `right` hold numbers.
pub(super) fn table(columns: &[&str], right: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().copied());
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| printable(cell).into_owned()).collect::<Vec<_>>()));
    for (index, name) in columns.iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        column.set_padding((0, 2));
        if right.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

/// An amount for a person: at least four decimals, and `~` where it is not exact.
pub(super) fn money(cost: NanoUsd, inexact: u64) -> String {
    let text = cost.to_decimal();
    let decimals = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let padding = "0".repeat(4usize.saturating_sub(decimals));
    format!("{}${text}{padding}", if inexact > 0 { "~" } else { "" })
}

/// The time for a person, in UTC, to the second.
pub(super) fn second(at: Timestamp) -> String {
    let text = at.to_rfc3339();
    match text.split_once('.') {
        Some((whole, _)) => whole.replace('T', " "),
        None => text,
    }
}

/// Tokens for a person.
pub(super) fn tokens(usage: &Usage) -> String {
    let mut text = format!("{} in", usage.input);
    let parts =
        [(usage.cache_read, "cache read"), (usage.cache_write.saturating_add(usage.cache_write_long), "cache written")];
    for (count, name) in parts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(" + {count} {name}"));
    }
    text.push_str(&format!(", {} out", usage.output));
    if usage.web_searches > 0 {
        text.push_str(&format!(", {} web searches", usage.web_searches));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn nothing_from_an_event_can_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{9b}\u{202e}c\u{7f}"), "a\\u{1b}[2J\\nb\\u{9b}\\u{202e}c\\u{7f}");
        assert!(matches!(printable("plain münchen ✓"), Cow::Borrowed(_)));
        let line = json_line(&"a\u{1b}\u{9b}\u{202e}\u{7f}\u{e0041}ü").unwrap();
        assert_eq!(line, "\"a\\u001b\\u009b\\u202e\\u007f\\udb40\\udc41ü\"\n");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), "a\u{1b}\u{9b}\u{202e}\u{7f}\u{e0041}ü");
    }

    #[test]
    fn a_table_has_no_borders_and_aligns_money_to_the_right() {
        let rows = vec![vec!["a".to_owned(), "$10.00".to_owned()], vec!["b\n".to_owned(), "$1.00".to_owned()]];
        assert_eq!(table(&["MODEL", "COST"], &["COST"], rows), "MODEL    COST\na      $10.00\nb\\n     $1.00\n");
    }

    #[test]
    fn money_has_four_decimals_or_as_many_as_it_needs() {
        assert_eq!(money(NanoUsd(1_500_000_000), 0), "$1.5000");
        assert_eq!(money(NanoUsd(1_234_567), 1), "~$0.001234567");
    }
}
