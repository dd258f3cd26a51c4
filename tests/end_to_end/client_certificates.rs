//! Servers that let nobody in without a client's certificate: the proxy presents it where it belongs, and its key is nowhere
//! inside.

use crate::host;
use crate::server::certified;
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// The names under which servers are known: one that the certificate is for, others with bad ones, one with none, one that asks
/// whoever comes, and OpenSSL's.
const NAMES: [&str; 5] = ["mesh.example", "stranger.example", "expired.example", "unbound.example", "curious.example"];
const OPENSSL: &str = "openssl.example";
const SECRETS: &str = "\
name: mesh
command: sh
description: certificates of clients
filesystem: { workspace: direct }
egress:
  - allow: 'GET mesh.example/**'
  - allow: 'GET openssl.example/**'
  - allow: 'GET stranger.example/**'
  - allow: 'GET expired.example/**'
  - allow: 'GET unbound.example/**'
  - allow: 'GET curious.example/**'
secrets:
  - { name: mesh, from: file:PLACE/mesh.key, certificate: file:PLACE/mesh.pem, inject: true, sites: [
      { host: mesh.example, client_certificate: true }, { host: openssl.example, client_certificate: true }] }
  - { name: stranger, from: file:PLACE/stranger.both, host: stranger.example, client_certificate: true }
  - { name: expired, from: file:PLACE/expired.both, host: expired.example, client_certificate: true }
";
const SCRIPT: &str = r#"
for protocol in --http1.1 --http2 '--tls-max 1.2'; do
  curl -sS $protocol https://mesh.example/ && echo
done
curl -sS https://curious.example/ && echo
curl -sS https://openssl.example/ | grep -o 'Subject: CN *= *ann'
for host in stranger expired unbound; do
  curl -sS -w '\n%{http_code} %header{x-omni-cause}\n' https://$host.example/
done
env; grep -rac can[a]ry $HOME /tmp 2>/dev/null | grep -v :0
true
"#;

/// Who signs clients' certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A client's certificate and its key, as PEM.
    fn client(&self, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Two servers, one that demands a certificate and one that takes whoever comes, with their own authority.
struct Servers {
    demanding: SocketAddr,
    curious: SocketAddr,
    ca_pem: String,
    _runtime: tokio::runtime::Runtime,
}

impl Servers {
    fn start(clients: &Authority) -> Self {
        let (ca_pem, config) = certified(&NAMES);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            rustls::pki_types::pem::PemObject::pem_slice_iter(clients.pem.as_bytes()).flatten(),
        );
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serve = |optional: bool| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
            let verifier = if optional { verifier.allow_unauthenticated() } else { verifier }.build().unwrap();
            let mut asking = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(config.cert_resolver.clone());
            asking.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            runtime.spawn(take(listener, asking));
            address
        };
        let (demanding, curious) = (serve(false), serve(true));
        Self { demanding, curious, ca_pem, _runtime: runtime }
    }
}

/// Tells whoever comes whether they showed a certificate.
async fn take(listener: tokio::net::TcpListener, config: rustls::ServerConfig) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let known = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
            let service = service_fn(move |_| async move {
                let said = format!("certificates shown: {known}");
                Ok::<_, Infallible>(http::Response::new(Full::new(bytes::Bytes::from(said))))
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// OpenSSL's own server, which shows whose certificate it got.
struct OpenSsl {
    process: Child,
    address: String,
    /// So that it can go on talking.
    _said: BufReader<std::process::ChildStdout>,
}

impl OpenSsl {
    /// None where the machine has no such program.
    fn start(place: &Path, clients: &Authority) -> Option<(Self, String)> {
        if !host::has(Actor::Tester, "openssl") {
            return None;
        }
        let authority = Authority::new("of OpenSSL's");
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![OPENSSL.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap().pem();
        let own = place.join("openssl.pem");
        std::fs::write(&own, format!("{certificate}{}", key.serialize_pem())).unwrap();
        let known = place.join("clients.pem");
        std::fs::write(&known, &clients.pem).unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-www", "-Verify", "1", "-verify_return_error", "-cert"]);
        command.arg(own).arg("-CAfile").arg(known).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT ") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "OpenSSL's server ended before it was ready");
        }
        let address = line.trim_start_matches("ACCEPT ").trim().to_owned();
        Some((Self { process, address, _said: said }, authority.pem))
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a stage holds: the certificates in files of the actor's, and who knows them.
fn furnish(stage: &Stage, known: &Authority) {
    let write = |name: &str, contents: String| stage.write(&stage.path(name), contents);
    let (certificate, key) = known.client(2055);
    write("mesh.pem", certificate.clone());
    write("mesh.key", format!("canary\n{key}"));
    let (strange, its_key) = Authority::new("nobody knows").client(2055);
    write("stranger.both", format!("{strange}{its_key}"));
    let (old, its_key) = known.client(2021);
    write("expired.both", format!("{its_key}{old}"));
    write("mixed.both", format!("{certificate}{its_key}"));
    write("profile.yaml", SECRETS.replace("PLACE", &stage.path("").display().to_string()));
}

#[test]
fn servers_that_demand_a_clients_certificate_get_it_from_the_proxy() {
    for actor in Actor::all() {
        if host::has_sandboxes() && host::has(*actor, "curl") {
            presents(*actor);
        }
    }
}

fn presents(actor: Actor) {
    let (stage, known) = (Stage::new(actor), Authority::new("of clients"));
    furnish(&stage, &known);
    let servers = Servers::start(&known);
    let openssl = OpenSsl::start(&stage.path(""), &known);
    let other_root = openssl.as_ref().map_or("", |(_, root)| root.as_str());
    stage.write(&stage.path("roots.pem"), format!("{}{other_root}", servers.ca_pem));
    let mut to: Vec<_> = NAMES.iter().map(|name| format!("{name}:443:{}", servers.demanding)).collect();
    to[4] = format!("{}:443:{}", NAMES[4], servers.curious);
    to.extend(openssl.iter().map(|(openssl, _)| format!("{OPENSSL}:443:{}", openssl.address)));
    let said = stage.run_script(&to, SCRIPT);
    assert_eq!(said.matches("certificates shown: 1").count(), 3, "{actor:?}: {said}");
    assert_eq!(said.matches("certificates shown: 0").count(), 1, "another host is offered none: {actor:?}: {said}");
    assert!(openssl.is_none() || said.contains("Subject: CN"), "{actor:?}: {said}");
    for expected in [
        "502 client_certificate_expired",
        "cannot be presented to expired.example as the client's certificate: it expired at 2021-01-01T00:00:00Z",
    ] {
        assert!(said.contains(expected), "{actor:?}: {expected} is not in {said}");
    }
    // What a server says after the handshake can be lost with its connection, which it closes at once.
    let refused = said.matches("502 client_certificate_refused").count();
    let lost = said.matches("502 connection_reset").count();
    assert_eq!(refused + lost, 2, "{actor:?}: {said}");
    let reasons = ["does not know who signed the client's certificate", "wants a client's certificate, and got none"];
    assert_eq!(reasons.iter().filter(|reason| said.contains(**reason)).count(), refused, "{actor:?}: {said}");
    assert!(!said.contains("canary") && !said.contains("PRIVATE KEY"), "{actor:?}: {said}");
    let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
    assert!(log.contains("with mesh") && log.contains("with stranger"), "{log}");
    let of_other: Vec<_> = log.lines().filter(|line| line.contains("curious.example")).collect();
    assert!(!of_other.is_empty() && of_other.iter().all(|line| !line.contains("with mesh")), "{log}");
}

#[test]
fn a_key_that_is_not_its_certificates_is_refused_before_anything_runs() {
    if !host::has_sandboxes() {
        return;
    }
    let (stage, known) = (Stage::new(Actor::Tester), Authority::new("of clients"));
    furnish(&stage, &known);
    let mixed = SECRETS.replace("stranger.both", "mixed.both").replace("PLACE", &stage.path("").display().to_string());
    stage.write(&stage.path("profile.yaml"), mixed);
    let output =
        stage.run(&["exec", "--profile", stage.path("profile.yaml").to_str().unwrap(), "--", "echo", "executed"]);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let expected = "the secret `stranger` cannot be used: its key is not the key of its certificate";
    assert!(!output.status.success() && said.contains(expected) && !said.contains("executed"), "{said}");
}

#[test]
fn kubectl_by_a_certificate_of_its_kubeconfig() {
    for actor in Actor::all() {
        if host::has_sandboxes() && host::has(*actor, "kubectl") {
            kubectl(*actor);
        }
    }
}

fn kubectl(actor: Actor) {
    let (stage, known) = (Stage::new(actor), Authority::new("of clients"));
    let servers = Servers::start(&known);
    stage.write(&stage.path("roots.pem"), &servers.ca_pem);
    let (certificate, key) = known.client(2055);
    let coded = |pem: &str| BASE64_STANDARD.encode(pem);
    let config = format!(
        "current-context: work\nclusters:\n- name: own\n  cluster: {{server: \"https://mesh.example\"}}\ncontexts:\n- name: work\n  \
        context: {{cluster: own, user: me}}\nusers:\n- name: me\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        coded(&certificate),
        coded(&key)
    );
    let directory = stage.path("home").join(".kube");
    std::fs::create_dir(&directory).unwrap();
    stage.hand_over(&directory);
    stage.write(&directory.join("config"), &config);
    let (to, ca) = (format!("mesh.example:443:{}", servers.demanding), stage.path("roots.pem").display().to_string());
    let arguments = ["exec", "--allow", "GET mesh.example/**", "--connect-to", &to, "--upstream-ca", &ca];
    let script =
        "kubectl get --raw /hello; echo; env; cat ~/.kube/config; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";
    let ask = |flags: &[&str]| {
        let output = stage.run(&[&arguments[..], flags, &["--", "sh", "-c", script]].concat());
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    };
    let said = ask(&["--secret", "kubeconfig"]);
    assert!(said.contains("certificates shown: 1"), "{actor:?}: {said}");
    assert!(said.contains("client-certificate-data") && said.contains("client-key-data"), "{actor:?}: {said}");
    // In the middle of each, where nothing of their beginnings is alike.
    for part in [&certificate, &key] {
        let (plain, coded) = (part.lines().nth(2).unwrap_or(part), coded(part));
        assert!(!said.contains(plain) && !said.contains(&coded[80..120]), "{actor:?}: {said}");
    }
    let log = text(&stage.run(&["audit", "log", "--session", "last"]).stdout);
    assert!(log.contains("with kubeconfig-me"), "{log}");
    // Without it nobody is let in.
    assert!(!ask(&[]).contains("certificates shown"), "{actor:?}");
}
