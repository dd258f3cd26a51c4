//! Decisions: profiles and policy files as written become a compiled [`Policy`], and a policy judges requests.
//!
//! Pure. Only [`Policy::compile`] makes a policy, and only [`Policy::decide`] makes a [`Grant`]. It deliberately does
//! not know how a request was found out about, nor what a secret's value is.

mod act;
mod amend;
mod cel;
mod clause;
mod client_certificate;
mod compile;
mod condition;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod condition_tests;
mod credential_file;
mod document;
mod error;
mod example;
mod exchange;
mod file;
mod file_pattern;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gate;
mod git_push;
mod git_remote;
mod git_settings;
mod host_keys;
mod host_pattern;
mod index;
mod learn;
mod lfs;
mod login;
mod machine;
mod matcher;
mod overriding;
mod path_glob;
mod preset;
mod profile;
mod protect;
mod protected_names;
mod quantity;
mod query;
mod quota;
mod read;
mod read_model_hosts;
mod read_secret;
mod read_terminal;
mod recorded;
mod repository_deed;
mod rule;
mod secret;
mod secret_files;
mod secret_policy;
mod shape;
mod spend;
mod ssh;
mod tally;
mod terminal;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
mod upstream_proxy;
mod vault;
mod verdict;

pub use act::Act;
pub use amend::{Amended, amend};
pub use cel::{History, SessionFacts};
pub use clause::WrittenClause;
pub use compile::{Policy, RuleSource};
pub use condition::Particulars;
pub use credential_file::{Contents, Credential, CredentialFile, Nobody, Outline, Texts};
pub use error::{PolicyError, PolicyErrors, nearest};
pub use exchange::{Endpoint, Exchange, github_claims, google_claims, jwt_form};
pub use file::{PolicyFile, Publishing, is_policy_file, parse_policy_file, parse_project_file};
pub use file_pattern::{FilePattern, Standing, fold};
pub use git_push::{Change, Push, PushError, PushReader, RefUpdate, UPDATES_BYTES_MAX};
pub use git_settings::{GIT_SETTINGS_BYTES_MAX, GitSettings};
pub use host_keys::HostKeys;
pub use learn::{Lesson, Proposed, Refused};
pub use lfs::{BATCH_BYTES_MAX, LfsBatch};
pub use login::{Login, LoginToken, RENEWAL_GRANT, RENEWAL_POINTER, Renewal, apply_renewal};
pub use machine::{MachineFile, MachineSecret, parse_machine_file, parse_machine_secrets};
pub use preset::Preset;
pub use profile::{
    AddedSecret, Environment, Filesystem, Harness, Limits, Profile, WorkspaceMode, expand_home, without_dots,
};
pub use protect::{JudgedPath, ProtectedBy, Protection};
pub use quantity::{QuantityError, parse_duration, parse_size};
pub use quota::{Quota, Rate};
pub use read_secret::is_name as is_secret_name;
pub use repository_deed::{RepositoryDeed, WhoseRepository};
pub use rule::{Effect, Level, Rule, WrittenRule};
pub use secret::{
    ANYWHERE, AWS_FILE, AWS_VARIABLES, Approval, Binding, Mode, PLACEHOLDER_WORD, Place, PlaceholderFile, SecretSource,
    SecretSpec, Site,
};
pub use secret_files::{SecretFiles, SecretNames, is_unseen};
pub use secret_policy::SecretPolicy;
pub use shape::{
    PLACEHOLDER_MARK, PLACEHOLDER_MARK_CAPITAL, PLACEHOLDER_OWN, PLACEHOLDER_OWN_CAPITAL, PLACEHOLDER_PAIR, Shape,
    signing_placeholder,
};
pub use spend::{OnHardLimit, OnSoftLimit, OnUnknownModel, SpendPolicy};
pub use ssh::{SshAccess, SshHost};
pub use tally::{Allowance, Tally, TooMany, TooMuch, Way};
pub use terminal::{Terminal, TerminalFilter};
pub use upstream_proxy::UpstreamProxySetting;
pub use vault::{VAULT_TOKEN_FILE, VAULT_VARIABLES, VaultField, VaultSettings};
pub use verdict::{Disagreement, Grant, NamedRule, Question, Refusal, RequestFacts, Verdict};
