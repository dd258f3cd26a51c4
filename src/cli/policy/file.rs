//! What becomes of a file: the sandbox that the profile would get is planned, and its steps say what is there.

use super::explain::Answer;
use crate::policy::{Profile, expand_home};
use crate::session::{self, Prepared, SessionError, SessionRequest};
use crate::supervisor::{Presence, Reach, SYSTEM_PATHS, reach};
use anyhow::Context;
use serde::Serialize;
use std::path::{Component, Path, PathBuf};

/// What is said of what the profile hides.
const HIDDEN: &str = "the profile hides it: `filesystem.hide`";
/// A program that every machine has, where the profile's own is not installed.
const STAND_IN: &str = "true";
/// Most links that are followed from one place of the sandbox to another.
const LINKS_MAX: usize = 40;

/// The question.
pub(super) struct Asked<'a> {
    /// The path as written: absolute, below `~/`, or relative to the workspace.
    pub(super) path: &'a str,
    /// Whether it is about changing it.
    pub(super) write: bool,
    /// The workspace, if not here.
    pub(super) workspace: Option<&'a Path>,
}

/// What becomes of one file.
#[derive(Serialize)]
pub(super) struct OfFile {
    /// `allow` or `deny` for the host's file, or `own` where the sandbox has something of its own.
    verdict: &'static str,
    path: String,
    access: &'static str,
    /// What the sandbox has there.
    presence: &'static str,
    writable: bool,
    /// Where on the host it is.
    source: Option<String>,
    because: String,
    /// The step of the plan that decides.
    by: Option<String>,
    notes: Vec<String>,
}

/// Plans the sandbox and looks the path up in it.
pub(super) fn explain(profile: Profile, asked: &Asked<'_>) -> anyhow::Result<OfFile> {
    let here = std::env::current_dir().context("the current directory is gone: change into another")?;
    let workspace = here.join(asked.workspace.unwrap_or(Path::new("")));
    let (prepared, mut notes) = planned(profile, &workspace)?;
    let path = absolute(asked.path, &prepared)?;
    let (found, through) = look_up(&prepared, &path);
    notes.extend(through.map(|link| format!("{} is a link to {}", link.display(), found.path.display())));
    if found.source.as_ref().is_some_and(|source| !source.exists()) {
        notes.push("nothing is there now; what comes to be there is shown".to_owned());
    }
    let hidden = is_hidden(&prepared, &found);
    Ok(OfFile {
        verdict: verdict(&found, asked.write, hidden),
        path: path.display().to_string(),
        access: if asked.write { "write" } else { "read" },
        presence: name(found.presence),
        writable: found.writable,
        source: found.source.as_ref().map(|source| source.display().to_string()),
        because: if hidden {
            HIDDEN.to_owned()
        } else {
            because(&prepared, &found) + &protected(&prepared, &found, asked)
        },
        by: found.step,
        notes,
    })
}

/// The sandbox of the profile's own program, or of another where that is not installed.
fn planned(profile: Profile, workspace: &Path) -> anyhow::Result<(Prepared, Vec<String>)> {
    let program = profile.command.as_ref().map_or(STAND_IN, |_| profile.name.as_str()).to_owned();
    let request = |program: String| SessionRequest::plain(profile.clone(), vec![program], workspace.to_owned());
    match session::prepare(request(program)) {
        Err(SessionError::Program(error)) => {
            let note = format!("without what its program needs: {error}");
            Ok((session::prepare(request(STAND_IN.to_owned()))?, vec![note]))
        }
        prepared => Ok((prepared?, Vec::new())),
    }
}

fn absolute(written: &str, prepared: &Prepared) -> anyhow::Result<PathBuf> {
    let path = prepared.plan.directory.join(expand_home(written, &prepared.home));
    let climbs = path.components().any(|part| matches!(part, Component::ParentDir));
    anyhow::ensure!(!climbs, "`{written}` has a `..`: write where it leads");
    Ok(path.components().collect())
}

/// What is there, and the link that led there, if one of the host's did.
fn look_up(prepared: &Prepared, path: &Path) -> (Reach, Option<PathBuf>) {
    let mut found = reach(&prepared.plan, path);
    let mut through = None;
    for _ in 0..LINKS_MAX {
        // A granted place is mounted with its links followed; below it, links are the sandbox's to follow.
        let below = found.place.as_ref().is_some_and(|place| *place != found.path);
        let target = found.source.as_ref().filter(|_| below).and_then(|source| source.canonicalize().ok());
        match target {
            Some(target) if Some(&target) != found.source.as_ref() && target != found.path => {
                through = Some(path.to_owned());
                found = reach(&prepared.plan, &target);
            }
            _ => break,
        }
    }
    (found, through)
}

fn verdict(found: &Reach, write: bool, hidden: bool) -> &'static str {
    match found.presence {
        Presence::Shown if found.writable || !write => "allow",
        Presence::Shown | Presence::Absent => "deny",
        Presence::Covered if hidden || write => "deny",
        _ => "own",
    }
}

fn name(presence: Presence) -> &'static str {
    match presence {
        Presence::Absent => "absent",
        Presence::Way => "empty directory",
        Presence::Shown => "shown",
        Presence::Private => "private",
        Presence::Covered => "hidden",
        Presence::Made => "made by omni",
        Presence::Kernel => "made by the kernel",
    }
}

fn because(prepared: &Prepared, found: &Reach) -> String {
    let access = if found.writable { "to read and write" } else { "read-only" };
    match found.presence {
        Presence::Absent => {
            "nothing that the sandbox shows holds it; to show it, add it to `filesystem.read`".to_owned()
        }
        Presence::Way => "it is an empty directory that leads to places which are shown".to_owned(),
        Presence::Shown => format!("{} is shown {access}", origin(prepared, found)),
        Presence::Private => {
            "the host's is not shown: the sandbox has a place of its own there, in memory, which goes \
                              with it"
                .to_owned()
        }
        Presence::Covered => "omni puts its own in front of it".to_owned(),
        Presence::Made => "omni writes it for the sandbox".to_owned(),
        Presence::Kernel => "the kernel makes it for the sandbox".to_owned(),
    }
}

/// Why nothing inside may write it, where its name is protected.
fn protected(prepared: &Prepared, found: &Reach, asked: &Asked<'_>) -> String {
    let by = prepared.plan.gate().filter(|_| asked.write).and_then(|gate| gate.refuses(&found.path));
    by.map_or_else(String::new, |by| format!(", and its name is protected by `{}`, since {}", by.rule, by.reason))
}

/// Why a mount is there.
fn origin(prepared: &Prepared, found: &Reach) -> String {
    let Some(place) = &found.place else { return "it".to_owned() };
    let filesystem = &prepared.request.profile.filesystem;
    for (key, paths) in [("write", &filesystem.write), ("read", &filesystem.read)] {
        if let Some(path) = paths.iter().find(|path| expand_home(path, &prepared.home) == *place) {
            return format!("`{path}`, of the profile's `filesystem.{key}`,");
        }
    }
    match place {
        place if *place == prepared.plan.directory => "the workspace".to_owned(),
        place if SYSTEM_PATHS.iter().any(|system| place == Path::new(system)) => "the system's directory".to_owned(),
        place => format!("{}, which the program needs,", place.display()),
    }
}

fn is_hidden(prepared: &Prepared, found: &Reach) -> bool {
    let hide = prepared.request.profile.filesystem.hide.iter().map(|path| expand_home(path, &prepared.home));
    found.place.as_ref().is_some_and(|place| hide.into_iter().any(|path| path == *place))
}

impl Answer for OfFile {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.verdict.to_owned(), format!("because {}", self.because)];
        lines.extend(self.by.iter().map(|step| format!("by {step}")));
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines
    }
}
