//! A user's own service manager gives a session the group that its limits need, as docs/limits.md says.

use crate::machine::{Machine, finish};
use std::path::Path;
use std::process::Command;

const GUIDE: &str = include_str!("../../docs/limits.md");
const COMMAND: &str = "systemd-run --user --scope -q -p Delegate=yes omni exec --memory 8GiB -- claude-code";

#[test]
fn a_users_manager_gives_a_session_with_limits_its_group() {
    if std::env::var("OMNI_TEST_MAY_INSTALL").as_deref() != Ok("1") || !Path::new("/run/systemd/system").is_dir() {
        println!("skipped: starts a user's service manager, which takes systemd and OMNI_TEST_MAY_INSTALL=1");
        return;
    }
    assert!(GUIDE.contains(COMMAND), "the guide has the command that is tried");
    let machine = Machine::without_a_server();
    let manager = Manager::start(machine.ada.uid);
    let run = |memory: &str, size: u32| {
        let command =
            COMMAND.replace("8GiB", memory).replace("claude-code", &format!("python3 -c 'bytearray({size} << 20)'"));
        let command = command.replace(" omni exec ", &format!(" {} exec --no-system ", machine.binary().display()));
        let mut shell = machine.command(&machine.ada, Path::new("/bin/sh"));
        shell.args(["-c", &command]).env_remove("OMNI_SYSTEM_SOCKET").env("XDG_RUNTIME_DIR", &manager.runtime);
        finish(shell, b"")
    };
    let enough = run("200MiB", 50);
    assert_eq!(enough.code(), Some(0), "{enough:?}");
    let little = run("100MiB", 400);
    assert_eq!(little.code(), Some(123), "{little:?}");
    assert!(little.stderr.contains("memory"), "{little:?}");
}

/// A user's service manager, as a login starts one.
struct Manager {
    unit: String,
    runtime: String,
}

impl Manager {
    fn start(uid: u32) -> Self {
        let manager = Self { unit: format!("user@{uid}.service"), runtime: format!("/run/user/{uid}") };
        let output = Command::new("systemctl").args(["start", &manager.unit]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        manager
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", &self.unit]).status();
    }
}
