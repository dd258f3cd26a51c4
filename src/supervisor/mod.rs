//! The sandbox: a [`Plan`] says what to build, one interpreter builds it, and pid 1 minds the harness.
//!
//! No async runtime and no threads: namespaces, ids and capabilities belong to a thread, and a fork takes only one
//! along. It deliberately does not know what a session, a request or a secret is.

mod apply;
mod bundle;
mod capture;
mod error;
mod gate;
mod host;
mod init;
mod late_cover;
mod limits;
mod lockdown;
mod network;
mod overlay;
mod place_locks;
mod plan;
mod port_dialer;
mod private_place;
mod probe;
mod reach;
mod rest;
mod root;
mod spawn;
mod sweep;
mod terminal;
mod trees;
mod warden;
pub mod wire;

pub use bundle::write_bundle;
pub use error::{PlanError, SupervisorError};
pub use host::{FileId, HostFacts, PathFacts, SYSTEM_PATHS};
pub use late_cover::{LateCover, WayIn, is_exposed};
pub use limits::{Group, GroupPlan, LimitError, LimitPlan, PIDS_DEFAULT, Share, make_room_for_shares, plan_limits};
pub use lockdown::{LANDLOCK_COMPLETE, confine_proxy, landlock_abi};
pub use network::{GATEWAY_V4, GATEWAY_V6};
pub use place_locks::PlaceLocks;
pub use plan::enclosed::{PrivatePlace, plan_enclosed};
pub use plan::{
    Access, CA_BUNDLE, CA_CERTIFICATE, CA_KEY_STORE, Contents, Identity, LockdownStep, Mount, NAMESPACES,
    OVERLAY_UPPER, OVERLAY_WORK, Plan, PlanRequest, SecretFile, Step, TerminalStreams, WriteGate, granted_paths,
    pinned_paths, plan, repositories_above,
};
pub use port_dialer::PortDialer;
pub use probe::{Feature, Outcome, probe_all, probe_tier, reached};
pub use reach::{Presence, Reach, reach};
pub use rest::{Rest, lie_down};
pub use spawn::{Building, Listeners, Sandbox, Standing, reap, spawn};
pub use wire::{Notice, Order};
