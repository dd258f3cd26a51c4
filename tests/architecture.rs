//! The house's rules (ARCHITECTURE.md), held by reading our own source, so that a wrong import fails in seconds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "architecture/source.rs"]
mod source;

use source::{Source, files, sources, strip};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// Who may import whom. A room may always use itself; `cli` stands at the top and is imported by nobody but the binaries.
const MAY_IMPORT: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("ledger", &["model"]),
    ("export", &["model", "ledger"]),
    ("meter", &["model"]),
    ("policy", &["model"]),
    ("harness", &["model", "policy"]),
    ("store", &["model", "ledger", "meter", "policy"]),
    ("sys", &[]),
    ("supervisor", &["model", "policy", "harness", "sys"]),
    ("proxy", &["model", "policy", "meter", "store"]),
    ("session", &["model", "policy", "meter", "harness", "store", "sys", "supervisor", "proxy"]),
    ("server", &["model", "policy", "proxy", "store", "sys", "supervisor", "session"]),
    ("shipping", &["model", "ledger", "export", "store", "proxy"]),
    ("sim", &["model", "meter"]),
    (
        "cli",
        &[
            "model",
            "policy",
            "meter",
            "ledger",
            "export",
            "harness",
            "store",
            "sys",
            "supervisor",
            "proxy",
            "session",
            "server",
            "shipping",
            "sim",
        ],
    ),
];

/// What `proxy` may know of `store`: where it records, not what becomes of it.
const PROXY_KNOWS_OF_STORE: [&str; 4] = ["BodyRecorder", "Recorder", "SyncHandle", "StoreError"];

/// Rooms that only compute: time, entropy and the world arrive as arguments.
const PURE: [&str; 6] = ["model", "policy", "meter", "ledger", "export", "harness"];
/// Modules of the standard library that reach the world.
const WORLD: [&str; 7] = ["fs", "net", "process", "env", "thread", "os", "io"];
/// What of them is a mere word.
const WORDS_OF_THE_WORLD: [(&str, &[&str]); 1] =
    [("net", &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "AddrParseError"])];
/// Crates that reach the world.
const CRATES_OF_THE_WORLD: [&str; 12] = [
    "tokio",
    "tracing",
    "getrandom",
    "rand",
    "rustix",
    "nix",
    "libc",
    "hyper",
    "hyper_util",
    "rusqlite",
    "rustls",
    "caps",
];
/// Clocks.
const CLOCKS: [&str; 2] = ["SystemTime", "Instant"];

/// The one file that may see a secret's value.
const EXPOSES_SECRETS: &str = "src/proxy/inject.rs";

/// The files that make connections to the world outside: the proxy's, after the address was checked, those that ask the
/// witnesses and ship to the places that a person named, that to the store, and the one that asks the Vault of a person's own
/// secrets. In none but the first has any harness a say.
const DIALS: [&str; 5] = [
    "src/proxy/dial.rs",
    "src/cli/audit/cosign.rs",
    "src/session/vault.rs",
    "src/shipping/dial.rs",
    "src/store/postgres/link.rs",
];
/// What makes them.
const DIALLERS: [(&str, &[&str]); 3] =
    [("TcpStream", &["connect", "connect_timeout"]), ("TcpSocket", &["new_v4", "new_v6"]), ("UdpSocket", &["connect"])];

/// Most lines of a file, without its tests.
const FILE_LINES_MAX: usize = 700;
/// Most lines of a function, from `fn` to its last brace.
const FUNCTION_LINES_MAX: usize = 70;
/// What may be longer: the file, or the function after `::`, and why.
const LONGER: [(&str, &str); 0] = [];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 10] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "shared_utils", "lib_utils"];

/// Everything below `src`, read once.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(sources);

/// Fails with every violation, one a line.
fn expect_none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

/// The violations that `check` finds in the files.
fn violations(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    SOURCES.iter().flat_map(check).collect()
}

fn is_pure(source: &Source) -> bool {
    source.room().is_some_and(|room| PURE.contains(&room))
}

#[test]
fn every_room_is_in_the_table() {
    let known = |room: &&str| MAY_IMPORT.iter().any(|(known, _)| known == room);
    let mut unknown: Vec<_> = SOURCES.iter().filter_map(Source::room).filter(|room| !known(room)).collect();
    unknown.dedup();
    assert!(unknown.is_empty(), "give these rooms a row in MAY_IMPORT and in ARCHITECTURE.md: {unknown:?}");
    let is_there = |room: &&str| SOURCES.iter().any(|source| source.room() == Some(room));
    let gone: Vec<_> = MAY_IMPORT.iter().map(|(room, _)| room).filter(|room| !is_there(room)).collect();
    assert!(gone.is_empty(), "rooms in the table and not in src: {gone:?}");
}

#[test]
fn rooms_import_only_whom_they_may() {
    let check = |source: &Source| {
        let Some(room) = source.room() else { return Vec::new() };
        let allowed = MAY_IMPORT.iter().find(|(known, _)| *known == room).map_or(&[][..], |(_, allowed)| allowed);
        let wrong = |words: &[String]| {
            let climbed = words.iter().take_while(|word| *word == "super").count();
            let from_root = if words[0] == "crate" { 1 } else { climbed };
            let reaches_root = words[0] == "crate" || (climbed > 0 && climbed >= source.depth());
            let target = words.get(from_root).map_or("", String::as_str);
            reaches_root && target != room && !allowed.contains(&target)
        };
        let paths = source.paths().into_iter().filter(|named| wrong(&named.words));
        paths.map(|named| format!("{}:{}: {room} names {}", source.path, named.line, named.words.join("::"))).collect()
    };
    expect_none("a room names one that it may not know", violations(check));
}

#[test]
fn the_proxy_knows_only_where_it_records() {
    let check = |source: &Source| {
        let of_store = |words: &[String]| words.len() > 1 && words[0] == "crate" && words[1] == "store";
        let known = |words: &[String]| words.get(2).is_some_and(|word| PROXY_KNOWS_OF_STORE.contains(&word.as_str()));
        let paths = source.paths().into_iter().filter(|named| of_store(&named.words) && !known(&named.words));
        let told = paths.map(|named| format!("{}:{}: {}", source.path, named.line, named.words.join("::")));
        if source.room() == Some("proxy") { told.collect() } else { Vec::new() }
    };
    expect_none("proxy names more of store than its trait", violations(check));
}

#[test]
fn pure_rooms_have_no_world_no_clock_and_no_chance() {
    let reaches_out = |words: &[String]| match words {
        [first, module, rest @ ..] if first == "std" && WORLD.contains(&module.as_str()) => {
            let mere = WORDS_OF_THE_WORLD.iter().find(|(name, _)| name == module).map_or(&[][..], |(_, mere)| mere);
            !rest.first().is_some_and(|word| mere.contains(&word.as_str()))
        }
        [first, ..] => CRATES_OF_THE_WORLD.contains(&first.as_str()) || words.iter().any(|w| CLOCKS.contains(&&**w)),
        [] => false,
    };
    let check = |source: &Source| {
        let paths = source.paths().into_iter().filter(|named| is_pure(source) && reaches_out(&named.words));
        paths.map(|named| format!("{}:{}: {}", source.path, named.line, named.words.join("::"))).collect()
    };
    expect_none("a pure room reaches out of itself", violations(check));
}

/// Where one of these words stands in code, in files that `applies` picks.
fn words_in(applies: impl Fn(&Source) -> bool, unwanted: &[&str]) -> Vec<String> {
    violations(|source| {
        let words = source.words().filter(|(_, word)| applies(source) && unwanted.contains(word));
        words.map(|(line, word)| format!("{}:{line}: {word}", source.path)).collect()
    })
}

#[test]
fn unsafe_is_in_sys_alone() {
    expect_none(
        "`unsafe` outside of src/sys",
        words_in(|source| source.room() != Some("sys"), &["unsafe", "unsafe_code"]),
    );
}

#[test]
fn the_supervisor_has_no_async() {
    let supervisor = |source: &Source| source.room() == Some("supervisor");
    expect_none(
        "async in the supervisor, which must have one thread",
        words_in(supervisor, &["async", "await", "tokio"]),
    );
}

#[test]
fn only_injection_sees_a_secret() {
    let callers: Vec<_> =
        SOURCES.iter().filter(|source| source.code.contains(".expose(")).map(|source| source.path.as_str()).collect();
    assert_eq!(callers, [EXPOSES_SECRETS], "files that call Secret::expose");
}

#[test]
fn only_the_dialler_dials() {
    let dials = |words: &[String]| match words {
        [.., kind, call] => DIALLERS.iter().any(|(known, calls)| known == kind && calls.contains(&call.as_str())),
        _ => false,
    };
    let check = |source: &Source| {
        let paths =
            source.paths().into_iter().filter(|named| !DIALS.contains(&source.path.as_str()) && dials(&named.words));
        paths.map(|named| format!("{}:{}: {}", source.path, named.line, named.words.join("::"))).collect()
    };
    expect_none("a connection that no grant was given for", violations(check));
    for file in DIALS {
        let dialler = SOURCES.iter().find(|source| source.path == file).expect("the dialler");
        assert!(
            dialler.paths().iter().any(|named| dials(&named.words)),
            "{file} does not dial: name the file that does"
        );
    }
}

#[test]
fn files_and_functions_stay_small() {
    let allowed = |what: &str| LONGER.iter().any(|(name, reason)| *name == what && !reason.is_empty());
    let check = |source: &Source| {
        let mut long = Vec::new();
        if source.lines > FILE_LINES_MAX && !allowed(&source.path) {
            long.push(format!("{}: {} lines", source.path, source.lines));
        }
        for (name, line, lines) in source.functions() {
            if lines > FUNCTION_LINES_MAX && !allowed(&format!("{}::{name}", source.path)) {
                long.push(format!("{}:{line}: {name} has {lines} lines", source.path));
            }
        }
        long
    };
    let rule = format!("more than {FILE_LINES_MAX} lines a file or {FUNCTION_LINES_MAX} a function");
    expect_none(&rule, violations(check));
}

#[test]
fn modules_are_named_for_what_they_hold() {
    let check = |source: &Source| {
        let parts = source.path.trim_end_matches(".rs").split('/');
        parts.filter(|part| EMPTY_NAMES.contains(part)).map(|part| format!("{}: {part}", source.path)).collect()
    };
    expect_none("a module's name says nothing", violations(check));
}

#[test]
fn nothing_is_left_for_later() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in ["src", "tests", "benches"].iter().flat_map(|folder| files(&root.join(folder), "rs")) {
        let code = strip(&fs::read_to_string(&path).unwrap());
        for (number, line) in (1..).zip(code.lines()) {
            let left = ["todo!", "unimplemented!", "dbg!", "#[ignore"].iter().find(|left| line.contains(**left));
            found.extend(left.map(|left| format!("{}:{number}: {left}", path.display())));
        }
    }
    expect_none("something is left for later", found);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let check = |source: &Source| {
        let begins = source.text.starts_with("//! ") && source.text.lines().next().is_some_and(|line| line.len() > 10);
        if begins { Vec::new() } else { vec![source.path.clone()] }
    };
    expect_none("a file does not begin with `//! ` and its purpose", violations(check));
}

#[test]
fn no_machine_of_a_developer_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "docs", "scripts", "profiles", "benches", "web/src", ".ci"];
    let mut paths: Vec<_> = folders.iter().flat_map(|folder| files(&root.join(folder), "")).collect();
    paths.extend(files(root, "md").into_iter().filter(|path| path.parent() == Some(root)));
    let mut found = Vec::new();
    for path in paths {
        // What is no text (a picture, say) names no path.
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in (1..).zip(text.lines()) {
            let named = ["/work/", "/root/."].iter().any(|place| line.contains(place));
            found.extend(named.then(|| format!("{}:{number}: {}", path.display(), line.trim())));
        }
    }
    expect_none("a path of one machine alone", found);
}

mod scanner {
    use super::*;

    fn source(path: &str, code: &str) -> Source {
        Source { path: path.to_owned(), text: code.to_owned(), code: strip(code), lines: 0 }
    }

    #[test]
    fn comments_strings_and_characters_are_not_code() {
        let code = "a /* b /* c */ d */ e // f\n\"g \\\" h\" 'i' '\\'' r#\"j \" k\"# l: &'m str";
        let words: Vec<_> = source("src/x.rs", code).words().map(|(line, word)| format!("{line}{word}")).collect();
        assert_eq!(words, ["1a", "1e", "2l", "2m", "2str"]);
    }

    #[test]
    fn a_tree_of_imports_counts_as_each_of_its_branches() {
        let paths =
            source("src/x.rs", "use crate::{a::{B, c::D}, e};\nfn f() -> std::fs::File { super::g::<u8>() }").paths();
        let told: Vec<_> = paths.iter().map(|named| format!("{} {}", named.line, named.words.join("::"))).collect();
        for expected in ["1 crate::a::B", "1 crate::a::c::D", "1 crate::e", "2 std::fs::File", "2 super::g"] {
            assert!(told.iter().any(|path| path == expected), "{expected} in {told:?}");
        }
    }

    #[test]
    fn functions_are_measured_to_their_last_brace() {
        let code = "trait T { fn none(a: [u8; 2]); }\nfn one() {}\nfn three(a: [u8; 2])\n{ if a { } else { }\n}\n";
        let found = source("src/x.rs", code).functions();
        assert_eq!(found, [("one".to_owned(), 2, 1), ("three".to_owned(), 3, 3)]);
    }

    #[test]
    fn depth_is_what_super_climbs() {
        let depth = |path: &str| source(path, "").depth();
        assert_eq!((depth("src/a/mod.rs"), depth("src/a/b.rs"), depth("src/a/b/c.rs")), (1, 2, 3));
    }
}
