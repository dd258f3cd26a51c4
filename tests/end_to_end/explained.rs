//! What `omni policy explain` says of files is what a program inside finds.

use crate::host;
use crate::stage::{Actor, Stage, text};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

/// A profile that shows, hides and leaves out.
const PROFILE: &str = "
name: trial
filesystem:
  read: [~/shown, ~/linked]
  write: [~/kept]
  hide: [~/shown/token]
";

/// What is asked about: the path below the home or the workspace, whether to write, and what is to be said.
const ASKED: [(&str, bool, &str); 12] = [
    ("~/shown/file", false, "allow"),
    ("~/shown/file", true, "deny"),
    ("~/shown/token", false, "deny"),
    ("~/linked", false, "allow"),
    ("~/kept/file", true, "allow"),
    ("~/secret", false, "own"),
    ("inside", true, "allow"),
    (".envrc", true, "deny"),
    (".git/hooks/pre-commit", true, "deny"),
    ("way-out", false, "own"),
    ("/etc/passwd", false, "own"),
    ("/usr/bin/env", true, "deny"),
];

fn stage(actor: Actor) -> Stage {
    let stage = Stage::new(actor);
    let home = stage.path("home");
    for directory in ["shown", "kept"] {
        fs::create_dir(home.join(directory)).unwrap();
    }
    for file in ["shown/file", "shown/token", "kept/file", "secret", "elsewhere"] {
        stage.write(&home.join(file), "the host's own");
    }
    symlink(home.join("elsewhere"), home.join("linked")).unwrap();
    stage.write(&stage.workspace().join("inside"), "the host's own");
    symlink(home.join("secret"), stage.workspace().join("way-out")).unwrap();
    if actor == Actor::Ordinary {
        let id = Some(fs::metadata(stage.workspace()).unwrap().uid());
        ["shown", "kept"].iter().for_each(|path| chown(home.join(path), id, id).unwrap());
    }
    stage.write(&stage.path("trial.yaml"), PROFILE);
    stage
}

/// Whether a program inside can do it to the host's file.
fn happens(stage: &Stage, path: &str, write: bool) -> bool {
    let act = if write { format!(": >> {path}") } else { format!("grep -q \"the host's own\" {path}") };
    let profile = stage.path("trial.yaml").display().to_string();
    stage.run(&["exec", "--profile", &profile, "--", "sh", "-c", &act]).status.success()
}

#[test]
fn what_is_said_of_a_file_is_what_is_found_inside() {
    for actor in Actor::all() {
        if !host::has_sandboxes() {
            return;
        }
        let stage = stage(*actor);
        let profile = stage.path("trial.yaml").display().to_string();
        for (path, write, verdict) in ASKED {
            let mut words = vec!["policy", "explain", "--profile", &profile, "--json", "file", path];
            words.extend(write.then_some("--write"));
            let output = stage.run(&words);
            let parsed = serde_json::from_slice::<serde_json::Value>(&output.stdout);
            let said = parsed.unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
            assert_eq!(said["verdict"], verdict, "{path}: {said}");
            if path != "/etc/passwd" {
                assert_eq!(happens(&stage, path, write), verdict == "allow", "{actor:?} {path}: {said}");
            }
        }
    }
}
