//! The durable places: a journal for each writing process of a session, and a database they are folded into.
//!
//! Journals are the truth: a fact is in one before its effect happens, and a killed process loses nothing it acknowledged.
//! The database is a view of them that can be thrown away and folded again. This room deliberately does not know what a
//! fact means for the harness, only how to keep, count and find it.

mod error;
mod home;
mod journal;
mod recorder;

pub use error::{HomeFault, StoreError};
pub use home::Home;
pub use journal::{Journal, SyncHandle};
pub use recorder::{Memory, Recorder};
