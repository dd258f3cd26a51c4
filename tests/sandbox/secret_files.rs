//! Reading what looks like a secret in the workspace.

use crate::support::{World, finish};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::Path;

const SECRETS: [&str; 7] = [
    ".env",
    "api/.env.local",
    "certs/server.pem",
    "deep/er/id_ed25519",
    ".aws/credentials",
    "x.key",
    "credentials.json",
];
const OPEN: [&str; 4] = [".env.example", "src/main.rs", "keys.md", "id_ed25519.pub"];

/// What each file says, or why it says nothing.
const READ: &str = "\
def read(name):
    try: return open(name).read()
    except OSError as error: return errno.errorcode[error.errno]
say([read(name) for name in arguments])";

fn plant(world: &World) {
    SECRETS.iter().chain(&OPEN).for_each(|name| world.write(&world.workspace().join(name), "told\n"));
}

fn hidden(world: &World) -> Vec<Value> {
    let events = world.list(&["audit", "log", "--session", "last"]);
    events.into_iter().filter(|event| event["event"] == "secret_files_hidden").collect()
}

attack! {
    fn cannot_read_what_looks_like_a_secret(world) {
        plant(world);
        let told = vec!["told\n"; SECRETS.len()];
        assert_eq!(world.probe_outside(READ, &SECRETS), json!(told));
        let found = world.probe(READ, &SECRETS);
        assert_eq!(found, json!(["", "", "", "", "ENOENT", "", ""]));
        assert_eq!(world.probe(READ, &OPEN), json!(["told\n", "told\n", "told\n", "told\n"]));
        let events = hidden(world);
        assert_eq!((events.len(), events[0]["count"].clone(), events[0]["incomplete"].clone()), (1, json!(7), json!(false)), "{events:?}");
    }
}

attack! {
    /// Nor by other ways to the same file, and it stays as it was.
    fn cannot_uncover_or_change_it_either(world) {
        plant(world);
        symlink(".env", world.workspace().join("link")).unwrap();
        let code = "\
ways = [
    lambda: os.remove('.env'), lambda: os.rename('.env', 'x'), lambda: open('.env', 'w'), lambda: os.link('.env', 'x'),
    lambda: os.truncate('.env', 0), lambda: os.chmod('.env', 0o777), lambda: os.rename('x.key', '.env'),
]
outcomes = [attempt(way) for way in ways]
os.rename('api', 'moved')
os.mkdir('api')
say([outcomes, open('link').read(), open('moved/.env.local').read(), open('/proc/self/cwd/.env').read()])";
        let found = world.probe(code, &[]);
        let outcomes = found[0].as_array().unwrap();
        assert!(outcomes.iter().all(|outcome| ["EBUSY", "EROFS", "EXDEV", "EACCES"].contains(&outcome.as_str().unwrap())), "{found}");
        assert_eq!((&found[1], &found[2], &found[3]), (&json!(""), &json!(""), &json!("")));
        assert_eq!(std::fs::read_to_string(world.workspace().join(".env")).unwrap(), "told\n");
        assert_eq!(std::fs::read_to_string(world.workspace().join("moved/.env.local")).unwrap(), "told\n");
    }
}

attack! {
    fn it_is_hidden_in_a_read_only_workspace_and_behind_an_overlay_too(world) {
        plant(world);
        for flags in [&["--ro"][..], &["--fs", "overlay"]] {
            assert_eq!(world.probe_with(flags, READ, &SECRETS[..2]), json!(["", ""]), "{flags:?}");
        }
    }
}

attack! {
    fn a_profile_says_what_is_hidden_and_what_is_not(world) {
        plant(world);
        let file = world.place().join("open.yaml");
        let profile = "name: open\nfilesystem:\n  workspace: direct\n  secret_files: { hide: [keys.md], allow: [certs, .env] }\n";
        world.write(&file, profile);
        let flags = ["--profile", file.to_str().unwrap()];
        let found = world.probe_with(&flags, READ, &[".env", "certs/server.pem", "api/.env.local", "keys.md"]);
        assert_eq!(found, json!(["told\n", "told\n", "", ""]));
        world.write(&file, "name: odd\nfilesystem: { secret_files: { hid: [x] } }\n");
        let outcome = finish(world.exec(&flags, &["true"]), b"");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("unknown key `hid`"), "{outcome:?}");
        let shown = finish(world.exec(&["--dry-run"], &["true"]), b"").text();
        assert!(shown.contains("\nsecret file hide *.pem\n") && shown.contains("\ncover ") && shown.contains("/.env read-only: 0 bytes\n"), "{shown}");
    }
}

attack! {
    /// An empty file in its place would be committed as one.
    fn what_git_keeps_cannot_be_read_rather_than_look_empty(world) {
        plant(world);
        for words in [&["init", "-q"][..], &["add", "certs/server.pem", "src"], &["commit", "-qm", "x"]] {
            let mut git = world.command(Path::new("git"));
            git.args(["-c", "user.name=T", "-c", "user.email=t@example.com"]).args(words);
            assert!(finish(git, b"").status.success());
        }
        assert_eq!(world.probe(READ, &["certs/server.pem", ".env"]), json!(["EACCES", ""]));
        let script = "git -c user.name=T -c user.email=t@example.com commit -qam y";
        assert_ne!(world.shell(&[], script).code(), Some(0));
        let mut git = world.command(Path::new("git"));
        git.args(["status", "--porcelain", "--untracked-files=no"]);
        assert_eq!(finish(git, b"").text(), "");
    }
}

/// More names than the look before the start takes in, and secrets beyond them. They are in a directory of their own: in
/// which order a directory's names come is its file system's affair.
fn plant_deep(world: &World) {
    std::fs::create_dir(world.workspace().join("many")).unwrap();
    for number in 0..5000 {
        std::fs::write(world.workspace().join(format!("many/{number}")), "").unwrap();
    }
    for name in [".env", "a/b/c/.env", "a/b/.aws/credentials"] {
        world.write(&world.workspace().join(name), "told\n");
    }
}

/// Reads until nothing can be read any more, for as long as a machine under load may take to come to it.
const UNTIL_HIDDEN: &str = "\
import threading, time
def read(name):
    try: return open(name).read()
    except OSError as error: return errno.errorcode[error.errno]
def until_hidden(names, seconds=45):
    end = time.monotonic() + seconds
    while time.monotonic() < end and 'told\\n' in [read(name) for name in names]: pass
    return [read(name) for name in names]";

const DEEP: [&str; 3] = [".env", "a/b/c/.env", "a/b/.aws/credentials"];

attack! {
    /// What the look before the start does not come to is hidden while the harness runs, and the record says when.
    fn cannot_read_what_is_deep_in_a_large_workspace(world) {
        plant_deep(world);
        assert_eq!(world.probe_outside(READ, &DEEP), json!(["told\n", "told\n", "told\n"]));
        let code = format!("{UNTIL_HIDDEN}\nsay(until_hidden(arguments))");
        for flags in [&["--ro"][..], &["--fs", "overlay"], &[]] {
            assert_eq!(world.probe_with(flags, &code, &DEEP), json!(["", "EACCES", "ENOENT"]), "{flags:?}");
        }
        assert_eq!(std::fs::read_to_string(world.workspace().join("a/b/c/.env")).unwrap(), "told\n");
        let told: Vec<_> = hidden(world).iter().map(|event| (event["count"].clone(), event["incomplete"].clone())).collect();
        assert_eq!(told, [(json!(1), json!(true)), (json!(3), json!(false))]);
    }
}

attack! {
    fn cannot_read_it_in_time_where_the_start_waits(world) {
        plant_deep(world);
        let file = world.place().join("wait.yaml");
        world.write(&file, "name: wait\nfilesystem: { workspace: direct, secret_files: { wait: true } }\n");
        let flags = ["--profile", file.to_str().unwrap()];
        for _ in 0..5 {
            assert_eq!(world.probe_with(&flags, READ, &DEEP), json!(["", "EACCES", "ENOENT"]));
        }
        assert_eq!(hidden(world).last().unwrap()["incomplete"], json!(false));
    }
}

attack! {
    /// Whoever hides it is not in the sandbox: nobody there sees, stops or traces it.
    fn cannot_stop_what_hides_it(world) {
        plant_deep(world);
        let code = format!("{UNTIL_HIDDEN}
pids = sorted(int(entry) for entry in os.listdir('/proc') if entry.isdigit())
stopped = attempt(lambda: os.kill(-1, signal.SIGSTOP))
say([pids == [1, os.getpid()], stopped, until_hidden(arguments)])");
        assert_eq!(world.probe(&code, &DEEP), json!([true, "ESRCH", ["", "EACCES", "ENOENT"]]));
    }
}

attack! {
    /// It follows no link, goes into no other mount, and hides only what lies in the workspace.
    fn cannot_have_something_else_hidden(world) {
        plant_deep(world);
        let other = world.place().join("other");
        world.write(&other.join("c/.env"), "other\n");
        world.give(&other);
        let grant = format!("{}:ro", other.display());
        let code = format!("{UNTIL_HIDDEN}
other = arguments.pop()
def swap():
    for action in [lambda: os.rename('a', 'away'), lambda: os.symlink(other, 'a'), lambda: os.remove('a'), lambda: os.rename('away', 'a')]:
        attempt(action)
for _ in range(2000): swap()
hidden = until_hidden(['a/b/c/.env'], 5)
say([hidden, read(other + '/c/.env')])");
        let found = world.probe_with(&["--mount", &grant], &code, &[other.to_str().unwrap()]);
        // Moved about for long enough, it may stay visible, and then the record says so.
        let visible = found[0] == json!(["told\n"]);
        assert_eq!(hidden(world).last().unwrap()["incomplete"], json!(visible), "{found}");
        assert_eq!(found[1], json!("other\n"));
        assert_eq!(std::fs::read_to_string(world.workspace().join("a/b/c/.env")).unwrap(), "told\n");
    }
}

attack! {
    /// What is mounted later does not reach a mount namespace that was made before.
    fn cannot_keep_it_visible_in_a_mount_namespace_of_its_own(world) {
        plant_deep(world);
        let file = world.place().join("nesting.yaml");
        world.write(&file, "name: nesting\nnested_sandboxes: true\nfilesystem: { workspace: read-only }\n");
        // A root inside may read a file that nobody may, and reads that it is empty.
        let code = format!("{UNTIL_HIDDEN}
import subprocess
script = 'echo ready; read go; cat f1 a/b/c/.env a/b/.aws/credentials; id -u'
inner = subprocess.Popen(['unshare', '-Urm', 'sh', '-c', script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
ready = inner.stdout.readline()
hidden = until_hidden(arguments)
say([ready, hidden, inner.communicate('go\\n')[0]])");
        let flags = ["--profile", file.to_str().unwrap()];
        std::fs::write(world.workspace().join("f1"), "shown\n").unwrap();
        let expected = json!(["ready\n", ["", "EACCES", "ENOENT"], "shown\n0\n"]);
        assert_eq!(world.probe_with(&flags, &code, &DEEP), expected);
        assert_eq!(hidden(world).last().unwrap()["incomplete"], json!(false));
    }
}
