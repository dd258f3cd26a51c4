//! Reads the `model_hosts:` of a profile.

use super::document::{Fields, Node, Value, list, text};
use super::error::Complaint;
use super::read::{choice, switch};
use crate::model::{Host, HostName, ModelFormat, ModelHost, Port};

/// What the paths of an API begin with where nothing else is written.
const BASE: &str = "/v1";
const FORMATS: [(&str, ModelFormat); 2] = [("openai", ModelFormat::OpenAi), ("anthropic", ModelFormat::Anthropic)];

/// Reads them.
pub(super) fn model_hosts(node: Node, complaints: &mut Vec<Complaint>) -> Vec<ModelHost> {
    let nodes = list(node, "`model_hosts`", false, complaints);
    nodes.into_iter().filter_map(|node| one(node, complaints)).collect()
}

fn one(node: Node, complaints: &mut Vec<Complaint>) -> Option<ModelHost> {
    let no_host = node.complaint("the model host has no `host`", "add `host: llm.example.com` or `host: NAME:PORT`");
    let mut fields = Fields::of(node, "a model host", complaints);
    let host = fields.take("host");
    let base = fields.take("base");
    let format = choice(fields.take("format"), "format", &FORMATS, complaints);
    let free = fields.take("free").is_some_and(|node| switch(&node, "free", complaints));
    fields.finish(complaints);
    let Some(host) = host else {
        complaints.push(no_host);
        return None;
    };
    let (host, port) = place(host, complaints)?;
    let base = match base {
        None => BASE.to_owned(),
        Some(node) => prefix(node, complaints)?,
    };
    Some(ModelHost { host, port, base, format, free })
}

fn place(node: Node, complaints: &mut Vec<Complaint>) -> Option<(HostName, Option<Port>)> {
    let written = text(node.clone(), "`host`", complaints)?;
    let (name, port) = match written.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().ok().filter(|port| *port > 0).map(Port))),
        None => (written.as_str(), None),
    };
    match (Host::parse(name), port) {
        (Ok(Host::Name(name)), None) => return Some((name, None)),
        (Ok(Host::Name(name)), Some(Some(port))) => return Some((name, Some(port))),
        _ => {}
    }
    let hint = "write a name, such as `llm.example.com` or `llm.example.com:8000`";
    complaints.push(node.complaint(format!("`{written}` is no host of model calls"), hint));
    None
}

fn prefix(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    if matches!(node.value, Value::Null) {
        return Some(String::new());
    }
    let written = text(node.clone(), "`base`", complaints)?;
    let plain = written.trim_end_matches('/');
    if plain.is_empty() || plain.starts_with('/') && !plain.contains(['?', '#', '*']) {
        return Some(plain.to_owned());
    }
    complaints.push(node.complaint(format!("`{written}` begins no path"), "write a path, such as `/v1`"));
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::policy::Profile;

    #[test]
    fn a_host_is_a_name_with_a_port_a_base_and_a_format() {
        let text = "name: x\nmodel_hosts:\n- host: llm.example:8000\n  free: true\n\
                    - { host: gw.example, base: /llm/, format: anthropic }\n- { host: bare.example, base: / }\n";
        let hosts = Profile::parse("x", text).unwrap().model_hosts;
        let told: Vec<_> = hosts
            .iter()
            .map(|host| (host.host.as_str(), host.port, host.base.as_str(), host.format, host.free))
            .collect();
        let expected = [
            ("llm.example", Some(Port(8000)), "/v1", ModelFormat::OpenAi, true),
            ("gw.example", None, "/llm", ModelFormat::Anthropic, false),
            ("bare.example", None, "", ModelFormat::OpenAi, false),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_host_is_refused_with_its_place() {
        for (written, words) in [
            ("{ free: true }", "has no `host`"),
            ("{ host: '10.0.0.1:80' }", "is no host of model calls"),
            ("{ host: 'llm.example:0' }", "is no host of model calls"),
            ("{ host: 'http://llm.example' }", "is no host of model calls"),
            ("{ host: llm.example, base: v1 }", "begins no path"),
            ("{ host: llm.example, format: grpc }", "`format` cannot be"),
        ] {
            let told = Profile::parse("x", &format!("name: x\nmodel_hosts: [{written}]\n"));
            let told = told.expect_err(written).to_string();
            assert!(told.contains(words) && told.contains("x:2:"), "{written}: {told}");
        }
    }
}
