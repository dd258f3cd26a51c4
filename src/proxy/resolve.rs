//! Asking the outside what a name's addresses are, with a configuration that was read while there still was a file
//! system.

use crate::model::{Host, HostName};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig as Servers, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How many entries of the hosts file are kept.
const HOSTS_MAX: usize = 10_000;
/// How long all name servers together may take, whatever the host's configuration gives each of them.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// How the host itself resolves names, read once, and the addresses that are the host's own.
#[derive(Clone, Default)]
pub struct ResolverConfig {
    servers: Option<(Servers, ResolverOpts)>,
    hosts: HashMap<String, Vec<IpAddr>>,
    own: Vec<IpAddr>,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The host has no name servers.
    #[error("this machine has no name servers (/etc/resolv.conf names none)")]
    NoServers,
    /// The servers said no, or nothing.
    #[error("{0}")]
    Lookup(String),
}

impl ResolverConfig {
    /// Reads `/etc/resolv.conf`, `/etc/hosts` and the addresses of the host's interfaces. What cannot be read is left
    /// out: a host without name servers can still reach what `--connect-to` names by address.
    #[must_use]
    pub fn from_system() -> Self {
        let servers = std::fs::read("/etc/resolv.conf").unwrap_or_default();
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
        let own = interfaces.filter_map(|interface| address_of(&interface.address?)).collect();
        Self {
            servers: hickory_resolver::system_conf::parse_resolv_conf(servers).ok(),
            hosts: parse_hosts(&hosts),
            own,
        }
    }

    /// A configuration of a hosts file's text and one name server, if any, asked over UDP.
    #[must_use]
    pub fn from_parts(hosts: &str, server: Option<SocketAddr>) -> Self {
        let servers = server.map(|server| {
            let mut connection = ConnectionConfig::udp();
            connection.port = server.port();
            let server = NameServerConfig::new(server.ip(), true, vec![connection]);
            (Servers::from_parts(None, Vec::new(), vec![server]), ResolverOpts::default())
        });
        Self { servers, hosts: parse_hosts(hosts), own: Vec::new() }
    }

    /// The same, asking once and not waiting long.
    #[cfg(test)]
    pub(super) fn impatient(mut self) -> Self {
        if let Some((_, options)) = &mut self.servers {
            (options.attempts, options.timeout) = (1, Duration::from_millis(300));
        }
        self
    }

    /// Whether an address is one of the host's own, public or not.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address.to_canonical())
    }

    /// A resolver by this configuration. It opens no file.
    pub(super) fn build(&self) -> Resolver {
        let dns = self.servers.clone().and_then(|(servers, mut options)| {
            options.use_hosts_file = ResolveHosts::Never;
            let builder = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
            builder.with_options(options).build().ok()
        });
        Resolver { dns, hosts: self.hosts.clone() }
    }
}

fn address_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// Reads a hosts file (hosts(5)); names are lower case.
fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines().take(HOSTS_MAX) {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words {
            hosts.entry(name.to_ascii_lowercase()).or_default().push(address);
        }
    }
    hosts
}

/// Finds the addresses of names.
pub(super) struct Resolver {
    dns: Option<TokioResolver>,
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl Resolver {
    /// All addresses of a host, as the host's resolver gives them; an address is its own.
    pub(super) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, ResolveError> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => self.lookup(name).await,
        }
    }

    async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(known) = self.hosts.get(name.as_str()) {
            return Ok(known.clone());
        }
        let dns = self.dns.as_ref().ok_or(ResolveError::NoServers)?;
        // The final dot keeps the host's search domains out of it.
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, dns.lookup_ip(format!("{name}."))).await;
        let found = found.unwrap_or(Err(NetError::Timeout));
        found.map(|found| found.iter().collect()).map_err(|error| ResolveError::Lookup(explain(&error)))
    }
}

/// What a lookup's failure means, for a person.
fn explain(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => "there is no such name".to_owned(),
            ResponseCode::NoError => "it has no address".to_owned(),
            code => format!("the name servers failed: {code}"),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name servers failed: {code}"),
        NetError::Timeout => "the name servers did not answer in time".to_owned(),
        other => format!("the name servers failed: {other}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_hosts_file_with_comments_and_aliases() {
        let hosts = parse_hosts(
            "# top\n127.0.0.1 localhost\n192.0.2.7  Build.Example build # ours\nnonsense here\n::1 localhost\n",
        );
        assert_eq!(hosts["build.example"], vec!["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(hosts["build"], hosts["build.example"]);
        assert_eq!(hosts["localhost"].len(), 2);
        assert_eq!(hosts.len(), 3);
    }

    #[tokio::test]
    async fn without_name_servers_addresses_still_work_and_names_say_why_not() {
        let resolver = ResolverConfig::default().build();
        let address = Host::parse("192.0.2.1").unwrap();
        assert_eq!(resolver.addresses(&address).await.unwrap().len(), 1);
        let name = Host::parse("a.example").unwrap();
        assert!(matches!(resolver.addresses(&name).await, Err(ResolveError::NoServers)));
    }

    #[test]
    fn the_hosts_own_addresses_are_known() {
        assert!(ResolverConfig::from_system().is_own("127.0.0.1".parse().unwrap()));
    }
}
