//! `omni sim` as the model provider of a trial, and what it recorded.

use crate::stage::Stage;
use omni::meter::{Certainty, PriceTable, Reading, Terms, Tier, Vendor};
use omni::model::{NanoUsd, Usage};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A running simulated provider.
pub struct Provider {
    process: Child,
    record: PathBuf,
    pub ca: PathBuf,
    pub address: String,
}

/// A model call.
#[derive(Debug, PartialEq)]
pub struct Call {
    pub model: String,
    pub usage: Usage,
    pub cost_usd: String,
}

impl Provider {
    /// Starts one that follows a script.
    pub fn start(stage: &Stage, script: &str) -> Self {
        Self::start_with(stage, script, &[])
    }

    /// The same, with further arguments.
    pub fn start_with(stage: &Stage, script: &str, arguments: &[&str]) -> Self {
        let [ca, record, turns] = ["ca.pem", "requests.jsonl", "script.yaml"].map(|name| stage.path(name));
        std::fs::write(&turns, script).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
        command.arg("sim").arg("--ca-out").arg(&ca).arg("--record").arg(&record).arg("--script").arg(&turns);
        command.args(arguments);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening https://").expect(&line).to_owned();
        std::fs::set_permissions(&ca, std::fs::Permissions::from_mode(0o644)).unwrap();
        Self { process, record, ca, address }
    }

    /// Every request it got.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.record).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The model calls it answered, priced from its own numbers.
    pub fn calls(&self) -> Vec<Call> {
        let answered = |request: &Value| {
            let usage: Usage = serde_json::from_value(request["usage"].clone()).ok()?;
            let model = request["model"].as_str()?.to_owned();
            let tier = request["service_tier"].as_str();
            Some(Call { cost_usd: price(&model, usage, tier).to_decimal(), model, usage })
        };
        self.requests().iter().filter_map(answered).collect()
    }
}

/// What the embedded table says a call costs that was billed as this class of service.
fn price(model: &str, usage: Usage, tier: Option<&str>) -> NanoUsd {
    let certainty = Certainty::Final;
    let tier = match tier {
        None => Tier::Standard,
        Some("priority") => Tier::Priority,
        Some("flex") => Tier::Flex,
        Some("batch") => Tier::Batch,
        Some(other) => panic!("{other}"),
    };
    let (model, terms, shares) = (model.to_owned(), Terms { tier, ..Terms::default() }, Vec::new());
    let reading = Reading { model, usage, certainty, terms, shares, charged: None };
    let vendor = match reading.model.get(..3) {
        Some("cla") => Vendor::Anthropic,
        Some("gem") => Vendor::Google,
        _ if reading.model.contains("anthropic.") || reading.model.contains("amazon.") => Vendor::Bedrock,
        _ => Vendor::OpenAi,
    };
    PriceTable::embedded().price(vendor, &reading, "2026-11-26").0
}

/// The model calls that a session's story tells of; a request that was several tells of each.
pub fn calls_told(session: &Value) -> Vec<Call> {
    let told = |call: &Value| {
        let usage: Usage = serde_json::from_value(call.get("usage")?.clone()).unwrap();
        let text = |key: &str| call[key].as_str().unwrap().to_owned();
        assert_eq!(call["pricing"], "exact");
        Some(Call { model: text("model"), usage, cost_usd: text("cost_usd") })
    };
    let single = |request: &Value| match request["calls"].as_array() {
        Some(calls) => calls.clone(),
        None => vec![request.clone()],
    };
    session["requests"].as_array().unwrap().iter().flat_map(single).filter_map(|call| told(&call)).collect()
}

/// What calls come to.
pub fn sum(calls: &[Call]) -> (Usage, String) {
    let usage = calls.iter().fold(Usage::default(), |sum, call| sum.plus(call.usage));
    let cost: NanoUsd = calls.iter().map(|call| call.cost_usd.parse::<NanoUsd>().unwrap()).sum();
    (usage, cost.to_decimal())
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
