//! What every connection of a session shares.

use super::inject::Vault;
use super::names::Names;
use super::settle::Books;
use super::throttle::Throttle;
use super::upstream::Upstream;
use super::{Authority, Gateway};
use crate::model::{Event, RefusalKind};
use crate::policy::Policy;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// The state of the proxy.
pub(super) struct Shared {
    /// What may go.
    pub policy: Policy,
    /// The session's secrets.
    pub vault: Vault,
    /// Who signs for the hosts that are claimed.
    pub authority: Authority,
    /// The way out.
    pub upstream: Upstream,
    /// Where facts go, and what calls cost.
    pub books: Arc<Books>,
    /// What the synthetic addresses stand for.
    pub names: Mutex<Names>,
    /// The address of the proxy itself.
    pub gateway: Gateway,
    /// Keeps a program that fails in a loop from filling the disk.
    pub throttle: Throttle,
    /// Whether the session is ending.
    pub ending: watch::Receiver<bool>,
}

impl Shared {
    /// Records that something was refused before there was a request.
    pub(super) async fn refuse(&self, kind: RefusalKind, target: String, reason: String) {
        let Some(unsaid) = self.throttle.admit() else { return };
        let reason = if unsaid > 0 { format!("{reason} (and {unsaid} more refusals like it or not)") } else { reason };
        // What is refused stays refused, recorded or not.
        let _ = self.books.clerk.record(Event::ConnectionRefused { kind, target, reason }).await;
    }

    /// Waits until the session is ending.
    pub(super) async fn drained(&self) {
        // An error means that whoever ends the session is gone, which is an end as well.
        let _ = self.ending.clone().wait_for(|ending| *ending).await;
    }
}
