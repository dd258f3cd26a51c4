//! What we let into the tree, held without a tool or a network: Cargo.lock, Cargo.toml and docs/dependencies.md.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Crates of which two versions would be two of everything: pools, types that do not fit, code to trust.
const ONE_VERSION: [&str; 10] = [
    "h2",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "rustls",
    "rustls-pki-types",
    "rustls-webpki",
    "tokio",
    "tokio-rustls",
];

/// Other TLS backends than aws-lc-rs, by the beginnings of their names.
const OTHER_BACKENDS: [&str; 8] =
    ["ring", "openssl", "native-tls", "boring", "mbedtls", "wolfssl", "s2n-tls", "rustls-openssl"];
/// What has such a name and is none: it only knows where distributions keep certificates.
const NO_BACKEND: &str = "openssl-probe";

/// Most packages in Cargo.lock, for all systems and with what only tests need. There are 369, nineteen of
/// them for the implementation of hash trees by others that ours is compared with, and twenty for a model checker; a change that
/// needs more raises this knowingly.
const PACKAGES_MAX: usize = 380;
/// Most packages that are compiled for the program on Linux. There are 226, each name counted once.
const COMPILED_MAX: usize = 240;

/// Shortest reason that can be one, in bytes.
const REASON_BYTES_MIN: usize = 30;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The versions of every package in Cargo.lock.
fn locked() -> BTreeMap<String, Vec<String>> {
    let mut packages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in read("Cargo.lock").split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)).expect("a package has it");
            line.trim_matches('"').to_owned()
        };
        packages.entry(value("name = \"")).or_default().push(value("version = \""));
    }
    packages
}

/// The names of the packages that are compiled for the program, as cargo resolves their features.
fn compiled() -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--prefix", "none", "--edges", "normal,build", "--format", "{p}"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The direct dependencies of Cargo.toml.
fn direct() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in read("Cargo.toml").lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

fn is_other_backend(name: &str) -> bool {
    let named = |backend: &str| name.strip_prefix(backend).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    name != NO_BACKEND && OTHER_BACKENDS.iter().any(|backend| named(backend))
}

#[test]
fn the_large_crates_come_in_one_version() {
    let locked = locked();
    for name in ONE_VERSION {
        let versions = locked.get(name).map_or(&[][..], Vec::as_slice);
        assert_eq!(versions.len(), 1, "`cargo tree -d` says who wants which {name}: {versions:?}");
    }
}

#[test]
fn there_is_one_tls_backend() {
    let compiled = compiled();
    let others: Vec<_> = compiled.iter().filter(|name| is_other_backend(name)).collect();
    assert!(others.is_empty(), "`cargo tree -i NAME` says who brings {others:?}");
    assert!(compiled.contains("aws-lc-rs"), "the one backend is gone: {compiled:?}");
}

#[test]
fn no_other_backend_is_locked_for_any_system() {
    // `ring` is named by features of rustls-webpki and hickory-proto that only apply where something else turns it on;
    // cargo locks it all the same. That nothing does is what `there_is_one_tls_backend` sees.
    let locked = locked();
    let others: Vec<_> = locked.keys().filter(|name| is_other_backend(name) && *name != "ring").collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn the_tree_does_not_grow_unnoticed() {
    let locked: usize = locked().values().map(Vec::len).sum();
    assert!(locked <= PACKAGES_MAX, "{locked} packages are locked, more than {PACKAGES_MAX}");
    let compiled = compiled().len();
    assert!(compiled <= COMPILED_MAX, "{compiled} packages are compiled, more than {COMPILED_MAX}");
}

#[test]
fn everything_comes_from_crates_io() {
    let lock = read("Cargo.lock");
    let sources: BTreeSet<_> = lock.lines().filter(|line| line.starts_with("source = ")).collect();
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_eq!(sources, BTreeSet::from([registry]));
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let mut reasons = BTreeMap::new();
    for line in read("docs/dependencies.md").lines() {
        if let Some((name, reason)) = line.strip_prefix("- `").and_then(|rest| rest.split_once("`: ")) {
            assert!(reasons.insert(name.to_owned(), reason.len()).is_none(), "{name} stands twice");
        }
    }
    let named: BTreeSet<_> = reasons.keys().cloned().collect();
    assert_eq!(named, direct(), "docs/dependencies.md (left) and Cargo.toml (right) name others");
    let empty: Vec<_> = reasons.iter().filter(|(_, length)| **length < REASON_BYTES_MIN).collect();
    assert!(empty.is_empty(), "no reason in so few words: {empty:?}");
}
