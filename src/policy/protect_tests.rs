//! The judgement of names, as a table.

use super::*;

/// What there is, as the directories that hold something: a path and its entries.
type Disk = &'static [(&'static str, &'static [&'static str])];

const NOTHING: Disk = &[];
const BARE: Disk = &[("/w/bare.git", &["HEAD", "objects", "refs", "config"])];
const NEARLY: Disk = &[("/w/x", &["objects", "refs", "config", "hooks"])];
const SUBMODULE: Disk = &[("/w/.git/modules/lib/sub", &["HEAD", "objects", "refs"])];
const WORKTREE: Disk = &[("/m/.git/worktrees/x", &["HEAD", "commondir", "gitdir"])];

fn judge_in(disk: Disk, act: FileAct, text: &str, given: usize) -> Result<(), String> {
    let protection = Protection::compile(&["deploy/keys".to_owned(), "*.lock".to_owned()]).unwrap();
    let path = JudgedPath::new(text.as_bytes(), given, text.starts_with("/w/").then_some(1));
    let mut has = |depth: usize, name: &str| {
        let place: String = text.split('/').skip(1).take(depth).map(|part| format!("/{part}")).collect();
        disk.iter().any(|(directory, entries)| *directory == place && entries.contains(&name))
    };
    protection.judge(act, &path, &mut has).map_err(|by| by.rule.to_owned())
}

fn judge(act: FileAct, text: &str) -> Result<(), String> {
    judge_in(NOTHING, act, text, 1)
}

#[test]
fn what_runs_on_the_host_is_refused_at_any_depth() {
    for (text, rule) in [
        ("/w/.git", ".git"),
        ("/w/a/b/.GIT", ".git"),
        ("/w/.git/hooks", ".git/hooks"),
        ("/w/.git/hooks/pre-commit", ".git/hooks"),
        ("/w/a/.git/config", ".git/config"),
        ("/w/.git/config.lock", ".git/config.lock"),
        ("/w/.git/info/attributes", ".git/info/attributes"),
        ("/w/.git/commondir", ".git/commondir"),
        ("/w/.mcp.json", ".mcp.json"),
        ("/w/pkg/.vscode/tasks.json", ".vscode"),
        ("/w/.claude/settings.json", ".claude/settings.json"),
        ("/w/a/.Claude/Hooks/x", ".claude/hooks"),
        ("/w/.config/systemd/user/x.service", ".config/systemd"),
        ("/w/.bashrc", ".bashrc"),
        ("/w/x.code-workspace", "*.code-workspace"),
        ("/w/deploy/keys/a", "deploy/keys"),
        ("/w/a/b.lock", "*.lock"),
    ] {
        for act in [FileAct::Write, FileAct::Make, FileAct::Remove, FileAct::MoveAway, FileAct::MoveHere, FileAct::Link]
        {
            assert_eq!(judge(act, text), Err(rule.to_owned()), "{act:?} {text}");
        }
    }
}

#[test]
fn ordinary_work_is_not() {
    for text in [
        "/w/src/main.rs",
        "/w/.git/index",
        "/w/.git/HEAD.new",
        "/w/.git/HEAD",
        "/w/.git/refs/heads/config",
        "/w/.git/refs/heads/hooks/x",
        "/w/.git/objects/aa/bb",
        "/w/.git/logs/HEAD",
        "/w/.git/info/exclude",
        "/w/src/hooks/use.ts",
        "/w/config",
        "/w/.claude/plans/a.md",
        "/w/.gitignore",
        "/w/.github/workflows/x.yml",
        "/w/x/deploy/keys",
        "/w/objects",
    ] {
        for act in [FileAct::Write, FileAct::Make, FileAct::MoveHere, FileAct::Link, FileAct::Attributes] {
            assert_eq!(judge(act, text), Ok(()), "{act:?} {text}");
        }
    }
    assert_eq!(judge(FileAct::Make, "/w/.claude"), Ok(()));
    assert_eq!(judge(FileAct::Remove, "/w/.config"), Ok(()));
}

#[test]
fn what_heads_a_protected_path_neither_comes_nor_goes() {
    for text in ["/w/.claude", "/w/a/.config", "/w/.git/info", "/w/deploy"] {
        for act in [FileAct::MoveAway, FileAct::MoveHere, FileAct::Link] {
            assert!(judge(act, text).is_err(), "{act:?} {text}");
        }
    }
    assert_eq!(judge(FileAct::MoveAway, "/w/a/deploy"), Ok(()), "it is anchored at the workspace");
}

#[test]
fn a_git_directory_is_known_by_what_it_holds() {
    assert_eq!(judge_in(BARE, FileAct::Write, "/w/bare.git/hooks/update", 1), Err(".git/hooks".to_owned()));
    assert_eq!(judge_in(BARE, FileAct::Write, "/w/bare.git/config", 1), Err(".git/config".to_owned()));
    assert_eq!(judge_in(BARE, FileAct::Write, "/w/bare.git/objects/x", 1), Ok(()));
    assert_eq!(judge_in(BARE, FileAct::Remove, "/w/bare.git/HEAD", 1), Err(GIT_DIRECTORY.to_owned()));
    assert_eq!(judge_in(BARE, FileAct::MoveHere, "/w/bare.git/HEAD", 1), Ok(()), "a lock file becomes the head");
    assert_eq!(judge_in(SUBMODULE, FileAct::Write, "/w/.git/modules/lib/sub/hooks/x", 1), Err(".git/hooks".into()));
    assert_eq!(
        judge_in(WORKTREE, FileAct::Write, "/m/.git/worktrees/x/config.worktree", 2),
        Err(".git/config.worktree".into())
    );
    assert_eq!(judge_in(WORKTREE, FileAct::Write, "/m/.git/worktrees/x/index", 2), Ok(()));
    assert_eq!(judge_in(NOTHING, FileAct::Write, "/m/.git/config", 2), Err(".git/config".into()), "the name is above");
}

#[test]
fn nothing_becomes_a_git_directory() {
    assert_eq!(judge_in(NEARLY, FileAct::Write, "/w/x/hooks/post-checkout", 1), Ok(()));
    for act in [FileAct::Write, FileAct::Make, FileAct::MoveHere, FileAct::Link] {
        assert_eq!(judge_in(NEARLY, act, "/w/x/HEAD", 1), Err(GIT_DIRECTORY.to_owned()), "{act:?}");
    }
    assert_eq!(judge_in(&[("/w/x", &["HEAD"])], FileAct::Write, "/w/x/commondir", 1), Err(GIT_DIRECTORY.to_owned()));
    assert_eq!(judge_in(&[("/w/x", &["HEAD"])], FileAct::Make, "/w/x/objects", 1), Ok(()));
}

#[test]
fn what_was_given_by_name_is_given() {
    let home = 3;
    assert_eq!(judge_in(NOTHING, FileAct::Write, "/home/ann/.vscode/x", home), Ok(()));
    assert_eq!(
        judge_in(NOTHING, FileAct::Write, "/home/ann/.claude/settings.json", home),
        Err(".claude/settings.json".into())
    );
    assert_eq!(judge_in(NOTHING, FileAct::Write, "/home/ann/.claude/projects/a/b.jsonl", home), Ok(()));
    assert_eq!(
        judge_in(NOTHING, FileAct::Write, "/m/deploy/keys", 1),
        Ok(()),
        "a profile's patterns are the workspace's"
    );
}

#[test]
fn a_git_directory_goes_nowhere_else_and_is_one_before_it_is_whole() {
    // What it says of where its settings are is relative.
    for path in ["/m/.git/worktrees/x", "/m/.git/worktrees", "/m/.git/modules", "/m/.git/modules/lib"] {
        for act in [FileAct::MoveAway, FileAct::MoveHere, FileAct::Link] {
            assert_eq!(judge_in(WORKTREE, act, path, 1), Err("git directory".to_owned()), "{act:?} {path}");
        }
        assert_eq!(judge_in(WORKTREE, FileAct::Make, path, 1), Ok(()), "{path}");
    }
    assert_eq!(judge_in(BARE, FileAct::MoveAway, "/w/bare.git", 1), Err("git directory".to_owned()));
    assert_eq!(judge_in(BARE, FileAct::MoveHere, "/w/bare.git/worktrees", 1), Err("git directory".to_owned()));
    assert_eq!(judge_in(SUBMODULE, FileAct::MoveAway, "/w/.git/modules/lib/sub", 1), Err("git directory".to_owned()));
    for path in [
        "/w/modules/x",
        "/w/worktrees",
        "/w/.git/worktrees/x/HEAD.lock",
        "/w/.git/modules/a/b/index.lock",
        "/w/.git/refs/heads/worktrees",
    ] {
        let judged = judge_in(NOTHING, FileAct::MoveAway, path, 1);
        assert!(judged.is_ok() || judged == Err("*.lock".to_owned()), "{path}: {judged:?}");
    }
    for path in [
        "/w/.git/modules/a/config",
        "/w/.git/modules/a/b/hooks/x",
        "/w/.git/worktrees/x/commondir",
        "/w/.git/worktrees/x/gitdir",
        "/w/.git/modules/a/modules/b/info/attributes",
    ] {
        assert!(judge_in(NOTHING, FileAct::Write, path, 1).is_err(), "{path}");
    }
    for path in [
        "/w/.git/modules/a/refs/heads/config",
        "/w/.git/modules/a/logs/refs/heads/hooks",
        "/w/.git/modules/a/description",
        "/w/.git/worktrees/x/locked",
    ] {
        assert_eq!(judge_in(NOTHING, FileAct::Write, path, 1), Ok(()), "{path}");
    }
}

#[test]
fn no_link_comes_among_gits_own_files() {
    let judged = |path: &str| JudgedPath::new(path.as_bytes(), 1, Some(1));
    let on = |path: &'static str| {
        move |depth: usize, name: &str| {
            let place: String = path.split('/').skip(1).take(depth).map(|part| format!("/{part}")).collect();
            BARE.iter().any(|(directory, entries)| *directory == place && entries.contains(&name))
        }
    };
    let made = |path, target: &str| Protection::judge_link(target.as_bytes(), &judged(path), &mut on(path)).is_ok();
    for path in ["/w/.git/logs/HEAD", "/w/a/.GIT/index", "/w/.git/modules/a/logs", "/w/bare.git/refs/heads/x"] {
        assert!(!made(path, "/x") && !made(path, "config") && !made(path, "./testing"), "{path}");
        assert!(made(path, "testing"), "git tries whether links can be made: {path}");
    }
    assert!(made("/w/a", "/x") && made("/w/git/logs/HEAD", "/x") && made("/w/bare.git", "/x"));
    let comes = |is_link, from, to| {
        let (judged_from, judged_to) = (judged(from), judged(to));
        Protection::judge_coming(is_link, (&judged_from, &mut on(from)), (&judged_to, &mut on(to))).is_ok()
    };
    assert!(
        !comes(true, "/w/x", "/w/.git/x") && !comes(true, "/w/.git/x", "/w/.git/y") && comes(true, "/w/.git/x", "/w/y")
    );
    assert!(!comes(false, "/w/x", "/w/.git/logs") && !comes(false, "/w/a/.git/x", "/w/.git/x"));
    assert!(!comes(false, "/w/x", "/w/bare.git/logs") && comes(false, "/w/bare.git/a", "/w/bare.git/b"));
    assert!(comes(false, "/w/.git/a", "/w/.git/b/c") && comes(false, "/w/x", "/w/y"));
}
