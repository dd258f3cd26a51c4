//! Programs that receive what is shipped: a real syslog server, and a strict one for HTTP.

use crate::world::{World, python, skip};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// How long to wait for what must come, on a machine as slow as it likes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long to wait between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A certificate for this machine, and its issuer's, as files.
pub struct Certificates {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    pub fn make(world: &World) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&issuer_key).unwrap().pem();
        let issuer = Issuer::new(params, issuer_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let written = |name: &str, text: String| {
            let path = world.path(name);
            fs::write(&path, text).unwrap();
            path
        };
        Self {
            ca: written("ca.pem", ca),
            certificate: written("server.pem", certificate.pem()),
            key: written("server.key", key.serialize_pem()),
        }
    }
}

/// A program that is ended with its test.
pub struct Running {
    pub child: Child,
    pub out: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The receiver over HTTP; none where Python's packages are missing.
pub struct Receiver {
    pub running: Running,
    pub port: u16,
    pub out: PathBuf,
}

impl Receiver {
    pub fn start(world: &World, kind: &str, port: u16, tls: Option<&Certificates>) -> Option<Self> {
        let out = world.path(&format!("received.{kind}"));
        let mut command = Command::new(python()?);
        command.args(["-I", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exports/receiver.py"), kind]);
        command.arg(&out).arg(port.to_string()).env("TOKEN", TOKEN);
        if let Some(tls) = tls {
            command.arg(&tls.certificate).arg(&tls.key);
        }
        let mut running = Running::start(command);
        let port = running.line().parse().expect("the receiver's port");
        Some(Self { running, port, out })
    }

    /// How it is to answer the next request.
    pub fn say(&self, words: &str) {
        let path = PathBuf::from(format!("{}.say", self.out.display()));
        fs::write(path.with_extension("making"), words).unwrap();
        fs::rename(path.with_extension("making"), path).unwrap();
    }

    /// What has come as a whole: the last line may still be written.
    pub fn received(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        values(text.rsplit_once('\n').map_or("", |(whole, _)| whole))
    }
}

/// What the receiver wants to be shown.
pub const TOKEN: &str = "11111111-2222-3333-4444-CANARYTOKEN0";

pub fn lines(path: &Path) -> Vec<Value> {
    values(&fs::read_to_string(path).unwrap_or_default())
}

fn values(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits until something is as it must become.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let since = std::time::Instant::now();
    while !is() {
        assert!(since.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// rsyslogd with TLS, which writes what it understood of each message to a file; none where it is not installed.
pub struct Rsyslog {
    running: Child,
    pub port: u16,
    pub out: PathBuf,
}

impl Rsyslog {
    pub fn start(world: &World, tls: &Certificates, auth: &str) -> Option<Self> {
        let program = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"].into_iter().find(|path| Path::new(path).exists());
        let module = ["x86_64", "aarch64"].map(|arch| format!("/usr/lib/{arch}-linux-gnu/rsyslog/lmnsd_gtls.so"));
        let (Some(program), true) = (program, module.iter().any(|path| Path::new(path).exists())) else {
            skip("rsyslogd with TLS is missing");
            return None;
        };
        let (place, out, port) = (world.path("rsyslog"), world.path("syslog.out"), world.path("rsyslog.port"));
        fs::create_dir(&place).unwrap();
        let [ca, certificate, key] = [&tls.ca, &tls.certificate, &tls.key].map(|path| path.display());
        let configuration = format!(
            r#"global(workDirectory="{}" maxMessageSize="256k" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{ca}"
  defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.Authmode="{auth}")
template(name="parts" type="string" string="%syslogfacility%|%syslogseverity%|%timereported:::date-rfc3339%|%hostname%|%app-name%|%procid%|%msgid%|%structured-data%|%msg%\n")
ruleset(name="all") {{ action(type="omfile" file="{}" template="parts" asyncWriting="off" flushOnTXEnd="on") }}
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{}" ruleset="all")
"#,
            place.display(),
            out.display(),
            port.display(),
        );
        let file = world.path("rsyslog.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        command.arg("-n").arg("-f").arg(&file).arg("-i").arg(world.path("rsyslog.pid"));
        let running = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let told = || fs::read_to_string(&port).ok()?.trim().parse().ok();
        wait_until("rsyslogd's port", || told().is_some());
        Some(Self { running, port: told().unwrap(), out })
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
