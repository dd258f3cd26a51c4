//! A session whose shell calls simulated models with curl, under policies on money.

use crate::host;
use crate::simulated::Provider;
use crate::stage::{Actor, Running, Stage, text};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long something may take to be told.
const TOLD_TIMEOUT: Duration = Duration::from_secs(120);
/// How often is looked whether it is.
const GLANCE: Duration = Duration::from_millis(50);

pub const MESSAGES: &str = "api.anthropic.com/v1/messages";
pub const RESPONSES: &str = "api.openai.com/v1/responses";
pub const CHAT: &str = "api.openai.com/v1/chat/completions";

/// The trial of a policy.
pub struct Trial {
    pub stage: Stage,
    pub provider: Provider,
}

impl Trial {
    /// None where there are no sandboxes.
    pub fn new(script: &str) -> Option<Self> {
        if !host::has_sandboxes() {
            return None;
        }
        let stage = Stage::new(Actor::Tester);
        let provider = Provider::start(&stage, script);
        let profile = "name: trial\negress:\n- allow: POST api.anthropic.com/**\n- allow: POST api.openai.com/**\n";
        stage.write(&stage.path("trial.yaml"), profile);
        Some(Self { stage, provider })
    }

    /// Starts a session under policies, which runs this in a shell.
    pub fn start(&self, policies: &[&str], options: &[&str], script: &str) -> Running {
        self.stage.start(&mut self.command(policies, options, script))
    }

    /// What starts one.
    pub fn command(&self, policies: &[&str], options: &[&str], script: &str) -> Command {
        let files: Vec<String> = (0..policies.len()).map(|number| format!("spend-{number}.yaml")).collect();
        let files: Vec<String> = files.iter().map(|name| self.stage.path(name).display().to_string()).collect();
        for (file, policy) in files.iter().zip(policies) {
            self.stage.write(file.as_ref(), policy);
        }
        let (profile, ca) = (self.stage.path("trial.yaml"), self.provider.ca.display().to_string());
        let profile = profile.display().to_string();
        let to = ["api.anthropic.com", "api.openai.com"].map(|host| format!("{host}:443:{}", self.provider.address));
        let mut arguments = vec!["exec", "--profile", &profile, "--upstream-ca", &ca];
        to.iter().for_each(|to| arguments.extend(["--connect-to", to]));
        files.iter().for_each(|file| arguments.extend(["--policy", file]));
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        self.stage.omni(&arguments)
    }

    /// Runs such a session to its end, and gives the lines that it printed.
    pub fn run(&self, policies: &[&str], options: &[&str], script: &str) -> Vec<String> {
        lines(self.start(policies, options, script))
    }

    /// The events of one kind, of all sessions.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let log = self.stage.run(&["audit", "log", "--json"]);
        assert!(log.status.success(), "{}", text(&log.stderr));
        let lines = text(&log.stdout);
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == kind).collect()
    }

    /// The question that waits.
    pub fn question(&self, running: &mut Running) -> Value {
        let mut found = None;
        self.wait_until("a question comes", running, || {
            let output = self.stage.run(&["approvals", "--json"]);
            found = text(&output.stdout).lines().next().map(|line| serde_json::from_str::<Value>(line).unwrap());
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for something that is bound to happen while a session runs.
    pub fn wait_until(&self, what: &str, running: &mut Running, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + TOLD_TIMEOUT;
        while !is_so() {
            assert!(running.is_running() && Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(GLANCE);
        }
    }
}

/// What a session printed, line by line.
pub fn lines(running: Running) -> Vec<String> {
    let output = running.finish();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// A call that prints its status in a line.
pub fn status(url: &str, body: &str) -> String {
    format!("curl -s -o /dev/null -w '%{{http_code}}\\n' -H 'content-type: application/json' -d '{body}' https://{url}")
}

/// A call that prints its answer.
pub fn answer(url: &str, body: &str) -> String {
    format!("curl -s -H 'content-type: application/json' -d '{body}' https://{url}; echo")
}

/// A message to Anthropic's small model, whose thousand tokens of an answer cost half a cent.
pub fn message(conversation: &str) -> String {
    format!(r#"{{"model":"claude-haiku-4-5","max_tokens":1000,"messages":[{conversation}]}}"#)
}
