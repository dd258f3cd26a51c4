//! A plan as `omni exec --dry-run` prints it and as errors name its steps: one step a line.

use super::{Access, Contents, Identity, LockdownStep, NAMESPACES, Plan, Step};
use crate::harness::SSH_AGENT;
use crate::model::Tier;
use std::fmt;
use std::path::PathBuf;

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{} bytes", text.len()),
            Self::CaBundle => f.write_str("the host's certificates and the session's CA"),
            Self::CaCertificate => f.write_str("the session's CA"),
            Self::CaKeyStore => f.write_str("the host's certificates and the session's CA, for Java"),
            Self::Unreadable => f.write_str("not to be read"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname(name) => write!(f, "hostname {name}"),
            Self::PrivateMounts => f.write_str("mounts private"),
            Self::Root { bytes } => write!(f, "root in memory, at most {bytes} bytes"),
            Self::Private { path, mode, bytes } => {
                write!(f, "private {} mode {mode:04o}, at most {bytes} bytes", path.display())
            }
            Self::Link { path, target } => write!(f, "link {} -> {}", path.display(), target.display()),
            Self::Bind { mount, owner, .. } => {
                write!(f, "bind {}", mount.target.display())?;
                if mount.source != mount.target {
                    write!(f, " from {}", mount.source.display())?;
                }
                write!(f, " {}", mount.access)?;
                owner.map_or(Ok(()), |(uid, gid)| write!(f, " as its owner {uid}:{gid}"))
            }
            Self::Overlay { mount, layer, owner, .. } => {
                write!(f, "overlay {}", mount.target.display())?;
                if mount.source != mount.target {
                    write!(f, " from {}", mount.source.display())?;
                }
                write!(f, ", changes to {}", layer.display())?;
                owner.map_or(Ok(()), |(uid, gid)| write!(f, " as its owner {uid}:{gid}"))
            }
            Self::File { path, mode, contents } => write!(f, "file {} mode {mode:04o}: {contents}", path.display()),
            Self::Cover { path, contents } => write!(f, "cover {} read-only: {contents}", path.display()),
            Self::Devices { bytes } => write!(
                f,
                "devices null zero full random urandom tty, terminals, shared memory of at most {bytes} bytes"
            ),
            Self::Processes => f.write_str("processes of the new namespace at /proc"),
            Self::SealRoot => f.write_str("root read-only"),
            Self::Enter => f.write_str("enter the root, let go of the host's"),
            Self::Loopback => f.write_str("loopback up, every address local"),
            Self::Capture => f.write_str("every new TCP connection to the proxy"),
            Self::Listen => f.write_str("listen for the proxy"),
            Self::Directory { path, mode } => write!(f, "directory {} mode {mode:04o}", path.display()),
            Self::SshAgent => write!(f, "listen for the proxy at {SSH_AGENT}, as an SSH agent"),
            Self::HandOver => f.write_str("connections to the gateway to the proxy, one by one"),
        }
    }
}

impl fmt::Display for LockdownStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { limit, amount } => write!(f, "at most {amount} {limit}"),
            Self::DropCapabilities => f.write_str("drop every capability"),
            Self::NoNewPrivileges => f.write_str("no new privileges"),
            Self::Landlock { write, sockets } => {
                f.write_str("landlock: write only below")?;
                write.iter().try_for_each(|path| write!(f, " {}", path.display()))?;
                let also = if sockets.is_empty() { "" } else { ", make sockets only there and below" };
                f.write_str(also)?;
                sockets.iter().try_for_each(|path| write!(f, " {}", path.display()))
            }
            Self::Gate(gate) => {
                f.write_str("write gate: but for protected names, write also below")?;
                gate.hosts.iter().try_for_each(|place| write!(f, " {}", place.display()))
            }
            Self::LandlockScopes => f.write_str("landlock: no signals out, no abstract sockets outside"),
            Self::Seccomp => f.write_str("system call filter"),
            Self::SeccompNesting => f.write_str("system call filter, with user namespaces and mounts in them"),
            Self::Enclose { read, devices, write } => {
                let shown = |f: &mut fmt::Formatter<'_>, paths: &[PathBuf]| {
                    paths.iter().try_for_each(|path| write!(f, " {}", path.display()))
                };
                f.write_str("landlock: read only below")?;
                shown(f, read)?;
                f.write_str("; devices")?;
                shown(f, devices)?;
                f.write_str("; write only below")?;
                shown(f, write)?;
                f.write_str("; no TCP, no signals out")
            }
            Self::SeccompNotifying => f.write_str("system call filter, connecting and permissions by process 1"),
        }
    }
}

impl fmt::Display for Plan {
    /// One step a line, as `omni exec --dry-run` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { uid, gid, kernel_uid, kernel_gid } = &self.identity;
        match self.tier {
            Tier::Full => writeln!(f, "namespaces {}", NAMESPACES.join(" "))?,
            tier => writeln!(f, "tier {tier}, no namespaces")?,
        }
        self.gaps.iter().try_for_each(|gap| writeln!(f, "gap: {gap}"))?;
        writeln!(f, "identity {uid}:{gid} (kernel {kernel_uid}:{kernel_gid})")?;
        for limit in &self.limits.held {
            writeln!(f, "limit {limit}")?;
        }
        for group in &self.limits.groups {
            writeln!(f, "group below {}", group.directory().display())?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        writeln!(f, "wait for the go")?;
        self.lockdown.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        writeln!(f, "directory {}", self.directory.display())?;
        for (name, value) in &self.environment {
            writeln!(f, "env {name}={}", value.escape_debug())?;
        }
        writeln!(f, "terminal {}", if self.terminal.is_some() { "of its own" } else { "none" })?;
        writeln!(
            f,
            "exec {} as {}",
            self.program.display(),
            self.argv.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
        )
    }
}
