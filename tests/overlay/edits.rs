//! Whatever a session does to a workspace, applying makes the workspace what the same would have made of a copy.

use crate::support::{World, finish};
use crate::tree::{change, omni, tree, waiting};
use std::path::Path;

const EDITS: &str = include_str!("edits.py");
/// How many sequences are tried by each user, and how long each is.
const SEEDS: u32 = 12;
const LENGTH: &str = "40";

/// Edits a directory that is given directly, as the same harness.
fn edit_directly(world: &World, directory: &Path, seed: &str) {
    let flags = ["--workspace", directory.to_str().unwrap(), "--fs", "direct"];
    let outcome = finish(world.exec(&flags, &["/usr/bin/python3", "-I", "-c", EDITS, seed, LENGTH]), b"");
    assert_eq!(outcome.code(), Some(0), "{outcome:?}");
}

/// Edits the workspace behind an overlay.
fn edit_behind(world: &World, seed: &str) {
    let argv = ["/usr/bin/python3", "-I", "-c", EDITS, seed, LENGTH];
    let outcome = finish(world.exec(&["--fs", "overlay"], &argv), b"");
    assert_eq!(outcome.code(), Some(0), "seed {seed}: {outcome:?}");
}

/// A copy in which every name is a file by itself, since applying makes it one.
fn copy(world: &World, from: &Path, to: &Path) {
    let mut command = world.command(Path::new("cp"));
    command.args(["-a", "--no-preserve=links", "-T"]).arg(from).arg(to);
    assert_eq!(finish(command, b"").code(), Some(0));
}

/// Fills the workspace with something to edit.
fn fill(world: &World, seed: &str) {
    let first = world.place().join("first");
    std::fs::create_dir(&first).unwrap();
    world.give(&first);
    edit_directly(world, &first, seed);
    copy(world, &first, &world.workspace());
}

attack! {
    fn random_edits_applied_are_the_same_edits_made_directly(world) {
        let workspace = world.workspace();
        fill(world, "1000");
        for seed in 0..SEEDS {
            let twin = world.place().join(format!("twin{seed}"));
            let seed = seed.to_string();
            copy(world, &workspace, &twin);
            let before = tree(&workspace);
            edit_directly(world, &twin, &seed);
            edit_behind(world, &seed);
            assert_eq!(tree(&workspace), before, "seed {seed}: the session changed nothing outside");
            let applied = omni(world, "apply", &["--executables", "--allow-odd"]);
            assert_eq!(applied.code(), Some(0), "seed {seed}: {applied:?}");
            assert_eq!(tree(&workspace), tree(&twin), "seed {seed}");
        }
    }
}

attack! {
    /// The same in many bites: each path that waits is applied by itself.
    fn random_edits_applied_one_by_one_come_to_the_same(world) {
        let (workspace, twin) = (world.workspace(), world.place().join("twin"));
        fill(world, "2000");
        copy(world, &workspace, &twin);
        edit_directly(world, &twin, "2001");
        edit_behind(world, "2001");
        let mut bites = 0;
        while let Some(path) = waiting(world).first().map(|line| line.split_once(' ').unwrap().1.to_owned()) {
            let applied = omni(world, "apply", &["--executables", "--allow-odd", &path]);
            assert_eq!(applied.code(), Some(0), "{path}: {applied:?}");
            bites += 1;
        }
        assert!(bites > 3, "{bites}");
        assert_eq!(tree(&workspace), tree(&twin));
    }
}

attack! {
    fn ten_thousand_files_are_made_changed_and_applied(world) {
        let make = "import os\nfor i in range(100):\n    os.makedirs(f'many/{i}')\n    for j in range(100):\n        \
            open(f'many/{i}/{j}', 'w').write(f'{i} {j}\\n')";
        let argv = ["/usr/bin/python3", "-I", "-c", make];
        assert_eq!(finish(world.exec(&["--fs", "overlay"], &argv), b"").code(), Some(0));
        let applied = omni(world, "apply", &[]);
        assert_eq!(applied.text(), "10101 applied; nothing is left\n", "{applied:?}");
        change(world, "cd many; for d in *; do read line < $d/1; echo $line >> $d/2; rm $d/3; done; cp -r 0 copy; rm -r 99");
        let applied = omni(world, "apply", &[]);
        // In each of 99 directories one modified and one deleted; a directory of 99 files added, one of 99 deleted.
        assert_eq!(applied.text(), "299 applied; nothing is left\n", "{applied:?}");
        let all = tree(&world.workspace());
        assert_eq!(all.len(), 1 + 99 * (1 + 99) + 1 + 99);
        assert_eq!(all[&b"many/5/2"[..]].2, b"5 2\n5 1\n");
    }
}
