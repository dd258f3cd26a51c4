//! A word of memory that a process shares with those that are forked from it.

use std::io;
use std::sync::atomic::AtomicU32;

/// A word, at first zero, for as long as the process lives: what is forked from now on reads and writes the same one.
///
/// # Errors
/// The error of mmap(2).
pub fn shared_word() -> io::Result<&'static AtomicU32> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses a place that nothing else is in; there is no file, so that nothing can be cut off it.
    let place = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU32>(), access, kind, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping begins at a page, is larger than the word, holds zeros, which are a valid word, and is never
    // taken away. Other processes reach it by atomic operations alone, too.
    Ok(unsafe { &*place.cast::<AtomicU32>() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn two_words_are_two() {
        let (one, other) = (shared_word().unwrap(), shared_word().unwrap());
        one.store(7, Ordering::Relaxed);
        assert_eq!((one.load(Ordering::Relaxed), other.load(Ordering::Relaxed)), (7, 0));
    }
}
