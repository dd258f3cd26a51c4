//! OpenAI's Codex. Its own sandbox cannot work within ours and its approvals would guard what ours guards already, so
//! both are set aside, and so is what it would fetch besides the model. What the person's own command line sets stays.

use super::{LaunchRequest, LaunchSpec, Seed, placeholder_in, plain};
use serde_json::json;

/// The variable that Codex takes its key from.
const KEY_VARIABLE: &str = "CODEX_API_KEY";

/// Flags that settle the sandbox, the approvals, or both.
const SANDBOX_FLAGS: [&str; 4] = ["-s", "--sandbox", "--approve-for-me", "--dangerously-bypass-approvals-and-sandbox"];
const APPROVAL_FLAGS: [&str; 4] =
    ["-a", "--ask-for-approval", "--approve-for-me", "--dangerously-bypass-approvals-and-sandbox"];

/// Flags that take the next word as their value.
const VALUE_FLAGS: [&str; 20] = [
    "-C",
    "-a",
    "-c",
    "-i",
    "-m",
    "-p",
    "-s",
    "--add-dir",
    "--ask-for-approval",
    "--cd",
    "--config",
    "--disable",
    "--enable",
    "--image",
    "--local-provider",
    "--model",
    "--profile",
    "--remote",
    "--remote-auth-token-env",
    "--sandbox",
];

/// The commands that open the terminal interface, as no command at all does.
const INTERACTIVE: [&str; 3] = ["agents", "fork", "resume"];

/// Every other command; a first word that is none of them is a prompt for the terminal interface.
const COMMANDS: [&str; 26] = [
    "a",
    "app-server",
    "apply",
    "archive",
    "cloud",
    "completion",
    "debug",
    "delete",
    "doctor",
    "e",
    "exec",
    "exec-server",
    "features",
    "help",
    "login",
    "logout",
    "mcp",
    "migrate-nfs-db",
    "migrate-rollouts",
    "plugin",
    "queue",
    "remote-control",
    "review",
    "sandbox",
    "unarchive",
    "update",
];

/// Settings for every run: the key, its value in TOML, and the flags that settle the same thing.
const SETTINGS: [(&str, &str, &[&str]); 7] = [
    ("sandbox_mode", "\"danger-full-access\"", &SANDBOX_FLAGS),
    ("approval_policy", "\"never\"", &APPROVAL_FLAGS),
    ("check_for_update_on_startup", "false", &[]),
    ("analytics.enabled", "false", &[]),
    ("features.plugins", "false", &[]),
    ("features.apps", "false", &[]),
    ("features.api_key_model_discovery", "false", &[]),
];

pub(super) fn launch(request: &LaunchRequest<'_>) -> LaunchSpec {
    let plain = plain::launch(request);
    let own: &[String] = plain.argv.get(1..).unwrap_or_default();
    let end = own.iter().position(|word| word == "--").unwrap_or(own.len());
    let flags = &own[..end];

    let mut argv = vec![request.program.to_owned()];
    let settings = SETTINGS.iter().filter(|(key, _, same)| !sets(flags, key, same));
    argv.extend(settings.flat_map(|(key, value, _)| ["-c".to_owned(), format!("{key}={value}")]));
    if !sets(flags, "projects", &[]) {
        // One inline table: a dotted key would be cut at the dots of the path.
        let trusted = format!("projects={{{}={{trust_level=\"trusted\"}}}}", json!(request.workspace));
        argv.extend(["-c".to_owned(), trusted]);
    }
    if request.terminal && is_interactive(flags) && !flags.iter().any(|flag| flag == "--no-daemon") {
        argv.push("--no-daemon".to_owned());
    }
    argv.extend(own.iter().cloned());
    LaunchSpec { argv, seeds: seeds(request), ..plain }
}

/// The file of a person who signed in with a key; without it the terminal interface asks for a sign-in.
fn seeds(request: &LaunchRequest<'_>) -> Vec<Seed> {
    let placeholder = placeholder_in(request, KEY_VARIABLE);
    let contents = placeholder.map(|key| json!({ "auth_mode": "apikey", "OPENAI_API_KEY": key.as_str() }));
    contents.map(|contents| Seed::private("~/.codex/auth.json", &contents)).into_iter().collect()
}

/// Whether the command line settles a key itself: by `-c` on it or on what it is part of, by one of these flags, or by
/// switching the feature.
fn sets(flags: &[String], key: &str, same: &[&str]) -> bool {
    let overridden = settings(flags).any(|written| {
        let within = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        written == key || within(written, key) || within(key, written)
    });
    let feature = key.strip_prefix("features.").unwrap_or("\0");
    let switched = values(flags, &["--enable", "--disable"]).any(|name| name == feature);
    let is_flag = |word: &String, flag: &str| {
        let long = flag.starts_with("--") && word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='));
        let short = !flag.starts_with("--") && word.starts_with(flag) && !word.starts_with("--");
        word == flag || long || short
    };
    overridden || switched || same.iter().any(|flag| flags.iter().any(|word| is_flag(word, flag)))
}

/// The keys that the command line sets by `-c`.
fn settings(flags: &[String]) -> impl Iterator<Item = &str> {
    values(flags, &["-c", "--config"]).map(|setting| setting.split('=').next().unwrap_or(setting).trim())
}

/// The values of some flags, written as `--flag value`, `--flag=value`, `-f value` or `-fvalue`.
fn values<'a>(flags: &'a [String], names: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    flags.iter().enumerate().filter_map(|(index, word)| {
        let name = names.iter().find(|name| word.starts_with(**name))?;
        match &word[name.len()..] {
            "" => flags.get(index + 1).map(String::as_str),
            rest if name.starts_with("--") => rest.strip_prefix('='),
            rest => Some(rest.strip_prefix('=').unwrap_or(rest)),
        }
    })
}

/// Whether the command line opens the terminal interface.
fn is_interactive(flags: &[String]) -> bool {
    let mut words = flags.iter();
    while let Some(word) = words.next() {
        if VALUE_FLAGS.contains(&word.as_str()) {
            words.next();
        } else if matches!(word.as_str(), "-h" | "--help" | "-V" | "--version") {
            return false;
        } else if !word.starts_with('-') {
            return INTERACTIVE.contains(&word.as_str()) || !COMMANDS.contains(&word.as_str());
        }
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::fixture::{Fixture, words};

    fn argv(own: &[&str]) -> Vec<String> {
        Fixture::of("codex", own).launch().argv
    }

    fn has(argv: &[String], setting: &str) -> bool {
        argv.windows(2).any(|pair| pair[0] == "-c" && pair[1].starts_with(setting))
    }

    #[test]
    fn sets_its_own_sandbox_aside_right_after_the_program() {
        let argv = argv(&["codex", "exec", "hi"]);
        assert_eq!(
            argv[..5],
            words(&["/opt/codex", "-c", "sandbox_mode=\"danger-full-access\"", "-c", "approval_policy=\"never\""])
        );
        assert_eq!(argv[argv.len() - 2..], words(&["exec", "hi"]));
        assert!(argv.contains(&r#"projects={"/home/ann/my \"work\""={trust_level="trusted"}}"#.to_owned()));
        assert!(!argv.contains(&"--no-daemon".to_owned()));
    }

    #[test]
    fn what_the_person_sets_stays() {
        for own in
            [["-s", "read-only"], ["--sandbox=read-only", "x"], ["-csandbox_mode=x", "x"], ["-c", "sandbox_mode=x"]]
        {
            let argv = argv(&["codex", "exec", own[0], own[1]]);
            assert_eq!(argv.iter().filter(|word| word.contains("danger-full-access")).count(), 0, "{own:?}");
            assert!(has(&argv, "approval_policy="), "{own:?}");
        }
        let both = argv(&["codex", "--dangerously-bypass-approvals-and-sandbox"]);
        assert!(!has(&both, "sandbox_mode") && !has(&both, "approval_policy"));
        assert!(!has(&argv(&["codex", "--enable", "plugins"]), "features.plugins"));
        assert!(!has(&argv(&["codex", "--config", "analytics={enabled=true}"]), "analytics.enabled"));
        assert!(has(&argv(&["codex", "exec", "--", "-s", "read-only"]), "sandbox_mode"));
    }

    #[test]
    fn the_terminal_interface_leaves_no_daemon_behind() {
        assert!(!argv(&["codex"]).contains(&"--no-daemon".to_owned()));
        let on_terminal = |own: &[&str]| {
            let fixture = Fixture::of("codex", own).at_a_terminal();
            fixture.launch().argv.iter().filter(|word| *word == "--no-daemon").count()
        };
        assert_eq!(on_terminal(&["codex"]), 1);
        assert_eq!(on_terminal(&["codex", "-m", "exec", "fix the bug"]), 1);
        assert_eq!(on_terminal(&["codex", "resume"]), 1);
        assert_eq!(on_terminal(&["codex", "--no-daemon"]), 1);
        assert_eq!(on_terminal(&["codex", "-m", "gpt", "exec", "x"]), 0);
        assert_eq!(on_terminal(&["codex", "--version"]), 0);
    }

    #[test]
    fn signs_in_with_the_placeholder() {
        let fixture = Fixture::of("codex", &["codex"]);
        let spec = fixture.launch();
        assert_eq!(spec.env["CODEX_API_KEY"], fixture.placeholder());
        assert_eq!(spec.env["OPENAI_API_KEY"], fixture.placeholder());
        assert_eq!(spec.seeds[0].path, "~/.codex/auth.json");
        assert!(spec.seeds[0].contents.contains(&fixture.placeholder()));
        assert!(Fixture::of("codex", &["codex"]).without_placeholders().launch().seeds.is_empty());
    }
}
