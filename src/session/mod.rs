//! One session's life: prepare, start the proxy and the sandbox, let the harness go, relay its terminal, record how it
//! ended.
//!
//! The session process never reads a secret and never decides about a request. No async here: it waits in one `poll`.

mod attach;
mod audience;
mod aws;
mod caller;
mod clock;
mod control;
mod desk;
mod detach;
mod disk_watch;
mod environment;
mod error;
mod filter;
mod finish;
mod git_settings;
mod keeper;
mod keyring;
mod late_look;
mod leave;
mod leave_key;
mod login_file;
mod money;
pub mod overlay;
mod picture;
mod prepare;
mod program;
mod project_policy;
mod proxy_process;
mod publishing;
mod recording;
mod relay;
mod replay;
mod repository;
mod run;
mod screen;
mod secret_look;
mod secrets;
mod signals;
mod ssh;
mod terminal;
mod tier;
mod tracked;
mod upstream;

pub use attach::{AttachError, Parting, amend, answer, attach, stop};
pub use caller::{Caller, SentSecrets, gather_secrets, has_value, own_variables};
pub use detach::run_detached;
pub use error::SessionError;
pub use finish::Outcome;
pub use keyring::KernelKeyring;
pub use prepare::{Prepared, SessionRequest, prepare, user_name};
pub use program::ProgramError;
pub use project_policy::project_policy;
pub use replay::{Aside, Pace, Played, Recorded, Replay, ReplayError};
pub use run::run;
pub use screen::{Screen, Source};
pub use secret_look::Hidden;
pub use secrets::check_secret;
pub use signals::Signals;
pub use tier::Demand;
