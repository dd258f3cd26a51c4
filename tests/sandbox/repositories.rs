//! Repositories that a harness makes, and settings of git that it changes: what git does for it comes about, and nothing
//! that git would run on the host does.

use crate::protected::{everything, git, repository};
use crate::support::{each, finish};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const AUTHOR: &str =
    "export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.com GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@example.com";
/// A setting that has git run a program whenever somebody looks at the repository.
const EVIL: &str = "[core]\\n\\tfsmonitor = touch ran; false\\n";

attack! {
    fn a_repository_is_made_cloned_worked_in_and_removed(world) {
        let script = format!("\
set -e
{AUTHOR}
mkdir made; cd made; git init -q -b main; echo '#!/bin/sh' > run; chmod +x run; git add .; git commit -qm first; cd ..
git clone -q \"$PWD/made\" taken; cd taken; git checkout -q -b side; echo two > file; git add .; git commit -qm second
git remote add up https://example.com/a.git; git branch -q --set-upstream-to=origin/main; git push -q -u origin side
git branch -q -m side late; git branch -q -D main; git config user.name Ann; cd ..
git init -q gone; rm -r gone; test ! -e gone");
        let outcome = world.shell(&[], &script);
        assert_eq!((outcome.code(), outcome.text()), (Some(0), String::new()), "{outcome:?}");
        let told = |place: &str, words: &[&str]| {
            let mut command = world.command(Path::new("git"));
            command.current_dir(world.workspace().join(place)).args(words);
            finish(command, b"").text()
        };
        assert_eq!(told("made", &["ls-tree", "HEAD"]).split(' ').next(), Some("100755"), "modes count");
        assert_eq!(told("made", &["log", "--format=%s", "side"]), "second\nfirst\n", "it was pushed");
        assert_eq!(told("taken", &["config", "branch.late.merge"]), "refs/heads/side\n");
        assert_eq!(told("taken", &["config", "user.name"]), "Ann\n");
        assert_eq!(told("taken", &["remote", "get-url", "up"]), "https://example.com/a.git\n");
        let settings = fs::metadata(world.workspace().join("taken/.git/config")).unwrap();
        assert_eq!(settings.mode() & 0o777, 0o644);
    }
}

attack! {
    fn a_repository_of_the_sessions_own_runs_nothing_on_the_host(world) {
        let code = format!("\
import subprocess
def run(*words): return subprocess.run(words, capture_output=True).returncode
assert run('git', 'init', '-q', 'made') == 0
before = open('made/.git/config').read()
os.mkdir('evil'); os.mkdir('evil/hooks')
open('evil/hooks/post-commit', 'w').write('#!/bin/sh\\ntouch ran\\n'); os.chmod('evil/hooks/post-commit', 0o755)
open('evil/config', 'w').write('{EVIL}')
os.chdir('made/.git')
def locked(text):
    # Written through what was open before the lock got its new name, and after.
    lock = os.open('config.lock', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    os.write(lock, before.encode()); os.rename('config.lock', 'config')
    os.pwrite(lock, text.encode(), 0); os.ftruncate(lock, len(text))
    os.close(lock)
    if open('config').read() != text: raise OSError(errno.EACCES, 'unchanged')
def renamed(text):
    lock = os.open('config.lock', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(lock, text.encode())
    try: os.rename('config.lock', 'config')
    finally:
        if os.path.exists('config.lock'): os.remove('config.lock')
ways = [
    lambda: open('config', 'a'),
    lambda: open('config', 'w'),
    lambda: os.truncate('config', 0),
    lambda: os.rename('../../evil/config', 'config'),
    lambda: os.link('../../evil/config', 'config.lock'),
    lambda: os.symlink('../../evil/config', 'config.lock'),
    lambda: os.rename('../../evil/config', 'config.lock'),
    lambda: locked('{EVIL}'),
    lambda: renamed('{EVIL}'),
    lambda: renamed(before + '[include]\\n\\tpath = ../../evil/config\\n'),
    lambda: os.chmod('config', 0o666),
    lambda: os.mkdir('config.worktree'),
    lambda: open('hooks/post-commit', 'w'),
    lambda: open('hooks/update.sample', 'w'),
    lambda: os.rename('hooks/update.sample', 'hooks/post-commit'),
    lambda: os.rename('../../evil/hooks/post-commit', 'hooks/post-commit'),
    lambda: os.link('../../evil/hooks/post-commit', 'hooks/post-commit'),
    lambda: os.symlink('../../evil/hooks/post-commit', 'hooks/post-commit'),
    lambda: os.rename('../../evil/hooks', 'hooks'),
    lambda: os.rename('hooks', 'elsewhere'),
    lambda: open('info/attributes', 'w'),
    lambda: open('commondir', 'w'),
    lambda: os.rename('.', '../x'),
    lambda: os.rename('../.git', '../x'),
    lambda: os.rename('../../evil', '../../x/.git'),
    lambda: os.symlink('../evil', '../../evil/.git'),
    lambda: open('../../evil/.git', 'w'),
    lambda: os.mkdir('../../evil/.GIT'),
]
found = [attempt(way) for way in ways]
os.chdir('../..')
def bare():
    os.makedirs('evil/objects'); os.makedirs('evil/refs'); open('evil/HEAD', 'w')
found.append(attempt(bare))
found.append(open('made/.git/config').read() == before)
found.append(attempt(lambda: os.mkdir('evil/.git')))
say(found)");
        let found = world.probe(&code, &[]);
        let refused = found.as_array().unwrap();
        let (last, ways) = refused.split_last_chunk::<2>().map(|(ways, last)| (last.clone(), ways.to_vec())).unwrap();
        let odd: Vec<_> = ways.iter().enumerate().filter(|(_, way)| !["EACCES", "EBUSY", "ENOENT"].contains(&way.as_str().unwrap_or(""))).collect();
        assert!(odd.is_empty(), "{odd:?} of {found}");
        assert_eq!(last, [json!(true), json!("ok")], "the control, a repository beside what is evil: {found}");
        // Whoever works there runs nothing of it.
        for place in ["made", "evil"] {
            let mut status = world.command(Path::new("git"));
            status.current_dir(world.workspace().join(place)).args(["status", "--short"]);
            finish(status, b"");
            assert!(!world.workspace().join(place).join("ran").exists());
        }
    }
}

attack! {
    /// Whoever trusts a remote's name would push to where it leads.
    fn in_the_hosts_repository_new_branches_get_an_upstream_and_nothing_else_changes(world) {
        let upstream = world.place().join("upstream");
        repository(world, &upstream);
        fs::remove_dir(world.workspace()).unwrap();
        git(world, world.place(), &["clone", "-q", upstream.to_str().unwrap(), world.workspace().to_str().unwrap()]);
        let before = everything(&world.workspace());
        let script = "\
for words in 'config user.name Eve' 'config core.fsmonitor evil' 'remote add up https://evil.example/' 'remote set-url origin https://evil.example/' \\
  'config branch.main.remote .' 'config branch.side.remote https://evil.example/' 'config --unset remote.origin.fetch' 'remote remove origin'
do git $words 2>/dev/null && echo $words; done; test ! -e .git/config.lock && echo refused";
        let outcome = world.shell(&[], script);
        assert_eq!(outcome.text(), "refused\n", "{outcome:?}");
        let settings = fs::read_to_string(world.workspace().join(".git/config")).unwrap();
        assert!(everything(&world.workspace()) == before, "{settings}");
        let told = world.shell(&[], "git checkout -q -b side && git branch -q -u origin/main && git status -sb");
        assert_eq!(told.text(), "## side...origin/main\n", "the control: {told:?}");
        assert_eq!(world.shell(&[], "git checkout -q main && git branch -q -D side").code(), Some(0));
        // What stays of the branch's section is its place.
        assert_eq!(everything(&world.workspace()).len(), before.len());
    }
}

attack! {
    /// On a server that the repository knows, a push is taken by whether its own user may push there.
    fn a_remote_is_added_where_the_hosts_lead_and_nowhere_else(world) {
        let workspace = world.workspace();
        repository(world, &workspace);
        let settings = workspace.join(".git/config");
        let alone = fs::read_to_string(&settings).unwrap();
        let first = world.shell(&[], "git remote add fork https://example.com/fork.git");
        assert_ne!(first.code(), Some(0), "a push that names nothing goes to the only one: {first:?}");
        assert_eq!(fs::read_to_string(&settings).unwrap(), alone);
        git(world, &workspace, &["remote", "add", "up", "git@example.com:a.git"]);
        let before = fs::read_to_string(&settings).unwrap();
        let script = "\
for words in 'origin https://example.com/fork.git' 'evil https://evil.example/' 'evil ext::touch\\ ran' 'evil root@example.com:a' 'evil ./evil' \\
  'evil ssh://-oProxyCommand=x/' 'up https://example.com/fork.git'
do git remote add $words 2>/dev/null && echo $words; done
for words in 'remote.up.pushurl https://example.com/x' 'remote.up.uploadpack evil' 'remote.fork.receivepack evil' 'remote.fork.vcs evil' \\
  'remote.fork.proxy evil' 'remote.pushDefault fork' 'url.https://evil.example/.insteadOf https://example.com/' \\
  'remote.fork.fetch +refs/heads/*:refs/heads/*'
do git config --add $words 2>/dev/null && echo $words; done; test ! -e .git/config.lock && echo refused";
        let outcome = world.shell(&[], script);
        assert_eq!(outcome.text(), "refused\n", "{outcome:?}");
        assert_eq!(fs::read_to_string(&settings).unwrap(), before);
        let script = "git remote add fork https://example.com/fork.git && git checkout -q -b side && git config branch.side.remote fork";
        let outcome = world.shell(&[], script);
        assert_eq!((outcome.code(), outcome.text()), (Some(0), String::new()), "{outcome:?}");
        let added = "[remote \"fork\"]\n\turl = https://example.com/fork.git\n\tfetch = +refs/heads/*:refs/remotes/fork/*\n\
            [branch \"side\"]\n\tremote = fork\n";
        assert_eq!(fs::read_to_string(&settings).unwrap(), before + added);
    }
}

attack! {
    /// A lock is whoever's who made it.
    fn cannot_take_or_change_the_hosts_own_lock(world) {
        repository(world, &world.workspace());
        let lock = world.workspace().join(".git/config.lock");
        world.write(&lock, "[user]\n\tname = Ann\n");
        let code = "\
os.chdir('.git')
ways = [
    lambda: open('config.lock', 'a'),
    lambda: os.open('config.lock', os.O_CREAT | os.O_WRONLY),
    lambda: os.remove('config.lock'),
    lambda: os.chmod('config.lock', 0o600),
    lambda: os.rename('config.lock', 'config'),
    lambda: os.rename('config.lock', 'x'),
]
say([attempt(way) for way in ways] + [attempt(lambda: os.open('config.lock', os.O_CREAT | os.O_EXCL))])";
        let mut expected = each("EACCES", 6);
        expected.as_array_mut().unwrap().push(json!("EEXIST"));
        assert_eq!(world.probe(code, &[]), expected);
        assert_eq!(fs::read_to_string(&lock).unwrap(), "[user]\n\tname = Ann\n");
        fs::remove_file(&lock).unwrap();
        let own = "lock = os.open('.git/config.lock', os.O_CREAT | os.O_EXCL); os.remove('.git/config.lock'); say('ok')";
        assert_eq!(world.probe(own, &[]), json!("ok"), "the control");
    }
}

attack! {
    /// What lies there is another repository's, whose files would seem to be the new one's.
    fn cannot_begin_a_repository_over_files_of_another(world) {
        repository(world, &world.workspace());
        let sub = world.workspace().join("sub");
        fs::create_dir(&sub).unwrap();
        world.give(&sub);
        world.write(&sub.join("kept"), "x");
        let code = "say([attempt(lambda: os.mkdir(path)) for path in ('sub/.git', 'sub/new', 'sub/new/.git')])";
        assert_eq!(world.probe(code, &[]), json!(["EACCES", "ok", "ok"]));
        assert!(!sub.join(".git").exists() && sub.join("new/.git").exists());
        // One that begins above the workspace counts likewise.
        let mut inside = world.command(Path::new("git"));
        inside.current_dir(&sub).args(["rev-parse", "--show-toplevel"]);
        assert_eq!(finish(inside, b"").text().trim(), world.workspace().to_str().unwrap());
    }
}
