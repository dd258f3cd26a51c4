//! Patterns of paths: `*` within a segment, `**` across segments, everything else as it stands.
//!
//! Matching takes at most as many steps as the pattern is long times the path is long, whatever either holds.

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// What stands in a path as it is, beside letters and digits (RFC 3986, section 3.3).
const PLAIN: &str = "-._~/!$&'()*+,;=:@";

/// A compiled pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PathGlob {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Token {
    /// This byte.
    Byte(u8),
    /// Any run of bytes without a slash: `*`.
    Within,
    /// Any run of bytes: `**`.
    Across,
    /// No byte, or any run of bytes that ends in a slash: the `**/` of `/**/`.
    Segments,
}

/// Why a text is not a pattern: how many characters into it, what is wrong, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GlobError {
    pub(super) offset: usize,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

impl PathGlob {
    /// Compiles a pattern. It is brought to the form in which paths are compared: percent-encoding in capitals, and
    /// only of what needs it (RFC 3986, section 6.2.2).
    pub(super) fn parse(written: &str) -> Result<Self, GlobError> {
        let wrong = |offset, message: &str, hint| Err(GlobError { offset, message: message.to_owned(), hint });
        if !written.starts_with('/') {
            return wrong(0, "a path begins with `/`", "write it like `/v1/**`");
        }
        if let Some(offset) = written.find("***") {
            return wrong(written[..offset].chars().count(), "`***` means nothing", "write `*` or `**`");
        }
        let text = canonical(written)?;
        if text.len() > PATTERN_BYTES_MAX {
            return wrong(0, "the path is longer than 1024 bytes", "shorten it with `**`");
        }
        let dotted = text.split('/').any(|segment| matches!(segment, "." | ".."));
        if dotted {
            let hint = "requests are judged by their normalised path: leave `.` and `..` out";
            return wrong(0, "no request's path looks like this", hint);
        }
        Ok(Self { tokens: tokens(text.as_bytes()), text })
    }

    /// The pattern in its canonical form.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole path matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        let end = self.tokens.len();
        let mut now = vec![false; end + 1];
        self.enter(&mut now, 0);
        for byte in path.bytes() {
            let mut next = vec![false; end + 1];
            for at in (0..end).filter(|at| now[*at]) {
                self.step(&mut next, at, byte);
            }
            now = next;
        }
        now[end]
    }

    /// Marks a place in the pattern as reached, and with it every place reachable from there without a byte.
    fn enter(&self, places: &mut [bool], at: usize) {
        let mut at = at;
        places[at] = true;
        while matches!(self.tokens.get(at), Some(Token::Within | Token::Across | Token::Segments)) {
            at += 1;
            places[at] = true;
        }
    }

    /// Marks the places that one byte leads to. A run of segments is left only past its slash, so staying in one
    /// does not reach the place behind it.
    fn step(&self, next: &mut [bool], at: usize, byte: u8) {
        match self.tokens[at] {
            Token::Byte(expected) if expected == byte => self.enter(next, at + 1),
            Token::Byte(_) => {}
            Token::Within if byte != b'/' => self.enter(next, at),
            Token::Within => {}
            Token::Across => self.enter(next, at),
            Token::Segments => {
                next[at] = true;
                if byte == b'/' {
                    self.enter(next, at + 1);
                }
            }
        }
    }
}

/// Splits a canonical pattern into tokens.
fn tokens(text: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let after_slash = matches!(tokens.last(), Some(Token::Byte(b'/') | Token::Segments));
        rest = match rest {
            [] => return tokens,
            [b'*', b'*', b'/', rest @ ..] if after_slash => push(&mut tokens, Token::Segments, rest),
            [b'*', b'*', rest @ ..] => push(&mut tokens, Token::Across, rest),
            [b'*', rest @ ..] => push(&mut tokens, Token::Within, rest),
            [byte, rest @ ..] => push(&mut tokens, Token::Byte(*byte), rest),
        };
    }
}

fn push<'a>(tokens: &mut Vec<Token>, token: Token, rest: &'a [u8]) -> &'a [u8] {
    tokens.push(token);
    rest
}

/// The one spelling of a path pattern.
fn canonical(written: &str) -> Result<String, GlobError> {
    let mut text = String::with_capacity(written.len());
    let mut characters = written.chars().enumerate();
    while let Some((offset, character)) = characters.next() {
        match character {
            '%' => {
                let digits: String = characters.by_ref().take(2).map(|(_, digit)| digit).collect();
                text.push_str(&decoded(&digits).ok_or_else(|| GlobError {
                    offset,
                    message: format!("`%{digits}` stands in no path that is let through"),
                    hint: "write `%` with two hexadecimal digits, but not those of `/`, `\\` or a control character",
                })?);
            }
            '?' | '#' => {
                let message = format!("a rule cannot look past `{character}`");
                return Err(GlobError {
                    offset,
                    message,
                    hint: "leave the query out: a path is judged with any query",
                });
            }
            c if c.is_ascii_alphanumeric() || PLAIN.contains(c) => text.push(c),
            c if c == '\\' || c.is_ascii_control() => {
                let message = format!("a path cannot hold {c:?}");
                return Err(GlobError { offset, message, hint: "no request with one is let through" });
            }
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push_str(&format!("%{byte:02X}"))),
        }
    }
    Ok(text)
}

/// The canonical spelling of one percent-encoded byte, given its two digits; none for what servers read in different
/// ways.
fn decoded(digits: &str) -> Option<String> {
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = u8::from_str_radix(digits, 16).ok()?;
    if matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f) {
        return None;
    }
    let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    Some(if unreserved { char::from(byte).to_string() } else { format!("%{byte:02X}") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> PathGlob {
        PathGlob::parse(text).expect("a pattern")
    }

    /// The meaning of a pattern, written for being obviously right rather than fast.
    fn naive(pattern: &[u8], path: &[u8], after_slash: bool) -> bool {
        match (pattern, path) {
            ([], _) => path.is_empty(),
            ([b'*', b'*', b'/', rest @ ..], _) if after_slash => {
                naive(rest, path, true)
                    || (0..path.len()).any(|at| path[at] == b'/' && naive(rest, &path[at + 1..], true))
            }
            ([b'*', b'*', rest @ ..], _) => (0..=path.len()).any(|at| naive(rest, &path[at..], false)),
            ([b'*', rest @ ..], _) => {
                let run = path.iter().take_while(|byte| **byte != b'/').count();
                (0..=run).any(|at| naive(rest, &path[at..], false))
            }
            ([byte, rest @ ..], [first, path @ ..]) => byte == first && naive(rest, path, *byte == b'/'),
            (_, []) => false,
        }
    }

    #[test]
    fn one_star_stays_within_a_segment_and_two_go_across() {
        assert!(glob("/**").matches("/"));
        assert!(glob("/**").matches("/a/b/c"));
        assert!(glob("/v1/**").matches("/v1/a/b"));
        assert!(!glob("/v1/**").matches("/v1"));
        assert!(!glob("/v1/**").matches("/v10"));
        assert!(glob("/v1/*").matches("/v1/a"));
        assert!(!glob("/v1/*").matches("/v1/a/b"));
        assert!(glob("/repos/**/delete").matches("/repos/delete"));
        assert!(glob("/repos/**/delete").matches("/repos/a/b/delete"));
        assert!(!glob("/repos/**/delete").matches("/repos/undelete"));
        assert!(glob("/**/**/a").matches("/a"));
        assert!(glob("/a*c").matches("/abbc"));
        assert!(glob("/").matches("/"));
        assert!(!glob("/").matches("/a"));
    }

    #[test]
    fn one_path_has_one_spelling() {
        assert_eq!(glob("/%7euser/%3f/ä/{}").as_str(), "/~user/%3F/%C3%A4/%7B%7D");
    }

    #[test]
    fn refuses_what_no_normalised_path_looks_like() {
        for text in [
            "",
            "v1",
            "/a/../b",
            "/a/%2e%2e/b",
            "/./a",
            "/a\\b",
            "/%2f",
            "/%00",
            "/a?b=c",
            "/a#b",
            "/%2",
            "/%zz",
            "/***",
        ] {
            assert!(PathGlob::parse(text).is_err(), "{text}");
        }
        assert!(PathGlob::parse(&format!("/{}", "a".repeat(PATTERN_BYTES_MAX))).is_err());
        assert!(PathGlob::parse(&format!("/{}", "a".repeat(PATTERN_BYTES_MAX - 1))).is_ok());
    }

    #[test]
    fn a_hostile_pattern_takes_bounded_time() {
        let pattern = glob(&format!("/{}b", "*a**a".repeat(170)));
        assert!(!pattern.matches(&format!("/{}", "a".repeat(8192))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_the_naive_matcher(pattern in "/([ab/]|\\*){0,9}", path in "/[ab/]{0,10}") {
            if let Ok(glob) = PathGlob::parse(&pattern) {
                prop_assert_eq!(glob.matches(&path), naive(pattern.as_bytes(), path.as_bytes(), false));
            }
        }
    }
}
