//! The rest of a model's answer whose client went away: read on for a while, since its last words say what it cost.
//!
//! Vendors bill what they made by then, whoever reads it, and tell the sum at the end alone. A long rest is not waited for: that
//! would have more made, and billed.

use super::body::Streamed;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the rest of one answer is read.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How much of it.
const BYTES_MAX: usize = 1024 * 1024;
/// How many answers' rests are read at a time; of others, nothing is.
const ANSWERS_MAX: usize = 32;

/// Room for as many as are read at a time.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ANSWERS_MAX))
}

/// An upstream's body on its way to a client, whose rest is read where the client leaves it.
pub(super) struct Attended(Option<Box<Streamed>>);

impl Attended {
    pub(super) fn new(streamed: Streamed) -> Self {
        Self(Some(Box::new(streamed)))
    }

    /// The body, which is there until this is dropped.
    pub(super) fn body(&self) -> Option<&Streamed> {
        self.0.as_deref()
    }

    /// The same.
    pub(super) fn body_mut(&mut self) -> Option<&mut Streamed> {
        self.0.as_deref_mut()
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        let Some(streamed) = self.0.take().filter(|streamed| streamed.has_a_bill_to_come()) else { return };
        // What is dropped settles itself, by what was heard of it.
        let room = streamed.shared().rests.clone().try_acquire_owned();
        if let (Ok(place), Ok(runtime)) = (room, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                read(streamed).await;
                drop(place);
            });
        }
    }
}

async fn read(mut streamed: Box<Streamed>) {
    let shared = streamed.shared().clone();
    let reading = async {
        let mut total = 0;
        while total <= BYTES_MAX {
            let Some(bytes) = poll_fn(|cx| streamed.poll_rest(cx)).await else { break };
            total += bytes;
        }
    };
    let _ = shared.unless_drained(tokio::time::timeout(TIME_MAX, reading)).await;
}
