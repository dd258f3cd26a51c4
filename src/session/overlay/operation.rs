//! What has to be done so that the workspace becomes what the sandbox left, and what speaks against it: pure.

use super::change::{Change, ChangeKind};
use super::facts::{Kind, Moment};
use super::path::RelPath;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The bits of a new directory while things are put into it.
pub(super) const MODE_DIRECTORY: u32 = 0o700;

/// One step on one path. Each can be seen to be done by what is there, so that it can be done or undone again after any
/// interruption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(super) enum Operation {
    /// Move what was staged to its place.
    Put {
        /// Where.
        path: RelPath,
        /// The number that it is staged under.
        number: u64,
        /// Its inode, by which it is known again; 0 until it is staged.
        inode: u64,
        /// What it takes the place of, where something is there.
        replaces: Option<Known>,
    },
    /// Move what is there aside, with all below it.
    Remove {
        /// Where.
        path: RelPath,
        /// The number that it is kept under.
        number: u64,
        /// What it is.
        known: Known,
    },
    /// Give a directory its bits.
    SetMode {
        /// Which.
        path: RelPath,
        /// Those that it has.
        before: u32,
        /// Those that it gets.
        after: u32,
    },
}

/// Something of the host's, to be known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Its inode.
    pub inode: u64,
    /// When its contents changed last; none for a directory, which changes with what it holds.
    pub modified: Option<Moment>,
    /// When anything about it changed last; none too for a file of several names, which changes when one of them goes.
    pub changed: Option<Moment>,
}

impl Operation {
    /// The path that it is about.
    pub(super) fn path(&self) -> &RelPath {
        match self {
            Self::Put { path, .. } | Self::Remove { path, .. } | Self::SetMode { path, .. } => path,
        }
    }
}

fn known(change: &Change) -> Option<Known> {
    change.before.map(|before| Known {
        inode: before.inode,
        modified: (before.kind != Kind::Directory).then_some(before.modified),
        changed: (before.kind != Kind::Directory && before.links == 1).then_some(before.changed),
    })
}

/// The steps that take changes over: what goes, then what comes, from the workspace down, then the bits of directories,
/// from the bottom up, since some forbid changing what is in them.
pub(super) fn plan(changes: &[&Change]) -> Vec<Operation> {
    let mut numbers = 0..;
    let mut number = || numbers.next().unwrap_or_default();
    let goes = |change: &&&Change| matches!(change.kind, ChangeKind::Deleted | ChangeKind::Replaced);
    let mut operations = Vec::new();
    for change in changes.iter().filter(goes) {
        operations.extend(known(change).map(|known| Operation::Remove {
            path: change.path.clone(),
            number: number(),
            known,
        }));
    }
    let mut modes = Vec::new();
    for change in changes {
        let Some(after) = change.after else { continue };
        let directory = after.kind == Kind::Directory;
        let stays = change.before.is_some() && change.kind != ChangeKind::Replaced;
        if !(directory && stays) {
            let replaces = if stays { known(change) } else { None };
            operations.push(Operation::Put { path: change.path.clone(), number: number(), inode: 0, replaces });
        }
        if directory {
            let before = change.before.filter(|_| stays).map_or(MODE_DIRECTORY, |before| before.mode);
            modes.push(Operation::SetMode { path: change.path.clone(), before, after: after.mode });
        }
    }
    operations.extend(modes.into_iter().rev());
    operations
}

/// What stands for the whole of it in the record.
pub(super) fn digest(changes: &[&Change]) -> String {
    let mut hash = Sha256::new();
    for change in changes {
        hash.update(change.kind.as_str());
        hash.update(b" ");
        hash.update(change.path.as_bytes());
        hash.update(b"\0");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which of the changes a person means.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// These and what lies below them; all, where there are none.
    pub paths: Vec<RelPath>,
    /// But not these and what lies below them.
    pub except: Vec<RelPath>,
}

/// A choice that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadChoice {
    /// Nothing changed there.
    Unchanged(RelPath),
    /// The first lies in the second, which goes or comes as a whole.
    Part(RelPath, RelPath),
}

/// The chosen changes, with the new directories that they need.
pub(super) fn choose<'a>(all: &'a [Change], choice: &Choice) -> Result<Vec<&'a Change>, BadChoice> {
    for path in choice.paths.iter().chain(&choice.except) {
        if !all.iter().any(|change| change.path.is_within(path)) {
            let whole = all.iter().find(|change| change.below > 0 && path.is_within(&change.path));
            return Err(match whole {
                Some(whole) => BadChoice::Part(path.clone(), whole.path.clone()),
                None => BadChoice::Unchanged(path.clone()),
            });
        }
    }
    let within = |change: &Change, paths: &[RelPath]| paths.iter().any(|path| change.path.is_within(path));
    let meant = |change: &&Change| {
        (choice.paths.is_empty() || within(change, &choice.paths)) && !within(change, &choice.except)
    };
    let mut needed = BTreeSet::new();
    for change in all.iter().filter(meant) {
        needed.insert(&change.path);
    }
    let parents: BTreeSet<RelPath> = needed.iter().flat_map(|path| above(path)).collect();
    let is_new_directory = |change: &Change| {
        let comes = matches!(change.kind, ChangeKind::Added | ChangeKind::Replaced) || change.conflict.is_some();
        comes && change.after.is_some_and(|after| after.kind == Kind::Directory)
    };
    let taken = |change: &&Change| {
        needed.contains(&change.path) || (parents.contains(&change.path) && is_new_directory(change))
    };
    Ok(all.iter().filter(taken).collect())
}

fn above(path: &RelPath) -> Vec<RelPath> {
    std::iter::successors(path.split().map(|(parent, _)| parent), |path| path.split().map(|(parent, _)| parent))
        .collect()
}

/// What a person agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// What may be executed on the host.
    pub executables: bool,
    /// What is odd and harmless.
    pub odd: bool,
    /// The loss of what the host changed meanwhile.
    pub overwrite: bool,
}

/// What speaks against taking changes over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objections {
    /// The host changed these too.
    pub conflicts: Vec<Change>,
    /// These are never taken over.
    pub never: Vec<Change>,
    /// These are odd.
    pub odd: Vec<Change>,
    /// These may be executed on the host.
    pub executables: Vec<Change>,
}

impl Objections {
    /// Whether nothing does.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.conflicts.is_empty() && self.never.is_empty() && self.odd.is_empty() && self.executables.is_empty()
    }
}

/// What speaks against taking these over, after what a person agreed to.
pub(super) fn object(changes: &[&Change], consent: Consent) -> Objections {
    let those = |wanted: &dyn Fn(&Change) -> bool| {
        changes.iter().filter(|change| wanted(change)).map(|change| (*change).clone()).collect::<Vec<_>>()
    };
    Objections {
        conflicts: those(&|change| !consent.overwrite && change.conflict.is_some()),
        never: those(&|change| change.oddities.iter().any(|oddity| !oddity.is_harmless())),
        odd: those(&|change| !consent.odd && change.oddities.iter().any(super::judge::Oddity::is_harmless)),
        executables: those(&|change| !consent.executables && change.mark.is_some()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::facts::Facts;
    use super::super::judge::{Mark, Oddity};
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn facts(kind: Kind, inode: u64) -> Facts {
        let changed = Moment { seconds: 1, nanoseconds: 2 };
        Facts {
            kind,
            mode: 0o750,
            uid: 1,
            gid: 1,
            size: 0,
            inode,
            device: 0,
            links: 1,
            modified: Moment::default(),
            changed,
        }
    }

    fn change(text: &str, kind: ChangeKind, before: Option<Kind>, after: Option<Kind>) -> Change {
        Change {
            path: path(text),
            kind,
            before: before.map(|kind| facts(kind, 7)),
            after: after.map(|kind| facts(kind, 8)),
            target: None,
            below: 0,
            conflict: None,
            mark: None,
            oddities: Vec::new(),
        }
    }

    #[test]
    fn what_goes_comes_first_and_bits_of_directories_last() {
        let changes = [
            change("d", ChangeKind::Added, None, Some(Kind::Directory)),
            change("d/f", ChangeKind::Added, None, Some(Kind::File)),
            change("m", ChangeKind::Modified, Some(Kind::File), Some(Kind::File)),
            change("r", ChangeKind::Replaced, Some(Kind::File), Some(Kind::Directory)),
            change("s", ChangeKind::Mode, Some(Kind::Directory), Some(Kind::Directory)),
            change("x", ChangeKind::Deleted, Some(Kind::Directory), None),
        ];
        let file =
            Known { inode: 7, modified: Some(Moment::default()), changed: Some(Moment { seconds: 1, nanoseconds: 2 }) };
        let directory = Known { inode: 7, modified: None, changed: None };
        let put = |text, number, replaces| Operation::Put { path: path(text), number, inode: 0, replaces };
        let remove = |text, number, known| Operation::Remove { path: path(text), number, known };
        let mode = |text, before| Operation::SetMode { path: path(text), before, after: 0o750 };
        assert_eq!(
            plan(&changes.iter().collect::<Vec<_>>()),
            [
                remove("r", 0, file),
                remove("x", 1, directory),
                put("d", 2, None),
                put("d/f", 3, None),
                put("m", 4, Some(file)),
                put("r", 5, None),
                mode("s", 0o750),
                mode("r", 0o700),
                mode("d", 0o700),
            ]
        );
    }

    #[test]
    fn a_chosen_path_brings_the_new_directories_above_it() {
        let all = [
            change("d", ChangeKind::Added, None, Some(Kind::Directory)),
            change("d/e", ChangeKind::Added, None, Some(Kind::Directory)),
            change("d/e/f", ChangeKind::Added, None, Some(Kind::File)),
            change("d/g", ChangeKind::Added, None, Some(Kind::File)),
            change("o", ChangeKind::Mode, Some(Kind::Directory), Some(Kind::Directory)),
            change("o/x", ChangeKind::Deleted, Some(Kind::File), None),
        ];
        let chosen = |wanted: &[&str], except: &[&str]| {
            let list = |texts: &[&str]| texts.iter().map(|text| path(text)).collect::<Vec<_>>();
            let choice = Choice { paths: list(wanted), except: list(except) };
            choose(&all, &choice).map(|found| found.iter().map(|change| change.path.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&["d/e/f"], &[]).unwrap(), ["d", "d/e", "d/e/f"]);
        assert_eq!(chosen(&["o"], &[]).unwrap(), ["o", "o/x"]);
        assert_eq!(chosen(&["o/x"], &[]).unwrap(), ["o/x"]);
        assert_eq!(chosen(&[], &["d"]).unwrap(), ["o", "o/x"]);
        assert_eq!(chosen(&[], &[]).unwrap().len(), 6);
        assert_eq!(chosen(&["nowhere"], &[]), Err(BadChoice::Unchanged(path("nowhere"))));
    }

    #[test]
    fn part_of_what_goes_as_a_whole_cannot_be_chosen() {
        let all = [Change { below: 3, ..change("x", ChangeKind::Deleted, Some(Kind::Directory), None) }];
        let choice = Choice { paths: vec![path("x/y")], except: Vec::new() };
        assert_eq!(choose(&all, &choice), Err(BadChoice::Part(path("x/y"), path("x"))));
    }

    #[test]
    fn consent_covers_what_it_names_and_devices_never() {
        let odd = |oddity| Change { oddities: vec![oddity], ..change("a", ChangeKind::Added, None, Some(Kind::File)) };
        let marked = Change { mark: Some(Mark("x".into())), ..change("b", ChangeKind::Added, None, Some(Kind::File)) };
        let (device, fifo) = (odd(Oddity::Device), odd(Oddity::Fifo));
        let all = [&device, &fifo, &marked];
        let none = object(&all, Consent::default());
        assert_eq!((none.never.len(), none.odd.len(), none.executables.len()), (1, 1, 1));
        let agreed = object(&all, Consent { executables: true, odd: true, overwrite: true });
        assert_eq!((agreed.never.len(), agreed.odd.len(), agreed.executables.len()), (1, 0, 0));
    }
}
