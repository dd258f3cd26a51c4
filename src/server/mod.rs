//! `omni server --system`: root's own policies, secrets, records and limits for every user of a machine.
//!
//! Users come by a Unix socket, known by what the kernel says of them. The server only lets them in, in a fair order; each
//! session is a process of its own that outlives the server. Whatever a user names is looked for with that user's rights.
//! One thread everywhere: sessions fork.

mod accept;
mod client;
mod descriptors;
mod error;
mod front;
mod machine;
mod message;
mod peer;
mod place;
mod queue;
mod rights;
mod roll;
mod unit;

pub use accept::serve;
pub use client::{Call, call};
pub use error::ServerError;
pub use front::{Side, Visit, receive};
pub use machine::{Machine, route};
pub use message::{Kind, Request, sent_secrets};
pub use peer::Peer;
pub use place::{CONFIGURATION, HOME, SOCKET, Settings};
pub use rights::{with_rights_of, with_rights_of_visitor};
pub use unit::{keep_group, tell_ready};
