//! Settings as git writes them, and as whoever means harm would.

use super::*;

const CLONED: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
    [remote \"origin\"]\n\turl = https://example.com/a/b.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\
    [branch \"main\"]\n\tremote = origin\n\tmerge = refs/heads/main\n";
/// A file of a person's, with what omni must not understand.
const HOSTS: &str = "[core]\n\tbare = false\n\tfsmonitor = /usr/bin/watch\n[alias]\n\tst = !status.sh # mine\n\
    [remote \"origin\"]\n\turl = git@example.com:a.git\n[branch \"main\"]\n\tremote = origin\n\
    \tmerge = refs/heads/main\n\tvscode-merge-base = origin/main\n";

fn own(after: &str) -> bool {
    GitSettings::Own.may_become(after.as_bytes())
}

fn hosts(after: &str) -> bool {
    GitSettings::Hosts(HOSTS.as_bytes()).may_become(after.as_bytes())
}

#[test]
fn what_git_writes_of_a_new_repository_is_taken() {
    assert!(own("") && own("[core]\n") && own(CLONED));
    assert!(own("[user]\n\tname = Ann O'Neill\n\temail = a@b.c\n[extensions]\n\tobjectformat = sha256\n"));
    for url in [
        "ssh://git@example.com:22/a",
        "git@example.com:a/b.git",
        "http://127.0.0.1:8080/x.git",
        "/srv/a b".trim_end_matches(" b"),
    ] {
        assert!(own(&format!("[remote \"up\"]\n\turl = {url}\n")), "{url}");
    }
}

#[test]
fn nothing_that_git_would_run_is_taken() {
    for line in [
        "[core]\n\tfsmonitor = x",
        "[core]\n\thooksPath = /tmp",
        "[core]\n\tsshCommand = x",
        "[core]\n\tworktree = /",
        "[core]\n\tbare = false\n\tpager = x",
        "[core] fsmonitor = x",
        "[core]fsmonitor=x\n\tbare = false",
        "[Core]\n\tfsmonitor = x",
        "[core]\n\tbare = \"false\\\n\tfsmonitor = x\"",
        "[core]\n\tbare = false\\\n\tfsmonitor = x",
        "[core]\n\tbare = false\r\n\tfsmonitor = x",
        "[include]\n\tpath = x",
        "[includeIf \"gitdir:/\"]\n\tpath = x",
        "[alias]\n\tst = !x",
        "[filter \"x\"]\n\tclean = x",
        "[diff]\n\texternal = x",
        "[credential]\n\thelper = !x",
        "[gpg]\n\tprogram = x",
        "[url \"ext::x\"]\n\tinsteadOf = https://",
        "[remote \"origin\"]\n\turl = ext::sh -c x",
        "[remote \"origin\"]\n\turl = ext::x",
        "[remote \"origin\"]\n\turl = ssh://-oProxyCommand=x/y",
        "[remote \"origin\"]\n\turl = ssh://a@-oProxyCommand=x/y",
        "[remote \"origin\"]\n\turl = -x@host:path",
        "[remote \"origin\"]\n\turl = git@-x:path",
        "[remote \"origin\"]\n\tuploadpack = x",
        "[remote \"origin\"]\n\tvcs = x",
        "[remote \"a\\\"]\n[core]\n\tfsmonitor = x\n#\"]\n\turl = /x",
        "[branch \"main\"]\n\tmergeOptions = x",
        "[branch \"a\"] [core] fsmonitor = x",
        "bare = x",
        "\n[core]",
        "# a comment",
    ] {
        assert!(!own(line) && !own(&format!("{CLONED}{line}\n")), "{line}");
    }
    assert!(!GitSettings::Own.may_become(b"[user]\n\tname = \xff\n"));
    assert!(!own(&format!("[user]\n\tname = {}\n", "x".repeat(GIT_SETTINGS_BYTES_MAX))));
}

#[test]
fn in_the_hosts_repository_only_new_branches_get_an_upstream() {
    let with = |more: &str| format!("{HOSTS}{more}");
    assert!(hosts(HOSTS));
    assert!(hosts(&with("[branch \"fix/a-1\"]\n\tremote = origin\n\tmerge = refs/heads/fix/a-1\n")));
    assert!(hosts(&with("\trebase = true\n")));
    assert!(hosts(&with("[branch \"side\"]\n\tremote = .\n\tmerge = refs/heads/main\n\trebase = true\n")));
    let (kept, _) = HOSTS.split_once("[branch").unwrap_or_default();
    assert!(hosts(kept), "a branch is removed");
    assert!(!GitSettings::Hosts(b"[core]\n\tx = a\\\nb\n").may_become(b"[core]\n\tx = a\\\nb\n"), "not line by line");
    for (from, to) in [
        ("[remote \"origin\"]", "[remote \"other\"]"),
        ("git@example.com:a.git", "git@evil.example:a.git"),
        ("\tremote = origin", "\tremote = ."),
        ("\tmerge = refs/heads/main", "\tmerge = refs/heads/other"),
        ("\tmerge = refs/heads/main\n", ""),
        ("watch", "evil"),
        ("\tfsmonitor = /usr/bin/watch\n", ""),
        ("# mine", ""),
        ("[alias]\n", "[branch \"x\"]\n"),
        ("[alias]\n", "[branch \"x\"]\n\tremote = origin\n[alias]\n[core]\n"),
        ("[alias]\n\tst", "\tst"),
    ] {
        assert!(!hosts(&HOSTS.replacen(from, to, 1)), "{from} {to}");
    }
    for more in [
        "[branch \"x\"]\n\tremote = evil\n",
        "[branch \"x\"]\n\tremote = https://evil.example/\n",
        "[branch \"x\"]\n\tpushRemote = origin\n",
        "[branch \"main\"]\n\tremote = .\n",
        "[remote \"evil\"]\n\turl = https://evil.example/\n",
        "[user]\n\tname = Somebody\n",
        "[branch \"x\"] [core] fsmonitor = x\n",
    ] {
        assert!(!hosts(&with(more)), "{more}");
    }
}

#[test]
fn a_remote_is_added_on_a_server_that_is_known() {
    let remote = |name: &str, lines: &str| format!("{HOSTS}[remote \"{name}\"]\n{lines}");
    let url = "\turl = git@example.com:fork.git\n";
    let fetch = "\tfetch = +refs/heads/*:refs/remotes/fork/*\n";
    let added = remote("fork", url);
    assert!(hosts(&added));
    // Git writes one key at a time.
    let then = |after: &str| GitSettings::Hosts(added.as_bytes()).may_become(after.as_bytes());
    assert!(then(&format!("{added}{fetch}")));
    assert!(then(&format!("{added}{fetch}[branch \"side\"]\n\tremote = fork\n")));
    assert!(hosts(&remote("fork", "\turl = https://example.com/fork.git\n")));
    for (name, lines) in [
        ("fork", "\turl = https://evil.example/a.git\n"),
        ("fork", "\turl = /srv/fork.git\n"),
        ("fork", "\turl = ext::sh -c x\n"),
        ("fork", "\turl = git@example.com:fork.git\n\tuploadpack = x\n"),
        ("fork", "\turl = git@example.com:fork.git\n\tpushurl = https://evil.example/\n"),
        ("fork", "\treceivepack = x\n"),
        ("fork", "\tvcs = x\n"),
        ("fork", "\tproxy = http://evil.example/\n"),
        ("fork", fetch),
        ("fork", ""),
        ("origin", url),
        ("origin", "\tpushurl = git@example.com:fork.git\n"),
        ("origin", "\tfetch = +refs/heads/*:refs/remotes/origin/*\n"),
        ("Origin", url),
        ("origin/x", url),
    ] {
        assert!(!hosts(&remote(name, lines)), "{name} {lines}");
    }
    for more in [url, "\tfetch = +refs/heads/*:refs/heads/*\n", "\tmirror = true\n", "\tpush = +refs/*:refs/*\n"] {
        assert!(!then(&format!("{added}{more}")), "{more}");
    }
    assert!(!then(&remote("fork", "\turl = git@example.com:other.git\n")) && !then(HOSTS));
    let alone = "[core]\n\tbare = false\n";
    let only = format!("{alone}[remote \"fork\"]\n{url}");
    assert!(!GitSettings::Hosts(alone.as_bytes()).may_become(only.as_bytes()), "the only one would be pushed to");
    let rewritten = format!("{HOSTS}[url \"https://evil.example/\"]\n\tinsteadOf = git@example.com:\n");
    assert!(!hosts(&rewritten));
}

#[test]
fn a_submodule_gets_where_it_comes_from_and_nothing_that_is_run() {
    let module = "[submodule \"libs/sub\"]\n\turl = https://example.com/sub.git\n\tactive = true\n";
    assert!(hosts(&format!("{HOSTS}{module}")) && own(&format!("{CLONED}{module}")));
    for line in [
        "update = !touch ran",
        "update = checkout",
        "url = ext::sh -c x",
        "url = ssh://-oProxyCommand=x/y",
        "path = ../x",
        "active = maybe",
    ] {
        assert!(!hosts(&format!("{HOSTS}[submodule \"sub\"]\n\t{line}\n")), "{line}");
    }
    let there = format!("{HOSTS}{module}");
    let become_of_there = |after: &str| GitSettings::Hosts(there.as_bytes()).may_become(after.as_bytes());
    assert!(become_of_there(&there) && !become_of_there(HOSTS));
    assert!(!become_of_there(&there.replace("example.com/sub", "evil.example/sub")));
    assert!(!become_of_there(&format!("{there}\turl = https://evil.example/sub.git\n")));
}

#[test]
fn a_submodules_files_lie_where_it_is_and_nowhere_else() {
    let worktree = "../../../libs/sub";
    let module = |after: &str| GitSettings::Module(worktree).may_become(after.as_bytes());
    let with = |value: &str| CLONED.replace("\tbare = false\n", &format!("\tbare = false\n\tworktree = {value}\n"));
    assert!(module(CLONED) && module(&with(worktree)));
    assert!(!own(&with(worktree)) && !hosts(&with(worktree)));
    for value in ["/", "../../..", "../../../libs", "../../../libs/sub/..", "\"../../../libs/sub\""] {
        assert!(!module(&with(value)), "{value}");
    }
    assert!(!module(&format!("{CLONED}[core]\n\tfsmonitor = x\n")));
}
