//! What this machine has, and what to do about what it lacks.

use crate::stage::{Actor, Stage, text};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where client programs are looked for: places that every sandbox shows.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether root runs the tests.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The search path of every trial.
pub fn search_path() -> String {
    format!("{}:{SYSTEM_PATH}", harness_directory().display())
}

fn harness_directory() -> PathBuf {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".harness/node_modules/.bin");
    std::env::var_os("OMNI_TEST_HARNESS_DIR").map_or_else(installed, PathBuf::from)
}

/// The search path of a trial with this program: for Python's Agents SDK, its virtual environment comes first.
pub fn path_with(program: &str) -> String {
    let first = if program == AGENTS { format!("{}:", agents_directory().display()) } else { String::new() };
    format!("{first}{}", search_path())
}

/// What stands for the interpreter of the virtual environment with the Agents SDK.
const AGENTS: &str = "agents-python3";

fn agents_directory() -> PathBuf {
    let modules = harness_directory();
    let place = modules.ancestors().nth(2).unwrap_or(&modules);
    place.join("agents/bin")
}

/// Whether any user at all can read a path: everything above it lets others pass.
pub fn everybody_reaches(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| {
        let open = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
        real.ancestors().all(open)
    })
}

/// Whether sandboxes can be made here; says why not.
pub fn has_sandboxes() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let output = Stage::new(Actor::Tester).run(&["exec", "--", "true"]);
        output.status.success() || skip("OMNI_REQUIRE_SANDBOX", &format!("no sandbox: {}", text(&output.stderr)))
    })
}

/// Whether a program is there for this actor; says why not.
pub fn has(actor: Actor, program: &str) -> bool {
    let places = path_with(program);
    let name = if program == AGENTS { "python3" } else { program };
    let mut places: Vec<PathBuf> = std::env::split_paths(&places).collect();
    places.truncate(if program == AGENTS { 1 } else { places.len() });
    let found = places.into_iter().map(|place| place.join(name)).find(|path| path.is_file());
    match found {
        None => skip("OMNI_REQUIRE_HARNESSES", &format!("{program} is not installed")),
        Some(path) if actor == Actor::Ordinary && !everybody_reaches(&path) => {
            skip("OMNI_REQUIRE_HARNESSES", &format!("ordinary users cannot reach {}", path.display()))
        }
        Some(_) => true,
    }
}

/// A program of those that are installed beside the harnesses, by its path from there; says why there is none for this actor.
pub fn tool(actor: Actor, path: &str) -> Option<PathBuf> {
    let why = match tools_directory().join(path) {
        tool if !tool.is_file() => format!("{} is not installed", tool.display()),
        tool if actor == Actor::Ordinary && !everybody_reaches(&tool) => {
            format!("ordinary users cannot reach {}", tool.display())
        }
        tool => return Some(tool),
    };
    skip("OMNI_REQUIRE_HARNESSES", &why);
    None
}

/// Where they are installed: what a trial with one of them has to be shown.
pub fn tools_directory() -> PathBuf {
    let agents = agents_directory();
    agents.ancestors().nth(2).unwrap_or(&agents).to_owned()
}

/// Whether the system's Python has a module; says why not.
pub fn has_python_module(module: &str) -> bool {
    let mut python = std::process::Command::new("python3");
    let output = python.args(["-c", &format!("import {module}")]).env("PATH", SYSTEM_PATH).output();
    let there = output.is_ok_and(|output| output.status.success());
    there || skip("OMNI_REQUIRE_HARNESSES", &format!("python3 has no module {module}"))
}

/// Says why a trial is left out, or fails where it must not be. Always false.
pub fn skip(required_by: &str, why: &str) -> bool {
    let required = std::env::var_os(required_by).is_some_and(|value| value == "1");
    assert!(!required, "{why}, and {required_by}=1 wants it");
    eprintln!("skipped: {why}");
    false
}
