//! Secrets as a profile declares them, and what stands in for them. No value of a secret ever comes here.

use super::credential_file::CredentialFile;
use super::exchange::Exchange;
use super::login::{Login, LoginToken};
use super::shape::{Shape, signing_placeholder};
use super::vault::VaultField;
use crate::model::{Host, HostName, Placeholder, Port, RequestLine, Scheme};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A secret that a session may use, where its value is looked for, and the places it may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name, unique in the profile.
    pub name: String,
    /// Where its value is looked for; the first that has one counts.
    pub from: Vec<SecretSource>,
    /// Where the certificate is looked for that belongs to a client's key, unless it stands with the key.
    pub certificate: Vec<SecretSource>,
    /// The only places it is sent to, at least one.
    pub sites: Vec<Site>,
    /// Who puts it there.
    pub mode: Mode,
    /// For how long a value that was read is used before it is read anew; none for the whole session.
    pub refresh: Option<Duration>,
    /// The environment variables that hold the placeholder in the sandbox.
    pub placeholder_env: Vec<String>,
    /// The files of the sandbox's own home that hold it.
    pub placeholder_files: Vec<PlaceholderFile>,
    /// What the placeholder looks like.
    pub shape: Shape,
    /// The login that it is a token of.
    pub login: Option<LoginToken>,
    /// When a person must say yes before it is used.
    pub approval: Approval,
    /// What it is exchanged for, where it is a key that goes into no request itself.
    pub exchange: Option<Exchange>,
}

/// When a person must say yes before a secret is used; the strictest last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Approval {
    /// Never: the rules say where it may go.
    #[default]
    Never,
    /// Before its first use in a session.
    Session,
    /// Before its first use at each host.
    Host,
    /// Before each use.
    Use,
}

impl Approval {
    /// Each by the word it is written as.
    pub(super) const ALL: [(&'static str, Self); 3] =
        [("session", Self::Session), ("host", Self::Host), ("use", Self::Use)];
}

/// A file in which a program looks for a secret, with the placeholder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceholderFile {
    /// Its path, as `~/…`.
    pub path: String,
    /// What it holds, with [`PLACEHOLDER_WORD`] where the placeholder stands.
    pub text: String,
}

/// The host below which all of Google's interfaces are.
const GOOGLE_INTERFACES: &str = "googleapis.com";
/// For how long the token of a login is used before it is read anew.
pub(super) const LOGIN_REFRESH: Duration = Duration::from_secs(60);
/// What stands for the placeholder in the text of a file.
pub const PLACEHOLDER_WORD: &str = "PLACEHOLDER";
/// What stands there for a user and the placeholder in base64, as in basic credentials: the user and `)` follow.
const BASIC_WORD: &str = "PLACEHOLDER_BASIC(";
/// What stands there for the secret that belongs to a placeholder for a key's id.
const SIGNING_WORD: &str = "PLACEHOLDER_SECRET";
/// How the names of variables for such secrets end.
const SIGNING_VARIABLE: &str = "SECRET_ACCESS_KEY";

impl PlaceholderFile {
    /// What the file holds in a session.
    #[must_use]
    pub fn contents(&self, placeholder: &Placeholder) -> String {
        let mut parts = self.text.split(BASIC_WORD);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (user, rest) = part.split_once(')').unwrap_or(("", part));
            text.push_str(&BASE64_STANDARD.encode(format!("{user}:{}", placeholder.as_str())));
            text.push_str(rest);
        }
        let text = text.replace(SIGNING_WORD, &signing_placeholder(placeholder));
        text.replace(PLACEHOLDER_WORD, placeholder.as_str())
    }
}

/// One place of requests to one https host, and what is below one path of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The only host, over TLS.
    pub host: HostName,
    /// The only port.
    pub port: Port,
    /// The path that requests are for, or for something below; `/` for all.
    pub path: String,
    /// Where in a request it goes.
    pub place: Place,
}

impl Site {
    /// Whether a request goes to this site, whatever it carries where.
    #[must_use]
    pub fn takes(&self, line: &RequestLine) -> bool {
        let host = matches!(&line.host, Host::Name(name) if *name == self.host || (self.is_wide() && name.is_below(&self.host)));
        line.scheme == Scheme::Https && host && line.port == self.port && self.covers(&line.path)
    }

    /// Whether hosts below its own are meant too: a signature is for one host, and of use to no other. Each of Google's interfaces has
    /// a host below one that has none, and their tokens are for all of them.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.place == Place::Aws || self.host.as_str() == GOOGLE_INTERFACES
    }

    /// Whether a path is the site's own, or below it.
    fn covers(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.path.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path, place } = self;
        let path = if path == "/" { "" } else { path };
        write!(f, "{place} of requests to https://{host}:{port}{path}")
    }
}

/// Who puts a secret into its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The harness puts a placeholder there, which the proxy swaps.
    #[default]
    Placeholder,
    /// The proxy does, in every request to the site, over what stands there; the sandbox holds nothing.
    Inject,
}

/// The variables in which AWS's programs look for a key: its id, its secret, and a session's token.
pub const AWS_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// The file in which they do.
pub const AWS_FILE: &str = "~/.aws/credentials";

/// Where the value of a secret is looked for, outside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of omni.
    Env(String),
    /// A file, as written (`~/` not yet expanded).
    File(String),
    /// A string in a file of JSON, as written, and where in it, as a pointer (RFC 6901).
    JsonFile(String, String),
    /// What a command prints.
    Command(String),
    /// omni's own store, by the name it was put in under.
    Store(String),
    /// A field of a secret in HashiCorp Vault.
    Vault(Box<VaultField>),
    /// A key of AWS's where its programs look for one: their variables, or this profile of their file.
    Aws(Option<String>),
    /// One credential of a file of several, by its key there; all of them where it is not known yet which there are.
    Credential(&'static CredentialFile, Option<String>),
}

impl SecretSource {
    /// A file, or with `#/…` behind its path a string in one of JSON.
    pub(super) fn of_file(written: &str) -> Self {
        match written.split_once("#/") {
            Some((path, pointer)) => Self::JsonFile(path.to_owned(), format!("/{pointer}")),
            None => Self::File(written.to_owned()),
        }
    }

    /// The file that the value is in, as written.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::File(path) | Self::JsonFile(path, _) => Some(path),
            Self::Aws(_) => Some(AWS_FILE),
            Self::Credential(file, _) => Some(file.path),
            Self::Env(_) | Self::Command(_) | Self::Store(_) | Self::Vault(_) => None,
        }
    }

    /// The variables that the value is in.
    pub(super) fn variables(&self) -> Vec<&str> {
        match self {
            Self::Env(name) => vec![name],
            Self::Aws(_) => AWS_VARIABLES.to_vec(),
            Self::Vault(field) => field.variables(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::JsonFile(path, pointer) => write!(f, "file:{path}#{pointer}"),
            Self::Command(command) => write!(f, "command:{command}"),
            Self::Store(name) => write!(f, "store:{name}"),
            Self::Vault(field) => write!(f, "vault:{}#{}", field.path, field.field),
            Self::Aws(None) => f.write_str("aws"),
            Self::Aws(Some(profile)) => write!(f, "aws:{profile}"),
            Self::Credential(file, None) => write!(f, "file:{}", file.path),
            Self::Credential(file, Some(key)) => write!(f, "file:{} ({key})", file.path),
        }
    }
}

/// What stands for every place of a WebSocket's first message.
pub const ANYWHERE: &str = "*";

/// Where in a request a secret goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The whole value of this header, named in lower case; or what follows one word and a space, as in `token …`.
    Header(String),
    /// `Authorization: Bearer …`.
    Bearer,
    /// The password of `Authorization: Basic …`, of this user; of any where there is none.
    BasicPassword(Option<String>),
    /// The user of `Authorization: Basic …`, whatever the password.
    BasicUser,
    /// The value of this parameter of the URL's query.
    Query(String),
    /// The value of this cookie.
    Cookie(String),
    /// The string at this place of a JSON body, as a pointer (RFC 6901).
    Json(String),
    /// `Authorization: AWS4-HMAC-SHA256 …`: the request is signed, at the host or one below it.
    Aws,
    /// The value of this field of a form's body (`application/x-www-form-urlencoded`).
    Form(String),
    /// The string at this place of a WebSocket's first message, as a pointer (RFC 6901); [`ANYWHERE`] for wherever in it.
    FirstMessage(String),
    /// The TLS handshake, as the client's certificate and key.
    ClientCertificate,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header `{name}`"),
            Self::Bearer => write!(f, "the header `authorization`, after `Bearer`,"),
            Self::BasicPassword(None) => write!(f, "the password of basic authorization"),
            Self::BasicPassword(Some(user)) => write!(f, "the password of `{user}` in basic authorization"),
            Self::BasicUser => write!(f, "the user of basic authorization"),
            Self::Query(name) => write!(f, "the parameter `{name}` of the query"),
            Self::Cookie(name) => write!(f, "the cookie `{name}`"),
            Self::Json(pointer) => write!(f, "`{pointer}` in the JSON body"),
            Self::Form(name) => write!(f, "the field `{name}` of a form's body"),
            Self::FirstMessage(pointer) if pointer == ANYWHERE => write!(f, "the first message of a WebSocket"),
            Self::FirstMessage(pointer) => write!(f, "`{pointer}` in the first message of a WebSocket"),
            Self::Aws => write!(f, "the header `authorization` as the key of an AWS signature"),
            Self::ClientCertificate => write!(f, "the client's certificate"),
        }
    }
}

/// One secret's sites, the only ones at which its placeholder is exchanged for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The secret's name.
    pub secret: String,
    /// The only places it is sent to.
    pub sites: Vec<Site>,
    /// Who puts it there.
    pub mode: Mode,
    /// For how long a value that was read is used before it is read anew; none for the whole session.
    pub refresh: Option<Duration>,
    /// What stands there until then.
    pub placeholder: Placeholder,
    /// The login that it is a token of.
    pub login: Option<LoginToken>,
    /// When a person must say yes before it is used.
    pub approval: Approval,
    /// What it is exchanged for, where it is a key that goes into no request itself.
    pub exchange: Option<Exchange>,
}

impl SecretSpec {
    /// Binds a placeholder to this secret's sites.
    #[must_use]
    pub fn binding(&self, placeholder: Placeholder) -> Binding {
        Binding {
            secret: self.name.clone(),
            sites: self.sites.clone(),
            mode: self.mode,
            refresh: self.refresh,
            placeholder,
            login: self.login,
            approval: self.approval,
            exchange: self.exchange.clone(),
        }
    }

    /// Whether its value is a document of several lines (PEM, JSON), which goes into no request as it is.
    #[must_use]
    pub fn is_document(&self) -> bool {
        self.exchange.is_some() || self.sites.iter().any(|site| site.place == Place::ClientCertificate)
    }

    /// Every source that it names.
    pub(super) fn sources(&self) -> impl Iterator<Item = &SecretSource> {
        self.from.iter().chain(&self.certificate)
    }

    /// Every token of a login, where the secret is the first of one; else itself alone.
    #[must_use]
    pub fn parts(self) -> Vec<Self> {
        let Some(LoginToken { login, number: 0 }) = self.login else { return vec![self] };
        let part = |token| Self { approval: self.approval, ..Self::of_login(&self.name, token) };
        let others = LoginToken::all(login).skip(1).map(part);
        let others: Vec<_> = others.collect();
        std::iter::once(self).chain(others).collect()
    }

    /// A token of a login, where the login's secret is called so.
    pub(super) fn of_login(name: &str, token: LoginToken) -> Self {
        let file = token.login.file.to_owned();
        Self {
            name: token.name(name),
            from: vec![SecretSource::JsonFile(file, token.pointer().to_owned())],
            certificate: Vec::new(),
            sites: token.sites(),
            mode: Mode::Placeholder,
            // What renews is what the file has at that moment: the program outside may have been quicker.
            refresh: Some(if token.renews() { Duration::ZERO } else { LOGIN_REFRESH }),
            placeholder_env: Vec::new(),
            placeholder_files: Vec::new(),
            shape: token.shape(),
            login: Some(token),
            approval: Approval::Never,
            exchange: None,
        }
    }

    /// The login whose first token it is.
    #[must_use]
    pub fn begins_login(&self) -> Option<&'static Login> {
        self.login.filter(|token| token.number == 0).map(|token| token.login)
    }

    /// What a variable of the sandbox holds.
    #[must_use]
    pub fn stand_in(&self, variable: &str, placeholder: &Placeholder) -> String {
        match self.shape {
            Shape::AwsKey if variable.ends_with(SIGNING_VARIABLE) => signing_placeholder(placeholder),
            _ => placeholder.0.clone(),
        }
    }

    /// The hosts it may be sent to, for a person.
    #[must_use]
    pub fn hosts(&self) -> String {
        let mut hosts: Vec<&str> = self.sites.iter().map(|site| site.host.as_str()).collect();
        hosts.dedup();
        hosts.join(", ")
    }

    /// Whether it may be sent to this host.
    #[must_use]
    pub fn goes_to(&self, host: &Host) -> bool {
        let goes = |name: &HostName, site: &Site| site.host == *name || (site.is_wide() && name.is_below(&site.host));
        matches!(host, Host::Name(name) if self.sites.iter().any(|site| goes(name, site)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_the_placeholder_in_the_form_that_programs_read() {
        let held = |text: &str| {
            let file = PlaceholderFile { path: "~/x".to_owned(), text: text.to_owned() };
            file.contents(&Placeholder("P".to_owned()))
        };
        assert_eq!(held("a PLACEHOLDER b"), "a P b");
        assert_eq!(held("PLACEHOLDER_BASIC(me) PLACEHOLDER_BASIC(you)."), "bWU6UA== eW91OlA=.");
        let signing = signing_placeholder(&Placeholder("P".to_owned()));
        assert_eq!(held("PLACEHOLDER:PLACEHOLDER_SECRET"), format!("P:{signing}"));
    }

    #[test]
    fn a_site_is_one_host_over_tls_and_what_is_below_its_path() {
        let line = |scheme, host: &str, port, path: &str| RequestLine {
            method: "GET".to_owned(),
            scheme,
            host: Host::parse(host).unwrap(),
            port: Port(port),
            path: path.to_owned(),
        };
        let site = |path: &str| Site {
            host: HostName::parse("a.example").unwrap(),
            port: Port(443),
            path: path.to_owned(),
            place: Place::Bearer,
        };
        let takes = |path: &str, asked: &str| site(path).takes(&line(Scheme::Https, "a.example", 443, asked));
        assert!(takes("/", "/") && takes("/", "/v1/x") && takes("/v1", "/v1") && takes("/v1", "/v1/x"));
        assert!(takes("/v1/", "/v1/x") && !takes("/v1/", "/v1") && !takes("/v1", "/v10") && !takes("/v1", "/"));
        assert!(!site("/").takes(&line(Scheme::Http, "a.example", 443, "/")));
        assert!(!site("/").takes(&line(Scheme::Https, "a.example", 8443, "/")));
        assert!(!site("/").takes(&line(Scheme::Https, "b.a.example", 443, "/")));
        assert!(!site("/").takes(&line(Scheme::Https, "192.0.2.1", 443, "/")));
    }
}
