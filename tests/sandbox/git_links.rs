//! Links among git's own files: what git writes outside would go where they lead.

use crate::protected::{git, repository};
use crate::support::{World, finish};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Says something to commit that a shell would run.
fn commit_outside(world: &World) {
    git(world, &world.workspace(), &["commit", "-q", "--allow-empty", "-m", "touch ran"]);
}

attack! {
    /// The host's git appends to its logs and writes messages, heads and lists of references; all these it finds by name.
    fn no_link_among_gits_own_files_leads_a_git_outside_elsewhere(world) {
        let work = world.workspace();
        repository(world, &work);
        git(world, &work, &["init", "-q", "--bare", "bare"]);
        git(world, &work, &["init", "-q", "nested"]);
        git(world, &work, &["worktree", "add", "-q", "tree", "-b", "tree"]);
        let victim = world.place().join("victim");
        world.write(&victim, "kept\n");
        // The control: a link that somebody outside left is followed.
        symlink(&victim, work.join("link")).unwrap();
        fs::remove_file(work.join(".git/COMMIT_EDITMSG")).unwrap();
        symlink(&victim, work.join(".git/COMMIT_EDITMSG")).unwrap();
        commit_outside(world);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "touch ran\n");
        fs::remove_file(work.join(".git/COMMIT_EDITMSG")).unwrap();
        world.write(&victim, "kept\n");

        let code = "\
library = ctypes.CDLL(None, use_errno=True)
def direct(number, *words):
    if library.syscall(number, *words) < 0: raise OSError(ctypes.get_errno(), 'failed')
def exchanged(one, other): direct(316, -100, one.encode(), -100, other.encode(), 2)
def second_name(link, other): os.link(link, other, follow_symlinks=False)
victim = arguments[0]
os.mkdir('logs'); os.mkdir('logs/refs'); os.symlink(victim, 'logs/HEAD'); os.symlink(victim, 'logs/refs/stash')
os.symlink('config', 'near'); open('plain', 'w').write('x')
shutil.rmtree('.git/logs')
ways = []
for place in ('.git/', '.git/refs/heads/', '.git/worktrees/tree/', 'nested/.git/', 'bare/', 'bare/refs/heads/', '.GIT/', 'tree/../.git/'):
    if not os.path.isdir(place): continue
    for entry in ('COMMIT_EDITMSG', 'FETCH_HEAD', 'packed-refs', 'logs', 'objects/info/alternates'):
        if not os.path.isdir(os.path.dirname(place + entry)): continue
        ways += [lambda at=place + entry, to=to: os.symlink(to, at) for to in (victim, 'config', 'hooks', '.', '..', '../link', 'testing/', './testing')]
        ways += [lambda at=place + entry, way=way, what=what: way(what, at) for way in (os.rename, second_name) for what in ('link', 'near')]
        ways += [lambda at=place + entry: os.rename('logs', at)]
ways += [
    lambda: os.symlink(victim, '.git/logs'),
    lambda: os.rename('logs', '.git/logs'),
    lambda: os.rename('logs', '.git/objects/xx'),
    lambda: exchanged('link', '.git/index'),
    lambda: exchanged('.git/index', 'link'),
    lambda: exchanged('logs', '.git/refs'),
]
found = [attempt(way) for way in ways]
def kept(*places): return [os.path.islink(place) for place in places]
controls = [
    lambda: os.symlink('testing', '.git/tAbCdEf'),
    lambda: os.remove('.git/tAbCdEf'),
    lambda: os.symlink(victim, 'elsewhere'),
    lambda: os.rename('elsewhere', 'elsewhere2'),
    lambda: os.rename('plain', '.git/plain'),
    lambda: os.link('.git/plain', '.git/plain2'),
    lambda: os.mkdir('.git/one') or os.rename('.git/one', '.git/two'),
]
say([found, [attempt(way) for way in controls], kept('link', 'near', 'logs/HEAD'), os.path.exists('.git/logs')])";
        let said = world.probe(&format!("import shutil\n{code}"), &[&victim.display().to_string()]);
        let found = said[0].as_array().unwrap();
        assert!(found.len() > 100, "{}", found.len());
        let odd: Vec<_> = found.iter().enumerate().filter(|(_, way)| **way != json!("EACCES")).collect();
        assert!(odd.is_empty(), "{odd:?} of {said}");
        assert_eq!(said[1], json!(["ok", "ok", "ok", "ok", "ok", "ok", "ok"]), "{said}");
        assert_eq!((&said[2], &said[3]), (&json!([true, true, true]), &json!(false)));
        commit_outside(world);
        git(world, &work, &["pack-refs", "--all"]);
        git(world, &work, &["fetch", "-q", "./tree"]);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept\n", "the witness");
        let told = world.list(&["audit", "log", "--session", "last"]);
        assert!(told.iter().any(|event| event["event"] == "file_refused" && event["rule"] == "link in a git directory"));
    }
}

attack! {
    /// Git tries by a link among its own files whether links can be made, and puts packs and logs where they belong by other names.
    fn git_works_without_links_among_its_own_files(world) {
        let work = world.workspace();
        repository(world, &work);
        let script = "\
set -e
export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.com GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@example.com
git init -q -b main made; cd made; ln -s nowhere link; git add .; git commit -qm first; git config core.symlinks || echo unset; cd ..
git clone -q --local made taken; test -L taken/link
git checkout -q -b side; git commit -q --allow-empty -m second; git branch -m side late; git gc -q --prune=now; git stash list
git remote | wc -l; git fetch -q ./made; git rebase -q main; git reflog late | wc -l";
        let outcome = world.shell(&[], script);
        let lines: Vec<String> = outcome.text().lines().map(str::to_owned).collect();
        assert_eq!((outcome.code(), lines.first().map(String::as_str)), (Some(0), Some("unset")), "{outcome:?}");
        let mut fsck = world.command(Path::new("git"));
        fsck.current_dir(&work).args(["fsck", "--strict"]);
        assert!(finish(fsck, b"").status.success());
    }
}

attack! {
    /// Git makes a repository's directory twice, and what a session does first can fall into the tick of the clock in which it began.
    fn a_repository_begins_in_another_however_soon(world) {
        let work = world.workspace();
        repository(world, &work);
        let script = "mkdir near && : > near/file && mkdir near/.git && ! mkdir near/.git/ && ! mkdir .git/hooks";
        for _ in 0..12 {
            let outcome = world.shell(&[], script);
            let said: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("mkdir:")).collect();
            assert!(said.len() == 2 && said.iter().all(|line| line.ends_with("File exists")), "{outcome:?}");
            assert_eq!(outcome.code(), Some(0), "{outcome:?}");
            fs::remove_dir_all(work.join("near")).unwrap();
        }
    }
}
