//! Secrets that a person must say yes to before they are used.

use super::Shared;
use super::consent::{self, Consent};
use super::inject::{Plan, Vault};
use super::patience::Patience;
use crate::model::{Host, RequestLine, RequestNumber};
use crate::policy::Approval;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What people have said yes to, of one secret.
#[derive(Debug, Default)]
pub(super) struct Approved {
    whole: bool,
    hosts: HashSet<Host>,
}

/// One question at a time for each secret: who waits takes the answer, too.
pub(super) type Approvals = Arc<Mutex<Approved>>;

impl Approved {
    /// Whether a use needs no question.
    fn covers(&self, approval: Approval, host: &Host) -> bool {
        match approval {
            Approval::Never => true,
            Approval::Session | Approval::Use => self.whole,
            Approval::Host => self.whole || self.hosts.contains(host),
        }
    }

    /// A person said yes, for this use or for the rest of the session.
    fn take(&mut self, approval: Approval, host: &Host, lasting: bool) {
        match approval {
            Approval::Never => {}
            Approval::Session => self.whole = true,
            Approval::Use => self.whole |= lasting,
            Approval::Host => drop(self.hosts.insert(host.clone())),
        }
    }
}

impl Vault {
    /// Has a person asked where a secret of the plan wants that.
    ///
    /// # Errors
    /// Why it may not be used.
    pub(super) async fn approve(
        &self,
        shared: &Shared,
        number: RequestNumber,
        plan: &Plan,
        line: &RequestLine,
        patience: &Patience,
    ) -> Result<(), String> {
        for index in self.used(plan) {
            let entry = &self.entries[index];
            let approval = entry.binding.approval;
            if approval == Approval::Never {
                continue;
            }
            let mut approved = entry.approved.lock().await;
            if approved.covers(approval, &line.host) {
                continue;
            }
            let inquiry = consent::of_secret(shared, number, line, &entry.name(), approval);
            let Consent { lasting } = patience.wait(consent::ask(shared, inquiry)).await?;
            approved.take(approval, &line.host, lasting);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_covers_what_was_asked() {
        let [here, there] = ["a.example", "b.example"].map(|name| Host::parse(name).unwrap());
        for (approval, lasting, expected) in [
            (Approval::Session, false, (true, true)),
            (Approval::Host, false, (true, false)),
            (Approval::Use, false, (false, false)),
            (Approval::Use, true, (true, true)),
        ] {
            let mut approved = Approved::default();
            assert!(!approved.covers(approval, &here));
            approved.take(approval, &here, lasting);
            assert_eq!((approved.covers(approval, &here), approved.covers(approval, &there)), expected, "{approval:?}");
        }
        assert!(Approved::default().covers(Approval::Never, &here));
    }
}
