//! One path that differs, and whether the host changed it too: pure.

use super::facts::{Beginning, Facts, Kind};
use super::judge::{Mark, Oddity};
use super::path::RelPath;

/// What applying would do to a path of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It holds or points to something else.
    Modified,
    /// Its contents are the same, its permission bits or attributes are not.
    Mode,
    /// It became another kind of thing, such as a link in place of a file.
    Replaced,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// The name, as listings have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Mode => "mode",
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
        }
    }
}

/// What the host did to a path since the session began, so that taking the sandbox's would lose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It changed what both had.
    Changed,
    /// It made one by the same name.
    MadeToo,
    /// It removed what both had, or may have.
    Removed,
    /// It changed this, below what the sandbox removed or replaced.
    ChangedBelow(RelPath),
}

/// One path on which sandbox and host differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub path: RelPath,
    /// What applying would do.
    pub kind: ChangeKind,
    /// What the host has now.
    pub before: Option<Facts>,
    /// What the sandbox left.
    pub after: Option<Facts>,
    /// Where the sandbox's points, if it is a link.
    pub target: Option<Vec<u8>>,
    /// How many entries lie below what is removed or replaced.
    pub below: u64,
    /// What the host did meanwhile.
    pub conflict: Option<Conflict>,
    /// Why it may be executed on the host.
    pub mark: Option<Mark>,
    /// What is odd about it.
    pub oddities: Vec<Oddity>,
}

/// What the sandbox left of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct After<'a> {
    /// What it is.
    pub facts: &'a Facts,
    /// Whether the kernel noted that it began as a copy of the host's, here or where it was moved from.
    pub copied: bool,
    /// Whether the host may have removed one by the same name since.
    pub may_be_removed: bool,
}

/// What the host has of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before<'a> {
    /// What it is.
    pub facts: &'a Facts,
    /// Something below it that the host changed, where it is a directory that would go.
    pub newer: Option<&'a RelPath>,
}

/// How alike two things of the same kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// Contents, bits and attributes are the same.
    Same,
    /// The contents alone are.
    Contents,
    /// Nothing is, or nobody could look.
    Different,
}

/// What the difference is, if there is one, and whether the host changed the path too.
pub(super) fn compare(
    after: Option<After<'_>>,
    before: Option<Before<'_>>,
    likeness: Likeness,
    beginning: Beginning,
) -> Option<(ChangeKind, Option<Conflict>)> {
    let touched = |before: Before<'_>| match before.newer {
        Some(below) => Some(Conflict::ChangedBelow(below.clone())),
        // A directory changes with what it holds, which counts by itself.
        None if before.facts.kind == Kind::Directory => None,
        None => beginning.precedes(before.facts).then_some(Conflict::Changed),
    };
    match (after, before) {
        (None, None) => None,
        (None, Some(before)) => Some((ChangeKind::Deleted, touched(before))),
        (Some(after), None) if after.copied && after.may_be_removed => {
            Some((ChangeKind::Modified, Some(Conflict::Removed)))
        }
        (Some(_), None) => Some((ChangeKind::Added, None)),
        (Some(after), Some(before)) if after.facts.kind != before.facts.kind => {
            Some((ChangeKind::Replaced, touched(before)))
        }
        (Some(after), Some(before)) => {
            let conflict = match touched(before) {
                Some(Conflict::Changed) if !after.copied => Some(Conflict::MadeToo),
                other => other,
            };
            match likeness {
                Likeness::Same => None,
                Likeness::Contents => Some((ChangeKind::Mode, conflict)),
                Likeness::Different => Some((ChangeKind::Modified, conflict)),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::facts::Moment;
    use super::*;

    const BEGINNING: Beginning = Beginning(Moment { seconds: 100, nanoseconds: 1 });

    fn facts(kind: Kind, seconds: i64) -> Facts {
        let changed = Moment { seconds, nanoseconds: 7 };
        Facts {
            kind,
            mode: 0o644,
            uid: 1,
            gid: 1,
            size: 3,
            inode: 4,
            device: 0,
            links: 1,
            modified: Moment::default(),
            changed,
        }
    }

    fn both(
        after: Option<(Kind, bool)>,
        before: Option<(Kind, i64)>,
        likeness: Likeness,
    ) -> Option<(ChangeKind, Option<Conflict>)> {
        let after = after.map(|(kind, copied)| (facts(kind, 150), copied));
        let before = before.map(|(kind, seconds)| facts(kind, seconds));
        let after = after.as_ref().map(|(facts, copied)| After {
            facts,
            copied: *copied,
            may_be_removed: facts.kind != Kind::File,
        });
        compare(after, before.as_ref().map(|facts| Before { facts, newer: None }), likeness, BEGINNING)
    }

    #[test]
    fn every_difference_has_its_name_and_every_change_of_the_host_is_a_conflict() {
        use ChangeKind::{Added, Deleted, Mode, Modified, Replaced};
        use Conflict::{Changed, MadeToo, Removed};
        use Kind::{Directory, File, Link};
        use Likeness::{Contents, Different, Same};
        let (old, new) = (50, 200);
        for (after, before, likeness, wanted) in [
            (None, None, Different, None),
            (None, Some((File, old)), Different, Some((Deleted, None))),
            (None, Some((File, new)), Different, Some((Deleted, Some(Changed)))),
            (None, Some((Directory, new)), Different, Some((Deleted, None))),
            (Some((File, false)), None, Different, Some((Added, None))),
            (Some((File, true)), None, Different, Some((Added, None))),
            (Some((Link, true)), None, Different, Some((Modified, Some(Removed)))),
            (Some((Directory, true)), None, Different, Some((Modified, Some(Removed)))),
            (Some((File, true)), Some((File, old)), Same, None),
            (Some((File, true)), Some((File, new)), Same, None),
            (Some((File, true)), Some((File, old)), Contents, Some((Mode, None))),
            (Some((File, true)), Some((File, new)), Contents, Some((Mode, Some(Changed)))),
            (Some((File, true)), Some((File, old)), Different, Some((Modified, None))),
            (Some((File, true)), Some((File, new)), Different, Some((Modified, Some(Changed)))),
            (Some((File, false)), Some((File, new)), Different, Some((Modified, Some(MadeToo)))),
            (Some((Link, false)), Some((File, old)), Different, Some((Replaced, None))),
            (Some((Link, false)), Some((File, new)), Different, Some((Replaced, Some(Changed)))),
            (Some((Directory, true)), Some((Directory, new)), Contents, Some((Mode, None))),
        ] {
            assert_eq!(both(after, before, likeness), wanted, "{after:?} {before:?} {likeness:?}");
        }
    }

    #[test]
    fn a_change_below_what_is_removed_is_a_conflict() {
        let below = RelPath::parse(b"d/new").unwrap();
        let directory = facts(Kind::Directory, 50);
        let before = Before { facts: &directory, newer: Some(&below) };
        let found = compare(None, Some(before), Likeness::Different, BEGINNING);
        assert_eq!(found, Some((ChangeKind::Deleted, Some(Conflict::ChangedBelow(below.clone())))));
    }
}
