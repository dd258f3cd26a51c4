//! The socket by which a person attaches to a session, or stops it: out of reach of what runs in the session, and deaf to
//! other users.

use crate::support::finish;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;

/// Connects to a session's socket and asks for its end; what came of it.
const ASK: &str = "\
import glob
def ask(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        s.connect(path)
        s.send(json.dumps({'Stop': {'grace_ms': 0}}).encode())
        return s.recv(100).decode()
    except OSError as error:
        return name(error.errno)
say([ask(path) for path in glob.glob(arguments[0] + '/sessions/*/control')] + [ask(arguments[0] + '/sessions/x/control')])";

attack! {
    fn cannot_reach_the_control_socket_of_its_own_session(world) {
        let place = world.omni_home();
        let inside = world.probe(ASK, &[place.to_str().unwrap()]);
        assert_eq!(inside, json!(["ENOENT"]));
        // The control: outside, the same words of the same user are heard.
        let mut omni = world.exec(&[], &["sh", "-c", "echo up; exec sleep 1000"]);
        let mut child = omni.stdout(Stdio::piped()).spawn().unwrap();
        wait_until_up(&mut child);
        let outside = world.probe_outside(ASK, &[place.to_str().unwrap()]);
        assert_eq!(outside, json!(["\"Accepted\"", "ENOENT"]));
        assert_eq!(child.wait().unwrap().code(), None);
    }
}

attack! {
    fn another_user_cannot_stop_or_watch_a_session(world) {
        let mut omni = world.exec(&[], &["sh", "-c", "echo up; exec sleep 1000"]);
        let mut child = omni.stdout(Stdio::piped()).spawn().unwrap();
        wait_until_up(&mut child);
        // Even where the directories were opened by somebody: the socket asks who is there.
        let open = format!("chmod -R a+rX {0} && chmod a+rw {0}/sessions/*/control", world.omni_home().display());
        std::process::Command::new("sh").args(["-c", &open]).status().unwrap();
        let code = format!("os.setgroups([]); os.setgid(65534); os.setuid(65534)\n{ASK}");
        let python = Path::new("/usr/bin/python3");
        let mut other = std::process::Command::new(python);
        other.arg("-I").arg("-c").arg(format!("{}\n{code}", crate::support::PRELUDE)).arg(world.omni_home());
        let told = finish(other, b"").json();
        // It is let down without a word, before or after it spoke.
        assert!([json!(""), json!("EPIPE"), json!("ECONNRESET")].contains(&told[0]), "{told}");
        assert!(child.try_wait().unwrap().is_none(), "the session goes on");
        let mut stop = world.omni();
        stop.args(["stop", "last", "--grace", "100ms"]);
        finish(stop, b"");
        child.wait().unwrap();
    }
}

fn wait_until_up(child: &mut std::process::Child) {
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "up\n");
}
