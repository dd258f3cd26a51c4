//! A JSON scanner that keeps only the values it was told to look for.
//!
//! It takes bytes in pieces of any size and remembers no more than the open brackets, one key and one wanted value, so
//! a body of any length costs the same memory. What it does not look for it checks only as far as finding its end.

use memchr::memchr2;

/// Longest wanted value that is kept, in bytes: a `usage` object has a few hundred.
pub(super) const CAPTURE_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting that is followed. The vendors' own parsers stop earlier.
pub(super) const DEPTH_MAX: usize = 512;
/// Longest key, as written, that is compared; a longer one is none of those that are looked for.
const KEY_BYTES_MAX: usize = 128;
/// How many levels of keys are remembered: the longest wanted path.
const PATH_LEVELS_MAX: usize = 8;
/// The path element that stands for any element of an array.
pub(super) const EACH: &str = "*";

/// Where a wanted value stands, from the root.
pub(super) type Path = &'static [&'static str];

/// How far a document has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing but white space yet.
    Empty,
    /// In the middle.
    Open,
    /// A whole value, and nothing after it.
    Complete,
    /// Not JSON, or beyond a limit.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    AfterValue,
    Text { key: bool, escaped: bool },
    Atom,
    Done,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bracket {
    Object,
    Array,
}

/// The scanner of one document.
#[derive(Debug)]
pub(super) struct Scanner<S: 'static> {
    wanted: &'static [(Path, S)],
    /// Of which value the end is told.
    ends: Option<(Path, S)>,
    state: State,
    open: Vec<Bracket>,
    names: [Vec<u8>; PATH_LEVELS_MAX],
    key: Vec<u8>,
    capture: Option<(S, usize)>,
    kept: Vec<u8>,
}

impl<S: Copy> Scanner<S> {
    /// A scanner that looks for the values at these paths; no path may lie within another.
    pub(super) fn new(wanted: &'static [(Path, S)]) -> Self {
        debug_assert!(wanted.iter().all(|(path, _)| path.len() <= PATH_LEVELS_MAX));
        let (open, key, kept) = (Vec::new(), Vec::new(), Vec::new());
        Self { wanted, ends: None, state: State::Value, open, names: Default::default(), key, capture: None, kept }
    }

    /// The same, which also tells when an object or array ends that stands there, after what is wanted within it.
    pub(super) fn telling_ends_of(self, path: Path, slot: S) -> Self {
        Self { ends: Some((path, slot)), ..self }
    }

    /// Begins a new document.
    pub(super) fn reset(&mut self) {
        self.state = State::Value;
        self.open.clear();
        self.capture = None;
        self.kept.clear();
    }

    /// How far the document has come.
    pub(super) fn progress(&self) -> Progress {
        match self.state {
            State::Value if self.open.is_empty() => Progress::Empty,
            // A number at the root has no other end than the document's.
            State::Atom if self.open.is_empty() => Progress::Complete,
            State::Done => Progress::Complete,
            State::Broken => Progress::Broken,
            _ => Progress::Open,
        }
    }

    /// Takes the next bytes, and hands over each wanted value as it ends, as written.
    pub(super) fn feed(&mut self, mut bytes: &[u8], found: &mut impl FnMut(S, &[u8])) {
        while let Some(&byte) = bytes.first() {
            let used = match self.state {
                State::Broken => return,
                State::Text { key, escaped } => self.text(bytes, key, escaped, found),
                State::Atom => self.atom(bytes, found),
                _ => {
                    self.structure(byte, found);
                    1
                }
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// Takes one byte outside of texts and atoms.
    fn structure(&mut self, byte: u8, found: &mut impl FnMut(S, &[u8])) {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return self.keep(&[byte]);
        }
        match (self.state, byte) {
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => self.close(byte, found),
            (State::AfterValue, b']' | b'}') => self.close(byte, found),
            (State::Value | State::ValueOrEnd, _) => self.begin_value(byte),
            (State::Key | State::KeyOrEnd, b'"') => {
                self.keep(&[byte]);
                self.key.clear();
                self.proceed(State::Text { key: true, escaped: false });
            }
            (State::Colon, b':') => {
                self.keep(&[byte]);
                self.proceed(State::Value);
            }
            (State::AfterValue, b',') => {
                self.keep(&[byte]);
                let object = self.open.last() == Some(&Bracket::Object);
                self.proceed(if object { State::Key } else { State::Value });
            }
            _ => self.state = State::Broken,
        }
    }

    fn begin_value(&mut self, byte: u8) {
        if self.capture.is_none() {
            self.capture = self.wanted_here().map(|slot| (slot, self.open.len()));
            self.kept.clear();
        }
        self.keep(&[byte]);
        match byte {
            b'{' => self.push(Bracket::Object, State::KeyOrEnd),
            b'[' => {
                self.push(Bracket::Array, State::ValueOrEnd);
                self.name_level(EACH.as_bytes().to_vec());
            }
            b'"' => self.proceed(State::Text { key: false, escaped: false }),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.proceed(State::Atom),
            _ => self.state = State::Broken,
        }
    }

    fn push(&mut self, bracket: Bracket, next: State) {
        if self.open.len() == DEPTH_MAX {
            self.state = State::Broken;
            return;
        }
        self.open.push(bracket);
        self.name_level(Vec::new());
        self.proceed(next);
    }

    fn close(&mut self, byte: u8, found: &mut impl FnMut(S, &[u8])) {
        let matching = if byte == b'}' { Bracket::Object } else { Bracket::Array };
        if self.open.pop() != Some(matching) {
            self.state = State::Broken;
            return;
        }
        self.keep(&[byte]);
        self.end_value(found);
        if let Some((_, slot)) = self.ends.filter(|(path, _)| self.is_at(path)) {
            found(slot, &[]);
        }
    }

    /// Takes bytes of a text up to its end or the piece's; returns how many.
    fn text(&mut self, bytes: &[u8], key: bool, escaped: bool, found: &mut impl FnMut(S, &[u8])) -> usize {
        let special = if escaped { Some(0) } else { memchr2(b'"', b'\\', bytes) };
        let plain = special.unwrap_or(bytes.len());
        let used = (plain + 1).min(bytes.len());
        let (taken, special) = (bytes.get(..used).unwrap_or_default(), bytes.get(plain));
        self.keep(taken);
        if key && self.key.len() <= KEY_BYTES_MAX {
            let room = KEY_BYTES_MAX + 2 - self.key.len();
            self.key.extend_from_slice(taken.get(..room).unwrap_or(taken));
        }
        match special {
            None => {}
            Some(_) if escaped => self.proceed(State::Text { key, escaped: false }),
            Some(b'\\') => self.proceed(State::Text { key, escaped: true }),
            Some(_) if key => {
                let name = self.key_name();
                self.name_level(name);
                self.proceed(State::Colon);
            }
            Some(_) => self.end_value(found),
        }
        used
    }

    /// The key just read; empty when it is too long to be one that is looked for.
    fn key_name(&mut self) -> Vec<u8> {
        let mut raw = std::mem::take(&mut self.key);
        if raw.len() > KEY_BYTES_MAX {
            return Vec::new();
        }
        if raw.contains(&b'\\') {
            raw.insert(0, b'"');
            return serde_json::from_slice::<String>(&raw).map(String::into_bytes).unwrap_or_default();
        }
        raw.pop();
        raw
    }

    /// Takes bytes of a number or literal up to its end or the piece's; returns how many.
    fn atom(&mut self, bytes: &[u8], found: &mut impl FnMut(S, &[u8])) -> usize {
        let within = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let used = bytes.iter().position(|byte| !within(byte)).unwrap_or(bytes.len());
        self.keep(bytes.get(..used).unwrap_or_default());
        if used < bytes.len() {
            self.end_value(found);
        }
        used
    }

    fn end_value(&mut self, found: &mut impl FnMut(S, &[u8])) {
        self.proceed(if self.open.is_empty() { State::Done } else { State::AfterValue });
        if let Some((slot, depth)) = self.capture
            && depth == self.open.len()
            && self.state != State::Broken
        {
            self.capture = None;
            found(slot, &self.kept);
        }
    }

    /// Which wanted value begins here, if any.
    fn wanted_here(&self) -> Option<S> {
        self.wanted.iter().find(|(path, _)| self.is_at(path)).map(|(_, slot)| *slot)
    }

    /// Whether what stands within the brackets that are open stands there.
    fn is_at(&self, path: Path) -> bool {
        path.len() == self.open.len()
            && path.iter().zip(&self.names).all(|(want, name)| want.as_bytes() == name.as_slice())
    }

    /// Notes the key, or the sign for an array's element, of the innermost open bracket.
    fn name_level(&mut self, name: Vec<u8>) {
        if let Some(slot) = self.open.len().checked_sub(1).and_then(|level| self.names.get_mut(level)) {
            *slot = name;
        }
    }

    /// Goes on, unless the document was just found broken.
    fn proceed(&mut self, next: State) {
        if self.state != State::Broken {
            self.state = next;
        }
    }

    /// Adds to the wanted value that is being read, if one is.
    fn keep(&mut self, bytes: &[u8]) {
        if self.capture.is_none() {
            return;
        }
        if self.kept.len() + bytes.len() > CAPTURE_BYTES_MAX {
            self.state = State::Broken;
            return;
        }
        self.kept.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &[(Path, u8)] = &[(&["model"], 0), (&["usage"], 1), (&["output", EACH, "type"], 2)];

    fn scan(pieces: &[&[u8]]) -> (Progress, Vec<(u8, String)>) {
        let mut scanner = Scanner::new(WANTED);
        let mut all = Vec::new();
        for piece in pieces {
            scanner.feed(piece, &mut |slot, raw| all.push((slot, String::from_utf8_lossy(raw).into_owned())));
        }
        (scanner.progress(), all)
    }

    fn found(text: &str) -> Vec<(u8, String)> {
        scan(&[text.as_bytes()]).1
    }

    #[test]
    fn finds_values_where_they_stand_and_nowhere_else() {
        let text =
            r#" {"a":{"model":"no"},"model" : "m\"1","x":[{"model":1}],"usage":{"n":[1, {}],"usage":2},"u":-1e3}"#;
        let expected = vec![(0, r#""m\"1""#.to_owned()), (1, r#"{"n":[1, {}],"usage":2}"#.to_owned())];
        assert_eq!(scan(&[text.as_bytes()]), (Progress::Complete, expected));
    }

    #[test]
    fn finds_each_element_of_an_array() {
        let all = found(r#"{"output":[{"type":"a","x":{"type":"no"}},{"y":[],"type":"b"}],"type":"no"}"#);
        assert_eq!(all, vec![(2, r#""a""#.to_owned()), (2, r#""b""#.to_owned())]);
    }

    #[test]
    fn an_escaped_key_is_the_key_it_means() {
        assert_eq!(found(r#"{"\u006dodel":1}"#), vec![(0, "1".to_owned())]);
        assert_eq!(found(r#"{"model\\":1}"#), vec![]);
    }

    #[test]
    fn any_split_gives_the_same() {
        let text = r#"{"k":"a\\\"b","\u006dodel":"é😀","usage":{"a":[true,null,-1.5e9]},"output":[{"type":"t"}]} "#;
        let whole = scan(&[text.as_bytes()]);
        for at in 0..text.len() {
            let (first, rest) = text.as_bytes().split_at(at);
            assert_eq!(scan(&[first, rest]), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(scan(&single), whole);
    }

    #[test]
    fn what_is_not_json_is_broken() {
        for text in ["{]", "[}", "{\"a\" 1}", "{,}", "[1 2]", "{} x", "\u{1f}\u{8b}", "{\"a\":}", "]"] {
            assert_eq!(scan(&[text.as_bytes()]).0, Progress::Broken, "{text:?}");
        }
        for text in ["{", "{\"a\":1", "[\"", "[1,"] {
            assert_eq!(scan(&[text.as_bytes()]).0, Progress::Open, "{text:?}");
        }
    }

    #[test]
    fn limits_break_the_document_and_nothing_else() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(scan(&[deep(DEPTH_MAX).as_bytes()]).0, Progress::Complete);
        assert_eq!(scan(&[deep(DEPTH_MAX + 1).as_bytes()]).0, Progress::Broken);
        let long = |bytes: usize| format!("{{\"usage\":\"{}\"}}", "x".repeat(bytes - 2));
        assert_eq!(scan(&[long(CAPTURE_BYTES_MAX).as_bytes()]).0, Progress::Complete);
        assert_eq!(scan(&[long(CAPTURE_BYTES_MAX + 1).as_bytes()]), (Progress::Broken, vec![]));
        let unwanted = format!("{{\"{0}\":\"{0}\",\"model\":1}}", "x".repeat(CAPTURE_BYTES_MAX * 2));
        assert_eq!(found(&unwanted), vec![(0, "1".to_owned())]);
    }
}
