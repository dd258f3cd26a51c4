//! One request: facts, decision, record, forward. Every request of every connection goes through [`handle`].
//!
//! What hardly any request waits for stands in boxes: a future has room for all that it may ever wait for, and is moved as a
//! whole.

use super::Shared;
use super::body::{self, Held, RequestBody, ResponseBody};
use super::consent::{self, Subject, Yes};
use super::early::Teller;
use super::facts::{self, Claim, Judged, Malformed};
use super::funds::{self, Funds, Unfunded, asks_for_stream};
use super::governed_socket::MessageCalls;
use super::headers;
use super::hold::{Unfit, hold};
use super::inject::Plan;
use super::patience::{self, Patience};
use super::pool::Passage;
use super::push;
use super::refusal::{self, Audience, Reply};
use super::renewal::{self, Turn};
use super::rinse::Rinse;
use super::screen::Screen;
use super::secret_reads;
use super::settle::Open;
use super::standing::Standing;
use super::upstream::SendError;
use super::websocket::{self, Handshake, Offer, Socket};
use crate::model::{BodyEnd, Event, RequestLine, RequestNumber};
use crate::policy::{Act, Allowance, Grant, NamedRule, Particulars, Push, Question, Refusal, TooMany, Verdict, Way};
use http::header::{ACCEPT_ENCODING, EXPECT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, request};
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::Duration;

/// What can go upstream.
struct Cleared {
    grant: Grant,
    allowance: Allowance,
    plan: Plan,
    target: String,
    act: Option<Act>,
    /// What watches its body, unless that was read whole.
    screen: Option<Screen>,
    /// Where it begins a WebSocket.
    handshake: Option<Handshake>,
    /// Who says to its client what comes before the answer.
    teller: Option<Teller>,
    /// What is held for it.
    funds: Option<Funds>,
    /// Where it renews a login.
    renews: Option<Turn>,
    /// What is judged again while it goes on, where anything may be.
    standing: Option<Arc<Standing>>,
}

/// What cannot, with all that is said about it.
struct Denied {
    status: u16,
    line: RequestLine,
    rule: Option<NamedRule>,
    act: Option<Act>,
    reason: String,
    rule_to_add: Option<String>,
    /// The other rules that are about it.
    also: Vec<String>,
    /// When asking again may help.
    retry_after: Option<Duration>,
}

/// Answers one request. The answer is the upstream's, or explains why there is none; where somebody must say something first,
/// it may begin before.
pub(super) async fn handle(
    shared: &Arc<Shared>,
    claim: &Arc<Claim>,
    request: Request<Incoming>,
    teller: Option<Teller>,
) -> Response<ResponseBody> {
    let patience = Patience::of(request.uri().query());
    let work = Box::pin(answer_to(shared.clone(), claim.clone(), request, patience.clone(), teller));
    patience::answer(work, &patience).await
}

async fn answer_to(
    shared: Arc<Shared>,
    claim: Arc<Claim>,
    request: Request<Incoming>,
    patience: Patience,
    teller: Option<Teller>,
) -> Response<ResponseBody> {
    let (shared, patience) = (&shared, &patience);
    let (mut head, body) = request.into_parts();
    let number = shared.books.clerk.next_request();
    let mut offer = Offer::of(&mut head);
    // A client that waits for leave to send its body has not begun to.
    let waits = head.headers.contains_key(EXPECT);
    let audience = Audience::new(&claim.host, &head.headers);
    let judged = facts::facts(&claim, &head);
    headers::clean_request(&mut head.headers);
    let (held, push, judged) = open_push(shared, number, &head, body, judged).await;
    let asked = Asked {
        query: head.uri.query(),
        headers: &head.headers,
        offer: &offer,
        push: push.as_ref(),
        length: held.size_hint().exact(),
    };
    let (cleared, held) = match judged {
        Ok(judged) => clear(shared, number, judged, &asked, held, patience).await,
        Err(denied) => (Err(denied), held),
    };
    let (cleared, held) = fund(shared, number, cleared, &mut head.headers, held, patience).await;
    let (cleared, held) = hold_body(shared, number, cleared, &head.headers, held, patience).await;
    match cleared {
        Ok(cleared) => {
            let handshake = match std::mem::replace(&mut offer, Offer::None) {
                Offer::WebSocket(handshake) => Some(handshake),
                Offer::None | Offer::Refused(..) => None,
            };
            let cleared = Cleared { handshake, teller, ..cleared };
            forward(shared, number, cleared, head.headers, held, &audience).await
        }
        Err(denied) => {
            let reply = Box::pin(deny(shared, number, *denied, push.as_ref())).await;
            // What follows a CONNECT was meant for a tunnel, and is no request.
            let reply = if head.method == Method::CONNECT { reply.closing() } else { reply };
            match push {
                Some(_) => Box::pin(push::drain(held)).await,
                None if !waits => Box::pin(body::drain(held)).await,
                None => {}
            }
            reply.into_response(&audience)
        }
    }
}

/// Whether what a request does stands in its body.
fn reads_body(act: Option<Act>) -> bool {
    matches!(act, Some(Act::GitPush | Act::LfsUpload))
}

/// Reads what a push is to change, and records it.
async fn open_push(
    shared: &Shared,
    number: RequestNumber,
    head: &request::Parts,
    body: Incoming,
    judged: Result<Judged, Malformed>,
) -> (Held, Option<Push>, Result<Judged, Box<Denied>>) {
    let judged = match judged {
        Ok(judged) if judged.facts.disagreement.is_none() && reads_body(judged.act) => judged,
        other => return (Held::untouched(body), None, other.map_err(|malformed| Box::new(malformed.into()))),
    };
    let line = &judged.facts.line;
    let read = match judged.act {
        Some(Act::LfsUpload) => Box::pin(push::read_batch(&head.method, line, &head.headers, body)).await,
        _ => Box::pin(push::read(&head.method, line, &head.headers, body)).await,
    };
    match read {
        Ok(push::Read { act, push, body }) => {
            if act == Act::GitPush {
                // What cannot be recorded is not allowed either, which is recorded before it counts.
                let _ = shared.books.clerk.record(push::event(number, line, &push)).await;
            }
            (body, Some(push), Ok(Judged { act: Some(act), ..judged }))
        }
        Err((push::Unreadable(reason), body)) => {
            let act = judged.act;
            let denied = Denied { act, ..Denied::because(line.clone(), 403, reason) };
            (Held::untouched(body), None, Err(Box::new(denied)))
        }
    }
}

/// What is known of a request beside its facts.
struct Asked<'a> {
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    offer: &'a Offer,
    push: Option<&'a Push>,
    /// Bytes of its body, where it says so.
    length: Option<u64>,
}

/// Why a request cannot go as things are.
enum Stop {
    Denied(Box<Denied>),
    /// A person must say.
    Ask(Box<Question>),
}

/// Decides, and has a person decide where a rule wants that. What they said yes to is judged again, by the policy as it is
/// then.
async fn clear(
    shared: &Arc<Shared>,
    number: RequestNumber,
    judged: Judged,
    asked: &Asked<'_>,
    mut held: Held,
    patience: &Patience,
) -> (Result<Cleared, Box<Denied>>, Held) {
    let (mut consent, mut body) = (None::<Yes>, None);
    loop {
        let question = match judge(shared, judged.clone(), asked, consent.as_ref()) {
            Ok(cleared) => return (Ok(cleared), held),
            Err(Stop::Denied(denied)) => return (Err(denied), held),
            Err(Stop::Ask(question)) => question,
        };
        if body.is_none() {
            let read;
            (read, held) = Box::pin(consent::read_body(held)).await;
            body = Some(read);
        }
        let read = body.clone().flatten();
        let shown = read.clone().unwrap_or_default();
        let act = judged.act.map(|act| act.to_string());
        if let Some(endpoint) = shared.books.model_hosts.endpoint(&question.line) {
            patience.may_stream(endpoint.dialect, asks_for_stream(endpoint, &question.line, &shown));
        }
        let subject = Subject { line: &question.line, query: asked.query, body: read.as_deref(), push: asked.push };
        let inquiry = consent::of_rule(number, &question, act, subject);
        match Box::pin(patience.wait(consent::ask(shared, inquiry))).await {
            Ok(said) => consent = Some(Yes::to(*question, said, shared)),
            Err(why) => {
                let Question { line, rule, also, .. } = *question;
                let denied = Denied { also, rule: Some(rule), act: judged.act, ..Denied::because(line, 403, why) };
                return (Err(Box::new(denied)), held);
            }
        }
    }
}

/// Holds money for what was cleared, where it is a model call and a policy wants that.
async fn fund(
    shared: &Arc<Shared>,
    number: RequestNumber,
    cleared: Result<Cleared, Box<Denied>>,
    headers: &mut HeaderMap,
    held: Held,
    patience: &Patience,
) -> (Result<Cleared, Box<Denied>>, Held) {
    let cleared = match cleared {
        Ok(cleared) => cleared,
        Err(denied) => return (Err(denied), held),
    };
    if !shared.books.governed {
        return (Ok(cleared), held);
    }
    let reserving = Box::pin(funds::reserve(shared, number, cleared.grant.line(), headers, held, patience));
    let (funds, held) = reserving.await;
    let act = cleared.act;
    let cleared = match funds {
        Ok(funds) => Ok(Cleared { funds, ..cleared }),
        Err(Unfunded { status, reason }) => Err(Box::new(Denied { act, ..Denied::of(&cleared.grant, status, reason) })),
    };
    (cleared, held)
}

/// Decides. Nothing has left and nothing is recorded yet.
fn judge(shared: &Shared, judged: Judged, asked: &Asked<'_>, consent: Option<&Yes>) -> Result<Cleared, Stop> {
    let Judged { facts, target, act } = judged;
    let disagreed = facts.disagreement.is_some();
    let updates = asked.push.map_or(&[][..], |push| &push.updates);
    let (query, headers, upload) = (asked.query, Some(asked.headers), asked.length);
    let by = Particulars { query, headers, act, updates, upload, ..Particulars::default() };
    let refused = |denied: Denied| Stop::Denied(Box::new(Denied { act, ..denied }));
    let (verdict, as_of) = shared.policy.decide(facts, &by);
    let grant = match verdict {
        Verdict::Allow(grant) => grant,
        Verdict::Ask(question) => shared.policy.permit(Box::new(question), consent, &by).map_err(Stop::Ask)?,
        Verdict::Deny(refusal) => {
            let status = if disagreed { 421 } else { 403 };
            return Err(refused(Denied { status, ..refusal.into() }));
        }
    };
    if let Offer::Refused(status, reason) = asked.offer {
        return Err(refused(Denied::of(&grant, *status, (*reason).to_owned())));
    }
    let plan = match shared.vault.plan(grant.line(), &target, asked.headers) {
        Ok(plan) if matches!(asked.offer, Offer::WebSocket(_)) => plan,
        Ok(plan) => Plan { message_sites: Vec::new(), ..plan },
        Err(misplaced) => return Err(refused(Denied::of(&grant, 403, misplaced.to_string()))),
    };
    match admit(shared, &grant, asked.length) {
        Ok(allowance) => {
            let goes_on = matches!(asked.offer, Offer::WebSocket(_)) || shared.policy.watches_files();
            let standing = goes_on.then(|| Arc::new(Standing::new(&grant, as_of, &by)));
            let (screen, handshake, teller, funds, renews) = (None, None, None, None, None);
            Ok(Cleared { grant, allowance, plan, target, act, screen, handshake, teller, funds, renews, standing })
        }
        Err(denied) => Err(refused(*denied)),
    }
}

/// Looks into the body for placeholders, or sees to it that somebody will.
async fn hold_body(
    shared: &Shared,
    number: RequestNumber,
    cleared: Result<Cleared, Box<Denied>>,
    headers: &HeaderMap,
    held: Held,
    patience: &Patience,
) -> (Result<Cleared, Box<Denied>>, Held) {
    let mut cleared = match cleared {
        Ok(cleared) => cleared,
        Err(denied) => return (Err(denied), held),
    };
    if shared.vault.is_empty() {
        return (Ok(cleared), held);
    }
    let (held, screen) = Box::pin(hold(shared, &mut cleared.plan, headers, held)).await;
    let Cleared { act, .. } = cleared;
    // Whoever renews a login too waits, and then sends what came of it.
    let turn = shared.vault.take_turn(&cleared.plan).await;
    let Cleared { grant, plan, target, .. } = &mut cleared;
    let verified = shared.vault.verify(plan, grant.line(), target, headers, held.begun());
    let mut screen = screen.and_then(|screen| verified.map(|()| screen).map_err(Unfit::from));
    if screen.is_ok() {
        let approved = shared.vault.approve(shared, number, plan, grant.line(), patience).await;
        screen = approved.map_err(|reason| Unfit { status: 403, reason }).and(screen);
    }
    let screen = match (screen, turn, shared.vault.refresh(shared, &cleared.plan).await) {
        (Ok(_), Err(reason), _) | (Ok(_), _, Err(reason)) => Err(Unfit { status: 503, reason }),
        (Ok(screen), Ok(renews), Ok(())) => Ok((screen, renews)),
        (Err(unfit), ..) => Err(unfit),
    };
    let cleared = match screen {
        Ok((screen, renews)) => Ok(Cleared { screen, renews, ..cleared }),
        Err(Unfit { status, reason }) => Err(Box::new(Denied { act, ..Denied::of(&cleared.grant, status, reason) })),
    };
    (cleared, held)
}

/// Counts a request where a rule caps something, unless there is no room for it.
fn admit(shared: &Shared, grant: &Grant, length: Option<u64>) -> Result<Allowance, Box<Denied>> {
    let allowance = shared.policy.admit(grant).map_err(|TooMany { rule, retry_after }| {
        let reason = format!("the rule `{rule}` lets no more requests through for now");
        Box::new(Denied { retry_after: Some(retry_after), ..Denied::of(grant, 429, reason) })
    })?;
    // Of a body whose length is not said, what is too much is cut off.
    allowance
        .expect(Way::Up, length.unwrap_or_default())
        .map_err(|too_much| Box::new(Denied::of(grant, 413, too_much.to_string())))?;
    Ok(allowance)
}

/// Records the permission, then uses it.
async fn forward(
    shared: &Arc<Shared>,
    number: RequestNumber,
    cleared: Cleared,
    mut headers: HeaderMap,
    body: Held,
    audience: &Audience,
) -> Response<ResponseBody> {
    let Cleared { grant, allowance, plan, mut target, act, screen, handshake, teller, funds, renews, standing } =
        cleared;
    let (secrets, length) = (shared.vault.planned(&plan), body.size_hint().exact());
    secret_reads::tell(shared).await;
    // Whatever is judged from now on comes after it, and what was judged before did not see what it brings.
    shared.policy.remember(act, grant.line(), length, &secrets);
    let allowed = Event::RequestAllowed {
        request: number,
        line: grant.line().clone(),
        rule: grant.rule().to_owned(),
        rule_from: Some(grant.rule_from().to_owned()),
        act: act.map(|act| act.to_string()),
        secrets,
        also: grant.also().to_vec(),
    };
    if let Err(error) = shared.books.clerk.keep(&allowed).await {
        Box::pin(body::drain(body)).await;
        return Reply::refused(503, format!("omni: {error}")).into_response(audience);
    }
    let handshake = handshake.map(|handshake| {
        let calls = MessageCalls::of(shared, &allowed, standing.clone());
        handshake.standing(standing.clone()).funded(calls).putting(plan.message_sites.clone())
    });
    let line = match allowed {
        Event::RequestAllowed { line, .. } => line,
        _ => grant.line().clone(),
    };
    let open = Open::new(shared.books.clone(), number, &line, allowance).funded(funds);
    let kept = handshake.is_none() && open.keep(&headers);
    if kept || open.is_read() || shared.vault.may_tell(&line.host) {
        // A compressed answer could not be read as it passes.
        headers.remove(ACCEPT_ENCODING);
    }
    shared.vault.apply(&plan, &mut target, &mut headers);
    shared.vault.sign(&plan, &line, &target, &mut headers);
    if let Some(handshake) = &handshake {
        handshake.ask(&mut headers);
    }
    let body = body.made(|begun| shared.vault.apply_to_body(&plan, &mut headers, begun));
    let goes_on = standing.filter(|_| shared.policy.watches_files()).map(|standing| (shared.clone(), standing));
    let body = RequestBody::new(body, open.upload(), screen.map(|screen| (shared.clone(), screen)), goes_on);
    if let Some(turn) = renews {
        let errand = renewal::Errand { grant, target, headers, body, open, number, turn };
        return Box::pin(renewal::carry(shared, errand, audience.clone())).await;
    }
    match shared.upstream.send(grant, &target, headers, body, handshake.is_some(), teller).await {
        Ok((response, passage)) => answer(shared.clone(), response, passage, open, &line, audience, handshake),
        Err(error) => {
            // What stopped the body is why there is no answer, whatever its connection says.
            let stopped =
                open.stopped().map(|reason| SendError { status: 403, reason: reason.to_owned(), cause: None });
            let error = stopped.unwrap_or(error);
            let reply = Reply::failed(error.status, format!("omni: {}: {}", refusal::url(&line), error.reason));
            let reply = reply.because(error.cause);
            open.fail(error.reason);
            reply.into_response(audience)
        }
    }
}

fn answer(
    shared: Arc<Shared>,
    response: Response<Incoming>,
    passage: Passage,
    mut open: Open,
    line: &RequestLine,
    audience: &Audience,
    handshake: Option<Handshake>,
) -> Response<ResponseBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(shared, response, passage, open, line, handshake).unwrap_or_else(|unswitched| {
            let (open, reason) = *unswitched;
            open.fail(reason.to_owned());
            Reply::failed(502, format!("omni: {reason}")).into_response(audience)
        });
    }
    let (mut head, body) = response.into_parts();
    headers::clean_response(&mut head.headers);
    shared.vault.redact(&mut head.headers);
    head.version = Version::HTTP_11;
    open.answered(&head);
    let rinse = match Rinse::begin(&shared.vault, &line.host, &mut head.headers) {
        Ok(rinse) => rinse,
        Err(reason) => return unreadable(open, line, reason, audience),
    };
    if line.method == "HEAD" || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // It is over with its head, and its body may never be asked for.
        open.end(BodyEnd::Complete);
    } else if let Err(too_much) = open.expect(body.size_hint().exact().unwrap_or_default()) {
        // Known ahead, so that the client is told rather than left with a part of it.
        open.end(BodyEnd::QuotaReached);
        return Reply::refused(403, format!("omni refused the answer to {}: {too_much}", refusal::url(line)))
            .into_response(audience);
    }
    // What the client's side adds must come from this side alone.
    head.extensions.clear();
    Response::from_parts(head, ResponseBody::stream(body, open, shared, passage, rinse))
}

/// Gives up on an answer that may hold a secret and cannot be read.
fn unreadable(mut open: Open, line: &RequestLine, reason: &str, audience: &Audience) -> Response<ResponseBody> {
    open.end(BodyEnd::UpstreamBroke);
    let message = format!("omni cannot search the answer to {} for secrets: {reason}", refusal::url(line));
    Reply::failed(502, message).into_response(audience)
}

/// Leaves HTTP, if that is what was asked for and agreed to.
fn switch(
    shared: Arc<Shared>,
    mut response: Response<Incoming>,
    passage: Passage,
    mut open: Open,
    line: &RequestLine,
    handshake: Option<Handshake>,
) -> Result<Response<ResponseBody>, Box<(Open, &'static str)>> {
    let Some(handshake) = handshake else {
        return Err(Box::new((open, "the upstream switched protocols without being asked")));
    };
    let upstream = hyper::upgrade::on(&mut response);
    let (mut head, _) = response.into_parts();
    if let Err(reason) = handshake.check(&head) {
        return Err(Box::new((open, reason)));
    }
    headers::clean_response(&mut head.headers);
    shared.vault.redact(&mut head.headers);
    open.answered(&head);
    let socket = Socket::new(shared.books.model_hosts.websocket(line), &head.headers).watched(&shared);
    websocket::ask(&mut head.headers);
    head.extensions.clear();
    handshake.carry(shared, upstream, open, passage, socket);
    Ok(Response::from_parts(head, ResponseBody::text("")))
}

/// Records the refusal, then says it.
async fn deny(shared: &Shared, number: RequestNumber, denied: Denied, push: Option<&Push>) -> Reply {
    let Denied { status, line, rule, act, reason, rule_to_add, also, retry_after } = denied;
    let message = refusal::explain(&line, &reason, rule_to_add.as_deref());
    // A refusal needs no permission of the journal's: what is refused stays refused, recorded or not.
    let (rule, rule_from) = rule.map(|NamedRule { text, from }| (text, from)).unzip();
    let act = act.map(|act| act.to_string());
    let denied = Event::RequestDenied { request: number, line, rule, rule_from, act, reason, also };
    secret_reads::tell(shared).await;
    let _ = shared.books.clerk.record(denied).await;
    let report = push.and_then(|push| push::refusal(push, &message));
    Reply::refused(status, message).after(retry_after).reporting(report)
}

impl Denied {
    fn of(grant: &Grant, status: u16, reason: String) -> Self {
        Self::because(grant.line().clone(), status, reason)
    }

    fn because(line: RequestLine, status: u16, reason: String) -> Self {
        Self { status, line, rule: None, act: None, reason, rule_to_add: None, also: Vec::new(), retry_after: None }
    }
}

impl From<Malformed> for Denied {
    fn from(malformed: Malformed) -> Self {
        let Malformed { status, reason, line } = malformed;
        Self::because(line, status, reason)
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        let Refusal { line, rule, also, reason, rule_to_add } = refusal;
        Self { rule, also, rule_to_add, ..Self::because(line, 403, reason) }
    }
}
