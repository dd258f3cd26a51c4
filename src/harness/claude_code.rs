//! Anthropic's Claude Code. It is run with the person's own command line; what it would ask on a first start in an
//! empty home is answered by two files.

use super::{LaunchRequest, LaunchSpec, Seed, placeholder_in, plain};
use crate::model::Placeholder;
use serde_json::{Value, json};

/// How many of a key's last characters Claude Code remembers when a person approves the key.
const APPROVED_CHARS: usize = 20;

/// The variable that Claude Code takes its key from.
const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";

pub(super) fn launch(request: &LaunchRequest<'_>) -> LaunchSpec {
    let settings = json!({ "theme": "dark", "skipDangerousModePermissionPrompt": true });
    LaunchSpec {
        seeds: vec![
            Seed::private("~/.claude.json", &state(request)),
            Seed::private("~/.claude/settings.json", &settings),
        ],
        ..plain::launch(request)
    }
}

/// What `~/.claude.json` holds once a person has been through the first start: the welcome, the approval of the key
/// found in the environment, and the trust in the workspace.
fn state(request: &LaunchRequest<'_>) -> Value {
    let approved: Vec<String> = placeholder_in(request, KEY_VARIABLE).map(key_tail).into_iter().collect();
    let workspace = request.workspace;
    json!({
        "hasCompletedOnboarding": true,
        "customApiKeyResponses": { "approved": approved, "rejected": [] },
        "projects": { workspace: { "hasTrustDialogAccepted": true } },
    })
}

fn key_tail(placeholder: &Placeholder) -> String {
    let count = placeholder.as_str().chars().count();
    placeholder.as_str().chars().skip(count.saturating_sub(APPROVED_CHARS)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::fixture::{Fixture, words};
    use super::*;

    #[test]
    fn runs_the_persons_own_command_line() {
        let fixture = Fixture::of("claude-code", &["claude-code", "-p", "hi"]);
        let spec = fixture.launch();
        assert_eq!(spec.argv, words(&["/opt/claude", "-p", "hi"]));
        assert_eq!(spec.env["ANTHROPIC_API_KEY"], fixture.placeholder());
        assert_eq!(spec.env["DISABLE_AUTOUPDATER"], "1");
        assert_eq!(spec.hide, words(&["~/.claude/.credentials.json"]));
    }

    #[test]
    fn the_first_start_asks_nothing() {
        let fixture = Fixture::of("claude-code", &["claude"]);
        let spec = fixture.launch();
        let paths: Vec<&str> = spec.seeds.iter().map(|seed| seed.path.as_str()).collect();
        assert_eq!(paths, ["~/.claude.json", "~/.claude/settings.json"]);
        let state: Value = serde_json::from_str(&spec.seeds[0].contents).expect("JSON");
        let placeholder = fixture.placeholder();
        let tail = &placeholder[placeholder.len() - APPROVED_CHARS..];
        assert_eq!(state["customApiKeyResponses"]["approved"], json!([tail]));
        assert_eq!(state["projects"]["/home/ann/my \"work\""]["hasTrustDialogAccepted"], json!(true));
    }

    #[test]
    fn without_a_key_no_key_is_claimed() {
        let spec = Fixture::of("claude-code", &["claude"]).without_placeholders().launch();
        assert!(!spec.env.contains_key(KEY_VARIABLE));
        let state: Value = serde_json::from_str(&spec.seeds[0].contents).expect("JSON");
        assert_eq!(state["customApiKeyResponses"]["approved"], json!([]));
    }
}
