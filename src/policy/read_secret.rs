//! Reads the `secrets:` of a profile.

use super::document::{Fields, Node, Value, list, text};
use super::error::{Complaint, hint_of};
use super::secret::{Place, SecretSource, SecretSpec, Shape};
use crate::model::{HostName, Port};

/// Headers that say how a message travels, which no secret may take the place of.
const HEADERS_RESERVED: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl SecretSpec {
    /// Reads one entry of `secrets:`.
    pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Option<Self> {
        let whole = node.complaint("", "");
        let missing = |key: &str, hint: &str| Complaint {
            message: format!("the secret has no `{key}`"),
            hint: Some(hint.to_owned()),
            ..whole.clone()
        };
        let before = complaints.len();
        let mut fields = Fields::of(node, "a secret", complaints);
        if complaints.len() > before {
            return None;
        }
        let (name, from, host) = (fields.take("name"), fields.take("from"), fields.take("host"));
        let port = fields.take("port").map_or(Some(Port(443)), |node| read_port(node, complaints));
        let place = read_place(&mut fields, &whole, complaints);
        let placeholder = fields.take("placeholder");
        fields.finish(complaints);
        if name.is_none() {
            complaints.push(missing("name", "add `name: NAME`"));
        }
        if from.is_none() {
            complaints.push(missing("from", "add `from: env:NAME`, `file:PATH` or `command:COMMAND`"));
        }
        if host.is_none() {
            complaints.push(missing("host", "a secret is sent to one host: add `host: NAME`"));
        }
        let name = name.and_then(|node| read_name(node, complaints));
        let from = from.map(|node| read_sources(node, complaints));
        let host = host.and_then(|node| read_host(node, complaints));
        let shape = host.as_ref().map_or(Shape::Opaque, |host| Shape::of_host(host.as_str()));
        let (placeholder_env, shape) =
            placeholder.map_or((Vec::new(), shape), |node| read_stand_in(node, shape, complaints));
        Some(Self { name: name?, from: from?, host: host?, port: port?, place: place?, placeholder_env, shape })
    }
}

fn read_name(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    let name = text(node.clone(), "the secret's `name`", complaints)?;
    if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return Some(name);
    }
    complaints.push(node.complaint(format!("`{name}` cannot name a secret"), "use letters, digits, `-` and `_`"));
    None
}

fn read_sources(node: Node, complaints: &mut Vec<Complaint>) -> Vec<SecretSource> {
    let nodes = list(node.clone(), "`from`", true, complaints);
    if nodes.is_empty() && matches!(node.value, Value::List(_)) {
        complaints.push(node.complaint("`from` is an empty list", "name at least one source, such as `env:NAME`"));
    }
    nodes.into_iter().filter_map(|node| read_source(node, complaints)).collect()
}

fn read_source(node: Node, complaints: &mut Vec<Complaint>) -> Option<SecretSource> {
    let written = text(node.clone(), "a source of a secret", complaints)?;
    let (kind, rest) = written.split_once(':').unwrap_or((written.as_str(), ""));
    let rest = rest.trim();
    let complaint = match kind {
        "env" if is_variable(rest) => return Some(SecretSource::Env(rest.to_owned())),
        "env" => node.complaint(format!("`{rest}` is not the name of a variable"), "write it like `env:API_KEY`"),
        "file" if rest.starts_with('/') || rest.starts_with("~/") => return Some(SecretSource::File(rest.to_owned())),
        "file" => node.complaint(format!("`{rest}` is not a full path"), "begin it with `/` or `~/`"),
        "command" if !rest.is_empty() => return Some(SecretSource::Command(rest.to_owned())),
        "command" => node.complaint("the command is empty", "write it like `command:pass show key`"),
        _ => {
            let message = format!("`{kind}` is not a place where secrets are kept");
            node.complaint(message, hint_of(kind, &["env", "file", "command"]))
        }
    };
    complaints.push(complaint);
    None
}

fn read_host(node: Node, complaints: &mut Vec<Complaint>) -> Option<HostName> {
    let written = text(node.clone(), "the secret's `host`", complaints)?;
    match HostName::parse(&written) {
        Ok(host) => Some(host),
        Err(error) => {
            complaints.push(node.complaint(error.to_string(), "a secret is sent to one host, by its plain name"));
            None
        }
    }
}

fn read_port(node: Node, complaints: &mut Vec<Complaint>) -> Option<Port> {
    if let Value::Integer(port) = node.value
        && let Ok(port @ 1..) = u16::try_from(port)
    {
        return Some(Port(port));
    }
    complaints.push(node.complaint("`port` is not a port", "a port is a number from 1 to 65535"));
    None
}

/// Reads `header: NAME` or `bearer: true`, of which there must be one.
fn read_place(fields: &mut Fields, whole: &Complaint, complaints: &mut Vec<Complaint>) -> Option<Place> {
    let complain = |message: &str| {
        let hint = Some("write `header: NAME` or `bearer: true`".to_owned());
        Complaint { message: message.to_owned(), hint, ..whole.clone() }
    };
    match (fields.take("header"), fields.take("bearer")) {
        (Some(node), None) => read_header(node, complaints),
        (None, Some(Node { value: Value::Bool(true), .. })) => Some(Place::Bearer),
        (None, Some(node)) => {
            complaints.push(node.complaint("`bearer` can only be `true`", "leave it out, or write `bearer: true`"));
            None
        }
        (Some(_), Some(_)) => {
            complaints.push(complain("the secret has both a `header` and a `bearer`"));
            None
        }
        (None, None) => {
            complaints.push(complain("the secret has no place in a request"));
            None
        }
    }
}

fn read_header(node: Node, complaints: &mut Vec<Complaint>) -> Option<Place> {
    let name = text(node.clone(), "`header`", complaints)?.to_ascii_lowercase();
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let complaint = if !name.chars().all(token) {
        node.complaint(format!("`{name}` is not the name of a header"), "write it like `x-api-key`")
    } else if HEADERS_RESERVED.contains(&name.as_str()) || name.starts_with("proxy-") {
        node.complaint(format!("`{name}` says how a request travels"), "a secret goes into a header of its own")
    } else {
        return Some(Place::Header(name));
    };
    complaints.push(complaint);
    None
}

/// Reads `placeholder: { env, shape }`.
fn read_stand_in(node: Node, shape: Shape, complaints: &mut Vec<Complaint>) -> (Vec<String>, Shape) {
    let mut fields = Fields::of(node, "`placeholder`", complaints);
    let env = fields.take("env");
    let written = fields.take("shape");
    fields.finish(complaints);
    let env = env.map_or_else(Vec::new, |node| list(node, "`env`", true, complaints));
    let env = env.into_iter().filter_map(|node| read_variable(node, complaints)).collect();
    let Some(node) = written else {
        return (env, shape);
    };
    let Some(name) = text(node.clone(), "`shape`", complaints) else {
        return (env, shape);
    };
    if let Some((_, shape)) = Shape::ALL.into_iter().find(|(known, _)| *known == name) {
        return (env, shape);
    }
    let known = Shape::ALL.map(|(known, _)| known);
    complaints.push(node.complaint(format!("`{name}` is not a shape of placeholders"), hint_of(&name, &known)));
    (env, shape)
}

/// Reads the name of an environment variable.
pub(super) fn read_variable(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    let name = text(node.clone(), "the name of a variable", complaints)?;
    if is_variable(&name) {
        return Some(name);
    }
    let hint = "use letters, digits and `_`, and no digit first";
    complaints.push(node.complaint(format!("`{name}` is not the name of a variable"), hint));
    None
}

/// Whether a text can name an environment variable (POSIX, section 8.1).
pub(super) fn is_variable(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}
