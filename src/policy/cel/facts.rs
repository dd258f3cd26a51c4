//! What a condition can ask about, by name.

use super::super::act::Act;
use super::super::condition::Particulars;
use super::eval::Value;
use super::parse::Type;
use crate::model::{NanoUsd, RequestLine};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Nanodollars in a dollar.
const NANO_PER_USD: f64 = 1e9;

/// What of a session does not change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// On whose behalf it runs.
    pub user: String,
    /// Its profile.
    pub profile: String,
    /// What its user calls it.
    pub name: String,
    /// The team whose budgets it counts in.
    pub team: String,
    /// The project whose budgets it counts in.
    pub project: String,
    /// The directory it works in.
    pub workspace: String,
}

/// What a session did by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What requests did that were let through.
    pub acts: BTreeSet<Act>,
    /// The hosts that they went to; shared, since there may be many, with whoever keeps what was before.
    pub hosts: Arc<BTreeSet<String>>,
    /// The secrets that went with them.
    pub secrets: BTreeSet<String>,
    /// The files that look like secrets, are shown, and were read; shared as the hosts are.
    pub secret_files: Arc<BTreeSet<String>>,
    /// How many were let through.
    pub requests: u64,
    /// Bytes of their bodies, as far as they said how long these are.
    pub uploaded: u64,
    /// What model calls cost.
    pub spent: NanoUsd,
    /// How many model calls there were.
    pub calls: u64,
    /// Seconds since it began.
    pub seconds: u64,
}

/// Something that can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Method,
    Scheme,
    Host,
    Port,
    Path,
    Query,
    Headers,
    Act,
    Push,
    Upload,
    User,
    Profile,
    Name,
    Team,
    Project,
    Workspace,
    Seconds,
    Spent,
    Calls,
    Acts,
    Hosts,
    Secrets,
    SecretFiles,
    Requests,
    Uploaded,
}

/// Every fact: of what, by which name, of which type.
pub(super) const FACTS: [(&str, &str, Type, Fact); 25] = [
    ("request", "method", Type::Text, Fact::Method),
    ("request", "scheme", Type::Text, Fact::Scheme),
    ("request", "host", Type::Text, Fact::Host),
    ("request", "port", Type::Int, Fact::Port),
    ("request", "path", Type::Text, Fact::Path),
    ("request", "query", Type::Text, Fact::Query),
    ("request", "headers", Type::Map, Fact::Headers),
    ("request", "act", Type::Text, Fact::Act),
    ("request", "push", Type::Texts, Fact::Push),
    ("request", "upload", Type::Int, Fact::Upload),
    ("session", "user", Type::Text, Fact::User),
    ("session", "profile", Type::Text, Fact::Profile),
    ("session", "name", Type::Text, Fact::Name),
    ("session", "team", Type::Text, Fact::Team),
    ("session", "project", Type::Text, Fact::Project),
    ("session", "workspace", Type::Text, Fact::Workspace),
    ("session", "seconds", Type::Int, Fact::Seconds),
    ("spend", "session", Type::Double, Fact::Spent),
    ("spend", "calls", Type::Int, Fact::Calls),
    ("history", "acts", Type::Texts, Fact::Acts),
    ("history", "hosts", Type::Texts, Fact::Hosts),
    ("history", "secrets", Type::Texts, Fact::Secrets),
    ("history", "secret_files", Type::Texts, Fact::SecretFiles),
    ("history", "requests", Type::Int, Fact::Requests),
    ("history", "uploaded", Type::Int, Fact::Uploaded),
];

/// All that is known when a request is judged.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Facts<'a> {
    pub line: &'a RequestLine,
    pub by: &'a Particulars<'a>,
}

impl Facts<'_> {
    /// The value of a fact. What is not known is nothing: an empty text or list, or zero; a body that does not say how long it
    /// is has the length -1.
    pub(super) fn value(&self, fact: Fact) -> Value {
        let (none, began) = (SessionFacts::default(), History::default());
        let session = self.by.session.unwrap_or(&none);
        let history = self.by.history.unwrap_or(&began);
        match fact {
            Fact::Method => text(&self.line.method),
            Fact::Scheme => text(&self.line.scheme.to_string()),
            Fact::Host => text(&self.line.host.to_string()),
            Fact::Port => Value::Int(self.line.port.0.into()),
            Fact::Path => text(&self.line.path),
            Fact::Query => text(self.by.query.unwrap_or_default()),
            Fact::Headers => Value::Map(self.headers()),
            Fact::Act => text(self.by.act.map_or("", Act::as_str)),
            Fact::Push => Value::List(self.by.updates.iter().map(|update| text(&update.name)).collect()),
            Fact::Upload => Value::Int(self.by.upload.map_or(-1, whole)),
            Fact::User => text(&session.user),
            Fact::Profile => text(&session.profile),
            Fact::Name => text(&session.name),
            Fact::Team => text(&session.team),
            Fact::Project => text(&session.project),
            Fact::Workspace => text(&session.workspace),
            Fact::Seconds => Value::Int(whole(history.seconds)),
            #[allow(clippy::cast_precision_loss, reason = "a condition on dollars needs no more than 53 bits of them")]
            Fact::Spent => Value::Double(history.spent.0 as f64 / NANO_PER_USD),
            Fact::Calls => Value::Int(whole(history.calls)),
            Fact::Acts => Value::List(history.acts.iter().map(|act| text(act.as_str())).collect()),
            Fact::Hosts => texts(&history.hosts),
            Fact::Secrets => texts(&history.secrets),
            Fact::SecretFiles => texts(&history.secret_files),
            Fact::Requests => Value::Int(whole(history.requests)),
            Fact::Uploaded => Value::Int(whole(history.uploaded)),
        }
    }

    /// The headers by their names in small letters; one that stands there twice has its values with a comma between them.
    fn headers(&self) -> BTreeMap<String, String> {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in self.by.headers.into_iter().flatten() {
            let value = String::from_utf8_lossy(value.as_bytes());
            let all = headers.entry(name.as_str().to_owned()).or_default();
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(&value);
        }
        headers
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn texts(all: &BTreeSet<String>) -> Value {
    Value::List(all.iter().map(|one| text(one)).collect())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
