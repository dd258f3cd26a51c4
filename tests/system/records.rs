//! A user sees the records of their own sessions, and root's hands alone touch any.

use crate::machine::{Files, Machine, User, finish, on_a_machine};
use serde_json::{Value, json};

/// How the ids begin under which is recorded what happens to the installation as a whole.
const INSTALLATION: &str = "000000000";

fn told(machine: &Machine, user: &User, words: &[&str]) -> (Option<i32>, String) {
    let outcome = machine.told(user, words);
    (outcome.code(), outcome.stdout + &outcome.stderr)
}

#[test]
fn each_user_sees_their_own_sessions_and_root_sees_all() {
    on_a_machine(Files::default(), |machine| {
        assert_eq!(machine.shell(&machine.ada, &["--name", "adas"], "exit 3").code(), Some(3));
        assert_eq!(machine.shell(&machine.bob, &["--name", "bobs"], "exit 4").code(), Some(4));
        let names = |user: &User| {
            let sessions = machine.list(user, &["sessions"]);
            sessions.iter().map(|session| session["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!((names(&machine.ada), names(&machine.bob)), (vec!["adas".to_owned()], vec!["bobs".to_owned()]));
        assert_eq!(names(&machine.root()), ["bobs", "adas"]);
        let sessions = machine.list(&machine.root(), &["sessions"]);
        let users: Vec<_> = sessions.iter().map(|session| session["user"].as_str().unwrap()).collect();
        assert_eq!(users, [machine.bob.name.as_str(), machine.ada.name.as_str()]);
    });
}

#[test]
fn another_users_session_is_as_if_it_were_not_there() {
    on_a_machine(Files::default(), |machine| {
        machine.shell(&machine.ada, &["--name", "adas"], "true");
        machine.shell(&machine.bob, &["--name", "bobs"], "true");
        let adas = machine.list(&machine.ada, &["sessions"])[0]["session"].as_str().unwrap().to_owned();
        for words in [&["show", &adas][..], &["audit", "log", "--session", &adas], &["replay", &adas]] {
            let (code, text) = told(machine, &machine.bob, words);
            assert_eq!(code, Some(1), "{words:?}: {text}");
            assert!(text.contains("no session") && !text.contains("adas"), "{words:?}: {text}");
        }
        let (_, own) = told(machine, &machine.ada, &["show", &adas]);
        assert!(own.contains("adas"), "{own}");
        let sessions = |user: &User| {
            let log = machine.list(user, &["audit", "log"]);
            log.iter()
                .map(|line| line["session"].as_str().unwrap().to_owned())
                .filter(|session| !session.starts_with(INSTALLATION))
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(sessions(&machine.ada), [adas].into());
        assert_eq!((sessions(&machine.bob).len(), sessions(&machine.root()).len()), (1, 2));
        let journals = |user: &User| {
            let reports = machine.list(user, &["audit", "verify"]);
            let of_journals = reports.iter().filter(|report| report.get("writer").is_some()).count();
            (of_journals, reports.len() - of_journals)
        };
        assert_eq!(journals(&machine.bob), (2, 0), "the journals of one session, and nothing of the machine's ledger");
        assert_eq!(journals(&machine.root()), (5, 1), "and that of what was read");
    });
}

#[test]
fn whoever_reads_through_the_server_is_recorded_before_they_see_anything() {
    on_a_machine(Files::default(), |machine| {
        machine.shell(&machine.ada, &["--name", "adas"], "true");
        let adas = machine.list(&machine.ada, &["sessions"])[0]["session"].as_str().unwrap().to_owned();
        told(machine, &machine.ada, &["show", &adas]);
        told(machine, &machine.bob, &["show", &adas]);
        machine.list(&machine.bob, &["audit", "log"]);
        let reads = || {
            let log = machine.list(&machine.root(), &["audit", "log"]);
            let reads = log.into_iter().filter(|line| line["event"] == "ledger_read");
            reads
                .map(|read| (read["user"].clone(), read["command"].clone(), read["of_session"].clone()))
                .collect::<Vec<_>>()
        };
        // What they may not see was not shown, and nobody read it. What root reads here is in what root reads next.
        let (ada, bob) = (json!(machine.ada.name), json!(machine.bob.name));
        let mut wanted = vec![
            (ada.clone(), json!("sessions"), Value::Null),
            (ada, json!("show"), json!(adas)),
            (bob, json!("audit log"), Value::Null),
        ];
        assert_eq!(reads(), wanted);
        wanted.push((json!(machine.root().name), json!("audit log"), Value::Null));
        assert_eq!(reads(), wanted);
        // A read that cannot be recorded shows nothing: something else lies where it would be.
        let sessions = std::fs::read_dir(machine.path("records").join("sessions")).unwrap();
        let mut names = sessions.map(|entry| entry.unwrap().path());
        let place = names.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(INSTALLATION));
        let journal = place.unwrap().join("changes.journal");
        let whole = std::fs::read(&journal).unwrap();
        std::fs::write(&journal, [&whole[..], b"nonsense, and more of it"].concat()).unwrap();
        let (code, text) = told(machine, &machine.ada, &["show", &adas]);
        assert!(code == Some(1) && text.contains("changes.journal") && !text.contains("adas"), "{text}");
        std::fs::write(&journal, whole).unwrap();
    });
}

#[test]
fn nobody_but_root_touches_the_records() {
    on_a_machine(Files::default(), |machine| {
        machine.shell(&machine.ada, &[], "true");
        let (code, text) = told(machine, &machine.ada, &["audit", "rebuild"]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("only root"), "{text}");
        let mut command = machine.command(&machine.ada, std::path::Path::new("/bin/ls"));
        let listed = finish(
            {
                command.arg(machine.path("records"));
                command
            },
            b"",
        );
        assert!(!listed.status.success() && listed.stdout.is_empty(), "{listed:?}");
        let records = machine.path("records").display().to_string();
        let mounted = machine.shell(&machine.ada, &["--mount", &records], "true");
        assert_eq!(mounted.code(), Some(125), "{mounted:?}");
        // Nor does the harness of a root who comes by the server.
        let mounted = machine.shell(&machine.root(), &["--mount", &records], "true");
        assert_eq!(mounted.code(), Some(125), "{mounted:?}");
        assert_eq!(told(machine, &machine.root(), &["audit", "rebuild"]).0, Some(0));
    });
}

#[test]
fn a_visit_for_records_runs_nothing_and_one_for_sessions_shows_nothing() {
    on_a_machine(Files::default(), |machine| {
        // The server's own words decide, whatever the command line says that comes after.
        let source = "import socket, os, json, fcntl\n\
            def seal(value):\n    f = os.memfd_create('r', os.MFD_ALLOW_SEALING)\n    os.write(f, json.dumps(value).encode())\n    \
            fcntl.fcntl(f, 1033, 15)\n    return f\n\
            def visit(kind, words):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n    \
            s.connect(os.environ['OMNI_SYSTEM_SOCKET'])\n    \
            s.send(json.dumps({'version': VERSION, 'kind': kind}).encode())\n    \
            request = {'words': words, 'directory': '/', 'environment': {'HOME': '/nowhere'}, 'profile': ['p', 'name: p'],\n        \
            'files': {}, 'secrets': [], 'umask': 18}\n    \
            socket.send_fds(s, [b'\"begin\"'], [seal(request), seal({}), 0, 1, 2])\n    words = []\n    \
            while w := s.recv(4096): words.append(w.decode())\n    print(kind, words[-1], flush=True)\n\
            visit('records', ['exec', '--', 'id'])\nvisit('session', ['sessions'])\nvisit('session', ['server', '--system'])\n";
        let source = source.replace("VERSION", &format!("'{}'", env!("CARGO_PKG_VERSION")));
        let mut command = machine.command(&machine.ada, std::path::Path::new("/usr/bin/python3"));
        let outcome = finish(
            {
                command.args(["-I", "-c", &source]);
                command
            },
            b"",
        );
        assert!(!outcome.stdout.contains("uid="), "{outcome:?}");
        let ends: Vec<_> = outcome.stdout.lines().collect();
        let ended = |kind: &str, code: i32| format!("{kind} {{\"ended\":{{\"code\":{code}}}}}");
        assert_eq!(ends, [ended("records", 1), ended("session", 125), ended("session", 125)], "{outcome:?}");
    });
}

#[test]
fn a_user_stops_their_own_sessions_and_nobody_elses() {
    on_a_machine(Files::default(), |machine| {
        let mut session = machine.start(&machine.ada, &[], "echo up; read word; echo $word");
        session.line();
        let id = machine.list(&machine.ada, &["sessions"])[0]["session"].as_str().unwrap().to_owned();
        let (code, text) = told(machine, &machine.bob, &["stop", &id]);
        assert_eq!(code, Some(1), "{text}");
        session.say("alive\n");
        assert_eq!(session.line(), "alive");
        let mut session = machine.start(&machine.ada, &[], "echo up; read word; echo $word");
        session.line();
        let (code, text) = told(machine, &machine.ada, &["stop", "last"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(session.end().code().is_none(), "SIGTERM, as the harness had it");
    });
}

#[test]
fn a_user_gives_rules_to_their_own_sessions_and_nobody_elses() {
    let policy = "name: m\ntype: egress\nrules: [{ deny: '* never.example/**' }]\n";
    on_a_machine(Files { policy, ..Files::default() }, |machine| {
        let mut session = machine.start(
            &machine.ada,
            &[],
            "echo up; read word; curl -s -o /dev/null -w '%{http_code}\n' https://never.example/",
        );
        session.line();
        let id = machine.list(&machine.ada, &["sessions"])[0]["session"].as_str().unwrap().to_owned();
        let rule = ["policy", "allow", &id, "GET never.example/**"];
        let (code, text) = told(machine, &machine.bob, &rule);
        assert!(code == Some(1) && text.contains("no session"), "{text}");
        let (code, text) = told(machine, &machine.ada, &rule);
        assert!(code == Some(0) && text.contains("has the rule `allow GET never.example/**`"), "{text}");
        // What the machine's policy denies stays denied.
        session.say("go\n");
        assert_eq!(session.line(), "403");
        session.end();
        let log = machine.list(&machine.ada, &["audit", "log", "--session", &id]);
        let added: Vec<_> = log.iter().filter(|line| line["event"] == "rule_added").collect();
        assert_eq!(added.len(), 1);
        assert_eq!(added[0]["user"], machine.ada.name.as_str(), "the user's own name, not root's");
        let denied = log.iter().find(|line| line["event"] == "request_denied").unwrap();
        assert!(denied["rule_from"].as_str().unwrap().starts_with("organisation "), "{denied}");
    });
}
