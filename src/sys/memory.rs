//! Memory that this process can do without.

use std::ffi::{c_int, c_void};

/// Gives back to the kernel what lies free in the heap (malloc_trim(3)).
pub fn return_free_memory() {
    // SAFETY: it takes the allocator's own locks, and only gives back pages in which nothing is allocated.
    unsafe { libc::malloc_trim(0) };
}

/// Lets go of the program's own code and constants: they come back page by page from the file as they are used. What a start
/// needed and a rest does not is then nobody's, if no other process uses it.
pub fn let_go_of_code() {
    // SAFETY: the callback matches what dl_iterate_phdr(3) calls, reads nothing but what it is given, and does not unwind.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of_first), std::ptr::null_mut()) };
}

/// Lets go of one object's segments, and says that this was enough: the first object is the program.
unsafe extern "C" fn let_go_of_first(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the caller gives a valid structure for the time of the call.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: the array has that many entries, as long as the object is loaded, which the program is for ever.
    let segments = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
    // SAFETY: it reads a constant of the running system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs();
    for segment in segments.iter().filter(|one| one.p_type == libc::PT_LOAD && one.p_flags & libc::PF_W == 0) {
        let start = (object.dlpi_addr + segment.p_vaddr) / page * page;
        let end = (object.dlpi_addr + segment.p_vaddr + segment.p_memsz) / page * page;
        let bytes = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        // SAFETY: the range is part of a mapping of the program's file that nothing ever writes to, so that what comes back
        // is what was there. Relocations are applied to segments that may be written alone.
        unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start as usize), bytes, libc::MADV_DONTNEED) };
    }
    1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is mapped of files and in memory, in KiB (proc_pid_status(5)).
    fn resident_of_files() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn a_program_goes_on_without_what_it_let_go_of() {
        let texts: Vec<String> = (0..1000).map(|number| format!("text {number}")).collect();
        let before = resident_of_files();
        let_go_of_code();
        let after = resident_of_files();
        return_free_memory();
        assert!(after < before, "{before} KiB before, {after} after");
        assert_eq!(texts.iter().map(String::len).sum::<usize>(), 7890);
    }
}
