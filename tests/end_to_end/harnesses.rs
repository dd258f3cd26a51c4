//! The real harnesses do a job in the sandbox, against the simulated provider.

use crate::simulated::{self, Provider};
use crate::stage::{Actor, Stage, text};
use crate::{host, memory};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a harness may take to come to its tool.
const TOOL_TIMEOUT: Duration = Duration::from_secs(120);
/// How often is looked whether it has.
const GLANCE: Duration = Duration::from_millis(20);

const SCRIPT: &str = "
turns:
  - when: { after_tool: true }
    reply: { text: 'Done: hello.txt is written.' }
  - reply: { text: 'I will look around and write hello.txt.', run: 'sh look.sh' }
";

/// What the harness is made to run: it brings everything that it can read to where the test can, but for installed packages,
/// which are two gigabytes of the machine's own, and waits to be looked at itself.
const LOOK: &str = r#"
cat /proc/[0-9]*/environ > environments 2>/dev/null
cat /proc/[0-9]*/cmdline > commands 2>/dev/null
tar -cf files.tar --exclude=node_modules --exclude=site-packages "$HOME" /tmp /run /etc /dev/shm /var/tmp 2>/dev/null
: > ready
read answer < gate
printf 'Hello from the rehearsal.\n' > hello.txt
"#;

/// A harness and how it is asked to do a job.
struct Job {
    program: &'static str,
    host: &'static str,
    key_variable: &'static str,
    /// The key; its end is rare in memory.
    key: &'static str,
    placeholder_begins: &'static str,
    command: &'static [&'static str],
    /// What omni is told besides.
    flags: &'static [&'static str],
    /// What it says at the end.
    answer: &'static str,
}

const CLAUDE_CODE: Job = Job {
    program: "claude",
    host: "api.anthropic.com",
    key_variable: "ANTHROPIC_API_KEY",
    key: "sk-ant-api03-the-real-key-of-this-trial-0001~",
    placeholder_begins: "ANTHROPIC_API_KEY=sk-ant-",
    command: &["claude-code", "-p", "Write hello.txt", "--dangerously-skip-permissions"],
    flags: &[],
    answer: "Done: hello.txt is written.\n",
};

const CODEX: Job = Job {
    program: "codex",
    host: "api.openai.com",
    key_variable: "OPENAI_API_KEY",
    key: "sk-proj-the-real-key-of-this-trial-0002~",
    placeholder_begins: "CODEX_API_KEY=sk-",
    command: &["codex", "exec", "--skip-git-repo-check", "Write hello.txt"],
    flags: &[],
    answer: "Done: hello.txt is written.\n",
};

const PI: Job = Job {
    program: "pi",
    key: "sk-ant-api03-the-real-key-of-this-trial-0003~",
    command: &["pi", "-p", "--provider", "anthropic", "Write hello.txt"],
    ..CLAUDE_CODE
};

const OPENCODE: Job = Job {
    program: "opencode",
    key: "sk-ant-api03-the-real-key-of-this-trial-0004~",
    command: &["opencode", "run", "--auto", "-m", "anthropic/claude-sonnet-5", "Write hello.txt"],
    answer: "I will look around and write hello.txt.\nDone: hello.txt is written.\n",
    ..CLAUDE_CODE
};

const GEMINI: Job = Job {
    program: "gemini",
    host: "generativelanguage.googleapis.com",
    key_variable: "GEMINI_API_KEY",
    key: "AIza-the-real-key-of-this-trial-0005~",
    placeholder_begins: "GEMINI_API_KEY=AIza",
    command: &["gemini", "--yolo", "-m", "gemini-2.5-pro", "-p", "Write hello.txt"],
    flags: &[],
    answer: "I will look around and write hello.txt.\nDone: hello.txt is written.\n",
};

/// A program of a user's own on the Agents SDK, which says what it is asked, as Codex is told.
const AGENT: &str = r#"
import subprocess
from agents import Agent, Runner, function_tool

@function_tool
def shell(command: str) -> str:
    """Run a shell command."""
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout

agent = Agent(name="Writer", instructions="Write files.", tools=[shell], model="gpt-5.4")
print(Runner.run_sync(agent, "Write hello.txt").final_output)
"#;

const OPENAI_AGENTS: Job = Job {
    program: "agents-python3",
    key: "sk-proj-the-real-key-of-this-trial-0006~",
    placeholder_begins: "OPENAI_API_KEY=sk-",
    command: &["openai-agents", "agent.py"],
    ..CODEX
};

/// Programs of a user's own on the vendors' packages.
const OPENAI_PACKAGE: &str = r#"
import json, subprocess
from openai import OpenAI

schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
tool = {"type": "function", "function": {"name": "shell", "description": "Run a shell command.", "parameters": schema}}
messages, client = [{"role": "user", "content": "Write hello.txt"}], OpenAI()
while True:
    message = client.chat.completions.create(model="gpt-5.4", messages=messages, tools=[tool]).choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    if not message.tool_calls:
        break
    for call in message.tool_calls:
        done = subprocess.run(json.loads(call.function.arguments)["command"], shell=True, capture_output=True, text=True)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": done.stdout})
print(message.content)
"#;
const ANTHROPIC_PACKAGE: &str = r#"
import subprocess
from anthropic import Anthropic

schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
tool = {"name": "bash", "description": "Run a shell command.", "input_schema": schema}
messages, client = [{"role": "user", "content": "Write hello.txt"}], Anthropic()
while True:
    answer = client.messages.create(model="claude-sonnet-5", max_tokens=1000, messages=messages, tools=[tool])
    messages.append({"role": "assistant", "content": answer.content})
    calls = [block for block in answer.content if block.type == "tool_use"]
    if not calls:
        break
    done = [subprocess.run(call.input["command"], shell=True, capture_output=True, text=True) for call in calls]
    messages.append({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": call.id, "content": done.stdout} for call, done in zip(calls, done)]})
print(answer.content[-1].text)
"#;

const OPENAI: Job = Job {
    program: "agents-python3",
    key: "sk-proj-the-real-key-of-this-trial-0007~",
    placeholder_begins: "OPENAI_API_KEY=sk-",
    command: &["python", "openai-package.py"],
    flags: &["--secret", "openai", "--allow", "POST api.openai.com/v1/**"],
    ..CODEX
};

const ANTHROPIC: Job = Job {
    program: "agents-python3",
    key: "sk-ant-api03-the-real-key-of-this-trial-0008~",
    command: &["python", "anthropic-package.py"],
    flags: &["--secret", "anthropic", "--allow", "POST api.anthropic.com/v1/**"],
    ..CLAUDE_CODE
};

#[test]
fn the_python_package_of_openai_does_its_job_and_never_sees_the_key() {
    try_everybody(&OPENAI);
}

#[test]
fn the_python_package_of_anthropic_does_its_job_and_never_sees_the_key() {
    try_everybody(&ANTHROPIC);
}

#[test]
fn pi_does_its_job_and_never_sees_the_key() {
    try_everybody(&PI);
}

#[test]
fn opencode_does_its_job_and_never_sees_the_key() {
    try_everybody(&OPENCODE);
}

#[test]
fn gemini_does_its_job_and_never_sees_the_key() {
    try_everybody(&GEMINI);
}

#[test]
fn a_program_on_the_agents_sdk_does_its_job_and_never_sees_the_key() {
    try_everybody(&OPENAI_AGENTS);
}

#[test]
fn claude_code_does_its_job_and_never_sees_the_key() {
    try_everybody(&CLAUDE_CODE);
}

#[test]
fn codex_does_its_job_and_never_sees_the_key() {
    try_everybody(&CODEX);
}

fn try_everybody(job: &Job) {
    for actor in Actor::all() {
        if host::has_sandboxes() && host::has(*actor, job.program) && host::has(*actor, "tar") {
            does_its_job(job, *actor);
        }
    }
}

fn does_its_job(job: &Job, actor: Actor) {
    let stage = Stage::new(actor);
    let provider = Provider::start(&stage, SCRIPT);
    stage.write(&stage.workspace().join("look.sh"), LOOK);
    stage.write(&stage.workspace().join("agent.py"), AGENT);
    stage.write(&stage.workspace().join("openai-package.py"), OPENAI_PACKAGE);
    stage.write(&stage.workspace().join("anthropic-package.py"), ANTHROPIC_PACKAGE);
    let gate = stage.workspace().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&gate, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();

    let to = format!("{}:443:{}", job.host, provider.address);
    let ca = provider.ca.display().to_string();
    let mut arguments = vec!["exec", "--connect-to", &to, "--upstream-ca", &ca];
    arguments.extend(job.flags.iter().chain(&["--"]).chain(job.command));
    let mut running =
        stage.start(stage.omni(&arguments).env(job.key_variable, job.key).env("PATH", host::path_with(job.program)));
    let deadline = Instant::now() + TOOL_TIMEOUT;
    while !stage.workspace().join("ready").exists() {
        if !running.is_running() || Instant::now() > deadline {
            let output = running.end();
            panic!("{} never ran its tool: {}{}", job.program, text(&output.stdout), text(&output.stderr));
        }
        std::thread::sleep(GLANCE);
    }
    let processes = memory::inside(running.pid());
    let knowing: Vec<u32> = processes.iter().copied().filter(|pid| memory::holds(*pid, job.key)).collect();
    // The search finds what is there: every harness has its prompt in memory.
    let found = processes.iter().any(|pid| memory::holds(*pid, "Write hello.txt"));
    fs::write(&gate, "go\n").unwrap();
    let output = running.finish();

    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim_start(), job.answer);
    assert_eq!(knowing, Vec::<u32>::new(), "processes that have the key in memory");
    assert!(found, "none of {processes:?} has the prompt in memory");
    the_file_is_the_actors(&stage);
    the_key_is_nowhere(job, &stage);
    the_provider_got_the_key(job, &provider);
    the_story_agrees(&stage, &provider);
}

fn the_file_is_the_actors(stage: &Stage) {
    let path = stage.workspace().join("hello.txt");
    assert_eq!(fs::read_to_string(&path).unwrap(), "Hello from the rehearsal.\n");
    assert_eq!(path.metadata().unwrap().uid(), stage.workspace().metadata().unwrap().uid());
}

fn the_key_is_nowhere(job: &Job, stage: &Stage) {
    let read = |name: &str| fs::read(stage.workspace().join(name)).unwrap();
    let environments = read("environments");
    assert!(memory::is_in(&environments, job.placeholder_begins), "the placeholder is in the harness's environment");
    assert!(!memory::is_in(&environments, job.key));
    assert!(text(&environments).split('\0').all(|entry| !entry.to_lowercase().contains("_proxy=")));
    let commands = read("commands");
    assert!(memory::is_in(&commands, "look.sh") && !memory::is_in(&commands, job.key), "{}", text(&commands));
    let files = read("files.tar");
    assert!(memory::is_in(&files, "/run/omni/ca.pem") || memory::is_in(&files, "run/omni/ca.pem"));
    assert!(!memory::is_in(&files, job.key));
    assert_eq!(holders(&stage.path("home"), job.key), Vec::<String>::new());
}

/// The files below a directory that hold a text.
fn holders(directory: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(holders(&path, needle));
        } else if path.is_file() && memory::is_in(&fs::read(&path).unwrap(), needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn the_provider_got_the_key(job: &Job, provider: &Provider) {
    let calls: Vec<_> = provider.requests().into_iter().filter(|request| !request["model"].is_null()).collect();
    assert!(calls.len() >= 2, "{calls:?}");
    for call in calls {
        let sent = ["x-api-key", "x-goog-api-key", "authorization"].map(|name| &call["headers"][name]);
        let sent = sent.iter().find_map(|value| value.as_str()).unwrap();
        assert_eq!(sent.trim_start_matches("Bearer "), job.key);
    }
}

fn the_story_agrees(stage: &Stage, provider: &Provider) {
    let session = stage.last_session();
    assert_eq!(session["status"], "finished");
    assert_eq!(session["exit"]["code"], 0);
    // Calls that are made side by side may be told in another order than they were answered in.
    let sorted = |mut calls: Vec<simulated::Call>| {
        calls.sort_by_key(|call| format!("{call:?}"));
        calls
    };
    let (told, answered) = (sorted(simulated::calls_told(&session)), sorted(provider.calls()));
    assert_eq!(told, answered);
    let (usage, cost) = simulated::sum(&answered);
    assert_eq!(serde_json::from_value::<omni::model::Usage>(session["usage"].clone()).unwrap(), usage);
    assert_eq!(session["cost_usd"], cost);
    assert_ne!(cost, "0.00");
    let reached = session["requests"].as_array().unwrap().iter().filter(|request| request["verdict"] == "allowed");
    // What is said on a WebSocket is no request of its own.
    let requests = provider.requests();
    let asked = requests.iter().filter(|request| request["version"] != "WebSocket");
    assert_eq!(reached.count(), asked.count());
    let verified = stage.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
}
