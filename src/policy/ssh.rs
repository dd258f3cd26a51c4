//! Logging in with SSH by the user's own agent: to which hosts, and by which keys.

use super::document::{Fields, Node, list, text};
use super::error::{Complaint, hint_of};
use super::rule::{Effect, WrittenRule};
use super::secret::Approval;
use crate::model::{HostName, Port};
use std::fmt;

/// The port of SSH.
const PORT: Port = Port(22);

/// What a session may have the user's agent sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAccess {
    /// Logins to these hosts alone.
    pub hosts: Vec<SshHost>,
    /// By these keys: fingerprints (`SHA256:…`), or files of public keys as written; by all that the agent has where there are
    /// none.
    pub keys: Vec<String>,
    /// When a person must say yes before.
    pub approval: Approval,
}

/// A host to log in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    /// Its name.
    pub name: HostName,
    /// Its port.
    pub port: Port,
}

impl SshHost {
    /// Reads `HOST` or `HOST:PORT`.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn parse(written: &str) -> Result<Self, String> {
        let (name, port) = match written.split_once(':') {
            Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0).map(Port)),
            None => (written, Some(PORT)),
        };
        let name = HostName::parse(name).map_err(|error| error.to_string())?;
        let port = port.ok_or_else(|| format!("`{written}` has no port from 1 to 65535"))?;
        Ok(Self { name, port })
    }
}

impl fmt::Display for SshHost {
    /// As files of known hosts have it (sshd(8)).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            PORT => write!(f, "{}", self.name),
            port => write!(f, "[{}]:{port}", self.name),
        }
    }
}

impl SshAccess {
    /// Logins to one more host.
    #[must_use]
    pub fn with(access: Option<Self>, host: SshHost) -> Self {
        let mut access = access.unwrap_or(Self { hosts: Vec::new(), keys: Vec::new(), approval: Approval::Never });
        if !access.hosts.contains(&host) {
            access.hosts.push(host);
        }
        access
    }

    /// The rules without which it would be of no use.
    #[must_use]
    pub fn rules(&self) -> Vec<WrittenRule> {
        let rule = |host: &SshHost| WrittenRule::alone(Effect::Allow, &format!("tcp://{}:{}", host.name, host.port));
        self.hosts.iter().map(rule).collect()
    }

    /// Reads `ssh: { hosts, keys, approve }`.
    pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Option<Self> {
        let whole = node.clone();
        let mut fields = Fields::of(node, "`ssh`", complaints);
        let (hosts, keys, approval) = (fields.take("hosts"), fields.take("keys"), fields.take("approve"));
        fields.finish(complaints);
        let hosts = hosts.map(|node| list(node, "`hosts`", true, complaints)).unwrap_or_default();
        if hosts.is_empty() {
            complaints.push(whole.complaint("`ssh` names no host", "write `ssh: { hosts: [git.example.com] }`"));
        }
        let hosts = hosts.into_iter().filter_map(|node| {
            let written = text(node.clone(), "a host", complaints)?;
            SshHost::parse(&written)
                .map_err(|error| {
                    complaints.push(node.complaint(error, "write it like `git.example.com` or `HOST:PORT`"))
                })
                .ok()
        });
        let hosts = hosts.collect();
        let keys = keys.map(|node| list(node, "`keys`", true, complaints)).unwrap_or_default();
        let keys = keys.into_iter().filter_map(|node| {
            let written = text(node.clone(), "a key", complaints)?;
            let sound = written.starts_with("SHA256:") || (written.ends_with(".pub") && written.starts_with(['/', '~']));
            if !sound {
                let hint = "write its fingerprint (`ssh-add -l`), or the file of its public half, such as ~/.ssh/id_ed25519.pub";
                complaints.push(node.complaint(format!("`{written}` names no key"), hint));
            }
            sound.then_some(written)
        });
        let keys = keys.collect();
        let approval = approval.map(|node| Approval::read(node, complaints)).unwrap_or_default();
        Some(Self { hosts, keys, approval })
    }
}

impl Approval {
    /// Reads when a person is asked.
    pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Self {
        let written = text(node.clone(), "`approve`", complaints).unwrap_or_default();
        let found = Self::ALL.into_iter().find(|(known, _)| *known == written);
        if found.is_none() {
            let known = Self::ALL.map(|(known, _)| known);
            complaints
                .push(node.complaint(format!("`{written}` is not when a person is asked"), hint_of(&written, &known)));
        }
        found.map(|(_, approval)| approval).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_as_files_of_known_hosts_name_it() {
        let shown = |written: &str| SshHost::parse(written).map(|host| host.to_string());
        assert_eq!(shown("git.example"), Ok("git.example".to_owned()));
        assert_eq!(shown("git.example:22"), Ok("git.example".to_owned()));
        assert_eq!(shown("git.example:2222"), Ok("[git.example]:2222".to_owned()));
        assert!(shown("git.example:0").is_err() && shown("git.example:x").is_err() && shown("a b").is_err());
        let access = SshAccess::with(None, SshHost::parse("git.example").unwrap());
        assert_eq!(access.rules()[0].text, "tcp://git.example:22");
    }
}
