//! Logins that programs keep in files of their owner's own: `omni exec --secret …` reads the file outside, and the program works
//! with a look-alike that holds placeholders, at a server that lets nobody in without the real credential.

use crate::clients::{COMMIT, HELLO, hello, package_registry, page};
use crate::host;
use crate::lookout::{Control, Lookout};
use crate::server::{ALLOWED, Pages, Server};
use crate::stage::{Actor, Stage, text};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The real password or token, which stands in the owner's own file alone.
const REAL: &str = "canary-5vT0kY3nR8wQ1zLm";
/// The mark of every placeholder.
const MARK: &str = "ZXepeqer";

/// A program with its login in a file.
struct LoginFile {
    /// The program, of the system's.
    program: Option<&'static str>,
    /// The program, of those beside the harnesses, or in the stage; `$TOOL` inside.
    tool: Option<fn(&Stage) -> Option<PathBuf>>,
    preset: &'static str,
    /// Which file, from the home, and what it holds with `REAL` in it.
    path: &'static str,
    contents: String,
    /// Another file beside it.
    beside: Option<(&'static str, String)>,
    /// What the server wants.
    authorization: String,
    /// What is asked inside, and what it then says.
    command: &'static str,
    answer: &'static str,
}

impl Default for LoginFile {
    fn default() -> Self {
        Self {
            program: None,
            tool: None,
            preset: "",
            path: "",
            contents: String::new(),
            beside: None,
            authorization: basic(REAL),
            command: "",
            answer: HELLO,
        }
    }
}

fn basic(password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("me:{password}")))
}

impl LoginFile {
    fn try_everybody(&self, pages: impl Fn() -> Pages) {
        for actor in Actor::all() {
            let stage = Stage::new(*actor);
            let program = self.program.is_none_or(|program| host::has(*actor, program));
            let tool = self.tool.map(|find| find(&stage));
            if host::has_sandboxes() && program && !matches!(tool, Some(None)) {
                self.try_on(&stage, tool.flatten().as_deref(), pages());
            }
        }
    }

    fn try_on(&self, stage: &Stage, tool: Option<&Path>, pages: Pages) {
        let who = (self.preset, stage.actor);
        let lookout = Lookout::new(stage, &[REAL, &encoded(REAL)], MARK);
        let server = Server::watched(pages, vec![self.authorization.clone()], lookout.clone());
        stage.write(&stage.path("server.pem"), &server.ca_pem);
        let own = self.put(stage, self.path, &self.contents);
        if let Some((path, contents)) = &self.beside {
            self.put(stage, path, contents);
        }
        let said = said(&self.ask(stage, &server, &lookout, tool));
        assert!(said.contains(self.answer), "{who:?}: {said}");
        lookout.assert_found_nothing(Control { in_memory: true, in_files: true }, &who);
        // In base64, a whole number of groups.
        assert!(said.contains(MARK) || said.contains(&BASE64_STANDARD.encode("me:omni-placeholde")), "{who:?}: {said}");
        let forms = [REAL.to_owned(), encoded(REAL)];
        assert!(forms.iter().all(|form| !said.contains(form)), "{who:?}: {said}");
        let outside: Vec<PathBuf> = forms.iter().flat_map(|form| found(form, &stage.path(""))).collect();
        assert!(outside.len() == 1 && outside[0] == own, "{who:?}: it stands in {outside:?}");
        assert_eq!(fs::read_to_string(&own).unwrap(), self.contents, "{who:?}: the file is as it was");

        self.put(
            stage,
            self.path,
            &self.contents.replace(REAL, "another-one").replace(&encoded(REAL), &encoded("another-one")),
        );
        let said = self::said(&self.ask(stage, &server, &lookout, tool));
        assert!(!said.contains(self.answer), "{who:?}: the server lets nobody in without it: {said}");
    }

    fn put(&self, stage: &Stage, path: &str, contents: &str) -> PathBuf {
        let file = stage.path("home").join(path);
        let mut made = stage.path("home");
        for part in Path::new(path).parent().unwrap() {
            made.push(part);
            if !made.exists() {
                fs::create_dir(&made).unwrap();
                stage.hand_over(&made);
            }
        }
        stage.write(&file, contents);
        file
    }

    fn ask(&self, stage: &Stage, server: &Server, lookout: &Lookout, tool: Option<&Path>) -> Output {
        let to = format!("{ALLOWED}:443:{}", server.address);
        let (rule, ca) = (format!("* {ALLOWED}/**"), stage.path("server.pem").display().to_string());
        let mut arguments = vec!["exec", "--secret", self.preset, "--allow", &rule, "--connect-to", &to];
        arguments.extend(["--upstream-ca", &ca]);
        let shown = tool.map(|tool| match tool.starts_with(host::tools_directory()) {
            true => format!("{}:ro", host::tools_directory().display()),
            false => format!("{}:ro", tool.display()),
        });
        let tool = tool.map(|tool| format!("TOOL={}", tool.display()));
        if let (Some(shown), Some(tool)) = (&shown, &tool) {
            arguments.extend(["--mount", shown, "--env", tool]);
        }
        let looks = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'";
        let script = format!(
            "cd /tmp; {}; {looks}; cat ~/{}; grep -rac c[a]nary- ~ /tmp | grep -v ':0$'",
            self.command, self.path
        );
        arguments.extend(["--", "sh", "-c", &script]);
        lookout.run(stage, &mut stage.omni(&arguments))
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn encoded(password: &str) -> String {
    BASE64_STANDARD.encode(format!("me:{password}"))
}

/// The files below a directory that hold a text.
fn found(needle: &str, below: &Path) -> Vec<PathBuf> {
    let output = std::process::Command::new("grep").args(["-rlaF", needle]).arg(below).output().unwrap();
    text(&output.stdout).lines().map(PathBuf::from).collect()
}

#[test]
fn curl_by_netrc() {
    let login = LoginFile {
        program: Some("curl"),
        preset: "netrc",
        path: ".netrc",
        contents: format!("machine {ALLOWED} login me password {REAL}\n"),
        command: "curl -sS --netrc --max-time 60 https://allowed.example/hello",
        ..LoginFile::default()
    };
    login.try_everybody(hello);
}

#[test]
fn git_by_its_store_of_credentials() {
    let login = LoginFile {
        program: Some("git"),
        preset: "git-credentials",
        path: ".git-credentials",
        contents: format!("https://me:{REAL}@{ALLOWED}\n"),
        command: "GIT_TERMINAL_PROMPT=0 git -c credential.helper=store ls-remote https://allowed.example/project.git",
        answer: "refs/heads/main",
        ..LoginFile::default()
    };
    let references = format!("{COMMIT}\trefs/heads/main\n");
    login.try_everybody(|| page("/project.git/info/refs", "text/plain", references.clone()));
}

#[test]
fn npm_by_npmrc() {
    let login = LoginFile {
        program: Some("npm"),
        preset: "npmrc",
        path: ".npmrc",
        contents: format!("registry=https://{ALLOWED}/\n//{ALLOWED}/:_authToken={REAL}\n"),
        authorization: format!("Bearer {REAL}"),
        command: "npm install --prefix . --fetch-retries 0 --fetch-timeout 60000 --no-audit --no-fund omni-probe \
            && cat node_modules/omni-probe/hello.txt",
        ..LoginFile::default()
    };
    login.try_everybody(package_registry);
}

#[test]
fn twine_by_pypirc() {
    let tool = |stage: &Stage| host::tool(stage.actor, "agents/bin/python3");
    let login = LoginFile {
        tool: Some(tool),
        preset: "pypirc",
        path: ".pypirc",
        contents: format!(
            "[distutils]\nindex-servers = own\n\n[own]\nrepository = https://{ALLOWED}/legacy/\nusername = me\npassword = {REAL}\n"
        ),
        command: r#""$TOOL" -c 'import zipfile
with zipfile.ZipFile("omni_probe-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("omni_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: omni-probe\nVersion: 1.0\n")
    wheel.writestr("omni_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("omni_probe-1.0.dist-info/RECORD", "")' \
            && "$TOOL" -m twine upload --non-interactive --disable-progress-bar -r own *.whl && echo "it is" up"#,
        answer: "it is up",
        ..LoginFile::default()
    };
    login.try_everybody(|| page("/legacy/", "text/plain", "OK"));
}

#[test]
fn cargo_by_its_credentials() {
    let tool = |stage: &Stage| {
        let program = stage.path("cargo");
        fs::copy(std::env::var_os("CARGO").map(PathBuf::from)?, &program).unwrap();
        Some(program)
    };
    let login = LoginFile {
        tool: Some(tool),
        preset: "cargo-login",
        path: ".cargo/credentials.toml",
        contents: format!("[registries.own]\ntoken = \"{REAL}\"\n"),
        beside: Some((
            ".cargo/config.toml",
            format!("[registries.own]\nindex = \"sparse+https://{ALLOWED}/index/\"\n"),
        )),
        authorization: REAL.to_owned(),
        command: r#"export CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS=cargo:token
            CARGO_REGISTRIES_OWN_INDEX=sparse+https://allowed.example/index/ "$TOOL" yank --registry own \
            --version 1.0.0 omni-probe && echo "it is" yanked"#,
        answer: "it is yanked",
        ..LoginFile::default()
    };
    let index = format!(r#"{{"dl": "https://{ALLOWED}/dl", "api": "https://{ALLOWED}", "auth-required": true}}"#);
    login.try_everybody(|| {
        let mut pages = page("/index/config.json", "application/json", index.clone());
        pages.extend(page("/api/v1/crates/omni-probe/1.0.0/yank", "application/json", r#"{"ok": true}"#));
        pages
    });
}

#[test]
fn skopeo_by_the_file_of_docker() {
    let login = LoginFile {
        program: Some("skopeo"),
        preset: "docker-login",
        path: ".docker/config.json",
        contents: format!(r#"{{"auths": {{"{ALLOWED}": {{"auth": "{}"}}}}}}"#, encoded(REAL)),
        command: "skopeo inspect --raw docker://allowed.example/probe",
        answer: "\"schemaVersion\"",
        ..LoginFile::default()
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = format!(
        r#"{{"schemaVersion": 2, "mediaType": "{kind}", "layers": [],
            "config": {{"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": "{digest}"}}}}"#
    );
    login.try_everybody(|| {
        let mut pages = page("/v2/", "application/json", "{}");
        pages.extend(page("/v2/probe/manifests/latest", kind, manifest.clone()));
        pages
    });
}

#[test]
fn gh_by_its_hosts() {
    let login = LoginFile {
        program: Some("gh"),
        preset: "gh-login",
        path: ".config/gh/hosts.yml",
        contents: format!("{ALLOWED}:\n    user: me\n    oauth_token: {REAL}\n    git_protocol: https\n"),
        authorization: format!("token {REAL}"),
        command: "GH_HOST=allowed.example gh api user",
        ..LoginFile::default()
    };
    login.try_everybody(|| page("/api/v3/user", "application/json", format!(r#"{{"login": "{HELLO}"}}"#)));
}

#[test]
fn kubectl_by_kubeconfig() {
    let login = LoginFile {
        program: Some("kubectl"),
        preset: "kubeconfig",
        path: ".kube/config",
        contents: format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters:\n- name: own\n  cluster:\n    server: https://{ALLOWED}\n\
            contexts:\n- name: work\n  context: {{cluster: own, user: me}}\nusers:\n- name: me\n  user:\n    token: {REAL}\n"
        ),
        authorization: format!("Bearer {REAL}"),
        command: "kubectl get --raw /hello",
        ..LoginFile::default()
    };
    login.try_everybody(hello);
}
