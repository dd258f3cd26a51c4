//! What happens at a hard limit: calls wait for a person, a turn has its own budget, and the strictest of several says.

use crate::money_stage::{MESSAGES, Trial, lines, message, status};
use crate::stage::text;
use std::io::Write as _;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Each call costs half a cent; what begins with `run` asks for a tool.
const SCRIPT: &str = "
turns:
  - when: { contains: 'run it' }
    reply: { tool: { name: Bash, input: { command: 'true' } }, usage: { input: 0, output: 1000 } }
  - reply: { text: 'Hello.', usage: { input: 0, output: 1000 } }
";
const PROMPT: &str = r#"{"role":"user","content":"Hello"}"#;
/// Room for one call and a half.
const PAUSE: &str = "name: purse\ntype: spend\nhard_limit: $0.008\non_hard_limit: pause\n";

#[test]
fn a_session_pauses_at_its_limit_until_a_person_raises_it() {
    let Some(trial) = Trial::new(SCRIPT) else { return };
    let call = status(MESSAGES, &message(PROMPT));
    let script = format!("{call}\n{call} &\n{call} &\nwait\n{call}");
    let mut running = trial.start(&[PAUSE], &["--await-approvals"], &script);
    let asked = trial.question(&mut running);
    let why = asked["why"].as_str().unwrap();
    assert!(["purse", "is used up", "raises it by $0.008"].iter().all(|word| why.contains(word)), "{why}");
    assert_eq!(trial.provider.calls().len(), 1, "nothing beyond the limit left");
    let id = asked["id"].as_str().unwrap();
    // What is not taken is not offered.
    assert_eq!(asked["yes"], serde_json::json!(["once", "session"]));
    let listed = text(&trial.stage.run(&["approvals"]).stdout);
    assert!(listed.contains(&format!("omni approve {id} --once | --session\n")), "{listed}");
    assert!(!trial.stage.run(&["approve", id, "--always"]).status.success());
    assert!(trial.stage.run(&["approve", id, "--session"]).status.success());
    // Both that waited for the one answer fit into what was raised, and the fourth asks again.
    let again = trial.question(&mut running);
    assert_ne!(again["id"], asked["id"]);
    assert!(trial.stage.run(&["approve", again["id"].as_str().unwrap(), "--session"]).status.success());
    assert_eq!(lines(running), ["200"; 4]);
    let raised: Vec<_> =
        trial.events("budget_raised").into_iter().map(|raised| raised["limit"].as_i64().unwrap()).collect();
    assert_eq!(raised, [16_000_000, 24_000_000]);
}

#[test]
fn a_no_at_the_limit_refuses_all_that_wait_and_with_nobody_to_ask_none_does() {
    let Some(trial) = Trial::new(SCRIPT) else { return };
    let call = status(MESSAGES, &message(PROMPT));
    let mut running = trial.start(&[PAUSE], &["--await-approvals"], &format!("{call}\n{call} &\n{call}\nwait"));
    let asked = trial.question(&mut running);
    let denied = trial.stage.run(&["deny", asked["id"].as_str().unwrap(), "--reason", "enough"]);
    assert!(denied.status.success(), "{}", text(&denied.stderr));
    assert_eq!(lines(running), ["200", "402", "402"]);
    assert_eq!(trial.run(&[PAUSE], &[], &format!("{call}\n{call}")), ["200", "402"]);
    assert_eq!(trial.provider.calls().len(), 2);
}

#[test]
fn each_turn_has_its_own_budget_from_the_prompt_to_the_models_last_word() {
    let Some(trial) = Trial::new(SCRIPT) else { return };
    let policy = "name: turn\ntype: spend\nhard_limit: $0.008\non_hard_limit: block-request\nwindow: turn\n";
    let prompt = status(MESSAGES, &message(PROMPT));
    let tool = status(MESSAGES, &message(r#"{"role":"user","content":"run it"}"#));
    let results = format!(
        r#"{PROMPT},{{"role":"assistant","content":[{{"type":"tool_use","id":"t","name":"Bash","input":{{}}}}]}},
           {{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t","content":"ok"}}]}}"#
    );
    let results = status(MESSAGES, &message(&results));
    // Two turns of one call each, and one whose second call does not fit, nor any prompt before it is over.
    let said = trial.run(&[policy], &[], &[&prompt, &prompt, &tool, &results, &prompt].map(String::as_str).join("\n"));
    assert_eq!(said, ["200", "200", "200", "402", "402"]);
}

#[test]
fn of_several_policies_the_strictest_says_and_each_part_is_told_once() {
    let Some(trial) = Trial::new(SCRIPT) else { return };
    let call = status(MESSAGES, &message(PROMPT));
    let shared =
        "name: shared\ntype: spend\nhard_limit: $0.018\nscope: user\nwindow: day\non_hard_limit: block-request\n";
    let strict = "name: strict\ntype: spend\nhard_limit: $0.008\non_hard_limit: block-session\n";
    let said = trial.run(&[PAUSE, shared, strict], &["--await-approvals"], &format!("{call}\n{call}"));
    assert_eq!(said, ["200", "402"], "nobody is asked where another policy blocks");
    assert_eq!(trial.events("approval_asked"), [] as [serde_json::Value; 0]);
    assert_eq!(trial.run(&[shared], &[], &call), ["200"]);
    // The third session finds that its user's budget was told of at the half already.
    assert_eq!(trial.run(&[shared], &[], &format!("{call}\n{call}")), ["200", "402"]);
    let told = trial.events("budget_reached").into_iter().filter(|told| told["policy"] == "shared");
    let told: Vec<_> = told.map(|told| told["percent"].as_u64().unwrap()).collect();
    assert_eq!(told, [50, 80]);
}

/// Has a program's clock be wrong by as many seconds as a file says, which it maps before it does anything.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile const long *ahead;
__attribute__((constructor)) static void map(void) {
    const char *path = getenv("CLOCK_AHEAD");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) ahead = mapped;
}
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    if (!failed && ahead && which == CLOCK_REALTIME) now->tv_sec += *ahead;
    return failed;
}
"#;
const DAY: i64 = 86_400;
const NOON: i64 = DAY / 2;
/// How far Tokyo's clocks, which are never set, are ahead of UTC's, in seconds.
const TOKYO: i64 = 9 * 3_600;
/// How much of the day is left when the call begins that is to wait, in seconds: long enough for it to begin.
const LEFT: i64 = 15;

/// By how much a clock must be ahead for it to be noon in Tokyo.
fn noon() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    (NOON - TOKYO - since).rem_euclid(DAY)
}

#[test]
fn what_waits_at_a_days_limit_goes_on_by_itself_once_the_day_is_over() {
    let Some(trial) = Trial::new(SCRIPT) else { return };
    let [source, shim, clock] = ["clock.c", "clock.so", "clock"].map(|name| trial.stage.path(name));
    trial.stage.write(&source, CLOCK);
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl").status().unwrap();
    assert!(built.success());
    let (noon, begun) = (noon(), Instant::now());
    std::fs::write(&clock, noon.to_ne_bytes()).unwrap();
    let day = "name: day\ntype: spend\nhard_limit: $0.008\nscope: user\nwindow: day\ntime_zone: Asia/Tokyo\non_hard_limit: pause\n";
    // The certificates of that day are not yet, or no longer, good for a client that knows better.
    let call = status(MESSAGES, &message(PROMPT)).replace("curl -s", "curl -sk");
    // Nobody could be asked: it is the clock alone that lets it go.
    let mut command = trial.command(&[day], &[], &format!("{call}\nuntil [ -e go ]; do sleep 0.05; done\n{call}"));
    let mut running = trial.stage.start(command.env("LD_PRELOAD", &shim).env("CLOCK_AHEAD", &clock));
    trial.wait_until("the first call is settled", &mut running, || trial.events("hold_settled").len() == 1);
    // To the evening of the same day, on which the first call was counted. In its place: what is mapped must not be gone
    // for a moment.
    let evening = (noon + NOON - LEFT - begun.elapsed().as_secs().cast_signed()).to_ne_bytes();
    std::fs::File::options().write(true).open(&clock).unwrap().write_all(&evening).unwrap();
    trial.stage.write(&trial.stage.workspace().join("go"), "");
    assert_eq!(lines(running), ["200", "200"]);
    let answers: Vec<_> = trial.events("approval_answered").into_iter().map(|told| told["answer"].clone()).collect();
    assert_eq!(answers, ["turned_over"], "the second waited for the next day");
}
