//! An `omni apply` that is killed at any of its steps: whoever comes next finishes it or puts it back, whole.

use crate::support::{Outcome, World, finish};
use crate::tree::{Tree, change, omni, overlay, tree};
use std::path::Path;

/// The calls at which it is killed: those that change something.
const CALLS: [&str; 8] =
    ["renameat2", "rename", "mkdirat", "unlinkat", "fsync", "write", "fchmodat", "copy_file_range"];
/// How often a call is made at most; more would mean that a round never ended.
const ROUNDS_MAX: usize = 200;

fn project(world: &World) {
    let workspace = world.workspace();
    for (path, contents) in
        [("a", "one\n"), ("b", "two\n"), ("d/x", "x\n"), ("d/e/y", "y\n"), ("l", "l\n"), ("m/f", "f\n")]
    {
        let path = workspace.join(path);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            std::fs::remove_dir_all(&path).unwrap();
        }
        world.write(&path, contents);
    }
}

const SCRIPT: &str =
    "echo more >> a; rm b; rm -r d; echo d > d; mkdir -p n/o; echo f > n/o/f; rm l; ln -s a l; chmod 700 m";

/// `omni apply last`, killed at the `round`-th of these calls; the outcome where there are not so many.
fn killed(world: &World, call: &str, round: usize) -> Option<Outcome> {
    let mut command = world.command(Path::new("strace"));
    let inject = format!("inject={call}:signal=KILL:when={round}");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
    command.arg(world.binary()).args(["apply", "last"]);
    let outcome = finish(command, b"");
    outcome.status.success().then_some(outcome)
}

/// Makes the workspace what it was, and lets a session change it.
fn begin(world: &World) -> Tree {
    let workspace = world.workspace();
    for entry in std::fs::read_dir(&workspace).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    project(world);
    let before = tree(&workspace);
    change(world, SCRIPT);
    before
}

fn is_clean(world: &World) {
    assert_eq!(overlay(world), None);
    let names = std::fs::read_dir(world.workspace()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("omni")).collect();
    assert!(left.is_empty(), "{left:?}");
}

attack! {
    fn killed_at_any_step_it_is_finished_or_put_back(world) {
        let before = begin(world);
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        let after = tree(&world.workspace());
        assert_ne!(before, after);
        for call in CALLS {
            let mut kills = 0;
            for round in 1..=ROUNDS_MAX {
                begin(world);
                if killed(world, call, round).is_some() {
                    break;
                }
                kills += 1;
                // Every other time somebody gives up, who must find all of the one or all of the other.
                if round % 2 == 0 {
                    let discarded = omni(world, "discard", &[]);
                    assert_eq!(discarded.code(), Some(0), "{call} {round}: {discarded:?}");
                    let found = tree(&world.workspace());
                    assert!(found == before || found == after, "{call} {round}: {found:?}");
                } else {
                    let applied = omni(world, "apply", &[]);
                    let nothing = applied.stderr.contains("keeps no changes");
                    assert!(applied.code() == Some(0) || nothing, "{call} {round}: {applied:?}");
                    assert_eq!(tree(&world.workspace()), after, "{call} {round}");
                }
                is_clean(world);
            }
            println!("{call}: killed at {kills} places");
            assert!(kills > 0 || call == "fchmodat", "{call} is never made");
        }
    }
}
