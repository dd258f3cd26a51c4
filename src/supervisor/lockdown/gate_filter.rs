//! The filter that asks the write gate: a program of its own beside the one that refuses, which counts first where both
//! have something to say (seccomp(2)).

use super::super::gate::ASKED;
use seccompiler::{BpfProgram, sock_filter};
use std::io;

/// Any of these makes opening a file a matter for the gate. With none of them it only reads, and costs nothing.
const WRITES: i32 = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;

/// Where `struct seccomp_data` (linux/seccomp.h) has its `n`th argument's low half, on machines that store that first.
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

/// Puts it together: what is not asked about is allowed.
pub(super) fn program() -> io::Result<BpfProgram> {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let any_of = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let ask = step(answer, 0, 0, libc::SECCOMP_RET_USER_NOTIF);
    let allow = step(answer, 0, 0, libc::SECCOMP_RET_ALLOW);
    let mut program = vec![step(load, 0, 0, 0)];
    for (call, flags) in [(libc::SYS_openat, 2), (libc::SYS_open, 1)] {
        program.extend([
            step(equal, 0, 5, number(call)?),
            step(load, 0, 0, argument(flags)),
            // A path alone writes nothing, whatever else stands beside it (open(2), O_PATH).
            step(any_of, 2, 0, libc::O_PATH.cast_unsigned()),
            step(any_of, 0, 1, WRITES.cast_unsigned()),
            ask.clone(),
            allow.clone(),
        ]);
    }
    for call in ASKED {
        program.extend([step(equal, 0, 1, number(*call)?), ask.clone()]);
    }
    program.push(allow);
    Ok(program)
}

fn number(call: i64) -> io::Result<u32> {
    u32::try_from(call).map_err(io::Error::other)
}
