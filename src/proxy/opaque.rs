//! Connections that are not read: judged by where they go, then bytes both ways, counted.
//!
//! One is a request of the method CONNECT to a host and port, granted, recorded and settled like any other. No secret is
//! ever put into it.

use super::Shared;
use super::consent::{self, Subject, Yes};
use super::detect::Rewound;
use super::secret_reads;
use super::serve::Place;
use super::settle::Open;
use super::ssh::KeyCheck;
use super::standing::Standing;
use super::upstream::SendError;
use crate::model::{BodyEnd, Event, RefusalKind, RequestLine, RequestNumber, Scheme};
use crate::policy::{Allowance, Grant, NamedRule, Particulars, Question, Refusal, RequestFacts, TooMany, Verdict};
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;

/// Bytes of each way that may wait here.
const BUFFER_BYTES: usize = 16 * 1024;
/// Most that is read of what a client says while a person decides.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// What goes between the two sides, and which of them gave up.
pub(super) enum Broken {
    Client,
    Upstream,
    /// More than a rule lets through.
    Quota,
    /// A rule that came since would not let it through.
    Rule,
    /// What must not pass, and why.
    Refused(&'static str),
}

/// Carries a connection, if a rule lets it, or a person. `looked` says whether its first bytes were looked at.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, place: Place, scheme: Scheme, looked: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let judged = judge(&shared, line(&place, scheme), looked);
    match while_there(stream, shared.unless_drained(judged)).await {
        Some((Some(Ok(judged)), stream)) => {
            // What failed is recorded.
            if let Some(Ok(reached)) = reach(&shared, judged).await {
                reached.carry(stream).await;
            }
        }
        Some((Some(Err(refused)), _)) => refuse(&shared, place.to_string(), *refused).await,
        // The session ended, or the client left.
        Some((None, _)) | None => {}
    }
}

/// Does something for a client as long as it is there. What it says meanwhile is given out again; none where it left.
pub(super) async fn while_there<S, T>(mut stream: S, work: impl Future<Output = T>) -> Option<(T, Rewound<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut said = Vec::new();
    let done = {
        let left = async {
            while said.len() < SAID_BYTES_MAX {
                let room = (SAID_BYTES_MAX - said.len()) as u64;
                if !matches!((&mut stream).take(room).read_buf(&mut said).await, Ok(1..)) {
                    return;
                }
            }
            // There is no room to hear of it.
            std::future::pending().await
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = left => None,
        }
    };
    done.map(|done| (done, Rewound::new(said, stream)))
}

/// What the host and port of a connection alone say of it.
pub(super) enum Foreseen {
    /// What comes through it decides.
    Nothing,
    /// It goes nowhere, and that is recorded; why, for a person.
    Refused(String),
    /// It may go, and there is nobody.
    Failed(SendError),
    /// It is open.
    Reached(Box<Reached>),
    /// The session ended, or nothing can be recorded any more.
    Ended,
}

/// Looks ahead for a client that is told whether it may speak. Where that is known it is told so, and otherwise nothing
/// happens yet.
pub(super) async fn foresee(shared: &Arc<Shared>, place: &Place) -> Foreseen {
    let Place { host, port, .. } = place;
    if !shared.policy.carries_unread(host, *port) && !shared.policy.refuses_place(host, *port) {
        return Foreseen::Nothing;
    }
    match shared.unless_drained(judge(shared, line(place, Scheme::Tcp), false)).await {
        None => Foreseen::Ended,
        Some(Ok(judged)) => match reach(shared, judged).await {
            None => Foreseen::Ended,
            Some(Err(error)) => Foreseen::Failed(error),
            Some(Ok(reached)) => Foreseen::Reached(Box::new(reached)),
        },
        Some(Err(refused)) => {
            let why = refused.to_string();
            refuse(shared, place.to_string(), *refused).await;
            Foreseen::Refused(why)
        }
    }
}

fn line(place: &Place, scheme: Scheme) -> RequestLine {
    let Place { host, port, .. } = place.clone();
    RequestLine { method: "CONNECT".to_owned(), scheme, host, port, path: "/".to_owned() }
}

/// Records a refusal. What is refused stays refused, recorded or not.
async fn refuse(shared: &Shared, target: String, refused: Refused) {
    match refused {
        Refused::ByNone { .. } => shared.refuse(RefusalKind::Protocol, target, refused.to_string()).await,
        Refused::ByRule { request, line, rule, reason, also } => {
            secret_reads::tell(shared).await;
            let NamedRule { text, from } = rule;
            let (rule, rule_from) = (Some(text), Some(from));
            let denied = Event::RequestDenied { request, line, rule, rule_from, act: None, reason, also };
            let _ = shared.books.clerk.record(denied).await;
        }
    }
}

/// Why a connection may not be.
enum Refused {
    ByNone { reason: String, rule_to_add: Option<String> },
    ByRule { request: RequestNumber, line: RequestLine, rule: NamedRule, reason: String, also: Vec<String> },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByNone { reason, rule_to_add: Some(rule) } => write!(f, "{reason}; to allow it: --allow '{rule}'"),
            Self::ByNone { reason, .. } | Self::ByRule { reason, .. } => f.write_str(reason),
        }
    }
}

/// What may be opened.
struct Judged {
    request: RequestNumber,
    grant: Grant,
    allowance: Allowance,
    /// What is judged again while it is open.
    standing: Standing,
}

/// Decides, and has a person decide where a rule wants that. What they said yes to is judged again, by the policy as it is
/// then.
async fn judge(shared: &Shared, line: RequestLine, looked: bool) -> Result<Judged, Box<Refused>> {
    let request = shared.books.clerk.next_request();
    let mut yes = None;
    let (grant, as_of) = loop {
        let by = Particulars::default();
        let (verdict, as_of) = shared.policy.decide(RequestFacts { line: line.clone(), disagreement: None }, &by);
        let question = match verdict {
            Verdict::Allow(grant) => break (grant, as_of),
            Verdict::Ask(question) => match shared.policy.permit(Box::new(question), yes.as_ref(), &by) {
                Ok(grant) => break (grant, as_of),
                Err(question) => question,
            },
            Verdict::Deny(Refusal { line, rule: Some(rule), reason, also, .. }) => {
                return Err(Box::new(Refused::ByRule { request, line, rule, reason, also }));
            }
            Verdict::Deny(Refusal { rule: None, reason, rule_to_add, .. }) => {
                let reason =
                    if looked { format!("its first bytes are neither TLS nor HTTP, and {reason}") } else { reason };
                return Err(Box::new(Refused::ByNone { reason, rule_to_add }));
            }
        };
        // Nothing is known of it but where it goes: all to one place are alike.
        let subject = Subject { line: &question.line, query: None, body: Some(&[]), push: None };
        match consent::ask(shared, consent::of_rule(request, &question, None, subject)).await {
            Ok(said) => yes = Some(Yes::to(*question, said, shared)),
            Err(reason) => {
                let Question { line, rule, also, .. } = *question;
                return Err(Box::new(Refused::ByRule { request, line, rule, reason, also }));
            }
        }
    };
    match shared.policy.admit(&grant) {
        Ok(allowance) => {
            let standing = Standing::new(&grant, as_of, &Particulars::default());
            Ok(Judged { request, grant, allowance, standing })
        }
        Err(TooMany { rule, .. }) => {
            let reason = format!("the rule `{rule}` lets no more connections through for now");
            let rule = NamedRule { text: rule.to_string(), from: grant.rule_from().to_owned() };
            Err(Box::new(Refused::ByRule { request, line: grant.line().clone(), rule, reason, also: Vec::new() }))
        }
    }
}

/// Records the permission, then uses it. None where the session ends, or where nothing can be recorded.
async fn reach(shared: &Arc<Shared>, judged: Judged) -> Option<Result<Reached, SendError>> {
    let Judged { request, grant, allowance, standing } = judged;
    let line = grant.line().clone();
    secret_reads::tell(shared).await;
    shared.policy.remember(None, &line, None, &[]);
    let allowed = Event::RequestAllowed {
        request,
        line: line.clone(),
        rule: grant.rule().to_owned(),
        rule_from: Some(grant.rule_from().to_owned()),
        act: None,
        secrets: Vec::new(),
        also: grant.also().to_vec(),
    };
    shared.books.clerk.record(allowed).await.ok()?;
    let open = Open::new(shared.books.clone(), request, &line, allowance);
    // Dropping what is open says that the session ended.
    match shared.unless_drained(shared.upstream.open(grant)).await? {
        Ok(upstream) => {
            let pinned = shared.host_keys.of(&line.host, line.port);
            let pinned: Vec<_> = pinned.into_iter().map(<[u8]>::to_vec).collect();
            let check = (!pinned.is_empty()).then(|| KeyCheck::new(pinned));
            Some(Ok(Reached { shared: shared.clone(), open, upstream, check, standing }))
        }
        Err(error) => {
            open.fail(error.reason.clone());
            Some(Err(error))
        }
    }
}

/// An upstream that was reached, for bytes that are not read.
pub(super) struct Reached {
    shared: Arc<Shared>,
    open: Open,
    upstream: TcpStream,
    /// What makes sure of an SSH server's key, where one is pinned.
    check: Option<KeyCheck>,
    standing: Standing,
}

impl Reached {
    /// Carries both ways to the end.
    pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let Self { shared, mut open, upstream, mut check, standing } = self;
        open.answered(&http::Response::new(()).into_parts().0);
        let upload = open.upload();
        let up = |bytes: &[u8]| {
            shared.policy.goes_on(&standing).map_err(Broken::Refused)?;
            upload.chunk(bytes).map_err(|_| Broken::Quota)
        };
        let down = |bytes: &[u8]| {
            check.as_mut().map_or(Ok(()), |check| check.next(bytes)).map_err(Broken::Refused)?;
            open.chunk(bytes).map_err(|_| Broken::Quota)
        };
        let carried = async {
            tokio::select! {
                carried = both_ways(stream, upstream, up, down) => carried,
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
            Some(Err(Broken::Refused(why))) => return open.fail(why.to_owned()),
        };
        open.end(end);
    }
}

/// Carries until both sides have said their last, or either breaks. A side that has ended can still be told things.
pub(super) async fn both_ways<S>(
    stream: S,
    upstream: TcpStream,
    count_up: impl FnMut(&[u8]) -> Result<(), Broken>,
    count_down: impl FnMut(&[u8]) -> Result<(), Broken>,
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
    Stopped(Broken),
}

impl Halted {
    fn with(self, reader: Broken, writer: Broken) -> Broken {
        match self {
            Self::Reading => reader,
            Self::Writing => writer,
            Self::Stopped(broken) => broken,
        }
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut count: impl FnMut(&[u8]) -> Result<(), Broken>,
) -> Result<(), Halted> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(_) => return Err(Halted::Reading),
        };
        count(bytes).map_err(Halted::Stopped)?;
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
