//! Places that are neither a plain machine nor a plain container.

use crate::stage::{self, ACCEPT};
use crate::support::{Outcome, Who, World, finish};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Where Debian has gVisor's runtime.
const RUNSC: &str = "/usr/bin/runsc";

fn findings(outcome: &Outcome) -> Vec<Value> {
    outcome.text().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{outcome:?}"))).collect()
}

fn find<'a>(findings: &'a [Value], probe: &str) -> &'a Value {
    findings.iter().find(|finding| finding["probe"] == probe).unwrap_or_else(|| panic!("no probe `{probe}`"))
}

/// omni where something is mounted over a part of `/proc`, as container runtimes do, and namespaces can be made.
fn omni_behind_a_mask(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let inner = world.omni();
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        "mount --bind /dev/null /proc/version && exec \"$@\"",
        "sh",
    ]);
    command.arg(inner.get_program()).args(inner.get_args()).args(arguments).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(world.workspace());
    command
}

/// Only root can put a mask over the machine's own `/proc`; whom omni runs as is the attack's to say.
fn behind_a_mask(who: Who) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can mount over /proc");
        return;
    }
    crate::support::try_as(who, |world| {
        let refused = finish(omni_behind_a_mask(world, &["exec", "--", "touch", "ran"]), b"");
        assert_eq!(refused.code(), Some(125), "{refused:?}");
        assert!(refused.stderr.contains("processes of the new namespace at /proc"), "{refused:?}");
        assert!(!world.workspace().join("ran").exists());
        let doctor = finish(omni_behind_a_mask(world, &["doctor", "--json"]), b"");
        let findings = findings(&doctor);
        assert_eq!(find(&findings, "mounts")["ok"], true, "namespaces are there: {doctor:?}");
        let proc = find(&findings, "fresh /proc");
        assert!(proc["fix"].as_str().unwrap().contains("mounted over /proc/version"), "{proc}");
        let reached = if stage::has_whole_landlock() { "landlock, since" } else { "none: " };
        let tier = find(&findings, "isolation tier");
        assert!(tier["detail"].as_str().unwrap().starts_with(reached), "{tier}");
        if world.who == Who::Ordinary && stage::has_whole_landlock() {
            let arguments = [&["exec"], &ACCEPT[..], &["--", "true"]].concat();
            let accepted = finish(omni_behind_a_mask(world, &arguments), b"");
            assert!(accepted.status.success(), "{accepted:?}");
            assert_eq!(stage::isolation(world)["tier"], "landlock");
        }
    });
}

#[test]
fn a_masked_proc_is_no_tier_full_for_root() {
    behind_a_mask(Who::Root);
}

#[test]
fn a_masked_proc_is_no_tier_full_for_an_ordinary_user() {
    behind_a_mask(Who::Ordinary);
}

/// Runs a command in gVisor; `None` where that cannot be had.
fn in_gvisor(world: &World, script: &str) -> Option<Outcome> {
    let required = std::env::var("OMNI_REQUIRE_SANDBOX").is_ok_and(|value| value == "1");
    if !Path::new(RUNSC).exists() || !rustix::process::geteuid().is_root() {
        assert!(!required || !rustix::process::geteuid().is_root(), "gVisor is missing: apt-get install runsc");
        println!("skipped: needs root and {RUNSC}");
        return None;
    }
    let mut command = world.command(Path::new(RUNSC));
    command
        .args(["--rootless", "--network=none", "do", "sh", "-c", script, "sh"])
        .arg(world.binary())
        .arg(world.workspace());
    // The sandbox has a file system of its own for what is written, so that the record is made and gone there.
    command.env("OMNI_HOME", "/tmp/omni-in-gvisor");
    Some(finish(command, b""))
}

#[test]
fn gvisor_holds_no_tier_and_is_told_why() {
    crate::support::try_as(Who::Root, |world| {
        let Some(doctor) =
            in_gvisor(world, "\"$1\" doctor --json; echo \"{\\\"probe\\\":\\\"exit\\\",\\\"code\\\":$?}\"")
        else {
            return;
        };
        let findings = findings(&doctor);
        assert_eq!(find(&findings, "exit")["code"], 1, "{doctor:?}");
        let tier = find(&findings, "isolation tier");
        let detail = tier["detail"].as_str().unwrap();
        assert!(detail.starts_with("none: `full` lacks "), "{tier}");
        assert!(detail.contains("`landlock` lacks landlock, "), "{tier}");
        assert!(find(&findings, "landlock")["fix"].as_str().unwrap().contains("gVisor"), "{doctor:?}");
        assert_eq!(find(&findings, "seccomp")["ok"], true, "what is there is found: {doctor:?}");
        for flags in ["", "--minimum-isolation landlock"] {
            let script = format!("cd \"$2\" && \"$1\" exec {flags} -- echo ran");
            let refused = in_gvisor(world, &script).expect("it worked a moment ago");
            assert_eq!(refused.code(), Some(125), "{refused:?}");
            assert!(refused.stderr.contains("`omni doctor`"), "{refused:?}");
            assert!(!refused.text().contains("ran"), "{refused:?}");
        }
    });
}
