//! The harness's environment, built from nothing.

use super::caller::Caller;
use crate::supervisor::{CA_BUNDLE, CA_CERTIFICATE, CA_KEY_STORE, GATEWAY_V4, PrivatePlace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Variables by which programs are told where the trusted certificates are: each names the merged bundle. Which program
/// heeds which was measured; docs/trust.md has the table.
const BUNDLE_VARIABLES: [&str; 13] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "npm_config_cafile",
];
/// Variables that add to what a program trusts already: these name the session's CA alone.
const ADDITION_VARIABLES: [&str; 2] = ["CODEX_CA_CERTIFICATE", "NODE_EXTRA_CA_CERTS"];

/// Who the harness is and where it lives, for its environment.
pub(super) struct Place<'a> {
    /// Its login name inside.
    pub user: &'a str,
    /// Its home directory.
    pub home: &'a Path,
    /// Its search path.
    pub path: String,
    /// Where its own files are, if it has no root directory of its own.
    pub private: Option<&'a PrivatePlace>,
}

/// What every harness has, before its profile adds to it.
pub(super) fn base(place: &Place<'_>) -> BTreeMap<String, String> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let own = |inside: fn(&PrivatePlace) -> PathBuf, else_: &Path| {
        place.private.map_or_else(|| else_.to_owned(), inside).display().to_string()
    };
    let bundle = own(PrivatePlace::bundle, Path::new(CA_BUNDLE));
    let certificate = own(PrivatePlace::certificate, Path::new(CA_CERTIFICATE));
    let fixed = [
        ("JAVA_TOOL_OPTIONS", java_options(place)),
        ("HOME", own(PrivatePlace::home, place.home)),
        ("LOGNAME", place.user.to_owned()),
        ("PATH", place.path.clone()),
        ("SHELL", shell.to_owned()),
        ("TMPDIR", own(PrivatePlace::temporary, Path::new("/tmp"))),
        ("USER", place.user.to_owned()),
        ("UV_NATIVE_TLS", "1".to_owned()),
        ("UV_SYSTEM_CERTS", "1".to_owned()),
    ];
    let bundle = BUNDLE_VARIABLES.map(|name| (name, bundle.clone()));
    let addition = ADDITION_VARIABLES.map(|name| (name, certificate.clone()));
    let proxy = place.private.into_iter().flat_map(|_| proxy());
    fixed.into_iter().chain(bundle).chain(addition).chain(proxy).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What every Java is started with: its own trust store is none of the files that the others read. It knows no variable for
/// a proxy either.
fn java_options(place: &Place<'_>) -> String {
    let store = place.private.map_or_else(|| CA_KEY_STORE.into(), PrivatePlace::key_store);
    let trusted = format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStoreType=PKCS12", store.display());
    if place.private.is_none() {
        return trusted;
    }
    let proxy =
        ["http", "https"].map(|scheme| format!(" -D{scheme}.proxyHost={GATEWAY_V4} -D{scheme}.proxyPort={PROXY_PORT}"));
    format!("{trusted}{}", proxy.concat())
}

/// What programs are told the proxy by where no network does it. Which case a program heeds differs (curl(1) takes
/// `http_proxy` in small letters alone), and Node.js wants to be asked to.
fn proxy() -> impl Iterator<Item = (&'static str, String)> {
    let url = format!("http://{GATEWAY_V4}:{PROXY_PORT}");
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    names.map(|name| (name, url.clone())).into_iter().chain([("NODE_USE_ENV_PROXY", "1".to_owned())])
}

/// The port that the proxy is said to be on: any would do.
const PROXY_PORT: u16 = 3128;

/// The variables of the caller's environment that are passed on, where they are set and are text.
pub(super) fn passed(caller: &Caller, names: &[String]) -> impl Iterator<Item = (String, String)> {
    names.iter().filter_map(|name| Some((name.clone(), caller.variable(name)?)))
}
