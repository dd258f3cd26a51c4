//! The workspace: what may be one, what happens to it, and what a mount into it may do.

use crate::support::{Outcome, Who, World, finish};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

fn in_workspace(world: &World, workspace: &Path) -> Outcome {
    finish(world.exec(&["--workspace", workspace.to_str().unwrap()], &["sh", "-c", "echo ran"]), b"")
}

attack! {
    fn the_root_directory_and_the_home_are_no_workspaces(world) {
        assert_eq!(in_workspace(world, &world.workspace()).text(), "ran\n");
        for wide in [Path::new("/"), &world.home(), world.place(), Path::new("/usr"), Path::new("/tmp")] {
            let outcome = in_workspace(world, wide);
            assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{}: {outcome:?}", wide.display());
            assert!(outcome.stderr.contains("--workspace"), "{outcome:?}");
        }
    }
}

attack! {
    fn a_link_to_the_home_is_no_workspace_either(world) {
        let link = world.place().join("elsewhere");
        symlink(world.home(), &link).unwrap();
        assert_eq!(in_workspace(world, &link).code(), Some(125));
    }
}

attack! {
    fn a_workspace_that_is_missing_or_a_file_is_refused(world) {
        let file = world.place().join("file");
        world.write(&file, "");
        for bad in [world.place().join("nowhere"), file] {
            let outcome = in_workspace(world, &bad);
            assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
            assert!(outcome.stderr.contains(bad.to_str().unwrap()), "{outcome:?}");
        }
    }
}

attack! {
    /// Else the harness could rewrite what is recorded about it.
    fn a_workspace_that_holds_the_records_is_refused(world) {
        let inner = world.workspace().join("state");
        let below = world.omni_home().join("sessions");
        assert_eq!(in_workspace(world, &world.workspace()).text(), "ran\n");
        let mut command = world.exec(&[], &["sh", "-c", "echo ran"]);
        command.env("OMNI_HOME", &inner);
        let outcome = finish(command, b"");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
        let outcome = in_workspace(world, &below);
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
        let mount = format!("{}:/mnt/records:ro", world.omni_home().display());
        let outcome = finish(world.exec(&["--mount", &mount], &["sh", "-c", "echo ran"]), b"");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
    }
}

attack! {
    fn cannot_see_the_records_of_any_session(world) {
        assert_eq!(world.shell(&[], "true").code(), Some(0));
        let look = "say([attempt(lambda: os.listdir(path)) for path in arguments])";
        let state = world.omni_home().display().to_string();
        assert_eq!(world.probe_outside(look, &[&state]), json!(["ok"]));
        assert_eq!(world.probe(look, &[&state]), json!(["ENOENT"]));
    }
}

attack! {
    fn the_harness_starts_in_the_workspace(world) {
        assert_eq!(world.shell(&[], "pwd").text().trim(), world.workspace().to_str().unwrap());
    }
}

attack! {
    fn what_the_harness_writes_belongs_to_the_user(world) {
        assert_eq!(world.shell(&[], "echo made > file; mkdir directory").code(), Some(0));
        let workspace = world.workspace().metadata().unwrap();
        for name in ["file", "directory"] {
            let made = world.workspace().join(name).metadata().unwrap();
            assert_eq!((made.uid(), made.gid()), (workspace.uid(), workspace.gid()), "{name}");
        }
    }
}

attack! {
    fn cannot_change_a_read_only_workspace(world) {
        let file = world.workspace().join("file");
        world.write(&file, "before");
        let script = "echo after > file; echo x > new; rm file; chmod 777 file; ln file second";
        assert_ne!(world.shell(&["--ro"], script).code(), Some(0));
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        assert_eq!(fs::read_dir(world.workspace()).unwrap().count(), 1);
        assert_eq!(world.shell(&[], "echo after > file").code(), Some(0));
        assert_eq!(fs::read_to_string(&file).unwrap(), "after\n");
    }
}

attack! {
    /// A repository's link lies where a mount is to go; omni must not make the mount point through it, on the host.
    fn cannot_make_omni_create_directories_behind_a_link(world) {
        let shared = world.place().join("shared");
        fs::create_dir(&shared).unwrap();
        world.give(&shared);
        // Not below /tmp, over which the new root is built: there the link would lead into the sandbox anyway.
        let outside = tempfile::Builder::new().prefix("omni-attack-").tempdir_in("/var/tmp").unwrap();
        world.give(outside.path());
        symlink(outside.path(), world.workspace().join("link")).unwrap();
        let mount = |below: &str| format!("{}:{}", shared.display(), world.workspace().join(below).display());
        let outcome = finish(world.exec(&["--mount", &mount("plain/new")], &["sh", "-c", "echo ran"]), b"");
        assert_eq!(outcome.text(), "ran\n", "{outcome:?}");
        for below in ["link/new", "link/new/deeper", "link"] {
            let outcome = finish(world.exec(&["--mount", &mount(below)], &["sh", "-c", "echo ran"]), b"");
            assert_eq!((outcome.code(), outcome.text().as_str()), (Some(125), ""), "{outcome:?}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was made behind the link");
    }
}

attack! {
    fn two_sessions_do_not_share_their_temporary_files(world) {
        let script = "for place in /tmp /var/tmp /dev/shm /run \"$HOME\"; do ls -A $place; echo x > $place/left; done; ls /tmp";
        let first = world.shell(&[], script);
        assert!(first.text().contains("left"), "{first:?}");
        assert_eq!(world.shell(&[], script).text(), first.text());
        assert!(!Path::new("/tmp/left").exists() && !world.home().join("left").exists());
    }
}

attack! {
    /// The identity inside is an ordinary user's, whoever started omni.
    fn is_never_root_inside(world) {
        let code = "say([os.getresuid(), os.getresgid(), [attempt(lambda: os.setuid(0)), attempt(lambda: os.setgid(0))]])";
        let found = world.probe(code, &[]);
        let ids: Vec<u32> = serde_json::from_value(found[0].clone()).unwrap();
        let groups: Vec<u32> = serde_json::from_value(found[1].clone()).unwrap();
        assert!(ids.iter().chain(&groups).all(|id| *id != 0), "{found}");
        assert!(found[2].as_array().unwrap().iter().all(|outcome| outcome != "ok"), "{found}");
        if world.who == Who::Root {
            assert_eq!(world.probe_outside(code, &[])[0], json!([0, 0, 0]));
        }
    }
}
