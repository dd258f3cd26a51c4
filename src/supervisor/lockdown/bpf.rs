//! The instructions of classic BPF that filters are put together from (linux/filter.h), and what they look at
//! (`struct seccomp_data`, linux/seccomp.h).

use seccompiler::sock_filter;

/// Where the call's number is.
pub(super) const NUMBER: u32 = 0;
/// Where the architecture is.
pub(super) const ARCHITECTURE: u32 = 4;

/// Where the `n`th argument's low half is, on machines that store that first.
pub(super) const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

/// Loads 32 bits into the accumulator.
pub(super) const fn load(offset: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Ends with an answer.
pub(super) const fn answer(value: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

/// Skips so many instructions.
pub(super) const fn jump(count: u32) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JA, 0, 0, count)
}

/// Skips `then` instructions where the accumulator is `value`, else `other`.
pub(super) const fn equal(value: u32, then: u8, other: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, then, other, value)
}

/// Skips `then` instructions where the accumulator is `value` or more, else `other`.
pub(super) const fn at_least(value: u32, then: u8, other: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, then, other, value)
}

/// Skips `then` instructions where the accumulator has any of these bits, else `other`.
pub(super) const fn any_of(bits: u32, then: u8, other: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, then, other, bits)
}

const fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
