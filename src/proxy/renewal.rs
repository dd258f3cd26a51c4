//! Renewing a login from inside: the request gets the real token, what comes back stays outside, and the program is shown
//! placeholders.

use super::Shared;
use super::body::{RequestBody, ResponseBody};
use super::headers;
use super::inject::{Plan, Vault};
use super::refresh::Renewed;
use super::refusal::{self, Audience, Reply};
use super::settle::Open;
use crate::model::{BodyEnd, Event, Placeholder, RequestNumber, Timestamp};
use crate::policy::{Binding, Grant, Login};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Response, Version, response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, OwnedMutexGuard};
use zeroize::Zeroizing;

/// Largest answer of a server that renews logins.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long it may take to come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long another renewal of the same login may take.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);

/// A login whose tokens are in the vault.
pub(super) struct Account {
    login: &'static Login,
    /// Where its tokens are in the vault, in the login's order.
    entries: Vec<usize>,
    /// One renewal at a time: a token that renews is of use once.
    turn: Arc<Mutex<()>>,
    /// Whether its file is older than its tokens, since it could not be written.
    adrift: AtomicBool,
}

impl Account {
    /// The logins of these secrets.
    pub(super) fn all<'a>(bindings: impl Iterator<Item = &'a Binding>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (index, token) in bindings.enumerate().filter_map(|(index, binding)| Some((index, binding.login?))) {
            match all.iter_mut().find(|account| account.login.name == token.login.name) {
                Some(account) => account.entries.push(index),
                None => all.push(Self {
                    login: token.login,
                    entries: vec![index],
                    turn: Arc::default(),
                    adrift: AtomicBool::new(false),
                }),
            }
        }
        all
    }
}

/// The right to renew a login, which nobody else has meanwhile.
pub(super) struct Turn {
    account: usize,
    _turn: OwnedMutexGuard<()>,
}

impl Vault {
    /// Waits for the right to renew the login that a plan renews, if it renews one.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) async fn take_turn(&self, plan: &Plan) -> Result<Option<Turn>, String> {
        let renewing =
            |index: &usize| self.entries[*index].binding.login.is_some_and(crate::policy::LoginToken::renews);
        let Some(index) = self.used(plan).into_iter().find(renewing) else { return Ok(None) };
        let Some(account) = self.logins.iter().position(|account| account.entries.contains(&index)) else {
            return Ok(None);
        };
        let turn = self.logins[account].turn.clone().lock_owned();
        match tokio::time::timeout(TURN_TIMEOUT, turn).await {
            Ok(turn) => Ok(Some(Turn { account, _turn: turn })),
            Err(_) => Err(format!("another renewal of this login has not ended in {} s", TURN_TIMEOUT.as_secs())),
        }
    }

    /// Whether what a secret is read from is older than what is held of it.
    pub(super) fn is_adrift(&self, binding: &Binding) -> bool {
        let of_login = |account: &&Account| binding.login.is_some_and(|token| token.login.name == account.login.name);
        self.logins.iter().find(of_login).is_some_and(|account| account.adrift.load(Ordering::Relaxed))
    }

    /// Takes over what a renewal's answer gives, and has it written into the login's file. What the program is shown, the
    /// login's secret, and why the file could not be written; none where the answer holds no token.
    async fn renew(&self, turn: &Turn, answer: &Value) -> Option<(Value, String, Option<String>)> {
        let account = &self.logins[turn.account];
        let held: Vec<&Placeholder> =
            account.entries.iter().map(|index| &self.entries[*index].binding.placeholder).collect();
        let renewal = account.login.renewal(answer, &held, now())?;
        for (number, token) in renewal.tokens {
            self.take(&self.entries[account.entries[number]], Ok(Zeroizing::new(token)));
        }
        let renewed = Renewed { login: account.login.name.to_owned(), changes: renewal.changes };
        let written = match &self.keeper {
            Some(keeper) => keeper.write(&renewed).await,
            None => Err("there is no process that could write it".to_owned()),
        };
        account.adrift.store(written.is_err(), Ordering::Relaxed);
        Some((renewal.shown, self.entries[account.entries[0]].name(), written.err()))
    }
}

/// The time, for a file that says when it was renewed.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A request for renewal that is recorded as allowed, ready to go.
pub(super) struct Errand {
    pub(super) grant: Grant,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Box<RequestBody>,
    pub(super) open: Open,
    pub(super) number: RequestNumber,
    pub(super) turn: Turn,
}

/// Sends it, and keeps what comes back. It goes on to its end though the client does not wait for it: the old token is of no
/// use any more.
pub(super) async fn carry(shared: &Arc<Shared>, errand: Errand, audience: Audience) -> Response<ResponseBody> {
    let (shared, heard) = (shared.clone(), audience.clone());
    let carried = tokio::spawn(async move { exchange(&shared, errand, &heard).await });
    carried.await.unwrap_or_else(|_| Reply::failed(502, "omni: the renewal was broken off").into_response(&audience))
}

async fn exchange(shared: &Arc<Shared>, errand: Errand, audience: &Audience) -> Response<ResponseBody> {
    let Errand { grant, target, headers, body, mut open, number, turn } = errand;
    let line = grant.line().clone();
    let failed = |status, reason: &str| {
        Reply::failed(status, format!("omni: {}: {reason}", refusal::url(&line))).into_response(audience)
    };
    let (response, _slot) = match shared.upstream.send(grant, &target, headers, body, false, None).await {
        Ok(sent) => sent,
        Err(error) => {
            let answer = failed(error.status, &error.reason);
            open.fail(error.reason);
            return answer;
        }
    };
    let (mut head, body) = response.into_parts();
    open.answered(&head);
    let read = tokio::time::timeout(ANSWER_TIMEOUT, whole(body, &head)).await;
    let read = read.unwrap_or(Err("the answer did not come in time"));
    let answer = read.and_then(|bytes| match serde_json::from_slice::<Value>(&bytes) {
        Ok(answer) => Ok(answer),
        // What went wrong is said in any form.
        Err(_) if !head.status.is_success() => Ok(Value::Null),
        Err(_) => Err("the answer is no JSON"),
    });
    let shown = match answer {
        Ok(answer) => match shared.vault.renew(&turn, &answer).await {
            Some((shown, secret, problem)) => {
                let renewed = Event::SecretRenewed { request: number, secret, problem };
                let _ = shared.books.clerk.record(renewed).await;
                Ok(shown)
            }
            None if head.status.is_success() => Err("there is no token in the answer"),
            None => Ok(only_errors(&answer)),
        },
        Err(reason) => Err(reason),
    };
    match shown.map(|shown| Bytes::from(shown.to_string())) {
        // What is counted and recorded is what is shown: there are tokens in the other.
        Ok(shown) if open.chunk(&shown).is_err() => {
            open.end(BodyEnd::QuotaReached);
            failed(403, "a rule lets no more through")
        }
        Ok(shown) => {
            open.end(BodyEnd::Complete);
            show(shared, &mut head, shown.len());
            Response::from_parts(head, ResponseBody::text(shown))
        }
        Err(reason) => {
            open.end(BodyEnd::UpstreamBroke);
            failed(502, reason)
        }
    }
}

/// What of a refusal is shown (RFC 6749, section 5.2, and what vendors have instead).
fn only_errors(answer: &Value) -> Value {
    let kept = ["error", "error_description", "error_uri", "message", "detail", "type", "request_id"];
    let mut shown = answer.as_object().cloned().unwrap_or_default();
    shown.retain(|name, _| kept.contains(&name.as_str()));
    shown.into()
}

/// Makes the head that of the answer that is shown. The vault knows the new tokens by now.
fn show(shared: &Shared, head: &mut response::Parts, bytes: usize) {
    headers::clean_response(&mut head.headers);
    head.headers.remove(CONTENT_ENCODING);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    shared.vault.redact(&mut head.headers);
    head.version = Version::HTTP_11;
    head.extensions.clear();
}

pub(super) async fn whole(mut body: Incoming, head: &response::Parts) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err("the answer is compressed without being asked to be");
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err("the answer broke off") };
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > ANSWER_BYTES_MAX {
            return Err("the answer is too large");
        }
        read.extend_from_slice(&data);
    }
    Ok(Zeroizing::new(read.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_refusal_only_what_says_why_is_shown() {
        let answer = json!({"error": "invalid_grant", "error_description": "used", "token": "canary"});
        assert_eq!(only_errors(&answer), json!({"error": "invalid_grant", "error_description": "used"}));
        assert_eq!(only_errors(&json!(["canary"])), json!({}));
    }
}
