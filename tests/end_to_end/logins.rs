//! A harness that works by its owner's own login: the file of it stays outside, and the token is the proxy's alone.

use crate::host;
use crate::lookout::{Control, Lookout};
use crate::simulated::Provider;
use crate::stage::{Actor, Stage, text};
use std::fs;

/// What the login's file holds outside, beside what is no secret.
const TOKEN: &str = "sk-ant-oat01-canary5vT0kY3n-of-the-login-0123456789";
const RENEWAL: &str = "sk-ant-ort01-canary5vT0kY3n-of-the-renewal-987654321";
/// What is brought out of the sandbox: everything that a process there could read.
const SCRIPT: &str = "
turns:
  - when: { after_tool: true }
    reply: { text: 'Done.' }
  - reply: { run: 'cat /proc/[0-9]*/environ > environments 2>/dev/null; cat ~/.claude/.credentials.json > login 2>&1; \
    grep -rac can[a]ry $HOME /tmp 2>/dev/null | grep -v :0 > canaries; : > ready; read answer < gate' }
";

#[test]
fn claude_code_works_by_a_login_that_it_never_sees() {
    for actor in Actor::all() {
        if host::has_sandboxes() && host::has(*actor, "claude") {
            works_by_login(*actor);
        }
    }
}

fn works_by_login(actor: Actor) {
    let stage = Stage::new(actor);
    let provider = Provider::start(&stage, SCRIPT);
    let directory = stage.path("home/.claude");
    fs::create_dir(&directory).unwrap();
    stage.hand_over(&directory);
    let login = format!(
        r#"{{"claudeAiOauth": {{"accessToken": "{TOKEN}", "refreshToken": "{RENEWAL}", "expiresAt": 4102444800000,
            "scopes": ["user:inference"], "subscriptionType": "max"}}}}"#
    );
    stage.write(&directory.join(".credentials.json"), &login);
    let to = format!("api.anthropic.com:443:{}", provider.address);
    let ca = provider.ca.display().to_string();
    let mut arguments = vec!["exec", "--secret", "claude-code", "--connect-to", &to, "--upstream-ca", &ca, "--"];
    arguments.extend(["claude-code", "-p", "Look around", "--dangerously-skip-permissions"]);
    let lookout = Lookout::new(&stage, &["canary5vT0kY3n"], "ZXepeqer");
    let output = lookout.run_to_gate(&stage, &mut stage.omni(&arguments));
    lookout.assert_found_nothing(Control { in_memory: true, in_files: true }, &actor);
    assert!(output.status.success(), "{actor:?}: {}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "Done.");
    let calls: Vec<_> = provider.requests().into_iter().filter(|request| !request["model"].is_null()).collect();
    assert!(calls.len() >= 2, "{calls:?}");
    for call in &calls {
        assert_eq!(call["headers"]["authorization"], format!("Bearer {TOKEN}"));
    }
    let read = |name: &str| text(&fs::read(stage.workspace().join(name)).unwrap());
    let environments = read("environments");
    assert!(environments.contains("CLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-ZX") && !environments.contains("canary"));
    assert!(!read("login").contains("canary"), "{}", read("login"));
    assert_eq!(read("canaries"), "", "files in which something of the login stands");
    assert_eq!(fs::read_to_string(directory.join(".credentials.json")).unwrap(), login);
    let recorded = std::process::Command::new("grep").args(["-rlaF", "canary"]).arg(stage.path("home/state")).output();
    assert_eq!(text(&recorded.unwrap().stdout), "");
}
