//! One place's courier: from its mark to the ledger's end, again and again.

use super::backoff::Backoff;
use super::batch::{self, Batch};
use super::clock::{Clock, elapsed};
use super::send::{Trouble, deliver};
use super::target::{Kind, Signal, Target, TokenSource};
use super::{ShippingError, Teller};
use crate::export::Record;
use crate::export::otlp::SpanBook;
use crate::model::Timestamp;
use crate::store::{Home, LedgerEntry, MarkFile, ShippingMark, Store, open_store};
use std::time::Duration;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

/// Most entries in one batch.
const BATCH_ENTRIES_MAX: u64 = 1_000;
/// How long to wait between two looks for new entries.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a mark says that nothing waits, where nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often a trouble that stays is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(3600);
/// How often something is told of a place within that time.
const TOLD_MAX: usize = 4;
/// How long an entry's event may be missing from the database, which is being made again perhaps, before the entry is shipped
/// without it.
const MISSING_WAIT: Duration = Duration::from_secs(60);
/// How far back is looked for the beginning of what is under way.
const LOOKBACK_MAX: u64 = 1_000_000;

/// Reads a token; why not, for a person.
pub type ReadToken<'a> = &'a (dyn Fn(&TokenSource) -> Result<Zeroizing<String>, String> + Sync);
/// Takes what a person should know.
pub type Report<'a> = &'a (dyn Fn(&str) + Sync);

/// What is to be shipped where.
pub struct Shipment<'a> {
    /// Whose records.
    pub home: &'a Home,
    /// The places.
    pub targets: &'a [Target],
    /// Whether it is over when everything that was there was delivered, or a place cannot be delivered to.
    pub once: bool,
    /// How tokens are read.
    pub read_token: ReadToken<'a>,
    /// Whom to tell.
    pub report: Report<'a>,
    /// What time it is.
    pub clock: &'a dyn Clock,
}

/// Ships, each place at its own pace.
///
/// # Errors
/// When it cannot begin, or ended at some place; which and why was reported.
pub fn ship(shipment: &Shipment<'_>) -> Result<(), ShippingError> {
    let names = |target: &Target| shipment.targets.iter().filter(|other| other.name == target.name).count();
    if let Some(twice) = shipment.targets.iter().find(|target| names(target) > 1) {
        return Err(ShippingError::SameName(twice.name.clone()));
    }
    open_store(shipment.home)?.fold_all()?;
    let failed = std::thread::scope(|scope| {
        let begin = |target| std::thread::Builder::new().spawn_scoped(scope, move || Courier::run(shipment, target));
        let couriers = shipment.targets.iter().map(begin).collect::<Result<Vec<_>, _>>();
        let couriers = couriers.map_err(ShippingError::Thread)?;
        let mut last = String::new();
        while !shipment.once && couriers.iter().any(|courier| !courier.is_finished()) {
            shipment.clock.pause(PAUSE);
            let fault = take_in(shipment.home).err().map(|error| error.to_string()).unwrap_or_default();
            if fault != last && !fault.is_empty() {
                (shipment.report)(&fault);
            }
            last = fault;
        }
        let ended = couriers.into_iter().map(|courier| courier.join().unwrap_or(Err(ShippingError::Some(1))));
        let failures = ended.filter_map(Result::err);
        Ok::<_, ShippingError>(failures.inspect(|error| (shipment.report)(&error.to_string())).count())
    })?;
    if failed == 0 { Ok(()) } else { Err(ShippingError::Some(failed)) }
}

/// Takes what journals have new into the ledger.
fn take_in(home: &Home) -> Result<(), ShippingError> {
    let mut store = open_store(home)?;
    store.fold_all()?;
    match store.ledger_fault() {
        Some(fault) => Err(ShippingError::Ledger(fault.to_string())),
        None => Ok(()),
    }
}

/// What one look came to.
enum Look {
    /// Everything was delivered.
    CaughtUp,
    /// The next entry's event is not in the database.
    Missing,
    /// These entries are next, encoded.
    Next(Next),
}

struct Next {
    batch: Batch,
    count: u64,
    leaf: Option<String>,
    /// Whether nothing is known to be behind them.
    is_last: bool,
}

struct Courier<'a> {
    shipment: &'a Shipment<'a>,
    target: &'a Target,
    runtime: Runtime,
    file: MarkFile,
    mark: ShippingMark,
    book: SpanBook,
    /// Most entries that the place takes at once, as far as is known.
    most: u64,
    backoff: Backoff,
    /// Of a place that takes nothing.
    away: Option<Away>,
    missing_since: Option<Timestamp>,
}

/// Since when a place takes nothing, and what was told of it within the hour.
struct Away {
    since: Timestamp,
    told: Vec<(Timestamp, String)>,
}

impl<'a> Courier<'a> {
    fn run(shipment: &'a Shipment<'a>, target: &'a Target) -> Result<(), ShippingError> {
        let mut courier = Self::begin(shipment, target)?;
        loop {
            match courier.look() {
                Ok(Look::CaughtUp) => {
                    courier.note_caught_up()?;
                    if shipment.once {
                        return Ok(());
                    }
                    shipment.clock.pause(PAUSE);
                }
                Ok(Look::Missing) if shipment.once => {
                    return courier
                        .give_up("the database has not the next entry's event: run `omni audit rebuild`".to_owned());
                }
                Ok(Look::Missing) => shipment.clock.pause(PAUSE),
                Ok(Look::Next(next)) => courier.hand_over(next)?,
                Err(ShippingError::Store(error)) if !shipment.once => courier.wait(Trouble::new(error.to_string())),
                Err(error) => return Err(error),
            }
        }
    }

    fn begin(shipment: &'a Shipment<'a>, target: &'a Target) -> Result<Self, ShippingError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ShippingError::Thread)?;
        let file = MarkFile::take(shipment.home, &target.name)?;
        let mut mark = file.read()?.unwrap_or_else(|| ShippingMark::begin(target.shown.clone()));
        mark.to.clone_from(&target.shown);
        let mut courier = Self {
            shipment,
            target,
            runtime,
            file,
            mark,
            book: SpanBook::default(),
            most: BATCH_ENTRIES_MAX,
            backoff: Backoff::default(),
            away: None,
            missing_since: None,
        };
        let store = open_store(shipment.home)?;
        courier.compare(store.as_ref())?;
        courier.remember(store.as_ref())?;
        Ok(courier)
    }

    /// Whether the ledger is the one whose entries were delivered.
    fn compare(&self, store: &dyn Store) -> Result<(), ShippingError> {
        let Some(last) = self.mark.next.checked_sub(1) else { return Ok(()) };
        let found = store.ledger_entries(last, 1)?.first().map(|entry| entry.leaf.to_string());
        if found == self.mark.leaf {
            return Ok(());
        }
        let mark = self.file.path().to_owned();
        Err(ShippingError::OtherLedger { name: self.target.name.clone(), shipped: self.mark.next, mark })
    }

    /// Looks up what was under way, where entries are joined.
    fn remember(&mut self, store: &dyn Store) -> Result<(), ShippingError> {
        let Some(from) = self.mark.open_from else { return Ok(()) };
        let mut next = from.max(self.mark.next.saturating_sub(LOOKBACK_MAX));
        let mut teller = Teller::new(store)?;
        while next < self.mark.next {
            let entries = store.ledger_entries(next, BATCH_ENTRIES_MAX.min(self.mark.next - next))?;
            let Some(last) = entries.last() else { return Ok(()) };
            next = last.index + 1;
            for record in teller.entries(entries)? {
                // It was delivered.
                let _ = self.book.take(&record);
            }
        }
        Ok(())
    }

    /// Looks for entries. The store is opened anew each time, since another database may be in its place.
    fn look(&mut self) -> Result<Look, ShippingError> {
        let store = open_store(self.shipment.home)?;
        let mut entries = store.ledger_entries(self.mark.next, BATCH_ENTRIES_MAX)?;
        if entries.is_empty() {
            // Fewer entries than were delivered are no ledger's that merely grew.
            self.compare(store.as_ref())?;
            return Ok(Look::CaughtUp);
        }
        let size = store.ledger_size()?;
        if let Some(place) = entries.iter().position(is_missing) {
            let since = *self.missing_since.get_or_insert_with(|| self.shipment.clock.now());
            match (place, self.elapsed(since) < MISSING_WAIT) {
                (0, true) => return Ok(Look::Missing),
                (0, false) => entries.truncate(1),
                (place, _) => entries.truncate(place),
            }
        }
        let mut teller = Teller::new(store.as_ref())?;
        let mut records = teller.entries(entries)?;
        records.truncate(batch::count(&records, usize::try_from(self.most).unwrap_or(usize::MAX)));
        self.missing_since = None;
        let batch = batch::encode(&self.target.kind, &records, teller.installation(), &mut self.book);
        Ok(Look::Next(Next {
            batch,
            count: records.len() as u64,
            leaf: records.last().and_then(Record::leaf_hex),
            is_last: self.mark.next + records.len() as u64 >= size,
        }))
    }

    /// Delivers, however long that takes, and moves the mark.
    fn hand_over(&mut self, next: Next) -> Result<(), ShippingError> {
        loop {
            match deliver(&self.runtime, &self.target.kind, &next.batch, self.shipment.read_token) {
                Ok(said) => {
                    said.into_iter().for_each(|said| (self.shipment.report)(&format!("{}: {said}", self.target.name)));
                    break;
                }
                // What was joined cannot be joined again; spans are small.
                Err(trouble) if trouble.is_too_large && next.count > 1 && !self.joins() => {
                    self.most = next.count / 2;
                    return Ok(());
                }
                Err(trouble) if self.shipment.once => return self.give_up(trouble.why),
                Err(trouble) => self.wait(trouble),
            }
        }
        self.welcome_back();
        self.mark.next += next.count;
        self.mark.leaf = next.leaf;
        self.mark.open_from = self.book.open_from();
        if next.is_last {
            self.mark.caught_up = Some(self.shipment.clock.now());
        }
        Ok(self.file.write(&self.mark)?)
    }

    fn joins(&self) -> bool {
        matches!(self.target.kind, Kind::Otlp { signal: Signal::Traces, .. })
    }

    /// Says from time to time that nothing waits.
    fn note_caught_up(&mut self) -> Result<(), ShippingError> {
        let now = self.shipment.clock.now();
        let is_fresh = |at: Timestamp| (0..HEARTBEAT.as_micros() as i64).contains(&(now.0 - at.0));
        if self.mark.caught_up.is_some_and(is_fresh) && !self.shipment.once {
            return Ok(());
        }
        self.mark.caught_up = Some(now);
        Ok(self.file.write(&self.mark)?)
    }

    fn elapsed(&self, since: Timestamp) -> Duration {
        elapsed(self.shipment.clock, since)
    }

    fn waiting(&self) -> u64 {
        let size = open_store(self.shipment.home).and_then(|store: Box<dyn Store>| store.ledger_size());
        size.map_or(0, |size| size.saturating_sub(self.mark.next))
    }

    fn not_delivered(&self, why: String) -> ShippingError {
        ShippingError::NotDelivered { name: self.target.name.clone(), why, waiting: self.waiting() }
    }

    fn give_up(&self, why: String) -> Result<(), ShippingError> {
        Err(self.not_delivered(why))
    }

    /// Says what is wrong, unless that was said lately, and waits.
    fn wait(&mut self, trouble: Trouble) {
        let (now, clock) = (self.shipment.clock.now(), self.shipment.clock);
        let away = self.away.get_or_insert_with(|| Away { since: now, told: Vec::new() });
        away.told.retain(|(at, _)| elapsed(clock, *at) < TOLD_AGAIN);
        // Some places have a new reason each time, and others two that take turns.
        if away.told.len() < TOLD_MAX && away.told.iter().all(|(_, why)| *why != trouble.why) {
            away.told.push((now, trouble.why.clone()));
            (self.shipment.report)(&format!("{}; it is tried again until it works", self.not_delivered(trouble.why)));
        }
        clock.pause(self.backoff.next(trouble.after));
    }

    fn welcome_back(&mut self) {
        self.backoff.reset();
        if let Some(Away { since, .. }) = self.away.take() {
            let seconds = self.elapsed(since).as_secs();
            (self.shipment.report)(&format!("{}: it works again, after {seconds} s", self.target.name));
        }
    }
}

/// Whether an entry stands for a frame that the database has not.
fn is_missing(entry: &LedgerEntry) -> bool {
    entry.event.is_none() && matches!(entry.entry, Some(crate::ledger::Entry::Frame { .. }))
}

#[cfg(test)]
#[path = "outage_tests.rs"]
mod tests;
