//! Which process the kernel killed for want of memory, as its log says where this user may read it (dmesg(1)).
//!
//! Only for the message to a person: that something was killed is counted by the group itself.

use crate::model::KilledProcess;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Most messages that are read.
const MESSAGES_MAX: usize = 16 * 1024;
/// The kernel's own limit for one message (printk's CONSOLE_EXT_LOG_MAX).
const MESSAGE_BYTES_MAX: usize = 8192;
/// Longest name that is passed on; the kernel's own are at most 15 bytes.
const NAME_BYTES_MAX: usize = 15;

/// The kernel's log from now on.
#[derive(Debug)]
pub(super) struct Victims {
    log: OwnedFd,
    group: String,
}

impl Victims {
    /// Begins to watch for kills in the group of this name; none where the log may not be read.
    pub(super) fn watch(group: &str) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok()?;
        rustix::fs::seek(&log, SeekFrom::End(0)).ok()?;
        Some(Self { log, group: group.to_owned() })
    }

    /// The first process that was killed in it.
    pub(super) fn first(&self) -> Option<KilledProcess> {
        let mut message = [0; MESSAGE_BYTES_MAX];
        for _ in 0..MESSAGES_MAX {
            let length = match rustix::io::read(&self.log, &mut message) {
                Ok(length) if length > 0 => length,
                // Older messages were overwritten; the next read goes on behind the gap.
                Err(Errno::PIPE | Errno::INTR) => continue,
                _ => return None,
            };
            let killed = victim(&String::from_utf8_lossy(&message[..length]), &self.group);
            if killed.is_some() {
                return killed;
            }
        }
        None
    }
}

/// A line such as `…oom-kill:…,oom_memcg=/a/GROUP,task_memcg=/a/GROUP,task=python3,pid=17,uid=1000` (mm/oom_kill.c).
fn victim(line: &str, group: &str) -> Option<KilledProcess> {
    let (_, about) = line.split_once("oom-kill:")?;
    let (_, memcg) = about.split_once("oom_memcg=")?;
    let (path, rest) = memcg.split_once(",task_memcg=")?;
    if path.rsplit('/').next() != Some(group) {
        return None;
    }
    let (_, task) = rest.split_once(",task=")?;
    let (name, rest) = task.rsplit_once(",pid=")?;
    let (pid, _) = rest.split_once(',')?;
    // A program chooses its own name: nothing of it may steer the terminal that shows it.
    let plain = |letter: char| if letter.is_ascii_graphic() { letter } else { '?' };
    Some(KilledProcess { pid: pid.parse().ok()?, name: name.chars().take(NAME_BYTES_MAX).map(plain).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "6,900,77,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
        oom_memcg=/a/omni-5-b,task_memcg=/a/omni-5-b,task=py,t\u{1b}[1m,pid=1234,uid=1000\n";

    #[test]
    fn the_victim_is_found_in_its_own_group_and_cannot_steer_a_terminal() {
        assert_eq!(victim(LINE, "omni-5-b"), Some(KilledProcess { pid: 1234, name: "py,t?[1m".to_owned() }));
        assert_eq!(victim(LINE, "omni-5"), None);
        assert_eq!(victim("6,1,1,-;usb 1-1: new device", "omni-5-b"), None);
    }
}
