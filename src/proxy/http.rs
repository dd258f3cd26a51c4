//! One request: facts, decision, record, forward. Every request of every connection goes through [`handle`].

use super::Shared;
use super::body::{RequestBody, ResponseBody, drain};
use super::facts::{self, Claim, Judged, Malformed};
use super::headers;
use super::inject::{Misplaced, Plan};
use super::lanes::Slot;
use super::refusal::{self, Audience, Reply};
use super::settle::Open;
use crate::model::{BodyEnd, Event, RequestLine, RequestNumber};
use crate::policy::{Grant, Question, Refusal, Verdict};
use http::header::{ACCEPT_ENCODING, EXPECT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use std::sync::Arc;

/// What can go upstream.
struct Cleared {
    grant: Grant,
    plan: Plan,
    target: String,
}

/// What cannot, with all that is said about it.
struct Denied {
    status: u16,
    line: RequestLine,
    rule: Option<String>,
    reason: String,
    rule_to_add: Option<String>,
}

/// Answers one request. The answer is the upstream's, or explains why there is none.
pub(super) async fn handle(shared: &Arc<Shared>, claim: &Claim, request: Request<Incoming>) -> Response<ResponseBody> {
    let (mut head, body) = request.into_parts();
    let number = shared.books.clerk.next_request();
    let wants_upgrade = headers::wants_upgrade(&head.headers);
    // A client that waits for leave to send its body has not begun to.
    let waits = head.headers.contains_key(EXPECT);
    let audience = Audience::new(&claim.host, &head.headers);
    let judged = facts::facts(claim, &head);
    headers::clean_request(&mut head.headers);
    let cleared = judged
        .map_err(|malformed| Box::new(Denied::from(malformed)))
        .and_then(|judged| judge(shared, judged, &head.headers, wants_upgrade));
    match cleared {
        Ok(cleared) => forward(shared, number, cleared, head.headers, body, &audience).await,
        Err(denied) => {
            let reply = deny(shared, number, *denied).await;
            // What follows a CONNECT was meant for a tunnel, and is no request.
            let reply = if head.method == Method::CONNECT { reply.closing() } else { reply };
            if !waits {
                drain(body).await;
            }
            reply.into_response(&audience)
        }
    }
}

/// Decides. Nothing has left and nothing is recorded yet.
fn judge(shared: &Shared, judged: Judged, headers: &HeaderMap, wants_upgrade: bool) -> Result<Cleared, Box<Denied>> {
    let Judged { facts, target } = judged;
    let disagreed = facts.disagreement.is_some();
    let grant = match shared.policy.decide(facts) {
        Verdict::Allow(grant) => grant,
        Verdict::Ask(question) => return Err(Box::new(question.into())),
        Verdict::Deny(refusal) => {
            let status = if disagreed { 421 } else { 403 };
            return Err(Box::new(Denied { status, ..refusal.into() }));
        }
    };
    if wants_upgrade {
        let reason = "WebSocket connections are not carried: use plain HTTPS requests".to_owned();
        return Err(Box::new(Denied::of(grant, 426, reason)));
    }
    match shared.vault.plan(grant.line(), &target, headers) {
        Ok(plan) => Ok(Cleared { grant, plan, target }),
        Err(misplaced) => Err(Box::new(Denied::of(grant, 403, explain_misplaced(&misplaced)))),
    }
}

/// Records the permission, then uses it.
async fn forward(
    shared: &Arc<Shared>,
    number: RequestNumber,
    cleared: Cleared,
    mut headers: HeaderMap,
    body: Incoming,
    audience: &Audience,
) -> Response<ResponseBody> {
    let Cleared { grant, plan, target } = cleared;
    let line = grant.line().clone();
    let secrets = shared.vault.planned(&plan);
    let allowed = Event::RequestAllowed { request: number, line: line.clone(), rule: grant.rule().to_owned(), secrets };
    if let Err(error) = shared.books.clerk.record(allowed).await {
        drain(body).await;
        return Reply::refused(503, format!("omni: {error}")).into_response(audience);
    }
    let open = Open::new(shared.books.clone(), number, &line);
    if open.is_metered() {
        // A compressed answer could not be read as it passes.
        headers.remove(ACCEPT_ENCODING);
    }
    shared.vault.apply(&plan, &mut headers);
    let body = RequestBody::new(body, open.upload());
    match shared.upstream.send(grant, &target, headers, body).await {
        Ok((response, slot)) => answer(shared.clone(), response, slot, open, &line, audience),
        Err(error) => {
            let reply = Reply::failed(error.status, format!("omni: {}: {}", refusal::url(&line), error.reason));
            open.fail(error.reason);
            reply.into_response(audience)
        }
    }
}

fn answer(
    shared: Arc<Shared>,
    response: Response<Incoming>,
    slot: Slot,
    mut open: Open,
    line: &RequestLine,
    audience: &Audience,
) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let reason = "the upstream switched protocols without being asked".to_owned();
        open.fail(reason.clone());
        return Reply::failed(502, format!("omni: {reason}")).into_response(audience);
    }
    headers::clean_response(&mut head.headers);
    shared.vault.redact(&mut head.headers);
    head.version = Version::HTTP_11;
    open.answered(&head);
    if line.method == "HEAD" || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // It is over with its head, and its body may never be asked for.
        open.end(BodyEnd::Complete);
    }
    // What the client's side adds must come from this side alone.
    head.extensions.clear();
    Response::from_parts(head, ResponseBody::stream(body, open, shared, slot))
}

/// Records the refusal, then says it.
async fn deny(shared: &Shared, number: RequestNumber, denied: Denied) -> Reply {
    let Denied { status, line, rule, reason, rule_to_add } = denied;
    let message = refusal::explain(&line, &reason, rule_to_add.as_deref());
    // A refusal needs no permission of the journal's: what is refused stays refused, recorded or not.
    let _ = shared.books.clerk.record(Event::RequestDenied { request: number, line, rule, reason }).await;
    Reply::refused(status, message)
}

fn explain_misplaced(misplaced: &Misplaced) -> String {
    let Misplaced { secret, found, belongs } = misplaced;
    format!("the placeholder of the secret `{secret}` stands in {found}, and it belongs in {belongs} alone")
}

impl Denied {
    fn of(grant: Grant, status: u16, reason: String) -> Self {
        Self { status, line: grant.line().clone(), rule: None, reason, rule_to_add: None }
    }
}

impl From<Malformed> for Denied {
    fn from(malformed: Malformed) -> Self {
        let Malformed { status, reason, line } = malformed;
        Self { status, line, rule: None, reason, rule_to_add: None }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        let Refusal { line, rule, reason, rule_to_add } = refusal;
        Self { status: 403, line, rule, reason, rule_to_add }
    }
}

impl From<Question> for Denied {
    fn from(question: Question) -> Self {
        let Question { line, rule } = question;
        let reason = format!("the rule `ask {rule}` wants a person's answer, and this version cannot ask for one");
        Self { status: 403, line, rule: Some(rule), reason, rule_to_add: None }
    }
}
