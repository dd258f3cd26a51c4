//! What people allow, what it costs, and what is done with secrets and keys.

use super::shape::{Class, Severity, Shape, sandbox};
use super::{Frame, request_uid};
use crate::model::{Event, NanoUsd};
use serde_json::{Value, json};

/// Activities of Entity Management and API Activity.
const CREATE: u32 = 1;
const READ: u32 = 2;
const UPDATE: u32 = 3;
const DELETE: u32 = 4;
/// Activities of Authentication.
const LOGON: u32 = 1;
const LOGOFF: u32 = 2;
/// An entity that is a policy, and one that the schema has no number for.
const POLICY: u32 = 5;
const OTHER_ENTITY: u32 = 99;
/// An authentication protocol that the schema has no number for.
const OTHER_PROTOCOL: u32 = 99;

/// The event's shape; none where it is of something else.
pub(super) fn shape(event: &Event, frame: &Frame) -> Option<Shape> {
    let shape = match event {
        Event::SecretMissing { secret, from } => {
            entity(READ, "Secret", secret).severity(Severity::Low).failed(&format!("no value in {from}"))
        }
        Event::SecretRenewed { secret, problem, .. } => {
            let shape = entity(UPDATE, "Secret", secret);
            match problem {
                Some(problem) => shape.severity(Severity::Medium).failed(problem),
                None => shape.succeeded(),
            }
        }
        Event::SshSigned { host, user, key } => {
            ssh(host, key).with("user", json!({ "name": user })).succeeded().allowed()
        }
        Event::SshRefused { host, key, reason } => ssh(host, key)
            .with("user", json!({ "credential_uid": key, "uid": key }))
            .severity(Severity::Medium)
            .failed(reason)
            .blocked(),
        Event::RuleAdded { user, rule, policy_hash } => Shape::new(Class::EntityManagement, UPDATE)
            .severity(Severity::Low)
            .succeeded()
            .by(user)
            .detail(rule.clone())
            .with("entity", json!({ "type_id": POLICY, "name": "policy", "uid": policy_hash })),
        Event::HoldPlaced { request, amount, .. } => {
            api(frame, "hold money", CREATE, Some(request.0)).succeeded().detail(dollars(*amount))
        }
        Event::HoldSettled { request, charged, .. } => {
            api(frame, "settle hold", UPDATE, Some(request.0)).succeeded().detail(dollars(*charged))
        }
        Event::BudgetReached { policy, percent, spent } => {
            finding(&format!("{percent} % of the budget {policy} spent"), frame)
                .severity(if *percent >= 100 { Severity::Medium } else { Severity::Low })
                .detail(dollars(*spent))
        }
        Event::BudgetRaised { policy, by, limit } => {
            entity(UPDATE, "Budget", policy).severity(Severity::Low).succeeded().by(by).detail(dollars(*limit))
        }
        Event::ApprovalAsked { request, what, why, .. } => api(frame, "ask for approval", CREATE, Some(request.0))
            .detail(why.clone())
            .with("resources", json!([{ "name": what, "type": "request" }])),
        Event::ApprovalAnswered { answer, by, reason, .. } => answered(frame, answer, by.as_deref(), reason.as_deref()),
        Event::ViewerAttached { viewer, user, .. } => terminal(LOGON, *viewer).with("user", json!({ "name": user })),
        Event::ViewerLeft { viewer } => {
            terminal(LOGOFF, *viewer).with("user", json!({ "uid": format!("viewer {viewer}") }))
        }
        Event::StopRequested { user } => api(frame, "stop session", DELETE, None).succeeded().by(user),
        Event::PrivatePartsForgotten { user, reason, .. } => entity(DELETE, "Private parts", frame.session.as_str())
            .severity(Severity::Low)
            .succeeded()
            .by(user)
            .detail(reason.clone()),
        Event::SecretSet { user, secret, sites, .. } => {
            entity(UPDATE, "Secret", secret).succeeded().by(user).detail(sites.join(", "))
        }
        Event::SecretRemoved { user, secret } => entity(DELETE, "Secret", secret).succeeded().by(user),
        _ => return None,
    };
    Some(shape)
}

/// What is kept and changed: a secret, by its name.
fn entity(activity: u32, kind: &str, name: &str) -> Shape {
    let entity = json!({ "type_id": OTHER_ENTITY, "type": kind, "name": name });
    Shape::new(Class::EntityManagement, activity).with("entity", entity)
}

/// A login with SSH by a key of the user's agent.
fn ssh(host: &str, key: &str) -> Shape {
    Shape::new(Class::Authentication, LOGON)
        .with("auth_protocol_id", json!(OTHER_PROTOCOL))
        .with("auth_protocol", json!("SSH public key"))
        .with("service", json!({ "name": format!("ssh {host}"), "uid": key }))
}

/// Somebody at the session's terminal.
fn terminal(activity: u32, viewer: u32) -> Shape {
    let service = json!({ "name": "session terminal", "uid": viewer.to_string() });
    Shape::new(Class::Authentication, activity).succeeded().with("service", service)
}

/// An act upon the session, by omni.
fn api(frame: &Frame, operation: &str, activity: u32, request: Option<u64>) -> Shape {
    let mut api = json!({ "operation": operation });
    if let (Some(request), Some(fields)) = (request, api.as_object_mut()) {
        fields.insert("request".to_owned(), json!({ "uid": request_uid(frame, request) }));
    }
    Shape::new(Class::Api, activity).with("api", api).with("src_endpoint", sandbox(frame.session.as_str()))
}

fn answered(frame: &Frame, answer: &str, by: Option<&str>, reason: Option<&str>) -> Shape {
    let shape = api(frame, "answer question", UPDATE, None);
    let shape = by.map_or(shape.clone(), |by| shape.by(by));
    match answer {
        "once" | "session" | "always" => shape.allowed().succeeded().detail(answer.to_owned()),
        _ => shape.blocked().severity(Severity::Low).failed(reason.unwrap_or(answer)),
    }
}

/// Something that a person may want to look at.
pub(super) fn finding(title: &str, frame: &Frame) -> Shape {
    let info: Value = json!({ "title": title, "uid": format!("{}/{}", frame.session, frame.number) });
    Shape::new(Class::DetectionFinding, CREATE).with("finding_info", info)
}

fn dollars(amount: NanoUsd) -> String {
    format!("{} USD", amount.to_decimal())
}
