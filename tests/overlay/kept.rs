//! What survives: the layer after any end, and what files carry besides their contents.

use crate::support::{collect, finish};
use crate::tree::{change, omni, overlay, tree, waiting};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

attack! {
    fn a_running_session_can_be_looked_at_and_nothing_else(world) {
        world.write(&world.workspace().join("a"), "one\n");
        let mut command = world.exec(&["--fs", "overlay"], &["sh", "-c", "echo two >> a; mkdir -m 000 shut; echo ready; read line"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let shown = omni(world, "diff", &[]);
        assert!(shown.stderr.contains("still running") && shown.text().contains("+two\n"), "{shown:?}");
        for verb in ["apply", "discard"] {
            let refused = omni(world, verb, &[]);
            assert!(refused.code() == Some(1) && refused.stderr.contains("still running"), "{refused:?}");
        }
        assert_eq!(collect(child, b"go\n").code(), Some(0));
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        assert_eq!(fs::read_to_string(world.workspace().join("a")).unwrap(), "one\ntwo\n");
    }
}

attack! {
    fn the_changes_of_a_killed_omni_wait(world) {
        let mut command = world.exec(&["--fs", "overlay"], &["sh", "-c", "echo kept > new; echo ready; read line"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The pipe ends when the last process of the sandbox is gone.
        assert_eq!(output.read_line(&mut line).unwrap(), 0);
        assert_eq!(waiting(world), ["added new"]);
        let listed = world.list(&["sessions"]).remove(0);
        assert_eq!((&listed["status"], &listed["changes_wait"]), (&json!("interrupted"), &json!(true)));
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        assert_eq!(fs::read_to_string(world.workspace().join("new")).unwrap(), "kept\n");
    }
}

attack! {
    fn what_waits_is_told_by_sessions_and_show(world) {
        change(world, "echo x > a; echo y > b");
        let story = world.list(&["show", "last"]).remove(0);
        assert_eq!(story["changes_waiting"], 2);
        assert!(omni(world, "show", &[]).text().contains("2 waiting; omni diff "));
        let mut sessions = world.omni();
        sessions.arg("sessions");
        assert!(finish(sessions, b"").text().contains("finished, changes wait"));
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        assert_eq!(world.list(&["show", "last"]).remove(0)["changes_waiting"], json!(null));
        assert_eq!(world.list(&["sessions"]).remove(0)["changes_wait"], false);
    }
}

attack! {
    fn a_change_in_json_has_every_key(world) {
        world.write(&world.workspace().join("a"), "one\ntwo\n");
        change(world, "chmod 755 a; echo three >> a; printf 'x\\0' > b");
        let changes = world.list(&["diff", "last"]);
        let session = changes[0]["session"].clone();
        let common = json!({
            "session": session, "path_base64": null, "kind": "file", "target": null, "below": 0, "odd": [], "conflict": null,
            "conflict_at": null,
        });
        let with = |more: serde_json::Value| {
            let mut all = common.as_object().unwrap().clone();
            all.extend(more.as_object().unwrap().clone());
            serde_json::Value::Object(all)
        };
        assert_eq!(changes[0], with(json!({
            "path": "a", "change": "modified", "kind_before": "file", "mode_before": 0o644, "mode": 0o755, "size_before": 8,
            "size": 14, "lines_added": 1, "lines_removed": 0, "binary": false, "executes": "it is executable",
            "diff": "@@ -1,2 +1,3 @@\n one\n two\n+three\n",
        })));
        assert_eq!(changes[1], with(json!({
            "path": "b", "change": "added", "kind_before": null, "mode_before": null, "mode": 0o644, "size_before": null,
            "size": 2, "lines_added": null, "lines_removed": null, "binary": true, "executes": null,
        })));
    }
}

attack! {
    fn attributes_and_holes_are_taken_along(world) {
        world.write(&world.workspace().join("a"), "one\n");
        let code = "
os.setxattr('a', 'user.colour', b'red')
with open('large', 'wb') as file:
    file.truncate(3 << 30)
    file.seek(1 << 30)
    file.write(b'middle')
say('ok')";
        assert_eq!(world.probe_with(&["--fs", "overlay"], code, &[]), json!("ok"));
        assert_eq!(waiting(world), ["mode a", "added large"]);
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(world.workspace().join("a"), "user.colour", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"red");
        let large = world.workspace().join("large").metadata().unwrap();
        assert!(large.len() == 3 << 30 && large.blocks() < 4096, "{large:?}");
        let mut middle = [0; 6];
        let file = fs::File::open(world.workspace().join("large")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut middle, 1 << 30).unwrap();
        assert_eq!(&middle, b"middle");
    }
}

attack! {
    fn the_other_names_of_a_file_stay_as_they_were(world) {
        let (a, b) = (world.workspace().join("a"), world.workspace().join("b"));
        world.write(&a, "one\n");
        fs::hard_link(&a, &b).unwrap();
        world.write(&world.workspace().join("c"), "c\n");
        fs::hard_link(world.workspace().join("c"), world.place().join("outside")).unwrap();
        change(world, "echo two >> a; echo changed > c; ln a d; echo three >> d");
        assert_eq!(waiting(world), ["modified a", "modified c", "added d"]);
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&a), read(&b)), ("one\ntwo\nthree\n".to_owned(), "one\n".to_owned()));
        assert_eq!(read(&world.place().join("outside")), "c\n");
        assert_eq!(read(&world.workspace().join("d")), "one\ntwo\nthree\n");
    }
}

attack! {
    fn a_directory_is_moved_by_copying(world) {
        world.write(&world.workspace().join("d/e/f"), "f\n");
        let seen = change(world, "python3 -c 'import os; os.rename(\"d\", \"g\")' 2>&1 | tail -1; mv d g; cat g/e/f; mkdir n; mv n m; ls");
        assert!(seen.text().contains("Invalid cross-device link") && seen.text().ends_with("f\ng\nm\n"), "{seen:?}");
        assert_eq!(omni(world, "apply", &[]).code(), Some(0));
        let names: Vec<_> = tree(&world.workspace()).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["g", "g/e", "g/e/f", "m"]);
    }
}

attack! {
    /// Where the layer lies on another file system than the workspace, things are staged in the workspace.
    fn changes_are_applied_across_file_systems(world) {
        let elsewhere = tempfile::Builder::new().prefix("omni-overlay-").tempdir_in("/dev/shm").unwrap();
        world.give(elsewhere.path());
        let home = elsewhere.path().join("state");
        let there = |mut command: Command| {
            command.env("OMNI_HOME", &home);
            finish(command, b"")
        };
        world.write(&world.workspace().join("a"), "one\n");
        let script = "echo two >> a; mkdir d; echo f > d/f; ln -s a l";
        let session = there(world.exec(&["--fs", "overlay"], &["sh", "-c", script]));
        if session.stderr.contains("keeps no attributes of users") {
            println!("skipped: before Linux 6.6 a file system in memory holds no layer");
            return;
        }
        assert_eq!(session.code(), Some(0), "{session:?}");
        let mut apply = world.omni();
        apply.args(["apply", "last"]);
        let applied = there(apply);
        assert_eq!(applied.text(), "4 applied; nothing is left\n", "{applied:?}");
        assert_eq!(fs::read_to_string(world.workspace().join("a")).unwrap(), "one\ntwo\n");
        let names: Vec<_> = tree(&world.workspace()).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["a", "d", "d/f", "l"]);
    }
}

attack! {
    fn a_repository_is_committed_to_and_taken_over(world) {
        let git = |directory: &Path, arguments: &[&str]| {
            let mut command = world.command(Path::new("git"));
            command.args(["-c", "user.name=a", "-c", "user.email=a@example.test"]).args(arguments).current_dir(directory);
            let outcome = finish(command, b"");
            assert_eq!(outcome.code(), Some(0), "{outcome:?}");
            outcome.text()
        };
        let workspace = world.workspace();
        git(&workspace, &["init", "-q", "-b", "main"]);
        world.write(&workspace.join("a"), "one\n");
        git(&workspace, &["add", "a"]);
        git(&workspace, &["commit", "-q", "-m", "first"]);
        change(world, "git config user.name b; git config user.email b@example.test; echo two >> a; git commit -qam second; \
            git branch side; echo 'exit 1' > .git/hooks/pre-push; git gc -q");
        assert_eq!(git(&workspace, &["log", "--format=%s"]), "first\n");
        let changes = world.list(&["diff", "last"]);
        let marked = changes.iter().filter(|change| !change["executes"].is_null());
        let marked: Vec<_> = marked.map(|change| change["path"].as_str().unwrap()).collect();
        assert_eq!(marked, [".git/config", ".git/hooks/pre-push"]);
        let shown = omni(world, "diff", &["--stat"]).text();
        assert!(shown.contains("git      .git/  ") && !shown.contains(".git/objects"), "{shown}");
        assert!(omni(world, "diff", &["--stat", "--all"]).text().contains(".git/objects"));
        let applied = omni(world, "apply", &["--except", ".git/hooks", "--except", ".git/config"]);
        assert_eq!(applied.code(), Some(0), "{applied:?}");
        assert_eq!(git(&workspace, &["log", "--format=%s"]), "second\nfirst\n");
        git(&workspace, &["fsck", "--strict"]);
        assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
        assert_eq!(waiting(world), ["modified .git/config", "added .git/hooks/pre-push"]);
        assert!(!workspace.join(".git/hooks/pre-push").exists());
    }
}

attack! {
    fn a_layer_whose_notes_are_damaged_can_only_be_discarded(world) {
        change(world, "echo x > a");
        let base = overlay(world).unwrap().join("base.json");
        fs::write(&base, "{").unwrap();
        for verb in ["diff", "apply"] {
            let refused = omni(world, verb, &[]);
            assert!(refused.code() == Some(1) && refused.stderr.contains("omni discard"), "{refused:?}");
        }
        let staging = overlay(world).unwrap().join("staging");
        fs::create_dir(&staging).unwrap();
        assert_eq!(omni(world, "discard", &[]).code(), Some(1), "originals may be kept there");
        fs::remove_dir(&staging).unwrap();
        assert_eq!(omni(world, "discard", &[]).text(), "all discarded; the workspace is as it was\n");
        assert_eq!(overlay(world), None);
    }
}
