//! Every file call of a fold, of the ledger's first key and of its first signature fails, or omni is killed at it: what comes
//! after finds every frame once, and a ledger that is whole.

use crate::calls::name;
use crate::tracer::{Deed, Role, Target, Trace, follow};
use omni::model::{EndReason, Event, ExitStatus, RequestNumber, SessionId, Timestamp, Writer};
use omni::store::{Home, Journal, Recorder};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Calls on files. What else fails is the machine's and the runtime's.
const FILE_CALLS: [i64; 26] = [
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_fchmod,
    libc::SYS_chmod,
    libc::SYS_getdents64,
];

/// Those that need room on the disk.
const ROOM_CALLS: [i64; 7] = [
    libc::SYS_openat,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_mkdir,
    libc::SYS_rename,
];

/// Frames of each of two sessions' proxy journals: enough for a hash of the second level.
const FRAMES: u64 = 140;

fn record(home: &Path, byte: u8) {
    let (session, home) = (SessionId::from_entropy([byte; 10]), Home::open(home).unwrap());
    let mut proxy = Journal::create(&home, &session, Writer::Proxy).unwrap();
    let mut supervisor = Journal::create(&home, &session, Writer::Session).unwrap();
    for request in 1..=FRAMES {
        let event = Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() };
        proxy.record(Timestamp(request.cast_signed()), &event).unwrap();
    }
    let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
    supervisor.record(Timestamp(FRAMES.cast_signed() + 1), &ended).unwrap();
}

fn proxy_journal(home: &Path, byte: u8) -> PathBuf {
    Home::open(home).unwrap().journal(&SessionId::from_entropy([byte; 10]), Writer::Proxy)
}

/// `omni audit checkpoint` in a home where one session is entered already, and due to be packed, and another is not.
#[allow(clippy::zombie_processes, reason = "whoever follows it reaps it")]
fn checkpoint(home: &Path, target: Option<(Target, Deed)>) -> (Trace, String) {
    let mut command = Command::new("/bin/sh");
    // It stops itself, so that it is followed before it becomes omni.
    command
        .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_omni"))
        .args(["audit", "checkpoint"]);
    command.env("OMNI_HOME", home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let trace = follow(&child, target, &|| {});
    (trace, reader.join().unwrap())
}

fn omni(home: &Path, arguments: &[&str]) -> (String, String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_omni")).env("OMNI_HOME", home).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.success())
}

fn prepared() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().join("home");
    record(&home, 1);
    assert!(omni(&home, &["sessions"]).2);
    for writer in ["session", "proxy"] {
        let path = proxy_journal(&home, 1).with_file_name(format!("{writer}.journal"));
        let long_ago = SystemTime::now() - Duration::from_secs(7_200);
        File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    record(&home, 2);
    place
}

/// What is wrong after a fault; nothing where all is well.
fn wrong_after(home: &Path) -> Option<String> {
    let (_, err, done) = omni(home, &["audit", "checkpoint"]);
    if !done {
        return Some(format!("the next cannot sign: {err}"));
    }
    for arguments in
        [&["audit", "verify", "--json"][..], &["audit", "verify", "--json", "--files", home.to_str().unwrap()]]
    {
        let (out, err, done) = omni(home, arguments);
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let Some(ledger) = lines.iter().find(|line| line.get("entries").is_some()) else {
            return Some(format!("there is no ledger: {err}"));
        };
        let entries = 2 * (FRAMES + 1) + 1;
        if !done || ledger["entries"] != entries || ledger["signed"] != entries {
            return Some(format!("{ledger}: {err}"));
        }
    }
    None
}

/// Of each kind of call the first and the last, or all.
fn targets(calls: &[(Option<Role>, i64)], deed: Deed) -> Vec<Target> {
    let all = std::env::var("OMNI_FAULTS").is_ok_and(|value| value == "all");
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    let kinds = if deed == Deed::Fail(libc::ENOSPC) { &ROOM_CALLS[..] } else { &FILE_CALLS };
    calls.iter().filter(|(role, call)| *role == Some(Role::Session) && kinds.contains(call)).for_each(|(_, call)| {
        *counts.entry(*call).or_default() += 1;
    });
    let chosen = |count: usize| match all {
        true => (1..=count).collect(),
        false => BTreeSet::from([1, count]),
    };
    let one = |(call, count): (i64, usize)| {
        chosen(count).into_iter().map(move |occurrence| Target { role: Role::Session, call, occurrence })
    };
    counts.into_iter().flat_map(one).collect()
}

fn try_each(deed: Deed) {
    let place = prepared();
    let (trace, err) = checkpoint(&place.path().join("home"), None);
    assert_eq!(trace.ended, 0, "{err}");
    let version = |byte| std::fs::read(proxy_journal(&place.path().join("home"), byte)).unwrap()[9];
    assert_eq!((version(1), version(2)), (2, 1), "one was packed on the way");
    let targets = targets(&trace.calls, deed);
    let touched = |call| targets.iter().any(|target| target.call == call);
    assert!([libc::SYS_write, libc::SYS_pwrite64, libc::SYS_fsync].into_iter().all(touched));
    let mut wrong = Vec::new();
    for target in targets {
        let place = prepared();
        let home = place.path().join("home");
        let (trace, err) = checkpoint(&home, Some((target, deed)));
        let told = trace.ended == 0 || deed == Deed::Kill || !err.is_empty();
        let found = match () {
            () if err.contains("panicked") => Some("it panicked".to_owned()),
            () if trace.stuck => Some("it waited for ever".to_owned()),
            () if !told => Some(format!("it ended with {} and said `{err}`", trace.ended)),
            () => wrong_after(&home),
        };
        wrong.extend(found.map(|what| format!("{} {}: {what}", name(target.call), target.occurrence)));
    }
    assert!(wrong.is_empty(), "{deed:?}:\n{}", wrong.join("\n"));
}

#[test]
fn a_fold_that_meets_a_broken_disk_loses_and_repeats_nothing() {
    try_each(Deed::Fail(libc::EIO));
}

#[test]
fn a_fold_that_meets_a_full_disk_loses_and_repeats_nothing() {
    try_each(Deed::Fail(libc::ENOSPC));
}

#[test]
fn a_fold_that_is_killed_loses_and_repeats_nothing() {
    try_each(Deed::Kill);
}
