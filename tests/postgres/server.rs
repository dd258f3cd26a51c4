//! A real PostgreSQL of the tests' own: an unprivileged user's, on a socket in a directory of its own, gone at the end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};

/// It does not run as root: nobody's id.
const NOBODY: u32 = 65_534;
/// How often a server is started again that the one before left no room for.
const STARTS_MAX: u32 = 600;
/// Runs the server until nobody holds the other end of its input, however the tests end; then nothing of it is left.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c fsync=off -c full_page_writes=off -c max_connections=60 -c shared_buffers=16MB \
    -c autovacuum=off "${@:3}" </dev/null &
server=$!
read -r word
kill -QUIT $server 2>/dev/null
wait $server 2>/dev/null
[ "$word" = again ] || rm -rf "$2"
"#;

/// Where Debian keeps the programs of its newest PostgreSQL that are not in the search path.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max()
}

/// A server.
pub struct Server {
    programs: PathBuf,
    place: PathBuf,
    options: Vec<String>,
    keeper: Option<(Child, ChildStdin)>,
    databases: AtomicUsize,
}

impl Server {
    /// The port that names its socket.
    fn port(&self) -> &str {
        self.options.iter().find_map(|option| option.strip_prefix("port=")).unwrap_or("5432")
    }

    /// The one that tests share which leave it as it is; none where PostgreSQL is not installed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Server>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).as_ref()
    }

    /// One of a test's own. Everybody who reaches its socket is let in as whom they say they are; by TCP with a password.
    pub fn start(options: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            let required = std::env::var_os("OMNI_REQUIRE_HARNESSES").is_some_and(|value| value == "1");
            assert!(!required, "PostgreSQL is not installed, and OMNI_REQUIRE_HARNESSES=1 wants it");
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let made = as_nobody("mktemp").args(["-d", "/tmp/omni-pg-XXXXXX"]).output().unwrap();
        let place = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
        assert!(place.is_dir(), "{:?}", String::from_utf8_lossy(&made.stderr));
        let opened = as_nobody("chmod").arg("755").arg(&place).status().unwrap();
        assert!(opened.success());
        let mut initdb = as_nobody(programs.join("initdb"));
        initdb.args(["--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--username=omni", "-E", "UTF8"]);
        let made = initdb.arg("-D").arg(place.join("data")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        if options.is_empty() {
            options.extend(["-c", "listen_addresses="].map(str::to_owned));
        }
        let mut server = Self { programs, place, options, keeper: None, databases: AtomicUsize::new(0) };
        server.run();
        Some(server)
    }

    /// The directory of its socket.
    #[allow(dead_code)]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Runs the server, and waits until it says that it is ready.
    fn run(&mut self) {
        let mut said = Vec::new();
        for _ in 0..STARTS_MAX {
            said = match self.try_to_run() {
                Ok(()) => return,
                Err(said) => said,
            };
            // What is left of one that was killed is just going.
            assert!(said.iter().any(|line| line.contains("lock file") || line.contains("shared memory")), "{said:#?}");
        }
        panic!("no server could be started in {}: {said:#?}", self.place.display());
    }

    /// Runs the server once; what it said where it would not begin.
    fn try_to_run(&mut self) -> Result<(), Vec<String>> {
        let mut keeper = as_nobody("bash");
        keeper.args(["-c", KEEPER, "bash"]).arg(&self.programs).arg(&self.place).args(&self.options);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        let (input, output) = (keeper.stdin.take().unwrap(), keeper.stderr.take().unwrap());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end, so that the server never waits for somebody to read.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        self.keeper = Some((keeper, input));
        let mut said = Vec::new();
        while let Ok(line) = told.recv() {
            if line.contains("ready to accept connections") {
                return Ok(());
            }
            let is_over = line.contains("FATAL") && !line.contains("the database system is");
            said.push(line);
            if is_over {
                break;
            }
        }
        self.end("again");
        Err(said)
    }

    fn end(&mut self, word: &str) {
        if let Some((mut keeper, mut input)) = self.keeper.take() {
            let _ = writeln!(input, "{word}");
            drop(input);
            keeper.wait().unwrap();
        }
    }

    /// Kills it as a loss of the process does: nothing is said to anybody, nothing is brought to an end.
    #[allow(dead_code)]
    pub fn kill(&mut self) {
        let text = fs::read_to_string(self.place.join("data/postmaster.pid")).unwrap();
        let pid = text.lines().next().unwrap().trim().to_owned();
        assert!(as_nobody("kill").args(["-KILL", &pid]).status().unwrap().success());
        self.end("again");
    }

    /// Runs it again.
    #[allow(dead_code)]
    pub fn restart(&mut self) {
        self.run();
    }

    /// Has it listen on this machine's loopback too, by TLS; at which port.
    #[allow(dead_code)]
    pub fn protect(&mut self, certificate: &str, key: &str) -> u16 {
        self.kill();
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let mut write = as_nobody("sh");
            write.args(["-c", "umask 077; cat >\"$1\"", "sh"]).arg(self.place.join("data").join(name));
            let mut write = write.stdin(Stdio::piped()).spawn().unwrap();
            write.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(write.wait().unwrap().success());
        }
        let mut said = Vec::new();
        for _ in 0..STARTS_MAX {
            // Free now; somebody else may be faster.
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let named = format!("port={port}");
            self.options =
                ["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", &named].map(str::to_owned).to_vec();
            said = match self.try_to_run() {
                Ok(()) => return port,
                Err(said) => said,
            };
        }
        panic!("no server could be started in {}: {said:#?}", self.place.display());
    }

    /// A new database, as an address for `--store`.
    pub fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        format!("postgres://omni@:{}/{name}?host={}", self.port(), self.place.display())
    }

    /// What psql prints when it says this to a database, by its name or its address.
    #[allow(dead_code)]
    pub fn sql(&self, database: &str, text: &str) -> String {
        let name = database.rsplit_once('/').map_or(database, |_| name_of(database));
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "omni", "-d", name, "-h"])
            .arg(&self.place)
            .args(["-p", self.port()]);
        let output = psql.args(["-c", text]).output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("end");
    }
}

fn name_of(address: &str) -> &str {
    let rest = address.trim_start_matches("postgres://");
    let path = rest.split_once('/').map_or(rest, |(_, path)| path);
    path.split_once('?').map_or(path, |(name, _)| name)
}

/// A command of a user who is not root.
fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
