//! What is told of entries outside: the ledger's and the store's words become the exports'.

use crate::export::{Frame, Installation, Record, Recorded};
use crate::ledger::Entry;
use crate::model::SessionId;
use crate::store::{LedgerEntry, Store, StoreError, StoredEvent};
use std::collections::BTreeMap;

/// Of how many sessions it is remembered whose they are.
const SESSIONS_MAX: usize = 10_000;

/// Makes records of what the store has.
pub struct Teller<'a> {
    store: &'a dyn Store,
    installation: Installation,
    users: BTreeMap<SessionId, Option<String>>,
}

impl<'a> Teller<'a> {
    /// Makes them of what this store has.
    ///
    /// # Errors
    /// When the ledger's keys cannot be read.
    pub fn new(store: &'a dyn Store) -> Result<Self, StoreError> {
        let keys = store.ledger_keys()?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let installation = Installation {
            host,
            ledger: keys.first().map(|first| first.key.name().to_owned()),
            omni_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Self { store, installation, users: BTreeMap::new() })
    }

    /// Where they come from.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The records of events, wherever they are in the ledger.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn events(&mut self, events: Vec<StoredEvent>) -> Result<Vec<Record>, StoreError> {
        let places = self.store.ledger_places(&events)?;
        let told = |(event, place): (StoredEvent, Option<(u64, _)>)| {
            let (entry, leaf) = place.unzip();
            Ok(Record { entry, leaf, recorded: Recorded::Frame(self.frame(event)?) })
        };
        events.into_iter().zip(places).map(told).collect()
    }

    /// The records of entries.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn entries(&mut self, entries: Vec<LedgerEntry>) -> Result<Vec<Record>, StoreError> {
        let told = |LedgerEntry { index, leaf, entry, event }: LedgerEntry| {
            let recorded = match (entry, event) {
                (_, Some(event)) => Recorded::Frame(self.frame(event)?),
                (Some(Entry::Key { number, public }), None) => Recorded::Key { number, public },
                (Some(Entry::Other { kind }), None) => Recorded::Other { kind },
                // Its frame is gone; that there was one is not kept back.
                (Some(Entry::Frame { .. }), None) => Recorded::Other { kind: 1 },
                (None, None) => Recorded::Other { kind: 0 },
            };
            Ok(Record { entry: Some(index), leaf: Some(leaf), recorded })
        };
        entries.into_iter().map(told).collect()
    }

    fn frame(&mut self, event: StoredEvent) -> Result<Frame, StoreError> {
        let StoredEvent { session, number, writer, seq, at, kind, json, .. } = event;
        let user = self.user(&session)?;
        Ok(Frame { session, user, number, writer, seq, at, kind, json })
    }

    /// On whose behalf a session runs.
    fn user(&mut self, session: &SessionId) -> Result<Option<String>, StoreError> {
        if let Some(known) = self.users.get(session) {
            return Ok(known.clone());
        }
        let user = match self.store.session(session) {
            Ok((summary, _)) => summary.user,
            // What is recorded of the installation as a whole is no session's.
            Err(StoreError::UnknownSession { .. }) => None,
            Err(error) => return Err(error),
        };
        if self.users.len() >= SESSIONS_MAX {
            self.users.clear();
        }
        // A session whose beginning is not folded yet has none so far.
        if user.is_some() {
            self.users.insert(session.clone(), user.clone());
        }
        Ok(user)
    }
}
