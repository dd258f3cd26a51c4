//! A launch to test with.

use super::{LaunchRequest, LaunchSpec, launch, shipped};
use crate::model::Placeholder;
use crate::policy::Profile;
use std::collections::BTreeMap;

pub(super) struct Fixture {
    profile: Profile,
    argv: Vec<String>,
    placeholders: BTreeMap<String, Placeholder>,
    terminal: bool,
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Fixture {
    pub(super) fn of(name: &str, argv: &[&str]) -> Self {
        let (_, text) = shipped().iter().find(|(shipped, _)| *shipped == name).expect("a shipped profile");
        let profile = Profile::parse(name, text).expect("a profile");
        let stand_in = |secret: &crate::policy::SecretSpec| secret.shape.placeholder(&secret.name, &[7; 96]);
        let placeholders = profile.secrets.iter().map(|secret| (secret.name.clone(), stand_in(secret))).collect();
        Self { profile, argv: words(argv), placeholders, terminal: false }
    }

    pub(super) fn without_placeholders(self) -> Self {
        Self { placeholders: BTreeMap::new(), ..self }
    }

    pub(super) fn at_a_terminal(self) -> Self {
        Self { terminal: true, ..self }
    }

    pub(super) fn placeholder(&self) -> String {
        self.placeholders.values().next().expect("a placeholder").0.clone()
    }

    pub(super) fn launch(&self) -> LaunchSpec {
        let program = format!("/opt/{}", self.profile.command.as_deref().expect("a command"));
        launch(&LaunchRequest {
            profile: &self.profile,
            argv: &self.argv,
            program: &program,
            home: "/home/ann",
            workspace: "/home/ann/my \"work\"",
            placeholders: &self.placeholders,
            look_alikes: &BTreeMap::new(),
            terminal: self.terminal,
        })
    }
}
