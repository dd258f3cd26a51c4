//! What was let through and goes on: connections that pass unread, WebSockets, and bodies on their way. It is judged again
//! whenever a rule is added, and before more of it leaves once a secret file was read, and cut where it would not be let
//! through any more.

use crate::model::{RequestLine, Scheme};
use crate::policy::{Act, Grant, History, Particulars, Policy, RefUpdate};
use http::{HeaderMap, HeaderValue};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// As of when something was judged.
pub(super) struct AsOf {
    /// How many secret files were known to have been read.
    pub reads: u64,
    /// How many times the policy had changed.
    pub changes: u64,
    /// What the session had done by then, but for the files, where those are watched.
    pub before: Option<History>,
}

/// What is known of what was let through, as it was judged.
pub(super) struct Standing {
    pub(super) line: RequestLine,
    query: Option<String>,
    headers: HeaderMap,
    act: Option<Act>,
    updates: Vec<RefUpdate>,
    length: Option<u64>,
    /// The rules that asked, where a person said yes.
    pub(super) asked_by: BTreeSet<String>,
    /// As of when it was judged first.
    pub(super) as_of: AsOf,
    /// How many secret files were known to have been read when it was judged last.
    reads: AtomicU64,
}

impl Standing {
    /// What was let through by this.
    pub(super) fn new(grant: &Grant, as_of: AsOf, by: &Particulars<'_>) -> Self {
        Self {
            line: grant.line().clone(),
            query: by.query.map(str::to_owned),
            headers: by.headers.map(copied).unwrap_or_default(),
            act: by.act,
            updates: by.updates.to_vec(),
            length: by.upload,
            asked_by: grant.asked_by().clone(),
            reads: AtomicU64::new(as_of.reads),
            as_of,
        }
    }

    /// What it was judged by beyond its line.
    pub(super) fn particulars(&self) -> Particulars<'_> {
        Particulars {
            query: self.query.as_deref(),
            headers: Some(&self.headers),
            act: self.act,
            updates: &self.updates,
            upload: self.length,
            ..Particulars::default()
        }
    }

    /// Whether a policy reads what this passes unread.
    pub(super) fn is_to_be_read(&self, policy: &Policy) -> bool {
        self.line.scheme == Scheme::Tls && !policy.passes_tls(&self.line.host, self.line.port)
    }

    /// Whether it was judged when so many secret files were known to have been read.
    pub(super) fn knew_of(&self, reads: u64) -> bool {
        self.reads.load(Ordering::Relaxed) == reads
    }

    /// It was judged again.
    pub(super) fn judged(&self, reads: u64) {
        self.reads.store(reads, Ordering::Relaxed);
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
