//! Which means holds which limit. The deciding is pure; [`plan_limits`] looks at the machine first.

use super::hierarchy::{self, Controller, Hierarchy, Parent, Unusable, Version};
use crate::model::{HeldLimit, LimitHolder, LimitKind};
use crate::policy::Limits;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Processes and threads of a session whose profile says nothing: more than any build needs, and few enough that a fork
/// bomb leaves the machine its process ids and memory.
pub const PIDS_DEFAULT: u64 = 8192;
/// The period by which processor time is dealt out, in microseconds: the kernel's own default.
const PERIOD_US: u64 = 100_000;
/// The kernel deals out no less than a millisecond a period.
const CPUS_MILLI_MIN: u64 = 10;
/// Process 1 of the sandbox is omni's and counts for the kernel.
pub(super) const PIDS_OF_OURS: u64 = 1;

/// A file of a group, and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub file: &'static str,
    pub value: String,
    /// Whether a kernel without the file holds the limit all the same.
    pub optional: bool,
}

/// One group that is made for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    pub(super) parent: Parent,
    /// The limits that it holds.
    pub(super) held: Vec<HeldLimit>,
    pub(super) settings: Vec<Setting>,
}

impl GroupPlan {
    /// The directory that the group is made in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.parent.directory
    }
}

/// The limits of a session, and the groups that hold some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitPlan {
    /// Every limit, in the order of their kinds.
    pub held: Vec<HeldLimit>,
    /// The groups to make.
    pub groups: Vec<GroupPlan>,
}

impl LimitPlan {
    /// How much of something there may be, when this is what holds it.
    #[must_use]
    pub fn amount(&self, limit: LimitKind, held_by: LimitHolder) -> Option<u64> {
        self.held.iter().find(|held| held.limit == limit && held.held_by == held_by).map(|held| held.amount)
    }
}

/// Why a limit cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The kernel gives no means that this user may use.
    #[error("nothing here can hold the limit on `{limit}`: {why}; {advice}")]
    Unheld {
        /// Which.
        limit: LimitKind,
        /// What is missing.
        why: String,
        /// How to get it.
        advice: String,
    },
    /// Less than the kernel can deal out.
    #[error("`cpus` cannot be {0} thousandths: the least is 0.01")]
    TooLittle(u64),
    /// The workspace is the user's own, whose growth nothing bounds.
    #[error("`limits.disk` bounds the changes of an overlay workspace: use it with `--fs overlay`, or remove it")]
    NoOverlay,
}

/// What the machine offers.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers {
    pub hierarchies: Vec<Hierarchy>,
    pub root: bool,
    pub systemd: bool,
}

/// Decides what holds each limit that was asked for, having looked at the machine where that is needed.
///
/// # Errors
/// [`LimitError`] for one that nothing here can hold.
pub fn plan_limits(asked: &Limits, overlay: bool, duration: Option<Duration>) -> Result<LimitPlan, LimitError> {
    let asks_for_groups = asked.memory.is_some() || asked.pids.is_some() || asked.cpus.is_some();
    let offers = match asks_for_groups {
        false => Offers::default(),
        true => Offers {
            // What cannot be read offers nothing, and the message says so.
            hierarchies: hierarchy::look().unwrap_or_default(),
            root: rustix::process::geteuid().is_root(),
            systemd: Path::new("/run/systemd/system").is_dir(),
        },
    };
    if asked.disk.is_some() && !overlay {
        return Err(LimitError::NoOverlay);
    }
    let mut plan = decide(asked, &offers)?;
    let clock = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    plan.held.extend(clock.map(|amount| HeldLimit { limit: LimitKind::Duration, amount, held_by: LimitHolder::Clock }));
    Ok(plan)
}

pub(super) fn decide(asked: &Limits, offers: &Offers) -> Result<LimitPlan, LimitError> {
    let mut plan = LimitPlan::default();
    let cpus = asked.cpus.map(milli);
    if let Some(little) = cpus.filter(|milli| *milli < CPUS_MILLI_MIN) {
        return Err(LimitError::TooLittle(little));
    }
    for (kind, controller, amount) in [
        (LimitKind::Memory, Controller::Memory, asked.memory),
        (LimitKind::Pids, Controller::Pids, asked.pids),
        (LimitKind::Cpus, Controller::Cpu, cpus),
    ] {
        let Some(amount) = amount else { continue };
        match hierarchy::parent(&offers.hierarchies, controller) {
            Ok(parent) => plan.hold_by_group(parent, kind, amount),
            // In a user namespace of its own, the kernel counts a user's processes there alone (since Linux 5.14).
            Err(_) if kind == LimitKind::Pids => plan.hold(kind, amount, LimitHolder::Rlimit),
            Err(why) => {
                return Err(LimitError::Unheld {
                    limit: kind,
                    why: describe(&why, controller),
                    advice: advice(offers),
                });
            }
        }
    }
    for (kind, amount, holder) in [
        (LimitKind::Files, asked.files, LimitHolder::Rlimit),
        (LimitKind::Tmp, asked.tmp, LimitHolder::Tmpfs),
        (LimitKind::Disk, asked.disk, LimitHolder::Watch),
        (LimitKind::DiskFree, asked.disk_free, LimitHolder::Watch),
    ] {
        if let Some(amount) = amount {
            plan.hold(kind, amount, holder);
        }
    }
    Ok(plan)
}

impl LimitPlan {
    fn hold(&mut self, limit: LimitKind, amount: u64, held_by: LimitHolder) {
        self.held.push(HeldLimit { limit, amount, held_by });
    }

    /// Limits whose groups have one parent share one group.
    fn hold_by_group(&mut self, parent: Parent, limit: LimitKind, amount: u64) {
        let version = parent.version;
        let held = HeldLimit { limit, amount, held_by: holder(version) };
        self.held.push(held);
        let settings = settings(version, limit, amount);
        match self.groups.iter_mut().find(|group| group.parent.directory == parent.directory) {
            Some(group) => {
                group.parent.leave |= parent.leave;
                group.parent.enable.extend(parent.enable);
                group.held.push(held);
                group.settings.extend(settings);
            }
            None => self.groups.push(GroupPlan { parent, held: vec![held], settings }),
        }
    }
}

fn holder(version: Version) -> LimitHolder {
    match version {
        Version::V1 => LimitHolder::CgroupV1,
        Version::V2 => LimitHolder::CgroupV2,
    }
}

/// What is written into a group, in order (the kernel's admin-guide/cgroup-v1 and cgroup-v2).
fn settings(version: Version, limit: LimitKind, amount: u64) -> Vec<Setting> {
    let needed = |file, value: String| Setting { file, value, optional: false };
    let wanted = |file, value: String| Setting { file, value, optional: true };
    let pids = amount.saturating_add(PIDS_OF_OURS).to_string();
    let quota = (PERIOD_US.saturating_mul(amount) / 1000).to_string();
    match (version, limit) {
        (Version::V2, LimitKind::Memory) => vec![
            needed("memory.max", amount.to_string()),
            wanted("memory.swap.max", "0".to_owned()),
            // One for all: what is left of a session whose process was taken away is of no use.
            needed("memory.oom.group", "1".to_owned()),
        ],
        (Version::V1, LimitKind::Memory) => vec![
            needed("memory.limit_in_bytes", amount.to_string()),
            // Memory and swap together: no swap. Where the kernel does not count swap, at least it does not prefer it.
            wanted("memory.memsw.limit_in_bytes", amount.to_string()),
            wanted("memory.swappiness", "0".to_owned()),
        ],
        (_, LimitKind::Pids) => vec![needed("pids.max", pids)],
        (Version::V2, LimitKind::Cpus) => vec![needed("cpu.max", format!("{quota} {PERIOD_US}"))],
        (Version::V1, LimitKind::Cpus) => {
            vec![needed("cpu.cfs_period_us", PERIOD_US.to_string()), needed("cpu.cfs_quota_us", quota)]
        }
        _ => Vec::new(),
    }
}

/// Processors in thousandths.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn milli(cpus: f64) -> u64 {
    // A cast stops at the largest number there is; profiles have positive, finite ones.
    (cpus * 1000.0).round() as u64
}

fn describe(why: &Unusable, controller: Controller) -> String {
    let name = controller.name();
    let path = |path: &PathBuf| path.display().to_string();
    match why {
        Unusable::Absent => format!("no control group with the `{name}` controller is offered to this process"),
        Unusable::Foreign(group) => format!("the control group {} is not yours to divide", path(group)),
        Unusable::Shared(group) => {
            format!("the control group {} holds other processes, so that it cannot be divided", path(group))
        }
    }
}

fn advice(offers: &Offers) -> String {
    match offers {
        Offers { systemd: true, root: true, .. } => {
            "start it in a group of its own: systemd-run --scope -p Delegate=yes omni exec …".to_owned()
        }
        Offers { systemd: true, .. } => {
            "start it in a group of its own: systemd-run --user --scope -p Delegate=yes omni exec …".to_owned()
        }
        Offers { root: true, .. } => {
            "start omni where /sys/fs/cgroup is mounted read-write and its own group is its alone".to_owned()
        }
        _ => "have root give you a control group of your own to start omni in (docs/limits.md says how)".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
#[path = "decide_tests.rs"]
mod tests;
