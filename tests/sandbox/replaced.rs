//! What is hidden, and is replaced outside while the harness runs: the kernel takes the cover away with what it covered.

use crate::support::{World, wait};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// How long a cover may take to stand on a machine that has no time, and omni to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says what each file that it is asked for holds, in one line.
const READER: &str = r#"while read -r name; do printf '%s\n' "$(cat "$name" 2>/dev/null)"; done"#;
const PROFILE: &str = "\
name: granted
command: sh
description: a directory of the home, with something hidden in it
filesystem: { workspace: direct, read: [~/tool], hide: [~/tool/login.json, ~/tool/keys] }
";

/// A harness that reads what it is told to.
struct Reader(Child, BufReader<ChildStdout>);

impl Reader {
    fn start(world: &World) -> Self {
        let profile = world.place().join("granted.yaml");
        world.write(&profile, PROFILE);
        Self::start_with(world, &profile)
    }

    fn start_with(world: &World, profile: &Path) -> Self {
        let mut command = world.exec(&["--profile", profile.to_str().unwrap()], &["sh", "-c", READER]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self(child, answers)
    }

    fn reads(&mut self, path: &Path) -> String {
        writeln!(self.0.stdin.as_ref().unwrap(), "{}", path.display()).unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until it reads nothing any more.
    fn loses(&mut self, path: &Path) {
        let since = Instant::now();
        while !self.reads(path).is_empty() {
            assert!(since.elapsed() < PATIENCE, "{} can still be read", path.display());
        }
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(wait(&mut self.0, PATIENCE).success());
    }
}

/// Puts another file in the place of one.
type Replace = fn(&World, &Path);

fn by_renaming(world: &World, path: &Path) {
    let new = path.with_extension("new");
    world.write(&new, "second\n");
    fs::rename(new, path).unwrap();
}

fn by_removing(world: &World, path: &Path) {
    fs::remove_file(path).unwrap();
    world.write(path, "second\n");
}

fn by_exchanging(world: &World, path: &Path) {
    let new = path.with_extension("new");
    world.write(&new, "second\n");
    renameat_with(CWD, &new, CWD, path, RenameFlags::EXCHANGE).unwrap();
    fs::remove_file(new).unwrap();
}

fn told(world: &World) -> Vec<String> {
    let events = world.list(&["audit", "log", "--session", "last"]);
    let replaced = events.iter().filter(|event| event["event"] == "hidden_file_replaced");
    replaced.filter_map(|event| event["path"].as_str()).map(str::to_owned).collect()
}

attack! {
    /// Nor keep reading it: for a moment it stands in the open.
    fn cannot_read_for_long_what_took_the_place_of_a_hidden_file(world) {
        let (env, login) = (world.workspace().join("api/.env"), world.home().join("tool/login.json"));
        let (open, keys) = (world.workspace().join("open.txt"), world.home().join("tool/keys"));
        for path in [&env, &login, &open, &keys.join("key")] {
            world.write(path, "first\n");
        }
        let ways: [Replace; 3] = [by_renaming, by_removing, by_exchanging];
        for replace in ways {
            let mut reader = Reader::start(world);
            assert_eq!([&env, &login, &keys.join("key"), &open].map(|path| reader.reads(path)), ["", "", "", "first"]);
            for path in [&env, &login, &open] {
                replace(world, path);
            }
            reader.loses(&env);
            reader.loses(&login);
            // And a second time: what covers it now is as good as what did.
            replace(world, &login);
            reader.loses(&login);
            assert_eq!(reader.reads(&open), "second", "what is not hidden can be read, and was replaced");
            assert_eq!(fs::read_to_string(&env).unwrap(), "second\n");
            reader.end();
            let mut told = told(world);
            told.sort();
            let mut expected = [&env, &login, &login].map(|path| path.display().to_string());
            expected.sort();
            assert_eq!(told, expected);
            world.write(&open, "first\n");
        }
    }
}

attack! {
    fn cannot_read_a_directory_that_took_the_place_of_a_hidden_one(world) {
        let keys = world.home().join("tool/keys");
        world.write(&keys.join("key"), "first\n");
        let mut reader = Reader::start(world);
        assert_eq!(reader.reads(&keys.join("key")), "");
        world.write(&world.home().join("tool/more/key"), "second\n");
        renameat_with(CWD, world.home().join("tool/more"), CWD, &keys, RenameFlags::EXCHANGE).unwrap();
        reader.loses(&keys.join("key"));
        assert_eq!(fs::read_to_string(keys.join("key")).unwrap(), "second\n");
        reader.end();
        assert_eq!(told(world), [keys.display().to_string()]);
    }
}

attack! {
    /// In a sandbox within the sandbox a cover would not be seen.
    fn a_session_with_nested_sandboxes_ends_where_what_it_hides_is_replaced(world) {
        let env = world.workspace().join(".env");
        world.write(&env, "first\n");
        let profile = world.place().join("nested.yaml");
        world.write(&profile, "name: nested\nnested_sandboxes: true\nfilesystem: { workspace: read-only }\n");
        let mut command = world.exec(&["--profile", profile.to_str().unwrap()], &["sh", "-c", "echo up; exec sleep 1000"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        by_renaming(world, &env);
        assert_eq!(wait(&mut child, PATIENCE).code(), Some(125));
    }
}

/// How a directory comes to be another.
#[derive(Clone, Copy)]
enum Way {
    Renamed,
    Made,
    Exchanged,
}

/// Puts a tree in the place of the one at `path`, with something new below it.
fn replace_tree(world: &World, path: &Path, below: &str, way: Way) {
    let aside = path.with_extension("aside");
    match way {
        Way::Renamed => {
            world.write(&aside.join(below), "second\n");
            fs::rename(path, path.with_extension("old")).unwrap();
            fs::rename(aside, path).unwrap();
            fs::remove_dir_all(path.with_extension("old")).unwrap();
        }
        Way::Made => {
            fs::remove_dir_all(path).unwrap();
            world.write(&path.join(below), "second\n");
        }
        Way::Exchanged => {
            world.write(&aside.join(below), "second\n");
            renameat_with(CWD, &aside, CWD, path, RenameFlags::EXCHANGE).unwrap();
            fs::remove_dir_all(aside).unwrap();
        }
    }
}

attack! {
    /// What is hidden lies under its path, whichever directories are on the way there by now.
    fn cannot_read_for_long_what_lies_in_a_directory_that_took_the_place_of_a_hidden_ones(world) {
        let (top, login) = (world.workspace().join("api"), world.home().join("tool/a/b/token"));
        let env = top.join("deep/er/.env");
        let profile = world.place().join("granted.yaml");
        world.write(&profile, "\
name: granted
command: sh
description: a directory of the home, with something deep in it hidden
filesystem: { workspace: direct, read: [~/tool], hide: [~/tool/a/b/token] }
");
        for way in [Way::Renamed, Way::Made, Way::Exchanged] {
            for path in [&env, &login, &top.join("deep/open")] {
                world.write(path, "first\n");
            }
            let mut reader = Reader::start_with(world, &profile);
            assert_eq!([&env, &login, &top.join("deep/open")].map(|path| reader.reads(path)), ["", "", "first"]);
            replace_tree(world, &top, "deep/er/.env", way);
            replace_tree(world, &world.home().join("tool/a"), "b/token", way);
            reader.loses(&env);
            reader.loses(&login);
            // A second time, and nearer to it.
            replace_tree(world, &top.join("deep"), "er/.env", way);
            reader.loses(&env);
            world.write(&top.join("deep/er/seen"), "third\n");
            assert_eq!(reader.reads(&top.join("deep/er/seen")), "third", "the control: it is what lies there now");
            assert_eq!(fs::read_to_string(&env).unwrap(), "second\n");
            reader.end();
            let mut told = told(world);
            told.sort();
            let mut expected = [&env, &env, &login].map(|path| path.display().to_string());
            expected.sort();
            assert_eq!(told, expected);
        }
    }
}

attack! {
    /// The harness moves a directory away itself, and has another in its place when the host puts something there.
    fn cannot_move_the_way_to_a_hidden_file_aside_first(world) {
        let env = world.workspace().join("api/.env");
        world.write(&env, "first\n");
        let mut command = world.exec(&[], &["sh", "-c", &format!("mv api away && mkdir api && echo up; {READER}")]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut reader = Reader(child, answers);
        assert_eq!(reader.line(), "up");
        assert_eq!(reader.reads(&world.workspace().join("away/.env")), "", "its cover goes with it");
        world.write(&env, "second\n");
        world.write(&world.workspace().join("api/open"), "open\n");
        reader.loses(&env);
        let away = world.workspace().join("away/.env");
        by_renaming(world, &away);
        reader.loses(&away);
        assert_eq!(reader.reads(&world.workspace().join("api/open")), "open", "the control");
        reader.end();
    }
}

attack! {
    /// What the look found while the harness ran, or while it waited, is watched like what was found before the start.
    fn cannot_read_for_long_what_took_the_place_of_a_file_that_was_found_late(world) {
        fs::create_dir(world.workspace().join("many")).unwrap();
        for number in 0..1500 {
            fs::write(world.workspace().join(format!("many/{number}")), "").unwrap();
        }
        let env = world.workspace().join("a/b/c/.env");
        for wait in [true, false] {
            world.write(&env, "first\n");
            let profile = world.place().join("late.yaml");
            let text = format!("name: late\ncommand: sh\ndescription: late\nfilesystem: {{ workspace: direct, secret_files: {{ wait: {wait} }} }}\n");
            world.write(&profile, &text);
            let mut reader = Reader::start_with(world, &profile);
            reader.loses(&env);
            by_renaming(world, &env);
            reader.loses(&env);
            replace_tree(world, &world.workspace().join("a/b"), "c/.env", Way::Exchanged);
            reader.loses(&env);
            world.write(&world.workspace().join("a/b/c/open"), "open\n");
            assert_eq!(reader.reads(&world.workspace().join("a/b/c/open")), "open", "the control");
            assert_eq!(fs::read_to_string(&env).unwrap(), "second\n");
            reader.end();
            assert_eq!(told(world), [env.display().to_string(), env.display().to_string()], "{wait}");
        }
    }
}
