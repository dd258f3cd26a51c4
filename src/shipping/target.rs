//! A place to ship to, as a person writes it: a URL.

use super::TargetError;
use crate::export::SplunkPlace;
use crate::model::percent_decode;
use std::path::PathBuf;

/// Longest name of a place.
const NAME_MAX: usize = 100;
/// Ports where none is written.
const SYSLOG_PORT: u16 = 6514;
const SPLUNK_PORT: u16 = 8088;
const OTLP_PORT: u16 = 4318;

/// How an entry is written, where the place takes several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON Lines.
    #[default]
    Jsonl,
    /// OCSF.
    Ocsf,
}

/// What of OpenTelemetry is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signal {
    /// A log record for each entry.
    #[default]
    Logs,
    /// A span for each session and model call.
    Traces,
}

/// Where a token is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A variable of omni's own environment.
    Env(String),
    /// A file, for its owner alone to read.
    File(PathBuf),
    /// omni's own store.
    Store(String),
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub host: String,
    pub port: u16,
    /// None for plain text.
    pub tls: Option<TlsFiles>,
}

/// Files for TLS, beside the system's roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// Roots that are trusted in place of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate and key that omni shows.
    pub own: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File { path: PathBuf, format: Format },
    Syslog { place: Place, format: Format },
    Splunk { place: Place, path: String, token: TokenSource, within: SplunkPlace, format: Format },
    Otlp { place: Place, path: String, token: Option<TokenSource>, signal: Signal },
}

/// A place to ship to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) name: String,
    /// The URL without what follows a `?`.
    pub(super) shown: String,
    pub(super) kind: Kind,
}

impl Target {
    /// Reads a URL: `file:PATH`, `syslog+tls://HOST[:PORT]`, `splunk+https://HOST[:PORT]`, `otlp+https://HOST[:PORT]` (or
    /// `+http`, on this machine), with settings after a `?`.
    ///
    /// # Errors
    /// A [`TargetError`] that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (shown, settings) = text.split_once('?').unwrap_or((text, ""));
        let failed = |why: String| TargetError { text: shown.to_owned(), why };
        let mut settings = Settings::parse(settings).map_err(failed)?;
        let kind = kind(shown, &mut settings).map_err(failed)?;
        let name = settings.take("name").unwrap_or_else(|| default_name(shown, &kind));
        settings.finish().map_err(failed)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.chars().all(plain) {
            return Err(failed(format!(
                "its name `{name}` is not made of letters, digits, `-`, `_` and `.`: write `?name=…`"
            )));
        }
        Ok(Self { name, shown: shown.to_owned(), kind })
    }

    /// Whether its token is in omni's own store.
    #[must_use]
    pub fn wants_store(&self) -> bool {
        let token = match &self.kind {
            Kind::Splunk { token, .. } => Some(token),
            Kind::Otlp { token, .. } => token.as_ref(),
            Kind::File { .. } | Kind::Syslog { .. } => None,
        };
        matches!(token, Some(TokenSource::Store(_)))
    }

    /// What it is called, in messages and among the marks.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A file's name that follows from the place.
fn default_name(shown: &str, kind: &Kind) -> String {
    let signal = match kind {
        Kind::Otlp { signal: Signal::Traces, .. } => "-traces",
        _ => "",
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = shown.chars().map(plain).collect();
    let name = name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    format!("{name}{signal}").chars().take(NAME_MAX).collect()
}

fn kind(shown: &str, settings: &mut Settings) -> Result<Kind, String> {
    const KINDS: &str = "it begins with none of file:, syslog+tls://, splunk+https://, otlp+https://, otlp+http://";
    let (scheme, rest) = shown.split_once(':').ok_or(KINDS)?;
    let format = match settings.take("format").as_deref() {
        None | Some("jsonl") => Format::Jsonl,
        Some("ocsf") => Format::Ocsf,
        Some(other) => return Err(format!("the format `{other}` is neither jsonl nor ocsf")),
    };
    if scheme == "file" {
        let path = PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
        if !path.is_absolute() {
            return Err("the file's path does not begin with `/`".to_owned());
        }
        return Ok(Kind::File { path, format });
    }
    let rest = rest.strip_prefix("//").ok_or("after the first `:` there is no `//`")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err("a password does not belong into it: write `?token=file:PATH`".to_owned());
    }
    let tls = !scheme.ends_with("+http");
    let mut at = |port| place(authority, port, tls, settings);
    match scheme {
        "syslog+tls" if !path.is_empty() => Err("a syslog server has no path".to_owned()),
        "syslog+tls" => Ok(Kind::Syslog { place: at(SYSLOG_PORT)?, format }),
        "splunk+https" => {
            let place = at(SPLUNK_PORT)?;
            let token =
                token(settings)?.ok_or("it says no token: write `?token=file:PATH`, `env:NAME` or `store:NAME`")?;
            let within = SplunkPlace { index: settings.take("index"), sourcetype: settings.take("sourcetype") };
            let path = if path.is_empty() { "/services/collector/event" } else { path };
            Ok(Kind::Splunk { place, path: path.to_owned(), token, within, format })
        }
        "otlp+https" | "otlp+http" => {
            let place = at(OTLP_PORT)?;
            let (signal, end) = match settings.take("signal").as_deref() {
                None | Some("logs") => (Signal::Logs, "/v1/logs"),
                Some("traces") => (Signal::Traces, "/v1/traces"),
                Some(other) => return Err(format!("the signal `{other}` is neither logs nor traces")),
            };
            let path = format!("{}{end}", path.trim_end_matches('/'));
            Ok(Kind::Otlp { place, path, token: token(settings)?, signal })
        }
        _ => Err(KINDS.to_owned()),
    }
}

fn place(authority: &str, port: u16, tls: bool, settings: &mut Settings) -> Result<Place, String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, text)) if !text.contains(']') => (host, text.parse().map_err(|_| format!("`{text}` is no port"))?),
        _ => (authority, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    let own = match (settings.take("cert"), settings.take("key")) {
        (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err("`cert` and `key` go together".to_owned()),
    };
    let files = TlsFiles { ca: settings.take("ca").map(PathBuf::from), own };
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match tls {
        true => Ok(Place { host, port, tls: Some(files) }),
        false if files != TlsFiles::default() => Err("without TLS there is nothing to use certificates for".to_owned()),
        false if !is_here => Err("records do not leave this machine without TLS: write otlp+https".to_owned()),
        false => Ok(Place { host, port, tls: None }),
    }
}

fn token(settings: &mut Settings) -> Result<Option<TokenSource>, String> {
    let Some(text) = settings.take("token") else { return Ok(None) };
    match text.split_once(':') {
        Some(("env", name)) if !name.is_empty() => Ok(Some(TokenSource::Env(name.to_owned()))),
        Some(("file", path)) if path.starts_with('/') => Ok(Some(TokenSource::File(PathBuf::from(path)))),
        Some(("store", name)) if !name.is_empty() => Ok(Some(TokenSource::Store(name.to_owned()))),
        // The text may be the token itself.
        _ => Err("`token` says where the token is: file:/PATH, env:NAME or store:NAME".to_owned()),
    }
}

/// What follows the `?`.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split('&').filter(|part| !part.is_empty());
        let pairs = parts.map(|part| match part.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), decoded(value)?)),
            None => Err(format!("the setting `{part}` has no value")),
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == key)?;
        Some(self.0.remove(at).1)
    }

    fn finish(self) -> Result<(), String> {
        match self.0.first() {
            Some((key, _)) => Err(format!("the setting `{key}` is not known here, or there twice")),
            None => Ok(()),
        }
    }
}

/// What is written with `%` and two digits (RFC 3986, section 2.1).
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    percent_decode(text.as_bytes(), &mut bytes).ok_or_else(|| format!("`{text}` has a `%` without two digits"))?;
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is no text"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_kind_of_place() {
        let target = Target::parse("syslog+tls://[2001:db8::1]?format=ocsf&ca=/etc/my%20ca.pem").unwrap();
        assert_eq!(target.name(), "syslog-tls-2001-db8-1");
        let tls = Some(TlsFiles { ca: Some("/etc/my ca.pem".into()), own: None });
        let place = Place { host: "2001:db8::1".to_owned(), port: 6514, tls };
        assert_eq!(target.kind, Kind::Syslog { place, format: Format::Ocsf });
        let target = Target::parse("otlp+http://127.0.0.1:4318/otel/?signal=traces").unwrap();
        assert_eq!(target.name(), "otlp-http-127.0.0.1-4318-otel-traces");
        let place = Place { host: "127.0.0.1".to_owned(), port: 4318, tls: None };
        let path = "/otel/v1/traces".to_owned();
        assert_eq!(target.kind, Kind::Otlp { place, path, token: None, signal: Signal::Traces });
        let target = Target::parse("file:/var/log/omni.jsonl?name=here").unwrap();
        assert_eq!((target.name(), target.shown.as_str()), ("here", "file:/var/log/omni.jsonl"));
    }

    #[test]
    fn refuses_what_would_leak_or_is_meant_otherwise() {
        for (text, why) in [
            ("https://siem.example", "begins with none of"),
            ("otlp+http://siem.example", "without TLS"),
            ("splunk+http://127.0.0.1", "begins with none of"),
            ("splunk+https://siem.example", "no token"),
            ("splunk+https://siem.example?token=abcdef", "says where the token is"),
            ("otlp+https://ada:secret@siem.example", "password"),
            ("syslog+tls://siem.example?fromat=ocsf", "`fromat`"),
            ("syslog+tls://siem.example?cert=/a", "go together"),
            ("syslog+tls://siem.example:x", "no port"),
            ("file:omni.jsonl", "does not begin with `/`"),
            ("file:/x?name=a/b", "its name"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.why.contains(why), "{text}: {error}");
            assert!(!error.to_string().contains("abcdef"), "{error}");
        }
    }
}
