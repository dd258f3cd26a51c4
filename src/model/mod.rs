//! The words of the domain: ids, money, usage, hosts, secrets and the events everything else is made of.
//!
//! Pure: no clock, no randomness, no input or output. Imports nothing of ours. It deliberately does not know
//! how a fact came about or who will read it.

mod budget;
mod durability;
mod event;
mod event_kind;
mod file_act;
mod host;
mod id;
mod isolation;
mod limit;
mod model_host;
mod money;
mod percent;
mod published_port;
mod secret;
mod text;
mod tier;
mod time;
mod usage;
mod writer;
mod zone;

pub use budget::{Scope, Window};
pub use durability::Durability;
pub use event::{BodyEnd, BodySide, EndReason, Event, ExitStatus, RefusalKind, RequestLine, RequestNumber, UNMETERED};
pub use file_act::FileAct;
pub use host::{Host, HostError, HostName, LOOPBACK_NAME, Port, Scheme};
pub use id::{IdError, SessionId};
pub use isolation::Isolation;
pub use limit::{HeldLimit, KilledProcess, LimitHolder, LimitKind, ReachedLimit};
pub use model_host::{ModelFormat, ModelHost};
pub use money::{MoneyError, NanoUsd};
pub use percent::{hex_byte, percent_decode};
pub use published_port::{PublishedPort, PublishedPortError};
pub use secret::{Placeholder, Secret};
pub use text::{harmless_json, is_hostile, printable};
pub use tier::Tier;
pub use time::Timestamp;
pub use usage::{Pricing, Usage};
pub use writer::Writer;
pub use zone::Zone;
