//! What an event is in OCSF, before it is put into its envelope.

use crate::model::{Host, Port};
use serde_json::{Map, Value, json};

/// A class of OCSF 1.8.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Base = 0,
    FileSystem = 1001,
    Process = 1007,
    DetectionFinding = 2004,
    Authentication = 3002,
    EntityManagement = 3004,
    Network = 4001,
    Http = 4002,
    Dns = 4003,
    ApplicationLifecycle = 6002,
    Api = 6003,
    ApplicationError = 6008,
}

impl Class {
    pub fn uid(self) -> u32 {
        self as u32
    }

    /// The category that it is of.
    pub fn category(self) -> u32 {
        self.uid() / 1000
    }
}

/// `activity_id` of what a class has no number for.
pub(super) const OTHER: u32 = 99;

/// `severity_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
}

/// What was let through or not: `action_id` and `disposition_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Allowed,
    Blocked,
}

/// One event in the words of OCSF.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub class: Class,
    pub activity: u32,
    /// Of an activity that has no number.
    pub activity_name: Option<&'static str>,
    pub severity: Severity,
    pub succeeded: Option<bool>,
    pub detail: Option<String>,
    pub control: Option<Control>,
    /// Whether the attributes of the profile `ai_operation` are among the fields.
    pub is_model_call: bool,
    /// Who acted, where it is not the session's user.
    pub by: Option<String>,
    pub fields: Map<String, Value>,
}

impl Shape {
    pub fn new(class: Class, activity: u32) -> Self {
        Self {
            class,
            activity,
            activity_name: None,
            severity: Severity::Informational,
            succeeded: None,
            detail: None,
            control: None,
            is_model_call: false,
            by: None,
            fields: Map::new(),
        }
    }

    /// An activity that the class has no number for.
    pub fn other(class: Class, name: &'static str) -> Self {
        Self { activity_name: Some(name), ..Self::new(class, OTHER) }
    }

    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.fields.insert(key.to_owned(), value);
        self
    }

    pub fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    pub fn succeeded(self) -> Self {
        Self { succeeded: Some(true), ..self }
    }

    /// Went wrong, or was refused, for this reason.
    pub fn failed(self, why: &str) -> Self {
        Self { succeeded: Some(false), detail: Some(why.to_owned()), ..self }
    }

    pub fn detail(self, detail: String) -> Self {
        Self { detail: Some(detail), ..self }
    }

    pub fn allowed(self) -> Self {
        Self { control: Some(Control::Allowed), ..self }
    }

    pub fn blocked(self) -> Self {
        Self { control: Some(Control::Blocked), ..self }
    }

    pub fn by(self, user: &str) -> Self {
        Self { by: Some(user.to_owned()), ..self }
    }

    /// The rule that decided, where there is one.
    pub fn rule(self, rule: Option<&str>, from: Option<&str>) -> Self {
        match (rule, from) {
            (Some(rule), Some(from)) => self.with("firewall_rule", json!({ "name": rule, "desc": from })),
            (Some(rule), None) => self.with("firewall_rule", json!({ "name": rule })),
            (None, _) => self,
        }
    }
}

/// A network endpoint: a name or an address, and a port.
pub(super) fn endpoint(host: &Host, port: Option<Port>) -> Value {
    let mut endpoint = match host {
        Host::Name(name) => json!({ "hostname": name.as_str() }),
        Host::Address(address) => json!({ "ip": address.to_string() }),
    };
    if let (Some(port), Some(fields)) = (port, endpoint.as_object_mut()) {
        fields.insert("port".to_owned(), json!(port.0));
    }
    endpoint
}

/// The sandbox as an endpoint: the session's programs.
pub(super) fn sandbox(session: &str) -> Value {
    json!({ "name": "sandbox", "instance_uid": session })
}
