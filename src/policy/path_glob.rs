//! Patterns of paths: `*` within a segment, `**` across segments, everything else as it stands.
//!
//! Matching takes at most as many steps as the pattern is long times the path is long, whatever either holds.

use crate::model::hex_byte;

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// What stands in a path as it is, beside letters and digits (RFC 3986, section 3.3).
const PLAIN: &str = "-._~/!$&'()*+,;=:@";

/// A compiled pattern of paths, or of other texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PathGlob {
    text: String,
    tokens: Vec<Token>,
    /// How many tokens at the beginning stand for themselves.
    literal: usize,
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
        check_length(&text)?;
        let dotted = text.split('/').any(|segment| matches!(segment, "." | ".."));
        if dotted {
            let hint = "requests are judged by their normalised path: leave `.` and `..` out";
            return wrong(0, "no request's path looks like this", hint);
        }
        Ok(Self::of_tokens(tokens(text.as_bytes()), text))
    }

    /// A pattern of names with segments, such as those of references: `*` within a segment, `**` across.
    pub(super) fn of_name(text: &str) -> Result<Self, GlobError> {
        check_length(text)?;
        Ok(Self::of_tokens(tokens(text.as_bytes()), text.to_owned()))
    }

    /// A pattern of values without segments: `*` is any run of bytes, `%` with two digits the byte they stand for.
    pub(super) fn of_value(text: &str) -> Result<Self, GlobError> {
        check_length(text)?;
        let mut tokens = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            tokens.push(match byte {
                b'*' => Token::Across,
                b'%' => {
                    let mut digit = || char::from(bytes.next()?).to_digit(16);
                    let byte = digit().and_then(|high| u8::try_from(high * 16 + digit()?).ok());
                    let message = "`%` begins no encoded byte".to_owned();
                    let hint = "write `%25` for a percent sign, `%20` for a space and `%2A` for a star";
                    Token::Byte(byte.ok_or(GlobError { offset: 0, message, hint })?)
                }
                byte => Token::Byte(byte),
            });
        }
        Ok(Self::of_tokens(tokens, text.to_owned()))
    }

    fn of_tokens(tokens: Vec<Token>, text: String) -> Self {
        let literal = tokens.iter().take_while(|token| matches!(token, Token::Byte(_))).count();
        Self { text, tokens, literal }
    }

    /// The whole segments that every path begins with that matches, without the slash before the first.
    pub(super) fn literal_segments(&self) -> impl Iterator<Item = &str> {
        // All tokens before the first star are bytes of the text as it stands.
        let text = self.text.get(..self.literal).unwrap_or_default();
        let end = if self.literal == self.tokens.len() { text.len() } else { text.rfind('/').unwrap_or(0) };
        let segments = text.get(1..end).filter(|_| end > 0);
        segments.into_iter().flat_map(|segments| segments.split('/'))
    }

    /// The pattern in its canonical form.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole path matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.matches_bytes(path.as_bytes())
    }

    /// Whether the whole value matches.
    pub(super) fn matches_bytes(&self, path: &[u8]) -> bool {
        let Some((first, rest)) = path.split_at_checked(self.literal) else { return false };
        let (literal, tokens) = self.tokens.split_at(self.literal);
        let same = |(token, byte): (&Token, &u8)| *token == Token::Byte(*byte);
        if !literal.iter().zip(first).all(same) {
            return false;
        }
        match tokens {
            [] => rest.is_empty(),
            [Token::Across] => true,
            _ => self.matches_from(self.literal, rest),
        }
    }

    fn matches_from(&self, start: usize, path: &[u8]) -> bool {
        let end = self.tokens.len();
        let mut now = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        self.enter(&mut now, start);
        for byte in path {
            next.fill(false);
            for at in (start..end).filter(|at| now[*at]) {
                self.step(&mut next, at, *byte);
            }
            std::mem::swap(&mut now, &mut next);
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

fn check_length(text: &str) -> Result<(), GlobError> {
    let message = format!("it is longer than {PATTERN_BYTES_MAX} bytes");
    let long = text.len() > PATTERN_BYTES_MAX;
    if long { Err(GlobError { offset: 0, message, hint: "shorten it with `**`" }) } else { Ok(()) }
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
    let byte = hex_byte(digits.as_bytes())?;
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
