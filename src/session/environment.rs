//! The harness's environment, built from nothing.

use crate::supervisor::{CA_BUNDLE, CA_CERTIFICATE};
use std::collections::BTreeMap;
use std::path::Path;

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
}

/// What every harness has, before its profile adds to it.
pub(super) fn base(place: &Place<'_>) -> BTreeMap<String, String> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let fixed = [
        ("HOME", place.home.display().to_string()),
        ("LOGNAME", place.user.to_owned()),
        ("PATH", place.path.clone()),
        ("SHELL", shell.to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
        ("USER", place.user.to_owned()),
        ("UV_NATIVE_TLS", "1".to_owned()),
        ("UV_SYSTEM_CERTS", "1".to_owned()),
    ];
    let bundle = BUNDLE_VARIABLES.map(|name| (name, CA_BUNDLE.to_owned()));
    let addition = ADDITION_VARIABLES.map(|name| (name, CA_CERTIFICATE.to_owned()));
    fixed.into_iter().chain(bundle).chain(addition).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The variables of omni's own environment that are passed on, where they are set and are text.
pub(super) fn passed(names: &[String]) -> impl Iterator<Item = (String, String)> {
    names.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
}
