//! What happens to the installation as a whole: secrets that are kept, prices that are installed, visitors who read.
//!
//! It is recorded as a session's facts are, in journals under ids that no session has, and so it is folded, entered into the
//! ledger and verified like everything else. Whoever goes on with such a journal reads it first: it is kept short.

use super::{Home, Journal, Recorder, StoreError};
use crate::model::{Event, SessionId, Timestamp, Writer};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// A journal that is longer than this is not gone on with: the next one is begun.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;
/// How long to wait for another process that records.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to sleep between two attempts.
const TURN_PAUSE: Duration = Duration::from_millis(2);

/// Records a fact about the installation, on the disk when this returns. To be called before the fact's effect.
///
/// # Errors
/// As [`Journal::reopen`] and [`Recorder::record`]: what was to be recorded must not happen then.
pub fn record_of_installation(home: &Home, at: Timestamp, event: &Event) -> Result<(), StoreError> {
    let failed = |cause| StoreError::write(&home.sessions(), cause);
    let begun = begun(home).map_err(failed)?;
    let open = begun.into_iter().find(|session| !is_full(&home.journal(session, Writer::Changes)));
    let session = open.map_or_else(fresh, Ok).map_err(failed)?;
    let _turn = take_turn(home, &session).map_err(failed)?;
    // Another may have filled it meanwhile, by little.
    let mut journal = Journal::reopen(home, &session, Writer::Changes)?;
    journal.record(at, event)?;
    journal.sync()
}

/// The ids under which this installation has recorded something.
fn begun(home: &Home) -> io::Result<BTreeSet<SessionId>> {
    let entries = match std::fs::read_dir(home.sessions()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?;
    let ids = names.iter().filter_map(|name| name.to_str()?.parse::<SessionId>().ok());
    Ok(ids.filter(SessionId::is_of_installation).collect())
}

fn fresh() -> io::Result<SessionId> {
    let mut entropy = [0; 4];
    getrandom::fill(&mut entropy).map_err(io::Error::other)?;
    Ok(SessionId::of_installation(u32::from_be_bytes(entropy)))
}

fn is_full(path: &std::path::Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.len() > JOURNAL_BYTES_MAX)
}

/// Waits until nobody else records there; what is returned holds the place.
fn take_turn(home: &Home, session: &SessionId) -> io::Result<File> {
    home.create_session(session)?;
    let place = File::open(home.session(session))?;
    let deadline = Instant::now() + TURN_TIMEOUT;
    loop {
        match place.try_lock() {
            Ok(()) => return Ok(place),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(TURN_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Sqlite, Store};
    use super::*;

    fn removed(number: u64) -> Event {
        Event::SecretRemoved { user: "ada".to_owned(), secret: format!("{number} {}", "x".repeat(2_000)) }
    }

    #[test]
    fn many_at_once_record_each_fact_once_in_journals_that_stay_short() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let home = &home;
                scope.spawn(move || {
                    for number in 0..150 {
                        let event = removed(writer * 1_000 + number);
                        record_of_installation(home, Timestamp(1), &event).unwrap();
                    }
                });
            }
        });
        let mut store = Sqlite::open(&home).unwrap();
        store.fold_all().unwrap();
        let stored = store.log(None, 0, u32::MAX).unwrap();
        let mut events: Vec<_> = stored.iter().map(|stored| format!("{:?}", stored.event().unwrap())).collect();
        events.sort();
        let mut wanted: Vec<_> = (0..4)
            .flat_map(|writer| (0..150).map(move |number| format!("{:?}", removed(writer * 1_000 + number))))
            .collect();
        wanted.sort();
        assert_eq!(events, wanted);
        assert!(stored.iter().all(|stored| stored.session.is_of_installation()));
        let journals: BTreeSet<_> = stored.iter().map(|stored| stored.session.clone()).collect();
        assert!(journals.len() > 1, "one alone would be longer than 1 MiB");
        assert_eq!(store.sessions().unwrap(), []);
        assert!(store.find("last").is_err());
        assert!(store.find("000000000").is_err());
        assert!(journals.iter().all(|session| store.find(session.as_str()).unwrap() == *session));
        assert!(store.verify().unwrap().iter().all(|report| report.faults.is_empty()));
    }
}
