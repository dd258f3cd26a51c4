//! How the changes of an overlay are told, by `omni diff` and `omni apply`.

use super::listing::Viewer;
use crate::model::SessionId;
use crate::session::overlay::{
    Change, ChangeKind, Changes, Comparison, Conflict, Kind, OverlayError, RelPath, TEXT_BYTES_MAX, compare_text, shown,
};
use crate::store::Status;
use base64::Engine;
use serde::Serialize;

/// A session whose changes are asked for.
pub(super) struct Found {
    pub session: SessionId,
    pub status: Status,
}

/// Finds the session that a person means.
pub(super) fn find(wanted: &str, viewer: &Viewer) -> anyhow::Result<Found> {
    let store = viewer.open()?;
    let session = store.find(wanted)?;
    let (_, status) = store.session(&session)?;
    Ok(Found { session, status })
}

/// What a change does to the contents, where they can be compared.
pub(super) fn contents(changes: &Changes, change: &Change) -> Result<Option<Comparison>, OverlayError> {
    let is_file = |facts: Option<crate::session::overlay::Facts>| facts.is_some_and(|facts| facts.kind == Kind::File);
    let (was, is) = (is_file(change.before), is_file(change.after));
    let closed = change.oddities.iter().any(|oddity| oddity.as_str() == "closed");
    if change.kind == ChangeKind::Mode || !(was || is) || closed {
        return Ok(None);
    }
    let limit = TEXT_BYTES_MAX + 1;
    let before = if was { changes.read_before(&change.path, limit)? } else { Vec::new() };
    let after = if is { changes.read_after(&change.path, limit)? } else { Vec::new() };
    Ok(Some(compare_text(&before, &after)))
}

/// A change in a line: what, where, how much, and what to mind.
pub(super) fn line(change: &Change, contents: Option<&Comparison>) -> String {
    let mut text = format!("{:<9}{}", change.kind.as_str(), named(change));
    match contents {
        Some(Comparison::Text { added, removed, .. }) => text.push_str(&format!("  +{added} -{removed}")),
        Some(Comparison::Binary) => text.push_str(&format!("  binary{}", sizes(change))),
        Some(Comparison::TooLong) => text.push_str(&format!("  too long to compare{}", sizes(change))),
        None => {}
    }
    if let (ChangeKind::Mode, Some(before), Some(after)) = (change.kind, change.before, change.after) {
        match before.mode == after.mode {
            true => text.push_str("  attributes"),
            false => text.push_str(&format!("  {:04o} to {:04o}", before.mode, after.mode)),
        }
    }
    if let (ChangeKind::Replaced, Some(before), Some(after)) = (change.kind, change.before, change.after) {
        text.push_str(&format!("  {} to {}", before.kind.as_str(), after.kind.as_str()));
    }
    if change.below > 0 {
        text.push_str(&format!("  with {} below it", change.below));
    }
    if let Some(mark) = &change.mark {
        text.push_str(&format!("  EXECUTES ON THE HOST: {}", mark.0));
    }
    for oddity in &change.oddities {
        text.push_str(&format!("  ODD: {oddity}"));
    }
    if let Some(conflict) = &change.conflict {
        text.push_str(&format!("  CONFLICT: {}", conflict_words(conflict)));
    }
    text.push('\n');
    text
}

/// The path, a directory's with a slash, a link's with where it points.
fn named(change: &Change) -> String {
    let kind = change.after.or(change.before).map(|facts| facts.kind);
    match (kind, &change.target) {
        (_, Some(target)) => format!("{} -> {}", change.path, shown(target)),
        (Some(Kind::Directory), None) => format!("{}/", change.path),
        _ => change.path.to_string(),
    }
}

fn sizes(change: &Change) -> String {
    let size = |facts: Option<crate::session::overlay::Facts>| facts.map_or(0, |facts| facts.size);
    format!(", {} to {} bytes", size(change.before), size(change.after))
}

/// What the host did, in words.
pub(super) fn conflict_words(conflict: &Conflict) -> String {
    match conflict {
        Conflict::Changed => "the host changed it too since the session began".to_owned(),
        Conflict::MadeToo => "the host made one too since the session began".to_owned(),
        Conflict::Removed => "the host removed it since the session began, or may have".to_owned(),
        Conflict::ChangedBelow(path) => format!("the host changed {path} since the session began"),
    }
}

/// A change as `--json` prints it.
#[derive(Serialize)]
pub(super) struct ChangeLine<'a> {
    session: &'a str,
    path: String,
    /// The path's bytes, where they are no text.
    path_base64: Option<String>,
    change: &'static str,
    kind_before: Option<&'static str>,
    kind: Option<&'static str>,
    mode_before: Option<u32>,
    mode: Option<u32>,
    size_before: Option<u64>,
    size: Option<u64>,
    target: Option<String>,
    below: u64,
    lines_added: Option<usize>,
    lines_removed: Option<usize>,
    binary: bool,
    executes: Option<&'a str>,
    odd: Vec<OddLine>,
    conflict: Option<&'static str>,
    conflict_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<&'a str>,
}

#[derive(Serialize)]
struct OddLine {
    oddity: &'static str,
    harmless: bool,
    reason: String,
}

impl<'a> ChangeLine<'a> {
    pub(super) fn new(
        session: &'a SessionId,
        change: &'a Change,
        contents: Option<&'a Comparison>,
        with_diff: bool,
    ) -> Self {
        let lines = match contents {
            Some(Comparison::Text { added, removed, .. }) => Some((*added, *removed)),
            _ => None,
        };
        let diff = match contents {
            Some(Comparison::Text { unified, .. }) if with_diff => Some(unified.as_str()),
            _ => None,
        };
        let odd = change.oddities.iter().map(|oddity| OddLine {
            oddity: oddity.as_str(),
            harmless: oddity.is_harmless(),
            reason: oddity.to_string(),
        });
        let path = String::from_utf8_lossy(change.path.as_bytes()).into_owned();
        let text = std::str::from_utf8(change.path.as_bytes()).is_ok();
        Self {
            session: session.as_str(),
            path,
            path_base64: (!text).then(|| base64::engine::general_purpose::STANDARD.encode(change.path.as_bytes())),
            change: change.kind.as_str(),
            kind_before: change.before.map(|facts| facts.kind.as_str()),
            kind: change.after.map(|facts| facts.kind.as_str()),
            mode_before: change.before.map(|facts| facts.mode),
            mode: change.after.map(|facts| facts.mode),
            size_before: change.before.map(|facts| facts.size),
            size: change.after.map(|facts| facts.size),
            target: change.target.as_ref().map(|target| String::from_utf8_lossy(target).into_owned()),
            below: change.below,
            lines_added: lines.map(|(added, _)| added),
            lines_removed: lines.map(|(_, removed)| removed),
            binary: contents == Some(&Comparison::Binary),
            executes: change.mark.as_ref().map(|mark| mark.0.as_str()),
            odd: odd.collect(),
            conflict: change.conflict.as_ref().map(conflict_name),
            conflict_at: change.conflict.as_ref().and_then(conflict_path).map(RelPath::to_string),
            diff,
        }
    }
}

fn conflict_name(conflict: &Conflict) -> &'static str {
    match conflict {
        Conflict::Changed => "changed",
        Conflict::MadeToo => "made_too",
        Conflict::Removed => "removed",
        Conflict::ChangedBelow(_) => "changed_below",
    }
}

fn conflict_path(conflict: &Conflict) -> Option<&RelPath> {
    match conflict {
        Conflict::ChangedBelow(path) => Some(path),
        _ => None,
    }
}

/// The whole in a line.
pub(super) fn totals<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    let (mut kinds, mut executables, mut odd, mut conflicts) = ([0usize; 5], 0, 0, 0);
    let names = [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Mode, ChangeKind::Replaced, ChangeKind::Deleted];
    for change in changes {
        for (count, kind) in kinds.iter_mut().zip(names) {
            *count += usize::from(change.kind == kind);
        }
        executables += usize::from(change.mark.is_some());
        odd += usize::from(!change.oddities.is_empty());
        conflicts += usize::from(change.conflict.is_some());
    }
    let mut text = format!("{} {}", kinds.iter().sum::<usize>(), plural("change", kinds.iter().sum()));
    let parts = kinds.iter().zip(names).filter(|(count, _)| **count > 0);
    let parts: Vec<_> = parts.map(|(count, kind)| format!("{count} {}", kind.as_str())).collect();
    if !parts.is_empty() {
        text.push_str(&format!(": {}", parts.join(", ")));
    }
    for (count, what) in [(executables, "may execute on the host"), (odd, "odd"), (conflicts, "in conflict")] {
        if count > 0 {
            text.push_str(&format!("; {count} {what}"));
        }
    }
    text.push('\n');
    text
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
