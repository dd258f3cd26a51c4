//! How much isolation a session demands, and what to say where that cannot be had.

use super::error::SessionError;
use crate::model::{Isolation, Tier};
use crate::policy::{PolicyFile, Profile};
use crate::supervisor::{
    Feature, LANDLOCK_COMPLETE, NAMESPACES, Outcome, Plan, SupervisorError, landlock_abi, probe_tier,
};
use std::path::Path;

/// The weakest tier that a session may run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The tier.
    pub tier: Tier,
    /// Who wrote it; none where nobody did.
    pub by: Option<String>,
}

/// The strictest of what the command line, the profile and the policies demand. Where nothing is written, everything is
/// demanded: a weaker tier is accepted in so many words or not at all.
pub(super) fn demand<'a>(
    flag: Option<Tier>,
    profile: &Profile,
    policies: impl IntoIterator<Item = (&'a String, &'a PolicyFile)>,
) -> Demand {
    let flag = flag.map(|tier| (tier, "`--minimum-isolation`".to_owned()));
    let profile = profile.minimum_isolation.map(|tier| (tier, format!("the profile `{}`", profile.name)));
    let policies = policies.into_iter().filter_map(|(label, file)| Some((file.minimum_isolation?, label.clone())));
    let written = flag.into_iter().chain(profile).chain(policies);
    match written.reduce(|one, other| if other.0 > one.0 { other } else { one }) {
        Some((tier, by)) => Demand { tier, by: Some(by) },
        None => Demand { tier: Tier::default(), by: None },
    }
}

/// The best tier that can be had here, and no weaker one than is demanded. Where everything is demanded nothing is tried
/// ahead of the start itself, which shows it.
pub(super) fn choose(demand: &Demand, directory: &Path) -> Result<Tier, SessionError> {
    if demand.tier == Tier::Full || probe_tier(Tier::Full, directory).is_empty() {
        return Ok(Tier::Full);
    }
    match probe_tier(Tier::Landlock, directory).first() {
        None => Ok(Tier::Landlock),
        Some((feature, outcome)) => Err(SessionError::NoTier { missing: said(*feature, outcome) }),
    }
}

/// Adds to an error that says that the machine cannot isolate what can be done about it. Others stay as they are.
pub(super) fn explain(error: SessionError, demand: &Demand, directory: &Path) -> SessionError {
    match error {
        SessionError::Supervisor(
            error @ (SupervisorError::Namespaces(_) | SupervisorError::Identity(_) | SupervisorError::Step { .. }),
        ) if demand.tier == Tier::Full => {
            SessionError::NotIsolated { tier: Tier::Full, error: Box::new(error), way_out: way_out(demand, directory) }
        }
        // A kernel of another kind, which lacks a call that every start makes.
        SessionError::Prepare { what, error } if error.raw_os_error() == Some(libc::ENOSYS) => {
            let error = Box::new(SupervisorError::Prepare { what, error });
            SessionError::NotIsolated { tier: demand.tier, error, way_out: way_out(demand, directory) }
        }
        other => other,
    }
}

/// What the record says of the sandbox.
pub(super) fn isolation(plan: &Plan) -> Isolation {
    let landlock_abi = landlock_abi();
    let (namespaces, network) = match plan.tier {
        Tier::Full => (NAMESPACES.map(str::to_owned).to_vec(), "anyip+tproxy"),
        Tier::Landlock => (Vec::new(), "proxy by environment, connections handed over"),
    };
    let lesser = match landlock_abi {
        0 => {
            Some("no Landlock: writing is bounded by mounts alone, signals and sockets by namespaces alone".to_owned())
        }
        abi if abi < LANDLOCK_COMPLETE => {
            Some(format!("Landlock {abi} of {LANDLOCK_COMPLETE}: part of the second lock is missing"))
        }
        _ => None,
    };
    let gaps = plan.gaps.iter().cloned().chain(lesser).collect();
    Isolation {
        tier: plan.tier,
        namespaces,
        landlock_abi,
        seccomp: true,
        network: network.to_owned(),
        gaps,
        limits: plan.limits.held.clone(),
    }
}

/// How to run all the same, or why not.
fn way_out(demand: &Demand, directory: &Path) -> String {
    if let Some(by) = &demand.by {
        return format!("{by} demands the tier `{}`, so nothing less is tried", demand.tier);
    }
    let missing = probe_tier(Tier::Landlock, directory);
    match missing.first() {
        None => format!(
            "a weaker tier can be had here, and docs/tiers.md says what it leaves open: accept it with \
             `--minimum-isolation {0}`, or `minimum_isolation: {0}` in the profile",
            Tier::Landlock
        ),
        Some((feature, outcome)) => {
            let missing = said(*feature, outcome);
            format!(
                "the weaker tier `{}` cannot be had here either: {missing}; `omni doctor` says more",
                Tier::Landlock
            )
        }
    }
}

fn said(feature: Feature, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Missing { error, .. } => format!("{}: {error}", feature.name()),
        _ => feature.name().to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn demanded(flag: Option<Tier>, profile: &str, policies: &[Option<Tier>]) -> Demand {
        let profile = Profile::parse("p.yaml", &format!("name: p\n{profile}")).unwrap();
        let labels = (0..policies.len()).map(|number| format!("{number}.yaml")).collect::<Vec<_>>();
        let of = |tier: &Option<Tier>| PolicyFile { minimum_isolation: *tier, ..PolicyFile::default() };
        let files: Vec<_> = policies.iter().map(of).collect();
        demand(flag, &profile, labels.iter().zip(&files))
    }

    #[test]
    fn nothing_written_demands_everything() {
        assert_eq!(demanded(None, "", &[None]), Demand { tier: Tier::Full, by: None });
    }

    #[test]
    fn the_strictest_that_is_written_counts() {
        let by = |by: &str| Some(by.to_owned());
        let less = demanded(Some(Tier::Landlock), "", &[None]);
        assert_eq!(less, Demand { tier: Tier::Landlock, by: by("`--minimum-isolation`") });
        let profile = demanded(Some(Tier::Landlock), "minimum_isolation: full", &[]);
        assert_eq!(profile, Demand { tier: Tier::Full, by: by("the profile `p`") });
        let policy = demanded(None, "minimum_isolation: landlock", &[None, Some(Tier::Full)]);
        assert_eq!(policy, Demand { tier: Tier::Full, by: by("1.yaml") });
        let flag = demanded(Some(Tier::Full), "minimum_isolation: landlock", &[]);
        assert_eq!(flag.tier, Tier::Full);
    }
}
