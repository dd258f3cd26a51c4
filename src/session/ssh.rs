//! What of the user's own SSH a session may use: their agent's keys, at hosts whose keys they know. Nothing secret is read here.

use super::caller::Caller;
use super::error::SessionError;
use crate::policy::{SshAccess, SshHost, expand_home};
use crate::proxy::{SshAgent, ssh_fingerprint};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The files in which the keys of hosts are known (ssh(1)).
const KNOWN_HOSTS: [&str; 3] = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts"];
/// Where they are known inside.
const KNOWN_INSIDE: &str = "~/.ssh/known_hosts";
/// Largest such file that is read.
const KNOWN_BYTES_MAX: u64 = 8 << 20;
/// Largest file of a public key.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// The variable by which programs find the agent.
const VARIABLE: &str = "SSH_AUTH_SOCK";

/// What the session may use, found out before its start.
#[derive(Debug, Clone)]
pub struct SshSide {
    socket: PathBuf,
    hosts: Vec<(String, Vec<u8>)>,
    keys: Vec<String>,
    access: SshAccess,
}

impl SshSide {
    /// Finds out what a profile's access comes to, and writes down for the sandbox which keys its hosts have.
    pub(super) fn find(
        access: Option<&SshAccess>,
        caller: &Caller,
        home: &Path,
        seeds: &mut BTreeMap<String, String>,
    ) -> Result<Option<Self>, SessionError> {
        let Some(access) = access else { return Ok(None) };
        let failed = |why: String| SessionError::Ssh { why };
        if caller.is_another() {
            return Err(failed("the machine's server does not reach your agent: run omni without it".to_owned()));
        }
        let socket = caller.variable(VARIABLE).filter(|socket| !socket.is_empty()).map(PathBuf::from);
        let socket = socket.ok_or_else(|| failed(format!("{VARIABLE} names no agent: start `ssh-agent` outside")))?;
        let known = KNOWN_HOSTS.map(|file| read(&expand_home(file, home), KNOWN_BYTES_MAX)).concat();
        let (mut hosts, mut inside) = (Vec::new(), String::new());
        for host in &access.hosts {
            let keys = keys_of(&known, host);
            if keys.is_empty() {
                let name = &host.name;
                return Err(failed(format!(
                    "no key of {host} is known: log in to {name} once outside, or ssh-keyscan it"
                )));
            }
            for (kind, key, blob) in keys {
                inside.push_str(&format!("{host} {kind} {key}\n"));
                hosts.push((host.name.to_string(), blob));
            }
        }
        seeds.insert(KNOWN_INSIDE.to_owned(), inside);
        let keys = access.keys.iter().map(|key| named_key(key, home).map_err(failed)).collect::<Result<_, _>>()?;
        Ok(Some(Self { socket, hosts, keys, access: access.clone() }))
    }

    /// Connects to the user's agent.
    pub(super) fn connect(&self) -> Result<SshAgent, SessionError> {
        let Self { socket, hosts, keys, access } = self;
        let agent = UnixStream::connect(socket).map_err(|error| SessionError::Ssh {
            why: format!("the agent at {} cannot be reached: {error}", socket.display()),
        })?;
        Ok(SshAgent { agent, hosts: hosts.clone(), keys: keys.clone(), approval: access.approval })
    }
}

/// A text file, or nothing where there is none.
fn read(path: &Path, bytes_max: u64) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(bytes_max).read_to_string(&mut text));
    if read.is_ok() { text + "\n" } else { String::new() }
}

/// The fingerprint of a key that is named by it, or by the file of its public half.
fn named_key(written: &str, home: &Path) -> Result<String, String> {
    if written.starts_with("SHA256:") {
        return Ok(written.to_owned());
    }
    let text = read(&expand_home(written, home), KEY_BYTES_MAX);
    let blob = text.split_ascii_whitespace().nth(1).and_then(|key| BASE64_STANDARD.decode(key).ok());
    blob.map(|blob| ssh_fingerprint(&blob)).ok_or_else(|| format!("{written} holds no public key"))
}

/// The keys of a host, each with its kind and as it is written; without those that are revoked (sshd(8), "SSH_KNOWN_HOSTS FILE
/// FORMAT").
fn keys_of<'a>(known: &'a str, host: &SshHost) -> Vec<(&'a str, &'a str, Vec<u8>)> {
    let name = host.to_string();
    let (mut keys, mut revoked) = (Vec::new(), Vec::new());
    for line in known.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_ascii_whitespace().peekable();
        let marker = words.next_if(|word| word.starts_with('@'));
        let (Some(names), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(blob) = BASE64_STANDARD.decode(key) else { continue };
        match marker {
            Some("@revoked") => revoked.push(blob),
            None if names.split(',').any(|known| is_name(known, &name)) => keys.push((kind, key, blob)),
            // Hosts by an authority are not known by a key of their own.
            _ => {}
        }
    }
    keys.retain(|(_, _, blob)| !revoked.contains(blob));
    keys.dedup();
    keys
}

/// Whether an entry is a host's, by its name or by the hash of it.
fn is_name(known: &str, name: &str) -> bool {
    let Some(hashed) = known.strip_prefix("|1|") else { return known.eq_ignore_ascii_case(name) };
    let decoded = |text: &str| BASE64_STANDARD.decode(text).ok();
    let Some((salt, hash)) = hashed.split_once('|').and_then(|(salt, hash)| decoded(salt).zip(decoded(hash))) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    hmac::verify(&key, name.as_bytes(), &hash).is_ok()
}

/// Why a session cannot use SSH in a weaker tier.
pub(super) fn refuse_enclosed(access: Option<&SshAccess>) -> Result<(), SessionError> {
    match access {
        Some(_) => Err(SessionError::Ssh { why: "the tier `landlock` has no place for an agent's socket".to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_host_are_found_by_its_name_and_its_hash_and_not_those_that_are_revoked() {
        let salt = [7; 20];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hashed = hmac::sign(&key, b"[git.example]:2222");
        let (salt, hash) = (BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(hashed));
        let known = format!(
            "# a comment\nother.example,GIT.example ssh-ed25519 AAAA comment\n|1|{salt}|{hash} ssh-rsa BBBB\n\
            git.example ssh-rsa CCCC\n@revoked * ssh-rsa CCCC\n@cert-authority git.example ssh-rsa DDDD\nbroken\n"
        );
        let found = |host: &str| {
            let keys = keys_of(&known, &SshHost::parse(host).unwrap());
            keys.into_iter().map(|(kind, key, _)| format!("{kind} {key}")).collect::<Vec<_>>()
        };
        assert_eq!(found("git.example"), ["ssh-ed25519 AAAA"]);
        assert_eq!(found("git.example:2222"), ["ssh-rsa BBBB"]);
        assert!(found("none.example").is_empty());
    }

    #[test]
    fn a_key_is_named_by_its_fingerprint_or_its_public_half() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("key.pub"), "ssh-ed25519 AAAA me@here\n").unwrap();
        let expected = ssh_fingerprint(&BASE64_STANDARD.decode("AAAA").unwrap());
        assert_eq!(named_key("~/key.pub", place.path()), Ok(expected.clone()));
        assert_eq!(named_key(&expected, place.path()), Ok(expected));
        assert!(named_key("~/none.pub", place.path()).is_err());
    }
}
