//! Asking a person: the request waits, and goes on or not as they say.

use super::body::Held;
use super::hold::{Broken, whole};
use super::line::{Answer, Ask, Cut, Doubt, Inquiry};
use super::{Shared, refusal};
use crate::model::{RequestLine, RequestNumber};
use crate::policy::Question;
use bytes::Bytes;
use hyper::body::Body;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How much of a body a person is shown, in bytes.
const PREVIEW_BYTES_MAX: usize = 2_000;

/// Largest body that is read before a person is asked. What is longer is asked about by its line alone.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long it may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a body that a person is to be asked about; one that is long, or does not come, is left as it is.
pub(super) async fn read_body(mut held: Held) -> (Bytes, Held) {
    if held.size_hint().upper().is_none_or(|length| length > BODY_BYTES_MAX as u64) {
        return (Bytes::new(), held);
    }
    match tokio::time::timeout(BODY_TIMEOUT, whole(&mut held, BODY_BYTES_MAX)).await {
        Ok(Ok((body, trailers))) => (body.clone(), held.with(body, trailers)),
        // What is broken shows when it is sent.
        Ok(Err(Broken::Long | Broken::Off)) | Err(_) => (Bytes::new(), held),
    }
}

/// A person's yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Consent {
    /// Whether it holds for the rest of the session.
    pub lasting: bool,
}

/// What a person is asked since a policy on money says so.
pub(super) fn of_budget(
    shared: &Shared,
    request: RequestNumber,
    line: &RequestLine,
    body: &[u8],
    doubt: Doubt,
    why: String,
) -> Inquiry {
    Inquiry { why, doubt: Some(doubt), rule: None, rule_to_add: None, ..inquiry(shared, request, line, body) }
}

/// What a person is asked since a rule says so.
pub(super) fn of_rule(
    shared: &Shared,
    request: RequestNumber,
    question: &Question,
    act: Option<String>,
    body: &[u8],
) -> Inquiry {
    let what = act.map_or_else(String::new, |act| format!(" ({act})"));
    let why =
        format!("the rule `ask {}` of the {} wants a person's answer{what}", question.rule.text, question.rule.from);
    let rule = Some(question.rule.text.clone());
    Inquiry { why, rule, rule_to_add: question.rule_to_add(), ..inquiry(shared, request, &question.line, body) }
}

/// What a person is asked since a secret wants that.
pub(super) fn of_secret(shared: &Shared, request: RequestNumber, line: &RequestLine, secret: &str) -> Inquiry {
    let why = format!("the secret `{secret}` would be used, which wants a person's answer");
    Inquiry { why, ..inquiry(shared, request, line, b"") }
}

/// What a person is asked before a login with SSH is signed. `what` says which.
pub(super) fn of_login(shared: &Shared, what: String) -> Inquiry {
    let digest = Sha256::new_with_prefix(format!("omni login 1\n{}\n{what}\n", shared.policy.hash())).finalize();
    Inquiry {
        request: shared.books.clerk.next_request(),
        what,
        why: "the profile wants a person's answer before a key of yours is used".to_owned(),
        rule: None,
        rule_to_add: None,
        preview: String::new(),
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        doubt: None,
    }
}

fn inquiry(shared: &Shared, request: RequestNumber, line: &RequestLine, body: &[u8]) -> Inquiry {
    let what = refusal::url(line);
    let digest =
        Sha256::new_with_prefix(format!("omni request 1\n{}\n{what}\n", shared.policy.hash())).chain_update(body);
    let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = &body[..body.len().min(PREVIEW_BYTES_MAX)];
    let preview = String::from_utf8_lossy(shown).into_owned();
    Inquiry { request, what, why: String::new(), rule: None, rule_to_add: None, preview, digest, doubt: None }
}

/// Asks; why not, where the answer is no.
pub(super) async fn ask(shared: &Shared, inquiry: Inquiry) -> Result<Consent, String> {
    match shared.books.line.ask(Ask::Person(Box::new(inquiry))).await {
        Ok(Answer::Consented { lasting, .. }) => Ok(Consent { lasting }),
        Ok(Answer::Denied(why)) => Err(why),
        Ok(_) | Err(Cut) => Err("a person must say, and the session that could ask one is gone".to_owned()),
    }
}
