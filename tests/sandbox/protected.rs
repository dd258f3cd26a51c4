//! Leaving something on the host that runs there later: what no harness may write, move or remove.

use crate::support::{World, finish};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What would run on the host, where it is absent in a fresh repository.
const ABSENT: [&str; 12] = [
    ".git/hooks/pre-commit",
    ".envrc",
    ".mcp.json",
    ".vscode/tasks.json",
    ".claude/settings.json",
    ".husky/pre-commit",
    ".bashrc",
    ".config/systemd/user/x.service",
    ".config/autostart/x.desktop",
    "sub/dir/.envrc",
    ".idea/workspace.xml",
    ".devcontainer/devcontainer.json",
];

/// Writes each path it is given, making the directories above it where it may.
const WRITE: &str = "\
def write(path):
    try: os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        if error.errno != errno.EACCES: raise
    with open(path, 'a') as file: file.write('evil\\n')
say([attempt(lambda: write(path)) for path in arguments])";

pub fn git(world: &World, directory: &Path, words: &[&str]) {
    let mut command = world.command(Path::new("git"));
    let author = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"];
    command.current_dir(directory).args(author).args(words);
    let outcome = finish(command, b"");
    assert!(outcome.status.success(), "{words:?}: {outcome:?}");
}

/// A repository of the user's with one commit.
pub fn repository(world: &World, place: &Path) {
    if !place.exists() {
        fs::create_dir(place).unwrap();
        world.give(place);
    }
    git(world, place, &["init", "-q", "-b", "main"]);
    world.write(&place.join("file"), "one\n");
    git(world, place, &["add", "."]);
    git(world, place, &["commit", "-qm", "first"]);
}

/// Every path below a directory with what a file holds, so that anything new or changed is seen. What git keeps of its own
/// is left out, but for hooks and settings.
pub fn everything(directory: &Path) -> Vec<(PathBuf, Option<String>)> {
    let mut found = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(place) = ahead.pop() {
        for entry in fs::read_dir(&place).unwrap().map(|entry| entry.unwrap()) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let below = path.strip_prefix(directory).unwrap().to_owned();
            let own = below
                .components()
                .any(|part| ["objects", "refs", "logs", "index"].iter().any(|own| part.as_os_str() == *own));
            if own {
                continue;
            }
            let contents = kind.is_file().then(|| String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
            found.push((below, contents));
            if kind.is_dir() {
                ahead.push(path);
            }
        }
    }
    found.sort();
    found
}

fn words(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

fn strings(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn refused(world: &World) -> Vec<Value> {
    let events = world.list(&["audit", "log", "--session", "last"]);
    events.into_iter().filter(|event| event["event"] == "file_refused").collect()
}

attack! {
    fn cannot_create_what_would_run_on_the_host(world) {
        repository(world, &world.workspace());
        let elsewhere = world.place().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        world.give(&elsewhere);
        let outside = words(&ABSENT.map(|name| elsewhere.join(name)));
        assert_eq!(world.probe_outside(WRITE, &strings(&outside)), crate::support::each("ok", ABSENT.len()));
        let before = everything(&world.workspace());
        let inside = words(&ABSENT.map(|name| world.workspace().join(name)));
        let refusals = world.probe(WRITE, &strings(&inside));
        assert!(refusals.as_array().unwrap().iter().all(|outcome| outcome == "EACCES" || outcome == "ENOENT"), "{refusals}");
        let grown = everything(&world.workspace());
        let files = |all: &[(PathBuf, Option<String>)]| all.iter().filter(|(_, contents)| contents.is_some()).cloned().collect::<Vec<_>>();
        assert_eq!(files(&grown), files(&before), "no file was left behind");
        let told = refused(world);
        let hook = world.workspace().join(".git/hooks/pre-commit").display().to_string();
        assert!(told.iter().any(|event| event["path"] == json!(hook) && event["rule"] == ".git/hooks"), "{told:?}");
    }
}

attack! {
    /// What is there keeps its bytes, its name and its permissions, whatever is tried.
    fn cannot_change_move_or_remove_what_runs_on_the_host(world) {
        repository(world, &world.workspace());
        let hook = world.workspace().join(".git/hooks/pre-push");
        world.write(&hook, "#!/bin/sh\n");
        world.write(&world.workspace().join(".claude/settings.json"), "{}\n");
        world.write(&world.workspace().join("spare/settings.json"), "{\"evil\":1}\n");
        let before = everything(&world.workspace());
        let code = "\
def named(fd, name): os.link('/proc/self/fd/%d' % fd, name, src_dir_fd=os.open('.', os.O_RDONLY), follow_symlinks=True)
ways = [
    lambda: open('.git/config', 'a'),
    lambda: os.truncate('.git/config', 0),
    lambda: os.remove('.git/config'),
    lambda: os.rename('.git/config', 'x'),
    lambda: os.rename('spare/settings.json', '.claude/settings.json'),
    lambda: os.rename('.git', 'x'),
    lambda: os.rename('.git/hooks', 'x'),
    lambda: os.rename('.claude', 'x'),
    lambda: os.link('.git/hooks/pre-push', 'x'),
    lambda: os.link('file', '.mcp.json'),
    lambda: os.symlink('spare', '.vscode'),
    lambda: os.chmod('.git/hooks/pre-push', 0o755),
    lambda: os.fchmod(os.open('.git/hooks/pre-push', os.O_RDONLY), 0o755),
    lambda: os.setxattr('.git/config', 'user.x', b'x'),
    lambda: named(os.open('.git/hooks', os.O_TMPFILE | os.O_WRONLY), '.git/hooks/x'),
    lambda: os.mknod('.git/hooks/x'),
    lambda: open('/proc/self/fd/%d' % os.open('.git/config', os.O_RDONLY), 'w'),
    lambda: open('.git/../.git/./config', 'w'),
    lambda: open(os.path.join('/proc/self/cwd', '.git/config'), 'w'),
]
if arguments: os.chdir(arguments[0])
say([attempt(way) for way in ways])";
        let found = world.probe(code, &[]);
        let outcomes = found.as_array().unwrap();
        assert!(outcomes.iter().all(|outcome| outcome == "EACCES"), "{found}");
        assert_eq!(everything(&world.workspace()), before);
        assert_eq!(hook.metadata().unwrap().mode() & 0o777, 0o644);
        let copy = world.place().join("copy");
        let mut command = world.command(Path::new("cp"));
        command.arg("-a").arg(world.workspace()).arg(&copy);
        assert!(finish(command, b"").status.success());
        let outside = world.probe_outside(code, &[copy.to_str().unwrap()]);
        assert!(outside.as_array().unwrap()[..3].iter().all(|outcome| outcome == "ok"), "{outside}");
        assert!(!copy.join(".git").exists() && copy.join(".mcp.json").exists(), "outside, it can be done");
    }
}

attack! {
    fn cannot_reach_a_protected_file_through_links_or_other_directories(world) {
        repository(world, &world.workspace());
        symlink(".git/config", world.workspace().join("innocent")).unwrap();
        symlink(".git/hooks", world.workspace().join("directory")).unwrap();
        let before = everything(&world.workspace());
        let code = "\
os.symlink(os.path.join(os.getcwd(), '.git/config'), '/tmp/link')
os.symlink('.git', 'made')
hooks = os.open('.git/hooks', os.O_RDONLY)
def from_hooks():
    os.chdir('.git/hooks')
    try: open('x', 'w')
    finally: os.chdir('../..')
ways = [
    lambda: open('innocent', 'a'),
    lambda: open('directory/x', 'w'),
    lambda: open('/tmp/link', 'a'),
    lambda: open('made/config', 'a'),
    lambda: os.open('x', os.O_CREAT | os.O_WRONLY, dir_fd=hooks),
    from_hooks,
    lambda: os.truncate('innocent', 0),
    lambda: os.chmod('innocent', 0o777),
]
say([attempt(way) for way in ways])
os.remove('made')";
        assert_eq!(world.probe(code, &[]), crate::support::each("EACCES", 8));
        assert_eq!(everything(&world.workspace()), before);
    }
}

attack! {
    /// File systems that fold case have other spellings of a name; they are refused everywhere.
    fn cannot_use_another_spelling(world) {
        repository(world, &world.workspace());
        let names = [".GIT", ".git\u{200c}", ".Envrc", ".MCP.json", ".g\u{ad}it", "git~1", ".hu\u{17f}ky"];
        let code = "say([attempt(lambda: os.mkdir(name)) for name in arguments])";
        assert_eq!(world.probe(code, &names), crate::support::each("EACCES", names.len()));
        assert!(names.iter().all(|name| !world.workspace().join(name).exists()));
        assert_eq!(world.probe(code, &["ordinary"]), json!(["ok"]));
    }
}

attack! {
    fn nested_repositories_submodules_and_bare_ones_are_protected_too(world) {
        let upstream = world.place().join("upstream");
        repository(world, &upstream);
        repository(world, &world.workspace());
        git(world, &world.workspace(), &["submodule", "--quiet", "add", upstream.to_str().unwrap(), "sub"]);
        repository(world, &world.workspace().join("nested"));
        git(world, &world.workspace(), &["clone", "-q", "--bare", upstream.to_str().unwrap(), "bare"]);
        let before = everything(&world.workspace());
        let targets = [
            "nested/.git/hooks/post-checkout",
            "nested/.git/config",
            ".git/modules/sub/hooks/post-checkout",
            ".git/modules/sub/config",
            "bare/hooks/update",
            "bare/config",
            "sub/.git",
        ];
        let inside: Vec<_> = targets.iter().map(|name| world.workspace().join(name)).collect();
        let found = world.probe(WRITE, &strings(&words(&inside)));
        assert_eq!(found, crate::support::each("EACCES", targets.len()));
        assert_eq!(everything(&world.workspace()), before);
        assert_eq!(world.probe(WRITE, &strings(&words(&[world.workspace().join("config"), world.workspace().join("hooks/x")]))), json!(["ok", "ok"]));
    }
}

attack! {
    /// The repository that a worktree belongs to lies outside of the workspace: it is given, and guarded likewise.
    fn a_linked_worktree_commits_and_cannot_touch_its_repositorys_hooks(world) {
        let main = world.place().join("main");
        repository(world, &main);
        fs::remove_dir(world.workspace()).unwrap();
        git(world, &main, &["worktree", "add", "-q", world.workspace().to_str().unwrap()]);
        let before = everything(&main.join(".git/hooks"));
        let script = "git -c user.name=T -c user.email=t@example.com commit -q --allow-empty -m inside";
        let outcome = world.shell(&[], script);
        assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        let targets = ["hooks/post-commit", "config", "worktrees/work/config.worktree", "worktrees/work/commondir"];
        let targets: Vec<_> = targets.iter().map(|name| main.join(".git").join(name)).collect();
        assert_eq!(world.probe(WRITE, &strings(&words(&targets))), crate::support::each("EACCES", 4));
        assert_eq!(everything(&main.join(".git/hooks")), before);
        let mut log = world.command(Path::new("git"));
        log.args(["log", "--format=%s", "-1"]);
        assert_eq!(finish(log, b"").text(), "inside\n");
    }
}

attack! {
    /// Its settings would be git's for whoever enters the directory.
    fn cannot_turn_a_directory_into_a_repository(world) {
        let code = "\
os.makedirs('x/objects'); os.makedirs('x/refs'); os.makedirs('x/hooks')
open('x/config', 'w').write('[core]\\nfsmonitor = evil\\n')
ways = [
    lambda: open('x/HEAD', 'w'),
    lambda: os.symlink('refs/heads/main', 'x/HEAD'),
    lambda: os.rename('x/config', 'x/HEAD'),
    lambda: os.link('x/config', 'x/HEAD'),
    lambda: open('.git', 'w'),
    lambda: os.symlink('x', '.git'),
    lambda: os.rename('x', '.git'),
]
say([attempt(way) for way in ways])";
        assert_eq!(world.probe(code, &[]), crate::support::each("EACCES", 7));
        assert!(world.workspace().join("x/config").exists(), "the control was written");
        assert!(!world.workspace().join("x/HEAD").exists() && !world.workspace().join(".git").exists());
    }
}

attack! {
    fn work_in_a_repository_goes_on_as_outside(world) {
        repository(world, &world.workspace());
        let script = "\
set -e
export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.com GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@example.com
echo two >> file; git add file; git commit -qm second
git checkout -q -b side; echo three > other; git add other; git commit -qm third
echo four >> file; git stash -q; git stash pop -q; git commit -qam fourth
git checkout -q main; git merge -q side; git branch -d side -q
git checkout -q -b late HEAD~1; echo five > late; git add late; git commit -qm fifth; git rebase -q main
git tag v1; git gc -q; git reset -q --hard; git worktree prune
git status --short; git log --oneline | wc -l; git fsck --no-dangling 2>&1";
        let outcome = world.shell(&[], script);
        assert_eq!((outcome.code(), outcome.text().trim()), (Some(0), "5"), "{outcome:?}");
        let mut log = world.command(Path::new("git"));
        log.args(["log", "--format=%s", "late", "--"]);
        let log = finish(log, b"");
        assert_eq!(log.text(), "fifth\nfourth\nthird\nsecond\nfirst\n", "{log:?}");
    }
}

attack! {
    /// What the gate does for the harness comes out as if the kernel had done it.
    fn files_come_out_as_the_kernel_would_have_made_them(world) {
        let code = "\
if arguments: os.chdir(arguments[0])
import fcntl, stat, tempfile
out = []
os.umask(0o027)
os.close(os.open('a', os.O_CREAT | os.O_WRONLY, 0o777)); out.append(oct(os.stat('a').st_mode))
os.mkdir('d', 0o777); out.append(oct(os.stat('d').st_mode))
os.mkfifo('p', 0o666); out.append(oct(os.stat('p').st_mode))
import threading
for number, mask in enumerate([0o077, 0o022, 0, 0o027]):
    other = threading.Thread(target=os.umask, args=(mask,)); other.start(); other.join()
    os.close(os.open(f'm{number}', os.O_CREAT | os.O_WRONLY, 0o777)); out.append(oct(os.stat(f'm{number}').st_mode))
out.append(os.stat('a').st_uid == os.getuid() and os.stat('a').st_gid == os.getgid())
fd = os.open('a', os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
out.append([fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK), fcntl.fcntl(fd, fcntl.F_GETFD)])
out.append(os.get_inheritable(os.open('a', os.O_WRONLY)))
os.symlink('new', 'dangling')
os.symlink('loop', 'loop')
out += [attempt(way) for way in [
    lambda: os.open('a', os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    lambda: os.open('dangling', os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    lambda: os.open('dangling', os.O_WRONLY | os.O_NOFOLLOW),
    lambda: os.open('dangling', os.O_WRONLY),
    lambda: os.open('dangling', os.O_CREAT | os.O_WRONLY),
    lambda: os.open('loop', os.O_WRONLY),
    lambda: os.open('d', os.O_WRONLY),
    lambda: os.open('d/', os.O_CREAT | os.O_WRONLY),
    lambda: os.open('a/x', os.O_CREAT | os.O_WRONLY),
    lambda: os.open('nowhere/x', os.O_CREAT | os.O_WRONLY),
    lambda: os.open('', os.O_WRONLY),
    lambda: os.open('x' * 300, os.O_CREAT | os.O_WRONLY),
    lambda: os.open('p', os.O_WRONLY | os.O_NONBLOCK),
    lambda: os.mkdir('d'), lambda: os.mkdir('.'), lambda: os.mkdir('d/..'),
    lambda: os.rmdir('d/.'), lambda: os.rmdir('a'), lambda: os.unlink('d'), lambda: os.unlink('a/'),
    lambda: os.rename('d', 'd/e'), lambda: os.rename('nowhere', 'x'), lambda: os.rename('a', 'd'),
    lambda: os.link('nowhere', 'x'), lambda: os.link('d', 'x'), lambda: os.symlink('x', 'a'),
    lambda: os.truncate('d', 0), lambda: os.truncate('a', 10), lambda: os.truncate('p', 0),
    lambda: os.chmod('nowhere', 0), lambda: os.chmod('a', 0o640), lambda: os.fchmod(99, 0),
    lambda: os.open('x', os.O_CREAT | os.O_WRONLY, dir_fd=99),
    lambda: os.open('x', os.O_CREAT | os.O_WRONLY, dir_fd=fd),
    lambda: os.setxattr('a', 'user.k', b'v'), lambda: os.removexattr('a', 'user.k'), lambda: os.removexattr('a', 'user.k'),
    lambda: os.chown('a', -1, -1), lambda: os.mknod('n', 0o600),
]]
tempfile.TemporaryFile(dir='.').close()
nameless = os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o640)
os.write(nameless, b'nameless')
os.link('/proc/self/fd/%d' % nameless, 'named', src_dir_fd=os.open('.', os.O_RDONLY), follow_symlinks=True)
out += [open('named').read(), os.path.getsize('a'), sorted(os.listdir('.'))]
say(out)";
        let outside = world.place().join("outside");
        fs::create_dir(&outside).unwrap();
        world.give(&outside);
        let expected = world.probe_outside(code, &[outside.to_str().unwrap()]);
        let found = world.probe(code, &[]);
        assert_eq!(found, expected);
    }
}

attack! {
    /// Process 1 does not wait with whoever opens it.
    fn a_named_pipe_waits_for_its_reader_and_holds_nobody_up(world) {
        let code = "\
os.mkfifo('p')
writer = os.fork()
if writer == 0:
    with open('p', 'w') as pipe: pipe.write('through')
    os._exit(0)
for number in range(50): open('f%d' % number, 'w').close()
text = open('p').read()
os.waitpid(writer, 0)
killed = os.fork()
if killed == 0: open('p', 'w')
os.kill(killed, signal.SIGKILL)
os.waitpid(killed, 0)
open('after', 'w').close()
say(text)";
        assert_eq!(world.probe(code, &[]), "through");
        assert!(world.workspace().join("f49").exists() && world.workspace().join("after").exists());
    }
}

attack! {
    /// A harness that dies in the middle of a question leaves nothing behind and holds nobody up.
    fn a_harness_that_is_killed_while_it_asks_wedges_nothing(world) {
        let code = "\
import signal
for _ in range(30):
    child = os.fork()
    if child == 0:
        while True:
            try: os.close(os.open('.git/hooks/x', os.O_CREAT | os.O_WRONLY))
            except OSError: pass
            os.close(os.open('churn', os.O_CREAT | os.O_WRONLY)); os.unlink('churn') if os.path.exists('churn') else None
    for _ in range(20): os.stat('.')
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
open('after', 'w').close()
say('done')";
        repository(world, &world.workspace());
        assert_eq!(world.probe(code, &[]), "done");
        assert!(world.workspace().join("after").exists());
        assert!(!world.workspace().join(".git/hooks/x").exists());
    }
}

attack! {
    fn a_profile_adds_to_the_list_and_cannot_take_from_it(world) {
        let file = world.place().join("strict.yaml");
        let profile = "name: strict\nfilesystem: { workspace: direct, protect: [deploy/keys, '*.lock'] }\n";
        world.write(&file, profile);
        world.write(&world.workspace().join("deploy/readme"), "");
        let names = ["deploy/keys", "a.lock", "deploy/other", ".envrc"];
        let targets: Vec<_> = names.iter().map(|name| world.workspace().join(name)).collect();
        let found = world.probe_with(&["--profile", file.to_str().unwrap()], WRITE, &strings(&words(&targets)));
        assert_eq!(found, json!(["EACCES", "EACCES", "ok", "EACCES"]));
        world.write(&file, "name: lax\nfilesystem: { workspace: direct, protect: [../x] }\n");
        let outcome = finish(world.exec(&["--profile", file.to_str().unwrap()], &["true"]), b"");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("../x"), "{outcome:?}");
    }
}

attack! {
    /// The list is there to be seen before anything runs.
    fn the_list_is_part_of_what_a_dry_run_shows(world) {
        let outcome = finish(world.exec(&["--dry-run"], &["true"]), b"");
        let text = outcome.text();
        assert!(text.contains("write gate: but for protected names, write also below"), "{text}");
        assert!(text.contains("\nprotect .git/hooks: git runs hooks by itself\n"), "{text}");
    }
}

attack! {
    /// Granted directories outside of the workspace are places of the host too.
    fn a_granted_directory_is_protected_like_the_workspace(world) {
        let place = world.home().join(".claude");
        world.write(&place.join("history"), "");
        let file = world.place().join("agent.yaml");
        world.write(&file, "name: agent\nfilesystem: { workspace: direct, write: [~/.claude] }\n");
        let names = ["settings.local.json", "hooks/evil", "projects/a/b.jsonl"];
        let targets: Vec<_> = names.iter().map(|name| place.join(name)).collect();
        let found = world.probe_with(&["--profile", file.to_str().unwrap()], WRITE, &strings(&words(&targets)));
        assert_eq!(found, json!(["EACCES", "ENOENT", "ok"]), "the directory of the second could not be made");
        assert!(place.join("projects/a/b.jsonl").exists() && !place.join("hooks").exists());
    }
}

/// How many calls the start makes that read directories. The process that looks for secrets while the harness runs is left
/// out, which is as far as the harness lives; it alone enters namespaces (setns(2)).
fn directory_reads(world: &World) -> usize {
    let trace = world.place().join("trace");
    let mut command = world.command(Path::new("strace"));
    command.args(["-f", "-qq", "-e", "trace=getdents64,setns", "-o"]).arg(&trace);
    command.arg(world.binary()).args(["exec", "--", "true"]);
    let outcome = finish(command, b"");
    assert!(outcome.status.success(), "{outcome:?}");
    let text = fs::read_to_string(&trace).unwrap();
    let calls: Vec<_> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let entered: Vec<_> =
        calls.iter().filter(|(_, call)| call.contains("setns(")).map(|(process, _)| process).collect();
    calls.iter().filter(|(process, call)| call.contains("getdents64(") && !entered.contains(&process)).count()
}

attack! {
    fn a_start_costs_the_same_whatever_the_size_of_the_tree(world) {
        if Command::new("strace").arg("-V").output().is_err() {
            assert!(std::env::var("OMNI_REQUIRE_SANDBOX").is_err(), "strace is missing");
            return;
        }
        let empty = directory_reads(world);
        for outer in 0..40 {
            for inner in 0..40 {
                world.write(&world.workspace().join(format!("d{outer}/e{inner}/f")), "");
            }
        }
        let full = directory_reads(world);
        for outer in 40..80 {
            for inner in 0..80 {
                world.write(&world.workspace().join(format!("d{outer}/e{inner}/f")), "");
            }
        }
        let fuller = directory_reads(world);
        assert!(full >= empty && fuller <= full + 8, "{empty} {full} {fuller}");
    }
}

attack! {
    /// Careful programs make files below a directory that they hold open, through `/proc/self/fd`: there too they may do
    /// what they may, in the workspace and beside it, and nothing else.
    fn works_below_a_directory_that_is_held_open_and_is_judged_there_too(world) {
        repository(world, &world.workspace());
        let code = "\
os.mkdir('/tmp/own')
hold = lambda path: os.open(path, os.O_PATH | os.O_DIRECTORY)
below = lambda fd, name: '/proc/self/fd/%d/%s' % (fd, name)
here, own, git = hold('.'), hold('/tmp/own'), hold('.git')
ways = [
    lambda: os.mkdir(below(own, 'made')),
    lambda: open(below(own, 'made/file'), 'x'),
    lambda: os.mkdir(below(here, 'made')),
    lambda: open(below(here, 'made/file'), 'x').write('through'),
    lambda: open('/proc/self/cwd/other', 'x'),
    lambda: os.rename(below(here, 'other'), '/dev/fd/%d/made/other' % here),
    lambda: open(below(git, 'config'), 'a'),
    lambda: os.mkdir(below(here, '.vscode')),
    lambda: open('/proc/%d/cwd/beside' % os.getpid(), 'x'),
]
say([attempt(way) for way in ways])";
        let expected = json!(["ok", "ok", "ok", "ok", "ok", "ok", "EACCES", "EACCES", "EACCES"]);
        assert_eq!(world.probe(code, &[]), expected);
        assert_eq!(fs::read_to_string(world.workspace().join("made/file")).unwrap(), "through");
        assert!(world.workspace().join("made/other").exists());
        assert!(!world.workspace().join(".vscode").exists());
    }
}

attack! {
    fn hooks_and_settings_that_the_repositorys_own_settings_name_are_protected(world) {
        let place = world.workspace();
        repository(world, &place);
        let script = "#!/bin/sh\n";
        for name in ["scripts/git/pre-commit", "src/git/mine", "more.inc"] {
            let path = place.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            world.give(path.parent().unwrap());
            world.write(&path, script);
        }
        let paths = ["scripts/git/pre-commit", "scripts/git/post-merge", "more.inc", "src/git/mine"];
        let paths = paths.map(|name| place.join(name).display().to_string());
        let arguments: Vec<&str> = paths.iter().map(String::as_str).collect();
        git(world, &place, &["config", "core.hooksPath", "scripts/git"]);
        git(world, &place, &["config", "include.path", "../more.inc"]);
        assert_eq!(world.probe(WRITE, &arguments), json!(["EACCES", "EACCES", "EACCES", "ok"]));
        assert_eq!(fs::read_to_string(place.join("scripts/git/pre-commit")).unwrap(), script);
        assert!(!place.join("scripts/git/post-merge").exists());
        // Where no setting names them, they are files like any others.
        git(world, &place, &["config", "--unset", "core.hooksPath"]);
        git(world, &place, &["config", "--unset", "include.path"]);
        assert_eq!(world.probe(WRITE, &arguments), json!(["ok", "ok", "ok", "ok"]));
    }
}

attack! {
    /// A file that is opened so that it is emptied, and not for writing, is none that Landlock knows to be written.
    fn cannot_empty_a_protected_file_by_changing_its_path_while_that_is_looked_at(world) {
        let kept = world.workspace().join(".envrc");
        world.write(&kept, "kept\n");
        let code = "\
import mmap
shared = mmap.mmap(-1, 4096)
path = (ctypes.c_char * 7).from_buffer(shared)
open('/tmp/f', 'w').close()
other = os.fork()
if other == 0:
    while True:
        shared[0:6] = b'/tmp/f'
        shared[0:6] = b'.envrc'
found = {}
for turn in range(4000):
    for access in (os.O_RDONLY, 3):
        file = libc.open(path, access | os.O_TRUNC)
        outcome = name(ctypes.get_errno()) if file < 0 else 'ok'
        found[outcome] = found.get(outcome, 0) + 1
        if file >= 0: os.close(file)
os.kill(other, signal.SIGKILL)
say(found)";
        let found = world.probe(code, &[]);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept\n", "{found}");
        assert!(["ok", "EACCES"].iter().all(|outcome| found[outcome].as_u64() > Some(0)), "{found}");
        let emptied = "os.close(os.open('.envrc', os.O_RDONLY | os.O_TRUNC)); say(os.path.getsize('.envrc'))";
        assert_eq!(world.probe_outside(emptied, &[]), serde_json::json!(0), "the control");
    }
}
