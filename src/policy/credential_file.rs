//! Files in which programs keep credentials for hosts: each credential in one is a secret of its own, for its own host, and a
//! look-alike of the file holds a placeholder for each.
//!
//! A look-alike is written anew from what is understood of the file. Nothing else of it is taken over: what is not understood
//! could be secret.

mod cargo;
mod docker;
mod gh;
mod git;
mod kubeconfig;
mod netrc;
mod npmrc;
mod pypirc;

use super::secret::{LOGIN_REFRESH, Mode, Place, SecretSource, SecretSpec, Site};
use super::shape::Shape;
use super::{Approval, Preset};
use crate::model::{HostName, Placeholder, Port};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Most credentials of one file that are used.
const CREDENTIALS_MAX: usize = 64;

/// What is known of one kind of such files.
#[derive(Debug)]
pub struct CredentialFile {
    /// The preset's name.
    pub name: &'static str,
    /// Where it is, as `~/…`.
    pub path: &'static str,
    /// Another file of the user's own, by which it is known to which hosts the credentials belong.
    pub beside: Option<&'static str>,
    /// Whether lines of other secrets may follow in it.
    pub is_lines: bool,
    read: fn(&Texts<'_>, &mut Contents) -> Option<()>,
}

/// The texts of a file and of what is beside it.
#[derive(Debug)]
pub struct Texts<'a> {
    /// The file's own.
    pub file: &'a str,
    /// Of the other, empty where there is none.
    pub beside: &'a str,
}

static FILES: &[CredentialFile] = &[
    CredentialFile { name: "netrc", path: "~/.netrc", beside: None, is_lines: true, read: netrc::read },
    CredentialFile {
        name: "git-credentials",
        path: "~/.git-credentials",
        beside: None,
        is_lines: true,
        read: git::read,
    },
    CredentialFile { name: "npmrc", path: "~/.npmrc", beside: None, is_lines: true, read: npmrc::read },
    CredentialFile { name: "pypirc", path: "~/.pypirc", beside: None, is_lines: false, read: pypirc::read },
    CredentialFile {
        name: "cargo-login",
        path: "~/.cargo/credentials.toml",
        beside: Some("~/.cargo/config.toml"),
        is_lines: false,
        read: cargo::read,
    },
    CredentialFile {
        name: "docker-login",
        path: "~/.docker/config.json",
        beside: None,
        is_lines: false,
        read: docker::read,
    },
    CredentialFile { name: "gh-login", path: "~/.config/gh/hosts.yml", beside: None, is_lines: false, read: gh::read },
    CredentialFile {
        name: "kubeconfig",
        path: "~/.kube/config",
        beside: None,
        is_lines: false,
        read: kubeconfig::read,
    },
];

impl PartialEq for CredentialFile {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for CredentialFile {}

impl CredentialFile {
    /// Every one that is known.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FILES.iter()
    }

    /// The one that a preset of this name is.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FILES.iter().find(|file| file.name == name)
    }

    /// Whether lines may follow what a look-alike at this path holds.
    #[must_use]
    pub fn takes_lines(path: &str) -> bool {
        FILES.iter().any(|file| file.path == path && file.is_lines)
    }

    /// What is in such a file, with what stands for it inside; none where it is not one.
    #[must_use]
    pub fn contents(&self, texts: &Texts<'_>) -> Option<Contents> {
        let mut contents = Contents::default();
        (self.read)(texts, &mut contents)?;
        Some(contents)
    }

    /// The secret that is the whole file, under some name, until it is known what is in it.
    pub(super) fn secret(&'static self, name: &str) -> SecretSpec {
        self.spec(name.to_owned(), None, Vec::new(), Shape::Opaque, Approval::Never)
    }

    /// The secrets that are in it, where the whole is called so.
    #[must_use]
    pub fn secrets(&'static self, whole: &SecretSpec, outline: &Outline) -> Vec<SecretSpec> {
        let one = |credential: &Credential| {
            let Credential { key, sites, shape } = credential;
            let name = format!("{}-{}", whole.name, key.replace('.', "-"));
            self.spec(name, Some(key.clone()), sites.clone(), *shape, whole.approval)
        };
        outline.credentials.iter().map(one).collect()
    }

    fn spec(
        &'static self,
        name: String,
        key: Option<String>,
        sites: Vec<Site>,
        shape: Shape,
        approval: Approval,
    ) -> SecretSpec {
        let presents = sites.iter().any(|site| site.place == Place::ClientCertificate);
        let mode = if presents { Mode::Inject } else { Mode::Placeholder };
        SecretSpec {
            name,
            from: vec![SecretSource::Credential(self, key)],
            certificate: Vec::new(),
            sites,
            mode,
            refresh: Some(LOGIN_REFRESH),
            placeholder_env: Vec::new(),
            placeholder_files: Vec::new(),
            shape,
            login: None,
            approval,
            exchange: None,
        }
    }
}

impl Preset {
    /// The file of credentials that it is.
    #[must_use]
    pub fn credential_file(&self) -> Option<&'static CredentialFile> {
        CredentialFile::named(self.name)
    }
}

/// One credential of a file, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Which it is, among those of its file.
    pub key: String,
    /// Where it goes.
    pub sites: Vec<Site>,
    /// What its placeholder looks like.
    pub shape: Shape,
}

/// What is known of a file without any value in it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// What is in it.
    pub credentials: Vec<Credential>,
    /// What of it cannot be used, and why, for a person.
    pub left_out: Vec<String>,
    look_alike: Vec<Piece>,
}

/// A piece of a look-alike.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    Text(String),
    /// The placeholder of the credential at this place among the file's.
    Placeholder(usize),
    /// That user and the placeholder in base64, as in basic credentials.
    Basic(usize, String),
    /// A certificate of nobody's in base64, and its key.
    Certificate,
    Key,
}

/// What stands for a client's certificate and its key where a program insists on some: of no worth, and shown to the proxy alone.
#[derive(Debug, Default)]
pub struct Nobody {
    /// The certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: String,
}

impl Outline {
    /// Whether a certificate of nobody's stands in what stands for it.
    #[must_use]
    pub fn shows_a_certificate(&self) -> bool {
        self.look_alike.contains(&Piece::Certificate)
    }

    /// What stands for the file, where these stand for its credentials, in their order.
    #[must_use]
    pub fn look_alike(&self, placeholders: &[&Placeholder], nobody: &Nobody) -> String {
        let held = |number: &usize| placeholders.get(*number).map_or("", |placeholder| placeholder.as_str());
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Placeholder(number) => held(number).to_owned(),
            Piece::Certificate => BASE64_STANDARD.encode(&nobody.certificate),
            Piece::Key => BASE64_STANDARD.encode(&nobody.key),
            Piece::Basic(number, user) => BASE64_STANDARD.encode(format!("{user}:{}", held(number))),
        };
        self.look_alike.iter().map(piece).collect()
    }
}

/// What is in a file, with the values.
#[derive(Debug, Default)]
pub struct Contents {
    /// All but the values.
    pub outline: Outline,
    values: Vec<Zeroizing<String>>,
}

impl Contents {
    /// The value of one credential.
    #[must_use]
    pub fn value(mut self, key: &str) -> Option<Zeroizing<String>> {
        let place = self.outline.credentials.iter().position(|credential| credential.key == key)?;
        Some(self.values.swap_remove(place))
    }

    /// Takes a credential, and gives its place among those of the file.
    fn take(&mut self, name: &str, sites: Vec<Site>, value: &str) -> Option<usize> {
        let taken = &mut self.outline.credentials;
        if value.is_empty() || sites.is_empty() {
            self.leave_out(name, "there is nothing to send, or no https host by its name to send it to");
            return None;
        }
        if taken.len() >= CREDENTIALS_MAX {
            self.leave_out(name, "there are too many");
            return None;
        }
        let is_taken = |key: &str| taken.iter().any(|other| other.key == key);
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let again = (2..).map(|number| format!("{plain}-{number}"));
        let key = std::iter::once(plain.clone()).chain(again).find(|key| !is_taken(key))?;
        let shape = sites.first().map_or(Shape::Opaque, |site| Shape::of_host(site.host.as_str()));
        taken.push(Credential { key, sites, shape });
        self.values.push(Zeroizing::new(value.to_owned()));
        Some(self.values.len() - 1)
    }

    fn shape(&mut self, number: usize, shape: Shape) {
        self.outline.credentials[number].shape = shape;
    }

    fn leave_out(&mut self, what: &str, why: &str) {
        if self.outline.left_out.len() < CREDENTIALS_MAX {
            self.outline.left_out.push(format!("{what}: {why}"));
        }
    }

    fn say(&mut self, text: impl Into<String>) {
        self.outline.look_alike.push(Piece::Text(text.into()));
    }

    fn stand_in(&mut self, number: usize) {
        self.outline.look_alike.push(Piece::Placeholder(number));
    }

    fn stand_in_certificate(&mut self) {
        self.outline.look_alike.push(Piece::Certificate);
    }

    fn stand_in_key(&mut self) {
        self.outline.look_alike.push(Piece::Key);
    }

    fn stand_in_basic(&mut self, number: usize, user: &str) {
        self.outline.look_alike.push(Piece::Basic(number, user.to_owned()));
    }
}

/// Where an https URL leads: host, port and path. None with anything else in it, such as a user or a query.
fn https(url: &str) -> Option<(HostName, Port, String)> {
    authority(url.strip_prefix("https://")?)
}

/// The same, of what stands behind the scheme.
fn authority(rest: &str) -> Option<(HostName, Port, String)> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 443),
    };
    let path = if path.is_empty() { "/" } else { path };
    let plain = !path.contains(['?', '#', '%', '*', ' ']) && !path.contains("//");
    let plain = plain && !path.split('/').any(|part| matches!(part, "." | ".."));
    Some((HostName::parse(host).ok()?, Port(port), path.to_owned())).filter(|_| plain)
}

/// The site of what an https URL leads to.
fn site(url: &str, place: Place) -> Option<Site> {
    let (host, port, path) = https(url)?;
    Some(Site { host, port, path, place })
}

/// A whole host.
fn host_site(host: &str, place: Place) -> Option<Site> {
    let (host, port, _) = authority(host)?;
    Some(Site { host, port, path: "/".to_owned(), place })
}

/// A user and a password, as basic credentials have them (RFC 7617).
fn basic(encoded: &str) -> Option<(String, Zeroizing<String>)> {
    let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim()).ok()?);
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    // Docker keeps zeros behind it.
    Some((user.to_owned(), Zeroizing::new(password.trim_end_matches('\0').to_owned())))
}

/// Whether a text can stand in a line of its own, between spaces.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '#' | '\\' | ';'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
