//! Patterns of files: which paths below a directory are meant, whatever case and invisible characters they are written
//! in.
//!
//! `*` stands for any run of characters of one name, `**` for any number of directories. A pattern without a slash is
//! about a name at any depth, one with a slash begins at the directory that it is written for.
//!
//! Matching takes at most as many steps as the pattern is long times the path is long.

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Most names in a pattern, so that a set of places in it fits a word.
const SEGMENTS_MAX: usize = 32;

/// A name as file systems that fold case compare it: case gone, and with it the characters that nobody sees (Unicode's
/// default-ignorable ones, which ext4's and f2fs's folding drops).
#[must_use]
pub fn fold(name: &[u8]) -> String {
    if name.iter().all(u8::is_ascii) {
        return name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    }
    let text = String::from_utf8_lossy(name);
    // Through capitals, since some letters have no small form of their own: the long s is one.
    text.chars().filter(|c| !is_invisible(*c)).flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Default_Ignorable_Code_Point (DerivedCoreProperties.txt, Unicode 15).
fn is_invisible(character: char) -> bool {
    matches!(u32::from(character),
        0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
        | 0x202a..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfff8
        | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePattern {
    text: String,
    segments: Vec<Segment>,
    directories: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// Any number of directories.
    Across,
    /// A name, folded, in which `*` stands for any run of characters.
    Name(String),
}

/// How a path stands to a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Neither it nor anything below it is meant, as far as its name tells.
    Apart,
    /// What is meant may lie below it: it has the first names of the pattern and not yet all.
    Above,
    /// It is meant, or lies below what is: so many names into the path.
    Within(usize),
}

impl FilePattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What to do instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let anywhere = !text.trim_end_matches('/').contains('/');
        Self::compile(text, anywhere)
    }

    /// Compiles a pattern that begins where it is written for, a single name too.
    ///
    /// # Errors
    /// What to do instead.
    pub(super) fn parse_anchored(text: &str) -> Result<Self, &'static str> {
        Self::compile(text, false)
    }

    fn compile(text: &str, anywhere: bool) -> Result<Self, &'static str> {
        let trimmed = text.trim_end_matches('/');
        if trimmed.is_empty() {
            return Err("it names nothing: write a name");
        }
        if trimmed.starts_with(['/', '~']) {
            return Err("it is relative to the workspace: begin it with a name");
        }
        if trimmed.len() > PATTERN_BYTES_MAX || trimmed.matches('/').count() + 2 > SEGMENTS_MAX {
            return Err("it is too long: shorten it with `**`");
        }
        if trimmed.contains('\0') || trimmed.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("leave `.`, `..` and empty names out");
        }
        if trimmed.split('/').any(|part| part != "**" && part.contains("**")) {
            return Err("`**` stands alone between slashes");
        }
        let names = trimmed.split('/').map(|part| match part {
            "**" => Segment::Across,
            name => Segment::Name(fold(name.as_bytes())),
        });
        let mut segments: Vec<_> = anywhere.then_some(Segment::Across).into_iter().chain(names).collect();
        segments.dedup_by(|a, b| *a == Segment::Across && *b == Segment::Across);
        if segments.iter().all(|segment| *segment == Segment::Across) {
            segments.push(Segment::Name("*".to_owned()));
        }
        Ok(Self { text: text.to_owned(), segments, directories: text.ends_with('/') })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it was written with a slash at its end, and so is about directories alone.
    #[must_use]
    pub fn is_of_directories(&self) -> bool {
        self.directories
    }

    /// The name that a path must have in it to be meant, where that can be said: what an index of patterns goes by.
    pub(super) fn first_name(&self) -> Option<&str> {
        let first = self.segments.iter().find_map(|segment| match segment {
            Segment::Name(name) => Some(name.as_str()),
            Segment::Across => None,
        });
        first.filter(|name| !name.contains('*'))
    }

    /// How a path stands to it; its names are folded and start where the pattern does.
    #[must_use]
    pub fn standing(&self, path: &[String]) -> Standing {
        let mut places = self.entered(1);
        for (index, name) in path.iter().enumerate() {
            places = self.after(places, name);
            if places & (1 << self.segments.len()) != 0 {
                return Standing::Within(index + 1);
            }
        }
        if places & !self.before_first_name() == 0 { Standing::Apart } else { Standing::Above }
    }

    /// Whether exactly this path is meant.
    #[must_use]
    pub fn matches(&self, path: &[String]) -> bool {
        // Nearly every path ends otherwise, and many paths are asked about.
        if let (Some(Segment::Name(wanted)), Some(name)) = (self.segments.last(), path.last())
            && !name_matches(wanted.as_bytes(), name.as_bytes())
        {
            return false;
        }
        let places = path.iter().fold(self.entered(1), |places, name| self.after(places, name));
        places & (1 << self.segments.len()) != 0
    }

    /// The places that need no name to be reached: being in one says nothing about a path yet.
    fn before_first_name(&self) -> u64 {
        self.entered(1)
    }

    /// Adds what is reached without a name.
    fn entered(&self, mut places: u64) -> u64 {
        for (at, segment) in self.segments.iter().enumerate() {
            if *segment == Segment::Across && places & (1 << at) != 0 {
                places |= 1 << (at + 1);
            }
        }
        places
    }

    /// The places that one name leads to.
    fn after(&self, places: u64, name: &str) -> u64 {
        let mut next = 0;
        for (at, segment) in self.segments.iter().enumerate().filter(|(at, _)| places & (1 << at) != 0) {
            match segment {
                Segment::Across => next |= 1 << at,
                Segment::Name(wanted) if name_matches(wanted.as_bytes(), name.as_bytes()) => next |= 1 << (at + 1),
                Segment::Name(_) => {}
            }
        }
        self.entered(next)
    }
}

/// Whether a name is meant by one that may hold stars. Goes back to the last star alone, which is enough.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if *byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((place, from)) => {
                    star = Some((place, from + 1));
                    (at, seen) = (place + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('/').map(|name| fold(name.as_bytes())).collect()
    }

    #[test]
    fn patterns_mean_what_they_say() {
        for (pattern, meant, others) in [
            (".env", &[".env", "a/b/.env", ".ENV"][..], &[".env.local", "env", ".env/x"][..]),
            (".env.*", &[".env.local", "a/.env.x.y"], &[".env", ".envrc"]),
            ("*.pem", &["a.pem", "x/y/.pem"], &["pem", "a.pem.txt"]),
            ("deploy/key", &["deploy/key"], &["x/deploy/key", "deploy", "deploy/key/x"]),
            ("**/.aws/credentials", &[".aws/credentials", "x/y/.aws/credentials"], &[".aws", "aws/credentials"]),
            ("tests/**/*.pem", &["tests/a.pem", "tests/x/y/a.pem"], &["a.pem", "tests/x/a.key"]),
            ("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]),
            ("**", &["a", "a/b"], &[]),
        ] {
            let compiled = FilePattern::parse(pattern).unwrap();
            assert!(meant.iter().all(|text| compiled.matches(&path(text))), "{pattern}");
            assert!(!others.iter().any(|text| compiled.matches(&path(text))), "{pattern}");
        }
    }

    #[test]
    fn a_path_stands_apart_above_or_within() {
        for (pattern, text, standing) in [
            ("**/.claude/hooks", "a/.claude/hooks/x/y", Standing::Within(3)),
            ("**/.claude/hooks", "a/.claude", Standing::Above),
            ("**/.claude/hooks", "a/.claude/plans", Standing::Apart),
            ("**/.claude/hooks", "a", Standing::Apart),
            (".vscode", ".vscode", Standing::Within(1)),
            ("a/**/b", "a/x", Standing::Above),
            ("a/b", "b", Standing::Apart),
        ] {
            assert_eq!(FilePattern::parse(pattern).unwrap().standing(&path(text)), standing, "{pattern} {text}");
        }
    }

    #[test]
    fn other_spellings_are_the_same_name() {
        for spelling in [".GIT", ".g\u{200c}it", "\u{feff}.git", ".gIt", ".\u{ad}git"] {
            assert_eq!(fold(spelling.as_bytes()), ".git", "{spelling:?}");
        }
        assert_eq!(fold(".hus\u{212a}y".as_bytes()), ".husky");
        assert_eq!(fold(".hu\u{17f}ky".as_bytes()), ".husky");
        assert_ne!(fold(b".git\xff"), ".git");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["", "/", "/etc", "~/x", "../x", "a//b", "a/./b", "a**b", "x\0"] {
            assert!(FilePattern::parse(text).is_err(), "{text:?}");
        }
        assert!(FilePattern::parse(&"a/".repeat(40)).is_err());
        assert!(FilePattern::parse(&"a".repeat(2000)).is_err());
    }
}
