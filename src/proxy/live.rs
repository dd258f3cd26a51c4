//! What a session spends and is refused, told to it as it happens, for whoever watches: a fold over the proxy's own facts.

use crate::model::{Event, NanoUsd, Timestamp, Usage};
use crate::store::{Recorder, StoreError};
use serde::{Deserialize, Serialize};
use std::future::pending;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The shortest time between two words about it: nobody reads faster.
const PAUSE: Duration = Duration::from_millis(500);
/// How much of what was refused last is told, in characters.
const REFUSAL_CHARACTERS_MAX: usize = 120;

/// What has happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// What model calls cost.
    pub spent: NanoUsd,
    /// What they used.
    pub usage: Usage,
    /// How many requests and connections were refused.
    pub refused: u64,
    /// The last of them.
    pub last_refused: Option<String>,
}

impl Happened {
    /// Takes a fact in; whether it says something new.
    fn take(&mut self, event: &Event) -> bool {
        let refused = match event {
            Event::UsageMetered { usage, cost, .. } => {
                (self.usage, self.spent) = (self.usage.plus(*usage), self.spent.plus(*cost));
                return true;
            }
            Event::RequestDenied { line, .. } => format!("{} {}{}", line.method, line.host, line.path),
            Event::ConnectionRefused { target, .. } => target.clone(),
            _ => return false,
        };
        self.refused = self.refused.saturating_add(1);
        self.last_refused = Some(refused.chars().take(REFUSAL_CHARACTERS_MAX).collect());
        true
    }
}

/// A recorder whose facts are folded as they are kept.
pub(super) struct Watched {
    inner: Box<dyn Recorder>,
    told: watch::Sender<Happened>,
}

/// Where what has happened is heard of.
pub(super) struct Live {
    told: watch::Receiver<Happened>,
    not_before: Option<Instant>,
}

impl Watched {
    /// The same recorder, and where it is heard of.
    pub(super) fn over(inner: Box<dyn Recorder>) -> (Box<dyn Recorder>, Option<Live>) {
        let (told, heard) = watch::channel(Happened::default());
        (Box::new(Self { inner, told }), Some(Live { told: heard, not_before: None }))
    }

    fn watch(&self, event: &Event) {
        self.told.send_if_modified(|happened| happened.take(event));
    }
}

impl Recorder for Watched {
    fn record(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError> {
        self.inner.record(at, event).inspect(|()| self.watch(event))
    }

    fn defer(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError> {
        self.inner.defer(at, event).inspect(|()| self.watch(event))
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.inner.settle()
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.inner.sync()
    }
}

impl Live {
    /// The next time that something is worth a word. Nothing is lost where this is given up waiting for.
    pub(super) async fn next(live: Option<&mut Self>) -> Happened {
        let Some(live) = live else { return pending().await };
        if live.told.changed().await.is_err() {
            return pending().await;
        }
        live.told.mark_changed();
        if let Some(moment) = live.not_before {
            tokio::time::sleep_until(moment).await;
        }
        live.not_before = Some(Instant::now() + PAUSE);
        live.told.borrow_and_update().clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::RefusalKind;
    use crate::store::Memory;

    #[tokio::test(start_paused = true)]
    async fn many_facts_are_few_words_and_the_last_word_has_all() {
        let memory = Memory::new();
        let (mut recorder, mut live) = Watched::over(Box::new(memory.clone()));
        let refused = |number: u32| Event::ConnectionRefused {
            kind: RefusalKind::Name,
            target: format!("host{number}.example"),
            reason: String::new(),
        };
        recorder.record(Timestamp(1), &refused(1)).unwrap();
        assert_eq!(Live::next(live.as_mut()).await.refused, 1);
        let begun = Instant::now();
        (2..=50).for_each(|number| recorder.defer(Timestamp(1), &refused(number)).unwrap());
        let heard = Live::next(live.as_mut()).await;
        assert!(begun.elapsed() >= PAUSE);
        assert_eq!((heard.refused, heard.last_refused.as_deref()), (50, Some("host50.example")));
        assert_eq!(memory.events().len(), 50);
    }
}
