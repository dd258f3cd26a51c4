//! What about this machine decides how a missing feature can be had.

use std::fs;
use std::path::{Path, PathBuf};

/// How the kernel writes the id map of a user namespace that is the machine's own (user_namespaces(7)).
const WHOLE_MAP: [&str; 3] = ["0", "0", "4294967295"];
/// What gVisor says of itself in `/proc/version`, whatever its own version is (pkg/sentry/fsimpl/proc).
const GVISOR_BUILD: &str = "#1 SMP Sun Jan 10 15:06:54 PST 2016";
/// What normal hosts mount below `/proc`, which hides nothing.
const HARMLESS_PROC_MOUNT: &str = "/proc/sys/fs/binfmt_misc";

/// The Windows Subsystem for Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wsl {
    /// The first version, which translates system calls and has no Linux kernel.
    One,
    /// The second, with a kernel of Microsoft's.
    Two,
}

/// The machine as far as advice depends on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// Whether the caller is user 0.
    pub root: bool,
    /// Whether all this happens in a user namespace already, where user 0 is not the machine's.
    pub nested: bool,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`.
    pub apparmor_restricts: bool,
    /// Debian's `kernel.unprivileged_userns_clone` is 0.
    pub userns_clone_off: bool,
    /// `user.max_user_namespaces` is 0.
    pub no_user_namespaces: bool,
    /// What kind of container this is.
    pub container: Option<String>,
    /// What is mounted over parts of `/proc`.
    pub proc_masks: Vec<PathBuf>,
    /// Whether the kernel is gVisor's.
    pub gvisor: bool,
    /// Whether it is WSL.
    pub wsl: Option<Wsl>,
    /// The kernel's release.
    pub kernel: String,
    /// The running program.
    pub program: PathBuf,
}

impl Machine {
    /// Looks at it.
    pub(super) fn look() -> Self {
        let sysctl = |path: &str| read(&format!("/proc/sys/{path}"));
        let uid_map = read("/proc/self/uid_map");
        Self {
            root: rustix::process::geteuid().is_root(),
            nested: !uid_map.split_whitespace().eq(WHOLE_MAP),
            apparmor_restricts: sysctl("kernel/apparmor_restrict_unprivileged_userns").trim() == "1",
            userns_clone_off: sysctl("kernel/unprivileged_userns_clone").trim() == "0",
            no_user_namespaces: sysctl("user/max_user_namespaces").trim() == "0",
            container: container(),
            proc_masks: proc_masks(&read("/proc/self/mountinfo")),
            gvisor: read("/proc/version").contains(GVISOR_BUILD),
            wsl: wsl(&read("/proc/version")),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/omni")),
        }
    }
}

/// A file of the kernel's, or nothing where it has none.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn container() -> Option<String> {
    if Path::new("/.dockerenv").exists() {
        return Some("Docker".to_owned());
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("Podman".to_owned());
    }
    // Of these, either is set by who starts the container (systemd's CONTAINER_INTERFACE, Kubernetes' service discovery).
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("Kubernetes".to_owned());
    }
    std::env::var("container").ok().filter(|name| !name.is_empty())
}

/// The mount points of mountinfo (proc_pid_mountinfo(5)) below `/proc` that hide a part of it.
fn proc_masks(mountinfo: &str) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with("/proc/") && *point != HARMLESS_PROC_MOUNT).map(PathBuf::from).collect()
}

fn wsl(version: &str) -> Option<Wsl> {
    let version = version.to_ascii_lowercase();
    match version.contains("microsoft") {
        true if version.contains("wsl2") => Some(Wsl::Two),
        true => Some(Wsl::One),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_proc_are_seen_and_a_hosts_own_mounts_are_not() {
        let mountinfo = "22 28 0:21 / /proc rw,nosuid - proc proc rw\n\
                         30 22 0:5 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
                         41 22 0:21 /sys /proc/sys ro - proc proc rw\n\
                         42 22 0:6 /null /proc/kcore rw - tmpfs tmpfs rw\n";
        assert_eq!(proc_masks(mountinfo), [PathBuf::from("/proc/sys"), PathBuf::from("/proc/kcore")]);
    }

    #[test]
    fn the_two_kinds_of_wsl_are_told_apart() {
        assert_eq!(wsl("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)"), Some(Wsl::One));
        assert_eq!(wsl("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)"), Some(Wsl::Two));
        assert_eq!(wsl("Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)"), None);
    }
}
