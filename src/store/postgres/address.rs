//! Where a store on PostgreSQL is, as people write it: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`.

use crate::model::percent_decode;
use crate::store::StoreError;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// What every address begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Where PostgreSQL listens when nobody says otherwise.
const PORT: u16 = 5432;
/// Longest address that is read, in bytes.
const BYTES_MAX: usize = 4096;
/// What may stand behind the question mark.
const KEYS: [&str; 3] = ["host", "sslmode", "sslrootcert"];

/// The server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// The directory of its Unix socket.
    Socket(PathBuf),
    /// Its name or address.
    Name(String),
}

/// How the connection is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Not at all: nothing leaves the machine.
    Local,
    /// By TLS, with the server's certificate and name checked against these roots; without a file, those of the system.
    Tls(Option<PathBuf>),
}

/// Where a store on PostgreSQL is. It shows its password to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAddress {
    pub(super) server: Server,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) protection: Protection,
}

impl fmt::Display for StoreAddress {
    /// As it is read, without the password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, database) = (encode(&self.user).replace('/', "%2F"), encode(&self.database));
        let mut options = Vec::new();
        match &self.server {
            Server::Socket(directory) => {
                let port = if self.port == PORT { String::new() } else { format!(":{}", self.port) };
                write!(out, "postgres://{user}@{port}/{database}")?;
                options.push(format!("host={}", encode(&directory.display().to_string())));
            }
            Server::Name(name) if name.contains(':') => {
                write!(out, "postgres://{user}@[{name}]:{}/{database}", self.port)?
            }
            Server::Name(name) => write!(out, "postgres://{user}@{}:{}/{database}", encode(name), self.port)?,
        }
        if let Protection::Tls(roots) = &self.protection {
            options.push("sslmode=verify-full".to_owned());
            options.extend(roots.iter().map(|roots| format!("sslrootcert={}", encode(&roots.display().to_string()))));
        }
        let mark = if options.is_empty() { "" } else { "?" };
        write!(out, "{mark}{}", options.join("&"))
    }
}

/// Percent-encodes what would end a part of an address, or a line.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) || byte >= 0x80;
    let bytes = text.bytes().flat_map(|byte| match plain(byte) {
        true => vec![byte],
        false => format!("%{byte:02X}").into_bytes(),
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl StoreAddress {
    /// Reads an address. Who does not name a user connects as `login`, and who names no database to that of the user's
    /// name, as PostgreSQL's own programs do.
    ///
    /// # Errors
    /// [`StoreError::Address`], above all for what would go over a network unprotected, or might.
    pub fn parse(text: &str, login: &str) -> Result<Self, StoreError> {
        read(text, login).map_err(|why| StoreError::Address { why })
    }

    /// The directory of the server's socket, where it is reached by one: whoever reaches that can try to log in.
    #[must_use]
    pub fn socket_directory(&self) -> Option<&std::path::Path> {
        match &self.server {
            Server::Socket(directory) => Some(directory),
            Server::Name(_) => None,
        }
    }

    /// Whether a password stands in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }
}

fn read(text: &str, login: &str) -> Result<StoreAddress, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("it has more than {BYTES_MAX} bytes"));
    }
    let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = rest.ok_or("it does not begin with postgres://")?;
    if rest.contains('#') {
        return Err("it has a `#`; write %23 for one in a name".to_owned());
    }
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = before.split_once('/').unwrap_or((before, ""));
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (userinfo, None),
    };
    let user = if user.is_empty() { login.to_owned() } else { decode(user)? };
    let database = if database.is_empty() { user.clone() } else { decode(database)? };
    if user.is_empty() || user.contains('\0') || database.contains('\0') {
        return Err("it names no user that could connect".to_owned());
    }
    let (name, port) = split_port(host)?;
    let mut options = Options::read(query)?;
    let named = match options.host.take() {
        Some(_) if !name.is_empty() => return Err("it names two hosts".to_owned()),
        Some(host) => host,
        None => name,
    };
    let server = match named.starts_with('/') {
        true => Server::Socket(PathBuf::from(named)),
        false if named.is_empty() => return Err(no_host()),
        false => Server::Name(named),
    };
    let protection = options.protection(&server)?;
    Ok(StoreAddress { server, port, database, user, password: password.filter(|word| !word.is_empty()), protection })
}

fn no_host() -> String {
    "it names no host; write postgres://HOST/DATABASE, or postgres:///DATABASE?host=/DIRECTORY for a Unix socket"
        .to_owned()
}

/// A host and its port; a host in brackets may have colons, and one that begins with `%2F` is a directory.
fn split_port(host: &str) -> Result<(String, u16), String> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':')),
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if name.contains(',') {
        return Err("it names several hosts; omni writes to one".to_owned());
    }
    let port = match port.filter(|port| !port.is_empty()) {
        None => PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(format!("`{port}` is no port"))?,
    };
    Ok((decode(name)?, port))
}

#[derive(Default)]
struct Options {
    host: Option<String>,
    mode: Option<String>,
    roots: Option<PathBuf>,
}

impl Options {
    fn read(query: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or(format!("`{part}` has no value"))?;
            let value = decode(value)?;
            let before = match key {
                "host" => options.host.replace(value).is_some(),
                "sslmode" => options.mode.replace(value).is_some(),
                "sslrootcert" => options.roots.replace(PathBuf::from(value)).is_some(),
                other => return Err(format!("`{other}` is none of {}", KEYS.join(", "))),
            };
            if before {
                return Err(format!("`{key}` stands twice"));
            }
        }
        Ok(options)
    }

    /// What the mode means here. None that could come to nothing without a word is taken.
    fn protection(self, server: &Server) -> Result<Protection, String> {
        let stays = match server {
            Server::Socket(_) => true,
            Server::Name(name) => is_loopback(name),
        };
        match self.mode.as_deref() {
            Some("require" | "verify-full") if matches!(server, Server::Socket(_)) => {
                Err("a Unix socket has no TLS; leave `sslmode` out".to_owned())
            }
            Some("require" | "verify-full") => Ok(Protection::Tls(self.roots)),
            None if !stays || self.roots.is_some() => Ok(Protection::Tls(self.roots)),
            None | Some("disable") if stays => Ok(Protection::Local),
            Some("disable") => {
                Err("`sslmode=disable` would send records and password over the network as they are; leave \
                                    it out, or reach the server by a Unix socket or on this machine's loopback"
                    .to_owned())
            }
            Some(mode @ ("allow" | "prefer" | "verify-ca")) => Err(format!(
                "`sslmode={mode}` may protect less than it seems to; write verify-full, which is also what holds without it"
            )),
            Some(mode) => Err(format!("`sslmode={mode}` is none of require, verify-full, disable")),
            None => Ok(Protection::Tls(self.roots)),
        }
    }
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let whole = percent_decode(text.as_bytes(), &mut bytes);
    whole.ok_or("a `%` in it is not followed by two hexadecimal digits")?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 once decoded".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<(String, Protection), String> {
        read(text, "ada").map(|address| (address.to_string(), address.protection))
    }

    #[test]
    fn an_address_is_read_and_shown_without_its_password() {
        let address = read("postgres://omni:s%3Acret@db.example/records?sslrootcert=/etc/ca.pem", "ada").unwrap();
        assert_eq!(address.password.as_deref(), Some("s:cret"));
        assert_eq!(address.protection, Protection::Tls(Some("/etc/ca.pem".into())));
        assert_eq!(format!("{address} {address:?}").matches("cret").count(), 0);
        assert_eq!(
            address.to_string(),
            "postgres://omni@db.example:5432/records?sslmode=verify-full&sslrootcert=/etc/ca.pem"
        );
        assert_eq!(read(&address.to_string(), "bob").unwrap(), StoreAddress { password: None, ..address });
        let socket = ("postgres://ada@/omni?host=/run/pg".to_owned(), Protection::Local);
        assert_eq!(shown("postgresql:///omni?host=/run/pg"), Ok(socket.clone()));
        assert_eq!(shown("postgres://%2Frun%2Fpg/omni"), Ok(socket));
        assert_eq!(
            shown("postgres://[::1]:77").unwrap(),
            ("postgres://ada@[::1]:77/ada".to_owned(), Protection::Local)
        );
    }

    #[test]
    fn nothing_goes_over_a_network_unprotected() {
        assert_eq!(shown("postgres://db.example/omni").unwrap().1, Protection::Tls(None));
        assert_eq!(shown("postgres://db.example/omni?sslmode=require").unwrap().1, Protection::Tls(None));
        assert_eq!(shown("postgres://127.0.0.1/omni?sslmode=require").unwrap().1, Protection::Tls(None));
        assert_eq!(shown("postgres://localhost/omni?sslmode=disable").unwrap().1, Protection::Local);
        for (mode, why) in
            [("disable", "over the network"), ("prefer", "less than it seems"), ("verify-ca", "less than")]
        {
            assert!(shown(&format!("postgres://db.example/omni?sslmode={mode}")).unwrap_err().contains(why), "{mode}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, why) in [
            ("mysql://a/b", "begin with"),
            ("postgres:///omni", "no host"),
            ("postgres://a,b/omni", "several hosts"),
            ("postgres://a:x/omni", "no port"),
            ("postgres://a:0/omni", "no port"),
            ("postgres://a/omni?host=b", "two hosts"),
            ("postgres://a/omni?sslmdoe=require", "none of host"),
            ("postgres://a/omni?sslmode=require&sslmode=disable", "twice"),
            ("postgres://a/om%ni", "hexadecimal"),
            ("postgres://a/omni#b", "%23"),
            ("postgres:///omni?host=/run&sslmode=require", "no TLS"),
        ] {
            assert!(read(text, "ada").unwrap_err().contains(why), "{text}");
        }
    }
}
