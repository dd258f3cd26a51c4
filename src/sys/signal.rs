//! Signal dispositions without handlers.

use nix::sys::signal::{SigHandler, Signal, signal};
use std::io;

/// Gives a signal its default action again.
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub fn reset_signal(which: Signal) -> io::Result<()> {
    // SAFETY: no handler function is installed, so none can break async-signal-safety.
    unsafe { signal(which, SigHandler::SigDfl) }?;
    Ok(())
}

/// Whether a signal is ignored.
#[must_use]
pub fn is_ignored(which: Signal) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the present one to `now`, which has room for it, and where it
    // succeeds it has written all of it.
    unsafe {
        libc::sigaction(which as libc::c_int, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
