//! What a session may use up, and what keeps it from using more.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that a session may use up, by the key that profiles write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Memory of all its processes together, in bytes.
    Memory,
    /// Its processes and threads at a time.
    Pids,
    /// Processor time, in thousandths of one processor.
    Cpus,
    /// Open files of each process.
    Files,
    /// Room in each directory that lives in memory, in bytes.
    Tmp,
    /// Room for the changes to an overlay workspace, in bytes.
    Disk,
    /// Room that must stay free on the workspace's file system, in bytes.
    DiskFree,
    /// Time from start to end, in milliseconds.
    Duration,
}

impl LimitKind {
    /// The key in a profile, and the name in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpus => "cpus",
            Self::Files => "files",
            Self::Tmp => "tmp",
            Self::Disk => "disk",
            Self::DiskFree => "disk_free",
            Self::Duration => "duration",
        }
    }

    /// An amount of it, as a person reads it.
    #[must_use]
    pub fn amount(self, amount: u64) -> String {
        match self {
            Self::Memory | Self::Tmp | Self::Disk | Self::DiskFree => size(amount),
            Self::Pids | Self::Files => amount.to_string(),
            Self::Cpus if amount.is_multiple_of(1000) => (amount / 1000).to_string(),
            Self::Cpus => format!("{}.{:03}", amount / 1000, amount % 1000).trim_end_matches('0').to_owned(),
            Self::Duration => format!("{:?}", std::time::Duration::from_millis(amount)),
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A size in the largest unit that divides it.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = |(unit, _): &&(u64, &str)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match UNITS.iter().find(whole) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

/// What holds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitHolder {
    /// A control group of version 2 (cgroups(7)).
    CgroupV2,
    /// Control groups of version 1.
    CgroupV1,
    /// A resource limit of processes (getrlimit(2)).
    Rlimit,
    /// The size of a file system in memory (tmpfs(5)).
    Tmpfs,
    /// The session's own clock, which ends it.
    Clock,
    /// The session's process, which looks from time to time, and ends it.
    Watch,
}

impl fmt::Display for LimitHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupV2 => "cgroup v2",
            Self::CgroupV1 => "cgroup v1",
            Self::Rlimit => "rlimit",
            Self::Tmpfs => "tmpfs",
            Self::Clock => "clock",
            Self::Watch => "watch",
        })
    }
}

/// A limit that a session has, and what holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeldLimit {
    /// Of what.
    pub limit: LimitKind,
    /// How much, in the unit of the kind.
    pub amount: u64,
    /// What holds it.
    pub held_by: LimitHolder,
}

impl fmt::Display for HeldLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.limit, self.limit.amount(self.amount), self.held_by)
    }
}

/// A process that a limit ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KilledProcess {
    /// Its id on the host.
    pub pid: u32,
    /// Its name, which it chose itself.
    pub name: String,
}

/// How a limit was reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReachedLimit {
    /// Which.
    #[serde(flatten)]
    pub held: HeldLimit,
    /// How often: processes that were killed, that could not be made, or periods in which processor time was withheld.
    pub times: u64,
    /// The process that the kernel killed first, where the kernel lets us know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<KilledProcess>,
}

impl fmt::Display for ReachedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, times, process } = self;
        if held.limit == LimitKind::DiskFree {
            let floor = held.limit.amount(held.amount);
            return write!(f, "{}: less than {floor} was left on the disk; the session was ended", held.limit);
        }
        write!(f, "{}: {} reached", held.limit, held.limit.amount(held.amount))?;
        match held.limit {
            LimitKind::Memory => match process {
                Some(KilledProcess { pid, name }) => {
                    write!(f, "; process {pid} ({name}) was killed, and the session with it")
                }
                None => f.write_str("; the session was killed"),
            },
            LimitKind::Pids => write!(f, "; {times} times a process or thread could not be made"),
            LimitKind::Cpus => write!(f, "; it had to wait in {times} periods of 100 ms"),
            LimitKind::Disk => f.write_str("; the session was ended"),
            LimitKind::DiskFree | LimitKind::Files | LimitKind::Tmp | LimitKind::Duration => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_they_are_written() {
        let written = [
            (LimitKind::Memory, 64 << 20, "64 MiB"),
            (LimitKind::Memory, 8 << 30, "8 GiB"),
            (LimitKind::Tmp, 1_000_000, "1000000 B"),
            (LimitKind::Pids, 64, "64"),
            (LimitKind::Cpus, 1500, "1.5"),
            (LimitKind::Cpus, 2000, "2"),
            (LimitKind::Cpus, 10, "0.01"),
            (LimitKind::Duration, 90_000, "90s"),
        ];
        for (kind, amount, text) in written {
            assert_eq!(kind.amount(amount), text);
        }
    }

    #[test]
    fn a_kill_is_told_with_its_limit_and_its_victim() {
        let held = HeldLimit { limit: LimitKind::Memory, amount: 64 << 20, held_by: LimitHolder::CgroupV1 };
        let process = Some(KilledProcess { pid: 1234, name: "python3".to_owned() });
        let told = ReachedLimit { held, times: 1, process }.to_string();
        assert_eq!(told, "memory: 64 MiB reached; process 1234 (python3) was killed, and the session with it");
    }
}
