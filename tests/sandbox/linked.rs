//! Linked worktrees and submodules that a harness makes: git's work comes about, and nothing that ties git's directories
//! together says what the harness would have it say.

use crate::protected::{git, repository};
use crate::support::{World, finish};
use serde_json::json;
use std::fs;
use std::path::Path;

const AUTHOR: &str =
    "export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.com GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@example.com";
/// A setting that has git run a program whenever somebody looks at the repository.
const EVIL: &str = "[core]\\n\\tfsmonitor = touch ran; false\\n";

/// What git says outside.
fn told(world: &World, place: &Path, words: &[&str]) -> String {
    let mut command = world.command(Path::new("git"));
    command.current_dir(place).args(words);
    let outcome = finish(command, b"");
    outcome.text() + &outcome.stderr
}

attack! {
    fn linked_worktrees_are_added_worked_in_and_removed(world) {
        let work = world.workspace();
        repository(world, &work);
        let script = format!("\
set -e
{AUTHOR}
git worktree add -q trees/side -b side; cd trees/side; echo two > file; git add .; git commit -qm second; git status -sb; cd ../..
git worktree add -q --detach trees/gone; git worktree remove trees/gone; git worktree prune
git worktree add -q trees/gone -b late; git worktree remove trees/gone
git worktree add -q trees/there -b there; git worktree move trees/there trees/here; git -C trees/here status -sb; git worktree remove trees/here
git worktree move trees/side trees/moved; git worktree prune; git worktree move trees/moved trees/side; git worktree list --porcelain | grep -c ^worktree");
        let outcome = world.shell(&[], &script);
        assert_eq!((outcome.code(), outcome.text()), (Some(0), "## side\n## there\n2\n".to_owned()), "{outcome:?}");
        assert!(told(world, &work.join("trees/side"), &["log", "--format=%s"]).starts_with("second\n"));
        assert_eq!(told(world, &work, &["worktree", "list"]).lines().count(), 2);
        let read = |path: &str| fs::read_to_string(work.join(path)).unwrap();
        assert_eq!(read("trees/side/.git"), format!("gitdir: {}/.git/worktrees/side\n", work.display()));
        assert_eq!(read(".git/worktrees/side/gitdir"), format!("{}/trees/side/.git\n", work.display()));
        assert_eq!(read(".git/worktrees/side/commondir"), "../..\n");
        assert!(!work.join(".git/worktrees/gone").exists());
        // It is the host's in the next session: worked in, and neither changed nor removed.
        let next = format!("{AUTHOR}; cd trees/side && git commit -q --allow-empty -m third && git log --format=%s -1; cd ../..; git worktree remove --force trees/side 2>/dev/null || echo kept");
        let outcome = world.shell(&[], &next);
        assert_eq!(outcome.text(), "third\nkept\n", "{outcome:?}");
        assert_eq!(read(".git/worktrees/side/commondir"), "../..\n");
    }
}

attack! {
    fn submodules_are_added_and_brought_in(world) {
        let (work, up) = (world.workspace(), world.workspace().join("up"));
        repository(world, &work);
        repository(world, &up);
        let add = format!("\
set -e
{AUTHOR}
git -c protocol.file.allow=always submodule --quiet add \"$PWD/up\" libs/sub
git commit -qm 'with a submodule' -- .gitmodules libs/sub; cd libs/sub; echo two > file; git add .; git commit -qm second; git log --format=%s -1");
        let outcome = world.shell(&[], &add);
        assert_eq!((outcome.code(), outcome.text()), (Some(0), "second\n".to_owned()), "{outcome:?}");
        assert_eq!(fs::read_to_string(work.join("libs/sub/.git")).unwrap(), "gitdir: ../../.git/modules/libs/sub\n");
        assert!(told(world, &work.join("libs/sub"), &["log", "--format=%s"]).starts_with("second\n"));
        assert!(told(world, &work, &["submodule", "status"]).contains("libs/sub"));
        assert_eq!(told(world, &work, &["config", "submodule.libs/sub.active"]), "true\n");
        // One that is known and not there yet.
        let clone = world.workspace().join("clone");
        git(world, &work, &["clone", "-q", work.to_str().unwrap(), clone.to_str().unwrap()]);
        let update = "cd clone && git -c protocol.file.allow=always submodule --quiet update --init && git -C libs/sub rev-parse HEAD";
        let outcome = world.shell(&[], update);
        let expected = told(world, &up, &["rev-parse", "HEAD"]);
        assert_eq!((outcome.code(), outcome.text()), (Some(0), expected), "{outcome:?}");
        assert!(told(world, &clone, &["submodule", "status"]).starts_with(' '));
    }
}

attack! {
    /// Of all that ties git's directories together nothing is the harness's word, and nothing of it goes elsewhere.
    fn no_worktree_and_no_submodule_leads_to_settings_of_the_harnesss(world) {
        let work = world.workspace();
        repository(world, &work);
        git(world, &work, &["worktree", "add", "-q", "hosts", "-b", "hosts"]);
        fs::create_dir(work.join("full")).unwrap();
        world.give(&work.join("full"));
        world.write(&work.join("full/kept"), "x");
        let code = format!("\
for place in ('evil', 'evil/hooks', 'evil/a', 'evil/objects', 'evil/refs', 'new', 'sub', '.git/worktrees/mine', '.git/modules', '.git/modules/none'):
    os.mkdir(place)
open('evil/config', 'w').write('{EVIL}')
open('evil/hooks/post-checkout', 'w').write('#!/bin/sh\\ntouch ran\\n'); os.chmod('evil/hooks/post-checkout', 0o755)
open('evil/link', 'w').write('gitdir: ../evil\\n'); open('evil/common', 'w').write('../../../evil\\n')
def says(path, text):
    open(path, 'w').write(text)
    open(path, 'a').write(text)
    return open(path).read()
def renamed(place, text):
    lock = os.open(place + '/config.lock', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(lock, text.encode())
    try: os.rename(place + '/config.lock', place + '/config')
    finally:
        if os.path.exists(place + '/config.lock'): os.remove(place + '/config.lock')
mine, none, own = '.git/worktrees/mine', '.git/modules/none', '.git/modules/own'
refused = [
    lambda: os.rename('.git/worktrees/hosts', 'evil/a/b'),
    lambda: os.rename('.git/worktrees', 'evil/a/b'),
    lambda: os.rename('.git/modules', 'evil/a/b'),
    lambda: os.rename('evil/a', '.git/worktrees/a'),
    lambda: os.symlink('../../evil', '.git/worktrees/a'),
    lambda: os.rename('evil/link', 'new/.git'),
    lambda: os.link('evil/link', 'new/.git'),
    lambda: os.symlink('../evil', 'new/.git'),
    lambda: open('full/.git', 'w'),
    lambda: open('hosts/.git', 'w'),
    lambda: open('.git/worktrees/hosts/commondir', 'w'),
    lambda: open('.git/worktrees/hosts/gitdir', 'w'),
    lambda: os.remove('.git/worktrees/hosts/commondir'),
    lambda: open(mine + '/config.worktree', 'w'),
    lambda: open(mine + '/config', 'w'),
    lambda: os.mkdir(mine + '/hooks'),
    lambda: os.rename('evil/common', mine + '/commondir'),
    lambda: os.link('evil/common', mine + '/commondir'),
    lambda: os.rename(mine, 'evil/a/b'),
    lambda: open(none + '/config', 'w'),
    lambda: os.mkdir(none + '/hooks'),
    lambda: open(none + '/commondir', 'w'),
    lambda: (os.mkdir(none + '/objects'), os.mkdir(none + '/refs'), open(none + '/HEAD', 'w')),
]
found = [attempt(way) for way in refused]
# What may be made says what the gate says, also to whoever wrote it.
said = [says(mine + '/commondir', '../../../evil\\n'), says(mine + '/gitdir', 'x'), says('new/.git', 'gitdir: ../evil\\n'), says('sub/.git', 'gitdir: ../evil\\n')]
os.mkdir(own)
more = [
    lambda: open(own + '/config', 'w'),
    lambda: renamed(own, '{EVIL}'),
    lambda: renamed(own, '[core]\\n\\tworktree = /\\n'),
    lambda: renamed(own, '[include]\\n\\tpath = ../../../evil/config\\n'),
    lambda: os.mkdir(own + '/info') or open(own + '/info/attributes', 'w'),
    lambda: os.mkdir(own + '/hooks') or open(own + '/hooks/post-checkout', 'w'),
    lambda: os.rename('evil/hooks', own + '/hooks'),
    lambda: open(own + '/commondir', 'w'),
    lambda: os.rename(own, 'evil/a/b'),
    lambda: os.rename('sub/.git', 'evil/.git'),
    lambda: os.link('sub/.git', 'evil/.git'),
]
found += [attempt(way) for way in more]
said.append(open('sub/.git').read())
os.makedirs('young/inner/.git/modules'); os.mkdir('young/beside'); open('young/beside/.git', 'w').write('x'); os.mkdir('young/inner/.git/modules/m')
said.append(open('young/beside/.git').read())
for piece in ('objects', 'refs'): os.mkdir(own + '/' + piece)
open(own + '/HEAD', 'w').write('ref: refs/heads/main\\n'); open(mine + '/HEAD', 'w').write('ref: refs/heads/main\\n')
renamed(own, '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = ../../../sub\\n')
say([found, said])");
        let found = world.probe(&code, &[]);
        let odd: Vec<_> = found[0].as_array().unwrap().iter().enumerate().filter(|(_, way)| **way != json!("EACCES")).collect();
        assert!(odd.is_empty(), "{odd:?} of {found}");
        let own = work.display();
        let said = [
            "../..\n".to_owned(),
            String::new(),
            format!("gitdir: {own}/.git/worktrees/mine\n"),
            String::new(),
            "gitdir: ../.git/modules/own\n".to_owned(),
            // Its way would lead out of the workspace once the inner repository was moved up.
            String::new(),
        ];
        assert_eq!(found[1], json!(said));
        assert_eq!(fs::read_to_string(work.join(".git/worktrees/mine/gitdir")).unwrap(), format!("{own}/new/.git\n"));
        assert!(told(world, &work.join("sub"), &["rev-parse", "--show-toplevel"]).starts_with(&format!("{own}/sub\n")), "the control");
        for place in ["", "new", "sub", "hosts", "evil", "evil/a"] {
            told(world, &work.join(place), &["status", "--short"]);
            told(world, &work.join(place), &["checkout", "-q", "--", "."]);
            assert!(!work.join(place).join("ran").exists(), "{place}");
        }
        // The control: what the harness would have had these files say.
        world.write(&work.join("evil/HEAD"), "ref: refs/heads/main\n");
        world.write(&work.join("new/.git"), "gitdir: ../evil\n");
        told(world, &work.join("new"), &["status", "--short"]);
        assert!(work.join("new/ran").exists());
    }
}

attack! {
    /// Without a repository around it there is nothing to be a part of.
    fn cannot_begin_a_worktree_where_there_is_no_repository(world) {
        let code = "os.mkdir('x'); say([attempt(lambda: open('x/.git', 'w')), attempt(lambda: os.mkdir('x/.git'))])";
        assert_eq!(world.probe(code, &[]), json!(["EACCES", "ok"]));
    }
}
