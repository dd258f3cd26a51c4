//! What the harness sees, and that the host keeps what it had.

use crate::support::{World, finish};
use crate::tree::{change, omni, overlay, tree, waiting};
use std::fs;
use std::path::Path;

/// A few files as a project has them.
fn project(world: &World) {
    for (path, contents) in [("a", "one\n"), ("b", "two\n"), ("d/x", "x\n"), ("d/e/y", "y\n"), ("d/e/z", "z\n")] {
        world.write(&world.workspace().join(path), contents);
    }
}

attack! {
    fn the_harness_sees_its_changes_and_the_host_does_not(world) {
        project(world);
        let before = tree(&world.workspace());
        let seen = change(world, "echo more >> a; rm b; mkdir n; echo new > n/f; mv d/x d/w; cat a n/f d/w; ls");
        assert_eq!(seen.text(), "one\nmore\nnew\nx\na\nd\nn\n");
        assert_eq!(tree(&world.workspace()), before);
        let found = ["modified a", "deleted b", "added d/w", "deleted d/x", "added n", "added n/f"];
        assert_eq!(waiting(world), found);
        // Without the overlay the same lands in the workspace.
        assert_eq!(world.shell(&[], "rm b").code(), Some(0));
        assert!(!world.workspace().join("b").exists());
    }
}

attack! {
    fn removing_the_whole_workspace_removes_nothing(world) {
        project(world);
        let before = tree(&world.workspace());
        let seen = change(world, "rm -rf ./* .[!.]*; ls -A | wc -l");
        assert_eq!(seen.text().trim(), "0");
        assert_eq!(tree(&world.workspace()), before);
        assert_eq!(waiting(world), ["deleted a", "deleted b", "deleted d"]);
    }
}

attack! {
    fn a_directory_that_is_removed_and_made_again_does_not_show_its_old_contents(world) {
        project(world);
        let seen = change(world, "rm -r d; mkdir d; echo new > d/x; find d | sort");
        assert_eq!(seen.text(), "d\nd/x\n");
        assert_eq!(waiting(world), ["modified d/x", "deleted d/e"]);
    }
}

attack! {
    fn a_session_that_changes_nothing_leaves_nothing_waiting(world) {
        project(world);
        change(world, "cat a >/dev/null");
        assert_eq!(overlay(world), None);
        let outcome = omni(world, "diff", &[]);
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("keeps no changes"), "{outcome:?}");
    }
}

attack! {
    fn what_is_as_it_was_is_no_change(world) {
        project(world);
        change(world, "touch a; cp b t; cat t > b; rm t; mv d/x d/v; mv d/v d/x; chmod 600 d/e/y; chmod 644 d/e/y");
        assert_eq!(waiting(world), [""; 0]);
        assert_eq!(omni(world, "discard", &[]).text(), "0 discarded; the workspace is as it was\n");
    }
}

attack! {
    /// The layer lies below omni's home, which no sandbox sees.
    fn the_layer_is_reached_through_the_overlay_alone(world) {
        project(world);
        let home = world.omni_home().display().to_string();
        let seen = change(world, &format!("ls {home} 2>&1 || true; grep -c {home} /proc/self/mountinfo || true; ls -A / | grep overlay || true"));
        assert!(seen.text().contains("No such file"), "{seen:?}");
        assert!(seen.text().ends_with("\n0\n"), "{seen:?}");
    }
}

attack! {
    fn a_profile_can_ask_for_the_overlay(world) {
        project(world);
        let profile = world.place().join("careful.yaml");
        world.write(&profile, "name: careful\nfilesystem: { workspace: overlay }\n");
        let flags = ["--profile", profile.to_str().unwrap()];
        assert_eq!(world.shell(&flags, "echo x > new").code(), Some(0));
        assert_eq!(waiting(world), ["added new"]);
        assert!(!world.workspace().join("new").exists());
        let direct = ["--profile", profile.to_str().unwrap(), "--fs", "direct"];
        assert_eq!(world.shell(&direct, "echo x > new").code(), Some(0));
        assert!(world.workspace().join("new").exists());
    }
}

attack! {
    /// What the host cannot layer is refused, with what to do, and never becomes a direct workspace.
    fn a_home_that_cannot_keep_changes_is_refused(world) {
        project(world);
        let before = tree(&world.workspace());
        let mount = "mkdir -p home && mount -t tmpfs -o mode=755 none home 2>/dev/null; mkdir -p home/lower home/upper \
            home/work home/both && mount -t overlay -o userxattr,lowerdir=home/lower,upperdir=home/upper,workdir=home/work \
            none home/both && mkdir -m 700 home/both/state && cd work && OMNI_HOME=$PWD/../home/both/state exec \"$0\" exec \
            --fs overlay -- sh -c 'echo ran > a'";
        let mut command = world.command(Path::new("unshare"));
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount]).arg(world.binary());
        command.current_dir(world.place());
        let outcome = finish(command, b"");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("OMNI_HOME"), "{outcome:?}");
        assert_eq!(tree(&world.workspace()), before);
    }
}

attack! {
    fn a_workspace_with_a_mount_in_it_is_refused(world) {
        project(world);
        let script = "mount -t tmpfs none work/d && cd work && exec \"$0\" exec --fs overlay -- sh -c 'echo ran > a'";
        let mut command = world.command(Path::new("unshare"));
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(world.binary());
        command.current_dir(world.place());
        let outcome = finish(command, b"");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("a file system of its own"), "{outcome:?}");
        assert_eq!(fs::read_to_string(world.workspace().join("a")).unwrap(), "one\n");
    }
}

attack! {
    fn a_writable_mount_is_no_way_around_the_overlay(world) {
        project(world);
        let before = tree(&world.workspace());
        let around = |what: &Path, writable: bool| {
            let mount = format!("{}:/mnt/around{}", what.display(), if writable { "" } else { ":ro" });
            finish(world.exec(&["--fs", "overlay", "--mount", &mount], &["sh", "-c", "echo ran; echo x > a"]), b"")
        };
        let shared = world.place().join("shared");
        world.write(&shared.join("f"), "");
        assert_eq!(around(&shared, true).text(), "ran\n");
        assert_eq!(around(&world.workspace(), false).text(), "ran\n");
        let refused = around(&world.workspace(), true);
        assert_eq!((refused.code(), refused.text().as_str()), (Some(125), ""), "{refused:?}");
        assert!(refused.stderr.contains(":ro"), "{refused:?}");
        assert_eq!(tree(&world.workspace()), before);
    }
}
