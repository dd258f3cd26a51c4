//! The strings that the kernel put on the first stack page: `/proc/PID/environ` and `/proc/PID/cmdline` show them.

use std::io;

/// Overwrites the process's environment with zero bytes and forgets it.
///
/// For a process that was cloned from one with secrets in its environment and will never read it again.
pub fn erase_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: `environ` is null or a null-terminated array of null-terminated strings, in writable memory that the
    // kernel or libc owns for the whole life of the process; the caller's process has one thread, so nobody reads
    // them meanwhile, and afterwards the array is empty, so nobody can later.
    unsafe {
        if environ.is_null() {
            return;
        }
        let mut entry = environ;
        while !(*entry).is_null() {
            let length = libc::strlen(*entry);
            std::ptr::write_bytes(*entry, 0, length);
            entry = entry.add(1);
        }
        *environ = std::ptr::null_mut();
    }
}

/// Overwrites the process's command line, so that `/proc/PID/cmdline` shows nothing but `title`, as far as it fits.
///
/// For a process that was cloned from one whose command line is nobody's business where the clone can be seen.
///
/// # Errors
/// Where `/proc/self/stat` cannot be read.
pub fn replace_command_line(title: &str) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let Some((start, end)) = command_line_bounds(&stat) else {
        return Err(io::Error::other("/proc/self/stat does not say where the command line is"));
    };
    let length = end.saturating_sub(start);
    let shown = title.len().min(length.saturating_sub(1));
    let place = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel says that these bytes, which it wrote to the stack at exec, are this process's command line; they
    // are writable and live as long as the process. The caller's process has one thread and has read what it wants
    // of them: the standard library keeps their address and would from here on find empty strings.
    unsafe {
        std::ptr::write_bytes(place, 0, length);
        std::ptr::copy_nonoverlapping(title.as_ptr(), place, shown);
    }
    Ok(())
}

/// The fields `arg_start` and `arg_end` of a `stat` line (proc(5), fields 48 and 49). The program's name, in
/// parentheses, may hold anything, parentheses too.
fn command_line_bounds(stat: &str) -> Option<(usize, usize)> {
    const ARG_START_AFTER_STATE: usize = 48 - 3;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(ARG_START_AFTER_STATE);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start != 0 && start <= end).then_some((start, end))
}

/// Whether the environment has a non-empty variable of this name, found without making a copy of its value.
#[must_use]
pub fn environment_has(name: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(name) else { return false };
    // SAFETY: the name is a valid string; the answer is null or a null-terminated string that nothing in this process
    // changes while it is looked at, since the environment is never set after the start (clippy.toml bans it).
    unsafe {
        let value = libc::getenv(name.as_ptr());
        !value.is_null() && *value != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_found_behind_a_misleading_name() {
        let line = format!("7 (a) S 1) S {} 1000 1020 3 4 0", (4..48).map(|_| "5").collect::<Vec<_>>().join(" "));
        assert_eq!(command_line_bounds(&line), Some((1000, 1020)));
        assert_eq!(command_line_bounds("nonsense"), None);
        assert_eq!(command_line_bounds(&line.replace("1000 1020", "1020 1000")), None);
    }
}
