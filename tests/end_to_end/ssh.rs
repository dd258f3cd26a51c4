//! OpenSSH's own programs: inside, `ssh` logs in to a real `sshd` by a key that a real `ssh-agent` outside holds, and by none
//! but that, to no host but the named one.

use crate::host;
use crate::lookout::{Control, Lookout};
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NAMED: &str = "allowed.example";
const OTHER: &str = "refused.example";

/// What is tried inside, and what of it a person reads.
const SCRIPT: &str = "
go() { ssh -n -o BatchMode=yes -o ConnectTimeout=20 \"$@\" 2>&1; }
ssh-add -l
go -p PORT me@allowed.example 'echo let in'
echo \"forwarded: $(go -A -p PORT me@allowed.example 'echo let in')\"
echo \"other: $(go -o StrictHostKeyChecking=no -p PORT me@refused.example 'echo let in')\"
echo words > file; ssh-keygen -Y sign -f KEY.pub -n file file 2>&1 | tail -1
ssh-add -D 2>&1; ssh-add KEY 2>&1
cat ~/.ssh/known_hosts
";

struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One host: a server that lets in by one key, once per connection.
struct Host {
    process: Child,
    port: u16,
    public: String,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn keygen(path: &Path, kind: &str) -> String {
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(path));
    fs::read_to_string(path.with_extension("pub")).unwrap()
}

/// `commands` are run for whoever is let in.
fn start_host(stage: &Stage, name: &str, kind: &str, authorized: &Path, commands: &str) -> Host {
    let key = stage.path(name);
    let public = keygen(&key, kind);
    // Nobody else is given the port while it is free: it was just used.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = stage.path(&format!("{name}.conf"));
    let lines = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
        PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\nForceCommand {commands}; echo let in\n",
        key.display(),
        authorized.display()
    );
    fs::write(&config, lines).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    let mut process = command.args(["-D", "-e", "-f"]).arg(&config).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "sshd ended");
    }
    // It must not wait for a reader.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Host { process, port, public }
}

/// What of a private key nobody else has: the seed that an unprotected Ed25519 key of OpenSSH's is (PROTOCOL.key, RFC 8032), and the
/// lines of its file in which that stands.
fn private_parts(key: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(key).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('-')).collect();
    let blob = BASE64_STANDARD.decode(lines.concat()).unwrap();
    // Seed and public key are one string of 64 bytes.
    let at = memchr::memmem::rfind(&blob, &[0, 0, 0, 64]).unwrap() + 4;
    let whole_lines = lines[at * 4 / 3 / lines[0].len() + 1..].iter().filter(|line| line.len() > 40);
    std::iter::once(blob[at..at + 32].to_vec()).chain(whole_lines.map(|line| line.as_bytes().to_vec())).collect()
}

fn start_agent(stage: &Stage) -> Agent {
    let socket = stage.path("agent.sock");
    let mut command = Command::new("ssh-agent");
    let mut process = command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Agent { process, socket }
}

#[test]
fn ssh_logs_in_to_the_named_host_by_the_listed_key_and_to_no_other() {
    let actor = Actor::Tester;
    let programs = ["ssh", "ssh-agent", "ssh-add", "ssh-keygen"];
    if host::is_root()
        && host::has_sandboxes()
        && programs.iter().all(|name| host::has(actor, name))
        && host::has(actor, "sshd")
    {
        logs_in(actor);
    }
}

fn logs_in(actor: Actor) {
    let _ = fs::create_dir("/run/sshd");
    let stage = Stage::new(actor);
    let agent = start_agent(&stage);
    let (listed, unlisted) = (stage.path("listed"), stage.path("unlisted"));
    let public = keygen(&listed, "ed25519");
    keygen(&unlisted, "ed25519");
    for key in [&listed, &unlisted] {
        run(Command::new("ssh-add").arg(key).env("SSH_AUTH_SOCK", &agent.socket));
    }
    let authorized = stage.path("authorized");
    fs::write(&authorized, &public).unwrap();
    fs::set_permissions(&authorized, fs::Permissions::from_mode(0o644)).unwrap();
    // Its first guest waits there.
    let waits = format!("cd {}; test -e ready || {{ : > ready; read answer < gate; }}", stage.workspace().display());
    let named = start_host(&stage, "named", "ecdsa", &authorized, &waits);
    let other = start_host(&stage, "other", "ed25519", &authorized, "true");
    let known = stage.path("home/.ssh");
    fs::create_dir(&known).unwrap();
    let words = |public: &str| public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let entries = format!("{NAMED} {}\n{OTHER} {}\n", words(&named.public), words(&other.public));
    stage.write(&known.join("known_hosts"), entries);
    let profile = format!(
        "name: logins\ncommand: sh\nfilesystem: {{ workspace: direct }}\nssh: {{ hosts: [{NAMED}], keys: [{}] }}\n\
        egress:\n  - tcp: {OTHER}:22\n",
        listed.with_extension("pub").display()
    );
    stage.write(&stage.path("logins.yaml"), profile);
    stage.write(&stage.workspace().join("key.pub"), &public);
    fs::copy(&unlisted, stage.workspace().join("key")).unwrap();
    stage.hand_over(&stage.workspace().join("key"));
    let to = [(NAMED, named.port), (OTHER, other.port)].map(|(name, port)| format!("{name}:22:127.0.0.1:{port}"));
    let script = SCRIPT.replace("PORT", "22").replace("KEY", "key").replace("me@", "root@");
    let profile = stage.path("logins.yaml").display().to_string();
    let arguments =
        ["exec", "--profile", &profile, "--connect-to", &to[0], "--connect-to", &to[1], "--", "sh", "-c", &script];
    let lookout = Lookout::new(&stage, &private_parts(&listed), NAMED);
    let output = lookout.run_to_gate(&stage, stage.omni(&arguments).env("SSH_AUTH_SOCK", &agent.socket));
    lookout.assert_found_nothing(Control { in_memory: true, in_files: true }, &"ssh");
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let fingerprint = run(Command::new("ssh-keygen").arg("-lf").arg(listed.with_extension("pub")));
    let fingerprint = fingerprint.split_whitespace().nth(1).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.contains("SHA256:")).count(), 1, "one key is shown: {said}");
    assert!(lines[0].contains(fingerprint) && lines[1] == "let in", "{said}");
    assert!(!said.contains("other: let in") && said.contains("other: "), "{said}");
    // Signing anything else, and changing what the agent holds.
    for refused in ["Signing file failed", "Failed to remove all identities", "Could not add identity"] {
        assert!(said.contains(refused), "{refused}: {said}");
    }
    // What was tried with the other host wrote its key down, so that only the named one is looked for.
    assert!(said.contains(&format!("{NAMED} {}", words(&named.public))), "{said}");
    let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
    assert!(log.contains(&format!("ssh login root@{NAMED} signed by {fingerprint}")), "{log}");
    assert!(log.contains("REFUSED: the host is none that the session may log in to"), "{log}");
    assert!(log.contains("REFUSED: only logins are signed"), "{log}");
    let held = run(Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &agent.socket));
    assert_eq!(held.lines().count(), 2, "the agent outside holds what it held");
}
