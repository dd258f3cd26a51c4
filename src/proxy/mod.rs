//! The sandbox's only way out: accepts, detects, terminates TLS, judges, injects, forwards, meters and records.
//!
//! Everything that arrives is a claim until all its names agree; nothing leaves without a grant, and nothing happens
//! without a record of it. The room deliberately does not know how the sandbox's traffic gets to its sockets.

mod address;
mod ahead;
mod amend;
mod approval;
mod authority;
mod body;
mod cause;
mod client_certificate;
mod connect_to;
mod consent;
mod credential;
mod decode;
mod detect;
mod dial;
mod dial_turns;
mod disguise;
mod dns;
mod error;
mod exchange;
mod explicit;
mod facts;
mod frames;
mod funds;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handed;
mod headers;
mod hold;
mod http;
mod in_turn;
mod inject;
mod keep;
mod key_store;
mod lanes;
mod leg;
mod line;
mod listen;
mod lookup;
mod names;
mod opaque;
mod pack;
mod passthrough;
mod patience;
mod planning;
mod pool;
mod published;
mod push;
mod rare;
mod record;
mod refresh;
mod refusal;
mod relay;
mod renewal;
mod resolve;
mod rinse;
mod roots;
mod ruling;
mod screen;
mod scrub;
mod serve;
mod settle;
mod shared;
mod signature;
mod signing;
#[cfg(test)]
mod silence_tests;
mod socks;
mod spot;
mod ssh;
mod ssh_agent;
mod ssh_wire;
mod standing;
mod start;
mod strict;
mod throttle;
mod tls;
mod upstream;
mod upstream_proxy;
mod watch;
mod websocket;
mod writes_through;
mod zstd;

pub use address::refused as not_public;
pub use amend::{Amended, Amendment, PolicySource, Replacement};
pub use authority::Authority;
pub use connect_to::{ConnectTo, ConnectToError};
pub use error::ProxyError;
pub use line::{Answer, Ask, Doubt, FromProxy, FromSession, Inquiry, PACKET_BYTES_MAX};
pub use published::PublishedPorts;
pub use refresh::{RENEWAL, RENEWAL_BYTES_MAX, Renewed};
pub use resolve::ResolverConfig;
pub use roots::Roots;
pub use screen::{Screen, Stop};
pub use scrub::{Scrub, Scrubber};
pub use ssh_agent::SshAgent;
pub use ssh_wire::fingerprint as ssh_fingerprint;
pub use start::{Gateway, Listeners, Proxy, Setup};
pub use upstream_proxy::{UpstreamProxies, UpstreamProxy, UpstreamProxyError};

pub use watch::Watch;

use patience::Patience;
use shared::Shared;
