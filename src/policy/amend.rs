//! A profile's text with further rules, and the unified diff between the two. Everything else of the text, comments
//! included, stays as a person wrote it.

use super::document::{self, Key, Node, Value};
use super::learn::Proposed;
use super::profile::Profile;
use super::rule::Effect;

/// Lines around a change that a diff shows.
const CONTEXT_LINES: usize = 3;
/// What a diff says after a last line that ends without a line break.
const NO_LINE_BREAK: &str = "\\ No newline at end of file\n";

/// A text and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amended {
    /// The new text.
    pub text: String,
    /// From the old to the new, as `patch` takes it.
    pub diff: String,
}

/// One change of a text: some lines from a place on replaced by others.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    /// The first line that is replaced, or before which lines are added, from 0.
    at: usize,
    removed: usize,
    added: Vec<String>,
}

/// Adds rules that allow to a profile's text. None when the text is in a form in which they cannot be added line by line;
/// a person has to do it then.
#[must_use]
pub fn amend(label: &str, text: &str, rules: &[Proposed]) -> Option<Amended> {
    if rules.is_empty() || text.contains('\r') {
        return None;
    }
    let lines: Vec<&str> = text.lines().collect();
    let Value::Map(entries) = document::parse(text).ok()?.value else { return None };
    let edit = place(&entries, &lines, rules)?;
    let mut amended = Amended { text: applied(&lines, &edit), diff: diff(label, text, &lines, &edit) };
    if is_unended(text) && !touches_end(&lines, &edit) {
        amended.text.pop();
    }
    is_what_was_meant(text, &amended.text, rules).then_some(amended)
}

/// Whether the new text is the old profile with these rules besides, and nothing else.
fn is_what_was_meant(old: &str, new: &str, rules: &[Proposed]) -> bool {
    let (Ok(mut old), Ok(mut new)) = (Profile::parse("old", old), Profile::parse("new", new)) else { return false };
    let texts = |profile: &mut Profile| -> Vec<(Effect, String)> {
        std::mem::take(&mut profile.egress).into_iter().map(|rule| (rule.effect, rule.text)).collect()
    };
    let (mut expected, found) = (texts(&mut old), texts(&mut new));
    expected.extend(rules.iter().map(|proposed| (Effect::Allow, proposed.rule.clone())));
    expected.sort();
    let mut sorted = found;
    sorted.sort();
    expected == sorted && old == new
}

fn place(entries: &[(Key, Node)], lines: &[&str], rules: &[Proposed]) -> Option<Edit> {
    let Some((key, node)) = entries.iter().find(|(key, _)| key.text == "egress") else {
        let mut added = vec!["egress:".to_owned()];
        added.extend(items("  ", rules));
        return Some(Edit { at: lines.len(), removed: 0, added });
    };
    let key_line = key.line.checked_sub(1)?;
    match &node.value {
        Value::Null => Some(Edit { at: key_line + 1, removed: 0, added: items("  ", rules) }),
        Value::List(_) if lines.get(key_line)?.contains('[') => in_brackets(key_line, lines, rules),
        Value::List(nodes) => below(nodes, lines, rules),
        _ => None,
    }
}

/// Behind the last item of a list of `- …` lines.
fn below(nodes: &[Node], lines: &[&str], rules: &[Proposed]) -> Option<Edit> {
    let first = item_line(nodes.first()?, lines)?;
    let indent = indentation(lines.get(first)?);
    let mut last = item_line(nodes.last()?, lines)?;
    for (number, line) in lines.iter().enumerate().skip(last + 1) {
        if line.trim().is_empty() {
            continue;
        }
        if indentation(line).len() <= indent.len() {
            break;
        }
        last = number;
    }
    Some(Edit { at: last + 1, removed: 0, added: items(indent, rules) })
}

/// The line on which an item's dash stands: the item's own, or one above it.
fn item_line(node: &Node, lines: &[&str]) -> Option<usize> {
    (0..node.line).rev().find(|number| lines.get(*number).is_some_and(|line| line.trim_start().starts_with('-')))
}

fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches(' ').len()]
}

/// Within a list of one line, in brackets; one without items becomes a list of lines.
fn in_brackets(at: usize, lines: &[&str], rules: &[Proposed]) -> Option<Edit> {
    let line = lines.get(at)?;
    let (before, inside) = line.trim_end().strip_suffix(']')?.split_once('[')?;
    if inside.trim().is_empty() {
        let mut added = vec![before.trim_end().to_owned()];
        added.extend(items("  ", rules));
        return Some(Edit { at, removed: 1, added });
    }
    let further: Vec<String> = rules.iter().map(|proposed| format!("{{ allow: {:?} }}", proposed.rule)).collect();
    let inside = inside.trim_end().trim_end_matches(',');
    let mut added = comments("", rules);
    added.push(format!("{before}[{inside}, {}]", further.join(", ")));
    Some(Edit { at, removed: 1, added })
}

fn comments(indent: &str, rules: &[Proposed]) -> Vec<String> {
    rules.iter().flat_map(|proposed| warned(indent, proposed)).collect()
}

/// The warnings of a rule, as comments.
fn warned(indent: &str, proposed: &Proposed) -> Vec<String> {
    proposed.warnings.iter().map(|warning| format!("{indent}# Careful: {warning}.")).collect()
}

/// The lines of rules in a list, each below what is dangerous about it.
fn items(indent: &str, rules: &[Proposed]) -> Vec<String> {
    let item = |proposed: &Proposed| {
        let mut lines = warned(indent, proposed);
        lines.push(format!("{indent}- allow: {}", scalar(&proposed.rule)));
        lines
    };
    rules.iter().flat_map(item).collect()
}

/// A rule as a YAML text: as it is where that is surely one, else in quotes.
fn scalar(rule: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ,./_~%-*+@=:".contains(c);
    let starts = rule.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_plain = starts && rule.chars().all(plain) && !rule.contains(": ") && !rule.ends_with([':', ' ']);
    if is_plain { rule.to_owned() } else { format!("{rule:?}") }
}

fn applied(lines: &[&str], edit: &Edit) -> String {
    let (before, rest) = lines.split_at(edit.at.min(lines.len()));
    let after = rest.get(edit.removed..).unwrap_or_default();
    let all = before.iter().copied().chain(edit.added.iter().map(String::as_str)).chain(after.iter().copied());
    all.flat_map(|line| [line, "\n"]).collect()
}

/// Whether a text's last line has no line break.
fn is_unended(text: &str) -> bool {
    !text.ends_with('\n') && !text.is_empty()
}

/// Whether the last line is within what a diff of this change shows.
fn touches_end(lines: &[&str], edit: &Edit) -> bool {
    edit.at + edit.removed + CONTEXT_LINES >= lines.len()
}

/// The unified diff of one change (POSIX, `diff -u`).
fn diff(label: &str, text: &str, lines: &[&str], edit: &Edit) -> String {
    let unended = is_unended(text) && touches_end(lines, edit);
    let start = edit.at.saturating_sub(CONTEXT_LINES);
    let mut end = (edit.at + edit.removed + CONTEXT_LINES).min(lines.len());
    let mut body = String::new();
    let mut push = |sign: char, line: &str| {
        body.push(sign);
        body.push_str(line);
        body.push('\n');
    };
    let old = lines.get(start..end).unwrap_or_default();
    for (number, line) in (start..).zip(old) {
        if number == edit.at {
            edit.added.iter().for_each(|line| push('+', line));
        }
        let is_last = unended && number + 1 == lines.len();
        match (number >= edit.at && number < edit.at + edit.removed, is_last) {
            (true, false) => push('-', line),
            (false, false) => push(' ', line),
            // The new text ends its last line, so that this is a change of its own.
            (removed, true) => {
                push('-', line);
                push('\\', &NO_LINE_BREAK[1..NO_LINE_BREAK.len() - 1]);
                if !removed {
                    push('+', line);
                }
            }
        }
    }
    if edit.at >= end {
        edit.added.iter().for_each(|line| push('+', line));
        end = end.max(start);
    }
    let (old_count, new_count) = (end - start, end - start + edit.added.len() - edit.removed);
    let first = |count: usize| if count == 0 { start } else { start + 1 };
    format!(
        "--- {label}\n+++ {label}\n@@ -{},{old_count} +{},{new_count} @@\n{body}",
        first(old_count),
        first(new_count)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn rule(text: &str, warnings: &[&str]) -> Proposed {
        let warnings = warnings.iter().map(|warning| (*warning).to_owned()).collect();
        Proposed { rule: text.to_owned(), warnings }
    }

    fn amended(text: &str) -> Amended {
        let rules = [rule("GET a.example/x", &[]), rule("POST a.example/", &["it sends"])];
        amend("trial.yaml", text, &rules).expect("a form that can be amended")
    }

    #[test]
    fn rules_come_behind_those_that_are_there_and_comments_stay() {
        let text = "name: t\negress:\n  # why\n  - allow: GET b.example/\n\n# behind\nlimits: {}\n";
        let Amended { text, diff } = amended(text);
        let expected = "name: t\negress:\n  # why\n  - allow: GET b.example/\n  - allow: GET a.example/x\n  # Careful: it \
                        sends.\n  - allow: POST a.example/\n\n# behind\nlimits: {}\n";
        assert_eq!(text, expected);
        assert_eq!(
            diff,
            "--- trial.yaml\n+++ trial.yaml\n@@ -2,6 +2,9 @@\n egress:\n   # why\n   - allow: GET b.example/\n+  - allow: \
             GET a.example/x\n+  # Careful: it sends.\n+  - allow: POST a.example/\n \n # behind\n limits: {}\n"
        );
    }

    #[test]
    fn a_profile_without_rules_gets_a_list_at_its_end() {
        let Amended { text, diff } = amended("name: t");
        assert!(text.ends_with(
            "name: t\negress:\n  - allow: GET a.example/x\n  # Careful: it sends.\n  - allow: POST a.example/\n"
        ));
        assert_eq!(
            diff,
            "--- trial.yaml\n+++ trial.yaml\n@@ -1,1 +1,5 @@\n-name: t\n\\ No newline at end of file\n+name: t\n+egress:\n\
             +  - allow: GET a.example/x\n+  # Careful: it sends.\n+  - allow: POST a.example/\n"
        );
    }

    #[test]
    fn every_way_to_write_the_list_can_be_amended() {
        for text in [
            "name: t\negress:\n- allow: GET b.example/\nlimits: {}\n",
            "name: t\negress: []   \nlimits: {}\n",
            "name: t\negress:\nlimits: {}\n",
            "egress: [{ allow: GET b.example/ }]\nname: t\n",
            "egress:\n    - allow: >-\n        GET\n\n        b.example/\n    - deny: '* c.example'\n\nname: t",
            "egress:\n  -\n    allow: GET b.example/\nname: t\n",
        ] {
            assert!(amended(text).text.contains("GET a.example/x"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_amended_line_by_line_is_left_to_a_person() {
        let rules = [rule("GET a.example/x", &[])];
        for text in ["{name: t}\n", "name: t\negress: [\n  { allow: GET b.example/ },\n]\n", "name: t\r\n", "nonsense"]
        {
            assert_eq!(amend("trial.yaml", text, &rules), None, "{text}");
        }
        assert_eq!(amend("trial.yaml", "name: t\n", &[]), None);
    }

    #[test]
    fn a_rule_that_yaml_would_read_as_something_else_is_quoted() {
        assert_eq!(scalar("GET,HEAD a.example/x%20y"), "GET,HEAD a.example/x%20y");
        assert_eq!(scalar("GET a.example/x:"), "\"GET a.example/x:\"");
        assert_eq!(scalar("GET a.example/'{}"), "\"GET a.example/'{}\"");
    }
}
