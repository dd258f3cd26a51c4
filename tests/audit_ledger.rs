//! The ledger as a person uses it: what it proves, to whom, and what of it can be changed without being found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use assert_cmd::Command;
use omni::model::{EndReason, Event, ExitStatus, RequestNumber, SessionId, Timestamp, Writer};
use omni::store::{Bodies, BodyFile, BodyRecorder, Home, Journal, Recorder, SealedFile};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Bytes of an entry (docs/ledger-format.md).
const ENTRY_BYTES: usize = 64;

struct World {
    place: tempfile::TempDir,
}

/// What the verb wrote to stdout and stderr, and how it exited.
fn omni(home: &Path, arguments: &[&str]) -> (String, String, i32) {
    let mut command = Command::cargo_bin("omni").unwrap();
    let output = command.env("OMNI_HOME", home).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

impl World {
    fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn omni(&self, arguments: &[&str]) -> (String, String, i32) {
        omni(&self.home(), arguments)
    }

    /// What the verb printed; it must not fail.
    fn printed(&self, arguments: &[&str]) -> String {
        let (out, err, code) = self.omni(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out
    }

    /// Writes what the verb printed to a file; its path.
    fn keep(&self, name: &str, arguments: &[&str]) -> String {
        let path = self.path(name);
        fs::write(&path, self.printed(arguments)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Records a session of `frames` requests, and its end.
    fn record(&self, byte: u8, frames: u64) -> SessionId {
        let (session, home) = (SessionId::from_entropy([byte; 10]), Home::open(&self.home()).unwrap());
        let mut proxy = Journal::create(&home, &session, Writer::Proxy).unwrap();
        let mut supervisor = Journal::create(&home, &session, Writer::Session).unwrap();
        for request in 1..=frames {
            let event = Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() };
            proxy.record(Timestamp(request.cast_signed()), &event).unwrap();
        }
        let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
        supervisor.record(Timestamp(frames.cast_signed() + 1), &ended).unwrap();
        session
    }

    fn entries(&self) -> Vec<[u8; ENTRY_BYTES]> {
        fs::read(self.home().join("ledger/entries")).unwrap().as_chunks::<ENTRY_BYTES>().0.to_vec()
    }

    fn write_entries(&self, entries: &[[u8; ENTRY_BYTES]]) {
        fs::write(self.home().join("ledger/entries"), entries.as_flattened()).unwrap();
    }

    fn copy_home(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        let done = std::process::Command::new("cp").arg("-a").arg(self.home()).arg(&copy).status().unwrap();
        assert!(done.success());
        copy
    }
}

/// The ledger's line of `omni audit verify --json`.
fn verified(home: &Path, arguments: &[&str]) -> (Value, i32) {
    let (out, _, code) = omni(home, &[&["audit", "verify", "--json"], arguments].concat());
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines.into_iter().find(|line| line.get("entries").is_some()).unwrap(), code)
}

fn first_bad(home: &Path, arguments: &[&str]) -> Option<u64> {
    let (report, code) = verified(home, arguments);
    assert_eq!(report["ok"], code == 0, "{report}");
    assert_ne!(report["ok"], true, "nothing was found: {report}");
    report["first_bad"].as_u64()
}

#[test]
fn verify_tells_the_state_of_the_ledger() {
    let world = World::new();
    world.record(1, 3);
    let out = world.printed(&["audit", "verify"]);
    assert!(out.ends_with("ledger: 4 entries, whole, and not signed yet: `omni audit checkpoint`\n"), "{out}");
    let checkpoint = world.printed(&["audit", "checkpoint"]);
    let origin = checkpoint.lines().next().unwrap();
    // The key that signs is an entry too.
    assert_eq!(checkpoint.lines().nth(1), Some("5"));
    let out = world.printed(&["audit", "verify"]);
    assert!(out.ends_with(&format!("ledger {origin}: 5 entries, whole, and all of them are signed\n")), "{out}");
    world.record(2, 3);
    let out = world.printed(&["audit", "verify"]);
    assert!(out.ends_with("9 entries, whole, and the first 5 are signed\n"), "{out}");
    let (report, _) = verified(&world.home(), &[]);
    assert_eq!((&report["signed"], &report["ledger"]), (&Value::from(5), &Value::from(origin)));
    assert_eq!(report["keys"][0]["entry"], 4);
}

#[test]
fn each_way_to_tamper_is_found_at_its_entry() {
    let world = World::new();
    world.record(1, 300);
    let kept = world.keep("kept", &["audit", "checkpoint"]);
    world.record(2, 20);
    world.printed(&["audit", "verify", "--checkpoint", &kept]);
    let (home, whole) = (world.home(), world.entries());
    assert_eq!(whole.len(), 300 + 1 + 1 + 20 + 1);
    let found = |entries: Vec<[u8; ENTRY_BYTES]>| {
        world.write_entries(&entries);
        first_bad(&home, &[])
    };
    for (index, byte) in [(0, 0), (9, 1), (17, 5), (255, 12), (256, 20), (299, 40), (310, 63)] {
        let mut edited = whole.clone();
        edited[index][byte] ^= 1;
        assert_eq!(found(edited), Some(index as u64), "edited {index} at byte {byte}");
    }
    for index in [0, 100, 299, 310, 321] {
        let mut removed = whole.clone();
        removed.remove(index);
        assert_eq!(found(removed), Some(index as u64), "removed {index}");
        let mut moved = whole.clone();
        moved.swap(index, index + 1);
        assert_eq!(found(moved), Some(index as u64), "moved {index}");
        let mut repeated = whole.clone();
        repeated.insert(index, whole[index]);
        assert_eq!(found(repeated), Some(index as u64 + 1), "repeated {index}");
    }
    assert_eq!(found(whole[..315].to_vec()), Some(315), "cut short");
    assert_eq!(found(Vec::new()), Some(0), "emptied");
    world.write_entries(&whole);
    // A frame of a journal that was written anew, with right hashes, after the database was made again from it.
    let forged = world.copy_home("forged");
    fs::remove_dir_all(forged.join("sessions").join(SessionId::from_entropy([2; 10]).as_str())).unwrap();
    assert_eq!(first_bad(&forged, &["--files", forged.to_str().unwrap()]), Some(302));
    world.printed(&["audit", "verify"]);
}

#[test]
fn an_old_copy_a_fork_and_another_ledger_are_found_by_a_kept_checkpoint() {
    let world = World::new();
    world.record(1, 3);
    world.keep("first", &["audit", "checkpoint"]);
    let old = world.copy_home("old");
    world.record(2, 3);
    let kept = world.keep("second", &["audit", "checkpoint"]);
    world.printed(&["audit", "verify", "--checkpoint", &kept]);
    // By itself an old copy is sound: it was, once.
    assert_eq!(omni(&old, &["audit", "verify"]).2, 0);
    assert_eq!(first_bad(&old, &["--checkpoint", &kept]), Some(5));
    // It goes on by itself, signed with the same key.
    let fork = World { place: tempfile::tempdir().unwrap() };
    fs::rename(&old, fork.home()).unwrap();
    fork.record(3, 7);
    fork.printed(&["audit", "checkpoint"]);
    assert_eq!(fork.omni(&["audit", "verify"]).2, 0);
    let (out, _, code) = fork.omni(&["audit", "verify", "--checkpoint", &kept]);
    assert!(code == 1 && out.contains("the ledger was rewritten"), "{out}");
    // Another ledger, with another key, in its place.
    let other = World::new();
    other.record(1, 3);
    other.printed(&["audit", "checkpoint"]);
    let (out, _, code) = other.omni(&["audit", "verify", "--checkpoint", &kept]);
    assert!(code == 1 && out.contains("another ledger was put in its place"), "{out}");
    let key = world.printed(&["audit", "keys"]);
    world.printed(&["audit", "verify", "--key", key.trim()]);
    let (out, _, code) = other.omni(&["audit", "verify", "--key", key.trim()]);
    assert!(code == 1 && out.contains("none of those that are trusted"), "{out}");
}

#[test]
fn a_copy_is_verified_by_its_files_and_nothing_is_written_there() {
    let world = World::new();
    world.record(1, 3);
    let key = world.printed(&["audit", "keys"]);
    let copy = world.copy_home("copy");
    fs::remove_file(copy.join("omni.db")).unwrap();
    let listed = || {
        let mut names: Vec<_> = fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    let (report, code) = verified(&world.home(), &["--files", copy.to_str().unwrap(), "--key", key.trim()]);
    assert_eq!((&report["ok"], &report["entries"], code), (&Value::from(true), &Value::from(5), 0));
    assert_eq!(listed(), before);
    let nowhere = world.path("nowhere");
    let (_, err, code) = world.omni(&["audit", "verify", "--files", nowhere.to_str().unwrap()]);
    assert!(code == 1 && err.contains("nowhere"), "{err}");
    assert!(!nowhere.exists());
}

#[test]
fn a_receipt_is_checked_by_its_file_alone() {
    let world = World::new();
    let session = world.record(1, 300);
    let key = world.printed(&["audit", "keys"]);
    let nobody = World::new();
    let journal = world.home().join("sessions").join(session.as_str()).join("proxy.journal");
    let receipt = world.keep("receipt", &["audit", "prove", "last", "--event", "300"]);
    let check = |more: &[&str]| nobody.omni(&[&["audit", "verify", "--receipt", &receipt][..], more].concat());
    let (out, err, code) = check(&["--key", key.trim(), "--journal", journal.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let origin = key.split('+').next().unwrap();
    let wanted = format!(
        "proven: entry 299 of 302 in the ledger {origin} is request_failed, frame 300 of the proxy journal of session \
         {session}\nthe journal is the one that was entered, up to and including frame 300\n"
    );
    assert_eq!(out, wanted);
    assert!(!nobody.home().exists(), "no records are needed");
    let (out, _, _) = check(&["--key", key.trim(), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["event"]["request"], 300);
    let (_, err, code) = check(&[]);
    assert!(code == 1 && err.contains("--key"), "{err}");
    // Signed by somebody else.
    nobody.record(7, 1);
    let stranger = nobody.printed(&["audit", "keys"]);
    let (_, err, code) = check(&["--key", stranger.trim()]);
    assert!(code == 1 && err.contains("no key that is trusted"), "{err}");
    // One bit of the journal's 17th frame.
    let mut bytes = fs::read(&journal).unwrap();
    bytes[2_000] ^= 1;
    let changed = world.path("changed");
    fs::write(&changed, bytes).unwrap();
    let (_, err, code) = check(&["--key", key.trim(), "--journal", changed.to_str().unwrap()]);
    assert!(code == 1 && err.contains("differs at or before frame 300"), "{err}");
    // Any line of the receipt.
    let text = fs::read_to_string(&receipt).unwrap();
    for (number, line) in text.lines().enumerate() {
        let Some(place) = line.rfind(|character: char| character.is_ascii_alphanumeric()) else { continue };
        let mut other: Vec<String> = text.lines().map(str::to_owned).collect();
        let letter = if line[place..].starts_with('4') { "5" } else { "4" };
        other[number].replace_range(place..=place, letter);
        let path = world.path("other");
        fs::write(&path, other.join("\n") + "\n").unwrap();
        let arguments = ["audit", "verify", "--receipt", path.to_str().unwrap(), "--key", key.trim()];
        assert_eq!(nobody.omni(&arguments).2, 1, "line {number}: {}", other[number]);
    }
    // The entry that names the key stands for no frame.
    let of_key = world.keep("of-key", &["audit", "prove", "--entry", "301"]);
    let (out, _, _) = nobody.omni(&["audit", "verify", "--receipt", &of_key, "--key", key.trim()]);
    assert!(out.contains("entry 301 of 302") && out.contains("key 1 of the ledger"), "{out}");
    let (_, err, code) = world.omni(&["audit", "prove", "--entry", "302"]);
    assert!(code == 1 && err.contains("entry 302 is not in the ledger"), "{err}");
}

/// A witness that runs, and what a policy needs to know of it.
struct Witness {
    child: Child,
    line: String,
}

impl Witness {
    fn start(home: &Path, log: &str) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_omni"));
        command.env("OMNI_HOME", home).args(["audit", "witness", "--listen", "127.0.0.1:0", "--log", log]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, line: line.trim().to_owned() }
    }

    fn name(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn witnesses_sign_what_grew_and_nothing_else() {
    let world = World::new();
    world.record(1, 3);
    let key = world.printed(&["audit", "keys"]);
    let old = world.copy_home("old");
    let witnesses = [1, 2, 3].map(|number| Witness::start(&world.path(&format!("witness{number}")), key.trim()));
    let names: Vec<_> = witnesses.iter().map(Witness::name).collect();
    let lines: Vec<_> = witnesses.iter().map(|witness| witness.line.as_str()).collect();
    let policy = world.path("policy");
    let quorum = format!("{}\ngroup some 2 {}\nquorum some\n", lines.join("\n"), names.join(" "));
    fs::write(&policy, format!("log {key}{quorum}")).unwrap();
    let policy = policy.to_str().unwrap();
    // Nobody signed yet.
    let (out, _, code) = world.omni(&["audit", "verify", "--witnesses", policy]);
    assert!(code == 1 && out.contains("no witness of the policy signed"), "{out}");
    for round in 2..=4 {
        let note = world.printed(&["audit", "checkpoint", "--witnesses", policy]);
        assert_eq!(note.lines().filter(|line| line.starts_with('\u{2014}')).count(), 4, "{note}");
        world.printed(&["audit", "verify", "--witnesses", policy]);
        world.record(round, 300);
    }
    let receipt = world.keep("receipt", &["audit", "prove", "last"]);
    let kept = world.keep("kept", &["audit", "checkpoint", "--witnesses", policy]);
    // The receipt was signed by the ledger alone; one that is made now is by the witnesses too.
    assert_eq!(world.omni(&["audit", "verify", "--receipt", &receipt, "--witnesses", policy]).2, 1);
    let receipt = world.keep("receipt", &["audit", "prove", "last"]);
    let out = world.printed(&["audit", "verify", "--receipt", &receipt, "--witnesses", policy]);
    assert!(names.iter().all(|name| out.contains(name)), "{out}");
    world.printed(&["audit", "verify", "--checkpoint", &kept, "--witnesses", policy]);
    // One of them is gone: two are enough. With two gone they are not.
    let [first, second, third] = witnesses;
    drop(first);
    world.record(5, 3);
    let (_, err, code) = world.omni(&["audit", "checkpoint", "--witnesses", policy]);
    assert!(code == 0 && err.contains("did not sign: it cannot be reached"), "{err}");
    // An old copy that goes on with the same key is a fork, which no witness signs.
    let fork = World { place: tempfile::tempdir().unwrap() };
    fs::rename(&old, fork.home()).unwrap();
    fork.record(9, 2_000);
    let (_, err, code) = fork.omni(&["audit", "checkpoint", "--witnesses", policy]);
    assert!(code == 1 && err.contains("422") && err.contains("only grown"), "{err}");
    drop(second);
    world.record(6, 3);
    let (_, err, code) = world.omni(&["audit", "checkpoint", "--witnesses", policy]);
    assert!(code == 1 && err.contains("the quorum `some` is not reached"), "{err}");
    // A witness that was killed remembers.
    let (home, line) = (world.path("witness3"), third.line.clone());
    drop(third);
    let third = Witness::start(&home, key.trim());
    let words = |line: &str| line.split(' ').take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&third.line), words(&line), "its name and key");
    let alone = world.path("alone");
    fs::write(&alone, format!("{}\nquorum {}\n", third.line, third.name())).unwrap();
    let (_, err, code) = fork.omni(&["audit", "checkpoint", "--witnesses", alone.to_str().unwrap()]);
    assert!(code == 1 && err.contains("only grown"), "{err}");
    world.printed(&["audit", "checkpoint", "--witnesses", alone.to_str().unwrap()]);
    // And knows no ledger that it was not told of.
    let stranger = World::new();
    stranger.record(1, 1);
    let (_, err, code) = stranger.omni(&["audit", "checkpoint", "--witnesses", alone.to_str().unwrap()]);
    assert!(code == 1 && err.contains("404"), "{err}");
}

#[test]
fn keys_change_and_what_was_signed_before_still_counts() {
    let world = World::new();
    world.record(1, 3);
    let first = world.printed(&["audit", "keys"]);
    let kept = world.keep("kept", &["audit", "checkpoint"]);
    let receipt = world.keep("receipt", &["audit", "prove", "last"]);
    let both = world.printed(&["audit", "keys", "--rotate"]);
    assert_eq!(both.lines().count(), 2);
    assert!(both.starts_with(&first));
    world.record(2, 3);
    world.printed(&["audit", "checkpoint"]);
    world.printed(&["audit", "verify", "--checkpoint", &kept, "--key", first.trim()]);
    world.printed(&["audit", "verify", "--receipt", &receipt, "--key", first.trim()]);
    let second = both.lines().nth(1).unwrap();
    let later = world.keep("later", &["audit", "prove", "last"]);
    world.printed(&["audit", "verify", "--receipt", &later, "--key", second]);
    assert_eq!(world.omni(&["audit", "verify", "--receipt", &later, "--key", first.trim()]).2, 1);
    // Somebody else's key in its place signs nothing, and what it signed is found.
    let other = World::new();
    other.record(1, 3);
    other.printed(&["audit", "checkpoint"]);
    fs::copy(other.home().join("ledger/key"), world.home().join("ledger/key")).unwrap();
    world.record(3, 1);
    let (_, err, code) = world.omni(&["audit", "checkpoint"]);
    assert!(code == 1 && err.contains("it was exchanged"), "{err}");
    fs::copy(other.home().join("ledger/checkpoint"), world.home().join("ledger/checkpoint")).unwrap();
    let (out, _, code) = world.omni(&["audit", "verify"]);
    assert!(code == 1 && out.contains("what was signed is not"), "{out}");
}

/// Gives a session a body and a recording; the hash that its journal would refer to the body by.
fn make_private_parts(world: &World, session: &SessionId) -> String {
    let home = Home::open(&world.home()).unwrap();
    SealedFile::create_recording(&home, session).unwrap().put(b"{\"version\": 3}\n").unwrap();
    BodyFile::create(&home, session).unwrap().append(b"a private question").unwrap()
}

#[test]
fn what_is_forgotten_is_gone_and_proofs_stay_valid() {
    let world = World::new();
    let session = world.record(1, 3);
    let hash = make_private_parts(&world, &session);
    let home = Home::open(&world.home()).unwrap();
    let body = || Bodies::open(&home, &session).unwrap().read(&hash).unwrap();
    assert_eq!(body().as_deref(), Some(&b"a private question"[..]));
    let key = world.printed(&["audit", "keys"]);
    let receipt = world.keep("receipt", &["audit", "prove", "last"]);
    let kept = world.keep("kept", &["audit", "checkpoint"]);
    assert_eq!(world.printed(&["replay", "last"]), "{\"version\": 3}\n");
    let (_, err, code) = world.omni(&["audit", "forget", "last"]);
    assert!(code == 0 && err.contains("of 1 sessions forgotten"), "{err}");
    assert_eq!(body(), None);
    let (_, err, code) = world.omni(&["replay", "last"]);
    assert!(code == 1 && err.contains("its key was destroyed"), "{err}");
    let sessions = world.home().join("sessions").join(session.as_str());
    assert!(!sessions.join("bodies").exists() && !sessions.join("terminal.cast").exists());
    assert_eq!(fs::read_dir(world.home().join("keys")).unwrap().count(), 0);
    world.printed(&["audit", "verify", "--checkpoint", &kept]);
    world.printed(&["audit", "verify", "--receipt", &receipt, "--key", key.trim()]);
    let (_, err, code) = world.omni(&["audit", "forget", "last"]);
    assert!(code == 0 && err.contains("nothing private is left") && err.contains("of 0 sessions forgotten"), "{err}");
    let log = world.printed(&["audit", "log", "--session", "last"]);
    assert!(log.lines().last().unwrap().contains("forgotten: asked"), "{log}");
    assert_eq!(log.matches("forgotten: asked").count(), 1, "what changed nothing is no event: {log}");
}

#[test]
fn what_is_older_or_more_than_a_rule_says_is_forgotten() {
    let world = World::new();
    let sessions = [1, 2, 3].map(|byte| {
        let session = world.record(byte, u64::from(byte));
        make_private_parts(&world, &session);
        session
    });
    let left = || {
        let keys = fs::read_dir(world.home().join("keys")).unwrap();
        let mut names: Vec<_> = keys.map(|key| key.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let names = |sessions: &[SessionId]| sessions.iter().map(ToString::to_string).collect::<Vec<_>>();
    // All are of 1970, the first from its first microseconds.
    world.printed(&["audit", "forget", "--older-than", "1970-01-01T00:00:00.000003Z"]);
    assert_eq!(left(), names(&sessions[1..]));
    world.printed(&["audit", "forget", "--keep-bytes", "200"]);
    assert_eq!(left(), names(&sessions[2..]));
    world.printed(&["audit", "forget", "--keep-bytes", "200"]);
    assert_eq!(left(), names(&sessions[2..]));
    let log = world.printed(&["audit", "log", "--json"]);
    let reasons: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "private_parts_forgotten")
        .map(|event| event["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reasons, ["older than 1970-01-01T00:00:00.000003Z", "beyond 200 bytes"]);
    world.printed(&["audit", "verify"]);
}

/// The database's file, opened by something else than omni.
fn database(home: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(home.join("omni.db")).unwrap()
}

#[test]
fn what_a_later_version_wrote_is_refused_or_passed_over_and_never_changed() {
    let world = World::new();
    let session = world.record(1, 3);
    world.printed(&["audit", "checkpoint"]);
    // Entries of a kind that is not known yet.
    let mut later = [0; ENTRY_BYTES];
    (later[0], later[20]) = (9, 9);
    world.write_entries(&[world.entries(), vec![later]].concat());
    let (report, code) = verified(&world.home(), &[]);
    assert_eq!((code, &report["ok"], &report["entries"]), (0, &Value::from(true), &Value::from(6)), "{report}");
    assert!(report["notes"][0]["what"].as_str().unwrap().contains("a later version"), "{report}");
    // A journal in another format.
    let copy = world.copy_home("journal");
    let journal = copy.join("sessions").join(session.as_str()).join("proxy.journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[9] = 3;
    fs::write(&journal, &bytes).unwrap();
    let (out, _, code) = omni(&copy, &["audit", "verify"]);
    assert!(code == 1 && out.contains("format is version 3, and this omni reads up to 2"), "{out}");
    // A database in another.
    database(&world.home()).execute_batch("PRAGMA user_version = 9").unwrap();
    let before = fs::read(world.home().join("ledger/entries")).unwrap();
    for words in [&["audit", "log"][..], &["audit", "verify"], &["audit", "checkpoint"], &["sessions"]] {
        let (out, err, code) = world.omni(words);
        assert!(
            code == 1 && out.is_empty() && err.contains("version 9") && err.contains("newer omni"),
            "{words:?}: {err}"
        );
    }
    assert_eq!(fs::read(world.home().join("ledger/entries")).unwrap(), before);
    let files = world.home();
    let (_, err, code) = world.omni(&["audit", "verify", "--files", files.to_str().unwrap()]);
    assert_eq!(code, 0, "it is verified by its files: {err}");
}

#[test]
fn a_directory_from_another_machine_goes_on_and_whoever_kept_a_checkpoint_sees_two_histories() {
    let world = World::new();
    world.record(1, 3);
    let kept = world.keep("kept", &["audit", "checkpoint"]);
    let moved = World { place: tempfile::tempdir().unwrap() };
    fs::rename(world.copy_home("moved"), moved.home()).unwrap();
    // It was started anew there, as another machine is; its sessions' processes are none of this one's.
    database(&moved.home()).execute_batch("UPDATE ledger SET boot = 'of another machine'").unwrap();
    moved.record(2, 4);
    let there = moved.keep("there", &["audit", "checkpoint"]);
    moved.printed(&["audit", "verify", "--checkpoint", &kept]);
    let log = moved.printed(&["audit", "log", "--json"]);
    assert_eq!(log.lines().count(), 4 + 5, "{log}");
    // Both go on: each is whole, and neither can be passed off as the other.
    world.record(3, 5);
    let here = world.keep("here", &["audit", "checkpoint"]);
    world.printed(&["audit", "verify", "--checkpoint", &kept, "--checkpoint", &here]);
    let (out, _, code) = world.omni(&["audit", "verify", "--checkpoint", &there]);
    assert!(code == 1 && out.contains("rewritten"), "{out}");
    let (out, _, code) = moved.omni(&["audit", "verify", "--checkpoint", &here]);
    assert!(code == 1 && (out.contains("rewritten") || out.contains("cut off")), "{out}");
}

#[test]
fn two_writers_with_two_clocks_keep_their_order_and_are_found_by_their_own_times() {
    const DAY: i64 = 86_400_000_000;
    let world = World::new();
    let (session, home) = (SessionId::from_entropy([1; 10]), Home::open(&world.home()).unwrap());
    let failed = |request| Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() };
    let mut proxy = Journal::create(&home, &session, Writer::Proxy).unwrap();
    let mut supervisor = Journal::create(&home, &session, Writer::Session).unwrap();
    // One clock is a day ahead, the other goes back an hour in the middle and is before 1970 at the end.
    for (at, request) in [(10 * DAY, 1), (10 * DAY - 3_600_000_000, 2), (-5, 3)] {
        proxy.record(Timestamp(at), &failed(request)).unwrap();
        supervisor.record(Timestamp(11 * DAY), &Event::StopRequested { user: "ada".to_owned() }).unwrap();
    }
    let requests = |words: &[&str]| {
        let log = world.printed(&[&["audit", "log", "--json"], words].concat());
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["request"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(requests(&[]), [1, 2, 3]);
    assert_eq!(requests(&["--since", "1970-01-11T00:00:00Z", "--until", "1970-01-11T12:00:00Z"]), [1]);
    assert_eq!(requests(&["--since", "1970-01-10", "--until", "1970-01-11"]), [2]);
    assert_eq!(requests(&["--until", "1970-01-01"]), [3]);
    world.printed(&["audit", "verify"]);
    world.printed(&["audit", "report", "--since", "1970-01-02", "--until", "1970-02-01"]);
}

#[test]
fn a_key_that_others_can_read_signs_nothing_and_keeps_nobody_from_verifying() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.record(1, 3);
    world.printed(&["audit", "checkpoint"]);
    world.record(2, 3);
    let key = world.home().join("ledger/key");
    let (entries, checkpoint) = (world.entries().len(), fs::read(world.home().join("ledger/checkpoint")).unwrap());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    for words in [&["audit", "checkpoint"][..], &["audit", "keys", "--rotate"], &["audit", "prove", "last"]] {
        let (_, err, code) = world.omni(words);
        assert!(code == 1 && err.contains("ledger/key") && err.contains("chmod 600"), "{words:?}: {err}");
    }
    world.printed(&["audit", "verify"]);
    assert_eq!(fs::read(world.home().join("ledger/checkpoint")).unwrap(), checkpoint);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    world.printed(&["audit", "checkpoint"]);
    assert!(world.entries().len() > entries, "what was recorded meanwhile is entered");
    world.printed(&["audit", "verify"]);
}

#[test]
fn a_database_that_was_cut_off_anywhere_is_known_and_made_again() {
    let world = World::new();
    world.record(1, 300);
    let kept = world.keep("kept", &["audit", "checkpoint"]);
    let before = world.printed(&["audit", "log", "--json"]);
    drop(database(&world.home()).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    let whole = fs::read(world.home().join("omni.db")).unwrap();
    for left in [1, 100, 4_096, 5_000, whole.len() / 2, whole.len() - 4_096] {
        for name in ["omni.db-wal", "omni.db-shm"] {
            let _ = fs::remove_file(world.home().join(name));
        }
        fs::write(world.home().join("omni.db"), &whole[..left]).unwrap();
        let (_, err, code) = world.omni(&["audit", "verify"]);
        // Of next to nothing left, SQLite makes a new database by itself, which is filled from the journals.
        let told = err.contains("omni.db") && err.contains("omni audit rebuild");
        assert!((code == 1 && told) || (code == 0 && left < 512), "{left} bytes: {code} {err}");
        if code == 1 {
            world.printed(&["audit", "rebuild"]);
        }
        assert_eq!(world.printed(&["audit", "log", "--json"]), before, "{left} bytes");
        world.printed(&["audit", "verify", "--checkpoint", &kept]);
    }
}

#[test]
fn a_full_disk_is_said_and_what_waits_is_entered_once_there_is_room() {
    let world = World::new();
    world.record(1, 3);
    world.printed(&["audit", "log"]);
    world.record(2, 3);
    // A file system of its own, which is filled to its last byte, and emptied again.
    let script =
        "mount -t tmpfs -o size=2m tmpfs \"$1\" && cp -a \"$2\" \"$1/home\" && export OMNI_HOME=\"$1/home\" || exit 99
        cat /dev/zero > \"$1/fill\" 2> /dev/null
        \"$3\" audit checkpoint; echo \"checkpoint $?\"
        \"$3\" secret passphrase --none; echo \"secret $?\"
        rm \"$1/fill\"
        \"$3\" audit checkpoint > /dev/null; echo \"checkpoint $?\"
        \"$3\" audit log | wc -l; \"$3\" audit verify";
    let full = world.path("full");
    fs::create_dir(&full).unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&full).arg(world.home());
    let output = command.arg(env!("CARGO_BIN_EXE_omni")).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.code() == Some(99) || err.contains("unshare") {
        eprintln!("skipped: this machine gives no namespace to mount in: {err}");
        assert!(std::env::var_os("OMNI_REQUIRE_SANDBOX").is_none());
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[..4], ["checkpoint 1", "secret 1", "checkpoint 0", "8"], "{out}{err}");
    assert!(out.contains("all of them are signed"), "{out}");
    assert_eq!(err.to_lowercase().matches("no space left").count(), 2, "{err}");
}
