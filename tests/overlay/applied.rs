//! Taking changes over, and forgetting them.

use crate::support::{World, finish};
use crate::tree::{change, omni, overlay, tree, waiting};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

fn project(world: &World) {
    for (path, contents) in [("a", "one\n"), ("b", "two\n"), ("d/x", "x\n"), ("d/e/y", "y\n")] {
        world.write(&world.workspace().join(path), contents);
    }
}

/// The facts of the last session's record that are about its changes.
fn recorded(world: &World) -> Vec<String> {
    let story = world.list(&["show", "last"]).remove(0);
    let events = story["events"].as_array().unwrap().clone();
    let events = events.iter().map(|event| event["event"].as_str().unwrap().to_owned());
    events.filter(|event| event.starts_with("changes_")).collect()
}

attack! {
    fn applying_takes_everything_over_and_leaves_nothing(world) {
        project(world);
        change(world, "echo more >> a; rm b; rm -r d; mkdir d; echo n > d/n; chmod 750 d; ln -s a link; echo p > plain");
        let outcome = omni(world, "apply", &[]);
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), "8 applied; nothing is left\n"), "{outcome:?}");
        let workspace = world.workspace();
        assert_eq!(fs::read_to_string(workspace.join("a")).unwrap(), "one\nmore\n");
        assert_eq!(fs::read_link(workspace.join("link")).unwrap().to_str(), Some("a"));
        let names: Vec<_> = tree(&workspace).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["a", "d", "d/n", "link", "plain"]);
        assert_eq!(workspace.join("d").metadata().unwrap().mode() & 0o7777, 0o750);
        let owner = workspace.metadata().unwrap();
        assert!(tree(&workspace).values().all(|(_, ids, _)| *ids == (owner.uid(), owner.gid())));
        assert_eq!((overlay(world), recorded(world)), (None, vec!["changes_applied".to_owned()]));
        let mut verify = world.omni();
        verify.args(["audit", "verify"]);
        assert_eq!(finish(verify, b"").code(), Some(0));
    }
}

attack! {
    fn chosen_paths_are_taken_and_the_rest_waits(world) {
        project(world);
        change(world, "echo more >> a; rm b; mkdir -p n/m; echo f > n/m/f; echo g > n/g; mv d/x d/w");
        let first = omni(world, "apply", &["n/m/f", "d"]);
        assert!(first.text().starts_with("5 applied; 3 left; omni diff "), "{first:?}");
        let workspace = world.workspace();
        let names: Vec<_> = tree(&workspace).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["a", "b", "d", "d/e", "d/e/y", "d/w", "n", "n/m", "n/m/f"]);
        assert_eq!(fs::read_to_string(workspace.join("a")).unwrap(), "one\n");
        assert_eq!(waiting(world), ["modified a", "deleted b", "added n/g"]);
        assert_eq!(omni(world, "apply", &["--except", "b"]).code(), Some(0));
        assert_eq!(waiting(world), ["deleted b"]);
        assert_eq!(omni(world, "discard", &[]).text(), "1 discarded; the workspace is as it was\n");
        assert!(workspace.join("b").exists() && workspace.join("n/g").exists());
        assert_eq!(recorded(world), ["changes_applied", "changes_applied", "changes_discarded"]);
    }
}

attack! {
    fn discarding_forgets_everything(world) {
        project(world);
        let before = tree(&world.workspace());
        change(world, "rm -r d; echo x > a; mkdir -p p/q; echo s > p/q/r; chmod 000 p/q/r p/q");
        assert_eq!(omni(world, "discard", &[]).code(), Some(0));
        assert_eq!((tree(&world.workspace()), overlay(world)), (before, None));
        assert_eq!(recorded(world), ["changes_discarded"]);
        assert!(omni(world, "apply", &[]).stderr.contains("keeps no changes"));
    }
}

attack! {
    fn what_the_host_changed_meanwhile_is_not_overwritten(world) {
        project(world);
        change(world, "echo sandbox > a; echo sandbox > new; rm -r d; echo fine > b");
        let workspace = world.workspace();
        for path in ["a", "new", "d/e/y"] {
            world.write(&workspace.join(path), "host\n");
        }
        let before = tree(&workspace);
        let refused = omni(world, "apply", &[]);
        assert_eq!(refused.code(), Some(1), "{refused:?}");
        for told in ["CONFLICT: the host changed it too", "the host made one too", "the host changed d/e/y", "-host\n+sandbox\n"] {
            assert!(refused.stderr.contains(told), "{told}: {refused:?}");
        }
        assert_eq!(tree(&workspace), before);
        assert_eq!(omni(world, "apply", &["b"]).code(), Some(0));
        assert_eq!(fs::read_to_string(workspace.join("b")).unwrap(), "fine\n");
        assert_eq!(omni(world, "apply", &["--overwrite"]).code(), Some(0));
        assert_eq!(fs::read_to_string(workspace.join("a")).unwrap(), "sandbox\n");
        assert!(!workspace.join("d").exists());
    }
}

attack! {
    fn what_both_did_alike_is_done_and_what_the_host_removed_is_a_conflict(world) {
        project(world);
        change(world, "echo same > a; echo same > new; rm b; echo more >> d/x; echo more >> d/e/y; mv d/e/y d/e/w");
        let workspace = world.workspace();
        world.write(&workspace.join("a"), "same\n");
        world.write(&workspace.join("new"), "same\n");
        fs::remove_file(workspace.join("b")).unwrap();
        assert_eq!(waiting(world), ["added d/e/w", "deleted d/e/y", "modified d/x"]);
        fs::remove_file(workspace.join("d/x")).unwrap();
        let changes = world.list(&["diff", "last"]);
        let conflicts: Vec<_> = changes.iter().map(|change| change["conflict"].clone()).collect();
        assert_eq!(conflicts, [json!(null), json!(null), json!("removed")]);
        assert_eq!(omni(world, "apply", &[]).code(), Some(1));
        assert_eq!(omni(world, "apply", &["--overwrite"]).code(), Some(0));
        assert_eq!(fs::read_to_string(workspace.join("d/x")).unwrap(), "x\nmore\n");
        assert_eq!(fs::read_to_string(workspace.join("d/e/w")).unwrap(), "y\nmore\n");
    }
}

/// Runs a command on a terminal of its own, answers it, and says what it printed and how it ended.
const ON_A_TERMINAL: &str = "
import os, pty, select
answer, argv = arguments[0].encode(), arguments[1:]
child, terminal = pty.fork()
if child == 0:
    os.execv(argv[0], argv)
text = b''
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    text += piece
    if answer and b'[y/N]' in text:
        os.write(terminal, answer + b'\\n')
        answer = b''
say([text.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])])";

attack! {
    fn at_a_terminal_what_may_execute_is_asked_about(world) {
        let omni_path = world.binary().to_str().unwrap();
        let run = |answer: &str, arguments: &[&str]| {
            world.probe_outside(ON_A_TERMINAL, &[&[answer, omni_path], arguments].concat())
        };
        let session = run("", &["exec", "--fs", "overlay", "--", "sh", "-c", "echo x > Makefile; echo y > plain"]);
        assert!(session[0].as_str().unwrap().contains(", 2 changes wait: omni diff "), "{session}");
        let no = run("n", &["apply", "last"]);
        assert!(no[0].as_str().unwrap().contains("added    Makefile") && no[1] == 1, "{no}");
        assert_eq!(fs::read_dir(world.workspace()).unwrap().count(), 0);
        let yes = run("y", &["apply", "last"]);
        assert!(yes[0].as_str().unwrap().contains("2 applied") && yes[1] == 0, "{yes}");
        assert_eq!(fs::read_dir(world.workspace()).unwrap().count(), 2);
    }
}
