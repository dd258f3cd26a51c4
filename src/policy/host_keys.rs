//! Keys by which SSH servers are known, as a profile pins them: lines of `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"),
//! as `ssh-keyscan` prints them.

use super::document::{Node, list, text};
use super::error::Complaint;
use crate::model::{Host, Port};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The port that a line means which names none.
const SSH_PORT: Port = Port(22);
/// How a line is written, for hints.
const SHAPE: &str = "write a line of `ssh-keyscan HOST`, like `git.example.com ssh-ed25519 AAAA…`";

/// The pinned keys of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostKeys(Vec<HostKey>);

/// One key of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostKey {
    host: Host,
    port: Port,
    /// The key as SSH carries it (RFC 4253, section 6.6).
    key: Vec<u8>,
    /// The line, for the file inside.
    line: String,
}

impl HostKeys {
    /// The keys of which a server at this place must show one; none where nothing is pinned for it.
    #[must_use]
    pub fn of(&self, host: &Host, port: Port) -> Vec<&[u8]> {
        let own = self.0.iter().filter(|key| key.host == *host && key.port == port);
        own.map(|key| key.key.as_slice()).collect()
    }

    /// All of them as a file that OpenSSH reads; none where there are none.
    #[must_use]
    pub fn known_hosts(&self) -> Option<String> {
        let text: String = self.0.iter().map(|key| format!("{}\n", key.line)).collect();
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Self {
        let lines = list(node, "`host_keys`", true, complaints);
        let keys = lines.into_iter().filter_map(|node| {
            let written = text(node.clone(), "a host's key", complaints)?;
            match host_key(&written) {
                Ok(keys) => Some(keys),
                Err(message) => {
                    complaints.push(node.complaint(message, SHAPE));
                    None
                }
            }
        });
        Self(keys.flatten().collect())
    }
}

/// The keys that a line pins: one for each of its hosts.
fn host_key(line: &str) -> Result<Vec<HostKey>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [hosts, kind, encoded, ..] = words.as_slice() else {
        return Err("a host's key is a host, a kind and the key in base64".to_owned());
    };
    if hosts.starts_with('@') {
        return Err(format!("`{hosts}` marks authorities and revoked keys, which are not enforced"));
    }
    let key = STANDARD.decode(encoded).map_err(|_| "the key is not in base64".to_owned())?;
    if kind_of(&key) != Some(kind.as_bytes()) {
        return Err(format!("the key is not one of the kind `{kind}`"));
    }
    let place = |written: &str| {
        let (host, port) = match written.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((host, port)) => (host, port.parse().ok().map(Port)),
            None => (written, Some(SSH_PORT)),
        };
        let plain = !written.starts_with('|') && !written.contains(['*', '?', '!']);
        let host = Host::parse(host).ok().filter(|_| plain);
        let (host, port) = host.zip(port).ok_or_else(|| format!("`{written}` is no plain host"))?;
        // As OpenSSH looks it up: in lower case, with brackets where the port is not its own.
        let name = if port == SSH_PORT { host.to_string() } else { format!("[{host}]:{port}") };
        Ok(HostKey { line: format!("{name} {kind} {encoded}"), host, port, key: key.clone() })
    };
    hosts.split(',').map(place).collect()
}

/// The kind that a key says it is of: its first string.
fn kind_of(key: &[u8]) -> Option<&[u8]> {
    let (length, rest) = key.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::profile::Profile;
    use super::*;

    /// A key of nobody's, of the kind ssh-ed25519.
    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn read(line: &str) -> Result<HostKeys, String> {
        let text = format!("name: x\nhost_keys:\n  - '{line}'\n");
        Profile::parse("p.yaml", &text).map(|profile| profile.host_keys).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_line_of_ssh_keyscan_pins_its_hosts() {
        let keys = read(&format!("Git.Example.com,192.0.2.7 ssh-ed25519 {KEY} a comment")).unwrap();
        let at = |host: &str, port| keys.of(&Host::parse(host).unwrap(), Port(port)).len();
        assert_eq!((at("git.example.com", 22), at("192.0.2.7", 22), at("git.example.com", 2222)), (1, 1, 0));
        let file = keys.known_hosts().unwrap();
        assert_eq!(file, format!("git.example.com ssh-ed25519 {KEY}\n192.0.2.7 ssh-ed25519 {KEY}\n"));
        let other = read(&format!("[git.example.com]:2222 ssh-ed25519 {KEY}")).unwrap();
        assert_eq!(other.known_hosts().unwrap(), format!("[git.example.com]:2222 ssh-ed25519 {KEY}\n"));
        assert_eq!(HostKeys::default().known_hosts(), None);
    }

    #[test]
    fn what_pins_no_one_key_is_refused() {
        for (line, why) in [
            (format!("git.example.com {KEY}"), "a host, a kind and the key"),
            (format!("git.example.com ssh-rsa {KEY}"), "not one of the kind `ssh-rsa`"),
            ("git.example.com ssh-ed25519 AAAA!".to_owned(), "not in base64"),
            (format!("@cert-authority git.example.com ssh-ed25519 {KEY}"), "not enforced"),
            (format!("|1|abc=|def= ssh-ed25519 {KEY}"), "no plain host"),
            (format!("*.example.com ssh-ed25519 {KEY}"), "no plain host"),
        ] {
            let told = read(&line).unwrap_err();
            assert!(told.contains(why), "{line}: {told}");
        }
    }
}
