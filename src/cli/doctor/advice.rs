//! How to get what is missing, from the error and the machine. Each piece of advice is lines for a person, commands
//! among them.

use super::machine::{Machine, Wsl};
use crate::supervisor::Feature;
use std::path::Path;

/// The oldest kernel that has every call a sandbox is built with (mount_setattr(2)).
const KERNEL_OLDEST: &str = "5.12";

/// What to do about a feature that was tried and failed with `errno`.
pub(super) fn advice(feature: Feature, errno: Option<i32>, machine: &Machine) -> Vec<String> {
    if machine.gvisor {
        return gvisor();
    }
    match feature {
        Feature::UserNamespaces | Feature::Namespaces => namespaces(errno, machine),
        Feature::IdMaps if machine.root && machine.nested => vec![
            "you are root of a container's user namespace alone, and cannot map an id of your own:".to_owned(),
            "run omni as an ordinary user of the container".to_owned(),
        ],
        Feature::IdMaps | Feature::Mounts | Feature::Terminals | Feature::Loopback => namespaces(errno, machine),
        Feature::Processes => processes(errno, machine),
        Feature::Capture | Feature::Listeners => packet_filter(errno, machine),
        Feature::Owners => owners(),
        Feature::Overlays => kernel_option("CONFIG_OVERLAY_FS", machine),
        Feature::Landlock => landlock(errno),
        Feature::LandlockWhole => vec!["only the tier `landlock` needs it; Linux 6.12 and later have it".to_owned()],
        Feature::Notifications | Feature::WriteGate => notifications(errno, machine),
        Feature::Seccomp => kernel_option("CONFIG_SECCOMP_FILTER", machine),
        Feature::CloseRange | Feature::OpenBeneath | Feature::MemoryFiles => newer_kernel(machine),
    }
}

/// A kernel in a program, which has part of Linux's.
fn gvisor() -> Vec<String> {
    vec![
        "this kernel is gVisor's (runsc), and no setting of it adds this: run omni on the machine outside, or in a"
            .to_owned(),
        "container of another runtime (runc)".to_owned(),
    ]
}

/// Each way in which distributions and containers forbid namespaces, the surest sign first.
fn namespaces(errno: Option<i32>, machine: &Machine) -> Vec<String> {
    if machine.wsl == Some(Wsl::One) {
        return vec!["WSL 1 has none; in PowerShell: wsl --set-version DISTRIBUTION 2".to_owned()];
    }
    if machine.no_user_namespaces {
        return no_user_namespaces(machine);
    }
    if machine.userns_clone_off && !machine.root {
        return sysctl("kernel.unprivileged_userns_clone", 1);
    }
    if machine.apparmor_restricts && !machine.root {
        return apparmor(&machine.program);
    }
    if let Some(container) = &machine.container {
        return in_container(container);
    }
    match errno {
        Some(libc::ENOSPC) => vec![
            "too many namespaces exist already, or they are nested too deep:".to_owned(),
            "look at `sysctl user`, and raise what is used up".to_owned(),
        ],
        Some(libc::ENOSYS | libc::EINVAL) => kernel_option("CONFIG_USER_NS and CONFIG_NET_NS", machine),
        _ => vec![
            "a security module or a filter on system calls forbids it:".to_owned(),
            "see `journalctl -k --grep 'apparmor|avc|seccomp'`".to_owned(),
        ],
    }
}

fn no_user_namespaces(machine: &Machine) -> Vec<String> {
    if machine.nested {
        return vec![
            "user.max_user_namespaces is 0 in the user namespace that this runs in:".to_owned(),
            "whoever made that (a container, another sandbox) forbids more; run omni outside of it".to_owned(),
        ];
    }
    sysctl("user.max_user_namespaces", 15_000)
}

/// For a switch that is 0.
fn sysctl(name: &str, value: u32) -> Vec<String> {
    vec![
        format!("{name} is 0: sudo sysctl -w {name}={value}"),
        format!("and for good: echo {name}={value} | sudo tee /etc/sysctl.d/60-omni.conf"),
    ]
}

/// Ubuntu 23.10 and later let only programs with an AppArmor profile have them.
fn apparmor(program: &Path) -> Vec<String> {
    let program = program.display();
    vec![
        "kernel.apparmor_restrict_unprivileged_userns is 1 (Ubuntu): give omni a profile that may,".to_owned(),
        format!(
            "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile omni {program} flags=(unconfined) \
             {{\\n  userns,\\n}}\\n' | sudo tee /etc/apparmor.d/omni && sudo apparmor_parser -r /etc/apparmor.d/omni"
        ),
        "or lift it for every program: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned(),
    ]
}

fn in_container(container: &str) -> Vec<String> {
    match container {
        "Kubernetes" => vec![
            "this looks like a pod: set securityContext.seccompProfile.type and .appArmorProfile.type to Unconfined,"
                .to_owned(),
            "and procMount: Unmasked with hostUsers: false".to_owned(),
        ],
        _ => {
            let proc = if container == "Podman" { "unmask=ALL" } else { "systempaths=unconfined" };
            vec![
                format!("this looks like a container ({container}), whose defaults forbid it; start it with"),
                format!("--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt {proc}"),
            ]
        }
    }
}

fn processes(errno: Option<i32>, machine: &Machine) -> Vec<String> {
    if errno != Some(libc::EPERM) || machine.proc_masks.is_empty() {
        return namespaces(errno, machine);
    }
    let masks: Vec<_> = machine.proc_masks.iter().take(3).map(|mask| mask.display().to_string()).collect();
    let mut lines =
        vec![format!("something is mounted over {}; the kernel shows no new /proc then:", masks.join(", "))];
    match &machine.container {
        Some(container) => lines.extend(in_container(container)),
        None => lines.push("unmount it, or run omni outside of the container or sandbox that did it".to_owned()),
    }
    lines
}

fn packet_filter(errno: Option<i32>, machine: &Machine) -> Vec<String> {
    match errno {
        Some(libc::EPERM | libc::EACCES) => namespaces(errno, machine),
        _ if machine.wsl.is_some() => {
            vec!["the kernel of WSL lacks nft_tproxy; in PowerShell: wsl --update".to_owned()]
        }
        _ if machine.container.is_some() => {
            vec!["on the host, since a container loads no modules: sudo modprobe -a nf_tables nft_tproxy".to_owned()]
        }
        _ => vec![
            "sudo modprobe -a nf_tables nft_tproxy".to_owned(),
            "and for good: printf 'nf_tables\\nnft_tproxy\\n' | sudo tee /etc/modules-load.d/omni.conf".to_owned(),
            format!("a kernel of your own ({}) needs CONFIG_NFT_TPROXY", machine.kernel),
        ],
    }
}

fn owners() -> Vec<String> {
    vec![
        "the file system here has no id-mapped mounts (ext4, xfs, btrfs and tmpfs of newer kernels do):".to_owned(),
        "work in another directory, or run omni as an ordinary user, who does not need them".to_owned(),
    ]
}

fn landlock(errno: Option<i32>) -> Vec<String> {
    match errno {
        Some(libc::EOPNOTSUPP) => {
            vec!["the kernel has it and did not start it: add `landlock` to the boot parameter lsm=".to_owned()]
        }
        _ => vec!["optional; Linux 5.13 and later have it with CONFIG_SECURITY_LANDLOCK".to_owned()],
    }
}

fn notifications(errno: Option<i32>, machine: &Machine) -> Vec<String> {
    match errno {
        Some(libc::EBUSY) => vec![
            "whoever started this (a container runtime, WSL's init) answers system calls already, and only one may:"
                .to_owned(),
            "run omni outside of it, or in the tier `full`".to_owned(),
        ],
        _ => newer_kernel(machine),
    }
}

fn kernel_option(option: &str, machine: &Machine) -> Vec<String> {
    match &machine.container {
        Some(container) => in_container(container),
        None => vec![format!("the kernel ({}) was built without {option}", machine.kernel)],
    }
}

fn newer_kernel(machine: &Machine) -> Vec<String> {
    match &machine.container {
        Some(container) => in_container(container),
        None => vec![format!("the kernel is {}: Linux {KERNEL_OLDEST} or later has it", machine.kernel)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(feature: Feature, errno: i32, machine: &Machine) -> String {
        advice(feature, Some(errno), machine).swap_remove(0)
    }

    #[test]
    fn every_known_way_of_forbidding_namespaces_has_its_own_way_out() {
        let plain = Machine { kernel: "6.8.0".to_owned(), program: "/opt/omni".into(), ..Machine::default() };
        let namespaces = |machine: &Machine| advice(Feature::UserNamespaces, Some(libc::EPERM), machine).join("\n");
        let wsl = Machine { wsl: Some(Wsl::One), ..plain.clone() };
        assert!(namespaces(&wsl).contains("wsl --set-version"));
        let none = Machine { no_user_namespaces: true, ..plain.clone() };
        assert!(namespaces(&none).contains("sysctl -w user.max_user_namespaces=15000"));
        let nested = Machine { nested: true, ..none };
        assert!(namespaces(&nested).contains("run omni outside of it"));
        let debian = Machine { userns_clone_off: true, ..plain.clone() };
        assert!(namespaces(&debian).contains("sysctl -w kernel.unprivileged_userns_clone=1"));
        let ubuntu = Machine { apparmor_restricts: true, ..plain.clone() };
        assert!(namespaces(&ubuntu).contains("profile omni /opt/omni flags=(unconfined)"));
        let docker = Machine { container: Some("Docker".to_owned()), ..plain.clone() };
        assert!(namespaces(&docker).contains("--security-opt seccomp=unconfined"));
        assert!(namespaces(&plain).contains("journalctl"));
    }

    #[test]
    fn restrictions_of_ordinary_users_are_no_advice_for_root() {
        let ubuntu = Machine { apparmor_restricts: true, root: true, ..Machine::default() };
        assert!(first(Feature::Namespaces, libc::EPERM, &ubuntu).contains("security module"));
    }

    #[test]
    fn a_masked_proc_is_told_from_a_forbidden_one() {
        let masked = Machine {
            proc_masks: vec!["/proc/kcore".into()],
            container: Some("Docker".to_owned()),
            ..Machine::default()
        };
        let lines = advice(Feature::Processes, Some(libc::EPERM), &masked);
        assert!(lines[0].contains("mounted over /proc/kcore"));
        assert!(lines[2].contains("systempaths=unconfined"));
    }

    #[test]
    fn a_missing_module_is_loaded_where_it_can_be() {
        let load = |machine: &Machine| first(Feature::Capture, libc::ENOENT, machine);
        assert_eq!(load(&Machine::default()), "sudo modprobe -a nf_tables nft_tproxy");
        assert!(
            load(&Machine { container: Some("Podman".to_owned()), ..Machine::default() }).starts_with("on the host")
        );
        assert!(load(&Machine { wsl: Some(Wsl::Two), ..Machine::default() }).contains("wsl --update"));
    }
}
