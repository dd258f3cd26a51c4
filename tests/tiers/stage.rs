//! A place like a container, with omni in it.

use crate::support::{Outcome, PRELUDE, Who, World, finish};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const PYTHON: &str = "/usr/bin/python3";
const CONTAINER: &str = include_str!("container.py");
/// What accepts the weaker tier.
pub const ACCEPT: [&str; 2] = ["--minimum-isolation", "landlock"];

/// Whether the kernel's Landlock guards signals too, without which there is no weaker tier.
pub fn has_whole_landlock() -> bool {
    omni::supervisor::landlock_abi() >= omni::supervisor::LANDLOCK_COMPLETE
}

/// omni in the container.
pub fn omni(world: &World, arguments: &[&str]) -> Command {
    hand_workspace_over(world);
    let mut command = world.command(Path::new(PYTHON));
    command.args(["-I", "-c", CONTAINER]).arg(world.binary()).args(arguments);
    command
}

/// `omni exec FLAGS -- ARGV` in the container, by the weaker tier.
pub fn exec(world: &World, flags: &[&str], argv: &[&str]) -> Command {
    let arguments = [&["exec"], &ACCEPT[..], flags, &["--"], argv].concat();
    omni(world, &arguments)
}

/// Runs a shell script inside.
pub fn shell(world: &World, flags: &[&str], script: &str) -> Outcome {
    finish(exec(world, flags, &["sh", "-c", script]), b"")
}

/// Runs a Python probe inside and reads the value that it said.
pub fn probe(world: &World, code: &str, arguments: &[&str]) -> Value {
    let source = format!("{PRELUDE}\n{code}");
    let argv = [&[PYTHON, "-I", "-c", &source], arguments].concat();
    finish(exec(world, &[], &argv), b"").json()
}

/// A harness of root's becomes the workspace's owner in this tier, which then must not be root.
fn hand_workspace_over(world: &World) {
    if world.who == Who::Root {
        let user = nix::unistd::User::from_name("nobody").unwrap().expect("every system has this user");
        std::os::unix::fs::chown(world.workspace(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// What the record says of the last session's isolation.
pub fn isolation(world: &World) -> Value {
    world.list(&["show", "last"]).remove(0)["isolation"].clone()
}
