//! What was let through and stays open without being read as requests: connections that pass unread, and WebSockets. It is
//! judged again whenever a rule is added, and cut where it would not be let through any more.

use crate::model::{RequestLine, Scheme};
use crate::policy::{Act, Grant, History, Particulars, Policy, RequestFacts, SessionFacts, Verdict};
use http::{HeaderMap, HeaderValue};

/// What is known of what was let through, as it was judged.
pub(super) struct Standing {
    line: RequestLine,
    query: Option<String>,
    headers: HeaderMap,
    act: Option<Act>,
    done: Vec<Act>,
    /// The rule that let it through; where that asks, a person said yes.
    rule: String,
}

impl Standing {
    /// A connection that is not read.
    pub(super) fn of_connection(grant: &Grant) -> Self {
        let (line, rule) = (grant.line().clone(), grant.rule().to_owned());
        Self { line, query: None, headers: HeaderMap::new(), act: None, done: Vec::new(), rule }
    }

    /// What follows a request with this target and these headers.
    pub(super) fn of_request(
        grant: &Grant,
        target: &str,
        headers: &HeaderMap,
        act: Option<Act>,
        done: Vec<Act>,
    ) -> Self {
        let query = target.split_once('?').map(|(_, query)| query.to_owned());
        Self { query, headers: copied(headers), act, done, ..Self::of_connection(grant) }
    }

    /// Whether it would be let through now.
    pub(super) fn passes(&self, policy: &Policy, session: &SessionFacts, history: Option<&History>) -> bool {
        let Self { line, query, headers, act, done, rule } = self;
        if line.scheme == Scheme::Tls && !policy.passes_tls(&line.host, line.port) {
            return false;
        }
        let by = Particulars {
            query: query.as_deref(),
            headers: Some(headers),
            act: *act,
            done,
            session: Some(session),
            history,
            ..Particulars::default()
        };
        match policy.decide_with(RequestFacts { line: line.clone(), disagreement: None }, &by) {
            Verdict::Allow(_) => true,
            Verdict::Ask(question) => question.rule.text == *rule,
            Verdict::Deny(_) => false,
        }
    }
}

/// The same headers by themselves: as it was read, a value is a part of the whole buffer that it came in, and holds on to that.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut own = headers.clone();
    for value in own.values_mut() {
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    own
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_is_kept_of_headers_holds_on_to_no_buffer() {
        let buffer = Bytes::from(vec![b'a'; 8192]);
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-one", value(0..3));
        headers.append("x-one", value(4..8));
        headers.append("authorization", value(8..9));
        headers.get_mut("authorization").unwrap().set_sensitive(true);
        let own = copied(&headers);
        assert_eq!(own, headers);
        assert!(own["authorization"].is_sensitive() && !own["x-one"].is_sensitive());
        drop(headers);
        assert!(buffer.is_unique());
    }
}
