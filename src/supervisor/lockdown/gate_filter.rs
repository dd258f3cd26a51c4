//! The filter that asks the write gate: a program of its own beside the one that refuses, which counts first where both
//! have something to say (seccomp(2)).

use super::super::gate::ASKED;
use super::bpf;
use super::filter::NEWEST_KNOWN;
use super::search::{Answer, tree};
use seccompiler::BpfProgram;
use std::collections::BTreeMap;
use std::io;

/// Any of these makes opening a file a matter for the gate. With none of them it only reads, and costs nothing.
const WRITES: i32 = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;

/// Puts it together: what is not asked about is allowed.
pub(super) fn program() -> io::Result<BpfProgram> {
    let ask = bpf::answer(libc::SECCOMP_RET_USER_NOTIF);
    let allow = bpf::answer(libc::SECCOMP_RET_ALLOW);
    let opens = [(libc::SYS_openat, 2), (libc::SYS_open, 1)];
    let mut answers = BTreeMap::new();
    for call in ASKED {
        answers.insert(number(*call)?, Answer::Ask);
    }
    for (call, _) in opens {
        answers.insert(number(call)?, Answer::Look);
    }
    let mut program = vec![bpf::load(bpf::NUMBER)];
    program.extend(tree(&answers, NEWEST_KNOWN)?);
    for (call, flags) in opens {
        program.extend([
            bpf::equal(number(call)?, 0, 5),
            bpf::load(bpf::argument(flags)),
            // A path alone writes nothing, whatever else stands beside it (open(2), O_PATH).
            bpf::any_of(libc::O_PATH.cast_unsigned(), 2, 0),
            bpf::any_of(WRITES.cast_unsigned(), 0, 1),
            ask.clone(),
            allow.clone(),
        ]);
    }
    program.push(allow);
    Ok(program)
}

fn number(call: i64) -> io::Result<u32> {
    u32::try_from(call).map_err(io::Error::other)
}
