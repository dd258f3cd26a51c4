//! Asking a person: the request waits, and goes on or not as they say.

use super::body::Held;
use super::hold::{Broken, whole};
use super::line::{Answer, Ask, Cut, Doubt, Inquiry};
use super::{Shared, refusal};
use crate::model::{RequestLine, RequestNumber};
use crate::policy::{Approval, Push, Question};
use bytes::Bytes;
use hyper::body::Body;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;

/// How much of a body a person is shown, in bytes.
const PREVIEW_BYTES_MAX: usize = 2_000;

/// Largest body that is read before a person is asked. What is longer is asked about by its line alone.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long it may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Most rules that ask about one request and can be said yes to as a whole.
const ASKED_BY_MAX: usize = 32;
/// Most references of a push that a person is shown.
const UPDATES_SHOWN_MAX: usize = 20;

/// Reads a body that a person is to be asked about; one that is long, or does not come, is left as it is.
pub(super) async fn read_body(mut held: Held) -> (Option<Bytes>, Held) {
    if held.size_hint().upper().is_none_or(|length| length > BODY_BYTES_MAX as u64) {
        return (None, held);
    }
    match tokio::time::timeout(BODY_TIMEOUT, whole(&mut held, BODY_BYTES_MAX)).await {
        Ok(Ok((body, trailers))) => (Some(body.clone()), held.with(body, trailers)),
        // What is broken shows when it is sent.
        Ok(Err(Broken::Long | Broken::Off)) | Err(_) => (None, held),
    }
}

/// What of a request a person is asked about.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// Its line.
    pub line: &'a RequestLine,
    /// Its query.
    pub query: Option<&'a str>,
    /// Its body; none where it was not read whole.
    pub body: Option<&'a [u8]>,
    /// What it changes, where it is a push.
    pub push: Option<&'a Push>,
}

/// A person's yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Consent {
    /// Whether it holds for the rest of the session.
    pub lasting: bool,
}

/// What a person said yes to: what these rules of this policy ask of a request.
pub(super) struct Yes {
    pub policy: String,
    pub asked_by: BTreeSet<String>,
}

impl Yes {
    /// Takes a person's yes to a question, which stands for the rest of the session where they say so.
    pub(super) fn to(question: Question, Consent { lasting }: Consent, shared: &Shared) -> Self {
        if lasting {
            shared.policy.consent(&question);
        }
        let Question { policy, asked_by, .. } = question;
        Self { policy, asked_by }
    }
}

/// What a person is asked since a policy on money says so.
pub(super) fn of_budget(
    shared: &Shared,
    request: RequestNumber,
    subject: Subject<'_>,
    doubt: Doubt,
    why: String,
) -> Inquiry {
    Inquiry { why, doubt: Some(doubt), ..inquiry(request, &shared.policy.hash(), subject) }
}

/// What a person is asked since a rule says so.
pub(super) fn of_rule(
    request: RequestNumber,
    question: &Question,
    act: Option<String>,
    subject: Subject<'_>,
) -> Inquiry {
    let what = act.map_or_else(String::new, |act| format!(" ({act})"));
    let why =
        format!("the rule `ask {}` of the {} wants a person's answer{what}", question.rule.text, question.rule.from);
    let rule = Some(question.rule.text.clone());
    let (asked_by, covers) = match question.asked_by.len() <= ASKED_BY_MAX {
        true => (question.asked_by.iter().cloned().collect(), question.covers.clone()),
        false => (Vec::new(), Vec::new()),
    };
    Inquiry { why, rule, asked_by, covers, ..inquiry(request, &question.policy, subject) }
}

/// What a person is asked since a secret wants that.
pub(super) fn of_secret(
    shared: &Shared,
    request: RequestNumber,
    line: &RequestLine,
    secret: &str,
    approval: Approval,
) -> Inquiry {
    let why = format!("the secret `{secret}` would be used, which wants a person's answer");
    let subject = Subject { line, query: None, body: None, push: None };
    let to = if approval == Approval::Host { format!(" to {}", line.host) } else { String::new() };
    let (asked_by, covers) =
        (asks(&format!("the secret {secret}"), approval), vec![format!("the secret {secret}{to}")]);
    Inquiry { why, asked_by, covers, ..inquiry(request, &shared.policy.hash(), subject) }
}

/// What asks before something is used, as consents name it. Whoever wants to be asked at each use takes none for later.
fn asks(what: &str, approval: Approval) -> Vec<String> {
    match approval {
        Approval::Never | Approval::Use => Vec::new(),
        Approval::Session => vec![format!("{what} asks in each session")],
        Approval::Host => vec![format!("{what} asks for each host")],
    }
}

/// What a person is asked before a login with SSH is signed. `what` says which.
pub(super) fn of_login(shared: &Shared, what: String, approval: Approval) -> Inquiry {
    let (asked_by, covers) = (asks("ssh", approval), vec![what.clone()]);
    let digest = Sha256::new_with_prefix(format!("omni login 1\n{}\n{what}\n", shared.policy.hash())).finalize();
    Inquiry {
        request: shared.books.clerk.next_request(),
        what,
        why: "the profile wants a person's answer before a key of yours is used".to_owned(),
        rule: None,
        asked_by,
        covers,
        preview: String::new(),
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        doubt: None,
    }
}

/// What every question says. Its digest is over the policy, the line with its query, and the body: requests of the same digest
/// are the same. One whose body was not read is like no other.
fn inquiry(request: RequestNumber, policy: &str, subject: Subject<'_>) -> Inquiry {
    let Subject { line, query, body, push } = subject;
    let what = refusal::url(line);
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let unread = if body.is_none() { format!("unread {}", request.0) } else { String::new() };
    let digest = Sha256::new_with_prefix(format!("omni request 2\n{policy}\n{what}{query}\n{unread}\n"));
    let digest = digest.chain_update(body.unwrap_or_default()).finalize();
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let (rule, asked_by, covers, doubt) = (None, Vec::new(), Vec::new(), None);
    let preview = preview(&query, body, push);
    Inquiry { request, what, why: String::new(), rule, asked_by, covers, preview, digest, doubt }
}

/// What a person is shown of what is sent: the query, and what a push changes or how a body begins.
fn preview(query: &str, body: Option<&[u8]>, push: Option<&Push>) -> String {
    let mut shown: String = query.chars().take(PREVIEW_BYTES_MAX / 4).collect();
    if !shown.is_empty() {
        shown.push('\n');
    }
    match (push, body) {
        (Some(push), _) => {
            let short = |id: &str| id.chars().take(12).collect::<String>();
            for update in push.updates.iter().take(UPDATES_SHOWN_MAX) {
                shown.push_str(&format!("{update} {}..{}\n", short(&update.old), short(&update.new)));
            }
            let more = push.updates.len().saturating_sub(UPDATES_SHOWN_MAX);
            if more > 0 {
                shown.push_str(&format!("and {more} more references\n"));
            }
        }
        (None, Some(body)) => {
            shown.push_str(&String::from_utf8_lossy(&body[..body.len().min(PREVIEW_BYTES_MAX)]));
        }
        (None, None) => {}
    }
    shown
}

/// Asks; why not, where the answer is no.
pub(super) async fn ask(shared: &Shared, inquiry: Inquiry) -> Result<Consent, String> {
    match shared.books.line.ask(Ask::Person(Box::new(inquiry))).await {
        Ok(Answer::Consented { lasting, .. }) => Ok(Consent { lasting }),
        Ok(Answer::Denied(why)) => Err(why),
        Ok(_) | Err(Cut) => Err("a person must say, and the session that could ask one is gone".to_owned()),
    }
}
