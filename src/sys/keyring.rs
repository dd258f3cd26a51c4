//! Keys that the kernel keeps for a user (keyrings(7)), in no file, until they are forgotten or the machine starts anew.

use std::ffi::{CStr, c_long};
use std::io;

/// The type of key that holds bytes and can be read (keyrings(7)).
const TYPE: &CStr = c"user";
/// Longest key that is read here.
const KEY_BYTES_MAX: usize = 256;

fn outcome(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Has the kernel keep a key for this user under a description, over one that it keeps already.
///
/// # Errors
/// What add_key(2) says.
pub fn keep_key(description: &CStr, key: &[u8]) -> io::Result<()> {
    // SAFETY: add_key reads two null-terminated strings and so many bytes of the key, and keeps no pointer.
    let added = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            TYPE.as_ptr(),
            description.as_ptr(),
            key.as_ptr(),
            key.len(),
            libc::KEY_SPEC_USER_KEYRING,
        )
    };
    outcome(added).map(drop)
}

/// Whether the kernel keeps a key for this user under a description.
#[must_use]
pub fn keeps_key(description: &CStr) -> bool {
    find(description).is_ok()
}

/// The key that the kernel keeps for this user under a description.
///
/// # Errors
/// What keyctl(2) says; not found where there is none, or none any more.
pub fn kept_key(description: &CStr) -> io::Result<Vec<u8>> {
    let id = find(description)?;
    let mut key = vec![0_u8; KEY_BYTES_MAX];
    // SAFETY: keyctl writes no more than so many bytes into the buffer, which lives until it returns.
    let read = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_READ, id, key.as_mut_ptr(), key.len()) };
    key.truncate(usize::try_from(outcome(read)?).unwrap_or(0));
    Ok(key)
}

/// Has the kernel forget the key under a description.
///
/// # Errors
/// What keyctl(2) says; not found where there is none.
pub fn forget_key(description: &CStr) -> io::Result<()> {
    let id = find(description)?;
    // SAFETY: the arguments are numbers.
    outcome(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_INVALIDATE, id) }).map(drop)
}

fn find(description: &CStr) -> io::Result<c_long> {
    // SAFETY: keyctl reads two null-terminated strings, and keeps no pointer.
    outcome(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_SEARCH,
            libc::KEY_SPEC_USER_KEYRING,
            TYPE.as_ptr(),
            description.as_ptr(),
            0,
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn a_kept_key_is_there_until_it_is_forgotten() {
        let own = CString::new(format!("omni:test:{}", std::process::id())).unwrap();
        match keep_key(&own, b"0123456789") {
            // Containers commonly refuse their users all of this.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES)) => {
                return println!("skipped: the kernel keeps no keys here: {error}");
            }
            kept => kept.unwrap(),
        }
        match kept_key(&own) {
            // A process that was started outside of a login does not possess the user's keyring.
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                return println!("skipped: this process may not read its user's keys: {error}");
            }
            kept => assert_eq!(kept.unwrap(), b"0123456789"),
        }
        keep_key(&own, b"another").unwrap();
        assert_eq!(kept_key(&own).unwrap(), b"another");
        assert!(keeps_key(&own));
        forget_key(&own).unwrap();
        assert!(kept_key(&own).is_err() && !keeps_key(&own));
    }
}
