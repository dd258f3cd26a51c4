//! What holds a sandbox.

use super::{HeldLimit, Tier};
use serde::{Deserialize, Serialize};

/// What the sandbox reached, feature by feature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Isolation {
    /// The tier as a whole. Records from before there were tiers are of sandboxes in all namespaces.
    #[serde(default)]
    pub tier: Tier,
    /// The namespaces the harness has of its own.
    pub namespaces: Vec<String>,
    /// Landlock's ABI version as enforced; 0 where the kernel has none.
    pub landlock_abi: u32,
    /// Whether the system call filter is loaded.
    pub seccomp: bool,
    /// How network traffic is captured, such as `anyip+tproxy`.
    pub network: String,
    /// What a better kernel or tier would have held and this sandbox does not, each in words for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// What the session may use up, and what holds it to that.
    #[serde(default)]
    pub limits: Vec<HeldLimit>,
}
