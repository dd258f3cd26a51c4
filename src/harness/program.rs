//! Programs: what to look for, what to say when it is missing, and what it needs to be readable.

use crate::policy::{Harness, Profile};

/// Where packages of Node.js live.
const NODE_MODULES: &str = "/node_modules/";

/// What to do when a harness's program is not installed.
#[must_use]
pub fn install_hint(harness: Harness) -> &'static str {
    match harness {
        Harness::ClaudeCode => "install Claude Code with `npm install -g @anthropic-ai/claude-code@2.1.330`",
        Harness::Codex => "install Codex with `npm install -g @openai/codex@0.169.0`",
        Harness::Plain => "install it, or give its full path",
    }
}

/// The names to look for on the path, the first found being the program: the profile's command where the person wrote
/// the profile's name, else what they wrote.
#[must_use]
pub fn program_candidates(profile: &Profile, argv0: &str) -> Vec<String> {
    let command = profile.command.clone().filter(|_| argv0 == profile.name);
    let mut names: Vec<String> = command.into_iter().chain([argv0.to_owned()]).collect();
    names.dedup();
    names
}

/// What must be readable in the sandbox for a program to run there, given its path with all links resolved: the
/// packages it was installed among, where it is one of Node.js, else the file itself.
#[must_use]
pub fn program_needs(resolved: &str) -> &str {
    match resolved.find(NODE_MODULES) {
        Some(at) => &resolved[..at + NODE_MODULES.len() - 1],
        None => resolved,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_profiles_name_stands_for_its_command() {
        let profile = Profile::parse("x", "name: claude-code\ncommand: claude").expect("a profile");
        assert_eq!(program_candidates(&profile, "claude-code"), ["claude", "claude-code"]);
        assert_eq!(program_candidates(&profile, "/opt/claude"), ["/opt/claude"]);
    }

    #[test]
    fn a_package_needs_the_packages_around_it() {
        assert_eq!(program_needs("/a/lib/node_modules/@openai/codex/bin/codex.js"), "/a/lib/node_modules");
        assert_eq!(
            program_needs("/home/ann/.local/share/claude/versions/2"),
            "/home/ann/.local/share/claude/versions/2"
        );
    }
}
