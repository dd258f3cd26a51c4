//! What is told of entries outside: the ledger's and the store's words become the exports'.

use crate::export::{Frame, Installation, Record, Recorded};
use crate::model::SessionId;
use crate::store::{Store, StoredEvent};
use std::collections::BTreeMap;

/// Of how many sessions it is remembered whose they are.
const SESSIONS_MAX: usize = 10_000;

/// Makes records of what the store has.
pub(super) struct Teller<'a> {
    store: &'a dyn Store,
    installation: Installation,
    users: BTreeMap<SessionId, Option<String>>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(store: &'a dyn Store) -> anyhow::Result<Self> {
        let keys = store.ledger_keys()?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let installation = Installation {
            host,
            ledger: keys.first().map(|first| first.key.name().to_owned()),
            omni_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Self { store, installation, users: BTreeMap::new() })
    }

    pub(super) fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The records of events, wherever they are in the ledger.
    pub(super) fn events(&mut self, events: Vec<StoredEvent>) -> anyhow::Result<Vec<Record>> {
        let places = self.store.ledger_places(&events)?;
        let told = |(event, place): (StoredEvent, Option<(u64, _)>)| {
            let (entry, leaf) = place.unzip();
            Ok(Record { entry, leaf, recorded: Recorded::Frame(self.frame(event)?) })
        };
        events.into_iter().zip(places).map(told).collect()
    }

    fn frame(&mut self, event: StoredEvent) -> anyhow::Result<Frame> {
        let StoredEvent { session, number, writer, seq, at, kind, json, .. } = event;
        let user = self.user(&session)?;
        Ok(Frame { session, user, number, writer, seq, at, kind, json })
    }

    /// On whose behalf a session runs.
    fn user(&mut self, session: &SessionId) -> anyhow::Result<Option<String>> {
        if let Some(known) = self.users.get(session) {
            return Ok(known.clone());
        }
        let user = self.store.session(session)?.0.user;
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
