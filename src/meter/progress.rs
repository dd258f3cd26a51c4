//! How far a streamed answer has come, reckoned from its bytes: most vendors tell what it used only at its end.

use super::sse::{Cutter, Piece};

/// What every event carries besides what the model says, in bytes.
const ENVELOPE_BYTES: u64 = 90;
/// Bytes that make a token, reckoned low: text of most languages has more.
const TOKEN_BYTES: u64 = 3;

/// Counts as an answer passes.
#[derive(Debug)]
pub struct Progress {
    events: Option<Cutter>,
    event_bytes: u64,
    tokens: u64,
}

impl Progress {
    /// Of a stream of events, or of an answer in one piece.
    #[must_use]
    pub fn new(streams: bool) -> Self {
        Self { events: streams.then(Cutter::new), event_bytes: 0, tokens: 0 }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { events, event_bytes, tokens } = self;
        let Some(cutter) = events else {
            *event_bytes += bytes.len() as u64;
            *tokens = *event_bytes / TOKEN_BYTES;
            return;
        };
        cutter.feed(bytes, &mut |piece| match piece {
            Piece::Data(data) => *event_bytes += data.len() as u64,
            Piece::DataEnd => {}
            Piece::EventEnd => {
                // A short word in its envelope is a token as well.
                *tokens +=
                    event_bytes.saturating_sub(ENVELOPE_BYTES).div_ceil(TOKEN_BYTES).max(u64::from(*event_bytes > 0));
                *event_bytes = 0;
            }
        });
    }

    /// The tokens that have probably come.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_count_by_what_they_carry_however_they_are_split() {
        let event = format!("event: x\ndata: {}{}\n\n", " ".repeat(90), "a".repeat(30));
        let stream = event.repeat(4);
        for size in [1, 7, stream.len()] {
            let mut progress = Progress::new(true);
            stream.as_bytes().chunks(size).for_each(|chunk| progress.feed(chunk));
            assert_eq!(progress.tokens(), 40, "{size}");
        }
        let mut words = Progress::new(true);
        (0..50).for_each(|_| words.feed(b"data: {\"delta\":\"a \"}\n\n"));
        assert_eq!(words.tokens(), 50);
        let mut whole = Progress::new(false);
        whole.feed(&[b'a'; 30]);
        assert_eq!(whole.tokens(), 10);
    }
}
