//! The word for each event, and which of them must be on the disk before their effect.

use super::Event;

impl Event {
    /// The variant's name, as it stands in the journal.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionStarted { .. } => "session_started",
            Self::ProxyStarted { .. } => "proxy_started",
            Self::SecretMissing { .. } => "secret_missing",
            Self::SecretRenewed { .. } => "secret_renewed",
            Self::SshSigned { .. } => "ssh_signed",
            Self::SshRefused { .. } => "ssh_refused",
            Self::NameResolved { .. } => "name_resolved",
            Self::ConnectionRefused { .. } => "connection_refused",
            Self::RequestAllowed { .. } => "request_allowed",
            Self::RequestDenied { .. } => "request_denied",
            Self::PushRead { .. } => "push_read",
            Self::RuleAdded { .. } => "rule_added",
            Self::PolicyChanged { .. } => "policy_changed",
            Self::RequestFailed { .. } => "request_failed",
            Self::RequestCompleted { .. } => "request_completed",
            Self::BodyRecorded { .. } => "body_recorded",
            Self::UsageMetered { .. } => "usage_metered",
            Self::HoldPlaced { .. } => "hold_placed",
            Self::HoldSettled { .. } => "hold_settled",
            Self::ApprovalAsked { .. } => "approval_asked",
            Self::ApprovalAnswered { .. } => "approval_answered",
            Self::ApprovalJoined { .. } => "approval_joined",
            Self::ConsentGiven { .. } => "consent_given",
            Self::ConsentUsed { .. } => "consent_used",
            Self::ModelReplaced { .. } => "model_replaced",
            Self::BudgetReached { .. } => "budget_reached",
            Self::BudgetRaised { .. } => "budget_raised",
            Self::PortPublished { .. } => "port_published",
            Self::PublishedPortEntered { .. } => "published_port_entered",
            Self::PublishedPortLeft { .. } => "published_port_left",
            Self::ViewerAttached { .. } => "viewer_attached",
            Self::ViewerLeft { .. } => "viewer_left",
            Self::SessionDetached { .. } => "session_detached",
            Self::StopRequested { .. } => "stop_requested",
            Self::OutputFiltered { .. } => "output_filtered",
            Self::RecordingStopped { .. } => "recording_stopped",
            Self::LimitReached(_) => "limit_reached",
            Self::SecretFilesHidden { .. } => "secret_files_hidden",
            Self::SecretFileRead { .. } => "secret_file_read",
            Self::HiddenFileReplaced { .. } => "hidden_file_replaced",
            Self::FileRefused { .. } => "file_refused",
            Self::FileRefusalsUntold { .. } => "file_refusals_untold",
            Self::HarnessExited { .. } => "harness_exited",
            Self::SessionEnded { .. } => "session_ended",
            Self::ChangesApplied { .. } => "changes_applied",
            Self::ChangesRolledBack { .. } => "changes_rolled_back",
            Self::ChangesDiscarded { .. } => "changes_discarded",
            Self::PrivatePartsForgotten { .. } => "private_parts_forgotten",
            Self::LedgerRead { .. } => "ledger_read",
            Self::SecretSet { .. } => "secret_set",
            Self::SecretRemoved { .. } => "secret_removed",
            Self::SecretStoreGuarded { .. } => "secret_store_guarded",
            Self::PricesChanged { .. } => "prices_changed",
        }
    }

    /// Whether the fact must be on the disk, not only in the kernel, before its effect: money, secrets, refusals, and
    /// what becomes of the user's files.
    #[must_use]
    pub fn is_weighty(&self) -> bool {
        match self {
            Self::RequestAllowed { secrets, .. } => !secrets.is_empty(),
            Self::SshSigned { .. } | Self::SshRefused { .. } => true,
            Self::PolicyChanged { .. } => true,
            Self::RuleAdded { .. } | Self::ApprovalAnswered { .. } | Self::HoldSettled { .. } => true,
            Self::ConsentGiven { .. } | Self::ConsentUsed { .. } => true,
            Self::UsageMetered { .. } | Self::RequestDenied { .. } | Self::ConnectionRefused { .. } => true,
            Self::ChangesApplied { .. } | Self::ChangesRolledBack { .. } | Self::ChangesDiscarded { .. } => true,
            Self::PrivatePartsForgotten { .. } | Self::BudgetRaised { .. } => true,
            Self::LedgerRead { .. } | Self::PricesChanged { .. } => true,
            Self::SecretSet { .. } | Self::SecretRemoved { .. } | Self::SecretStoreGuarded { .. } => true,
            _ => false,
        }
    }
}
