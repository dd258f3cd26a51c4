//! `--learn`: what the session was refused, and the change of its profile that would have sufficed, as a diff for a
//! person to read and apply.

use crate::cli::event_line::describe;
use crate::cli::listing::printable;
use crate::cli::profile::Found;
use crate::model::{Event, SessionId};
use crate::policy::{Amended, Lesson, Profile, Refused, amend};
use crate::server::{Peer, with_rights_of_visitor};
use crate::session::Prepared;
use crate::store::{Home, open_store};
use crate::supervisor::{Access, Step};
use anyhow::Context;
use rustix::fs::{Mode, OFlags};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// How many events are in memory at once.
const PAGE_EVENTS: u32 = 1_000;
/// Most refusals that are learned from; a session with more has shown what it is about.
const REFUSALS_MAX: usize = 100_000;

/// The flags of learning.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// Enforce as usual, and at the end propose the change of the profile that would have allowed what was refused.
    #[arg(long)]
    learn: bool,
    /// Where the proposal goes, instead of stderr; implies `--learn`.
    #[arg(long, value_name = "FILE")]
    learn_out: Option<PathBuf>,
}

impl Flags {
    /// Whether anybody learns by these.
    pub(super) fn is_wanted(&self) -> bool {
        self.learn || self.learn_out.is_some()
    }
}

/// A session that is learned from.
pub struct Learner {
    profile: Profile,
    text: String,
    /// The file that the change goes to, and whether the profile is in it already.
    target: Option<(PathBuf, bool)>,
    /// Where the proposal goes, if not to stderr.
    out: Option<PathBuf>,
    /// With whose rights it goes there, where not with this process's.
    peer: Option<Peer>,
}

/// The file that a change of a profile goes to.
pub(in crate::cli) fn learn_target(found: &Found) -> Option<PathBuf> {
    found.file.clone().or_else(|| Home::profile_from_env(&found.profile.name))
}

impl Learner {
    /// For this process's user.
    pub(super) fn own(found: Found) -> Self {
        let target = learn_target(&found).map(|target| (target, found.file.is_some()));
        Self { profile: found.profile, text: found.text, target, out: None, peer: None }
    }

    /// For a user of the machine's server.
    pub(super) fn of(profile: Profile, text: String, target: Option<(String, bool)>, peer: Peer) -> Self {
        let target = target.map(|(target, is_there)| (PathBuf::from(target), is_there));
        Self { profile, text, target, out: None, peer: Some(peer) }
    }

    /// As the flags say where.
    pub(super) fn writing_to(self, flags: &Flags) -> Self {
        Self { out: flags.learn_out.clone(), ..self }
    }

    /// Makes sure, before anything happens, that the proposal can be written where nothing inside can write it: what a
    /// harness could change would not be a proposal of omni's.
    pub(super) fn check(&mut self, prepared: &Prepared) -> anyhow::Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        let shown = out.display().to_string();
        let name = out.file_name().with_context(|| format!("`--learn-out {shown}` names no file"))?;
        let place = std::path::absolute(out)?.parent().map(Path::to_owned).unwrap_or_default();
        let place = with_rights_of_visitor(self.peer.as_ref(), || place.canonicalize())?
            .with_context(|| format!("cannot write {shown}"))?;
        let within = |step: &Step| matches!(step, Step::Bind { mount, .. } if mount.access == Access::ReadWrite && place.starts_with(&mount.source));
        anyhow::ensure!(
            !prepared.plan.steps.iter().any(within),
            "`--learn-out {shown}` lies where the harness can write, so that it could change what is proposed: choose a \
             place outside of the workspace, such as ~/learned.diff"
        );
        self.out = Some(place.join(name));
        Ok(())
    }

    /// Proposes what the session taught.
    pub(super) fn conclude(&self, prepared: &Prepared, home: &Home) -> anyhow::Result<()> {
        let refused = refusals(home, &prepared.session)?;
        let lesson = Lesson::draw(&prepared.request.profile, &prepared.policy, &refused);
        let text = self.proposal(prepared, &lesson);
        let Some(out) = &self.out else {
            std::io::stderr().write_all(text.as_bytes()).context("cannot say what was learned")?;
            return Ok(());
        };
        let kept = with_rights_of_visitor(self.peer.as_ref(), || write(out, &text))?
            .with_context(|| format!("cannot write {}", out.display()));
        if kept.is_err() {
            // What was learned is not lost.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        kept
    }

    /// Notes for a person, which `patch` passes over, and the diff.
    fn proposal(&self, prepared: &Prepared, lesson: &Lesson) -> String {
        let Self { profile, text, .. } = self;
        let target = self.target.as_ref().map(|(target, _)| target.as_path());
        let is_there = self.target.as_ref().is_some_and(|(_, is_there)| *is_there);
        let label = target
            .and_then(Path::file_name)
            .map_or_else(|| format!("{}.yaml", profile.name), |name| name.to_string_lossy().into_owned());
        let amended = amend(&printable(&label), text, &lesson.rules);
        let mut notes = vec![format!("What session {} was refused.", prepared.session.as_str())];
        if lesson.is_empty() {
            notes.push("Nothing was refused, so there is nothing to learn.".to_owned());
        }
        if !lesson.rules.is_empty() {
            notes.push(
                "Read each line: a harness may have been talked into asking. A GET carries data out as well."
                    .to_owned(),
            );
            notes.push(
                "What would have come after a refusal is not known yet: run it again with the change.".to_owned(),
            );
        }
        let others = lesson.others.iter().map(|other| format!("Not proposed: {other}"));
        notes.extend(others);
        notes.push(
            "Files that were not there inside are not seen: `omni policy explain file PATH` says why.".to_owned(),
        );
        notes.extend(instructions(&amended, lesson, target, (!is_there).then_some(&profile.name)));
        let mut all = String::new();
        for note in notes {
            // Writing to a string does not fail.
            let _ = writeln!(all, "# {}", printable(&note));
        }
        all.push_str(&amended.map(|amended| amended.diff).unwrap_or_default());
        all
    }
}

/// How to apply the diff, or what to do without one.
fn instructions(
    amended: &Option<Amended>,
    lesson: &Lesson,
    target: Option<&Path>,
    shipped: Option<&String>,
) -> Vec<String> {
    if amended.is_none() {
        let rules =
            lesson.rules.iter().map(|proposed| format!("Add to `egress`, after thought:   allow: {}", proposed.rule));
        return rules.collect();
    }
    let target = target.map_or_else(|| "PROFILE.yaml".to_owned(), |target| quoted(&target.display().to_string()));
    let copy = shipped.map(|name| {
        let directory = Path::new(target.trim_matches('\'')).parent().map(|place| place.display().to_string());
        let directory = quoted(&directory.unwrap_or_default());
        format!("mkdir -p {directory} && omni profile show {name} > {target} && ")
    });
    vec![format!("To apply: {}patch {target} < THIS", copy.unwrap_or_default())]
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What the session's journals say was refused.
fn refusals(home: &Home, session: &SessionId) -> anyhow::Result<Vec<Refused>> {
    let mut store = open_store(home)?;
    store.fold(session)?;
    let (mut refused, mut entry) = (Vec::new(), 0);
    loop {
        let page = store.log(Some(session), entry, PAGE_EVENTS)?;
        let Some(last) = page.last() else { return Ok(refused) };
        entry = last.entry;
        for stored in &page {
            match stored.event() {
                Some(Event::RequestDenied { line, reason, .. }) => refused.push(Refused::Request { line, reason }),
                Some(
                    Event::ConnectionRefused { .. }
                    | Event::RequestFailed { .. }
                    | Event::FileRefused { .. }
                    | Event::FileRefusalsUntold { .. },
                ) => refused.push(Refused::Other(describe(stored))),
                _ => {}
            }
        }
        if refused.len() >= REFUSALS_MAX {
            return Ok(refused);
        }
    }
}

/// Writes a file that is its owner's alone to read; a link in its place is not followed.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file).write_all(text.as_bytes())?)
}
