//! The session and its processes, and the files of the user's.

use super::Frame;
use super::consent::finding;
use super::shape::{Class, OTHER, Severity, Shape};
use crate::model::{EndReason, Event, ExitStatus, FileAct};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Activities of Process Activity.
const LAUNCH: u32 = 1;
const TERMINATE: u32 = 2;
/// Activities of File System Activity.
const CREATE: u32 = 1;
const UPDATE: u32 = 3;
const DELETE: u32 = 4;
const RENAME: u32 = 5;
const SET_ATTRIBUTES: u32 = 6;
/// Activity of Application Lifecycle.
const START: u32 = 3;
/// Activity of Application Error.
const GENERAL_ERROR: u32 = 1;
/// Activity of Entity Management.
const ENROLL: u32 = 6;
/// Types of files.
const UNKNOWN_FILE: u32 = 0;
const FOLDER: u32 = 2;
/// Exit code of a process that a signal ended, as shells count.
const SIGNAL_BASE: i32 = 128;

/// The event's shape; none where it is of something else.
pub(super) fn shape(event: &Event, frame: &Frame) -> Option<Shape> {
    let shape = match event {
        Event::SessionStarted { .. } => started(event, frame)?,
        Event::SessionDetached { .. } => Shape::other(Class::Process, "Detached").with("process", process(frame)),
        Event::HarnessExited { status } => {
            let code = exit_code(*status);
            Shape::new(Class::Process, TERMINATE).with("process", process(frame)).with("exit_code", json!(code))
        }
        Event::SessionEnded { reason, exit } => ended(*reason, *exit, frame),
        Event::ProxyStarted { secrets, .. } => Shape::new(Class::ApplicationLifecycle, START)
            .succeeded()
            .detail(format!("secrets: {}", secrets.join(", ")))
            .with("app", json!({ "name": "omni proxy", "vendor_name": "omni" })),
        Event::OutputFiltered { refused } => {
            let kinds: Vec<_> = refused.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
            finding("Output kept from the terminal", frame).severity(Severity::Low).blocked().detail(kinds.join(", "))
        }
        Event::RecordingStopped { reason } => {
            Shape::new(Class::ApplicationError, GENERAL_ERROR).severity(Severity::Medium).failed(reason)
        }
        Event::LimitReached(reached) => {
            finding("A limit was reached", frame).severity(Severity::Low).detail(reached.to_string())
        }
        Event::SecretFilesHidden { count, paths, .. } => finding("Files that look like secrets are hidden", frame)
            .blocked()
            .with("count", json!(count.max(&1)))
            .detail(paths.join(", ")),
        Event::SecretFileRead { path } => {
            finding("A file that looks like a secret was read", frame).severity(Severity::Low).detail(path.clone())
        }
        Event::FileRefused { act, path, rule } => Shape::new(Class::FileSystem, activity(*act))
            .severity(Severity::Medium)
            .failed("a protected name")
            .blocked()
            .rule(Some(rule), None)
            .with("file", file(path)),
        Event::FileRefusalsUntold { count } => finding("More changes of protected files were refused", frame)
            .severity(Severity::Medium)
            .blocked()
            .with("count", json!(count.max(&1))),
        Event::ChangesApplied { added, modified, deleted, .. } => {
            workspace(UPDATE).succeeded().detail(format!("{added} added, {modified} modified, {deleted} deleted"))
        }
        Event::ChangesRolledBack { reason } => workspace(UPDATE).severity(Severity::Low).failed(reason),
        Event::ChangesDiscarded { .. } => workspace(DELETE).succeeded(),
        _ => return None,
    };
    Some(shape)
}

/// A key that signs the ledger from there on.
pub(super) fn ledger_key(number: u64, public: &[u8; 32]) -> Shape {
    let entity = json!({
        "type_id": OTHER, "type": "Ledger key", "name": format!("key {number}"), "uid": BASE64_STANDARD.encode(public),
    });
    Shape::new(Class::EntityManagement, ENROLL).succeeded().with("entity", entity)
}

/// The harness: its process outside is the session's.
fn process(frame: &Frame) -> Value {
    json!({ "uid": frame.session, "name": "harness" })
}

fn started(event: &Event, frame: &Frame) -> Option<Shape> {
    let Event::SessionStarted { profile, argv, workspace, policy_hash, isolation, pid, .. } = event else {
        return None;
    };
    let process = json!({
        "uid": frame.session,
        "pid": pid,
        "name": argv.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program)),
        "cmd_line": argv.join(" "),
        "working_directory": workspace,
        "sandbox": format!("omni tier {}", isolation.tier),
    });
    let shape = Shape::new(Class::Process, LAUNCH).succeeded().allowed().with("process", process);
    Some(shape.with("policy", json!({ "name": profile, "uid": policy_hash, "is_applied": true })))
}

fn ended(reason: EndReason, exit: ExitStatus, frame: &Frame) -> Shape {
    let shape =
        Shape::new(Class::Process, TERMINATE).with("process", process(frame)).with("exit_code", json!(exit_code(exit)));
    if reason == EndReason::Finished {
        return shape.succeeded();
    }
    let word = serde_json::to_value(reason).unwrap_or_default();
    shape.severity(Severity::Low).failed(word.as_str().unwrap_or_default())
}

fn exit_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => SIGNAL_BASE.saturating_add(signal),
    }
}

fn activity(act: FileAct) -> u32 {
    match act {
        FileAct::Write => UPDATE,
        FileAct::Make | FileAct::Link => CREATE,
        FileAct::Remove => DELETE,
        FileAct::MoveAway | FileAct::MoveHere => RENAME,
        FileAct::Attributes => SET_ATTRIBUTES,
    }
}

fn file(path: &str) -> Value {
    let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path);
    json!({ "name": name, "path": path, "type_id": UNKNOWN_FILE })
}

fn workspace(activity: u32) -> Shape {
    Shape::new(Class::FileSystem, activity).with("file", json!({ "name": "workspace", "type_id": FOLDER }))
}
