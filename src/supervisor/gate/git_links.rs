//! Links among git's own files: git outside would write through them, so that none comes there.

use super::place::Place;
use super::{Gate, as_path, has};
use crate::model::FileAct;
use crate::policy::Protection;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use std::ffi::CStr;

impl Gate<'_> {
    /// Judges a symbolic link that is to be made.
    pub(super) fn judge_symlink(&mut self, target: &CStr, place: &Place) -> Result<(), Errno> {
        let whole = place.whole();
        let Some(judged) = self.plan.judged(as_path(&whole)) else { return Ok(()) };
        let verdict = Protection::judge_link(target.to_bytes(), &judged, &mut |depth, name| has(&whole, depth, name));
        verdict.map_err(|by| self.refused(FileAct::Link, &whole, by.rule))
    }

    /// Judges what is to get another name: files go everywhere.
    pub(super) fn judge_move(&mut self, from: &Place, to: &Place) -> Result<(), Errno> {
        // What is not there fails by itself.
        let Ok(stat) = rustix::fs::statat(&from.directory, &from.name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        self.judge_coming(FileAct::MoveHere, FileType::from_raw_mode(stat.st_mode), &from.whole(), &to.whole())
    }

    /// Judges something of this kind that is to get a name.
    pub(super) fn judge_coming(&mut self, act: FileAct, kind: FileType, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        if !matches!(kind, FileType::Symlink | FileType::Directory) {
            return Ok(());
        }
        let judged = |path| self.plan.judged(as_path(path));
        let (Some(judged_from), Some(judged_to)) = (judged(from), judged(to)) else { return Ok(()) };
        let verdict = Protection::judge_coming(
            kind == FileType::Symlink,
            (&judged_from, &mut |depth, name| has(from, depth, name)),
            (&judged_to, &mut |depth, name| has(to, depth, name)),
        );
        verdict.map_err(|by| self.refused(act, to, by.rule))
    }
}
