//! Reads the `terminal:` of a profile.

use super::document::{Fields, Node, Value};
use super::error::Complaint;
use super::read::{choice, switch};
use super::terminal::{Terminal, TerminalFilter};

/// What a single capability can be.
#[derive(Clone, Copy, Default)]
struct Allowed(Option<bool>);

const ALLOWED: [(&str, Allowed); 2] = [("allow", Allowed(Some(true))), ("refuse", Allowed(Some(false)))];

/// Reads it.
pub(super) fn terminal(node: Node, complaints: &mut Vec<Complaint>) -> Terminal {
    let contradiction = node.complaint(
        "`filter: off` passes everything, so nothing can be refused beside it",
        "write `filter: standard`, or leave the refusal out",
    );
    let mut fields = Fields::of(node, "`terminal`", complaints);
    let filter = match fields.take("filter") {
        // YAML reads a bare `off` as false in some dialects; both are what was meant.
        Some(Node { value: Value::Bool(false), .. }) => TerminalFilter::Off,
        other => choice(other, "filter", &TerminalFilter::ALL, complaints),
    };
    let mut capability =
        |key: &'static str, complaints: &mut Vec<Complaint>| choice(fields.take(key), key, &ALLOWED, complaints).0;
    let (clipboard, title) = (capability("clipboard", complaints), capability("title", complaints));
    let (notifications, hyperlinks) = (capability("notifications", complaints), capability("hyperlinks", complaints));
    let mut flag = |key: &'static str, complaints: &mut Vec<Complaint>| {
        fields.take(key).is_some_and(|node| switch(&node, key, complaints))
    };
    let (record, ask_in_a_line) = (flag("record", complaints), flag("ask_in_a_line", complaints));
    let no_notification = flag("no_notification", complaints);
    fields.finish(complaints);
    let refusals = [clipboard, title, notifications, hyperlinks].contains(&Some(false));
    if filter == TerminalFilter::Off && refusals {
        complaints.push(contradiction);
    }
    Terminal {
        filter,
        clipboard: clipboard == Some(true),
        title: title == Some(true),
        notifications: notifications == Some(true),
        hyperlinks,
        record,
        ask_in_a_line,
        no_notification,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::{PolicyErrors, Profile};

    fn read(terminal: &str) -> Result<Terminal, PolicyErrors> {
        Profile::parse("x", &format!("name: x\nterminal: {terminal}\n")).map(|profile| profile.terminal)
    }

    #[test]
    fn what_is_not_written_is_refused_and_not_recorded() {
        assert_eq!(Profile::parse("x", "name: x").unwrap().terminal, Terminal::default());
        let wanted = Terminal {
            filter: TerminalFilter::Strict,
            clipboard: true,
            title: true,
            notifications: false,
            hyperlinks: Some(false),
            record: true,
            ask_in_a_line: true,
            no_notification: true,
        };
        let text = "{ filter: strict, clipboard: allow, title: allow, hyperlinks: refuse, record: true, ask_in_a_line: true, no_notification: true }";
        assert_eq!(read(text).unwrap(), wanted);
        assert_eq!(read("{ filter: off }").unwrap().filter, TerminalFilter::Off);
    }

    #[test]
    fn what_contradicts_itself_or_is_unknown_is_refused() {
        for (text, why) in [
            ("{ filter: off, clipboard: refuse }", "nothing can be refused beside it"),
            ("{ filter: lax }", "`filter` cannot be `lax`"),
            ("{ clipboard: yes }", "`clipboard`"),
            ("{ record: maybe }", "`record` must be true or false"),
            ("{ clipbord: allow }", "unknown key `clipbord`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
