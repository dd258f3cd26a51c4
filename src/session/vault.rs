//! Reading a field of HashiCorp Vault's key-value store of version 2, or OpenBao's, over its documented interface.
//!
//! It is asked by the process that reads secrets, for the person whose secrets they are and where they said: no harness has a say
//! in it. Nothing that comes back but the field is kept, and errors repeat nothing of it.

use super::secrets::first_text;
use crate::policy::{SecretSource, VAULT_TOKEN_FILE, VAULT_VARIABLES, VaultField, expand_home};
use crate::proxy::Roots;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, once there is a connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How many of a name's addresses are tried.
const ADDRESSES_MAX: usize = 4;
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Largest file of an authority.
const CA_BYTES_MAX: u64 = 1024 * 1024;
/// The port where an address has none.
const PORT: u16 = 8200;

/// Where Vault is.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    tls: bool,
    host: String,
    port: u16,
}

impl Address {
    /// Reads `https://HOST[:PORT]`; plain HTTP leads to this machine alone, where Vault's agent listens.
    fn parse(url: &str) -> Result<Self, String> {
        let unsound = || format!("`{url}` is no address of a Vault: write it like `https://vault.example.com:8200`");
        let (scheme, rest) = url.split_once("://").ok_or_else(unsound)?;
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| unsound())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if host.is_empty() || !host.chars().all(plain) || !matches!(scheme, "https" | "http") {
            return Err(unsound());
        }
        let address = Self { tls: scheme == "https", host: host.to_owned(), port };
        if !address.tls && !address.is_here() {
            return Err(format!("`{url}` would send a token in the open: use https"));
        }
        Ok(address)
    }

    fn is_here(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }
}

/// The field's value.
///
/// The error is for a person and holds no part of a secret.
pub(super) fn read(field: &VaultField, home: &Path) -> Result<String, String> {
    read_within(field, home, ANSWER_TIMEOUT)
}

fn read_within(field: &VaultField, home: &Path, limit: Duration) -> Result<String, String> {
    let settings = &field.settings;
    let [address, _, namespace, ca] =
        VAULT_VARIABLES.map(|name| std::env::var(name).ok().filter(|set| !set.is_empty()));
    let address = settings.address.clone().or(address);
    let address = address.ok_or("nothing says where Vault is: set VAULT_ADDR, or write `vault: { address: URL }`")?;
    let address = Address::parse(&address)?;
    let token = Zeroizing::new(token(&settings.token, home)?);
    let ca = settings.ca.as_ref().map(|path| expand_home(path, home)).or(ca.map(Into::into));
    let namespace = settings.namespace.clone().or(namespace);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let stream = connect(&address)?;
    let asked = async {
        // Where there is a runtime, which waits for it.
        let stream = tokio::net::TcpStream::from_std(stream).map_err(|error| error.to_string())?;
        let request = request(&address, &field.path, &token, namespace.as_deref())?;
        if !address.tls {
            return ask(stream, request).await;
        }
        let connector = connector(ca.as_deref())?;
        let name = ServerName::try_from(address.host.clone()).map_err(|_| "its name is no name of a server")?;
        let stream = connector.connect(name, stream).await.map_err(|error| {
            format!(
                "TLS with {} failed: {error}; its authority is given by VAULT_CACERT or `vault: {{ ca: FILE }}`",
                address.host
            )
        })?;
        ask(stream, request).await
    };
    let answered = runtime.block_on(async { tokio::time::timeout(limit, asked).await });
    let (status, body) =
        answered.unwrap_or_else(|_| Err(format!("{} did not answer in {} s", address.host, limit.as_secs_f32())))?;
    value(status, &body, field)
}

fn token(sources: &[SecretSource], home: &Path) -> Result<String, String> {
    let own = || [SecretSource::Env(VAULT_VARIABLES[1].to_owned()), SecretSource::File(VAULT_TOKEN_FILE.to_owned())];
    let read = if sources.is_empty() { first_text(&own(), home) } else { first_text(sources, home) };
    let token = Zeroizing::new(read.map_err(|problem| format!("there is no token for Vault ({problem})"))?);
    Ok(token.trim().to_owned())
}

fn connect(address: &Address) -> Result<TcpStream, String> {
    let Address { host, port, .. } = address;
    let found =
        (host.as_str(), *port).to_socket_addrs().map_err(|error| format!("{host} does not resolve: {error}"))?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for found in found.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&found, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nonblocking(true).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(format!("no connection to {host}:{port}: {last}"))
}

/// What verifies Vault: its own authority alone, where that is named, as Vault's programs do it.
fn connector(ca: Option<&Path>) -> Result<tokio_rustls::TlsConnector, String> {
    let roots = match ca {
        None => Roots::from_system(None),
        Some(path) => {
            let told = |error: io::Error| format!("cannot read its authority {}: {error}", path.display());
            let mut pem = Vec::new();
            File::open(path).map_err(told)?.take(CA_BYTES_MAX).read_to_end(&mut pem).map_err(told)?;
            if pem.is_empty() {
                return Err(format!("its authority {} is an empty file", path.display()));
            }
            Roots::from_pem(pem, None)
        }
    };
    let mut config = roots.and_then(|roots| roots.client_config()).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

fn request(
    address: &Address,
    path: &str,
    token: &str,
    namespace: Option<&str>,
) -> Result<Request<Empty<bytes::Bytes>>, String> {
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let mut token = header::HeaderValue::from_str(token).map_err(|_| "Vault's token is no token")?;
    token.set_sensitive(true);
    let builder = Request::get(format!("/v1/{path}")).header(header::HOST, format!("{host}:{}", address.port));
    // Vault's agents answer nothing that a page in a browser could send.
    let builder = builder.header("x-vault-token", token).header("x-vault-request", "true");
    let builder = match namespace {
        Some(namespace) => builder.header("x-vault-namespace", namespace),
        None => builder,
    };
    builder.body(Empty::new()).map_err(|error| error.to_string())
}

async fn ask<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: Request<Empty<bytes::Bytes>>,
) -> Result<(StatusCode, Zeroizing<Vec<u8>>), String> {
    let broke = |error: hyper::Error| format!("Vault broke off: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let answer = async {
        let (head, mut body) = sender.send_request(request).await.map_err(broke)?.into_parts();
        let mut read = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broke)?.into_data() else { continue };
            if read.len() + data.len() > ANSWER_BYTES_MAX {
                return Err("Vault's answer is too large".to_owned());
            }
            read.extend_from_slice(&data);
        }
        Ok((head.status, read))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What it ended with is told to whoever waits for the answer.
        _ = &mut connection => answer.await,
    }
}

/// The field of an answer, or what the answer says instead.
fn value(status: StatusCode, body: &[u8], field: &VaultField) -> Result<String, String> {
    let VaultField { path, field, .. } = field;
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    match status.as_u16() {
        200 => {}
        // What is deleted still has its metadata.
        404 if read.pointer("/data/metadata").is_some() => {
            return Err(format!("the newest version of {path} is deleted (404)"));
        }
        404 => return Err(format!("there is no secret {path} in Vault (404)")),
        403 => return Err(format!("Vault's token may not read {path}, or holds no more (403)")),
        503 => return Err("Vault is sealed, or not ready (503)".to_owned()),
        300..400 => return Err(format!("Vault answered {status}: name the active node, or what stands for it")),
        _ => return Err(format!("Vault answered {status}")),
    }
    let Some(fields) = read.pointer("/data/data").and_then(Value::as_object) else {
        return Err("Vault's answer is none of its key-value store of version 2".to_owned());
    };
    match fields.get(field) {
        Some(Value::String(value)) => Ok(value.clone()),
        Some(_) => Err(format!("the field `{field}` of {path} is no text")),
        None => Err(format!("{path} has no field `{field}`")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::VaultSettings;
    use serde_json::json;

    #[test]
    fn an_address_is_https_but_for_this_machines_own() {
        let at = |url: &str| Address::parse(url).map(|Address { tls, host, port }| (tls, host, port));
        assert_eq!(at("https://v.example/"), Ok((true, "v.example".to_owned(), 8200)));
        assert_eq!(at("https://[::1]:8201"), Ok((true, "::1".to_owned(), 8201)));
        assert_eq!(at("http://127.0.0.1:8100"), Ok((false, "127.0.0.1".to_owned(), 8100)));
        assert_eq!(at("http://localhost"), Ok((false, "localhost".to_owned(), 8200)));
        assert!(at("http://v.example").unwrap_err().contains("in the open"));
        for bad in ["v.example", "https://", "https://v.example/x", "https://a@b", "ftp://v.example", "https://v:x"] {
            assert!(at(bad).unwrap_err().contains("is no address"), "{bad}");
        }
    }

    #[test]
    fn a_vault_that_does_not_answer_is_not_waited_for_and_one_that_is_gone_is_said() {
        let place = tempfile::tempdir().unwrap();
        let token = place.path().join("token");
        std::fs::write(&token, "canary").unwrap();
        // It takes connections, as the kernel does for it, and never answers.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let token = vec![SecretSource::File(token.display().to_string())];
        let settings = VaultSettings { address: Some(address), token, ..VaultSettings::default() };
        let field = VaultField { path: "secret/data/ci".to_owned(), field: "key".to_owned(), settings };
        let asked = || read_within(&field, Path::new("/"), Duration::from_millis(20)).unwrap_err();
        assert_eq!(asked(), "127.0.0.1 did not answer in 0.02 s");
        drop(listener);
        assert!(asked().starts_with("no connection to 127.0.0.1:"));
    }

    #[test]
    fn what_vault_says_becomes_a_value_or_a_reason_without_one() {
        let field = VaultField {
            path: "secret/data/ci".to_owned(),
            field: "key".to_owned(),
            settings: VaultSettings::default(),
        };
        let said = |status: u16, body: Value| {
            value(StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes(), &field)
        };
        assert_eq!(said(200, json!({"data": {"data": {"key": "v"}}})), Ok("v".to_owned()));
        for (status, body, expected) in [
            (200, json!({"data": {"data": {"key": {"canary": 1}}}}), "the field `key` of secret/data/ci is no text"),
            (200, json!({"data": {"data": {"canary": "canary"}}}), "secret/data/ci has no field `key`"),
            (200, json!({"data": {"key": "canary"}}), "Vault's answer is none of its key-value store of version 2"),
            (404, json!({"errors": []}), "there is no secret secret/data/ci in Vault (404)"),
            (
                404,
                json!({"data": {"data": null, "metadata": {}}}),
                "the newest version of secret/data/ci is deleted (404)",
            ),
            (403, json!({"errors": ["canary"]}), "Vault's token may not read secret/data/ci, or holds no more (403)"),
            (503, json!({"errors": ["Vault is sealed"]}), "Vault is sealed, or not ready (503)"),
            (307, json!(null), "Vault answered 307 Temporary Redirect: name the active node, or what stands for it"),
            (500, json!("canary"), "Vault answered 500 Internal Server Error"),
        ] {
            assert_eq!(said(status, body), Err(expected.to_owned()));
        }
    }
}
