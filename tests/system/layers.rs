//! Overlay workspaces by the server: the layer lies in root's directory and is the user's all the same, and what lies at a
//! user's path is looked at and changed with that user's rights.

use crate::machine::{Files, Machine, finish, on_a_machine};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const OVERLAY: &[&str] = &["--fs", "overlay"];

/// A session of Ada's that changes her workspace behind an overlay; its id.
fn changed(machine: &Machine, flags: &[&str], script: &str) -> String {
    let outcome = machine.shell(&machine.ada, &[OVERLAY, flags].concat(), script);
    assert_eq!(outcome.code(), Some(0), "{outcome:?}");
    machine.list(&machine.ada, &["sessions"])[0]["session"].as_str().unwrap().to_owned()
}

fn layer(machine: &Machine, session: &str) -> PathBuf {
    machine.path("records/sessions").join(session).join("overlay")
}

#[test]
fn what_a_session_changed_is_on_the_host_once_its_user_says_so() {
    on_a_machine(Files::default(), |machine| {
        let work = machine.ada.work();
        machine.ada.write(&work.join("kept"), "first\n");
        machine.ada.write(&work.join("gone"), "x");
        let script = "echo second >kept; rm gone; mkdir -m 700 new; echo y >new/file; chmod 0 new/file; mkdir -p .git/hooks; echo ran >.git/hooks/x";
        let session = changed(machine, &[], script);
        assert_eq!(fs::read_to_string(work.join("kept")).unwrap(), "first\n");
        assert!(work.join("gone").exists() && !work.join("new").exists(), "nothing is on the host");
        let upper = layer(machine, &session).join("layer/upper");
        assert_eq!(fs::metadata(upper.join("kept")).unwrap().uid(), machine.ada.uid, "quotas count it as the user's");
        // Nobody gets at it but by the server.
        for user in [&machine.ada, &machine.bob] {
            let mut command = machine.command(user, Path::new("/bin/ls"));
            command.arg(&upper);
            assert!(finish(command, b"").stderr.contains("Permission denied"));
        }
        let diff = machine.told(&machine.ada, &["diff", "last"]);
        assert!(
            ["-first\n+second\n", "deleted  gone", "EXECUTES ON THE HOST"]
                .iter()
                .all(|part| diff.stdout.contains(part)),
            "{diff:?}"
        );
        let waiting = machine.list(&machine.ada, &["show", &session])[0]["changes_waiting"].clone();
        assert!(waiting.as_u64().is_some_and(|count| count > 3), "{waiting}");
        let refused = machine.told(&machine.ada, &["apply", "last"]);
        assert!(!refused.status.success() && refused.stderr.contains("may be executed on the host"), "{refused:?}");
        assert_eq!(fs::read_to_string(work.join("kept")).unwrap(), "first\n");
        let some = machine.told(&machine.ada, &["apply", "last", "--except", ".git"]);
        assert!(some.status.success(), "{some:?}");
        assert_eq!(fs::read_to_string(work.join("kept")).unwrap(), "second\n");
        let made = fs::metadata(work.join("new/file")).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (machine.ada.uid, machine.ada.gid, 0));
        assert!(!work.join("gone").exists() && !work.join(".git").exists());
        assert!(machine.told(&machine.ada, &["discard", "last"]).status.success());
        assert!(!layer(machine, &session).exists());
        let log = machine.list(&machine.root(), &["audit", "log", "--session", &session]);
        let events: Vec<_> = log
            .iter()
            .filter_map(|line| line["event"].as_str())
            .filter(|event| event.starts_with("changes_"))
            .collect();
        assert_eq!(events, ["changes_applied", "changes_discarded"]);
    });
}

#[test]
fn a_layer_takes_no_more_room_than_the_machine_gives() {
    on_a_machine(Files { system: "limits: { disk: 8MiB }\n", ..Files::default() }, |machine| {
        let fill = "head -c 64M /dev/zero >big; sleep 1000";
        let outcome = machine.shell(&machine.ada, &[OVERLAY, &["--timeout", "1h"]].concat(), fill);
        assert_eq!(outcome.code(), Some(123), "{outcome:?}");
        let greedy = machine.ada.home.join("greedy.yaml");
        machine.ada.write(&greedy, "name: greedy\ncommand: sh\ndescription: more room\nlimits: { disk: 1GiB }\n");
        let more = machine.shell(&machine.ada, &[OVERLAY, &["--profile", greedy.to_str().unwrap()]].concat(), fill);
        assert_eq!(more.code(), Some(123), "a user cannot ask for more: {more:?}");
        assert_eq!(
            machine.shell(&machine.ada, &[], "head -c 16M /dev/zero >big").code(),
            Some(0),
            "the workspace itself is no layer"
        );
    });
}

#[test]
fn another_users_changes_are_as_if_they_were_not_there_and_root_does_not_follow_a_users_paths() {
    on_a_machine(Files::default(), |machine| {
        let session = changed(machine, &[], "echo mine >new");
        for verb in ["diff", "apply", "discard"] {
            let other = machine.told(&machine.bob, &[verb, &session]);
            assert!(!other.status.success() && other.stderr.contains("no session"), "{verb}: {other:?}");
            let root = machine.told(&machine.root(), &[verb, &session]);
            assert!(!root.status.success() && root.stderr.contains("are those of user"), "{verb}: {root:?}");
            assert!(![&other.stdout, &root.stdout].iter().any(|text| text.contains("mine")), "{verb}");
        }
        assert!(!machine.ada.work().join("new").exists());
        assert!(machine.told(&machine.ada, &["apply", &session]).status.success(), "the control");
        assert_eq!(fs::read_to_string(machine.ada.work().join("new")).unwrap(), "mine\n");
    });
}

#[test]
fn a_file_that_its_user_may_not_read_is_not_shown_by_comparing_it() {
    on_a_machine(Files::default(), |machine| {
        let work = machine.ada.work();
        for (name, owner) in [("theirs", &machine.bob), ("own", &machine.ada)] {
            owner.write(&work.join(name), "treasure\n");
            fs::set_permissions(work.join(name), PermissionsExt::from_mode(0o600)).unwrap();
        }
        let session = changed(machine, &[], "rm -f theirs own; echo guess >theirs; echo guess >own");
        let own = machine.told(&machine.ada, &["diff", &session, "own"]);
        assert!(own.stdout.contains("-treasure\n+guess"), "the control: {own:?}");
        let theirs = machine.told(&machine.ada, &["diff", &session, "theirs"]);
        assert!(!theirs.stdout.contains("treasure") && theirs.stderr.contains("Permission denied"), "{theirs:?}");
    });
}

#[test]
fn a_workspace_that_became_a_way_to_anothers_place_takes_nothing_there() {
    on_a_machine(Files::default(), |machine| {
        let home = &machine.ada.home;
        let make = "mkdir -p deep/work";
        let mut command = machine.command(&machine.ada, Path::new("/bin/sh"));
        command.current_dir(home).args(["-c", make]);
        assert!(finish(command, b"").status.success());
        let workspace = home.join("deep/work").display().to_string();
        let session = changed(machine, &["--workspace", &workspace], "echo evil >new");
        // A place of root's that the user cannot enter, and one that they can and not write to.
        let roots = machine.path("roots");
        for (place, mode) in [(roots.join("closed"), 0o700), (roots.join("open"), 0o755)] {
            fs::create_dir_all(place.join("work")).unwrap();
            fs::set_permissions(&place, PermissionsExt::from_mode(mode)).unwrap();
            fs::rename(home.join("deep"), home.join("aside")).unwrap();
            symlink(&place, home.join("deep")).unwrap();
            for verb in [&["diff", &session][..], &["apply", &session, "--overwrite"]] {
                let tried = machine.told(&machine.ada, verb);
                assert!(mode == 0o755 && verb[0] == "diff" || !tried.status.success(), "{verb:?}: {tried:?}");
            }
            assert_eq!(fs::read_dir(place.join("work")).unwrap().count(), 0, "{}", place.display());
            fs::remove_file(home.join("deep")).unwrap();
            fs::rename(home.join("aside"), home.join("deep")).unwrap();
        }
        assert!(machine.told(&machine.ada, &["apply", &session]).status.success(), "the control");
        assert_eq!(fs::read_to_string(home.join("deep/work/new")).unwrap(), "evil\n");
    });
}

#[test]
fn an_interrupted_application_is_finished_or_put_back_by_the_next() {
    on_a_machine(Files::default(), |machine| {
        let session = changed(machine, &[], "echo new >file");
        // What an application leaves that was killed before its first step.
        let staging = layer(machine, &session).join("staging");
        fs::create_dir(&staging).unwrap();
        std::os::unix::fs::chown(&staging, Some(machine.ada.uid), Some(machine.ada.gid)).unwrap();
        let again = machine.told(&machine.ada, &["apply", "last"]);
        assert!(again.status.success() && again.stderr.contains("it was put back"), "{again:?}");
        assert_eq!(fs::read_to_string(machine.ada.work().join("file")).unwrap(), "new\n");
        assert!(!layer(machine, &session).exists());
    });
}
