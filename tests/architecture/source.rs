//! Our own source as text: which files there are, what in them is code and not a comment, a string or a test, and which
//! paths that code names. No parser: what rustfmt leaves is regular enough for a scanner.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file below `src`.
pub struct Source {
    /// Its path from the package's root, such as `src/model/id.rs`.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Its code: every character of a comment, of a string's inside or of a test is a blank, so that lines keep their
    /// numbers. Empty for a file of tests.
    pub code: String,
    /// How many of its lines are not part of a test.
    pub lines: usize,
}

/// A path that code names, with the line it is on: `crate::model::Host` as its three words.
pub struct Named {
    pub line: usize,
    pub words: Vec<String>,
}

impl Source {
    /// The top module it belongs to: `model` for `src/model/id.rs`, nothing for the crate's own files.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        match inside.split_once('/') {
            Some(("bin", _)) | None => None,
            Some((room, _)) => Some(room),
        }
    }

    /// How many modules lead to it from the crate's root.
    pub fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').filter(|part| *part != "mod").count()
    }

    /// The paths in its code; a tree of imports counts as each of its branches.
    pub fn paths(&self) -> Vec<Named> {
        let tokens = tokens(&self.code);
        let mut named = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let starts = tokens[at].is_word() && (at == 0 || tokens[at - 1].text != "::");
            at = if starts { branch(&tokens, at, &[], &mut named) } else { at + 1 };
        }
        named
    }

    /// The words of its code, with their lines.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        tokens(&self.code).into_iter().filter(Token::is_word).map(|token| (token.line, token.text))
    }

    /// Its functions: name, first line, and how many lines until the body's end.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        for (at, pair) in tokens.windows(2).enumerate() {
            if pair[0].text != "fn" || !pair[1].is_word() {
                continue;
            }
            // A `;` inside of an array's type is within brackets; at their outside it ends a function without a body.
            let mut nesting = 0i32;
            let body = tokens[at..].iter().position(|token| {
                nesting += i32::from("([".contains(token.text)) - i32::from(")]".contains(token.text));
                nesting == 0 && (token.text == "{" || token.text == ";")
            });
            let Some(body) = body.map(|offset| at + offset).filter(|body| tokens[*body].text == "{") else { continue };
            let end = closing(&tokens, body);
            found.push((pair[1].text.to_owned(), pair[0].line, tokens[end].line - pair[0].line + 1));
        }
        found
    }
}

/// Every file below `src`, with files and modules of tests blanked.
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    let mut sources = Vec::new();
    for path in files(&root.join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        let mut code = strip(&text);
        let (modules, test_lines) = blank_tests(&mut code);
        tests.extend(modules.iter().flat_map(|module| places(&path, module)));
        let lines = text.lines().count().saturating_sub(test_lines);
        let name = path.strip_prefix(root).unwrap().display().to_string();
        sources.push((path, Source { path: name, text, code, lines }));
    }
    for (_, source) in sources.iter_mut().filter(|(path, _)| tests.contains(path)) {
        (source.code, source.lines) = (String::new(), 0);
    }
    sources.into_iter().map(|(_, source)| source).collect()
}

/// Where a module that is declared in `parent` may lie.
fn places(parent: &Path, module: &str) -> [PathBuf; 2] {
    let stem = parent.file_stem().unwrap().to_string_lossy();
    let folder = parent.parent().unwrap();
    let folder = if ["mod", "lib", "main"].contains(&&*stem) { folder.to_owned() } else { folder.join(&*stem) };
    [folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs")]
}

/// Every file below a directory with this extension, or with any for an empty one; none where there is no directory.
pub fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if extension.is_empty() || path.extension().is_some_and(|have| have == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Words, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            let (text, after) = rest.split_at(length);
            if !text.trim().is_empty() {
                tokens.push(Token { line: number, text });
            }
            rest = after;
        }
    }
    tokens
}

/// Reads the path that starts at a word; the answer is where it ends.
fn branch(tokens: &[Token<'_>], start: usize, before: &[String], named: &mut Vec<Named>) -> usize {
    let mut words = before.to_vec();
    let mut at = start;
    loop {
        words.push(tokens[at].text.to_owned());
        let follows = |offset: usize, wanted: &str| tokens.get(at + offset).is_some_and(|token| token.text == wanted);
        if follows(1, "::") && follows(2, "{") {
            at += 3;
            while tokens[at].text != "}" {
                at = if tokens[at].is_word() { branch(tokens, at, &words, named) } else { at + 1 };
            }
            return at + 1;
        }
        if !(follows(1, "::") && tokens.get(at + 2).is_some_and(Token::is_word)) {
            named.push(Named { line: tokens[start].line, words });
            return at + 1;
        }
        at += 2;
    }
}

/// Where the bracket at `open` is closed.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" => depth += 1,
            "}" if depth == 1 => return at,
            "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len() - 1
}

/// Blanks comments and the insides of strings and characters.
pub fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment, string or character that starts here ends, if one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let starts = |what: &str| what.chars().enumerate().all(|(offset, c)| chars.get(at + offset) == Some(&c));
    if starts("//") {
        return Some(chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length));
    }
    if starts("/*") {
        return Some(comment_end(chars, at));
    }
    if starts("\"") {
        return Some(quote_end(chars, at + 1, '"'));
    }
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let hashes = chars[at..].iter().skip(1).take_while(|c| **c == '#').count();
    if starts("r") && chars.get(at + 1 + hashes) == Some(&'"') && (!in_word || "bc".contains(chars[at - 1])) {
        let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        let inside = at + 2 + hashes;
        let ends = |from: &usize| close.chars().enumerate().all(|(offset, c)| chars.get(from + offset) == Some(&c));
        return Some((inside..chars.len()).find(ends).map_or(chars.len(), |end| end + close.len()));
    }
    // A lifetime has no second quote two characters on, and no backslash.
    let character = starts("'") && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\''));
    character.then(|| quote_end(chars, at + 1, '\''))
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut end) = (0usize, at);
    while end + 1 < chars.len() {
        match (chars[end], chars[end + 1]) {
            ('/', '*') => (depth, end) = (depth + 1, end + 2),
            ('*', '/') if depth == 1 => return end + 2,
            ('*', '/') => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
    }
    chars.len()
}

fn quote_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Blanks whatever stands under `#[cfg(test)]`; names the modules that do so with a file of their own, and counts the
/// lines.
fn blank_tests(code: &mut String) -> (Vec<String>, usize) {
    const MARK: &str = "#[cfg(test)]";
    let (mut modules, mut lines) = (Vec::new(), 0);
    while let Some(start) = code.find(MARK) {
        let item = &code[start + MARK.len()..];
        let (ends, braces) = (item.find(';').unwrap_or(item.len()), item.find('{').unwrap_or(item.len()));
        let length = if ends < braces {
            let words: Vec<&str> = item[..ends].split_whitespace().collect();
            modules.extend(words.windows(2).filter(|pair| pair[0] == "mod").map(|pair| pair[1].to_owned()));
            ends + 1
        } else {
            block_length(item, braces)
        };
        let range = start..start + MARK.len() + length;
        lines += code[range.clone()].lines().count();
        let blank: String = code[range.clone()].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(range, &blank);
    }
    (modules, lines)
}

/// How far the block reaches whose brace opens at `open`.
fn block_length(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, character) in code.char_indices().skip_while(|(at, _)| *at < open) {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}
