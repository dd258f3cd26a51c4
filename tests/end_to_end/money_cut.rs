//! Answers that end before they are over: cut since they outrun what is held, made shorter, left by their clients, and calls of a
//! session that was killed.

use crate::money_stage::{CHAT, MESSAGES, RESPONSES, Trial, answer, message};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use omni::model::NanoUsd;
use serde_json::{Value, json};

/// Twenty-six thousand bytes, which are more tokens than the budgets below have money for.
const LONG: &str =
    "turns:\n  - reply: { text: 'One word after the other. ', repeat: 1000, usage: { input: 0, output: 9000 } }\n";
/// Room for some sixteen hundred tokens of the model of Anthropic's, and four thousand of OpenAI's.
const NARROW: &str = "name: narrow\ntype: spend\nhard_limit: $0.008\n";
const HELLO: &str = r#"[{"role":"user","content":"Hello"}]"#;

/// A streamed call of each form, with what its end must be.
fn streams() -> [(&'static str, String, Vec<&'static str>); 3] {
    let stream = |model: &str, rest: String| format!(r#"{{"model":"{model}","stream":true,{rest}}}"#);
    [
        (
            MESSAGES,
            stream("claude-haiku-4-5", format!(r#""max_tokens":20000,"messages":{HELLO}"#)),
            vec!["event: error\ndata: {", r#""type":"billing_error""#],
        ),
        (
            RESPONSES,
            stream("gpt-5-mini", format!(r#""max_output_tokens":20000,"input":{HELLO}"#)),
            vec!["event: response.failed\ndata: {", r#""status":"failed""#],
        ),
        (
            CHAT,
            stream(
                "gpt-5-mini",
                format!(
                    r#""stream_options":{{"include_usage":true}},"max_completion_tokens":20000,"messages":{HELLO}"#
                ),
            ),
            vec![r#"data: {"error":{"#, r#""type":"omni_budget""#],
        ),
    ]
}

#[test]
fn a_stream_that_outruns_its_hold_is_cut_with_its_vendors_own_error() {
    let Some(trial) = Trial::new(LONG) else { return };
    for (url, body, ends) in streams() {
        let said = trial.run(&[NARROW], &[], &format!("curl -sN -d '{body}' https://{url}"));
        let said = said.join("\n");
        let end = said.rfind("longer than the budget allows").unwrap_or_else(|| panic!("{url}: {said}"));
        let last = said[..end].rfind("\n\n").map_or(0, |start| start);
        assert!(ends.iter().all(|part| said[last..].contains(part)), "{url}: {}", &said[last..]);
        assert!(said.matches("word ").count() > 10, "what was paid for arrived: {said}");
    }
    let completed = trial.events("request_completed");
    let ends: Vec<_> = completed.iter().map(|event| event["end"].as_str().unwrap()).collect();
    assert_eq!(ends, ["budget_reached"; 3]);
    for settled in trial.events("hold_settled") {
        let amount = |key: &str| settled[key].as_i64().unwrap();
        assert_eq!(settled["estimated"], true, "{settled}");
        assert!(amount("charged") <= amount("held") && amount("charged") > amount("held") / 2, "{settled}");
    }
}

#[test]
fn a_policy_that_clamps_has_the_vendor_end_the_answer_itself() {
    let Some(trial) = Trial::new("turns:\n  - reply: { text: 'Short.', usage: { input: 0, output: 1500 } }\n") else {
        return;
    };
    let clamps = format!("{NARROW}clamp: true\n");
    for (url, body, _) in streams() {
        let said = trial.run(&[&clamps], &[], &format!("curl -sN -d '{body}' https://{url}")).join("\n");
        assert!(said.contains("Short.") && !said.contains("longer than"), "{url}: {said}");
    }
    // The provider got a limit of fewer digits than the client wrote.
    let received: Vec<_> =
        trial.provider.requests().iter().map(|call| call["request_bytes"].as_u64().unwrap()).collect();
    assert_eq!(received, streams().map(|(_, body, _)| body.len() as u64 - 1));
    let estimated: Vec<_> = trial.events("hold_settled").iter().map(|settled| settled["estimated"].clone()).collect();
    assert_eq!(estimated, [false; 3]);
}

/// A stream that takes a while, of which a client takes the beginning.
const SLOW: &str = "
turns:
  - when: { contains: 'slowly' }
    reply: { text: 'One word after the other. ', repeat: 10, chunk_delay_ms: 20, usage: { input: 10, output: 1000 } }
  - when: { contains: 'for ever' }
    reply: { text: 'One word after the other. ', repeat: 4000, chunk_delay_ms: 50, usage: { input: 10, output: 9000 } }
";

#[test]
fn the_rest_of_an_answer_whose_client_left_is_read_for_its_bill_and_a_long_rest_is_estimated() {
    let Some(trial) = Trial::new(SLOW) else { return };
    let wide = "name: wide\ntype: spend\nhard_limit: $1\n";
    let left = |words: &str| {
        let body = message(&format!(r#"{{"role":"user","content":"{words}"}}"#)).replacen('{', r#"{"stream":true,"#, 1);
        format!("curl -sN -d '{body}' https://{MESSAGES} | head -c 600 > /dev/null")
    };
    // Whoever makes the second call does not leave, and takes as long.
    let whole = left("slowly").replace("| head -c 600 ", "");
    trial.run(&[wide], &[], &format!("{}\n{whole}", left("slowly")));
    let ends: Vec<_> = trial.events("request_completed").iter().map(|event| event["end"].clone()).collect();
    assert_eq!(ends, [json!("client_gone"), json!("complete")]);
    let settled = |event: &Value| (event["charged"].as_i64().unwrap(), event["estimated"].as_bool().unwrap());
    let told: Vec<_> = trial.events("hold_settled").iter().map(settled).collect();
    assert_eq!(told, [(5_010_000, false); 2]);
    // The session ends at once, and nobody reads on.
    trial.run(&[wide], &[], &left("for ever"));
    let (charged, estimated) = trial.events("hold_settled").iter().map(settled).next_back().unwrap();
    assert!(estimated && charged > 0 && charged < 5_000_000, "{charged}");
}

/// A budget with room for one call at a time, and not for a second beside what the first could cost.
const ONE: &str =
    "name: day\ntype: spend\nhard_limit: $0.0075\nscope: user\nwindow: day\non_hard_limit: block-request\n";

/// Starts a call that goes on for ever, kills its session as `kill` does, and gives what the next session's call comes to.
fn after_killing(trial: &Trial, kill: impl FnOnce(Pid)) -> String {
    let body = message(r#"{"role":"user","content":"for ever"}"#).replacen('{', r#"{"stream":true,"#, 1);
    let mut killed = trial.start(&[ONE], &[], &format!("curl -sN -d '{body}' https://{MESSAGES}"));
    // It was allowed before it got there.
    trial.wait_until("the call has come to the provider", &mut killed, || !trial.provider.calls().is_empty());
    kill(Pid::from_raw(i32::try_from(killed.pid()).unwrap()));
    drop(killed);
    let call = answer(MESSAGES, &message(r#"{"role":"user","content":"Hello"}"#));
    trial.run(&[ONE], &[], &call).join("\n")
}

#[test]
fn a_killed_sessions_proxy_says_what_its_calls_came_to_and_the_next_session_waits_for_that() {
    let Some(trial) = Trial::new(SLOW) else { return };
    let said = after_killing(&trial, |session| kill(session, Signal::SIGKILL).unwrap());
    assert!(said.contains("\"text\""), "{said}");
    let settled = trial.events("hold_settled").remove(0);
    assert_eq!(settled["estimated"], true, "{settled}");
    assert!(settled["charged"].as_i64().unwrap() < 2_400_000, "{settled}");
}

#[test]
fn where_nobody_is_left_to_say_what_a_call_came_to_all_of_its_hold_is_charged() {
    let Some(trial) = Trial::new(SLOW) else { return };
    let said = after_killing(&trial, |session| {
        // Stopped, it can neither see that its processes die nor end them in order.
        kill(session, Signal::SIGSTOP).unwrap();
        let children = std::fs::read_to_string(format!("/proc/{session}/task/{session}/children")).unwrap();
        let children = children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()));
        children.for_each(|child| kill(child, Signal::SIGKILL).unwrap());
        kill(session, Signal::SIGKILL).unwrap();
    });
    let held = &trial.events("hold_placed")[0]["amount"];
    let spent = NanoUsd(held.as_i64().unwrap());
    assert!(said.contains("is used up") && said.contains(&spent.to_string()), "{spent} is held by the dead: {said}");
    assert_eq!(trial.provider.calls().len(), 1);
}
