//! What a user may not reach, root's hand does not reach for them.

use crate::machine::{Files, Machine, on_a_machine};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A directory that only root may enter, with a file that anybody could read who is in it, beside one that all may read.
fn roots(machine: &Machine) -> PathBuf {
    let shown = machine.path("shown");
    let roots = shown.join("roots");
    std::fs::create_dir_all(&roots).unwrap();
    std::fs::write(roots.join("treasure"), "of root\n").unwrap();
    std::fs::write(shown.join("notice"), "for all\n").unwrap();
    std::fs::set_permissions(&roots, PermissionsExt::from_mode(0o700)).unwrap();
    shown
}

/// What comes of looking into a place by a mount, or by working there. That the place itself is found is no secret: who may
/// enter what is above it sees it outside too.
fn looked_into(machine: &Machine, flag: &str, place: &std::path::Path, file: &str) -> String {
    let place = place.display().to_string();
    let script = format!("ls -A {place}; cat {place}/{file}; cat {file}; echo new > {place}/new");
    let outcome = machine.shell(&machine.ada, &[flag, &place], &script);
    assert_ne!(outcome.code(), Some(0), "{flag} {place}: {outcome:?}");
    outcome.stdout
}

#[test]
fn cannot_look_into_what_is_roots_by_mounting_or_working_there() {
    on_a_machine(Files::default(), |machine| {
        let shown = roots(machine);
        for flag in ["--mount", "--workspace"] {
            assert_eq!(looked_into(machine, flag, &shown.join("roots"), "treasure"), "");
            let treasure = shown.join("roots/treasure").display().to_string();
            assert_eq!(machine.shell(&machine.ada, &[flag, &treasure], "true").code(), Some(125), "{flag}");
        }
        assert!(!shown.join("roots/new").exists());
        let notice = shown.join("notice").display().to_string();
        let witness = machine.shell(&machine.ada, &["--mount", &notice], &format!("cat {notice}"));
        assert_eq!(witness.stdout, "for all\n", "{witness:?}");
    });
}

#[test]
fn a_directory_that_is_shown_opens_nothing_below_it_that_was_closed() {
    on_a_machine(Files::default(), |machine| {
        let shown = roots(machine).display().to_string();
        let script = format!("cat {shown}/notice; cat {shown}/roots/treasure; ls {shown}/roots");
        let outcome = machine.shell(&machine.ada, &["--mount", &format!("{shown}:ro")], &script);
        assert_eq!(outcome.stdout, "for all\n", "{outcome:?}");
        assert_eq!(outcome.stderr.matches("Permission denied").count(), 2, "{outcome:?}");
    });
}

#[test]
fn cannot_look_into_another_users_directory() {
    on_a_machine(Files::default(), |machine| {
        machine.bob.write(&machine.bob.home.join("letter"), "of bob\n");
        for flag in ["--mount", "--workspace"] {
            assert_eq!(looked_into(machine, flag, &machine.bob.home, "letter"), "");
            let work = machine.bob.work().display().to_string();
            assert_eq!(machine.shell(&machine.ada, &[flag, &work], "true").code(), Some(125), "{flag}");
        }
        let work = machine.bob.work().display().to_string();
        let own = machine.shell(&machine.bob, &["--workspace", &work], "pwd");
        assert_eq!(own.stdout, format!("{work}\n"), "{own:?}");
    });
}

#[test]
fn a_link_or_a_grant_of_the_users_leads_no_further_than_the_user() {
    on_a_machine(Files::default(), |machine| {
        let treasure = roots(machine).join("roots/treasure");
        let link = machine.ada.home.join("link");
        std::os::unix::fs::symlink(&treasure, &link).unwrap();
        let outcome = machine.shell(&machine.ada, &["--mount", &link.display().to_string()], "true");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        let profile = machine.ada.home.join("grants.yaml");
        machine.ada.write(&profile, &format!("name: grants\nfilesystem: {{ read: [\"{}\"] }}\n", treasure.display()));
        let script = format!("cat {}", treasure.display());
        let granted = machine.shell(&machine.ada, &["--profile", &profile.display().to_string()], &script);
        assert_ne!(granted.code(), Some(0), "{granted:?}");
        assert_eq!(granted.stdout, "", "{granted:?}");
    });
}

#[test]
fn a_program_that_the_user_may_not_execute_is_none() {
    on_a_machine(Files::default(), |machine| {
        let bin = machine.path("bin");
        std::fs::create_dir(&bin).unwrap();
        for (name, mode) in [("roots-own", 0o700), ("of-all", 0o755)] {
            std::fs::write(bin.join(name), "#!/bin/sh\necho ran\n").unwrap();
            std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let run = |name: &str| {
            let program = bin.join(name).display().to_string();
            crate::machine::finish(machine.exec(&machine.ada, &[], &[&program]), b"")
        };
        assert_eq!(run("of-all").stdout, "ran\n");
        let refused = run("roots-own");
        assert_eq!((refused.code(), refused.stdout.as_str()), (Some(126), ""), "{refused:?}");
    });
}

#[test]
fn nobody_outside_gets_hold_of_what_runs_inside() {
    on_a_machine(Files::default(), |machine| {
        let mut session = machine.start(&machine.ada, &[], "echo up; read word; : harness 40591");
        session.line();
        let harness = crate::machine::harnesses("harness 40591");
        assert_eq!(harness.len(), 1);
        let pid = harness[0].to_string();
        // The harness is the user's as the kernel counts; its namespaces are root's.
        let enter = ["--target", &pid, "--user", "--mount", "--net", "--preserve-credentials", "true"];
        let mut command = machine.command(&machine.ada, std::path::Path::new("nsenter"));
        let entered = crate::machine::finish(
            {
                command.args(enter);
                command
            },
            b"",
        );
        assert_ne!(entered.code(), Some(0), "{entered:?}");
        let look = format!("ls /proc/{pid}/root/; cat /proc/{pid}/environ");
        let mut command = machine.command(&machine.ada, std::path::Path::new("/bin/sh"));
        let looked = crate::machine::finish(
            {
                command.args(["-c", &look]);
                command
            },
            b"",
        );
        assert_eq!(looked.stdout, "", "{looked:?}");
        session.signal(nix::sys::signal::Signal::SIGTERM);
        session.end();
    });
}
