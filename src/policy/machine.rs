//! Reads what root writes for a machine that many share: `system.yaml` and `secrets.yaml`.

use super::document::{self, Fields, Node, Value, list, text};
use super::error::{Complaint, PolicyErrors, refuse_any};
use super::profile::Limits;
use super::read::limits;
use super::secret::{SecretSource, SecretSpec};
use super::upstream_proxy::UpstreamProxySetting;

/// `system.yaml`: how a machine's server is used. Everybody may read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineFile {
    /// Whether `omni exec` goes through the server unless told otherwise.
    pub default: bool,
    /// Most sessions at a time, of all users.
    pub sessions: Option<usize>,
    /// Most sessions at a time, of one user.
    pub sessions_per_user: Option<usize>,
    /// Most sessions of one user that wait for others to end.
    pub waiting_per_user: Option<usize>,
    /// Rewritings of where connections are dialled, as `--connect-to` has them.
    pub connect_to: Vec<String>,
    /// By which proxy servers are reached.
    pub upstream_proxy: Option<UpstreamProxySetting>,
    /// A file of further roots for verifying upstreams.
    pub upstream_ca: Option<String>,
    /// What no session may have more of.
    pub limits: Limits,
}

/// One secret of `secrets.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSecret {
    /// The secret, as in a profile.
    pub spec: SecretSpec,
    /// The login names of who may use it; nobody written is everybody.
    pub users: Option<Vec<String>>,
}

/// Reads `system.yaml`. `label` is what errors call it.
///
/// # Errors
/// Everything that is wrong with it, each with its place and a hint.
pub fn parse_machine_file(label: &str, text: &str) -> Result<MachineFile, PolicyErrors> {
    if is_blank(text) {
        return Ok(MachineFile::default());
    }
    let root = document::parse(text).map_err(|complaint| PolicyErrors(vec![complaint.labelled(label)]))?;
    let mut complaints = Vec::new();
    let mut fields = Fields::of(root, "the machine's file", &mut complaints);
    let file = MachineFile {
        default: fields.take("default").is_some_and(|node| flag(&node, "default", &mut complaints)),
        sessions: fields.take("sessions").and_then(|node| count(&node, "sessions", &mut complaints)),
        sessions_per_user: fields
            .take("sessions_per_user")
            .and_then(|node| count(&node, "sessions_per_user", &mut complaints)),
        waiting_per_user: fields
            .take("waiting_per_user")
            .and_then(|node| count(&node, "waiting_per_user", &mut complaints)),
        connect_to: fields
            .take("connect_to")
            .map(|node| texts(node, "connect_to", &mut complaints))
            .unwrap_or_default(),
        upstream_proxy: fields
            .take("upstream_proxy")
            .and_then(|node| UpstreamProxySetting::read(node, &mut complaints)),
        upstream_ca: fields.take("upstream_ca").and_then(|node| full_path(node, &mut complaints)),
        limits: fields.take("limits").map(|node| limits(node, &mut complaints)).unwrap_or_default(),
    };
    fields.finish(&mut complaints);
    refuse_any(label, complaints)?;
    Ok(file)
}

/// Reads `secrets.yaml`: `secrets:` as in a profile, each with `users:` where not everybody may use it.
///
/// # Errors
/// Everything that is wrong with it, each with its place and a hint.
pub fn parse_machine_secrets(label: &str, text: &str) -> Result<Vec<MachineSecret>, PolicyErrors> {
    if is_blank(text) {
        return Ok(Vec::new());
    }
    let root = document::parse(text).map_err(|complaint| PolicyErrors(vec![complaint.labelled(label)]))?;
    let mut complaints = Vec::new();
    let mut fields = Fields::of(root, "the machine's secrets", &mut complaints);
    let nodes = fields.take("secrets").map(|node| list(node, "`secrets`", false, &mut complaints));
    fields.finish(&mut complaints);
    let mut secrets: Vec<MachineSecret> = Vec::new();
    for node in nodes.unwrap_or_default() {
        let place = node.clone();
        let Some(secret) = machine_secret(node, &mut complaints) else { continue };
        // Two of a name may be for different users, whose names then must be told apart.
        let overlaps = |other: &MachineSecret| match (&other.users, &secret.users) {
            (Some(theirs), Some(ours)) => theirs.iter().any(|user| ours.contains(user)),
            _ => true,
        };
        if secrets.iter().any(|other| other.spec.name == secret.spec.name && overlaps(other)) {
            let message = format!("there are two secrets named `{}` for the same user", secret.spec.name);
            complaints.push(place.complaint(message, "give each a name of its own, or `users:` of its own"));
        }
        secrets.push(secret);
    }
    refuse_any(label, complaints)?;
    Ok(secrets)
}

fn machine_secret(mut node: Node, complaints: &mut Vec<Complaint>) -> Option<MachineSecret> {
    let mut users = None;
    if let Value::Map(entries) = &mut node.value
        && let Some(index) = entries.iter().position(|(key, _)| key.text == "users")
    {
        let (_, written) = entries.remove(index);
        users = Some(texts(written, "users", complaints));
    }
    let place = node.clone();
    let spec = SecretSpec::read(node, complaints)?;
    if spec.login.is_some() {
        complaints.push(place.complaint("a login is one person's, and no machine's", "remove it"));
    }
    if spec.sources().any(|source| matches!(source, SecretSource::Store(_))) {
        let hint = "name them: `from: file:PATH`, with a full path, or `from: env:NAME`";
        complaints.push(place.complaint("a machine's secret is in nobody's own store", hint));
    }
    if spec.sources().any(|source| source.file().is_some_and(|path| path.starts_with('~'))) {
        complaints.push(place.complaint("the machine has no home directory", "write the full path of the file"));
    }
    Some(MachineSecret { spec, users })
}

/// A file of nothing, or of comments alone, says nothing.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

fn flag(node: &Node, key: &str, complaints: &mut Vec<Complaint>) -> bool {
    if let Value::Bool(value) = node.value {
        return value;
    }
    complaints
        .push(node.complaint(format!("`{key}` must be true or false, not {}", node.kind()), "write `true` or `false`"));
    false
}

fn count(node: &Node, key: &str, complaints: &mut Vec<Complaint>) -> Option<usize> {
    /// More than any machine can have.
    const COUNT_MAX: i128 = 100_000;
    if let Value::Integer(count @ 1..=COUNT_MAX) = node.value {
        return usize::try_from(count).ok();
    }
    complaints
        .push(node.complaint(format!("`{key}` must be a whole number from 1 to {COUNT_MAX}"), "write it like `32`"));
    None
}

fn texts(node: Node, key: &str, complaints: &mut Vec<Complaint>) -> Vec<String> {
    let nodes = list(node, &format!("`{key}`"), true, complaints);
    nodes.into_iter().filter_map(|node| text(node, &format!("an entry of `{key}`"), complaints)).collect()
}

fn full_path(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    let path = text(node.clone(), "`upstream_ca`", complaints)?;
    if path.starts_with('/') {
        return Some(path);
    }
    complaints.push(node.complaint(format!("`{path}` is not a full path"), "begin it with `/`"));
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_file_is_read_whole() {
        let written = "default: true\nsessions: 64\nsessions_per_user: 8\nwaiting_per_user: 40\n\
                       connect_to: api.example.com:443:10.0.0.1:8443\nupstream_ca: /etc/omni/ca.pem\n\
                       limits: { duration: 8h }\n";
        let file = parse_machine_file("system.yaml", written).unwrap();
        let expected = MachineFile {
            default: true,
            sessions: Some(64),
            sessions_per_user: Some(8),
            waiting_per_user: Some(40),
            connect_to: vec!["api.example.com:443:10.0.0.1:8443".to_owned()],
            upstream_proxy: None,
            upstream_ca: Some("/etc/omni/ca.pem".to_owned()),
            limits: Limits { duration: Some(std::time::Duration::from_secs(8 * 3600)), ..Limits::default() },
        };
        assert_eq!(file, expected);
        assert_eq!(parse_machine_file("system.yaml", "# nothing yet\n\n").unwrap(), MachineFile::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let told = |text| parse_machine_file("system.yaml", text).unwrap_err().to_string();
        assert!(told("sessions: 0").contains("system.yaml:1:11: `sessions` must be a whole number from 1 to 100000"));
        assert!(told("session: 3").contains("unknown key `session`"));
        assert!(told("default: yes please").contains("`default` must be true or false, not a text"));
        assert!(told("upstream_ca: ca.pem").contains("`ca.pem` is not a full path"));
    }

    #[test]
    fn a_secret_may_be_for_some_alone() {
        let text = "secrets:\n  - { name: a, from: 'file:/k1', host: a.example, bearer: true, users: [ada] }\n  \
                    - { name: a, from: 'file:/k2', host: a.example, bearer: true, users: bob }\n  \
                    - { name: b, from: 'file:/k3', host: b.example, bearer: true }\n";
        let secrets = parse_machine_secrets("secrets.yaml", text).unwrap();
        let told: Vec<_> = secrets.iter().map(|secret| (secret.spec.name.as_str(), secret.users.clone())).collect();
        let only = |name: &str| Some(vec![name.to_owned()]);
        assert_eq!(told, [("a", only("ada")), ("a", only("bob")), ("b", None)]);
        let twice = text.replace(", users: bob", "");
        let error = parse_machine_secrets("secrets.yaml", &twice).unwrap_err().to_string();
        assert!(error.contains("there are two secrets named `a` for the same user"), "{error}");
    }
}
