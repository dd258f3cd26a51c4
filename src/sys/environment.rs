//! The strings that the kernel put on the first stack page: `/proc/PID/environ` and `/proc/PID/cmdline` show them.

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
