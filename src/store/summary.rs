//! What is known of one session at a glance: a fold over its events, kept beside them.

use super::{Home, process_start_ticks};
use crate::model::{EndReason, Event, ExitStatus, NanoUsd, Pricing, SessionId, Timestamp, Usage};
use serde::Serialize;
use std::time::Duration;

/// How long a session may take from its first file to the event that says it started: a command that fetches a secret may
/// take two minutes.
const START_MAX: Duration = Duration::from_secs(130);

/// What a session is doing, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its sandbox is being built.
    Starting,
    /// Its process is there.
    Running,
    /// The harness ended.
    Finished,
    /// The harness could not be started.
    NotStarted,
    /// Its time was up.
    Timeout,
    /// A person asked for its end.
    Stopped,
    /// It used up its memory.
    MemoryLimit,
    /// It used up its room on the disk.
    DiskLimit,
    /// The proxy died and the sandbox with it.
    ProxyLost,
    /// Its process is gone and said nothing.
    Interrupted,
    /// It has not ended, and is another machine's, which alone knows whether its process lives.
    Elsewhere,
}

impl Status {
    /// The name, as every listing has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::NotStarted => "not_started",
            Self::Timeout => "timeout",
            Self::Stopped => "stopped",
            Self::MemoryLimit => "memory_limit",
            Self::DiskLimit => "disk_limit",
            Self::ProxyLost => "proxy_lost",
            Self::Interrupted => "interrupted",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// Whether no event can follow any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Starting | Self::Running | Self::Elsewhere)
    }
}

impl From<EndReason> for Status {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Finished => Self::Finished,
            EndReason::NotStarted => Self::NotStarted,
            EndReason::Timeout => Self::Timeout,
            EndReason::Stopped => Self::Stopped,
            EndReason::MemoryLimit => Self::MemoryLimit,
            EndReason::DiskLimit => Self::DiskLimit,
            EndReason::ProxyLost => Self::ProxyLost,
            EndReason::Interrupted => Self::Interrupted,
        }
    }
}

/// How many requests and connections met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests that were let out.
    pub allowed: u64,
    /// Requests that were refused.
    pub denied: u64,
    /// Connections and names that were refused before there was a request.
    pub refused: u64,
    /// Of the allowed requests, those that got no response.
    pub failed: u64,
}

/// What is known of one session at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The session.
    pub session: SessionId,
    /// The name a person gave it.
    pub name: Option<String>,
    /// The user on whose behalf it ran; none until it started.
    pub user: Option<String>,
    /// The team on whose behalf it ran, if one was named.
    pub team: Option<String>,
    /// The project it was for, if one was named.
    pub project: Option<String>,
    /// The profile; none until it started.
    pub profile: Option<String>,
    /// The command line inside the sandbox.
    pub argv: Vec<String>,
    /// The workspace's path.
    pub workspace: Option<String>,
    /// SHA-256 of the compiled policy, in hexadecimal.
    pub policy_hash: Option<String>,
    /// The session process's id and start time in clock ticks since boot.
    pub process: Option<(u32, u64)>,
    /// When it started; before that is known, when its first event was.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// The status that omni exited with.
    pub exit: Option<ExitStatus>,
    /// How many events there are.
    pub events: u64,
    /// What became of its requests.
    pub requests: Counts,
    /// How many model calls were metered.
    pub calls: u64,
    /// How many of them have a cost that is not exact.
    pub inexact: u64,
    /// What it cost.
    pub cost: NanoUsd,
    /// What it used.
    pub usage: Usage,
    /// What is wrong with one of its journals.
    pub fault: Option<String>,
}

impl Summary {
    /// A session of which nothing is known.
    #[must_use]
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            name: None,
            user: None,
            team: None,
            project: None,
            profile: None,
            argv: Vec::new(),
            workspace: None,
            policy_hash: None,
            process: None,
            started: None,
            ended: None,
            end_reason: None,
            exit: None,
            events: 0,
            requests: Counts::default(),
            calls: 0,
            inexact: 0,
            cost: NanoUsd::ZERO,
            usage: Usage::default(),
            fault: None,
        }
    }

    /// What the session is doing at this moment.
    pub(super) fn status(&self, home: &Home) -> Status {
        if let Some(reason) = self.end_reason {
            return reason.into();
        }
        let lives = match self.process {
            Some((pid, ticks)) => process_start_ticks(pid) == Some(ticks),
            None => false,
        };
        let fresh = || {
            let touched = std::fs::metadata(home.session(&self.session)).and_then(|found| found.modified()).ok();
            touched.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < START_MAX)
        };
        match self.process {
            _ if lives => Status::Running,
            None if fresh() => Status::Starting,
            _ => Status::Interrupted,
        }
    }

    fn begin(&mut self, at: Timestamp, event: &Event) {
        if let Event::SessionStarted { name, user, team, project, profile, argv, workspace, policy_hash, .. } = event {
            self.name.clone_from(name);
            self.user = Some(user.clone());
            self.team.clone_from(team);
            self.project.clone_from(project);
            self.profile = Some(profile.clone());
            self.argv.clone_from(argv);
            self.workspace = Some(workspace.clone());
            self.policy_hash = Some(policy_hash.clone());
            self.started = Some(at);
            self.process = process_of(event);
        }
    }

    /// Takes the next event in.
    pub(super) fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::SessionStarted { .. } => self.begin(at, event),
            Event::SessionDetached { .. } => self.process = process_of(event),
            Event::ConnectionRefused { .. } => self.requests.refused += 1,
            Event::RequestAllowed { .. } => self.requests.allowed += 1,
            Event::RequestDenied { .. } => self.requests.denied += 1,
            Event::RequestFailed { .. } => self.requests.failed += 1,
            Event::UsageMetered { usage, cost, pricing, .. } => {
                self.calls += 1;
                self.inexact += u64::from(*pricing != Pricing::Exact);
                self.cost = self.cost.plus(*cost);
                self.usage = self.usage.plus(*usage);
            }
            Event::SessionEnded { reason, exit } => {
                self.ended = Some(at);
                self.end_reason = Some(*reason);
                self.exit = Some(*exit);
            }
            Event::ProxyStarted { .. }
            | Event::SecretMissing { .. }
            | Event::SecretRenewed { .. }
            | Event::SshSigned { .. }
            | Event::SshRefused { .. }
            | Event::NameResolved { .. }
            | Event::RequestCompleted { .. }
            | Event::BodyRecorded { .. }
            | Event::PushRead { .. }
            | Event::RuleAdded { .. }
            | Event::PolicyChanged { .. }
            | Event::HoldPlaced { .. }
            | Event::HoldSettled { .. }
            | Event::ApprovalAsked { .. }
            | Event::ApprovalAnswered { .. }
            | Event::ApprovalJoined { .. }
            | Event::ConsentGiven { .. }
            | Event::ConsentUsed { .. }
            | Event::ModelReplaced { .. }
            | Event::BudgetReached { .. }
            | Event::BudgetRaised { .. }
            | Event::PortPublished { .. }
            | Event::PublishedPortEntered { .. }
            | Event::PublishedPortLeft { .. }
            | Event::ViewerAttached { .. }
            | Event::ViewerLeft { .. }
            | Event::StopRequested { .. }
            | Event::OutputFiltered { .. }
            | Event::RecordingStopped { .. }
            | Event::LimitReached(_)
            | Event::SecretFilesHidden { .. }
            | Event::SecretFileRead { .. }
            | Event::HiddenFileReplaced { .. }
            | Event::FileRefused { .. }
            | Event::FileRefusalsUntold { .. }
            | Event::HarnessExited { .. }
            | Event::ChangesApplied { .. }
            | Event::ChangesRolledBack { .. }
            | Event::ChangesDiscarded { .. }
            | Event::PrivatePartsForgotten { .. }
            | Event::LedgerRead { .. }
            | Event::SecretSet { .. }
            | Event::SecretRemoved { .. }
            | Event::SecretStoreGuarded { .. }
            | Event::PricesChanged { .. } => {}
        }
    }
}

/// The process that a start names.
fn process_of(event: &Event) -> Option<(u32, u64)> {
    match event {
        Event::SessionStarted { pid, pid_started_ticks, .. } | Event::SessionDetached { pid, pid_started_ticks } => {
            Some((*pid, *pid_started_ticks))
        }
        _ => None,
    }
}
