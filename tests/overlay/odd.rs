//! What a hostile session may leave behind its overlay, and what the host's omni makes of it.

use crate::support::{Outcome, Who, World, finish};
use crate::tree::{change, omni, overlay, tree, waiting};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

/// What is odd about each path that waits.
fn oddities(world: &World) -> Vec<(String, Vec<String>)> {
    let names = |change: &Value| {
        let odd = change["odd"].as_array().unwrap().iter();
        odd.map(|odd| odd["oddity"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let changes = world.list(&["diff", "last"]);
    let odd = changes.iter().map(|change| (change["path"].as_str().unwrap().to_owned(), names(change)));
    odd.filter(|(_, names)| !names.is_empty()).collect()
}

fn odd(path: &str, names: &[&str]) -> (String, Vec<String>) {
    (path.to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
}

fn refused(outcome: &Outcome) {
    assert_eq!(outcome.code(), Some(1), "{outcome:?}");
    assert_eq!(outcome.text(), "");
}

attack! {
    /// Attack 4: omni looks at links, not through them.
    fn a_link_that_was_made_inside_is_never_followed_outside(world) {
        let secret = world.place().join("secret");
        world.write(&secret, "the-secret-itself\n");
        world.write(&world.place().join("outside/f"), "untouched\n");
        change(world, "ln -s ../secret link; ln -s ../outside dir; ln -s /etc/passwd absolute; ln -s a/../../x maybe");
        let shown = omni(world, "diff", &[]);
        assert!(shown.text().contains("link -> ../secret") && !shown.text().contains("the-secret-itself"), "{shown:?}");
        let wanted = [
            odd("absolute", &["absolute_link"]), odd("dir", &["link_out"]), odd("link", &["link_out"]), odd("maybe", &["link_out"]),
        ];
        assert_eq!(oddities(world), wanted);
        refused(&omni(world, "apply", &[]));
        assert_eq!(fs::read_dir(world.workspace()).unwrap().count(), 0);
        assert_eq!(omni(world, "apply", &["--allow-odd"]).code(), Some(0));
        assert_eq!(fs::read_link(world.workspace().join("link")).unwrap(), Path::new("../secret"));
        assert_eq!(fs::read_to_string(world.place().join("outside/f")).unwrap(), "untouched\n");
    }
}

attack! {
    /// The same by way of git, which writes messages and logs through links.
    fn a_link_among_gits_own_files_is_not_taken_unasked(world) {
        change(world, "git init -q; touch x; ln -sf config .git/COMMIT_EDITMSG; ln -s ../x .git/FETCH_HEAD; ln -s x y");
        assert_eq!(oddities(world), [odd(".git/COMMIT_EDITMSG", &["git_link"]), odd(".git/FETCH_HEAD", &["git_link"])]);
        assert!(omni(world, "diff", &[]).text().contains("a link among git's own files"));
        refused(&omni(world, "apply", &["--executables"]));
        assert_eq!(fs::read_dir(world.workspace()).unwrap().count(), 0);
        let others = ["--executables", "--except", ".git/COMMIT_EDITMSG", "--except", ".git/FETCH_HEAD"];
        assert_eq!(omni(world, "apply", &others).code(), Some(0));
        assert!(world.workspace().join("y").is_symlink() && world.workspace().join(".git/HEAD").exists(), "the control");
        assert!(!world.workspace().join(".git/COMMIT_EDITMSG").is_symlink());
    }
}

attack! {
    /// Attack 5: between looking and taking over, a directory becomes a link that leads out.
    fn a_directory_that_is_swapped_for_a_link_changes_nothing_outside(world) {
        let outside = world.place().join("outside");
        for place in [world.workspace().join("d"), outside.clone()] {
            world.write(&place.join("x"), "before\n");
        }
        change(world, "echo after > d/x; echo new > d/n");
        assert_eq!(waiting(world), ["added d/n", "modified d/x"]);
        fs::rename(world.workspace().join("d"), world.place().join("aside")).unwrap();
        symlink(&outside, world.workspace().join("d")).unwrap();
        let before = tree(&outside);
        refused(&omni(world, "apply", &[]));
        refused(&omni(world, "apply", &["d/n"]));
        assert_eq!(tree(&outside), before);
        assert_eq!(omni(world, "apply", &["--overwrite"]).code(), Some(0));
        assert_eq!(tree(&outside), before, "not even then");
        assert!(!world.workspace().join("d").is_symlink());
    }
}

attack! {
    /// The same between the first step of applying and the second.
    fn a_directory_that_is_swapped_while_changes_are_applied_puts_all_back(world) {
        let outside = world.place().join("outside");
        for place in [world.workspace().join("d"), outside.clone()] {
            world.write(&place.join("x"), "before\n");
        }
        world.write(&world.workspace().join("a"), "before\n");
        change(world, "echo after > a; echo after > d/x");
        let mut command = world.command(Path::new("strace"));
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:signal=KILL:when=2"]);
        command.arg(world.binary()).args(["apply", "last"]);
        assert_ne!(finish(command, b"").code(), Some(0));
        assert_eq!(fs::read_to_string(world.workspace().join("a")).unwrap(), "after\n", "the first step was taken");
        fs::rename(world.workspace().join("d"), world.place().join("aside")).unwrap();
        symlink(&outside, world.workspace().join("d")).unwrap();
        refused(&omni(world, "apply", &[]));
        assert_eq!(fs::read_to_string(world.workspace().join("a")).unwrap(), "before\n", "and taken back");
        assert_eq!(fs::read_to_string(outside.join("x")).unwrap(), "before\n");
        let story = world.list(&["show", "last"]).remove(0);
        let events = story["events"].as_array().unwrap();
        assert!(events.iter().any(|event| event["event"] == "changes_rolled_back"), "{events:?}");
    }
}

attack! {
    /// Attack 13.
    fn what_would_run_on_the_host_is_named_and_not_taken_unasked(world) {
        world.write(&world.workspace().join("package.json"), "{}\n");
        world.write(&world.workspace().join("tool.sh"), "echo\n");
        change(world, "mkdir -p .git/hooks .vscode src; echo x > .git/hooks/pre-commit; echo x > package.json; \
            echo x > Makefile; echo x > src/conftest.py; echo x > src/lib.pth; echo x > build.rs; echo x > .envrc; \
            echo x > .vscode/tasks.json; echo x > .mcp.json; chmod 755 tool.sh; echo x > src/plain.py");
        let changes = world.list(&["diff", "last"]);
        let marked = changes.iter().filter(|change| !change["executes"].is_null());
        let marked: Vec<_> = marked.map(|change| change["path"].as_str().unwrap()).collect();
        let wanted = [
            ".envrc", ".git/hooks/pre-commit", ".mcp.json", ".vscode/tasks.json", "Makefile", "build.rs", "package.json",
            "src/conftest.py", "src/lib.pth", "tool.sh",
        ];
        assert_eq!(marked, wanted);
        let before = tree(&world.workspace());
        let outcome = omni(world, "apply", &[]);
        refused(&outcome);
        assert!(outcome.stderr.contains("--executables") && outcome.stderr.contains(".git/hooks/pre-commit"), "{outcome:?}");
        assert_eq!(tree(&world.workspace()), before);
        assert_eq!(omni(world, "apply", &["src/plain.py"]).code(), Some(0));
        assert_eq!(omni(world, "apply", &["--executables"]).code(), Some(0));
        let story = world.list(&["show", "last"]).remove(0);
        let applied = story["events"].as_array().unwrap().iter().filter(|event| event["event"] == "changes_applied");
        let executables: Vec<_> = applied.map(|event| event["executables"].clone()).collect();
        assert_eq!(executables, [json!([]), json!(wanted)]);
    }
}

attack! {
    /// Attack 23: what the harness writes of whiteouts and notes means nothing to the kernel or to omni.
    fn forged_whiteouts_and_notes_remove_nothing(world) {
        for name in ["a", "d/x", "d/y"] {
            world.write(&world.workspace().join(name), "kept\n");
        }
        let before = tree(&world.workspace());
        let code = "
import stat
outcomes = [attempt(lambda: os.mknod(path, stat.S_IFCHR | 0o600, 0)) for path in ['w', 'd/w']]
for space in ['user', 'trusted']:
    for note, value in [('opaque', b'y'), ('whiteout', b'y'), ('redirect', b'/a'), ('metacopy', b''), ('origin', b'x' * 30)]:
        for path in ['d', 'a']:
            outcomes.append(attempt(lambda: os.setxattr(path, f'{space}.overlay.{note}', value)))
say([outcomes, sorted(os.listdir('d')), open('a').read()])";
        let found = world.probe_with(&["--fs", "overlay"], code, &[]);
        assert_eq!((&found[1], &found[2]), (&json!(["x", "y"]), &json!("kept\n")), "{found}");
        assert!(found[0].as_array().unwrap()[..2].iter().all(|outcome| outcome != "ok"), "{found}");
        assert!(waiting(world).iter().all(|line| !line.starts_with("deleted")), "{:?}", waiting(world));
        let applied = omni(world, "apply", &["--allow-odd"]);
        assert!(applied.code() == Some(0) || applied.stderr.contains("keeps no changes"), "{applied:?}");
        assert_eq!(tree(&world.workspace()), before);
        for name in ["a", "d"] {
            let mut command = world.command(Path::new("/usr/bin/python3"));
            command.args(["-c", &format!("import os; print(os.listxattr('{name}'))")]);
            assert_eq!(finish(command, b"").text(), "[]\n", "no note came to the host");
        }
    }
}

attack! {
    /// Notes that only a writer of the layer itself could have made.
    fn notes_that_the_kernel_does_not_write_are_never_applied(world) {
        change(world, "echo x > a");
        let upper = overlay(world).unwrap().join("layer/upper/a");
        rustix::fs::setxattr(&upper, "user.overlay.redirect", b"/etc", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(oddities(world), [odd("a", &["foreign_notes"])]);
        refused(&omni(world, "apply", &["--allow-odd", "--executables", "--overwrite"]));
        assert!(!world.workspace().join("a").exists());
    }
}

attack! {
    /// Attack 24: devices, set-id bits, sockets.
    fn devices_sockets_and_set_id_bits_are_never_applied(world) {
        let code = "
import stat
made = [attempt(lambda: os.mknod(f'{kind}{device}', kind | 0o666, device)) for kind in (stat.S_IFCHR, stat.S_IFBLK) for device in (0, 0x0103)]
open('tool', 'w').close()
made.append(attempt(lambda: os.chmod('tool', 0o4755)))
os.chmod('tool', 0o2755)
socket.socket(socket.AF_UNIX).bind('socket')
os.mkfifo('pipe')
say(made)";
        let made = world.probe_with(&["--fs", "overlay"], code, &[]);
        assert!(made.as_array().unwrap().iter().all(|outcome| outcome != "ok"), "{made}");
        let mut wanted = vec![odd("pipe", &["fifo"]), odd("socket", &["socket"]), odd("tool", &["set_id"])];
        if world.who == Who::Root {
            // Where the harness could have made one after all.
            let device = overlay(world).unwrap().join("layer/upper/device");
            let mut command = world.command(Path::new("mknod"));
            command.arg(device).args(["c", "1", "3"]);
            assert_eq!(finish(command, b"").code(), Some(0));
            wanted.insert(0, odd("device", &["device"]));
        }
        assert_eq!(oddities(world), wanted);
        refused(&omni(world, "apply", &["--allow-odd", "--executables", "--overwrite"]));
        assert_eq!(fs::read_dir(world.workspace()).unwrap().count(), 0);
        let rest = ["--except", "socket", "--except", "tool", "--except", "device"];
        let rest = if world.who == Who::Root { &rest[..] } else { &rest[..4] };
        refused(&omni(world, "apply", rest));
        assert_eq!(omni(world, "apply", &[rest, &["--allow-odd"]].concat()).code(), Some(0));
        assert!(world.workspace().join("pipe").symlink_metadata().unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(world.workspace()).unwrap().count(), 1);
    }
}

attack! {
    /// Attack 24: names.
    fn names_cannot_steer_the_terminal_and_arrive_as_they_are(world) {
        let code = "
for name in [b'esc\\x1b]0;title\\x07', b'line\\nbreak', b'turn\\xe2\\x80\\xaeback', b'bytes\\xff', b'quote\"', b'README', b'readme']:
    open(name, 'w').close()
open('text', 'wb').write(b'\\x1b[2J\\r\\n')";
        let outcome = finish(world.exec(&["--fs", "overlay"], &["/usr/bin/python3", "-c", code]), b"");
        assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        for flags in [&[][..], &["--stat"], &["--json"]] {
            let shown = omni(world, "diff", flags);
            let hostile = |byte: &u8| byte.is_ascii_control() && *byte != b'\n' || *byte == 0xff;
            assert!(!shown.stdout.iter().any(hostile) && !shown.text().contains('\u{202e}'), "{shown:?}");
            let lines = if flags == ["--json"] { 8 } else { 9 };
            assert!(flags.is_empty() || shown.text().lines().count() == lines, "{shown:?}");
        }
        assert!(omni(world, "diff", &["--stat"]).text().contains("\"esc\\u{1b}]0;title\\u{7}\""));
        let case = ["case_only"];
        let found: Vec<_> = oddities(world).into_iter().map(|(_, names)| names).collect();
        assert_eq!(found, [&case[..], &["unreadable_name"], &["hostile_name"], &["hostile_name"], &case, &["hostile_name"]]);
        let outcome = omni(world, "apply", &[]);
        refused(&outcome);
        assert!(!outcome.stderr.contains('\u{1b}') && !outcome.stderr.contains('\u{202e}'), "{outcome:?}");
        assert_eq!(omni(world, "apply", &["--allow-odd"]).code(), Some(0));
        for name in [&b"esc\x1b]0;title\x07"[..], b"line\nbreak", b"bytes\xff", b"quote\"", b"README", b"readme"] {
            assert!(world.workspace().join(OsStr::from_bytes(name)).exists(), "{name:?}");
        }
    }
}

attack! {
    /// Names of many directories, one in the other, beyond what any path can hold.
    fn a_tree_that_is_nested_too_deep_is_told_of_and_removed(world) {
        let code = "
for _ in range(3000):
    os.mkdir('d' * 50)
    os.chdir('d' * 50)
open('f', 'w').close()
say('ok')";
        assert_eq!(world.probe_with(&["--fs", "overlay"], code, &[]), json!("ok"));
        let changes = world.list(&["diff", "last"]);
        assert_eq!(changes.last().unwrap()["odd"][0]["oddity"], "too_deep");
        refused(&omni(world, "apply", &["--allow-odd"]));
        assert_eq!(omni(world, "discard", &[]).code(), Some(0));
        assert_eq!(overlay(world), None);
        let left = fs::read_dir(world.omni_home().join("sessions")).unwrap().next().unwrap().unwrap().path();
        let names: Vec<_> = fs::read_dir(left).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("overlay")), "{names:?}");
    }
}

attack! {
    fn closed_files_and_directories_are_applied_as_they_are(world) {
        change(world, "mkdir closed; echo x > closed/f; chmod 000 closed/f closed; echo y > secret; chmod 000 secret");
        assert_eq!(waiting(world), ["added closed", "added closed/f", "added secret"]);
        let upper = overlay(world).unwrap().join("layer/upper/closed");
        assert_eq!(upper.metadata().unwrap().mode() & 0o7777, 0, "closed again after the look");
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        let found = tree(&world.workspace());
        assert_eq!(found[&b"closed"[..]].0, "directory 0");
        assert_eq!((found[&b"closed/f"[..]].0.as_str(), found[&b"closed/f"[..]].2.as_slice()), ("file 0", &b"x\n"[..]));
    }
}
