//! The profiles that come with omni.

/// The profiles by name, as text.
const SHIPPED: [(&str, &str); 3] = [
    ("claude-code", include_str!("../../profiles/claude-code.yaml")),
    ("codex", include_str!("../../profiles/codex.yaml")),
    ("default", include_str!("../../profiles/default.yaml")),
];

/// Every profile that comes with omni, each as its name and its text, sorted by name.
#[must_use]
pub fn shipped() -> &'static [(&'static str, &'static str)] {
    &SHIPPED
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
            let source = RuleSource { level: Level::Profile, label: name, rules: &profile.egress };
            Policy::compile(&[source]).unwrap_or_else(|errors| panic!("{errors}"));
        }
    }

    #[test]
    fn the_default_profile_opens_nothing() {
        let (_, text) = shipped().iter().find(|(name, _)| *name == "default").expect("the default profile");
        let profile = Profile::parse("default", text).expect("a profile");
        assert!(profile.egress.is_empty() && profile.secrets.is_empty());
        assert!(profile.filesystem.read.is_empty() && profile.filesystem.write.is_empty());
    }
}
