//! From a path of a caller to a directory that is held open and a name in it.
//!
//! Paths mean the same to the gate as to its callers, who share its root directory, but for `/proc/self` and what lies
//! behind it: no link of that kind is ever followed here.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Few paths are longer.
const PATH_BYTES_USUAL: usize = 256;

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory.
    pub directory: OwnedFd,
    /// Its path, with every link followed.
    pub path: Vec<u8>,
    /// The name as the kernel is to be given it: with the slash at its end that it was written with.
    pub name: CString,
}

impl Place {
    /// Finds where a path leads, its last name left alone.
    pub(super) fn find(base: Option<OwnedFd>, path: &CStr) -> Result<Self, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let (above, name) = split(path.to_bytes());
        let directory = match base {
            Some(base) if above == b"." => base,
            base => open(base.as_ref().map(AsFd::as_fd), above, OFlags::PATH | OFlags::DIRECTORY)?,
        };
        let path = path_of_directory(directory.as_fd())?;
        Ok(Self { directory, path, name: CString::new(name).map_err(|_| Errno::INVAL)? })
    }

    /// Whether the name is one that something can have: `.` and `..` are had by what is there already, and every act on
    /// them fails.
    pub(super) fn is_named(&self) -> bool {
        !matches!(self.plain_name(), b"." | b"..")
    }

    /// The whole path.
    pub(super) fn whole(&self) -> Vec<u8> {
        let above = if self.path == b"/" { &[][..] } else { &self.path[..] };
        [above, b"/", self.plain_name()].concat()
    }

    fn plain_name(&self) -> &[u8] {
        let name = self.name.to_bytes();
        name.strip_suffix(b"/").unwrap_or(name)
    }
}

/// The directories of a path, and its last name with at most one slash behind it.
fn split(path: &[u8]) -> (&[u8], Vec<u8>) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut name = path[start..end].to_vec();
    if name.is_empty() {
        return (b"/", b".".to_vec());
    }
    if end < path.len() {
        name.push(b'/');
    }
    (if start == 0 { b"." } else { &path[..start] }, name)
}

/// Opens a path as the caller means it, following links but none of `/proc`'s own.
pub(super) fn open(base: Option<BorrowedFd<'_>>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::openat2(base.unwrap_or(CWD), path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// Where something that is open lies (proc_pid_fd(5)). What has been removed has ` (deleted)` behind its name, and what
/// was never anywhere has no slash before it.
pub(super) fn path_of(file: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    Ok(rustix::fs::readlinkat(CWD, own(file), Vec::with_capacity(PATH_BYTES_USUAL))?.into_bytes())
}

/// Where a directory lies. Entering it and asking for the way takes a fifth of the time of a look at the link that
/// [`path_of`] reads. A directory that was removed is nowhere, and nothing can be made in it; one that the root directory
/// does not lead to is told without a slash at its beginning (getcwd(2)), and is nobody's business here.
fn path_of_directory(directory: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    rustix::process::fchdir(directory)?;
    let path = rustix::process::getcwd(Vec::with_capacity(PATH_BYTES_USUAL))?.into_bytes();
    if path.starts_with(b"/") { Ok(path) } else { Err(Errno::ACCESS) }
}

/// The path by which this process reaches what it has open.
pub(super) fn own(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The caller's own descriptor that a path names by the customary ways.
pub(super) fn descriptor_in(path: &CStr) -> Option<i32> {
    let path = path.to_bytes();
    match path {
        b"/dev/stdin" => return Some(0),
        b"/dev/stdout" => return Some(1),
        b"/dev/stderr" => return Some(2),
        _ => {}
    }
    let number = path.strip_prefix(b"/proc/self/fd/").or_else(|| path.strip_prefix(b"/dev/fd/"))?;
    let digits = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(number).ok().filter(|_| digits)?.parse().ok()
}

/// A path below a directory that the caller has open, or works in, as named by its own links in `/proc`: the number of the
/// descriptor, or AT_FDCWD, and the rest.
pub(super) fn through_own_link(path: &[u8]) -> Option<(i32, &[u8])> {
    let own = [&b"/proc/self/"[..], b"/proc/thread-self/"].into_iter().find_map(|own| path.strip_prefix(own));
    let link = own.or_else(|| path.strip_prefix(b"/dev/"))?;
    let rest = |link: &'static [u8]| own.and_then(|own| own.strip_prefix(link));
    let (number, rest) = match rest(b"cwd/") {
        Some(rest) => (libc::AT_FDCWD, rest),
        None => {
            let numbered = link.strip_prefix(b"fd/")?;
            let slash = numbered.iter().position(|byte| *byte == b'/')?;
            let number = std::str::from_utf8(&numbered[..slash]).ok()?;
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            (number.parse().ok().filter(|_| digits)?, &numbered[slash..])
        }
    };
    let start = rest.iter().position(|byte| *byte != b'/')?;
    Some((number, &rest[start..]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_is_split_off() {
        for (path, above, name) in [
            ("a", ".", "a"),
            ("a/", ".", "a/"),
            ("a/b//", "a/", "b/"),
            ("/a", "/", "a"),
            ("/", "/", "."),
            ("//", "/", "."),
            ("a/..", "a/", ".."),
            ("../x", "../", "x"),
        ] {
            assert_eq!(split(path.as_bytes()), (above.as_bytes(), name.as_bytes().to_vec()), "{path}");
        }
    }

    #[test]
    fn descriptors_have_their_names() {
        for (path, number) in [
            ("/dev/stdout", Some(1)),
            ("/dev/fd/7", Some(7)),
            ("/proc/self/fd/12", Some(12)),
            ("/proc/self/fd/", None),
            ("/proc/self/fd/1/x", None),
            ("/proc/1/fd/1", None),
            ("/dev/fd/99999999999", None),
        ] {
            assert_eq!(descriptor_in(&CString::new(path).unwrap()), number, "{path}");
        }
    }

    #[test]
    fn own_links_lead_below_what_is_open() {
        for (path, found) in [
            ("/proc/self/fd/16/new", Some((16, "new"))),
            ("/proc/thread-self/fd/3//a/b", Some((3, "a/b"))),
            ("/dev/fd/7/x", Some((7, "x"))),
            ("/proc/self/cwd/x/", Some((libc::AT_FDCWD, "x/"))),
            ("/proc/self/fd/16", None),
            ("/proc/self/fd/16/", None),
            ("/proc/self/fd/+1/x", None),
            ("/proc/self/root/x", None),
            ("/proc/1/fd/3/x", None),
            ("/dev/cwd/x", None),
            ("/dev/shm/x", None),
        ] {
            let expected = found.map(|(number, rest)| (number, rest.as_bytes()));
            assert_eq!(through_own_link(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn a_place_is_where_links_lead() {
        let home = tempfile::tempdir().unwrap();
        let real = home.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", home.path().join("link")).unwrap();
        let path = CString::new(home.path().join("link/new").display().to_string()).unwrap();
        let place = Place::find(None, &path).unwrap();
        assert_eq!(place.whole(), real.join("new").display().to_string().into_bytes());
        assert_eq!(Place::find(None, c"/proc/self/cwd/x").unwrap_err(), Errno::LOOP);
    }
}
