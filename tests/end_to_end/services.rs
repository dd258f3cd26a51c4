//! Programs whose protocols are not read, by `tcp` rules: git over SSH with pinned host keys, PostgreSQL and Redis, each the
//! real client in the sandbox and the real server outside.

use crate::host;
use crate::stage::{Actor, Stage, text};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Where Debian keeps the programs of its newest PostgreSQL that are not in the search path.
fn postgres_directory() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max()
}

/// A server process that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, and waits until it says that it is ready.
fn start(command: &mut Command, ready: &str) -> Server {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server(command.spawn().unwrap());
    let (out, err) = (server.0.stdout.take().unwrap(), server.0.stderr.take().unwrap());
    let streams: [Box<dyn Read + Send>; 2] = [Box::new(out), Box::new(err)];
    let (tell, told) = std::sync::mpsc::channel();
    for stream in streams {
        let tell = tell.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // Read to the end, so that the server never waits for somebody to read.
                let _ = tell.send(line);
            }
        });
    }
    drop(tell);
    let mut said = String::new();
    while let Ok(line) = told.recv() {
        if line.contains(ready) {
            return server;
        }
        writeln!(said, "{line}").unwrap();
    }
    panic!("the server ended before it was ready: {said}");
}

/// A port on this machine's loopback whose connections this takes.
fn port_for(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// A port that leads to a Unix socket: of those there are as many as there are names.
fn port_to(socket: PathBuf) -> u16 {
    port_for(move |outside| {
        let inside = UnixStream::connect(&socket).unwrap();
        let (mut from_outside, mut from_inside) = (outside.try_clone().unwrap(), inside.try_clone().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = std::io::copy(&mut from_outside, &mut &inside);
                let _ = inside.shutdown(Shutdown::Write);
            });
            let _ = std::io::copy(&mut from_inside, &mut &outside);
            let _ = outside.shutdown(Shutdown::Write);
        });
    })
}

/// Runs a shell command in a sandbox with this profile, where the name leads to this port.
fn run(stage: &Stage, profile: &str, name: &str, port: u16, command: &str) -> Output {
    let file = stage.path("profile.yaml");
    stage.write(&file, profile);
    let to = format!("{name}:127.0.0.1:{port}");
    stage.run(&["exec", "--profile", file.to_str().unwrap(), "--connect-to", &to, "--", "sh", "-c", command])
}

fn connections(stage: &Stage) -> Vec<Value> {
    let story = stage.last_session();
    let requests = story["requests"].as_array().unwrap().iter();
    requests.filter(|request| request["method"] == "CONNECT").cloned().collect()
}

fn assert_counted(stage: &Stage) {
    let told = connections(stage);
    assert!(!told.is_empty(), "{}", stage.last_session());
    for one in &told {
        let bytes = |key: &str| one[key].as_u64().unwrap_or_default();
        assert!(one["verdict"] == "allowed" && bytes("request_bytes") > 0 && bytes("response_bytes") > 0, "{one}");
    }
}

/// An SSH server with one key, that lets whoever runs the tests in by another.
struct Ssh {
    port: u16,
    key: String,
}

fn keygen(path: &Path) -> String {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    fs::read_to_string(path.with_extension("pub")).unwrap()
}

impl Ssh {
    fn start(place: &Path, authorized: &str) -> Self {
        let key = keygen(&place.join("host"));
        fs::write(place.join("authorized"), authorized).unwrap();
        let config = format!(
            "HostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             PermitRootLogin yes\nPidFile none\n",
            place.display()
        );
        let file = place.join("sshd_config");
        fs::write(&file, config).unwrap();
        // What it wants to be there, which its unit makes elsewhere.
        let _ = fs::create_dir_all("/run/sshd");
        let port = port_for(move |stream| {
            let out: OwnedFd = stream.try_clone().unwrap().into();
            let mut sshd = Command::new("/usr/sbin/sshd");
            sshd.args(["-i", "-e", "-f"]).arg(&file).stdin(OwnedFd::from(stream)).stdout(out).stderr(Stdio::null());
            sshd.status().unwrap();
        });
        let key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        Self { port, key }
    }
}

/// Whether somebody can log in here who has a key.
fn has_login() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    let locked = shadow.lines().any(|line| line.starts_with("root:!"));
    host::is_root() && !locked && Path::new("/usr/sbin/sshd").is_file()
}

#[test]
fn git_over_ssh_goes_to_the_server_with_the_pinned_key_alone() {
    if !has_login() {
        host::skip("OMNI_REQUIRE_HARNESSES", "no sshd that root could log in to");
        return;
    }
    for actor in Actor::all() {
        if !host::has_sandboxes() || !host::has(*actor, "git") || !host::has(*actor, "ssh") {
            continue;
        }
        let stage = Stage::new(*actor);
        let outside = tempfile::tempdir().unwrap();
        let access = stage.workspace().join("access");
        let authorized = keygen(&access);
        stage.hand_over(&access);
        let ssh = Ssh::start(outside.path(), &authorized);
        let repository = outside.path().join("it.git");
        let git = |arguments: &[&str]| assert!(Command::new("git").args(arguments).output().unwrap().status.success());
        git(&["init", "-q", "--bare", repository.to_str().unwrap()]);
        let other = keygen(&outside.path().join("other"));
        let other = other.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let profile =
            |key: &str| format!("name: deploy\negress:\n  - tcp: git.example:22\nhost_keys:\n  - git.example {key}\n");
        let work = format!(
            "set -e; export GIT_SSH_COMMAND=\"ssh -i $PWD/access -o IdentitiesOnly=yes $OPTIONS\"\n\
             git init -q /tmp/it; cd /tmp/it; echo hello > it; git add it\n\
             git -c user.name=a -c user.email=a@example.com commit -q -m one\n\
             git push -q -f ssh://root@git.example{0} HEAD:main; git ls-remote ssh://root@git.example{0} main",
            repository.display()
        );
        let careless = format!("OPTIONS='-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null'\n{work}");

        let pushed = run(&stage, &profile(&ssh.key), "git.example:22", ssh.port, &work);
        assert!(text(&pushed.stdout).contains("refs/heads/main"), "{actor:?}: {}", text(&pushed.stderr));
        assert_counted(&stage);
        let pushed = run(&stage, &profile(&ssh.key), "git.example:22", ssh.port, &careless);
        assert!(text(&pushed.stdout).contains("refs/heads/main"), "{actor:?}: {}", text(&pushed.stderr));

        // A server with another key is cut off, also where the client was told to take any.
        for command in [&work, &careless] {
            let refused = run(&stage, &profile(&other), "git.example:22", ssh.port, command);
            let said = text(&refused.stdout);
            assert!(!refused.status.success() && !said.contains("refs/heads"), "{actor:?}: {said}");
            let told = connections(&stage);
            assert!(told.iter().any(|one| one.to_string().contains("another key than the profile's")), "{told:?}");
        }
    }
}

#[test]
fn psql_reaches_its_database_by_a_tcp_rule() {
    let Some(bin) = postgres_directory() else {
        host::skip("OMNI_REQUIRE_HARNESSES", "PostgreSQL is not installed");
        return;
    };
    let place = tempfile::Builder::new().prefix("omni-db-").tempdir().unwrap();
    let data = place.path().join("data");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // It does not run as root.
    let as_user = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.current_dir(place.path()).env("LC_ALL", "C");
        if host::is_root() {
            command.uid(65_534).gid(65_534);
        }
        command
    };
    let mut initdb = as_user("initdb");
    initdb.args(["--no-sync", "--auth=trust", "--username=tester", "-E", "UTF8", "-D"]).arg(&data);
    let made = initdb.output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mut postgres = as_user("postgres");
    postgres.arg("-D").arg(&data).args([
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
        "-c",
        "unix_socket_directories=.",
    ]);
    let _server = start(&mut postgres, "ready to accept connections");
    let port = port_to(data.join(".s.PGSQL.5432"));
    for actor in Actor::all() {
        if !host::has_sandboxes() || !host::has(*actor, "psql") {
            continue;
        }
        let stage = Stage::new(*actor);
        let query = "psql -X -A -t -h db.example -U tester -d postgres -c 'select 6 * 7'";
        let rule = "name: db\negress:\n  - tcp: db.example:5432\n";
        let answered = run(&stage, rule, "db.example:5432", port, query);
        assert_eq!(text(&answered.stdout), "42\n", "{actor:?}: {}", text(&answered.stderr));
        assert_counted(&stage);
        let refused = run(&stage, "name: db\n", "db.example:5432", port, query);
        assert!(!refused.status.success(), "{actor:?}: {}", text(&refused.stdout));
    }
}

#[test]
fn redis_cli_reaches_its_server_by_a_tcp_rule() {
    if !host::has(Actor::Tester, "redis-server") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("redis");
    let mut redis = Command::new("redis-server");
    redis.current_dir(place.path()).args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
    let _server = start(&mut redis, "ready to accept connections");
    let port = port_to(socket);
    for actor in Actor::all() {
        if !host::has_sandboxes() || !host::has(*actor, "redis-cli") {
            continue;
        }
        let stage = Stage::new(*actor);
        let query = "redis-cli -h cache.example set answer 42 && redis-cli -h cache.example get answer";
        let rule = "name: cache\negress:\n  - tcp: cache.example:6379\n";
        let answered = run(&stage, rule, "cache.example:6379", port, query);
        assert_eq!(text(&answered.stdout), "OK\n42\n", "{actor:?}: {}", text(&answered.stderr));
        assert_counted(&stage);
        let refused = run(&stage, "name: cache\n", "cache.example:6379", port, query);
        assert!(!text(&refused.stdout).contains("42"), "{actor:?}: {}", text(&refused.stdout));
    }
}
