//! Sessions that are killed while they record, several at a time and into one home: whatever was acknowledged is in the record,
//! and everything is in the ledger once.

use crate::support::{Who, World, finish, try_as};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Sessions at a time, and how many there are in all; `OMNI_FAULTS=all` kills a hundred.
const AT_A_TIME: usize = 4;
const SESSIONS: usize = 12;
const SESSIONS_ALL: usize = 100;

/// Asks for what nobody allows, on and on, and says of each refusal that it came.
const PROGRAM: &str = "
import itertools, urllib.error, urllib.request
for number in itertools.count(1):
    try:
        urllib.request.urlopen('http://nowhere.example/%d' % number)
    except urllib.error.HTTPError as error:
        assert error.code == 403, error
        print(number, flush=True)
";

/// Runs a session and kills it once it acknowledged so many refusals. Returns how many it did.
fn killed_after(world: &World, name: &str, count: u64) -> u64 {
    let mut command = world.exec(&["--name", name], &["python3", "-I", "-c", PROGRAM]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = 0;
    while acknowledged < count {
        acknowledged = lines.next().expect("it goes on until it is killed").unwrap().parse().unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What was said before everything was dead counts too; the last line may be torn.
    for line in lines.map_while(Result::ok) {
        acknowledged = line.parse::<u64>().unwrap_or(0).max(acknowledged);
    }
    acknowledged
}

fn kill_many(world: &World) {
    let all = std::env::var("OMNI_FAULTS").is_ok_and(|value| value == "all");
    let sessions = if all { SESSIONS_ALL } else { SESSIONS };
    let acknowledged: BTreeMap<String, u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|worker| {
                scope.spawn(move || {
                    let mine = (worker..sessions).step_by(AT_A_TIME);
                    mine.map(|number| {
                        let name = format!("round-{number}");
                        let count = killed_after(world, &name, 1 + (number as u64 * 7) % 23);
                        // Others fold while some are recording and dying.
                        world.list(&["sessions"]);
                        (name, count)
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(acknowledged.len(), sessions);
    let listed = world.list(&["sessions"]);
    let refused: BTreeMap<String, u64> = listed
        .iter()
        .map(|session| (session["name"].as_str().unwrap().to_owned(), session["denied"].as_u64().unwrap()))
        .collect();
    for (name, count) in &acknowledged {
        let recorded = refused[name];
        // Of those that were recorded, one at most was not told of yet: it asks one after the other.
        assert!(recorded == *count || recorded == count + 1, "{name}: {count} acknowledged, {recorded} recorded");
    }
    let mut command = world.omni();
    command.args(["audit", "verify", "--json"]);
    let outcome = finish(command, b"");
    assert!(outcome.status.success(), "{outcome:?}");
    let lines: Vec<Value> = outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (ledger, journals): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.get("entries").is_some());
    let frames: u64 = journals.iter().map(|journal| journal["frames"].as_u64().unwrap()).sum();
    assert_eq!(ledger[0]["entries"], frames, "each frame is entered once");
}

#[test]
fn nothing_acknowledged_is_lost_when_roots_sessions_are_killed() {
    try_as(Who::Root, kill_many);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_users_sessions_are_killed() {
    try_as(Who::Ordinary, kill_many);
}
