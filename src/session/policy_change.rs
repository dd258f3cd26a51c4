//! Policy files that change while the session runs: rules and conditions count anew, and what cannot change then is refused.

use super::prepare::Prepared;
use super::project_policy::PROJECT_LABEL;
use crate::policy::{Level, PolicyFile, parse_policy_file, parse_project_file};
use crate::proxy::{PolicySource, Replacement};
use std::path::Path;

/// A policy file that somebody changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Whose number it is that is to be told what became of it.
    pub(super) viewer: u32,
    /// Who.
    pub(super) user: String,
    /// What they call it.
    pub(super) file: String,
    /// Where it is.
    pub(super) path: String,
    /// Its text.
    pub(super) text: String,
}

/// The policy files of a session, as they count.
pub(super) struct Policies<'a> {
    prepared: &'a Prepared,
    files: Vec<(Level, String, PolicyFile)>,
}

impl<'a> Policies<'a> {
    /// Those that it began with.
    pub(super) fn of(prepared: &'a Prepared) -> Self {
        Self { prepared, files: prepared.files.clone() }
    }

    /// What the proxy is to be told, now that a file changed.
    ///
    /// # Errors
    /// Why it cannot change.
    pub(super) fn replaced(&mut self, changed: ChangedFile) -> Result<Replacement, String> {
        let ChangedFile { viewer, user, file, path, text } = changed;
        let is_it =
            |label: &str| label == file || Path::new(label).canonicalize().is_ok_and(|it| it == Path::new(&path));
        let own = self.prepared.plan.directory.join(PROJECT_LABEL);
        let found = self.files.iter_mut().find(|(level, label, _)| match level {
            Level::Project => own == Path::new(&path),
            _ => is_it(label),
        });
        let Some((level, label, old)) = found else {
            return Err(format!(
                "the session was not started with a policy file `{file}`: name one that it was, or add rules \
                                with `omni policy deny` and the like"
            ));
        };
        let new = match level {
            Level::Project => parse_project_file(label, &text),
            _ => parse_policy_file(label, &text),
        };
        let new = new.map_err(|errors| errors.to_string())?;
        let fixed =
            |file: &PolicyFile| (file.spend.clone(), file.minimum_isolation, file.publishing, file.secrets.clone());
        if fixed(&new) != fixed(old) {
            return Err(
                "what it says of money, secrets, isolation and published ports cannot change while a session runs"
                    .to_owned(),
            );
        }
        let file = label.clone();
        *old = new;
        Ok(Replacement { number: viewer, user, file, sources: self.sources() })
    }

    fn sources(&self) -> Vec<PolicySource> {
        let request = &self.prepared.request;
        let files = self.files.iter().map(|(level, label, file)| PolicySource {
            level: *level,
            label: label.clone(),
            rules: file.rules.clone(),
            clauses: file.clauses.clone(),
        });
        let other = |level, label: &str, rules: &[_]| PolicySource {
            level,
            label: label.to_owned(),
            rules: rules.to_vec(),
            clauses: Vec::new(),
        };
        let profile = other(Level::Profile, &request.profile.name, &request.profile.egress);
        files.chain([profile, other(Level::Session, "the command line", &request.rules)]).collect()
    }
}
