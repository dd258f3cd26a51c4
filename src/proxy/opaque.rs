//! Connections that are not read: judged by where they go, then bytes both ways, counted.
//!
//! One is a request of the method CONNECT to a host and port, granted, recorded and settled like any other. No secret is
//! ever put into it.

use super::Shared;
use super::serve::Place;
use super::settle::Open;
use super::standing::Standing;
use crate::model::{BodyEnd, Event, RefusalKind, RequestLine, Scheme};
use crate::policy::{
    Allowance, Grant, NamedRule, Particulars, Question, Refusal, RequestFacts, TooMany, TooMuch, Verdict,
};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;

/// Bytes of each way that may wait here.
const BUFFER_BYTES: usize = 16 * 1024;

/// What goes between the two sides, and which of them gave up.
pub(super) enum Broken {
    Client,
    Upstream,
    Quota,
    Rule,
}

/// Carries a connection, if a rule lets it.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, place: Place, scheme: Scheme)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let target = place.to_string();
    let Place { host, port, .. } = place;
    let line = RequestLine { method: "CONNECT".to_owned(), scheme, host, port, path: "/".to_owned() };
    match judge(&shared, line) {
        Ok((grant, allowance)) => carry(&shared, stream, grant, allowance).await,
        Err(refused) => refuse(&shared, target, *refused).await,
    }
}

/// Records a refusal. What is refused stays refused, recorded or not.
async fn refuse(shared: &Shared, target: String, refused: Refused) {
    match refused {
        Refused::ByNone { reason, rule_to_add } => {
            let hint = rule_to_add.map_or_else(String::new, |rule| format!("; to allow it: --allow '{rule}'"));
            shared.refuse(RefusalKind::Protocol, target, format!("{reason}{hint}")).await;
        }
        Refused::ByRule { line, rule, reason } => {
            let request = shared.books.clerk.next_request();
            let NamedRule { text, from } = rule;
            let (rule, rule_from) = (Some(text), Some(from));
            let denied = Event::RequestDenied { request, line, rule, rule_from, act: None, reason };
            let _ = shared.books.clerk.record(denied).await;
        }
    }
}

/// Why a connection may not be.
enum Refused {
    ByNone { reason: String, rule_to_add: Option<String> },
    ByRule { line: RequestLine, rule: NamedRule, reason: String },
}

fn judge(shared: &Shared, line: RequestLine) -> Result<(Grant, Allowance), Box<Refused>> {
    let grant = match shared.policy.decide_with(RequestFacts { line, disagreement: None }, &Particulars::default()) {
        Verdict::Allow(grant) => grant,
        Verdict::Ask(Question { line, rule, .. }) => {
            let text = &rule.text;
            let reason = format!("the rule `ask {text}` wants a person's answer, and this version cannot ask for one");
            return Err(Box::new(Refused::ByRule { line, rule, reason }));
        }
        Verdict::Deny(Refusal { line, rule: Some(rule), reason, .. }) => {
            return Err(Box::new(Refused::ByRule { line, rule, reason }));
        }
        Verdict::Deny(Refusal { rule: None, reason, rule_to_add, .. }) => {
            let reason = format!("its first bytes are neither TLS nor HTTP, and {reason}");
            return Err(Box::new(Refused::ByNone { reason, rule_to_add }));
        }
    };
    match shared.policy.admit(&grant) {
        Ok(allowance) => Ok((grant, allowance)),
        Err(TooMany { rule, .. }) => {
            let reason = format!("the rule `{rule}` lets no more connections through for now");
            let rule = NamedRule { text: rule.to_string(), from: grant.rule_from().to_owned() };
            Err(Box::new(Refused::ByRule { line: grant.line().clone(), rule, reason }))
        }
    }
}

/// Records the permission, then uses it.
async fn carry<S>(shared: &Arc<Shared>, stream: S, grant: Grant, allowance: Allowance)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = shared.books.clerk.next_request();
    let (line, standing) = (grant.line().clone(), Standing::of_connection(&grant));
    let allowed = Event::RequestAllowed {
        request,
        line: line.clone(),
        rule: grant.rule().to_owned(),
        rule_from: Some(grant.rule_from().to_owned()),
        act: None,
        secrets: Vec::new(),
    };
    if shared.books.clerk.record(allowed).await.is_err() {
        return;
    }
    let mut open = Open::new(shared.books.clone(), request, &line, allowance);
    let upstream = match shared.unless_drained(shared.upstream.open(grant)).await {
        Some(Ok(upstream)) => upstream,
        Some(Err(error)) => return open.fail(error.reason),
        // Dropping it says that the session ended.
        None => return,
    };
    open.answered(&http::Response::new(()).into_parts().0);
    let upload = open.upload();
    let carried = async {
        tokio::select! {
            carried = both_ways(stream, upstream, |bytes| upload.chunk(bytes), |bytes| open.chunk(bytes)) => carried,
            () = shared.policy.until_refused(&standing) => Err(Broken::Rule),
        }
    };
    let end = match shared.unless_drained(carried).await {
        None => BodyEnd::SessionEnded,
        Some(Ok(())) => BodyEnd::Complete,
        Some(Err(Broken::Client)) => BodyEnd::ClientGone,
        Some(Err(Broken::Upstream)) => BodyEnd::UpstreamBroke,
        Some(Err(Broken::Quota)) => BodyEnd::QuotaReached,
        Some(Err(Broken::Rule)) => BodyEnd::RuleAdded,
    };
    open.end(end);
}

/// Carries until both sides have said their last, or either breaks. A side that has ended can still be told things.
pub(super) async fn both_ways<S>(
    stream: S,
    upstream: TcpStream,
    count_up: impl FnMut(&[u8]) -> Result<(), TooMuch>,
    count_down: impl FnMut(&[u8]) -> Result<(), TooMuch>,
) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = split(stream);
    let (from_upstream, to_upstream) = upstream.into_split();
    let up = async {
        let sent = one_way(from_client, to_upstream, count_up).await;
        sent.map_err(|halted| halted.with(Broken::Client, Broken::Upstream))
    };
    let down = async {
        let sent = one_way(from_upstream, to_client, count_down).await;
        sent.map_err(|halted| halted.with(Broken::Upstream, Broken::Client))
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// Why one way came to no good end.
enum Halted {
    Reading,
    Writing,
    TooMuch,
}

impl Halted {
    fn with(self, reader: Broken, writer: Broken) -> Broken {
        match self {
            Self::Reading => reader,
            Self::Writing => writer,
            Self::TooMuch => Broken::Quota,
        }
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut count: impl FnMut(&[u8]) -> Result<(), TooMuch>,
) -> Result<(), Halted> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(_) => return Err(Halted::Reading),
        };
        count(bytes).map_err(|_| Halted::TooMuch)?;
        let written: io::Result<()> = async {
            to.write_all(bytes).await?;
            to.flush().await
        }
        .await;
        written.map_err(|_| Halted::Writing)?;
    }
    // The other side may have closed already, and then knows.
    let _ = to.shutdown().await;
    Ok(())
}
