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

/// Ignores a signal.
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub fn ignore_signal(which: Signal) -> io::Result<()> {
    // SAFETY: no handler function is installed, so none can break async-signal-safety.
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}
