//! Whose a session's costs are, as its start tells.

use crate::model::{Event, SessionId};
use crate::store::{SpendRow, Store};
use std::collections::BTreeMap;

/// How many of a session's first events are looked at for its start: the proxy's own may come first.
const FIRST_EVENTS: u32 = 64;
/// What stands for a team, project or tag where a session has none.
pub(super) const NOBODY: &str = "-";

/// What a session's costs are told by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub user: String,
    pub team: Option<String>,
    pub project: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub agent: String,
    pub name: Option<String>,
}

/// The owners of sessions, each read once.
pub(super) struct Owners<'a> {
    store: &'a dyn Store,
    known: BTreeMap<SessionId, Owner>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Self { store, known: BTreeMap::new() }
    }

    /// The owner of a session; nobody's where it never started.
    pub(super) fn of(&mut self, session: &SessionId) -> anyhow::Result<&Owner> {
        if !self.known.contains_key(session) {
            let events = self.store.log(Some(session), 0, FIRST_EVENTS)?;
            let owner = events.iter().find_map(|stored| owner(stored.event()?)).unwrap_or_default();
            self.known.insert(session.clone(), owner);
        }
        Ok(&self.known[session])
    }
}

fn owner(event: Event) -> Option<Owner> {
    match event {
        Event::SessionStarted { user, team, project, tags, profile, name, .. } => {
            Some(Owner { user, team, project, tags, agent: profile, name })
        }
        _ => None,
    }
}

/// Groups what sessions cost by something about their owners; a session with several of it counts in each.
pub(super) fn regroup(
    owners: &mut Owners<'_>,
    sessions: Vec<SpendRow>,
    keys: impl Fn(&Owner) -> Vec<String>,
) -> anyhow::Result<Vec<SpendRow>> {
    let mut groups = BTreeMap::<String, SpendRow>::new();
    for row in sessions {
        let mut found = keys(owners.of(&row.key.parse()?)?);
        if found.is_empty() {
            found.push(NOBODY.to_owned());
        }
        for key in found {
            groups
                .entry(key.clone())
                .and_modify(|group| group.add(&row))
                .or_insert_with(|| SpendRow { key, ..row.clone() });
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.cost));
    Ok(groups)
}
