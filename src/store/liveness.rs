//! Whether the process that ran a session is still there, and the machine still up.

/// Tells one start of the machine from another (proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where proc(5) has the start time in `/proc/PID/stat`, counted from the state, which is field 3.
const START_AFTER_STATE: usize = 22 - 3;

/// When a process started, in the kernel's clock ticks since boot (proc(5), field 22 of `stat`); none when there is no
/// such process or only its corpse. Together with the process id this names a process for as long as the machine is up.
#[must_use]
pub fn process_start_ticks(pid: u32) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// What tells this start of the machine from any other; none where the kernel does not say.
pub(super) fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The start time in a `stat` line. The program's name, in parentheses, may hold anything, parentheses too.
fn parse(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let dead = matches!(state, "Z" | "X" | "x");
    let start = fields.nth(START_AFTER_STATE - 1)?.parse().ok();
    start.filter(|_| !dead)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_cannot_hide_behind_its_name() {
        let line = |state: &str| {
            format!(
                "7 (a) R 1) {state} 1 7 7 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 987654 1000 10 18446744073709551615\n"
            )
        };
        assert_eq!(parse(&line("S")), Some(987_654));
        assert_eq!(parse(&line("Z")), None);
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_process_lives_and_a_killed_one_does_not() {
        assert!(process_start_ticks(std::process::id()).is_some());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(process_start_ticks(child.id()).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process_start_ticks(child.id()), None);
    }
}
