//! The real harnesses under a budget: they wait for a person, and stop at once where nothing is left.

use crate::host;
use crate::simulated::Provider;
use crate::stage::{Actor, Running, Stage, text};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a harness may take to come to the question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(120);
/// How often is looked whether it has.
const GLANCE: Duration = Duration::from_millis(50);

/// The first call costs more than the soft limit at every model.
const SCRIPT: &str = "
turns:
  - when: { after_tool: true }
    reply: { text: 'Done: hello.txt is written.', usage: { input: 1000, output: 100 } }
  - reply: { text: 'I will write.', run: 'echo hello > hello.txt', usage: { input: 1000, output: 10000 } }
";

const POLICY: &str = "
name: spend-control
type: spend
soft_limit: $0.05
hard_limit: $100.00
on_soft_limit: require-approval
on_hard_limit: block-session
";

struct Job {
    program: &'static str,
    host: &'static str,
    key: (&'static str, &'static str),
    command: &'static [&'static str],
    /// How it calls a model: Codex over a WebSocket.
    call: &'static str,
    /// How many of its calls are refused where nothing is left: Codex has the beginning of a conversation made ready first.
    refused: usize,
}

const CLAUDE_CODE: Job = Job {
    program: "claude",
    host: "api.anthropic.com",
    key: ("ANTHROPIC_API_KEY", "sk-ant-api03-the-real-key-of-this-trial-0101~"),
    command: &["claude-code", "-p", "Write hello.txt", "--dangerously-skip-permissions"],
    call: "POST https://api.anthropic.com/v1/messages",
    refused: 1,
};

const CODEX: Job = Job {
    program: "codex",
    host: "api.openai.com",
    key: ("OPENAI_API_KEY", "sk-proj-the-real-key-of-this-trial-0102~"),
    command: &["codex", "exec", "--skip-git-repo-check", "Write hello.txt"],
    call: "GET https://api.openai.com/v1/responses",
    refused: 2,
};

fn is_possible(job: &Job) -> bool {
    host::has_sandboxes() && host::has(Actor::Tester, job.program)
}

fn start(stage: &Stage, provider: &Provider, job: &Job, options: &[&str]) -> Running {
    let to = format!("{}:443:{}", job.host, provider.address);
    let ca = provider.ca.display().to_string();
    let mut arguments = vec!["exec", "--connect-to", &to, "--upstream-ca", &ca];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(job.command);
    let (variable, key) = job.key;
    stage.start(stage.omni(&arguments).env(variable, key).env("PATH", host::path_with(job.program)))
}

/// The question that waits.
fn question(stage: &Stage, running: &mut Running) -> Value {
    let deadline = Instant::now() + QUESTION_TIMEOUT;
    loop {
        let output = stage.run(&["approvals", "--json"]);
        if let Some(line) = text(&output.stdout).lines().next() {
            return serde_json::from_str(line).unwrap();
        }
        assert!(running.is_running() && Instant::now() < deadline, "no question came: {}", text(&output.stderr));
        std::thread::sleep(GLANCE);
    }
}

fn waits_for_a_person(job: &Job) {
    if !is_possible(job) {
        return;
    }
    let stage = Stage::new(Actor::Tester);
    let provider = Provider::start(&stage, SCRIPT);
    let policy = stage.path("spend.yaml");
    stage.write(&policy, POLICY);
    let policy = policy.display().to_string();
    let mut running = start(&stage, &provider, job, &["--await-approvals", "--policy", &policy]);
    let asked = question(&stage, &mut running);
    assert!(asked["what"].as_str().unwrap().starts_with(job.call), "{asked}");
    assert!(asked["why"].as_str().unwrap().contains("spend-control"), "{asked}");
    let before = provider.calls().len();
    let id = asked["id"].as_str().unwrap();
    assert!(stage.run(&["approve", id, "--session"]).status.success());
    assert!(!stage.run(&["deny", id]).status.success(), "the second answer is none");
    let output = running.finish();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("Done: hello.txt is written."));
    assert!(provider.calls().len() > before, "what waited went on");
}

#[test]
fn claude_code_waits_for_a_person_and_goes_on() {
    waits_for_a_person(&CLAUDE_CODE);
}

#[test]
fn codex_waits_for_a_person_and_goes_on() {
    waits_for_a_person(&CODEX);
}

fn stops_at_once(job: &Job) {
    if !is_possible(job) {
        return;
    }
    let stage = Stage::new(Actor::Tester);
    let provider = Provider::start(&stage, SCRIPT);
    let output = start(&stage, &provider, job, &["--budget", "$0.000001"]).finish();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(said.contains("the budget `--budget` is used up"), "{said}");
    assert_eq!(provider.calls(), [], "nothing is called that there is no money for");
    let session = stage.last_session();
    let denied = session["requests"].as_array().unwrap().iter();
    let calls = denied.filter(|request| request["verdict"] == "denied");
    let calls: Vec<_> = calls.filter_map(|request| request["reason"].as_str().map(str::to_owned)).collect();
    let calls: Vec<_> = calls.into_iter().filter(|reason| reason.contains("is used up")).collect();
    assert_eq!(calls.len(), job.refused, "it does not ask again: {calls:?}");
}

#[test]
fn claude_code_stops_at_once_where_nothing_is_left() {
    stops_at_once(&CLAUDE_CODE);
}

#[test]
fn codex_stops_at_once_where_nothing_is_left() {
    stops_at_once(&CODEX);
}
