//! What a request does, told by its shape: pushing with git, publishing a package, installing one.
//!
//! Pure, and of no host in particular: registries are mirrored under any name. What publishes is recognised broadly, since
//! a rule that refuses it must not be walked around; what installs narrowly, since a rule that allows it must open nothing
//! else.

use super::error::hint_of;
use super::query::may_mention;
use crate::model::{Host, RequestLine};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use std::borrow::Cow;
use std::fmt;

/// What a request does, beyond being a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// Changing references of a git repository, or asking what they are in order to.
    GitPush,
    /// Uploading large files of a git repository, or locking them.
    LfsUpload,
    /// Reading a git repository.
    GitFetch,
    /// Publishing to a registry of npm packages, or changing what is published.
    NpmPublish,
    /// Fetching an npm package or what is known of it.
    NpmInstall,
    /// Uploading to a Python package index.
    PypiPublish,
    /// Fetching a Python package or the list of its files.
    PypiInstall,
    /// Publishing to a registry of crates, or changing what is published.
    CargoPublish,
    /// Fetching a crate.
    CargoInstall,
    /// Pushing to a registry of container images, or deleting from one.
    ImagePush,
    /// Fetching a container image.
    ImagePull,
    /// Publishing a Ruby gem.
    GemPublish,
    /// Fetching a Ruby gem.
    GemInstall,
    /// Fetching a Go module.
    GoInstall,
}

impl Act {
    /// Every act by the name it is written as.
    const ALL: [(&'static str, Self); 14] = [
        ("git-push", Self::GitPush),
        ("git-lfs-upload", Self::LfsUpload),
        ("git-fetch", Self::GitFetch),
        ("npm-publish", Self::NpmPublish),
        ("npm-install", Self::NpmInstall),
        ("pypi-publish", Self::PypiPublish),
        ("pypi-install", Self::PypiInstall),
        ("cargo-publish", Self::CargoPublish),
        ("cargo-install", Self::CargoInstall),
        ("image-push", Self::ImagePush),
        ("image-pull", Self::ImagePull),
        ("gem-publish", Self::GemPublish),
        ("gem-install", Self::GemInstall),
        ("go-install", Self::GoInstall),
    ];

    /// The name it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, act)| *act == self).map_or("", |(name, _)| name)
    }

    /// The act of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, act)| *act)
    }

    /// Whether it makes something public that others install.
    fn publishes(self) -> bool {
        matches!(self, Self::NpmPublish | Self::PypiPublish | Self::CargoPublish | Self::ImagePush | Self::GemPublish)
    }

    /// Whether it fetches what others published.
    fn installs(self) -> bool {
        !self.publishes() && !matches!(self, Self::GitPush | Self::LfsUpload | Self::GitFetch)
    }

    /// The acts that a word of a rule stands for; a hint where it stands for none.
    pub(super) fn named(word: &str) -> Result<Vec<Self>, String> {
        let all = || Self::ALL.iter().map(|(_, act)| *act);
        match word {
            "package-publish" => return Ok(all().filter(|act| act.publishes()).collect()),
            "package-install" => return Ok(all().filter(|act| act.installs()).collect()),
            // Whoever may push its references may push what belongs to them.
            "git-push" => return Ok(vec![Self::GitPush, Self::LfsUpload]),
            _ => {}
        }
        let found = Self::ALL.iter().find(|(name, _)| *name == word);
        let known: Vec<&str> =
            Self::ALL.iter().map(|(name, _)| *name).chain(["package-publish", "package-install"]).collect();
        found.map(|(_, act)| vec![*act]).ok_or_else(|| hint_of(word, &known))
    }

    /// What a request does, if that is told by its shape.
    #[must_use]
    pub fn of(line: &RequestLine, query: Option<&str>, headers: &HeaderMap) -> Option<Self> {
        let path = plain(&line.path);
        let segments = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let asked = Asked { method: &line.method, host: &line.host, path: &path, segments, headers };
        git(&asked, query)
            .or_else(|| image(&asked))
            .or_else(|| crates(&asked))
            .or_else(|| gem(&asked))
            .or_else(|| python(&asked))
            .or_else(|| npm(&asked))
            .or_else(|| go(&asked))
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request with its path as the most forgiving server would read it.
struct Asked<'a> {
    method: &'a str,
    host: &'a Host,
    path: &'a str,
    /// The segments of the path.
    segments: Vec<&'a str>,
    headers: &'a HeaderMap,
}

impl Asked<'_> {
    fn reads(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    fn changes(&self) -> bool {
        !matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "PROPFIND")
    }

    fn header(&self, name: impl http::header::AsHeaderName) -> String {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_ascii_lowercase()
    }
}

/// The path with encoded slashes as slashes, no empty segments, no slash at its end, and in small letters. Most are written
/// so already.
fn plain(path: &str) -> Cow<'_, str> {
    let is_plain = path.len() > 1 && !path.ends_with('/') && !path.contains("//") && !path.contains("%2F");
    if is_plain && path.starts_with('/') && !path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(path);
    }
    let decoded = path.replace("%2F", "/").to_ascii_lowercase();
    let segments: Vec<&str> = decoded.split('/').filter(|segment| !segment.is_empty()).collect();
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// The service that pushes (gitprotocol-http(5)).
const RECEIVE_PACK: &str = "git-receive-pack";
/// The service that fetches.
const UPLOAD_PACK: &str = "git-upload-pack";

/// What stands before the large files of a repository (the Git LFS API).
const LFS: &str = "/info/lfs/";
/// Where several are asked for.
const LFS_BATCH: &str = "/info/lfs/objects/batch";

/// Where is asked what is locked, by POST.
const LFS_LOCKS: &str = "/info/lfs/locks/verify";

fn git(asked: &Asked<'_>, query: Option<&str>) -> Option<Act> {
    let kind = asked.header(CONTENT_TYPE);
    // Which way a batch goes stands in its body.
    if asked.path.ends_with(LFS_LOCKS) {
        return Some(Act::GitFetch);
    }
    if asked.path.contains(LFS) && (asked.path.ends_with(LFS_BATCH) || asked.changes()) {
        return Some(Act::LfsUpload);
    }
    let names = |service: &str| query.is_some_and(|query| may_mention(query, service));
    if let Some(repository) = asked.path.strip_suffix("/info/refs") {
        // Whatever else stands in the query: one mention of pushing makes it a push.
        return match (names("receive-pack"), names(UPLOAD_PACK), asked.reads()) {
            (true, ..) => Some(Act::GitPush),
            (false, true, true) => Some(Act::GitFetch),
            (false, _, false) if !repository.is_empty() => Some(Act::GitPush),
            _ => None,
        };
    }
    if asked.path.ends_with("/git-receive-pack") || kind.contains(RECEIVE_PACK) || is_dav_push(asked) {
        return Some(Act::GitPush);
    }
    (asked.path.ends_with("/git-upload-pack") && asked.method == "POST").then_some(Act::GitFetch)
}

/// A push by the old protocol, which writes a repository's files one by one (`http-push` of git).
fn is_dav_push_path(path: &str) -> bool {
    let parts = [".git/objects/", ".git/refs/", ".git/info/", ".git/head", ".git/packed-refs"];
    parts.iter().any(|part| path.contains(part)) && !path.contains("/info/lfs/")
}

fn is_dav_push(asked: &Asked<'_>) -> bool {
    asked.changes() && asked.method != "POST" && is_dav_push_path(asked.path)
}

/// The registry's own protocol (OCI distribution specification).
fn image(asked: &Asked<'_>) -> Option<Act> {
    let segments = &asked.segments;
    let at = segments.iter().position(|segment| *segment == "v2")?;
    let rest = segments.get(at + 1..)?;
    let is_content = rest.iter().skip(1).any(|segment| matches!(*segment, "manifests" | "blobs"));
    match (is_content, asked.reads()) {
        (true, true) => Some(Act::ImagePull),
        (true, false) if asked.changes() => Some(Act::ImagePush),
        _ => None,
    }
}

/// The web API of crate registries (The Cargo Book, "Registry Web API").
fn crates(asked: &Asked<'_>) -> Option<Act> {
    let segments = &asked.segments;
    let is_api = asked.path.contains("/api/v1/crates/");
    if is_api && asked.changes() {
        return Some(Act::CargoPublish);
    }
    let is_download = is_api && segments.last() == Some(&"download");
    let is_file = asked.path.contains("/crates/") && asked.path.ends_with(".crate");
    // The form of static.crates.io.
    let is_static = matches!(segments.as_slice(), ["crates", _, _, "download"]);
    (asked.reads() && (is_download || is_file || is_static)).then_some(Act::CargoInstall)
}

fn gem(asked: &Asked<'_>) -> Option<Act> {
    if asked.changes() && asked.path.contains("/api/v1/gems") {
        return Some(Act::GemPublish);
    }
    (asked.reads() && asked.path.contains("/gems/") && asked.path.ends_with(".gem")).then_some(Act::GemInstall)
}

/// What uploads to Python's indexes.
const PYTHON_UPLOADERS: [&str; 6] = ["twine/", "uv/", "poetry/", "hatch/", "flit/", "pdm/"];

fn python(asked: &Asked<'_>) -> Option<Act> {
    if asked.method == "POST" && asked.header(CONTENT_TYPE).starts_with("multipart/form-data") {
        let agent = asked.header(USER_AGENT);
        let by_tool = PYTHON_UPLOADERS.iter().any(|tool| agent.starts_with(tool));
        let is_index = asked.path == "/" || asked.path.ends_with("/legacy") || asked.path.ends_with("/simple");
        return (by_tool || is_index).then_some(Act::PypiPublish);
    }
    let is_list = asked.path.ends_with("/simple") || asked.path.contains("/simple/");
    let is_file = [".whl", ".whl.metadata"].iter().any(|end| asked.path.ends_with(end))
        || (asked.path.contains("/packages/") && [".tar.gz", ".zip"].iter().any(|end| asked.path.ends_with(end)));
    let by_type = asked.header(ACCEPT).contains("application/vnd.pypi.simple");
    (asked.reads() && (is_list || is_file || by_type)).then_some(Act::PypiInstall)
}

/// The registry's own protocol (npm's `registry` documentation): a document is a package, `-` what belongs to one.
fn npm(asked: &Asked<'_>) -> Option<Act> {
    let segments = &asked.segments;
    let said = asked.header("npm-command");
    let is_document = match segments.as_slice() {
        [scope, _] => scope.starts_with('@'),
        [_] => true,
        _ => false,
    };
    let is_json = asked.header(CONTENT_TYPE).starts_with("application/json");
    let by_path = segments.split_last().is_some_and(|(_, before)| before.iter().any(|segment| segment.contains("npm")));
    let on_document = is_json && asked.method == "PUT" && (by_path || is_document && may_be_npm(asked));
    let on_revision = segments.contains(&"-rev") || asked.path.contains("/-/package/");
    if asked.changes() && (on_document || on_revision || matches!(said.as_str(), "publish" | "unpublish" | "deprecate"))
    {
        return Some(Act::NpmPublish);
    }
    let is_file = asked.path.contains("/-/") && asked.path.ends_with(".tgz");
    let by_type = asked.header(ACCEPT).contains("application/vnd.npm.install");
    (asked.reads() && (is_file || by_type)).then_some(Act::NpmInstall)
}

/// The clients that publish to npm's registries.
const NPM_CLIENTS: [&str; 5] = ["npm/", "pnpm/", "yarn/", "bun/", "lerna/"];

/// Whether a request may be for a registry of npm packages: it or its client is called so. A `PUT` of JSON to `/NAME` alone
/// says nothing; half of all APIs are written so.
fn may_be_npm(asked: &Asked<'_>) -> bool {
    let agent = asked.header(USER_AGENT);
    let by_client =
        NPM_CLIENTS.iter().any(|client| agent.starts_with(client)) || asked.headers.contains_key("npm-command");
    let by_host = match asked.host {
        Host::Name(name) => {
            let mut labels = name.as_str().split('.');
            labels.any(|label| label.contains("npm") || matches!(label, "registry" | "registries" | "verdaccio"))
        }
        Host::Address(_) => false,
    };
    by_client || by_host
}

/// The protocol of module proxies (The Go Modules Reference, "GOPROXY protocol").
fn go(asked: &Asked<'_>) -> Option<Act> {
    let is_module = asked.path.contains("/@v/") || asked.path.ends_with("/@latest");
    (asked.reads() && is_module).then_some(Act::GoInstall)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Host, Port, Scheme};

    fn act(method: &str, target: &str, headers: &[(&'static str, &'static str)]) -> Option<&'static str> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let line = RequestLine {
            method: method.to_owned(),
            scheme: Scheme::Https,
            host: Host::parse("registry.example").unwrap(),
            port: Port(443),
            path: path.to_owned(),
        };
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Act::of(&line, query, &headers).map(Act::as_str)
    }

    #[test]
    fn putting_a_document_is_publishing_where_there_may_be_a_registry() {
        let put = |host: &str, path: &str, agent: &str| {
            let line = RequestLine {
                method: "PUT".to_owned(),
                scheme: Scheme::Https,
                host: Host::parse(host).unwrap(),
                port: Port(443),
                path: path.to_owned(),
            };
            let headers = [("content-type", "application/json"), ("user-agent", agent)];
            let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            Act::of(&line, None, &headers.into_iter().collect()).map(Act::as_str)
        };
        let publishing = Some("npm-publish");
        assert_eq!(put("registry.npmjs.org", "/leftpad", "curl/8"), publishing);
        assert_eq!(put("npm.pkg.github.com", "/@me%2Fleftpad", "curl/8"), publishing);
        assert_eq!(put("packages.example", "/leftpad", "npm/10.8.2 node/v22"), publishing);
        assert_eq!(put("packages.example", "/api/npm/local/leftpad", "curl/8"), publishing);
        for (host, path) in [("api.example.com", "/settings"), ("192.0.2.1", "/settings"), ("es.example.com", "/index")]
        {
            assert_eq!(put(host, path, "python-requests/2"), None, "{host}");
        }
    }

    #[test]
    fn what_clients_send_is_told_apart() {
        let json = ("content-type", "application/json");
        type Case<'a> = (&'a str, &'a str, &'a [(&'static str, &'static str)], Option<&'a str>);
        let cases: [Case<'_>; 26] = [
            ("GET", "/a/b.git/info/refs?service=git-receive-pack", &[], Some("git-push")),
            ("GET", "/a/b.git/info/refs?service=git-upload-pack", &[], Some("git-fetch")),
            ("POST", "/a/b.git/git-receive-pack", &[], Some("git-push")),
            ("POST", "/a/b.git/git-upload-pack", &[], Some("git-fetch")),
            ("PUT", "/a/b.git/objects/12/34", &[], Some("git-push")),
            ("LOCK", "/a/b.git/refs/heads/main", &[], Some("git-push")),
            ("POST", "/a/b.git/info/lfs/objects/batch", &[], Some("git-lfs-upload")),
            ("POST", "/a/b/info/lfs/locks", &[], Some("git-lfs-upload")),
            ("GET", "/a/b.git/objects/12/34", &[], None),
            ("PUT", "/leftpad", &[json], Some("npm-publish")),
            ("PUT", "/@me%2Fleftpad", &[json], Some("npm-publish")),
            ("PUT", "/api/npm/leftpad", &[json, ("npm-command", "publish")], Some("npm-publish")),
            ("DELETE", "/leftpad/-rev/3-1", &[], Some("npm-publish")),
            ("GET", "/leftpad/-/leftpad-1.0.0.tgz", &[], Some("npm-install")),
            ("GET", "/leftpad", &[("accept", "application/vnd.npm.install-v1+json")], Some("npm-install")),
            ("POST", "/legacy/", &[("content-type", "multipart/form-data; boundary=x")], Some("pypi-publish")),
            ("GET", "/simple/requests/", &[], Some("pypi-install")),
            ("GET", "/packages/ab/requests-2.0-py3-none-any.whl", &[], Some("pypi-install")),
            ("PUT", "/api/v1/crates/new", &[], Some("cargo-publish")),
            ("DELETE", "/api/v1/crates/serde/1.0.0/yank", &[], Some("cargo-publish")),
            ("GET", "/api/v1/crates/serde/1.0.0/download", &[], Some("cargo-install")),
            ("GET", "/crates/serde/serde-1.0.0.crate", &[], Some("cargo-install")),
            ("POST", "/v2/me/image/blobs/uploads/", &[], Some("image-push")),
            ("GET", "/v2/library/debian/manifests/12", &[], Some("image-pull")),
            ("GET", "/golang.org/x/net/@v/v0.1.0.zip", &[], Some("go-install")),
            ("GET", "/anything", &[], None),
        ];
        for (method, target, headers, expected) in cases {
            assert_eq!(act(method, target, headers), expected, "{method} {target}");
        }
    }

    #[test]
    fn no_spelling_of_a_push_makes_it_something_else() {
        for (method, target) in [
            ("POST", "/a/b.git//git-receive-pack"),
            ("POST", "/a/b.git/git-receive-pack/"),
            ("POST", "/a/b.git%2Fgit-receive-pack"),
            ("POST", "/a/b.git/GIT-Receive-Pack"),
            ("GET", "/a/b.git/info/refs?service=git-upload-pack&service=git-receive-pack"),
            ("GET", "/a/b.git/info//refs?service=git-receive-pack"),
            ("PATCH", "/a/b.git/git-receive-pack"),
        ] {
            assert_eq!(act(method, target, &[]), Some("git-push"), "{method} {target}");
        }
        let kind = ("content-type", "application/x-git-receive-pack-request");
        assert_eq!(act("POST", "/elsewhere", &[kind]), Some("git-push"));
    }

    #[test]
    fn groups_stand_for_what_they_hold() {
        assert!(Act::named("package-install").unwrap().contains(&Act::NpmInstall));
        assert!(!Act::named("package-install").unwrap().contains(&Act::GitFetch));
        assert!(Act::named("package-publish").unwrap().contains(&Act::CargoPublish));
        assert_eq!(Act::named("npm-publisch").unwrap_err(), "did you mean `npm-publish`?");
    }
}
