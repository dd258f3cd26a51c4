//! Behind a company's proxy, a real one with a password that alone knows where servers are: the way that a profile names,
//! and the root that it names beside.

use crate::host;
use crate::simulated::Provider;
use crate::stage::{Actor, Stage, text};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const HOST: &str = "api.openai.com";

/// Between two looks at a log.
const A_MOMENT: Duration = Duration::from_millis(5);

/// tinyproxy, which ends with the test. In its own view of the file, the host is this machine.
struct Company {
    place: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl Company {
    /// Starts one at a port that nobody else takes first.
    fn start() -> Self {
        loop {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let mut company = Self::at(port);
            while !company.log().contains("Accepting connections") && company.process.try_wait().unwrap().is_none() {
                std::thread::sleep(A_MOMENT);
            }
            if company.process.try_wait().unwrap().is_none() {
                return company;
            }
            assert!(company.log().contains("Could not create listening socket"), "tinyproxy ended: {}", company.log());
        }
    }

    fn at(port: u16) -> Self {
        let place = tempfile::tempdir().unwrap();
        let settings = format!(
            "Port {port}\nListen 127.0.0.1\nMaxClients 8\nLogFile \"{}\"\nLogLevel Info\nBasicAuth me pass-word\n",
            place.path().join("log").display()
        );
        fs::write(place.path().join("settings"), settings).unwrap();
        let hosts = place.path().join("hosts");
        fs::write(&hosts, format!("127.0.0.1 {HOST}\n")).unwrap();
        let mut command = Command::new("bwrap");
        command.args(["--die-with-parent", "--dev-bind", "/", "/", "--bind"]).arg(hosts).arg("/etc/hosts");
        command.args(["tinyproxy", "-d", "-c"]).arg(place.path().join("settings"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { place, process, port }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// The places that it was asked to connect to, in order.
    fn asked(&self) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| line.split_once(": CONNECT ")?.1.split(' ').next());
        lines.map(str::to_owned).collect()
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the request inside was answered, and everything that omni said.
fn answered(stage: &Stage, provider: &Provider, way: &str, root: bool) -> (String, String) {
    let root = if root { format!("upstream_ca: {}\n", provider.ca.display()) } else { String::new() };
    let place = place(provider);
    let profile = format!("name: trial\n{root}upstream_proxy: {way}\negress:\n  - allow: GET {place}/**\n");
    stage.write(&stage.path("trial.yaml"), profile);
    let profile = stage.path("trial.yaml").display().to_string();
    let ask = format!("curl -sS -o /dev/null -w '%{{http_code}}' https://{place}/v1/models");
    let output = stage.run(&["exec", "--profile", &profile, "--", "sh", "-c", &ask]);
    (text(&output.stdout), text(&output.stderr))
}

/// The host, at the provider's port.
fn place(provider: &Provider) -> String {
    format!("{HOST}:{}", provider.address.rsplit(':').next().unwrap())
}

fn in_company(test: impl Fn(&Stage, &Provider, &Company)) {
    for actor in Actor::all() {
        let there = ["tinyproxy", "bwrap", "curl"].iter().all(|program| host::has(*actor, program));
        if !host::has_sandboxes() || !there {
            return;
        }
        let stage = Stage::new(*actor);
        let provider = Provider::start(&stage, "turns:\n- reply: {text: hello}\n");
        test(&stage, &provider, &Company::start());
    }
}

#[test]
fn a_profiles_proxy_leads_to_the_server_and_the_profiles_root_vouches_for_it() {
    in_company(|stage, provider, company| {
        let way = format!("http://me:pass-word@127.0.0.1:{}", company.port);
        let (status, said) = answered(stage, provider, &way, true);
        assert_eq!(status, "200", "{said} {}", company.log());
        assert_eq!((company.asked(), provider.requests().len()), (vec![place(provider)], 1));
        // Without its root nobody vouches for the server, which sees no request.
        let (status, said) = answered(stage, provider, &way, false);
        assert_eq!((status.as_str(), provider.requests().len()), ("502", 1), "{said}");
        // And without the proxy there is no way to it.
        let (status, said) = answered(stage, provider, "none", true);
        assert_eq!((status.as_str(), provider.requests().len()), ("502", 1), "{said}");
    });
}

#[test]
fn a_company_that_is_told_another_password_lets_nothing_through() {
    in_company(|stage, provider, company| {
        let way = format!("http://me:another@127.0.0.1:{}", company.port);
        let (status, said) = answered(stage, provider, &way, true);
        assert_eq!((status.as_str(), provider.requests().len()), ("502", 0), "{said}");
        assert!(!said.contains("another"), "{said}");
    });
}
