//! Accepting connections, finding out where each was going, and ending when the session does.

use super::explicit::{self, Permit};
use super::names::{Meaning, Names};
use super::serve::{self, Place};
use super::{Gateway, Shared, lookup};
use crate::model::{Host, Port, RefusalKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at the same time.
pub(super) const CONNECTIONS_MAX: u32 = 4096;
/// How long to wait after the system refused to give a connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The port of name questions.
const DNS_PORT: u16 = 53;

/// Where a connection was going.
#[derive(Debug, PartialEq, Eq)]
enum Arrival {
    /// To a place; a claim to be checked.
    Place(Place),
    /// To the gateway, as to a proxy.
    Explicit,
    /// To a resolver, wherever the program thought there is one.
    Dns,
    /// To an address of ours that stands for nothing.
    Unknown,
}

/// How much is sent at a time to whoever is on this machine: no network lies between that it would have to suit.
const CONGESTION_CONTROL: &str = "reno";

/// Says how accepted connections send, which is handed down to each of them: small writes without waiting for
/// acknowledgements, long ones without being paced. A socket that refuses it still works.
fn tune(listener: &TcpListener) {
    let _ = rustix::net::sockopt::set_tcp_nodelay(listener, true);
    let _ = rustix::net::sockopt::set_tcp_congestion(listener, CONGESTION_CONTROL);
}

/// Accepts connections on one listener, for ever.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener, room: Arc<Semaphore>) {
    let bound = listener.local_addr().ok().map(plain);
    tune(&listener);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if !shared.quiet.begin() {
            return;
        }
        let Ok(local) = stream.local_addr().map(plain) else { continue };
        match room.clone().try_acquire_owned() {
            Ok(permit) => drop(tokio::spawn(welcome(shared.clone(), stream, local, bound, Arc::new(permit)))),
            Err(_) => {
                let reason = format!("the session already has {CONNECTIONS_MAX} connections");
                shared.refuse(RefusalKind::Limit, local.to_string(), reason).await;
            }
        }
    }
}

async fn welcome(shared: Arc<Shared>, stream: TcpStream, local: SocketAddr, bound: Option<SocketAddr>, permit: Permit) {
    match arrival(&shared.names, shared.gateway, local, bound) {
        Arrival::Place(place) => serve::connection(shared, stream, place).await,
        Arrival::Explicit => explicit::connection(shared, stream, local, permit.clone()).await,
        Arrival::Dns => {
            let _ = shared.unless_drained(lookup::serve_tcp(shared.clone(), stream)).await;
        }
        Arrival::Unknown => {
            let reason = "the address was never given to anybody; ask for the name again".to_owned();
            shared.refuse(RefusalKind::Name, local.to_string(), reason).await;
        }
    }
    drop(permit);
}

fn arrival(names: &Mutex<Names>, gateway: Gateway, local: SocketAddr, bound: Option<SocketAddr>) -> Arrival {
    let address = local.ip();
    let port = Port(local.port());
    if is_gateway(gateway, address) || bound == Some(local) {
        return if local.port() == DNS_PORT { Arrival::Dns } else { Arrival::Explicit };
    }
    match names.lock().unwrap_or_else(PoisonError::into_inner).meaning(address) {
        Meaning::Name(name) => Arrival::Place(Place { source: "the name asked of DNS", host: Host::Name(name), port }),
        Meaning::Unknown => Arrival::Unknown,
        Meaning::Literal if local.port() == DNS_PORT => Arrival::Dns,
        Meaning::Literal => Arrival::Place(Place { source: "the address connected to", host: address.into(), port }),
    }
}

/// The address in its plain form: a socket for both families shows IPv4 addresses in IPv6's clothes.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_gateway(gateway: Gateway, address: IpAddr) -> bool {
    address == IpAddr::V4(gateway.v4) || address == IpAddr::V6(gateway.v6)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::HostName;

    fn at(names: &Mutex<Names>, local: &str) -> Arrival {
        let gateway = Gateway { v4: [10, 77, 0, 1].into(), v6: "fd77::1".parse().unwrap() };
        arrival(names, gateway, plain(local.parse().unwrap()), Some("[::]:9000".parse().unwrap()))
    }

    #[test]
    fn the_address_of_a_name_is_a_claim_of_that_name() {
        let names = Mutex::new(Names::default());
        let name = HostName::parse("api.example.com").unwrap();
        let given = names.lock().unwrap().assign(&name).unwrap();
        let place = Place { source: "the name asked of DNS", host: Host::Name(name), port: Port(443) };
        assert_eq!(at(&names, &format!("{}:443", given.v4)), Arrival::Place(place.clone()));
        assert_eq!(at(&names, &format!("[::ffff:{}]:443", given.v4)), Arrival::Place(place.clone()));
        assert_eq!(at(&names, &format!("[{}]:443", given.v6)), Arrival::Place(place));
        assert_eq!(at(&names, "198.18.7.7:443"), Arrival::Unknown);
    }

    #[test]
    fn the_gateway_is_a_proxy_and_a_resolver() {
        let names = Mutex::new(Names::default());
        for (local, expected) in [
            ("10.77.0.1:3128", Arrival::Explicit),
            ("[::ffff:10.77.0.1]:8080", Arrival::Explicit),
            ("[fd77::1]:3128", Arrival::Explicit),
            ("[fd77::1]:53", Arrival::Dns),
            ("8.8.8.8:53", Arrival::Dns),
        ] {
            assert_eq!(at(&names, local), expected, "{local}");
        }
        let literal =
            Place { source: "the address connected to", host: Host::parse("8.8.8.8").unwrap(), port: Port(443) };
        assert_eq!(at(&names, "[::ffff:8.8.8.8]:443"), Arrival::Place(literal));
    }
}
