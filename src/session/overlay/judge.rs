//! What a person should know of a change before it is taken over: pure.

use super::change::ChangeKind;
use super::executes;
use super::facts::{Facts, Kind, MODE_EXECUTE, MODE_SET_ID};
use super::path::RelPath;
use crate::model::is_hostile;

/// Why a path may be executed on the host, by itself or as part of something that a person does there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(pub String);

/// What is odd about a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// A device.
    Device,
    /// A socket, behind which nobody listens any more.
    Socket,
    /// It would run as its owner or group.
    SetId,
    /// It carries notes to overlayfs that the kernel did not write.
    ForeignNotes,
    /// It carries attributes meant for an overlay of the harness's own, which are left out.
    InnerNotes,
    /// A directory nested too deep to be looked into.
    TooDeep,
    /// Its permission bits keep even its owner out.
    Closed,
    /// A named pipe: whoever reads it waits.
    Fifo,
    /// A link to an absolute path.
    AbsoluteLink,
    /// A link that leads, or may lead, out of the workspace.
    LinkOut,
    /// A link among git's own files, through which git writes.
    GitLink,
    /// A name with characters that steer a terminal, are not seen, or turn the direction of text.
    HostileName,
    /// A name that is not UTF-8.
    UnreadableName,
    /// A name that differs from another one in the directory by the case of letters alone.
    CaseOnly(String),
}

impl Oddity {
    /// Whether a person may take it over all the same.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        match self {
            Self::Device | Self::Socket | Self::SetId | Self::ForeignNotes | Self::TooDeep | Self::Closed => false,
            Self::Fifo
            | Self::AbsoluteLink
            | Self::LinkOut
            | Self::GitLink
            | Self::InnerNotes
            | Self::HostileName
            | Self::UnreadableName
            | Self::CaseOnly(_) => true,
        }
    }

    /// What it is, for a program.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Socket => "socket",
            Self::SetId => "set_id",
            Self::ForeignNotes => "foreign_notes",
            Self::InnerNotes => "inner_notes",
            Self::TooDeep => "too_deep",
            Self::Closed => "closed",
            Self::Fifo => "fifo",
            Self::AbsoluteLink => "absolute_link",
            Self::LinkOut => "link_out",
            Self::GitLink => "git_link",
            Self::HostileName => "hostile_name",
            Self::UnreadableName => "unreadable_name",
            Self::CaseOnly(_) => "case_only",
        }
    }
}

impl std::fmt::Display for Oddity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device => f.write_str("a device"),
            Self::Socket => f.write_str("a socket"),
            Self::SetId => f.write_str("would run as its owner or group (set-id bits)"),
            Self::ForeignNotes => f.write_str("carries forged notes to the overlay"),
            Self::InnerNotes => f.write_str("carries attributes for an overlay of its own, which are left out"),
            Self::TooDeep => f.write_str("nested too deep to be looked into"),
            Self::Closed => f.write_str("cannot be looked into while the session runs"),
            Self::Fifo => f.write_str("a named pipe"),
            Self::AbsoluteLink => f.write_str("a link to an absolute path"),
            Self::LinkOut => f.write_str("a link that leads out of the workspace"),
            Self::GitLink => f.write_str("a link among git's own files, through which git writes"),
            Self::HostileName => f.write_str("control or invisible characters in its name"),
            Self::UnreadableName => f.write_str("a name that is not UTF-8"),
            Self::CaseOnly(other) => write!(f, "differs from {other} by case alone"),
        }
    }
}

/// Why what the sandbox left at a path may be executed on the host.
pub(super) fn mark(path: &RelPath, kind: ChangeKind, after: Option<&Facts>, before: Option<&Facts>) -> Option<Mark> {
    let after = after?;
    if let Some(reason) = executes::reason(path) {
        // A directory does nothing by itself; what lies in it is marked by itself.
        let inert = after.kind == Kind::Directory || (kind == ChangeKind::Mode && !gains_execution(after, before));
        return (!inert).then_some(Mark(reason));
    }
    let executable = after.kind == Kind::File && after.mode & MODE_EXECUTE != 0;
    match kind {
        ChangeKind::Mode if executable && gains_execution(after, before) => {
            Some(Mark("it becomes executable".to_owned()))
        }
        ChangeKind::Mode => None,
        _ if executable => Some(Mark("it is executable".to_owned())),
        _ => None,
    }
}

fn gains_execution(after: &Facts, before: Option<&Facts>) -> bool {
    after.mode & MODE_EXECUTE & !before.map_or(0, |before| before.mode) != 0
}

/// What is odd about what the sandbox left at a path, by itself.
pub(super) fn oddities(path: &RelPath, after: &Facts, before: Option<&Facts>, target: Option<&[u8]>) -> Vec<Oddity> {
    let mut found = Vec::new();
    match after.kind {
        Kind::Device => found.push(Oddity::Device),
        Kind::Socket => found.push(Oddity::Socket),
        Kind::Fifo => found.push(Oddity::Fifo),
        Kind::File | Kind::Directory | Kind::Link => {}
    }
    // What the host has already, and directories that take the group of the one above, give nobody anything.
    let had = before.map_or(0, |before| before.mode) & MODE_SET_ID;
    let inherited = if after.kind == Kind::Directory { 0o2000 } else { 0 };
    if after.kind != Kind::Link && after.mode & MODE_SET_ID & !had & !inherited != 0 {
        found.push(Oddity::SetId);
    }
    match target {
        Some(target) if target.starts_with(b"/") => found.push(Oddity::AbsoluteLink),
        Some(target) if leads_out(path, target) => found.push(Oddity::LinkOut),
        _ => {}
    }
    if target.is_some() && lies_in_git(path) {
        found.push(Oddity::GitLink);
    }
    match std::str::from_utf8(path.name()) {
        Ok(name) if name.contains(is_hostile) => found.push(Oddity::HostileName),
        Ok(_) => {}
        Err(_) => found.push(Oddity::UnreadableName),
    }
    found
}

/// Whether a directory on the way to it is called as git's are.
fn lies_in_git(path: &RelPath) -> bool {
    path.names().rev().skip(1).any(|name| name.eq_ignore_ascii_case(b".git"))
}

/// Whether a relative link may lead out of the workspace. After a name that could itself be a link, `..` may be anywhere.
fn leads_out(path: &RelPath, target: &[u8]) -> bool {
    let mut depth = path.names().count().saturating_sub(1);
    let mut named = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if named || depth == 0 => return true,
            b".." => depth -= 1,
            _ => named = true,
        }
    }
    false
}

/// The name by which file systems that fold case would know it.
pub(super) fn folded(name: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(name).to_lowercase().into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::facts::Moment;
    use super::*;

    fn facts(kind: Kind, mode: u32) -> Facts {
        Facts {
            kind,
            mode,
            uid: 1,
            gid: 1,
            size: 0,
            inode: 1,
            device: 0,
            links: 1,
            modified: Moment::default(),
            changed: Moment::default(),
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn odd(text: &str, kind: Kind, mode: u32, target: Option<&str>) -> Vec<Oddity> {
        oddities(&path(text), &facts(kind, mode), None, target.map(str::as_bytes))
    }

    #[test]
    fn links_that_may_leave_the_workspace_are_found() {
        let link = |target| odd("a/b/link", Kind::Link, 0o777, Some(target));
        for inside in ["x", "./x", "../x", "../../x", "x/y", ""] {
            assert_eq!(link(inside), [], "{inside}");
        }
        for out in ["../../../x", "x/../y", "../../..", "x/../../../../y"] {
            assert_eq!(link(out), [Oddity::LinkOut], "{out}");
        }
        assert_eq!(link("/etc/passwd"), [Oddity::AbsoluteLink]);
        assert_eq!(odd("link", Kind::Link, 0o777, Some("..")), [Oddity::LinkOut]);
    }

    #[test]
    fn links_among_gits_own_files_are_odd_wherever_they_lead() {
        let link = |text, target| odd(text, Kind::Link, 0o777, Some(target));
        assert_eq!(link("a/.git/COMMIT_EDITMSG", "config"), [Oddity::GitLink]);
        assert_eq!(link(".GIT/logs/HEAD", "/x"), [Oddity::AbsoluteLink, Oddity::GitLink]);
        assert_eq!(link("git/x", "y"), []);
        assert_eq!(odd(".git/COMMIT_EDITMSG", Kind::File, 0o644, None), []);
    }

    #[test]
    fn set_id_bits_are_odd_unless_the_host_has_them() {
        assert_eq!(odd("a", Kind::File, 0o4755, None), [Oddity::SetId]);
        assert_eq!(odd("a", Kind::File, 0o2755, None), [Oddity::SetId]);
        assert_eq!(odd("a", Kind::Directory, 0o2755, None), [], "a directory takes the bit from the one above");
        assert_eq!(odd("a", Kind::Directory, 0o4755, None), [Oddity::SetId]);
        assert_eq!(oddities(&path("a"), &facts(Kind::File, 0o2755), Some(&facts(Kind::File, 0o2750)), None), []);
    }

    #[test]
    fn what_is_no_file_and_what_cannot_be_read_is_odd() {
        assert_eq!(odd("a", Kind::Device, 0o600, None), [Oddity::Device]);
        assert_eq!(odd("a", Kind::Socket, 0o600, None), [Oddity::Socket]);
        assert_eq!(odd("a", Kind::Fifo, 0o600, None), [Oddity::Fifo]);
        assert_eq!(odd("a/b\u{1b}[2J", Kind::File, 0o644, None), [Oddity::HostileName]);
        assert_eq!(odd("a/b\u{202e}", Kind::File, 0o644, None), [Oddity::HostileName]);
        let name = RelPath::parse(b"a/\xff").unwrap();
        assert_eq!(oddities(&name, &facts(Kind::File, 0o644), None, None), [Oddity::UnreadableName]);
    }

    #[test]
    fn a_file_that_becomes_executable_is_marked() {
        let file = |mode| facts(Kind::File, mode);
        let marked =
            |kind, after: &Facts, before: Option<&Facts>| mark(&path("a.txt"), kind, Some(after), before).is_some();
        assert!(marked(ChangeKind::Added, &file(0o755), None) && !marked(ChangeKind::Added, &file(0o644), None));
        assert!(marked(ChangeKind::Mode, &file(0o755), Some(&file(0o644))));
        assert!(!marked(ChangeKind::Mode, &file(0o700), Some(&file(0o755))), "it loses bits");
        assert!(!marked(ChangeKind::Added, &facts(Kind::Directory, 0o755), None));
        assert!(mark(&path("a"), ChangeKind::Deleted, None, Some(&file(0o755))).is_none());
        assert!(mark(&path("Makefile"), ChangeKind::Modified, Some(&file(0o644)), Some(&file(0o644))).is_some());
        assert!(mark(&path("Makefile"), ChangeKind::Mode, Some(&file(0o600)), Some(&file(0o644))).is_none());
    }
}
