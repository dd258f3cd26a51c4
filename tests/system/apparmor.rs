//! The shipped AppArmor profile in the kernel.
//!
//! Debian 12's parser knows no rule for user namespaces, nor does its kernel ask: there the rest of the profile is what is
//! tried. Debian 13 has both; a profile that gives everything but user namespaces stands for what Ubuntu does to programs
//! without one of their own.

use crate::installed::{INSTALLED, main_pid, on_an_installed_machine, restart};
use crate::machine::{Files, Machine, finish};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RESTRICTED: &str = "abi <abi/4.0>,
profile omni-test-restricted {
  /** rwlkm,
  /** pix,
  capability,
  network,
  unix,
  mount,
  umount,
  remount,
  pivot_root,
  signal,
  ptrace,
  mqueue,
  io_uring,
  change_profile,
}
";

fn reads(path: &str, expected: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == expected)
}

/// A profile in the kernel until it is dropped.
struct Loaded(PathBuf);

impl Loaded {
    fn new(path: PathBuf, text: &str) -> Self {
        fs::write(&path, text).unwrap();
        let output = parser("--replace", &path);
        assert!(output.status.success(), "{output:?}");
        Self(path)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = parser("--remove", &self.0);
    }
}

fn parser(option: &str, profile: &Path) -> Output {
    Command::new("apparmor_parser").arg(option).arg(profile).output().unwrap()
}

/// The profile that a process is under.
fn above(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap()
}

#[test]
fn the_installed_program_comes_under_its_profile_and_works() {
    if !reads("/sys/module/apparmor/parameters/enabled", "Y") {
        println!("skipped: this kernel runs without AppArmor");
        return;
    }
    on_an_installed_machine(Files { system: "default: true\n", ..Files::default() }, |machine| {
        let mut before = machine.start(&machine.ada, &["--no-system"], "echo up; read word");
        assert_eq!(before.line(), "up");
        assert_eq!(above(before.child.id()), "unconfined\n", "the control");
        let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/apparmor/omni")).unwrap();
        let knows = Path::new("/etc/apparmor.d/abi/4.0").exists();
        let known = match knows {
            true => shipped,
            false => shipped.replace("abi <abi/4.0>,\n", "").replace("  userns,\n", ""),
        };
        let asked = knows && reads("/sys/kernel/security/apparmor/features/namespaces/userns_create", "yes");
        let restricted = asked.then(|| Loaded::new(machine.path("restricted"), RESTRICTED));
        if restricted.is_some() {
            assert_eq!(restrictedly(machine), Some(125), "without the profile, no user namespace");
        }
        let _profile = Loaded::new(machine.path("profile"), &known);
        if restricted.is_some() {
            assert_eq!(restrictedly(machine), Some(0), "with the profile");
        }
        let mut own = machine.start(&machine.ada, &["--no-system"], "echo up; read word; echo $word");
        assert_eq!(own.line(), "up");
        assert_eq!(above(own.child.id()), "omni (unconfined)\n");
        own.say("works\n");
        assert_eq!(own.line(), "works");
        restart();
        assert_eq!(above(main_pid()), "omni (unconfined)\n");
        assert_eq!(machine.shell(&machine.bob, &[], "echo served").stdout, "served\n");
    });
}

/// How a session ends that a user starts from where the kernel gives no user namespaces.
fn restrictedly(machine: &Machine) -> Option<i32> {
    let mut command = machine.command(&machine.ada, Path::new("aa-exec"));
    command.args(["-p", "omni-test-restricted", "--", INSTALLED, "exec", "--no-system", "--", "true"]);
    finish(command, b"").code()
}
