//! Reads profiles: from a tree of YAML to a checked [`Profile`], with every complaint on the way.

use super::document::{self, Fields, Node, Value, list, text};
use super::error::{Complaint, PolicyErrors, hint_of, refuse_any};
use super::file_pattern::FilePattern;
use super::host_keys::HostKeys;
use super::profile::{Environment, Filesystem, Harness, Limits, Profile, WorkspaceMode};
use super::quantity::{parse_duration, parse_size};
use super::read_model_hosts::model_hosts;
use super::read_secret::read_variable;
use super::read_terminal;
use super::rule::{Effect, Level, Rule, WrittenRule};
use super::secret::{SecretSource, SecretSpec};
use super::secret_files::SecretFiles;
use super::ssh::SshAccess;
use super::upstream_proxy::UpstreamProxySetting;
use crate::model::{Durability, LOOPBACK_NAME, Tier};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Directories that no profile may grant whole: doing so would undo the sandbox.
const TOO_WIDE: [&str; 7] = ["/", "~", "/proc", "/sys", "/dev", "/home", "/root"];

/// Reads a profile's text.
pub(super) fn profile(label: &str, text: &str) -> Result<Profile, PolicyErrors> {
    let root = document::parse(text).map_err(|complaint| PolicyErrors(vec![complaint.labelled(label)]))?;
    let mut complaints = Vec::new();
    let profile = whole(label, root, &mut complaints);
    refuse_any(label, complaints)?;
    Ok(profile)
}

fn whole(label: &str, root: Node, complaints: &mut Vec<Complaint>) -> Profile {
    let no_name = root.complaint("the profile has no `name`", "add `name: NAME`");
    let mut fields = Fields::of(root, "a profile", complaints);
    let mut take_text = |name: &'static str, complaints: &mut Vec<Complaint>| {
        fields.take(name).map(|node| text(node, &format!("`{name}`"), complaints).unwrap_or_default())
    };
    let name = take_text("name", complaints);
    let command = take_text("command", complaints);
    let description = take_text("description", complaints).unwrap_or_default();
    let harness = choice(fields.take("harness"), "harness", &Harness::ALL, complaints);
    let filesystem = fields.take("filesystem").map(|node| filesystem(node, complaints)).unwrap_or_default();
    let pass_node = fields.take("environment");
    let (environment, passed) = pass_node.map(|node| environment(node, complaints)).unwrap_or_default();
    let egress = fields.take("egress").map(|node| rules(node, "`egress`", complaints)).unwrap_or_default();
    let host_keys = fields.take("host_keys").map(|node| HostKeys::read(node, complaints)).unwrap_or_default();
    let upstream_proxy = fields.take("upstream_proxy").and_then(|node| UpstreamProxySetting::read(node, complaints));
    let upstream_ca = fields.take("upstream_ca").and_then(|node| roots_path(node, complaints));
    let secrets = fields.take("secrets").map(|node| secrets(node, complaints)).unwrap_or_default();
    let model_hosts = fields.take("model_hosts").map(|node| model_hosts(node, complaints)).unwrap_or_default();
    let limits = fields.take("limits").map(|node| limits(node, complaints)).unwrap_or_default();
    let terminal = fields.take("terminal").map(|node| read_terminal::terminal(node, complaints)).unwrap_or_default();
    let minimum_isolation = fields.take("minimum_isolation").and_then(|node| tier(node, complaints));
    let nested_sandboxes =
        fields.take("nested_sandboxes").is_some_and(|node| switch(&node, "nested_sandboxes", complaints));
    let record_bodies = fields.take("record_bodies").is_some_and(|node| switch(&node, "record_bodies", complaints));
    let durability = choice(fields.take("durability"), "durability", &Durability::ALL, complaints);
    let require_shipping = fields.take("require_shipping").and_then(|node| shipped_within(node, complaints));
    let ssh = fields.take("ssh").and_then(|node| SshAccess::read(node, complaints));
    fields.finish(complaints);
    if name.is_none() {
        complaints.push(no_name);
    }
    complaints.extend(egress.iter().filter_map(|rule| Rule::parse(Level::Profile, label, rule).err()));
    no_secret_leaks(&passed, &environment, &secrets, complaints);
    let (secrets, logins) = secrets.into_iter().map(|(_, secret)| secret).partition(|secret| secret.login.is_none());
    let name = name.unwrap_or_default();
    let mut profile = Profile {
        name,
        command,
        description,
        harness,
        filesystem,
        environment,
        egress,
        host_keys,
        upstream_proxy,
        upstream_ca,
        secrets,
        model_hosts,
        limits,
        terminal,
        minimum_isolation,
        nested_sandboxes,
        record_bodies,
        durability,
        require_shipping,
        ssh,
    };
    let logins: Vec<SecretSpec> = logins;
    profile.egress.extend(profile.ssh.iter().flat_map(SshAccess::rules));
    logins.into_iter().for_each(|login| profile.take_login(login));
    profile
}

fn roots_path(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    let path = text(node.clone(), "`upstream_ca`", complaints)?;
    match full_path(&path) {
        Ok(()) => Some(path),
        Err(hint) => {
            complaints.push(node.complaint(format!("`upstream_ca` cannot be `{path}`"), hint));
            None
        }
    }
}

/// Reads one of true and false.
pub(super) fn switch(node: &Node, key: &str, complaints: &mut Vec<Complaint>) -> bool {
    let Value::Bool(value) = node.value else {
        let message = format!("`{key}` must be true or false, not {}", node.kind());
        complaints.push(node.complaint(message, "write `true` or `false`"));
        return false;
    };
    value
}

/// Reads `minimum_isolation:`.
pub(super) fn tier(node: Node, complaints: &mut Vec<Complaint>) -> Option<Tier> {
    let known = Tier::ALL.map(|tier| (tier.as_str(), Some(tier)));
    choice(Some(node), "minimum_isolation", &known, complaints)
}

/// Reads one of some words; nothing written is the default.
pub(super) fn choice<T: Copy + Default>(
    node: Option<Node>,
    key: &str,
    known: &[(&'static str, T)],
    complaints: &mut Vec<Complaint>,
) -> T {
    let Some(node) = node else { return T::default() };
    let Some(word) = text(node.clone(), &format!("`{key}`"), complaints) else { return T::default() };
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == word) {
        return *value;
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    complaints.push(node.complaint(format!("`{key}` cannot be `{word}`"), hint_of(&word, &names)));
    T::default()
}

fn filesystem(node: Node, complaints: &mut Vec<Complaint>) -> Filesystem {
    let mut fields = Fields::of(node, "`filesystem`", complaints);
    let workspace = choice(fields.take("workspace"), "workspace", &WorkspaceMode::ALL, complaints);
    let mut take = |key: &'static str, check: fn(&str) -> Result<(), &'static str>, complaints: &mut Vec<Complaint>| {
        fields.take(key).map(|node| paths(node, key, check, complaints)).unwrap_or_default()
    };
    let read = take("read", granted_path, complaints);
    let write = take("write", granted_path, complaints);
    let hide = take("hide", full_path, complaints);
    let protect = take("protect", protected_pattern, complaints);
    let secret_files = fields.take("secret_files").map(|node| secret_files(node, complaints)).unwrap_or_default();
    fields.finish(complaints);
    Filesystem { workspace, read, write, hide, protect, secret_files }
}

fn secret_files(node: Node, complaints: &mut Vec<Complaint>) -> SecretFiles {
    let mut fields = Fields::of(node, "`secret_files`", complaints);
    let mut take = |key: &'static str, complaints: &mut Vec<Complaint>| {
        fields.take(key).map(|node| paths(node, key, protected_pattern, complaints)).unwrap_or_default()
    };
    let (hide, allow) = (take("hide", complaints), take("allow", complaints));
    let wait = fields.take("wait").is_some_and(|node| switch(&node, "wait", complaints));
    fields.finish(complaints);
    SecretFiles { hide, allow, wait }
}

fn paths(
    node: Node,
    key: &str,
    check: fn(&str) -> Result<(), &'static str>,
    complaints: &mut Vec<Complaint>,
) -> Vec<String> {
    let mut paths = Vec::new();
    for node in list(node, &format!("`{key}`"), false, complaints) {
        let Some(path) = text(node.clone(), "a path", complaints) else { continue };
        match check(&path) {
            Ok(()) => paths.push(path),
            Err(hint) => complaints.push(node.complaint(format!("`{key}` cannot hold the path `{path}`"), hint)),
        }
    }
    paths
}

fn full_path(path: &str) -> Result<(), &'static str> {
    if !(path.starts_with('/') || path.starts_with("~/") || path == "~") {
        return Err("begin it with `/` or `~/`");
    }
    no_dots(path)
}

fn granted_path(path: &str) -> Result<(), &'static str> {
    full_path(path)?;
    let trimmed = path.trim_end_matches('/');
    if TOO_WIDE.contains(&if trimmed.is_empty() { "/" } else { trimmed }) {
        return Err("that would open far too much: name the directories that are needed");
    }
    Ok(())
}

fn protected_pattern(path: &str) -> Result<(), &'static str> {
    FilePattern::parse(path).map(drop)
}

fn no_dots(path: &str) -> Result<(), &'static str> {
    let odd = path.contains('\0') || path.split('/').any(|part| matches!(part, "." | ".."));
    if odd { Err("leave `.` and `..` out") } else { Ok(()) }
}

/// Reads `environment:`; the second value is what is passed on, with its places.
fn environment(node: Node, complaints: &mut Vec<Complaint>) -> (Environment, Vec<(Node, String)>) {
    let mut fields = Fields::of(node, "`environment`", complaints);
    let pass = fields.take("pass").map(|node| list(node, "`pass`", false, complaints)).unwrap_or_default();
    let set = fields.take("set");
    fields.finish(complaints);
    let named = |node: Node| read_variable(node.clone(), complaints).map(|name| (node, name));
    let passed: Vec<(Node, String)> = pass.into_iter().filter_map(named).collect();
    let set = set.map(|node| variables(node, complaints)).unwrap_or_default();
    let pass = passed.iter().map(|(_, name)| name.clone()).collect();
    (Environment { pass, set }, passed)
}

fn variables(node: Node, complaints: &mut Vec<Complaint>) -> BTreeMap<String, String> {
    let Value::Map(entries) = node.value else {
        let message = format!("`set` must be a map of names and values, not {}", node.kind());
        complaints.push(node.complaint(message, "write it as `NAME: \"value\"` lines"));
        return BTreeMap::new();
    };
    let mut variables = BTreeMap::new();
    for (key, node) in entries {
        let name = Node { value: Value::Text(key.text), line: key.line, column: key.column };
        let name = read_variable(name, complaints);
        // An empty value is a value here, unlike everywhere else.
        let value = match &node.value {
            Value::Text(value) => Some(value.clone()),
            _ => text(node, "the value of a variable", complaints),
        };
        variables.extend(name.zip(value));
    }
    variables
}

/// What a rule can begin with.
const EFFECTS: [&str; 7] = ["allow", "ask", "deny", "limit", "tcp", "passthrough", "host_port"];

/// Reads a list of rules: maps of one key each.
pub(super) fn rules(node: Node, what: &str, complaints: &mut Vec<Complaint>) -> Vec<WrittenRule> {
    let nodes = list(node, what, false, complaints);
    nodes.into_iter().filter_map(|node| rule(node, complaints)).collect()
}

fn rule(node: Node, complaints: &mut Vec<Complaint>) -> Option<WrittenRule> {
    let one = "write each rule on its own, like `- allow: GET example.com/**`";
    let complaint = node.complaint(format!("a rule must be a map of one key, not {}", node.kind()), one);
    let mut entries = match node.value {
        Value::Map(entries) if entries.len() == 1 => entries.into_iter(),
        Value::Map(_) => {
            complaints.push(Complaint { message: "a rule must be a map of one key".to_owned(), ..complaint });
            return None;
        }
        _ => {
            complaints.push(complaint);
            return None;
        }
    };
    let (key, node) = entries.next()?;
    let effect = match key.text.as_str() {
        "allow" => Effect::Allow,
        "limit" => Effect::Limit,
        "ask" => Effect::Ask,
        "deny" => Effect::Deny,
        "tcp" => return opaque_rule("tcp://", node, complaints),
        "passthrough" => return opaque_rule("tls://", node, complaints),
        "host_port" => return host_port(&node, complaints),
        other => {
            complaints.push(key.complaint(format!("unknown effect `{other}`"), hint_of(other, &EFFECTS)));
            return None;
        }
    };
    let (line, column) = (node.line, node.column);
    text(node, "a rule", complaints).map(|text| WrittenRule { effect, text, line, column })
}

/// Reads a rule about connections that are not read, whose text has no scheme.
fn opaque_rule(scheme: &str, node: Node, complaints: &mut Vec<Complaint>) -> Option<WrittenRule> {
    // The place of the text in the file stays the place of the text.
    let (line, column) = (node.line, node.column.saturating_sub(scheme.len()));
    text(node, "a rule", complaints).map(|text| {
        let text = format!("{scheme}{}", text.trim());
        WrittenRule { effect: Effect::Allow, text, line, column }
    })
}

/// Reads `host_port:`, which opens one port of the host's own loopback.
fn host_port(node: &Node, complaints: &mut Vec<Complaint>) -> Option<WrittenRule> {
    match node.value {
        Value::Integer(port @ 1..=65_535) => {
            let text = format!("tcp://{LOOPBACK_NAME}:{port}");
            Some(WrittenRule { effect: Effect::Allow, text, line: node.line, column: node.column })
        }
        _ => complain(node, "`host_port` is not a port", "write a number from 1 to 65535", complaints),
    }
}

/// Reads `secrets:`, each with its place.
fn secrets(node: Node, complaints: &mut Vec<Complaint>) -> Vec<(Node, SecretSpec)> {
    let mut secrets: Vec<(Node, SecretSpec)> = Vec::new();
    for node in list(node, "`secrets`", false, complaints) {
        let Some(secret) = SecretSpec::read(node.clone(), complaints) else { continue };
        if secrets.iter().any(|(_, other)| other.name == secret.name) {
            let message = format!("there are two secrets named `{}`", secret.name);
            complaints.push(node.complaint(message, "give each a name of its own"));
        }
        secrets.push((node, secret));
    }
    secrets
}

/// Complains about a real value that would reach the sandbox, and about variables that two things want to set.
fn no_secret_leaks(
    passed: &[(Node, String)],
    environment: &Environment,
    secrets: &[(Node, SecretSpec)],
    complaints: &mut Vec<Complaint>,
) {
    for (node, name) in passed {
        let is_source =
            |secret: &SecretSpec| secret.sources().flat_map(SecretSource::variables).any(|source| source == name);
        if let Some((_, secret)) = secrets.iter().find(|(_, secret)| is_source(secret)) {
            let message = format!("passing `{name}` on would give the value of the secret `{}` away", secret.name);
            complaints.push(node.complaint(message, "remove it from `pass`: the sandbox gets the placeholder"));
        }
    }
    let mut taken: BTreeSet<&str> = environment.set.keys().map(String::as_str).collect();
    for (node, secret) in secrets {
        for name in &secret.placeholder_env {
            if !taken.insert(name) {
                let message = format!("the variable `{name}` of the secret `{}` is set twice", secret.name);
                complaints.push(node.complaint(message, "a variable holds one placeholder, or one value of `set`"));
            }
        }
    }
}

/// Reads how long ago records may have been shipped.
pub(super) fn shipped_within(node: Node, complaints: &mut Vec<Complaint>) -> Option<Duration> {
    quantity(node, parse_duration, "write it like `15m` or `1h`", complaints)
}

/// Reads `limits:`.
pub(super) fn limits(node: Node, complaints: &mut Vec<Complaint>) -> Limits {
    let mut fields = Fields::of(node, "`limits`", complaints);
    let (memory, pids) = (fields.take("memory"), fields.take("pids"));
    let (cpus, duration) = (fields.take("cpus"), fields.take("duration"));
    let (files, tmp, disk) = (fields.take("files"), fields.take("tmp"), fields.take("disk"));
    let disk_free = fields.take("disk_free");
    fields.finish(complaints);
    Limits {
        memory: memory.and_then(|node| room(node, complaints)),
        pids: pids.and_then(|node| count("pids", &node, complaints)),
        cpus: cpus.and_then(|node| match node.value {
            Value::Integer(count @ 1..=65_536) => u32::try_from(count).ok().map(f64::from),
            Value::Float(count) if count > 0.0 && count.is_finite() => Some(count),
            _ => complain(&node, "`cpus` must be a number above zero", "write it like `2` or `1.5`", complaints),
        }),
        duration: duration.and_then(|node| quantity(node, parse_duration, "write it like `30m` or `8h`", complaints)),
        files: files.and_then(|node| count("files", &node, complaints)),
        tmp: tmp.and_then(|node| room(node, complaints)),
        disk: disk.and_then(|node| room(node, complaints)),
        disk_free: disk_free.and_then(|node| room(node, complaints)),
    }
}

fn room(node: Node, complaints: &mut Vec<Complaint>) -> Option<u64> {
    match node.value {
        Value::Integer(bytes) if bytes > 0 => u64::try_from(bytes).ok(),
        _ => quantity(node, parse_size, "write it like `512MiB` or `8GiB`", complaints),
    }
}

fn count(key: &str, node: &Node, complaints: &mut Vec<Complaint>) -> Option<u64> {
    match node.value {
        Value::Integer(count) if count > 0 => u64::try_from(count).ok(),
        _ => {
            let message = format!("`{key}` must be a whole number above zero");
            complain(node, &message, "write it like `2048`", complaints)
        }
    }
}

fn complain<T>(node: &Node, message: &str, hint: &str, complaints: &mut Vec<Complaint>) -> Option<T> {
    complaints.push(node.complaint(message, hint));
    None
}

fn quantity<T, E: std::fmt::Display>(
    node: Node,
    parse: fn(&str) -> Result<T, E>,
    hint: &str,
    complaints: &mut Vec<Complaint>,
) -> Option<T> {
    let Value::Text(written) = &node.value else {
        return complain(&node, "the limit has no unit", hint, complaints);
    };
    match parse(written) {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            let (what, hint) = message.split_once(": ").unwrap_or((&message, hint));
            complain(&node, what, hint, complaints)
        }
    }
}
