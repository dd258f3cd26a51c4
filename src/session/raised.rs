//! A question drawn over the user's terminal, and what stands below it: what the terminal showed comes back cell by cell, by
//! omni's own picture of it, and then what the harness wrote meanwhile, byte by byte.

use super::panel::{Outcome, Panel};
use super::picture::Picture;
use std::time::Instant;

/// Most output of the harness's that is kept for the terminal meanwhile. Beyond, its screen is drawn anew as it is then.
const HELD_BYTES_MAX: usize = 1 << 20;

/// A question that is up.
pub(super) struct Raised {
    panel: Panel,
    /// What the terminal showed before.
    under: vt100::Screen,
    /// What it shows.
    drawn: vt100::Parser,
    /// How the character sets are chosen as they were.
    characters: Vec<u8>,
    /// What the harness wrote since; none once that was too much.
    held: Option<Vec<u8>>,
}

impl std::fmt::Debug for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raised").field("panel", &self.panel).finish_non_exhaustive()
    }
}

/// What brings the terminal back.
pub(super) enum Below {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The whole screen, drawn anew.
    Whole,
}

impl Raised {
    /// Draws it over a picture; what is to be written for it. `characters` chooses the character sets that are in use.
    pub(super) fn over(picture: &Picture, panel: Panel, characters: Vec<u8>) -> (Self, Vec<u8>) {
        let under = picture.screen().clone();
        let (rows, columns) = under.size();
        let mut drawn = vt100::Parser::new(rows, columns, 0);
        drawn.process(under.contents_formatted().as_bytes());
        let mut raised = Self { panel, under, drawn, characters, held: Some(Vec::new()) };
        let bytes = [b"\x07\x0f\x1b(B".to_vec(), raised.draw()].concat();
        (raised, bytes)
    }

    fn draw(&mut self) -> Vec<u8> {
        let bytes = self.panel.draw();
        self.drawn.process(&bytes);
        bytes
    }

    /// The question's number.
    pub(super) fn question(&self) -> u64 {
        self.panel.asked().approval.question
    }

    /// Keeps output of the harness's for later.
    pub(super) fn hold(&mut self, output: &[u8]) {
        match &mut self.held {
            Some(held) if held.len() + output.len() <= HELD_BYTES_MAX => held.extend_from_slice(output),
            held => *held = None,
        }
    }

    /// When it changes by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.panel.due()
    }

    /// What is to be drawn since time passed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<u8> {
        if self.panel.tick(now) { self.draw() } else { Vec::new() }
    }

    /// Takes keys: what came of them, or what is to be drawn.
    pub(super) fn read(&mut self, typed: &[u8], now: Instant) -> Result<Vec<u8>, Outcome> {
        match self.panel.read(typed, now) {
            Some(outcome) => Err(outcome),
            None => Ok(self.draw()),
        }
    }

    /// What takes it away again.
    pub(super) fn lower(self) -> Below {
        let Some(held) = self.held else { return Below::Whole };
        let back = self.under.contents_diff(self.drawn.screen()).into_bytes();
        Below::Bytes([back, self.characters, held].concat())
    }
}
