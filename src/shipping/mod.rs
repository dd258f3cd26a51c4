//! Shipping: what the ledger has, sent to places that gather logs, entry by entry and in its order.
//!
//! The ledger's files are the queue: what was not delivered lies there, so that a place may be away for as long as it likes and
//! memory holds one batch. Each place has a mark of its own ([`crate::store::ShippingMark`]), which moves on only when the
//! place said that it has what came before. So every entry arrives at least once. Sessions know nothing of all this, but for
//! those whose policy asks how old the marks are.

mod backoff;
mod batch;
mod clock;
mod courier;
mod dial;
mod error;
mod file;
mod http;
mod numbers;
mod send;
mod syslog;
mod target;
mod teller;

pub use clock::{Clock, SystemClock};
pub use courier::{ReadToken, Report, Shipment, ship};
pub use error::{ShippingError, TargetError};
pub use numbers::numbers;
pub use target::{Format, Signal, Target, TokenSource};
pub use teller::Teller;
