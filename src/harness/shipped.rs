//! The profiles that come with omni.

/// The profiles by name, as text.
const SHIPPED: [(&str, &str); 11] = [
    ("claude-code", include_str!("../../profiles/claude-code.yaml")),
    ("codex", include_str!("../../profiles/codex.yaml")),
    ("default", include_str!("../../profiles/default.yaml")),
    ("gemini", include_str!("../../profiles/gemini.yaml")),
    ("node", include_str!("../../profiles/node.yaml")),
    ("offline", include_str!("../../profiles/offline.yaml")),
    ("openai-agents", include_str!("../../profiles/openai-agents.yaml")),
    ("opencode", include_str!("../../profiles/opencode.yaml")),
    ("pi", include_str!("../../profiles/pi.yaml")),
    ("python", include_str!("../../profiles/python.yaml")),
    ("shell", include_str!("../../profiles/shell.yaml")),
];

/// Programs that a shipped profile is for, by the names they are started by. It stands here so that no start has to read
/// every profile to find the one.
const PROGRAMS: [(&str, &str); 8] = [
    ("claude", "claude-code"),
    ("codex", "codex"),
    ("gemini", "gemini"),
    ("node", "node"),
    ("opencode", "opencode"),
    ("pi", "pi"),
    ("python", "python"),
    ("python3", "python"),
];

/// Every profile that comes with omni, each as its name and its text, sorted by name.
#[must_use]
pub fn shipped() -> &'static [(&'static str, &'static str)] {
    &SHIPPED
}

/// The name of the shipped profile for a command's first word: the profile of that name, else the one for the program;
/// none where no profile but the default one is for it.
#[must_use]
pub fn shipped_for(argv0: &str) -> Option<&'static str> {
    let named = SHIPPED.iter().map(|(name, _)| *name).find(|name| *name == argv0);
    let program = argv0.rsplit('/').next().unwrap_or(argv0);
    named.or_else(|| PROGRAMS.iter().find(|(known, _)| *known == program).map(|(_, name)| *name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::policy::{Level, Policy, Profile, RuleSource};

    #[test]
    fn every_shipped_profile_compiles_under_its_own_name() {
        for (name, text) in shipped() {
            let profile = Profile::parse(name, text).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(profile.name, *name);
            let source = RuleSource { level: Level::Profile, label: name, rules: &profile.egress, clauses: &[] };
            Policy::compile(&[source]).unwrap_or_else(|errors| panic!("{errors}"));
        }
    }

    fn profile(name: &str) -> Profile {
        let (_, text) = shipped().iter().find(|(shipped, _)| *shipped == name).expect("a shipped profile");
        Profile::parse(name, text).expect("a profile")
    }

    #[test]
    fn shipped_profiles_are_sorted_by_name() {
        assert!(SHIPPED.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn a_program_has_a_profile_that_starts_it() {
        for (program, name) in PROGRAMS {
            let command = profile(name).command.expect("a command");
            assert!(command == program || command.strip_prefix(program) == Some("3"), "{program}");
        }
        assert_eq!(shipped_for("openai-agents"), Some("openai-agents"));
        assert_eq!(shipped_for("/usr/bin/python3"), Some("python"));
        assert_eq!(shipped_for("bash"), None);
        assert_eq!(shipped_for("/tmp/shell"), None);
    }

    #[test]
    fn the_default_profile_opens_nothing() {
        let profile = profile("default");
        assert!(profile.egress.is_empty() && profile.secrets.is_empty());
        assert!(profile.filesystem.read.is_empty() && profile.filesystem.write.is_empty());
    }

    #[test]
    fn nothing_opens_a_way_out_of_the_offline_profile() {
        let offline = profile("offline");
        let session = ["GET a.example/", "GET http://a.example:8080/", "* 10.0.0.1:22/"].map(|text| {
            let effect = crate::policy::Effect::Allow;
            crate::policy::WrittenRule::alone(effect, text)
        });
        let sources = [
            RuleSource { level: Level::Profile, label: "offline", rules: &offline.egress, clauses: &[] },
            RuleSource { level: Level::Session, label: "flags", rules: &session, clauses: &[] },
        ];
        let policy = Policy::compile(&sources).expect("rules");
        for (scheme, host, port) in
            [("https", "a.example", 443), ("http", "a.example", 8080), ("https", "10.0.0.1", 22), ("http", "::1", 1)]
        {
            let scheme = if scheme == "http" { crate::model::Scheme::Http } else { crate::model::Scheme::Https };
            let host = crate::model::Host::parse(host).expect("a host");
            let (method, port, path) = ("GET".to_owned(), crate::model::Port(port), "/".to_owned());
            let line = crate::model::RequestLine { method, scheme, host, port, path };
            let verdict = policy.decide(crate::policy::RequestFacts { line, disagreement: None });
            assert!(matches!(verdict, crate::policy::Verdict::Deny(_)), "{verdict:?}");
        }
    }
}
