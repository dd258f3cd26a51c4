//! The end of sessions that asked nothing of the proxy, and of those that did: whoever asks finds both.

use crate::host;
use crate::stage::{Actor, Stage, text};
use serde_json::Value;

const BUDGET: &str = "name: budget\ntype: spend\nhard_limit: $5.00\non_hard_limit: block-session\n";

/// Runs a script with these options, and says whether the session's end went into the database.
fn folds(stage: &Stage, options: &[&str], script: &str) -> bool {
    let before = database(stage);
    let arguments = [&["exec", "--quiet"], options, &["--", "sh", "-c", script]].concat();
    let output = stage.run(&arguments);
    assert_eq!(output.status.code(), Some(7), "{:?}: {}", stage.actor, text(&output.stderr));
    database(stage) != before
}

fn database(stage: &Stage) -> Vec<Vec<u8>> {
    let read = |name: &str| std::fs::read(stage.path("home/state").join(name)).unwrap_or_default();
    ["omni.db", "omni.db-wal"].map(read).to_vec()
}

/// How many sessions there are, all of them over and as they were recorded.
fn sessions(stage: &Stage) -> usize {
    let output = stage.run(&["sessions", "--json"]);
    let lines = text(&output.stdout);
    let sessions: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(sessions.iter().all(|session| session["status"] == "finished"), "{sessions:?}");
    let verified = stage.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
    sessions.len()
}

#[test]
fn a_session_that_asked_nothing_is_folded_by_whoever_asks_and_any_other_at_its_end() {
    for actor in Actor::all().iter().filter(|_| host::has_sandboxes()) {
        let stage = Stage::new(*actor);
        stage.write(&stage.path("budget.yaml"), BUDGET);
        let budget = stage.path("budget.yaml").display().to_string();
        assert!(!folds(&stage, &[], "exit 7"), "{actor:?}");
        assert_eq!(sessions(&stage), 1, "{actor:?}");
        // A name that nobody has is asked for, and refused or not, that is on record.
        assert!(folds(&stage, &[], "getent hosts nobody.example; exit 7"), "{actor:?}");
        assert_eq!(sessions(&stage), 2, "{actor:?}");
        assert!(folds(&stage, &["--policy", &budget], "exit 7"), "{actor:?}");
        assert_eq!(sessions(&stage), 3, "{actor:?}");
    }
}
