//! What a session's terminal showed, as a file that can be played: asciicast, version 3
//! (docs.asciinema.org/manual/asciicast/v3).
//!
//! Output and sizes alone: keys are never recorded, since people type secrets. Each event is one write, so that what was
//! shown before a sudden end is there after it. The file is sealed by the session's key.

use crate::model::{SessionId, Timestamp};
use crate::store::{Home, SealedFile, StoreError};
use rustix::termios::Winsize;
use serde_json::json;
use std::time::{Duration, Instant};

/// Most bytes of a recording. What follows is not recorded, and the recording says so.
const RECORDING_BYTES_MAX: u64 = 64 << 20;
/// Room that is kept for the last words: that the recording stopped, how the session ended.
const LAST_WORDS_BYTES: u64 = 4096;

/// A recording that goes on.
#[derive(Debug)]
pub(super) struct Recording {
    file: SealedFile,
    bytes: u64,
    bytes_max: u64,
    size: Winsize,
    started: Instant,
    /// When the last event was, in milliseconds since the start: intervals are differences of these, so that rounding does
    /// not add up.
    last_ms: u128,
    /// Why it goes on no more.
    stopped: Option<String>,
}

/// What a recording says of itself.
pub(super) struct Head<'a> {
    /// The size at the start.
    pub size: Winsize,
    /// When it started.
    pub started: Timestamp,
    /// The command line.
    pub argv: &'a [String],
    /// The name that a person gave the session.
    pub title: Option<&'a str>,
    /// The harness's `TERM`.
    pub term: Option<&'a str>,
}

impl Recording {
    /// Begins one in a file that is not there yet.
    pub(super) fn create(home: &Home, session: &SessionId, head: &Head<'_>) -> Result<Self, StoreError> {
        // As soon as the head's time was read: what is shown beside a recording goes by that.
        let started = Instant::now();
        let file = SealedFile::create_recording(home, session)?;
        let mut recording = Self {
            file,
            bytes: 0,
            bytes_max: RECORDING_BYTES_MAX,
            size: head.size,
            started,
            last_ms: 0,
            stopped: None,
        };
        let failed = |cause| StoreError::JournalWrite { path: home.recording(session), cause };
        recording.put(&header(head)).map_err(failed)?;
        Ok(recording)
    }

    /// Records what was shown. What cannot be recorded changes nothing of the session; [`Recording::stopped`] says why.
    pub(super) fn output(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.event("o", &String::from_utf8_lossy(bytes));
        }
    }

    /// Records a new size.
    pub(super) fn resized(&mut self, size: Winsize) {
        if (size.ws_col, size.ws_row) == (self.size.ws_col, self.size.ws_row) {
            return;
        }
        self.size = size;
        self.event("r", &format!("{}x{}", size.ws_col, size.ws_row));
    }

    /// Ends the recording with the session's exit status, and says why it is not whole, if it is not.
    pub(super) fn finish(&mut self, status: i32) -> Option<&str> {
        if self.bytes <= self.bytes_max {
            let line = self.line("x", &status.to_string());
            if let Err(error) = self.put(&line) {
                self.stopped.get_or_insert_with(|| error.to_string());
            }
        }
        self.stopped.as_deref()
    }

    fn event(&mut self, code: &str, data: &str) {
        if self.stopped.is_some() {
            return;
        }
        let line = self.line(code, data);
        if self.bytes + line.len() as u64 > self.bytes_max - LAST_WORDS_BYTES {
            let why = format!("the recording has reached its limit of {} bytes", self.bytes_max);
            let mark = self.line("m", &why);
            // That it stopped is told in any case; that this cannot be written says nothing more.
            let _ = self.put(&mark);
            self.stopped = Some(why);
        } else if let Err(error) = self.put(&line) {
            self.stopped = Some(format!("the recording could not be written: {error}"));
        }
    }

    /// One event: seconds since the one before, its code, its data.
    fn line(&mut self, code: &str, data: &str) -> String {
        let now_ms = self.started.elapsed().as_millis();
        let interval = Duration::from_millis(u64::try_from(now_ms - self.last_ms).unwrap_or(u64::MAX));
        self.last_ms = now_ms;
        format!("[{}.{:03}, {}, {}]\n", interval.as_secs(), interval.subsec_millis(), json!(code), json!(data))
    }

    fn put(&mut self, line: &str) -> std::io::Result<()> {
        self.file.put(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn header(head: &Head<'_>) -> String {
    let mut term = json!({ "cols": head.size.ws_col, "rows": head.size.ws_row });
    if let Some(kind) = head.term {
        term["type"] = json!(kind);
    }
    let command = head.argv.join(" ");
    let seconds = head.started.0 / 1_000_000;
    let mut header = json!({ "version": 3, "term": term, "timestamp": seconds, "command": command });
    // The format knows whole seconds alone. Players pass over what they do not know.
    header["omni_started"] = json!(head.started.0);
    if let Some(title) = head.title {
        header["title"] = json!(title);
    }
    format!("{header}\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::Writer;
    use crate::store::{Journal, Sealed, SealedReader};
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn begin(place: &Path) -> Recording {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let argv = ["sh".to_owned(), "-c".to_owned()];
        let head =
            Head { size, started: Timestamp(7_500_000), argv: &argv, title: Some("a \"b\""), term: Some("xterm") };
        let (home, session) = home(place);
        drop(Journal::create(&home, &session, Writer::Session).unwrap());
        Recording::create(&home, &session, &head).unwrap()
    }

    fn home(place: &Path) -> (Home, SessionId) {
        (Home::open(&place.join("home")).unwrap(), SessionId::from_entropy([1; 10]))
    }

    fn lines(place: &Path) -> Vec<serde_json::Value> {
        let (home, session) = home(place);
        let Sealed::There(mut reader) = SealedReader::open_recording(&home, &session).unwrap() else { panic!() };
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_recording_is_a_header_and_events_with_intervals() {
        let place = tempfile::tempdir().unwrap();
        let mut recording = begin(place.path());
        recording.output("h\u{e9}\x1b[1m\r\n".as_bytes());
        recording.output(b"");
        recording.resized(Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 });
        assert_eq!(recording.finish(3), None);
        let lines = lines(place.path());
        let term = json!({ "cols": 80, "rows": 24, "type": "xterm" });
        let header =
            json!({ "version": 3, "term": term, "timestamp": 7, "omni_started": 7_500_000, "command": "sh -c" });
        let mut wanted = header.clone();
        wanted["title"] = json!("a \"b\"");
        assert_eq!(lines[0], wanted);
        let events: Vec<_> = lines[1..].iter().map(|event| (&event[1], &event[2])).collect();
        let wanted = [json!(["o", "h\u{e9}\x1b[1m\r\n"]), json!(["r", "100x30"]), json!(["x", "3"])];
        assert_eq!(events, wanted.iter().map(|event| (&event[0], &event[1])).collect::<Vec<_>>());
        assert!(lines[1..].iter().all(|event| event[0].is_f64()));
        let (home, session) = home(place.path());
        let mode = std::fs::metadata(home.recording(&session)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_recording_that_is_full_says_so_and_still_ends() {
        let place = tempfile::tempdir().unwrap();
        let mut recording = begin(place.path());
        recording.bytes_max = LAST_WORDS_BYTES + 300;
        recording.output(&[b'a'; 100]);
        recording.output(&[b'b'; 300]);
        recording.output(&[b'c'; 1]);
        let why = format!("the recording has reached its limit of {} bytes", LAST_WORDS_BYTES + 300);
        assert_eq!(recording.finish(0), Some(why.as_str()));
        let lines = lines(place.path());
        let codes: Vec<_> = lines[1..].iter().map(|event| event[1].as_str().unwrap()).collect();
        assert_eq!(codes, ["o", "m", "x"]);
        assert_eq!(lines[2][2], why);
    }

    #[test]
    fn a_disk_that_is_full_stops_the_recording_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let mut recording = begin(place.path());
        recording.file.fill_disk();
        recording.output(b"a");
        recording.output(b"b");
        assert!(recording.finish(0).unwrap().starts_with("the recording could not be written: "));
    }
}
