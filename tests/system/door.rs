//! Who may come in, and what becomes of nonsense.

use crate::machine::{Files, Machine, Outcome, User, finish, on_a_machine};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

/// Runs a Python program as a user, outside, with a socket `s` that is connected to the server.
fn at_the_door(machine: &Machine, user: &User, code: &str) -> Outcome {
    at_the_door_in(machine, user, &["env"], code)
}

/// As [`at_the_door`], with a program before it.
fn at_the_door_in(machine: &Machine, user: &User, wrapper: &[&str], code: &str) -> Outcome {
    let source = format!(
        "import socket, os, sys, array, json\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
         s.connect(os.environ['OMNI_SYSTEM_SOCKET'])\n\
         hello = json.dumps({{'version': '{}', 'kind': 'session'}}).encode()\n{code}",
        env!("CARGO_PKG_VERSION")
    );
    let mut command = machine.command(user, Path::new(wrapper[0]));
    command.args(&wrapper[1..]).args(["/usr/bin/python3", "-I", "-c", &source]);
    finish(command, b"")
}

fn still_serves(machine: &mut Machine) {
    let outcome = machine.shell(&machine.bob, &[], "echo served");
    assert_eq!(outcome.stdout, "served\n", "{outcome:?}");
    assert!(machine.server_lives());
}

#[test]
fn everybody_may_knock_and_nobody_may_move_the_door() {
    on_a_machine(Files::default(), |machine| {
        let modes =
            |name: &str| machine.path(name).metadata().map(|found| (found.uid(), found.mode() & 0o7777)).unwrap();
        assert_eq!(modes("run/omni.sock"), (0, 0o666));
        assert_eq!(modes("run"), (0, 0o755));
        assert_eq!((modes("run/running"), modes("records")), ((0, 0o700), (0, 0o700)));
        let second = machine.server().output().unwrap();
        let told = String::from_utf8_lossy(&second.stderr);
        assert!(!second.status.success() && told.contains("another server has"), "{told}");
        let run = machine.path("open");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o777)).unwrap();
        let mut command = std::process::Command::new(machine.binary());
        command.args(["server", "--system", "--socket"]).arg(run.join("omni.sock"));
        command.arg("--config").arg(machine.path("etc")).arg("--home").arg(machine.path("records"));
        let open = command.output().unwrap();
        let told = String::from_utf8_lossy(&open.stderr);
        assert!(!open.status.success() && told.contains("can be changed by others than root"), "{told}");
    });
}

#[test]
fn only_root_serves() {
    on_a_machine(Files::default(), |machine| {
        let mut command = machine.omni(&machine.ada);
        command.args(["server", "--system", "--socket"]).arg(machine.ada.home.join("omni.sock"));
        command.arg("--config").arg(machine.path("etc")).arg("--home").arg(machine.ada.home.join("records"));
        let outcome = finish(command, b"");
        assert!(!outcome.status.success() && outcome.stderr.contains("must be run by root"), "{outcome:?}");
    });
}

#[test]
fn nonsense_is_answered_and_survived() {
    on_a_machine(Files::default(), |machine| {
        let nonsense = [
            "s.send(b'')",
            "s.send(b'GET / HTTP/1.1')",
            "s.send(b'x' * 100000)",
            "s.send(b'{' * 60000)",
            "s.send(json.dumps({'version': '9.9.9', 'kind': 'session'}).encode()); print(s.recv(4096).decode())",
            "s.send(hello); s.send(b'nonsense'); print(s.recv(4096).decode())",
            "s.send(hello); s.send(b'\"begin\"'); print(s.recv(4096).decode())",
            "s.send(hello); socket.send_fds(s, [b'\"begin\"'], [0, 0, 0, 1, 2]); print(s.recv(4096).decode())",
            "s.send(hello); socket.send_fds(s, [b'\"begin\"'], [0] * 30); print(s.recv(4096).decode())",
        ];
        for code in nonsense {
            let outcome = at_the_door(machine, &machine.ada, code);
            assert!(outcome.status.success(), "{code}: {outcome:?}");
            assert!(!code.contains("print") || outcome.stdout.contains("refused"), "{code}: {outcome:?}");
        }
        still_serves(machine);
    });
}

#[test]
fn a_request_that_could_change_or_never_end_is_not_read() {
    on_a_machine(Files::default(), |machine| {
        let send = |file: &str| {
            let code = format!(
                "import fcntl\nf = {file}\nn = os.memfd_create('n', os.MFD_ALLOW_SEALING)\nos.write(n, b'{{}}')\n\
                 fcntl.fcntl(n, 1033, 15)\nd = os.open('/dev/null', os.O_RDWR)\n\
                 s.send(hello); socket.send_fds(s, [b'\"begin\"'], [f, n, d, d, d]); print(s.recv(4096).decode())"
            );
            at_the_door(machine, &machine.ada, &code).stdout
        };
        assert!(send("os.memfd_create('r')").contains("it can still be changed"));
        assert!(send("os.open('/dev/zero', os.O_RDONLY)").contains("it is no file in memory"));
        assert!(send("os.pipe()[0]").contains("it is no file in memory"));
        let sealed = "os.memfd_create('r', os.MFD_ALLOW_SEALING); os.write(f, b'[' * 1000); fcntl.fcntl(f, 1033, 15)";
        assert!(send(sealed).contains("cannot read the request"));
        let huge = "os.memfd_create('r', os.MFD_ALLOW_SEALING); os.truncate(f, 1 << 34); fcntl.fcntl(f, 1033, 15)";
        assert!(send(huge).contains("it is too long"));
        still_serves(machine);
    });
}

#[test]
fn streams_that_are_the_kernels_own_files_are_refused() {
    on_a_machine(Files::default(), |machine| {
        let omni = machine.binary().display().to_string();
        let run = |redirection: &str| {
            let mut command = machine.command(&machine.ada, Path::new("/bin/sh"));
            command.args(["-c", &format!("{omni} exec -- echo 5 {redirection}")]);
            finish(command, b"")
        };
        let refused = run("> /proc/self/oom_score_adj");
        assert_eq!(refused.code(), Some(125), "{refused:?}");
        assert!(refused.stderr.contains("a standard stream must be a file"), "{refused:?}");
        let directory = run("< .");
        assert_eq!(directory.code(), Some(125), "{directory:?}");
        assert_eq!(run("> out").code(), Some(0));
        assert_eq!(std::fs::read_to_string(machine.ada.work().join("out")).unwrap(), "5\n");
    });
}

#[test]
fn a_confined_process_does_not_get_out_by_asking() {
    on_a_machine(Files::default(), |machine| {
        let answer = |wrapper: &[&str]| {
            // What the server left unread when it closed is told once, before what it said.
            let code = "try: s.send(hello); s.send(b'\"continue\"')\nexcept BrokenPipeError: pass\n\
                try: said = s.recv(4096)\nexcept ConnectionResetError: said = s.recv(4096)\nprint(said.decode())";
            let outcome = at_the_door_in(machine, &machine.ada, wrapper, code);
            outcome.stdout + &outcome.stderr
        };
        // Let in, it is told that this is no beginning.
        assert!(answer(&["env"]).contains("did not begin with its beginning"));
        for wrapper in [&["unshare", "--user"][..], &["unshare", "-r", "--mount"]] {
            let told = answer(wrapper);
            assert!(told.contains("your process is in a sandbox or container"), "{wrapper:?}: {told}");
        }
        assert!(answer(&["setpriv", "--no-new-privs"]).contains("your process gave up gaining privileges"));
        let mut command = machine.command(&machine.ada, Path::new("setpriv"));
        command.arg("--no-new-privs").arg(machine.binary()).args(["exec", "--", "echo", "out"]);
        let outcome = finish(command, b"");
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(125), ""), "{outcome:?}");
    });
}

#[test]
fn a_harness_does_not_see_the_socket_and_gets_nothing_from_it_where_it_is_shown() {
    on_a_machine(Files::default(), |machine| {
        let socket = machine.socket().display().to_string();
        let hidden = machine.shell(&machine.ada, &[], &format!("ls {socket}; ls /run/omni/omni.sock"));
        assert_eq!((hidden.stdout.as_str(), hidden.code()), ("", Some(2)), "{hidden:?}");
        let (run, omni) = (machine.path("run").display().to_string(), machine.binary().display().to_string());
        let flags = ["--mount", &run, "--mount", &omni, "--env", "OMNI_SYSTEM_SOCKET"];
        let script = format!("test -S {socket} && echo there; {omni} exec -- echo out; echo status $?");
        let shown = machine.shell(&machine.ada, &flags, &script);
        assert!(!shown.stdout.contains("out"), "{shown:?}");
        assert!(shown.stdout.contains("status 125") || shown.code() == Some(125), "{shown:?}");
    });
}

#[test]
fn whoever_poses_as_the_server_gets_nothing() {
    on_a_machine(Files::default(), |machine| {
        let code = "import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.bind(sys.argv[1])\n\
                    s.listen()\nprint('posing', flush=True)\nc, _ = s.accept()\nprint(len(c.recv(4096)))";
        let socket = machine.bob.home.join("omni.sock");
        let mut impostor = machine.command(&machine.bob, Path::new("/usr/bin/python3"));
        impostor.args(["-I", "-c", code]).arg(&socket).stdout(Stdio::piped());
        let mut impostor = impostor.spawn().unwrap();
        let mut heard = std::io::BufReader::new(impostor.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut heard, &mut line).unwrap();
        // So that the other can reach it.
        for path in [&machine.bob.home, &socket] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let mut command = machine.exec(&machine.ada, &[], &["echo", "out"]);
        let outcome = finish(
            {
                command.env("OMNI_SYSTEM_SOCKET", &socket);
                command
            },
            b"",
        );
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(125), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("not by root: nothing was sent there"), "{outcome:?}");
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut heard, &mut rest).unwrap();
        assert_eq!(rest.trim(), "0", "bytes that the impostor got");
        impostor.wait().unwrap();
    });
}

#[test]
fn a_user_can_do_without_and_a_server_that_is_not_there_is_not_done_without_silently() {
    on_a_machine(Files::default(), |machine| {
        let own = machine.shell(&machine.ada, &["--no-system"], "id -u");
        assert_eq!(own.stdout, format!("{}\n", machine.ada.uid), "{own:?}");
        assert_eq!(machine.list(&machine.ada, &["sessions"]).len(), 0);
        assert_eq!(machine.list(&machine.ada, &["sessions", "--no-system"]).len(), 1);
        machine.kill_server();
        let outcome = machine.shell(&machine.ada, &[], "echo out");
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(125), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("does not answer"), "{outcome:?}");
    });
}
