//! Looking for a text in the memory of every process of a sandbox, from outside.

use memchr::memmem::Finder;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE_BYTES: u64 = 4096;
/// How much is searched at a time, and how much of it again with what follows: more than any text that is looked for.
const PIECE_BYTES: usize = 1 << 20;
const OVERLAP: usize = 256;
/// Pages that are looked up at a time.
const PAGES: u64 = 4096;
/// Bits of an entry of /proc/PID/pagemap (proc_pid_pagemap(5)): in memory, or swapped out.
const THERE: u64 = 1 << 63 | 1 << 62;

/// The processes in the sandbox of the omni process with this pid: its descendants in another process namespace.
pub fn inside(omni: u32) -> Vec<u32> {
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let elsewhere = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace != own);
    all.filter(elsewhere).filter(|pid| descends(*pid, omni)).collect()
}

/// The processes that run this program and descend from a process, in this process namespace.
pub fn of_program(ancestor: u32, program: &Path) -> Vec<u32> {
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let here = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace == own);
    let runs = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|runs| runs == program);
    all.filter(|pid| here(pid) && runs(pid) && descends(*pid, ancestor)).collect()
}

fn descends(mut pid: u32, ancestor: u32) -> bool {
    while let Some(parent) = parent(pid) {
        if parent == ancestor {
            return true;
        }
        pid = parent;
    }
    false
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Whether a process has `needle` anywhere in its memory. The last character of `needle` should be a rare one. One that ended
/// meanwhile has no memory.
///
/// # Panics
/// When the memory cannot be read.
pub fn holds(pid: u32, needle: &str) -> bool {
    any_part(pid, |memory, from, to| occurs(memory, from, to, needle))
}

/// Which of these texts, which may end as they like, a process has in its memory.
///
/// # Panics
/// When the memory cannot be read.
pub fn held<N: AsRef<[u8]>>(pid: u32, needles: &[N]) -> Vec<&N> {
    let finders: Vec<_> = needles.iter().map(|needle| Finder::new(needle)).collect();
    let mut held = BTreeSet::new();
    any_part(pid, |memory, from, to| {
        let (mut piece, mut at) = (vec![0; PIECE_BYTES], from);
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            // Pages that went away meanwhile end the part.
            let Ok(read @ 1..) = memory.read_at(&mut piece[..wanted], at) else { break };
            let found = |number: &usize| finders[*number].find(&piece[..read]).is_some();
            held.extend((0..finders.len()).filter(found));
            // What the next piece begins with may have begun in this one.
            at += if read > OVERLAP { (read - OVERLAP) as u64 } else { read as u64 };
            if at + OVERLAP as u64 >= to {
                break;
            }
        }
        false
    });
    held.into_iter().map(|number| &needles[number]).collect()
}

/// Whether something is so of any part of a process's memory.
fn any_part(pid: u32, mut is_so: impl FnMut(&File, u64, u64) -> bool) -> bool {
    let open = |name: &str| File::open(format!("/proc/{pid}/{name}"));
    let (maps, memory, pagemap) = match (fs::read_to_string(format!("/proc/{pid}/maps")), open("mem"), open("pagemap"))
    {
        (Ok(maps), Ok(memory), Ok(pagemap)) => (maps, memory, pagemap),
        _ if has_ended(pid) => return false,
        opened => panic!("the memory of {pid} cannot be read: {opened:?}"),
    };
    for region in maps.lines().filter_map(region) {
        let Some(parts) = present(&pagemap, region) else {
            assert!(has_ended(pid), "the pagemap of {pid} ends before its region");
            return false;
        };
        if parts.into_iter().any(|(from, to)| is_so(&memory, from, to)) {
            return true;
        }
    }
    false
}

/// Whether a process is gone, or lets go of its memory.
fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default().is_empty()
}

/// A readable region that is no kernel page, as its first and last address.
fn region(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let readable = fields.next()?.starts_with('r') && !line.contains("[v");
    let address = |text| u64::from_str_radix(text, 16).ok();
    readable.then_some((address(from)?, address(to)?))
}

/// The parts of a region that have memory behind them; some programs reserve far more than there is. None where the process
/// has no memory any more.
fn present(pagemap: &File, (from, to): (u64, u64)) -> Option<Vec<(u64, u64)>> {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut entries = vec![0; usize::try_from(PAGES * 8).unwrap()];
    let (mut page, last) = (from / PAGE_BYTES, to / PAGE_BYTES);
    while page < last {
        let wanted = usize::try_from((last - page).min(PAGES) * 8).unwrap();
        let read = pagemap.read_at(&mut entries[..wanted], page * 8).unwrap();
        if read == 0 {
            return None;
        }
        for entry in entries[..read].chunks_exact(8) {
            if u64::from_ne_bytes(entry.try_into().unwrap()) & THERE != 0 {
                let start = page * PAGE_BYTES;
                match parts.last_mut() {
                    Some((_, end)) if *end == start => *end += PAGE_BYTES,
                    _ => parts.push((start, start + PAGE_BYTES)),
                }
            }
            page += 1;
        }
    }
    Some(parts)
}

/// Whether the text occurs between two addresses. Pages that went away meanwhile end the part.
fn occurs(mut memory: &File, from: u64, to: u64, needle: &str) -> bool {
    memory.seek(SeekFrom::Start(from)).unwrap();
    passes(BufReader::with_capacity(1 << 20, memory.take(to - from)), needle)
}

/// Whether bytes hold the text.
pub fn is_in(bytes: &[u8], needle: &str) -> bool {
    passes(bytes, needle)
}

/// Whether the text passes by. It is looked for by its last character, which the standard library finds quickly.
fn passes(mut reader: impl BufRead, needle: &str) -> bool {
    let last = needle.as_bytes()[needle.len() - 1];
    let mut piece = Vec::new();
    while reader.read_until(last, &mut piece).is_ok_and(|read| read > 0) {
        if piece.ends_with(needle.as_bytes()) {
            return true;
        }
        // Of what was before, only the beginning of the needle can matter.
        let keep = piece.len().min(needle.len());
        piece.drain(..piece.len() - keep);
    }
    false
}
