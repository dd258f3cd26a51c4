//! What goes over the network.

use super::shape::{Class, Severity, Shape, endpoint, sandbox};
use super::{Frame, request_uid};
use crate::model::{BodyEnd, BodySide, Event, Host, Port, RefusalKind, RequestLine, RequestNumber, Scheme, Usage};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Activities of Network Activity.
const OPEN: u32 = 1;
const CLOSE: u32 = 2;
const REFUSE: u32 = 5;
const LISTEN: u32 = 7;
/// Activities of DNS Activity.
const QUERY: u32 = 1;
const RESPONSE: u32 = 2;
/// An answer's code that says that it is refused (RFC 1035).
const RCODE_REFUSED: u32 = 5;
/// Activities of File System Activity and API Activity.
const CREATE: u32 = 1;
const READ: u32 = 2;
/// `direction_id` of connections.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// The event's shape; none where it is of something else.
pub(super) fn shape(event: &Event, frame: &Frame) -> Option<Shape> {
    let shape = match event {
        Event::NameResolved { name, address } => Shape::new(Class::Dns, RESPONSE)
            .succeeded()
            .with("query", json!({ "hostname": name }))
            .with("answers", json!([{ "rdata": address.to_string() }]))
            .with("rcode_id", json!(0)),
        Event::ConnectionRefused { kind: RefusalKind::Name, target, reason } => Shape::new(Class::Dns, QUERY)
            .severity(Severity::Low)
            .failed(reason)
            .blocked()
            .with("query", json!({ "hostname": target }))
            .with("rcode_id", json!(RCODE_REFUSED)),
        Event::ConnectionRefused { target, reason, .. } => Shape::new(Class::Network, REFUSE)
            .severity(Severity::Low)
            .failed(reason)
            .blocked()
            .with("dst_endpoint", target_endpoint(target))
            .with("connection_info", json!({ "direction_id": OUTBOUND })),
        Event::RequestAllowed { request, line, rule, rule_from, .. } => {
            asked(line, *request, frame).allowed().rule(Some(rule), rule_from.as_deref())
        }
        Event::RequestDenied { request, line, rule, rule_from, reason, .. } => asked(line, *request, frame)
            .severity(Severity::Low)
            .failed(reason)
            .blocked()
            .rule(rule.as_deref(), rule_from.as_deref()),
        Event::RequestFailed { request, reason } => Shape::other(Class::Http, "Failed")
            .failed(reason)
            .with("http_request", json!({ "uid": request_uid(frame, request.0) })),
        Event::RequestCompleted { .. } | Event::PublishedPortLeft { .. } => over(event, frame)?,
        Event::PushRead { request, repository, updates, signed, .. } => Shape::new(Class::Api, READ)
            .detail(updates.join(", "))
            .with("api", json!({ "operation": "git push", "request": { "uid": request_uid(frame, request.0) } }))
            .with(
                "resources",
                json!([{ "name": repository, "type": "repository", "labels": [signed_label(*signed)] }]),
            ),
        Event::BodyRecorded { .. } => body(event, frame)?,
        Event::UsageMetered { request, dialect, model, usage, .. } => {
            model_call(Shape::other(Class::Api, "Inference").succeeded(), frame, *request, dialect, model)
                .with("message_context", tokens(dialect, usage))
        }
        Event::ModelReplaced { request, policy, to, .. } => {
            let shape = model_call(Shape::other(Class::Api, "Model replaced"), frame, *request, "omni", to);
            shape.detail(format!("by the spend policy {policy}"))
        }
        Event::PortPublished { address, port } => Shape::new(Class::Network, LISTEN)
            .with("dst_endpoint", socket(*address))
            .with("connection_info", json!({ "direction_id": INBOUND }))
            .detail(format!("port {port} of the sandbox")),
        Event::PublishedPortEntered { port, from, .. } => Shape::new(Class::Network, OPEN)
            .with("src_endpoint", socket(*from))
            .with("dst_endpoint", json!({ "name": "sandbox", "instance_uid": frame.session, "port": port.0 }))
            .with("connection_info", json!({ "direction_id": INBOUND })),
        _ => return None,
    };
    Some(match shape.class {
        // The programs of the sandbox are those that ask.
        Class::Dns | Class::Network | Class::Http | Class::Api if !shape.fields.contains_key("src_endpoint") => {
            shape.with("src_endpoint", sandbox(frame.session.as_str()))
        }
        _ => shape,
    })
}

/// A request, or a connection that nobody reads.
fn asked(line: &RequestLine, request: RequestNumber, frame: &Frame) -> Shape {
    let to = endpoint(&line.host, Some(line.port));
    let uid = request_uid(frame, request.0);
    if matches!(line.scheme, Scheme::Tcp | Scheme::Tls) {
        let info = json!({ "direction_id": OUTBOUND, "protocol_name": "tcp", "uid": uid });
        return Shape::new(Class::Network, OPEN).with("dst_endpoint", to).with("connection_info", info);
    }
    let shape = match method(&line.method) {
        Some(activity) => Shape::new(Class::Http, activity),
        None => Shape::other(Class::Http, "Another method"),
    };
    let url = json!({
        "scheme": line.scheme.as_str(),
        "hostname": line.host.to_string(),
        "port": line.port.0,
        "path": line.path,
        "url_string": format!("{}://{}:{}{}", line.scheme.as_str(), line.host, line.port, line.path),
    });
    shape.with("dst_endpoint", to).with("http_request", json!({ "uid": uid, "http_method": line.method, "url": url }))
}

/// The activity of a method (RFC 9110).
fn method(name: &str) -> Option<u32> {
    const METHODS: [(&str, u32); 9] = [
        ("CONNECT", 1),
        ("DELETE", 2),
        ("GET", 3),
        ("HEAD", 4),
        ("OPTIONS", 5),
        ("POST", 6),
        ("PUT", 7),
        ("TRACE", 8),
        ("PATCH", 9),
    ];
    METHODS.iter().find(|(known, _)| *known == name).map(|(_, activity)| *activity)
}

/// What is over.
fn over(event: &Event, frame: &Frame) -> Option<Shape> {
    let shape = match event {
        Event::RequestCompleted { request, status, request_bytes, response_bytes, duration_ms, end } => ended(
            Shape::other(Class::Http, "Completed")
                .with("http_request", json!({ "uid": request_uid(frame, request.0), "body_length": request_bytes }))
                .with("http_response", json!({ "code": status, "body_length": response_bytes }))
                .with("traffic", traffic(*response_bytes, *request_bytes))
                .with("duration", json!(duration_ms)),
            *end,
            None,
        ),
        Event::PublishedPortLeft { bytes_in, bytes_out, end, reason, .. } => ended(
            Shape::new(Class::Network, CLOSE)
                .with("dst_endpoint", sandbox(frame.session.as_str()))
                .with("src_endpoint", json!({ "name": "host" }))
                .with("connection_info", json!({ "direction_id": INBOUND }))
                .with("traffic", traffic(*bytes_in, *bytes_out)),
            *end,
            reason.as_deref(),
        ),
        _ => return None,
    };
    Some(shape)
}

fn ended(shape: Shape, end: BodyEnd, reason: Option<&str>) -> Shape {
    match (end, reason) {
        (_, Some(reason)) => shape.failed(reason),
        (BodyEnd::Complete, None) => shape.succeeded(),
        (other, None) => {
            let word = serde_json::to_value(other).unwrap_or_default();
            shape.failed(word.as_str().unwrap_or("cut off"))
        }
    }
}

fn traffic(bytes_in: u64, bytes_out: u64) -> Value {
    json!({ "bytes_in": bytes_in, "bytes_out": bytes_out, "bytes": bytes_in.saturating_add(bytes_out) })
}

/// A body that was recorded, by its hash alone.
fn body(event: &Event, frame: &Frame) -> Option<Shape> {
    let Event::BodyRecorded { request, side, content_type, sha256, bytes, missing } = event else { return None };
    let side = match side {
        BodySide::Request => "request",
        BodySide::Response => "response",
    };
    let mut file = json!({ "name": format!("{side} body of {}", request_uid(frame, request.0)), "type_id": 99, "type": "Body", "size": bytes });
    if let Some(fields) = file.as_object_mut() {
        if let Some(sha256) = sha256 {
            fields.insert("hashes".to_owned(), json!([{ "algorithm_id": 3, "value": sha256 }]));
        }
        if let Some(content_type) = content_type {
            fields.insert("mime_type".to_owned(), json!(content_type));
        }
    }
    let shape = Shape::new(Class::FileSystem, CREATE).with("file", file);
    Some(match missing {
        Some(why) => shape.failed(why),
        None => shape.succeeded(),
    })
}

fn model_call(shape: Shape, frame: &Frame, request: RequestNumber, dialect: &str, model: &str) -> Shape {
    let uid = request_uid(frame, request.0);
    Shape { is_model_call: true, ..shape }
        .with("api", json!({ "operation": "model call", "service": { "name": dialect }, "request": { "uid": uid } }))
        .with("ai_model", json!({ "name": model, "ai_provider": provider(dialect) }))
}

/// Whose wire format it is: the beginning of the dialect's name.
fn provider(dialect: &str) -> &str {
    dialect.split('-').next().unwrap_or(dialect)
}

fn tokens(dialect: &str, usage: &Usage) -> Value {
    json!({
        "service": { "name": dialect },
        "prompt_tokens": usage.prompt(),
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt().saturating_add(usage.output),
    })
}

fn signed_label(signed: bool) -> &'static str {
    if signed { "signed" } else { "unsigned" }
}

fn socket(address: SocketAddr) -> Value {
    json!({ "ip": address.ip().to_string(), "port": address.port() })
}

/// Where a connection was going, as far as that is known.
fn target_endpoint(target: &str) -> Value {
    let (host, port) = match target.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => match port.parse() {
            Ok(port) => (host, Some(Port(port))),
            Err(_) => (target, None),
        },
        _ => (target, None),
    };
    match Host::parse(host) {
        Ok(host) => endpoint(&host, port),
        Err(_) => json!({ "name": target }),
    }
}
