//! A call as the kernel reports it becomes an act with its operands. Nothing is read of the caller's memory here.

use crate::sys::NotifiedCall;

/// A path of the caller: where it is relative to, and where in its memory it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub directory: i32,
    pub path: u64,
}

/// What an act on attributes is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// What is there, or the link itself.
    Path { at: At, follow: bool },
    /// What the caller has open.
    Descriptor(i32),
}

/// An act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Open {
        at: At,
        flags: i32,
        mode: u32,
    },
    MakeDirectory {
        at: At,
        mode: u32,
    },
    MakeNode {
        at: At,
        mode: u32,
        device: u64,
    },
    Rename {
        from: At,
        to: At,
        flags: u32,
    },
    Link {
        from: At,
        to: At,
        flags: i32,
    },
    Symlink {
        target: u64,
        at: At,
    },
    Remove {
        at: At,
        directory: bool,
    },
    Truncate {
        at: At,
        length: u64,
    },
    Mode {
        on: On,
        mode: u32,
    },
    Owner {
        on: On,
        uid: u32,
        gid: u32,
    },
    SetAttribute {
        on: On,
        name: u64,
        value: u64,
        size: u64,
        flags: i32,
    },
    RemoveAttribute {
        on: On,
        name: u64,
    },
    /// The kernel does it, and the gate knows of it.
    Mask,
}

/// Every call that the gate is asked about whatever its arguments are. Those that open files come with their flags: see
/// the filter.
pub(in crate::supervisor) const ASKED: &[i64] = &[
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_truncate,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_umask,
];

/// fchmodat2(2), Linux 6.6.
const SYS_FCHMODAT2: i64 = 452;

/// What the low half of a register holds, which is what the kernel takes of an `int`.
#[allow(clippy::cast_possible_truncation)]
fn low(register: u64) -> u32 {
    register as u32
}

fn int(register: u64) -> i32 {
    low(register).cast_signed()
}

/// Makes an act of a call; none for one that the filter does not ask about.
pub(super) fn decode(call: &NotifiedCall) -> Option<Call> {
    let [a, b, c, d, e, _] = call.arguments;
    let here = |path| At { directory: libc::AT_FDCWD, path };
    let at = |directory, path| At { directory: int(directory), path };
    let on = |path, follow| On::Path { at: here(path), follow };
    let on_at = |directory, path, flags| on_at(at(directory, path), int(flags));
    let number = i64::from(call.number);
    Some(match number {
        libc::SYS_open => Call::Open { at: here(a), flags: int(b), mode: low(c) },
        libc::SYS_openat => Call::Open { at: at(a, b), flags: int(c), mode: low(d) },
        libc::SYS_creat => {
            Call::Open { at: here(a), flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode: low(b) }
        }
        libc::SYS_mkdir => Call::MakeDirectory { at: here(a), mode: low(b) },
        libc::SYS_mkdirat => Call::MakeDirectory { at: at(a, b), mode: low(c) },
        libc::SYS_mknod => Call::MakeNode { at: here(a), mode: low(b), device: c },
        libc::SYS_mknodat => Call::MakeNode { at: at(a, b), mode: low(c), device: d },
        libc::SYS_rename => Call::Rename { from: here(a), to: here(b), flags: 0 },
        libc::SYS_renameat => Call::Rename { from: at(a, b), to: at(c, d), flags: 0 },
        libc::SYS_renameat2 => Call::Rename { from: at(a, b), to: at(c, d), flags: low(e) },
        libc::SYS_link => Call::Link { from: here(a), to: here(b), flags: 0 },
        libc::SYS_linkat => Call::Link { from: at(a, b), to: at(c, d), flags: int(e) },
        libc::SYS_symlink => Call::Symlink { target: a, at: here(b) },
        libc::SYS_symlinkat => Call::Symlink { target: a, at: at(b, c) },
        libc::SYS_unlink => Call::Remove { at: here(a), directory: false },
        libc::SYS_rmdir => Call::Remove { at: here(a), directory: true },
        libc::SYS_unlinkat => Call::Remove { at: at(a, b), directory: int(c) & libc::AT_REMOVEDIR != 0 },
        libc::SYS_truncate => Call::Truncate { at: here(a), length: b },
        libc::SYS_chmod => Call::Mode { on: on(a, true), mode: low(b) },
        libc::SYS_fchmod => Call::Mode { on: On::Descriptor(int(a)), mode: low(b) },
        libc::SYS_fchmodat => Call::Mode { on: on_at(a, b, 0), mode: low(c) },
        SYS_FCHMODAT2 => Call::Mode { on: on_at(a, b, d), mode: low(c) },
        libc::SYS_chown => Call::Owner { on: on(a, true), uid: low(b), gid: low(c) },
        libc::SYS_lchown => Call::Owner { on: on(a, false), uid: low(b), gid: low(c) },
        libc::SYS_fchown => Call::Owner { on: On::Descriptor(int(a)), uid: low(b), gid: low(c) },
        libc::SYS_fchownat => Call::Owner { on: on_at(a, b, e), uid: low(c), gid: low(d) },
        libc::SYS_setxattr => Call::SetAttribute { on: on(a, true), name: b, value: c, size: d, flags: int(e) },
        libc::SYS_lsetxattr => Call::SetAttribute { on: on(a, false), name: b, value: c, size: d, flags: int(e) },
        libc::SYS_fsetxattr => {
            Call::SetAttribute { on: On::Descriptor(int(a)), name: b, value: c, size: d, flags: int(e) }
        }
        libc::SYS_removexattr => Call::RemoveAttribute { on: on(a, true), name: b },
        libc::SYS_lremovexattr => Call::RemoveAttribute { on: on(a, false), name: b },
        libc::SYS_fremovexattr => Call::RemoveAttribute { on: On::Descriptor(int(a)), name: b },
        libc::SYS_umask => Call::Mask,
        _ => return None,
    })
}

/// A path with AT flags. Whether an empty one means the directory itself turns out when it is read.
fn on_at(at: At, flags: i32) -> On {
    On::Path { at, follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(number: i64, arguments: [u64; 6]) -> Option<Call> {
        decode(&NotifiedCall { id: 0, thread: 1, number: i32::try_from(number).unwrap_or(-1), arguments })
    }

    #[test]
    fn every_call_that_is_asked_about_is_an_act() {
        for number in ASKED.iter().chain(&[libc::SYS_open, libc::SYS_openat]) {
            assert!(decoded(*number, [0; 6]).is_some(), "{number}");
        }
        assert_eq!(decoded(libc::SYS_read, [0; 6]), None);
    }

    #[test]
    fn operands_are_where_the_kernel_takes_them_from() {
        let here = libc::AT_FDCWD;
        let minus_100 = 0xffff_ffff_ffff_ff9c;
        for (number, arguments, act) in [
            (
                libc::SYS_openat,
                [minus_100, 7, 0x41, 0o644, 0, 0],
                Call::Open { at: At { directory: here, path: 7 }, flags: 0x41, mode: 0o644 },
            ),
            (
                libc::SYS_renameat2,
                [3, 7, 4, 8, 1, 0],
                Call::Rename { from: At { directory: 3, path: 7 }, to: At { directory: 4, path: 8 }, flags: 1 },
            ),
            (libc::SYS_symlinkat, [7, 3, 8, 0, 0, 0], Call::Symlink { target: 7, at: At { directory: 3, path: 8 } }),
            (
                libc::SYS_unlinkat,
                [3, 7, 0x200, 0, 0, 0],
                Call::Remove { at: At { directory: 3, path: 7 }, directory: true },
            ),
            (libc::SYS_fchmod, [3, 0o700, 0, 0, 0, 0], Call::Mode { on: On::Descriptor(3), mode: 0o700 }),
            (
                libc::SYS_fchownat,
                [3, 7, 1, 2, 0x100, 0],
                Call::Owner { on: On::Path { at: At { directory: 3, path: 7 }, follow: false }, uid: 1, gid: 2 },
            ),
        ] {
            assert_eq!(decoded(number, arguments), Some(act));
        }
    }
}
