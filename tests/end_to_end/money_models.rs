//! What policies on money say of models: another from a soft limit on, those without a price, and hosts that a user named.

use crate::host;
use crate::simulated::Provider;
use crate::stage::{Actor, Stage, text};
use serde_json::Value;

/// Each call costs a quarter of a dollar with the dear model, and five cents with the cheap one.
const SCRIPT: &str = "
turns:
  - reply: { text: 'Hello.', usage: { input: 0, output: 10000 } }
";

/// A host that is no vendor's, which the simulated provider's certificate is good for.
const NAMED: &str = "platform.claude.com";

/// A session that calls models with curl.
struct Trial {
    stage: Stage,
    provider: Provider,
}

impl Trial {
    fn new() -> Option<Self> {
        if !host::has_sandboxes() {
            return None;
        }
        let stage = Stage::new(Actor::Tester);
        let provider = Provider::start(&stage, SCRIPT);
        Some(Self { stage, provider })
    }

    /// Runs calls one after the other, and gives what each printed.
    fn calls(&self, policy: &str, profile: &str, calls: &[(&str, &str)]) -> Vec<String> {
        let (spend, trial) = (self.stage.path("spend.yaml"), self.stage.path("trial.yaml"));
        self.stage.write(&spend, policy);
        let rules = "egress:\n- allow: POST api.anthropic.com/**\n- allow: POST platform.claude.com/**\n";
        self.stage.write(&trial, format!("name: trial\n{rules}{profile}"));
        let (spend, trial, ca) =
            (spend.display().to_string(), trial.display().to_string(), self.provider.ca.display().to_string());
        let [one, two] = ["api.anthropic.com", NAMED].map(|host| format!("{host}:443:{}", self.provider.address));
        let mut arguments = vec!["exec", "--profile", &trial, "--connect-to", &one, "--connect-to", &two];
        arguments.extend(["--upstream-ca", &ca]);
        if !policy.is_empty() {
            arguments.extend(["--policy", &spend]);
        }
        let curl = |(url, body): &(&str, &str)| {
            format!("curl -s -H 'content-type: application/json' -d '{body}' https://{url}; echo")
        };
        let script = calls.iter().map(curl).collect::<Vec<_>>().join("\n");
        arguments.extend(["--", "sh", "-c", &script]);
        let output = self.stage.run(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn models(&self) -> Vec<String> {
        self.provider.calls().into_iter().map(|call| call.model).collect()
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let log = self.stage.run(&["audit", "log", "--json"]);
        let events =
            text(&log.stdout).lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        events.into_iter().filter(|event| event.to_string().contains(kind)).collect()
    }
}

const MESSAGES: &str = "api.anthropic.com/v1/messages";

fn message(model: &str) -> String {
    format!(r#"{{"model":"{model}","max_tokens":20000,"messages":[{{"role":"user","content":"Hello"}}]}}"#)
}

#[test]
fn from_the_soft_limit_on_calls_go_to_the_cheaper_model() {
    let Some(trial) = Trial::new() else { return };
    let policy = "name: thrift\ntype: spend\nsoft_limit: $0.20\nhard_limit: $100\non_soft_limit: downgrade\n\
                  downgrade_to: claude-haiku-4-5\n";
    let (dear, cheap) = (message("claude-opus-4-5"), message("claude-haiku-4-5"));
    let said = trial.calls(policy, "", &[(MESSAGES, &dear), (MESSAGES, &dear), (MESSAGES, &cheap)]);
    assert!(said.iter().all(|line| line.contains("Hello.")), "{said:?}");
    assert_eq!(trial.models(), ["claude-opus-4-5", "claude-haiku-4-5", "claude-haiku-4-5"]);
    let replaced = trial.events("model_replaced");
    assert_eq!(replaced.len(), 1, "the third asked for it itself: {replaced:?}");
    let told = replaced[0].to_string();
    assert!(["thrift", "claude-opus-4-5", "claude-haiku-4-5"].iter().all(|word| told.contains(word)), "{told}");
    // The record has the bill of the model that was called.
    let session = trial.stage.last_session();
    let costs: Vec<_> = session["requests"].as_array().unwrap().iter().map(|one| one["cost_usd"].clone()).collect();
    assert_eq!(costs, ["0.25", "0.05", "0.05"], "{session}");
}

#[test]
fn where_no_cheaper_call_can_be_made_a_person_is_asked() {
    let Some(trial) = Trial::new() else { return };
    let policy = "name: thrift\ntype: spend\nsoft_limit: $0.20\non_soft_limit: downgrade\n\
                  downgrade_to: claude-opus-4-5\n";
    let (dear, dearer) = (message("claude-opus-4-5"), message("claude-opus-4-1"));
    let said =
        trial.calls(policy, "", &[(MESSAGES, &dear), (MESSAGES, &message("claude-haiku-4-5")), (MESSAGES, &dearer)]);
    assert!(said[0].contains("Hello."), "{said:?}");
    assert!(said[1].contains("nobody could be asked"), "nothing is sent to a dearer model: {said:?}");
    assert!(said[2].contains("Hello."), "{said:?}");
    assert_eq!(trial.models(), ["claude-opus-4-5", "claude-opus-4-5"]);
}

#[test]
fn a_model_without_a_price_goes_only_where_policy_lets_it() {
    let Some(trial) = Trial::new() else { return };
    let unknown = message("claude-nobody-9");
    let policy = |word: &str| format!("name: known\ntype: spend\nhard_limit: $100\nunknown_model: {word}\n");
    for (word, refusal) in [("deny", "is not known"), ("ask", "nobody could be asked")] {
        let said = trial.calls(&policy(word), "", &[(MESSAGES, &unknown)]);
        assert!(said[0].contains(refusal) && said[0].contains("claude-nobody-9"), "{word}: {said:?}");
        assert_eq!(trial.models(), Vec::<String>::new(), "{word}");
    }
    let said = trial.calls(&policy("deny"), "", &[(MESSAGES, &message("claude-haiku-4-5"))]);
    assert!(said[0].contains("Hello."), "a known one goes: {said:?}");
    let said = trial.calls(&policy("dearest"), "", &[(MESSAGES, &unknown)]);
    assert!(said[0].contains("Hello."), "{said:?}");
    assert_eq!(trial.models(), ["claude-haiku-4-5", "claude-nobody-9"]);
}

#[test]
fn a_host_that_the_user_names_is_metered_and_counts() {
    let Some(trial) = Trial::new() else { return };
    let url = format!("{NAMED}/v1/chat/completions");
    let call = r#"{"model":"our-own","max_tokens":20000,"messages":[{"role":"user","content":"Hello"}]}"#;
    let prices = "- vendor: own\n  model: our-own\n  usd_per_million: { input: 1, output: 2 }\n";
    let store = trial.stage.path("home/state");
    let cost = |profile: &str| {
        let said = trial.calls("", profile, &[(&url, call)]);
        assert!(said[0].contains("Hello."), "{said:?}");
        trial.stage.last_session()["requests"][0].clone()
    };
    assert_eq!(cost("")["usage"], Value::Null, "nothing is known of it");
    let free = cost(&format!("model_hosts: [{{ host: {NAMED}, free: true }}]\n"));
    assert_eq!((&free["usage"]["output"], &free["cost_usd"]), (&10_000.into(), &"0.00".into()), "{free}");
    let named = format!("model_hosts: [{{ host: {NAMED} }}]\n");
    let unknown = cost(&named);
    assert_eq!(unknown["pricing"], "unknown_model", "{unknown}");
    trial.stage.write(&store.join("prices.yaml"), prices);
    let own = cost(&named);
    assert_eq!((&own["pricing"], &own["cost_usd"]), (&"exact".into(), &"0.02".into()), "{own}");
    // And a budget holds there.
    let calls = trial.provider.calls().len();
    let said = trial.calls("name: b\ntype: spend\nhard_limit: $0.01\n", &named, &[(&url, call)]);
    assert!(said[0].contains("the budget `b` is used up"), "{said:?}");
    assert_eq!(trial.provider.calls().len(), calls, "the provider saw nothing");
}
