//! The harness is the user who asked for it, as the kernel counts.

use crate::machine::{Files, User, finish, on_a_machine};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

#[test]
fn the_harness_is_the_user_and_what_it_writes_is_theirs() {
    on_a_machine(Files::default(), |machine| {
        let outcome = machine.shell(&machine.ada, &[], "id -u; id -g; id -G; umask; echo mine > made");
        let (uid, gid) = (machine.ada.uid, machine.ada.gid);
        assert_eq!(outcome.stdout, format!("{uid}\n{gid}\n{gid}\n0022\n"), "{outcome:?}");
        let made = machine.ada.work().join("made").metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), (uid, gid));
    });
}

#[test]
fn a_user_whose_id_is_what_unknown_ids_read_as_is_that_user_and_not_root() {
    on_a_machine(Files::default(), |machine| {
        let home = machine.path("nobody");
        let nobody = User { name: "nobody".to_owned(), uid: 65534, gid: 65534, home, ..machine.ada.clone() };
        for directory in [nobody.home.clone(), nobody.work()] {
            std::fs::create_dir(&directory).unwrap();
            chown(&directory, Some(65534), Some(65534)).unwrap();
        }
        let outcome = machine.shell(&nobody, &[], "id -u; echo mine > made; head -c 1 /etc/shadow");
        assert_eq!(outcome.stdout, "65534\n", "{outcome:?}");
        assert_eq!(nobody.work().join("made").metadata().unwrap().uid(), 65534);
    });
}

#[test]
fn the_users_groups_are_the_harnesss_and_root_adds_none() {
    on_a_machine(Files::default(), |machine| {
        let shared = machine.path("shared");
        std::fs::create_dir(&shared).unwrap();
        chown(&shared, Some(0), Some(4242)).unwrap();
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o2770)).unwrap();
        let mount = shared.display().to_string();
        let script = format!("echo mine > {mount}/made; grep ^Groups: /proc/self/status | wc -w");
        let member = User { groups: "--groups=4242".to_owned(), ..machine.ada.clone() };
        let outcome = machine.shell(&member, &["--mount", &mount], &script);
        assert_eq!((outcome.stdout.as_str(), outcome.code()), ("2\n", Some(0)), "{outcome:?}");
        let made = shared.join("made").metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), (machine.ada.uid, 4242));
        let stranger = machine.shell(&machine.bob, &["--mount", &mount], &format!("ls {mount}"));
        assert_ne!(stranger.code(), Some(0), "{stranger:?}");
        assert!(!stranger.stdout.contains("made"), "{stranger:?}");
    });
}

#[test]
fn streams_pass_and_the_end_is_the_harnesss() {
    on_a_machine(Files::default(), |machine| {
        let outcome = finish(machine.exec(&machine.ada, &[], &["sh", "-c", "cat; echo no >&2; exit 7"]), b"through\n");
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("through\n", "no\n"));
        assert_eq!(outcome.code(), Some(7));
        let killed = machine.shell(&machine.ada, &[], "kill -TERM $$");
        assert_eq!(killed.signal(), Some(libc::SIGTERM), "{killed:?}");
        let missing = finish(machine.exec(&machine.ada, &[], &["no-such-program"]), b"");
        assert_eq!(missing.code(), Some(127), "{missing:?}");
    });
}

#[test]
fn the_profile_the_user_writes_and_their_mask_count() {
    on_a_machine(Files::default(), |machine| {
        let profile = machine.ada.home.join("own.yaml");
        machine.ada.write(&profile, "name: own\nenvironment: { pass: [COLOUR], set: { FRUIT: pear } }\n");
        let script = "umask 0007; exec \"$@\"";
        let mut command = machine.command(&machine.ada, std::path::Path::new("/bin/sh"));
        command.args(["-c", script, "sh"]).arg(machine.binary()).args(["exec", "--profile"]).arg(&profile);
        command.args(["--env", "SIZE", "--", "sh", "-c", "echo $COLOUR $FRUIT $SIZE $SHAPE; > made"]);
        command.env("COLOUR", "green").env("SIZE", "big").env("SHAPE", "round");
        let outcome = finish(command, b"");
        assert_eq!(outcome.stdout, "green pear big\n", "{outcome:?}");
        assert_eq!(machine.ada.work().join("made").metadata().unwrap().mode() & 0o777, 0o660);
    });
}

#[test]
fn root_itself_may_come_and_its_harness_is_not_root() {
    on_a_machine(Files::default(), |machine| {
        let root = machine.root();
        let outcome = machine.shell(&root, &[], "id -u; echo mine > made");
        assert_eq!(outcome.stdout, "1000\n", "{outcome:?}");
        assert_eq!(root.work().join("made").metadata().unwrap().uid(), 0);
    });
}
