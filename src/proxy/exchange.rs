//! Keys that are exchanged for tokens: the proxy signs that it has the key, asks the vendor's server for a token, and uses that
//! for as long as it holds. The request for it goes out as every other does, judged and recorded.

use super::Shared;
use super::body::{Held, RequestBody};
use super::credential::Credential;
use super::inject::{Entry, Vault};
use super::refresh::Attempt;
use super::renewal::whole;
use super::settle::Open;
use crate::model::{BodyEnd, Event, RequestLine, RequestNumber};
use crate::policy::{Exchange, TooMany};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::response;
use serde_json::Value;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// How long an exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long before its end a token is used no more, so that none ends on its way: this, or a quarter of its time.
const MARGIN: Duration = Duration::from_secs(60);
/// Longest that a token is used, whatever its server says.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// How much this machine's clock may differ from a server's before the server's counts, in seconds.
const CLOCK_SECONDS_OFF: i64 = 30;
/// Longest that a server's own words are repeated, in characters.
const WORDS_CHARS_MAX: usize = 200;
/// The token's name in an answer of GitHub's and in one of RFC 6749's.
const TOKENS: [&str; 2] = ["token", "access_token"];

/// What makes one secret's tokens.
pub(super) struct Exchanger {
    exchange: Exchange,
    credential: RwLock<Arc<Credential>>,
    /// One exchange at a time: whoever waits takes what came of it.
    turn: Mutex<()>,
    lease: StdMutex<Option<Lease>>,
    /// How many seconds the server's clock is ahead of this machine's, once it has turned out to matter.
    clock_ahead: AtomicI64,
}

/// For how long the token holds that the secret has now, by both clocks: one stands still while the machine sleeps, and
/// people set the other.
#[derive(Clone, Copy)]
struct Lease {
    got: (Instant, SystemTime),
    lasts: Duration,
}

impl Lease {
    fn holds(&self, now: (Instant, SystemTime)) -> bool {
        let lasts = self.lasts.saturating_sub(MARGIN.min(self.lasts / 4));
        let by_the_wall = now.1.duration_since(self.got.1).unwrap_or_default();
        now.0.duration_since(self.got.0) < lasts && by_the_wall < lasts
    }
}

/// A token, and for how long it holds.
type Token = (Zeroizing<String>, Duration);

/// Why there is none.
struct Failed {
    reason: String,
    /// How many seconds the server's clock is ahead of what was said to it.
    clock_ahead: Option<i64>,
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self { reason, clock_ahead: None }
    }
}

impl Exchanger {
    /// What makes tokens of this key.
    pub(super) fn new(exchange: Exchange, credential: Credential) -> Self {
        let (credential, turn, lease) = (RwLock::new(Arc::new(credential)), Mutex::default(), StdMutex::default());
        Self { exchange, credential, turn, lease, clock_ahead: AtomicI64::new(0) }
    }

    /// Makes tokens of another key from now on.
    ///
    /// # Errors
    /// What is wrong with it; nothing of it is said.
    pub(super) fn replace(&self, value: &str) -> Result<(), String> {
        let credential = Arc::new(Credential::parse(&self.exchange, value)?);
        *self.credential.write().unwrap_or_else(PoisonError::into_inner) = credential;
        Ok(())
    }

    fn is_fresh(&self) -> bool {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.is_some_and(|lease| lease.holds((Instant::now(), SystemTime::now())))
    }

    /// The time that the server goes by, in seconds since 1970.
    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX).saturating_add(self.clock_ahead.load(Ordering::Relaxed))
    }
}

impl Vault {
    /// Has a secret hold a token, where it is exchanged for those.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn exchange(&self, shared: &Shared, entry: &Entry) -> Result<(), String> {
        let Some(exchanger) = &entry.exchanger else { return Ok(()) };
        let wanted = Instant::now();
        if exchanger.is_fresh() {
            return Ok(());
        }
        let _turn = exchanger.turn.lock().await;
        if exchanger.is_fresh() {
            return Ok(());
        }
        // Whoever waited while it failed takes that, and whoever comes later tries again.
        if let Attempt { at, problem: Some(problem) } = entry.attempt()
            && at >= wanted
        {
            return Err(problem);
        }
        let mut got = exchanger.ask(shared, entry).await;
        if let Err(Failed { clock_ahead: Some(ahead), .. }) = &got {
            exchanger.clock_ahead.store(*ahead, Ordering::Relaxed);
            got = exchanger.ask(shared, entry).await;
        }
        match got {
            Ok((token, lasts)) => {
                self.take_token(entry, Ok(token));
                let lease = Lease { got: (Instant::now(), SystemTime::now()), lasts };
                *exchanger.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
                Ok(())
            }
            Err(Failed { reason, .. }) => {
                let problem = format!("the secret `{}` cannot be exchanged for a token: {reason}", entry.name());
                self.take_token(entry, Err(problem.clone()));
                Err(problem)
            }
        }
    }
}

impl Exchanger {
    /// Asks for a token once. The request is judged, recorded and settled as one of the harness's.
    async fn ask(&self, shared: &Shared, entry: &Entry) -> Result<Token, Failed> {
        let credential = self.credential.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.now();
        let (at, headers, body) = credential.request(&self.exchange, now)?;
        let number = shared.books.clerk.next_request();
        let line = at.line();
        let asked =
            tokio::time::timeout(EXCHANGE_TIMEOUT, send(shared, entry.name(), number, line, headers, body)).await;
        let seconds = EXCHANGE_TIMEOUT.as_secs();
        let (head, answer) = asked.unwrap_or_else(|_| Err(format!("{} did not answer in {seconds} s", at.host)))?;
        let told = told_time(&head.headers);
        let read: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if !head.status.is_success() {
            let off = told.map(|told| told - now).filter(|off| off.abs() >= CLOCK_SECONDS_OFF);
            let ahead = off.map(|off| off.saturating_add(self.clock_ahead.load(Ordering::Relaxed)));
            let reason = format!("{} answered {}{}", at.host, head.status.as_u16(), words(&read));
            return Err(Failed { reason, clock_ahead: ahead });
        }
        let token = TOKENS.iter().find_map(|name| read.get(name)).and_then(Value::as_str);
        let token = token.filter(|token| !token.is_empty() && HeaderValue::from_str(token).is_ok());
        let token = token.ok_or_else(|| format!("there is no token in the answer of {}", at.host))?;
        let token = Zeroizing::new(token.to_owned());
        let lasts = lifetime(&read, told.unwrap_or(now));
        let renewed = Event::SecretRenewed { request: number, secret: entry.name(), problem: None };
        shared.books.clerk.record(renewed).await.map_err(|error| error.to_string())?;
        Ok((token, lasts))
    }
}

/// Sends the request and reads its answer.
async fn send(
    shared: &Shared,
    secret: String,
    number: RequestNumber,
    line: RequestLine,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
) -> Result<(response::Parts, Zeroizing<Vec<u8>>), String> {
    let grant = shared.policy.decide_exchange(line.clone(), &secret).map_err(|refusal| refusal.reason)?;
    let allowance = shared
        .policy
        .admit(&grant)
        .map_err(|TooMany { rule, .. }| format!("the rule `{rule}` lets no more requests through for now"))?;
    let allowed = Event::RequestAllowed {
        request: number,
        line: line.clone(),
        rule: grant.rule().to_owned(),
        rule_from: Some(grant.rule_from().to_owned()),
        act: None,
        secrets: vec![secret],
        also: Vec::new(),
    };
    shared.books.clerk.keep(&allowed).await.map_err(|error| error.to_string())?;
    let mut open = Open::new(shared.books.clone(), number, &line, allowance);
    let own = [(ACCEPT, "application/json"), (USER_AGENT, concat!("omni/", env!("CARGO_PKG_VERSION")))];
    let own = own.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let headers = HeaderMap::from_iter(own.into_iter().chain(headers));
    let body = RequestBody::new(Held::made_here(body), open.upload(), None, None);
    let sent = shared.upstream.send(grant, &line.path, headers, body, false, None).await;
    let (response, mut passage) = match sent {
        Ok(sent) => sent,
        Err(error) => {
            open.fail(error.reason.clone());
            return Err(error.reason);
        }
    };
    let (head, body) = response.into_parts();
    open.answered(&head);
    match whole(body, &head).await {
        Ok(read) => {
            passage.end();
            open.end(BodyEnd::Complete);
            Ok((head, read))
        }
        Err(reason) => {
            open.end(BodyEnd::UpstreamBroke);
            Err(reason.to_owned())
        }
    }
}

/// What a server says of a refusal (RFC 6749, section 5.2, and GitHub's `message`), made fit to be shown.
fn words(answer: &Value) -> String {
    let mut fields = ["error_description", "message", "error"].iter().filter_map(|name| answer.get(name)?.as_str());
    let Some(said) = fields.next() else { return String::new() };
    let said: String = said.chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect();
    format!(": {said}")
}

/// When an answer was made, by its server's clock (RFC 9110, section 6.6.1), in seconds since 1970.
fn told_time(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second())
}

/// For how long a token holds: so many seconds, or until a time of its server's clock.
fn lifetime(answer: &Value, now: i64) -> Duration {
    let until = || {
        let until: jiff::Timestamp = answer.get("expires_at")?.as_str()?.parse().ok()?;
        u64::try_from(until.as_second() - now).ok()
    };
    let seconds = answer.get("expires_in").and_then(Value::as_u64).or_else(until);
    // A server that says nothing is asked again for each request.
    Duration::from_secs(seconds.unwrap_or_default()).min(LIFETIME_MAX)
}

/// The type of a form.
pub(super) fn form() -> (HeaderName, HeaderValue) {
    (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_used_until_shortly_before_its_end_by_whichever_clock_is_ahead() {
        let got = (Instant::now(), SystemTime::now());
        let lease = Lease { got, lasts: Duration::from_secs(3600) };
        let after = |steady: u64, wall: i64| {
            let seconds = Duration::from_secs(wall.unsigned_abs());
            let wall = if wall < 0 { got.1 - seconds } else { got.1 + seconds };
            lease.holds((got.0 + Duration::from_secs(steady), wall))
        };
        assert!(after(0, 0) && after(3500, 3500) && !after(3545, 3545));
        // The machine slept; its clock was set back; its clock was set forth.
        assert!(!after(10, 4000) && after(10, -100_000) && !after(3545, -100_000) && !after(10, 100_000));
    }

    #[test]
    fn how_long_a_token_holds_is_told_by_the_servers_clock_alone() {
        let now = 1_795_000_000;
        let until = jiff::Timestamp::from_second(now + 600).map(|at| at.to_string()).unwrap_or_default();
        assert_eq!(lifetime(&json!({"expires_in": 90}), now), Duration::from_secs(90));
        assert_eq!(lifetime(&json!({"expires_at": until}), now), Duration::from_secs(600));
        assert_eq!(lifetime(&json!({"expires_in": u64::MAX}), now), LIFETIME_MAX);
        for nothing in [json!({}), json!({"expires_at": "soon"}), json!({"expires_at": "1999-01-01T00:00:00Z"})] {
            assert_eq!(lifetime(&nothing, now), Duration::ZERO);
        }
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static("Fri, 27 Nov 2026 07:00:00 GMT"))]);
        assert_eq!(told_time(&headers), Some(1_795_762_800));
    }

    #[test]
    fn of_a_refusal_what_its_server_says_is_repeated_in_bounds() {
        assert_eq!(words(&json!({"error": "invalid_grant", "error_description": "a\nb c d e f g"})), ": ab c d e f g");
        assert_eq!(words(&json!({"message": "x".repeat(1000)})).len(), WORDS_CHARS_MAX + 2);
        assert_eq!(words(&json!(["canary"])), "");
    }
}
