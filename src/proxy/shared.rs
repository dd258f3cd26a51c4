//! What every connection of a session shares.

use super::inject::Vault;
use super::names::Names;
use super::quiet::Quiet;
use super::ruling::Ruling;
use super::settle::Books;
use super::throttle::Throttle;
use super::upstream::Upstream;
use super::{Authority, Gateway};
use crate::model::{Event, RefusalKind};
use crate::policy::HostKeys;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, watch};

/// The state of the proxy.
pub(super) struct Shared {
    /// What may go.
    pub policy: Ruling,
    /// The keys by which SSH servers are known.
    pub host_keys: HostKeys,
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
    /// Room for rests of answers that are read on for their bills.
    pub rests: Arc<Semaphore>,
    /// Whether anything was asked of it yet.
    pub quiet: Quiet,
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

    /// Does something that need not be finished when the session ends; `None` if it was not.
    pub(super) async fn unless_drained<T>(&self, act: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = act => Some(done),
            () = self.drained() => None,
        }
    }

    /// Waits until the session is ending.
    pub(super) async fn drained(&self) {
        // An error means that whoever ends the session is gone, which is an end as well.
        let _ = self.ending.clone().wait_for(|ending| *ending).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Shared {
    /// A proxy without sockets, which allows nothing, and the sender that ends its session.
    pub(super) fn rehearsal(memory: &crate::store::Memory) -> (Arc<Self>, watch::Sender<bool>) {
        Self::rehearsal_by(memory, crate::policy::Policy::compile(&[]).unwrap(), Vec::new())
    }

    /// The same with a policy, and with places that are dialled instead of others.
    pub(super) fn rehearsal_by(
        memory: &crate::store::Memory,
        policy: crate::policy::Policy,
        connect_to: Vec<super::ConnectTo>,
    ) -> (Arc<Self>, watch::Sender<bool>) {
        use super::record::Clerk;
        let (end, ending) = watch::channel(false);
        let session = crate::model::SessionId::from_entropy([3; 10]);
        let clerk = Arc::new(Clerk::new(Box::new(memory.clone()), None, crate::model::Durability::default()).unwrap());
        let prices = crate::meter::PriceTable::embedded();
        let roots = super::Roots::from_pem(Vec::new(), None).unwrap();
        let proxies = super::UpstreamProxies::default();
        let dialer = super::dial::Dialer::new(super::ResolverConfig::default(), roots, connect_to, proxies);
        let shared = Self {
            policy: Ruling::new(policy),
            host_keys: HostKeys::default(),
            vault: Vault::new(Vec::new()).unwrap(),
            authority: Authority::generate(&session, std::time::SystemTime::now()).unwrap(),
            upstream: Upstream::new(dialer),
            books: Arc::new(Books::ungoverned(clerk, prices, super::line::Line::new().0)),
            names: Mutex::default(),
            gateway: Gateway { v4: [10, 77, 0, 1].into(), v6: "fd77::1".parse().unwrap() },
            throttle: Throttle::new(),
            rests: super::remainder::room(),
            quiet: Quiet::over(Box::leak(Box::default())),
            ending,
        };
        (Arc::new(shared), end)
    }
}
