//! Programs: what to look for, what to say when it is missing, and what it needs to be readable.

use crate::policy::Profile;

/// Where packages of Node.js live.
const NODE_MODULES: &str = "/node_modules/";

/// How to get the programs that the shipped profiles are for.
const INSTALL: [(&str, &str); 8] = [
    ("bash", "install Bash from your distribution, or use `omni exec -- sh`"),
    ("claude", "install Claude Code with `npm install -g @anthropic-ai/claude-code@2.1.330`"),
    ("codex", "install Codex with `npm install -g @openai/codex@0.169.0`"),
    ("gemini", "install Gemini CLI with `npm install -g @google/gemini-cli@0.61.0`"),
    ("node", "install Node.js 20 or later from your distribution or https://nodejs.org"),
    ("opencode", "install opencode with `npm install -g opencode-ai@1.18.33`"),
    (
        "pi",
        "install pi with `npm install -g @earendil-works/pi-coding-agent@0.87.1`, which wants Node.js 22.19 or later",
    ),
    ("python3", "install Python 3 from your distribution, or put a virtual environment's `bin` on PATH"),
];

/// What to do when a program is not installed.
#[must_use]
pub fn install_hint(program: &str) -> &'static str {
    let known = INSTALL.iter().find(|(name, _)| *name == program);
    known.map_or("install it, or give its full path", |(_, hint)| *hint)
}

/// The name of the program that a word of the command line stands for: the profile's command where it is the profile's
/// name, else the word.
#[must_use]
pub fn program_meant<'a>(profile: &'a Profile, argv0: &'a str) -> &'a str {
    profile.command.as_deref().filter(|_| argv0 == profile.name).unwrap_or(argv0)
}

/// The names to look for on the path, the first found being the program: the profile's command where the person wrote
/// the profile's name, else what they wrote.
#[must_use]
pub fn program_candidates(profile: &Profile, argv0: &str) -> Vec<String> {
    let mut names = vec![program_meant(profile, argv0).to_owned(), argv0.to_owned()];
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
    fn every_program_of_a_shipped_profile_can_be_got() {
        for (name, text) in crate::harness::shipped() {
            let profile = Profile::parse(name, text).expect("a profile");
            if let Some(command) = &profile.command {
                assert!(INSTALL.iter().any(|(known, _)| known == command), "{command}");
                assert_eq!(program_meant(&profile, name), command);
            }
        }
        assert!(INSTALL.is_sorted_by_key(|(program, _)| *program));
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
