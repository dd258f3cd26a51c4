//! Putting secrets in their places. The only caller of `Secret::expose`.
//!
//! A placeholder is worth something at its secret's own sites alone. Anywhere else it is a sign that something tries to
//! send a secret where it does not belong, and the request is refused.

use super::ProxyError;
use super::Shared;
use super::approval::Approvals;
use super::client_certificate::{ClientCertificates, Identity, Presented};
use super::credential::Credential;
use super::disguise::{Needle, position};
use super::exchange::Exchanger;
use super::refresh::{Attempt, Keeper, Read};
use super::renewal::Account;
use super::scrub::{SECRET_BYTES_MIN, Scrub};
use super::signature::Key;
use super::signing;
use super::spot::{self, Slot, Spot};
use super::watch::Watch;
use crate::model::{Host, HostName, RequestLine, Secret};
use crate::policy::{Binding, Mode, Place, Site, signing_placeholder};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

/// How many values that a secret had are still looked for in answers.
const VALUES_BEFORE_MAX: usize = 4;
/// What stands in an answer's header instead of a value that has a secret in disguise.
const REDACTED: &str = "[redacted by omni]";

/// The session's secrets, each bound to its own sites.
pub(super) struct Vault {
    pub(super) entries: Vec<Entry>,
    pub(super) watch: Watch,
    scrub: Arc<RwLock<Arc<Scrub>>>,
    pub(super) keeper: Option<Keeper>,
    /// The logins whose tokens are among them.
    pub(super) logins: Vec<Account>,
    /// Whose sites a host has, and which.
    pub(super) by_host: HashMap<HostName, Vec<(usize, usize)>>,
    /// Those that hosts below theirs have, too.
    pub(super) wide: Vec<(usize, usize)>,
}

pub(super) struct Entry {
    pub(super) binding: Binding,
    pub(super) approved: Approvals,
    /// Its certificate, where it is a client's. Nothing else is held of it then.
    presented: Option<Arc<Presented>>,
    /// What makes its tokens, where it is a key that is exchanged for those. The token is what is held of it then.
    pub(super) exchanger: Option<Exchanger>,
    held: RwLock<Held>,
}

/// What is held of a secret at the moment.
struct Held {
    secret: Secret,
    /// None for a secret that is too short to be known when it is met.
    needle: Option<Needle>,
    /// Values that it had, which servers may still know.
    before: Vec<Secret>,
    attempt: Attempt,
}

impl Held {
    fn new(secret: Secret, before: Vec<Secret>) -> Self {
        let known = secret.expose().len() >= SECRET_BYTES_MIN;
        let needle = known.then(|| Needle::new(secret.expose().as_bytes()));
        Self { secret, needle, before, attempt: Attempt::good() }
    }
}

/// How a text writes what stands in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TextKind {
    #[default]
    Json,
    Form,
    /// As it is.
    Plain,
}

/// Which secrets go where in one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) swaps: Vec<(usize, Spot)>,
    pub(super) injections: Vec<(usize, usize)>,
    /// The client certificates that its connection may present.
    pub(super) certificates: Vec<usize>,
    /// The sites in the first message of the WebSocket that it begins.
    pub(super) message_sites: Vec<(usize, usize)>,
    /// The sites in the body that its secrets may go to.
    pub(super) body_sites: Vec<(usize, usize)>,
    /// What of it is a form's, rather than JSON's.
    pub(super) body_kind: TextKind,
    /// What of the body is swapped, in order.
    pub(super) body_swaps: Vec<(usize, Range<usize>)>,
    /// Whether a signature takes in the body's hash, and the hash once it is known.
    pub(super) hashes_body: bool,
    pub(super) body_hash: Option<String>,
}

impl Plan {
    /// Whether the body must be read before the request can go.
    pub(super) fn needs_body(&self) -> bool {
        !self.body_sites.is_empty() || self.hashes_body
    }
}

/// A placeholder stands where its secret must not go, or might and cannot be seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// Where it was found, and where it belongs.
    Found { secret: String, found: String, belongs: String },
    /// The body cannot be read.
    Unreadable(&'static str),
    /// The request is signed in a way that cannot be signed anew.
    Signed(&'static str),
}

impl std::error::Error for Misplaced {}

impl std::fmt::Display for Misplaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found { secret, found, belongs } => write!(
                f,
                "the placeholder of the secret `{secret}` stands in {found}, and it belongs in {belongs} alone"
            ),
            Self::Signed(why) => write!(f, "the request cannot be signed anew: {why}"),
            Self::Unreadable(why) => {
                write!(f, "the body cannot be searched for placeholders of secrets: {why}; send it uncompressed")
            }
        }
    }
}

impl Vault {
    /// Takes the session's secrets over.
    ///
    /// # Errors
    /// A [`ProxyError`] for a value or a place that cannot stand in a request, and for two secrets that are both to be put
    /// into the same place.
    pub(super) fn new(bindings: Vec<(Binding, Secret)>) -> Result<Self, ProxyError> {
        let entries = bindings.into_iter().map(|(binding, secret)| Entry::new(binding, secret));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        no_two_in_one_slot(&entries)?;
        let held = entries.iter().map(|entry| entry.binding.placeholder.as_str());
        let watch = Watch::new(held).map_err(|index| ProxyError::Placeholder { name: entries[index].name() })?;
        let (mut by_host, mut wide) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            for (number, site) in entry.binding.sites.iter().enumerate() {
                match site.is_wide() {
                    true => wide.push((index, number)),
                    false => by_host.entry(site.host.clone()).or_default().push((index, number)),
                }
            }
        }
        let scrub = Arc::new(RwLock::new(Arc::new(scrub_of(&entries))));
        let logins = Account::all(entries.iter().map(|entry| &entry.binding));
        Ok(Self { entries, watch, scrub, keeper: None, logins, by_host, wide })
    }

    /// The same, whose secrets can be read anew.
    pub(super) fn with_keeper(self, keeper: Option<Keeper>) -> Self {
        Self { keeper, ..self }
    }

    /// What looks for the secrets in answers.
    pub(super) fn scrub(&self) -> Arc<Scrub> {
        self.scrub.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the secrets of a plan read anew that were read too long ago. Whoever comes while one is read waits for it, and
    /// takes what came of it.
    ///
    /// # Errors
    /// Which cannot be had, and why.
    pub(super) async fn refresh(&self, shared: &Shared, plan: &Plan) -> Result<(), String> {
        if let Some(keeper) = &self.keeper {
            self.read_anew(keeper, plan).await?;
        }
        for index in self.used(plan) {
            self.exchange(shared, &self.entries[index]).await?;
        }
        Ok(())
    }

    async fn read_anew(&self, keeper: &Keeper, plan: &Plan) -> Result<(), String> {
        for index in self.used(plan) {
            let entry = &self.entries[index];
            let wanted = Instant::now();
            let Some(refresh) = entry.binding.refresh.filter(|_| !self.is_adrift(&entry.binding)) else { continue };
            let attempt = || entry.attempt();
            let is_fresh = |attempt: &Attempt| attempt.problem.is_none() && attempt.at + refresh > wanted;
            if !is_fresh(&attempt()) {
                let is_settled = || attempt().at >= wanted;
                keeper.read(index, is_settled, |read| self.take(entry, read)).await;
            }
            if let Some(problem) = attempt().problem {
                return Err(format!("the secret `{}` cannot be read anew: {problem}", entry.name()));
            }
        }
        Ok(())
    }

    pub(super) fn take(&self, entry: &Entry, read: Read) {
        let document = match (&entry.presented, &entry.exchanger) {
            (Some(presented), _) => {
                read.and_then(|value| Identity::parse(&value)).map(|identity| presented.replace(identity))
            }
            (None, Some(exchanger)) => read.and_then(|value| exchanger.replace(&value)),
            (None, None) => return self.take_token(entry, read),
        };
        let mut held = entry.held.write().unwrap_or_else(PoisonError::into_inner);
        held.attempt = Attempt { at: Instant::now(), problem: document.err() };
    }

    /// Holds what goes into requests from now on.
    pub(super) fn take_token(&self, entry: &Entry, read: Read) {
        let read = read.and_then(|value| match HeaderValue::from_str(&value) {
            Ok(_) if !value.is_empty() && (!entry.signs() || Key::parse(&value).is_some()) => Ok(value),
            _ => Err("its value cannot stand in a request".to_owned()),
        });
        let mut held = entry.held.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Err(problem) => held.attempt = Attempt { at: Instant::now(), problem: Some(problem) },
            Ok(value) if *value == held.secret.expose() => held.attempt = Attempt::good(),
            Ok(value) => {
                let new = Held::new(Secret::new(value.to_string()), Vec::new());
                let old = std::mem::replace(&mut *held, new);
                held.before = old.before;
                held.before.push(old.secret);
                let spare = held.before.len().saturating_sub(VALUES_BEFORE_MAX);
                held.before.drain(..spare);
                drop(held);
                let scrub = Arc::new(scrub_of(&self.entries));
                *self.scrub.write().unwrap_or_else(PoisonError::into_inner) = scrub;
            }
        }
    }

    /// The secrets that a plan uses.
    pub(super) fn used(&self, plan: &Plan) -> Vec<usize> {
        let swapped = plan.swaps.iter().map(|(index, _)| *index);
        let injected = plan.injections.iter().map(|(index, _)| *index).chain(plan.certificates.iter().copied());
        let injected = injected.chain(plan.message_sites.iter().map(|(index, _)| *index));
        let mut used: Vec<usize> =
            swapped.chain(injected).chain(plan.body_swaps.iter().map(|(index, _)| *index)).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// What looks for them in what is recorded: for secrets, as they are by then, and for placeholders.
    pub(super) fn scrubs_of_records(&self) -> (Arc<RwLock<Arc<Scrub>>>, Scrub) {
        let placeholders = self.entries.iter().map(|entry| entry.binding.placeholder.as_str().as_bytes());
        (self.scrub.clone(), Scrub::new(placeholders))
    }

    /// Whether a host may know a secret, so that its answers must be readable here.
    pub(super) fn may_tell(&self, host: &Host) -> bool {
        !self.scrub().is_idle()
            && matches!(host, Host::Name(name) if self.by_host.contains_key(name) || self.is_of_wide(name))
    }

    /// Whether there is no secret.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The secrets' names.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.iter().map(Entry::name).collect()
    }

    /// Swaps what was planned in this very body.
    pub(super) fn apply_to_body(&self, plan: &Plan, headers: &mut HeaderMap, body: Bytes) -> Bytes {
        if plan.body_swaps.is_empty() {
            return body;
        }
        let swapped = self.swapped(&plan.body_swaps, &body, plan.body_kind);
        if headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(swapped.len()));
        }
        swapped.into()
    }

    /// A text with secrets where their placeholders stood, written as such texts write them.
    pub(super) fn swapped(&self, swaps: &[(usize, Range<usize>)], text: &[u8], kind: TextKind) -> Vec<u8> {
        let (mut swapped, mut at) = (Vec::with_capacity(text.len()), 0);
        for (index, range) in swaps {
            swapped.extend_from_slice(&text[at..range.start]);
            let held = self.entries[*index].held();
            match kind {
                TextKind::Json => {
                    let quoted = serde_json::Value::from(held.secret.expose()).to_string();
                    swapped.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
                }
                TextKind::Form => {
                    swapped.extend_from_slice(spot::percent_encoded(held.secret.expose()).as_bytes());
                }
                TextKind::Plain => swapped.extend_from_slice(held.secret.expose().as_bytes()),
            }
            at = range.end;
        }
        swapped.extend_from_slice(&text[at..]);
        swapped
    }

    /// Takes the session's secrets out of an answer's headers: a secret becomes its placeholder again, and a value with
    /// one in disguise goes as a whole.
    pub(super) fn redact(&self, headers: &mut HeaderMap) {
        let scrub = self.scrub();
        let suspect = |value: &&mut HeaderValue| scrub.holds(value.as_bytes());
        for value in headers.values_mut().filter(suspect) {
            self.entries.iter().for_each(|entry| entry.redact(value));
        }
    }

    /// Signs a request anew that was signed by a placeholder, as it is by now.
    pub(super) fn sign(&self, plan: &Plan, line: &RequestLine, target: &str, headers: &mut HeaderMap) {
        for (index, spot) in &plan.swaps {
            let Spot::Signature(nth) = spot else { continue };
            let held = self.entries[*index].held();
            if let Some(key) = Key::parse(held.secret.expose()) {
                signing::sign(key, *nth, plan.body_hash.as_deref(), line, target, headers);
            }
        }
    }

    /// Whether a request was signed by the placeholder that it names, where it names one: else what is signed anew would not be
    /// what the client meant. `body` is the whole body where a signature takes it in.
    pub(super) fn verify(
        &self,
        plan: &mut Plan,
        line: &RequestLine,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Misplaced> {
        plan.body_hash = plan.hashes_body.then(|| super::signature::hash(body));
        for (index, spot) in &plan.swaps {
            let Spot::Signature(nth) = spot else { continue };
            let secret = signing_placeholder(&self.entries[*index].binding.placeholder);
            signing::verify(&secret, *nth, plan.body_hash.as_deref(), line, target, headers)?;
        }
        Ok(())
    }

    fn is_of_wide(&self, name: &HostName) -> bool {
        let holds = |site: &Site| *name == site.host || name.is_below(&site.host);
        self.wide.iter().any(|(index, number)| holds(self.site(*index, *number)))
    }

    /// The certificates of clients that are among them, each at its places.
    pub(super) fn client_certificates(&self) -> ClientCertificates {
        let mut all = ClientCertificates::default();
        for entry in &self.entries {
            for (site, presented) in entry.binding.sites.iter().zip(entry.presented.iter().cycle()) {
                all.add(site.host.clone(), site.port, presented.clone());
            }
        }
        all
    }

    /// The names of the secrets of a plan.
    pub(super) fn planned(&self, plan: &Plan) -> Vec<String> {
        self.used(plan).into_iter().map(|index| self.entries[index].name()).collect()
    }

    /// Swaps placeholders for secrets and puts others in, as planned for this very target and these headers.
    pub(super) fn apply(&self, plan: &Plan, target: &mut String, headers: &mut HeaderMap) {
        // From the end of the target, so that what is still to be swapped stays where it is.
        let mut swaps: Vec<_> = plan.swaps.iter().collect();
        swaps.sort_by_key(|(_, spot)| if let Spot::Query(range) = spot { usize::MAX - range.start } else { 0 });
        for (index, spot) in swaps {
            let entry = &self.entries[*index];
            match spot {
                Spot::Header(name, nth) => {
                    if let Some(value) = nth_value(headers, name, *nth) {
                        entry.swap(value);
                    }
                }
                Spot::Basic(nth) => {
                    if let Some(value) = nth_value(headers, &AUTHORIZATION, *nth) {
                        entry.swap_credentials(value);
                    }
                }
                // Once everything else stands: [`Vault::sign`].
                Spot::Signature(_) => {}
                Spot::Query(range) => {
                    target.replace_range(range.clone(), &spot::percent_encoded(entry.held().secret.expose()));
                }
            }
        }
        for (index, number) in &plan.injections {
            self.entries[*index].inject(&self.site(*index, *number).place, target, headers);
        }
    }
}

/// What looks for every value that the secrets have, and have had.
fn scrub_of(entries: &[Entry]) -> Scrub {
    let held: Vec<_> = entries.iter().map(Entry::held).collect();
    let all = held.iter().zip(entries).flat_map(|(held, entry)| {
        let values = held.before.iter().chain([&held.secret]);
        values.flat_map(|secret| entry.parts(secret.expose()))
    });
    Scrub::new(all.map(str::as_bytes))
}

/// Refuses two secrets that the proxy is to put into the same place of the same requests.
fn no_two_in_one_slot(entries: &[Entry]) -> Result<(), ProxyError> {
    let injected = entries.iter().filter(|entry| entry.binding.mode == Mode::Inject);
    let mut taken: Vec<(&Entry, &Site, Slot)> = Vec::new();
    for (entry, site) in injected.flat_map(|entry| entry.binding.sites.iter().map(move |site| (entry, site))) {
        let slot = Slot::of(&site.place).ok_or_else(|| entry.no_header(&site.place))?;
        let same = |(_, other, taken): &&(&Entry, &Site, Slot)| {
            *taken == slot && (&other.host, other.port, &other.path) == (&site.host, site.port, &site.path)
        };
        if let Some((other, ..)) = taken.iter().find(same) {
            let (first, second) = (other.name(), entry.name());
            return Err(ProxyError::SecretsInOnePlace { first, second, place: site.to_string() });
        }
        taken.push((entry, site, slot));
    }
    Ok(())
}

fn nth_value<'a>(headers: &'a mut HeaderMap, name: &HeaderName, nth: usize) -> Option<&'a mut HeaderValue> {
    headers.iter_mut().filter(|(found, _)| *found == name).nth(nth).map(|(_, value)| value)
}

impl Entry {
    fn new(binding: Binding, secret: Secret) -> Result<Self, ProxyError> {
        let name = binding.secret.clone();
        let unfit = |reason| ProxyError::SecretDocument { name: name.clone(), reason };
        let (mut presented, mut exchanger, mut secret) = (None, None, secret);
        if let Some(exchange) = &binding.exchange {
            let credential = Credential::parse(exchange, secret.expose()).map_err(unfit)?;
            exchanger = Some(Exchanger::new(exchange.clone(), credential));
        } else if binding.sites.iter().any(|site| site.place == Place::ClientCertificate) {
            presented = Some(Presented::new(name.clone(), Identity::parse(secret.expose()).map_err(unfit)?));
        }
        if presented.is_some() || exchanger.is_some() {
            // It goes into no request itself.
            secret = Secret::new(String::new());
        }
        let (approved, held) = (Approvals::default(), RwLock::new(Held::new(secret, Vec::new())));
        let entry = Self { binding, approved, presented, exchanger, held };
        if let Some(site) = entry.binding.sites.iter().find(|site| Slot::of(&site.place).is_none()) {
            return Err(entry.no_header(&site.place));
        }
        let is_key = Key::parse(entry.held().secret.expose()).is_some();
        if HeaderValue::from_str(entry.held().secret.expose()).is_err() || (entry.signs() && !is_key) {
            return Err(ProxyError::SecretValue { name: entry.name() });
        }
        Ok(entry)
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it was last read or made, and what came of it.
    pub(super) fn attempt(&self) -> Attempt {
        self.held().attempt.clone()
    }

    pub(super) fn name(&self) -> String {
        self.binding.secret.clone()
    }

    fn no_header(&self, place: &Place) -> ProxyError {
        ProxyError::Header { name: self.name(), header: place.to_string() }
    }

    /// Whether its value is a key that requests are signed by.
    fn signs(&self) -> bool {
        self.binding.sites.iter().any(|site| site.place == Place::Aws)
    }

    /// What of a value is secret by itself.
    fn parts<'a>(&self, value: &'a str) -> Vec<&'a str> {
        match Key::parse(value).filter(|_| self.signs()) {
            Some(Key { id, secret, token }) => [Some(id), Some(secret), token].into_iter().flatten().collect(),
            None => vec![value],
        }
    }

    fn redact(&self, value: &mut HeaderValue) {
        let held = self.held();
        if self.signs() {
            let parts = self.parts(held.secret.expose());
            if parts.into_iter().any(|part| {
                Needle::new(part.as_bytes()).hides_in(value.as_bytes())
                    || position(value.as_bytes(), part.as_bytes()).is_some()
            }) {
                *value = HeaderValue::from_static(REDACTED);
            }
            return;
        }
        let Some(needle) = &held.needle else { return };
        let real = held.secret.expose().as_bytes();
        if needle.hides_in(value.as_bytes()) {
            *value = HeaderValue::from_static(REDACTED);
            return;
        }
        let (mut rest, mut clean) = (value.as_bytes(), Vec::new());
        while let Some(at) = position(rest, real) {
            clean.extend_from_slice(&rest[..at]);
            clean.extend_from_slice(self.binding.placeholder.as_str().as_bytes());
            rest = &rest[at + real.len()..];
        }
        if !clean.is_empty() {
            clean.extend_from_slice(rest);
            *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static(REDACTED));
        }
    }

    fn swap(&self, value: &mut HeaderValue) {
        let (bytes, placeholder) = (value.as_bytes(), self.binding.placeholder.as_str().as_bytes());
        let Some(at) = position(bytes, placeholder) else { return };
        let held = self.held();
        let real = held.secret.expose().as_bytes();
        let begin = spot::token_begin(bytes, at);
        let swapped = [&bytes[..begin], real, &bytes[at + placeholder.len()..]].concat();
        // The value was checked when the vault was filled; were it refused here, the placeholder would go out, which
        // is worth nothing.
        if let Ok(swapped) = HeaderValue::from_bytes(&swapped) {
            *value = sensitive(swapped);
        }
    }

    fn swap_credentials(&self, value: &mut HeaderValue) {
        let Some(credentials) = spot::credentials(value) else { return };
        let swapped = credentials.replacen(self.binding.placeholder.as_str(), self.held().secret.expose(), 1);
        if let Some(swapped) = spot::basic_value(&swapped) {
            *value = sensitive(swapped);
        }
    }

    /// Puts the secret where nothing of the sandbox's stands for it, over what stands there.
    fn inject(&self, place: &Place, target: &mut String, headers: &mut HeaderMap) {
        let held = self.held();
        let real = held.secret.expose();
        let header = match place {
            Place::Header(name) => HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(real).ok()),
            Place::Bearer => Some(AUTHORIZATION).zip(HeaderValue::from_str(&format!("Bearer {real}")).ok()),
            Place::BasicPassword(user) => {
                let user = user.as_deref().unwrap_or_default();
                Some(AUTHORIZATION).zip(spot::basic_value(&format!("{user}:{real}")))
            }
            Place::BasicUser => Some(AUTHORIZATION).zip(spot::basic_value(&format!("{real}:"))),
            Place::Cookie(name) => {
                Some(COOKIE).zip(HeaderValue::from_str(&spot::with_cookie(headers, name, real)).ok())
            }
            Place::Query(name) => {
                spot::set_parameter(target, name, real);
                None
            }
            // Refused where it is written.
            Place::Json(_) | Place::Form(_) | Place::FirstMessage(_) | Place::Aws | Place::ClientCertificate => None,
        };
        if let Some((name, value)) = header {
            headers.insert(name, sensitive(value));
        }
    }

    pub(super) fn misplaced(&self, found: String) -> Misplaced {
        let mut sites: Vec<String> = self.binding.sites.iter().map(ToString::to_string).collect();
        if self.binding.mode == Mode::Inject {
            sites.clear();
        }
        let belongs = if sites.is_empty() { "nothing".to_owned() } else { sites.join(", or ") };
        Misplaced::Found { secret: self.name(), found, belongs }
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Placeholder, Port, Scheme};
    use crate::policy::Approval;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};

    const HELD: &str = "sk-ZXepeqer0123456789ab";

    fn bound(place: Place, mode: Mode) -> Binding {
        let host = HostName::parse("api.example.com").unwrap();
        let site = Site { host, port: Port(443), path: "/".to_owned(), place };
        Binding {
            secret: "vendor".to_owned(),
            sites: vec![site],
            mode,
            refresh: None,
            placeholder: Placeholder(HELD.to_owned()),
            login: None,
            approval: Approval::Never,
            exchange: None,
        }
    }

    fn vault_of(place: Place, mode: Mode) -> Vault {
        Vault::new(vec![(bound(place, mode), Secret::new("sk-real-1".to_owned()))]).unwrap()
    }

    fn vault(place: Place) -> Vault {
        vault_of(place, Mode::Placeholder)
    }

    /// The target and headers that go out.
    fn sent(vault: &Vault, target: &str, mut headers: HeaderMap) -> Result<(String, HeaderMap), Misplaced> {
        let plan = vault.plan(&good_line(), target, &headers)?;
        let mut target = target.to_owned();
        vault.apply(&plan, &mut target, &mut headers);
        Ok((target, headers))
    }

    fn line(scheme: Scheme, host: &str, port: u16) -> RequestLine {
        let host = Host::parse(host).unwrap();
        RequestLine { method: "POST".to_owned(), scheme, host, port: Port(port), path: "/v1".to_owned() }
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    fn good_line() -> RequestLine {
        line(Scheme::Https, "api.example.com", 443)
    }

    #[test]
    fn the_secret_goes_to_its_own_place() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let mut headers = headers("x-api-key", HELD);
        let plan = vault.plan(&good_line(), "/v1", &headers).unwrap();
        assert_eq!(vault.planned(&plan), ["vendor"]);
        vault.apply(&plan, &mut "/v1".to_owned(), &mut headers);
        assert_eq!(headers["x-api-key"], "sk-real-1");
        assert!(headers["x-api-key"].is_sensitive());
    }

    #[test]
    fn each_place_gets_its_secret_and_no_other_place_does() {
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let held = |user: &str| basic(&format!("{user}:{HELD}"));
        let cases = [
            (Place::Bearer, "authorization", format!("bearer {HELD}"), "bearer sk-real-1".to_owned()),
            (Place::BasicPassword(None), "authorization", held("git"), basic("git:sk-real-1")),
            (Place::BasicUser, "authorization", basic(&format!("{HELD}:")), basic("sk-real-1:")),
            (Place::Cookie("sid".to_owned()), "cookie", format!("a=b; sid={HELD}"), "a=b; sid=sk-real-1".to_owned()),
        ];
        for (place, name, value, expected) in &cases {
            let (_, headers) = sent(&vault(place.clone()), "/v1", headers(name, value)).unwrap();
            assert_eq!(headers[*name], *expected);
            for (other, ..) in cases.iter().filter(|(other, ..)| other != place) {
                let refused = sent(&vault(other.clone()), "/v1", self::headers(name, value));
                assert!(refused.is_err(), "{other:?} {value}");
            }
        }
        let query = vault(Place::Query("key".to_owned()));
        let target = format!("/v1?a=1&key={}&b=2", HELD.replace('-', "%2D"));
        assert_eq!(sent(&query, &target, HeaderMap::new()).unwrap().0, "/v1?a=1&key=sk-real-1&b=2");
        assert!(sent(&query, &format!("/v1?key={HELD}&other={HELD}"), HeaderMap::new()).is_err());
        assert!(sent(&query, &format!("/v1?other={HELD}"), HeaderMap::new()).is_err());
    }

    #[test]
    fn what_is_injected_takes_the_place_of_what_stands_there() {
        let injecting = |place| vault_of(place, Mode::Inject);
        let own = headers("authorization", "Bearer their-own");
        let put = |place, headers: &HeaderMap| sent(&injecting(place), "/v1?key=x&a=1", headers.clone()).unwrap();
        assert_eq!(put(Place::Bearer, &own).1["authorization"], "Bearer sk-real-1");
        let user = Place::BasicPassword(Some("me".to_owned()));
        let (_, headers) = put(user, &own);
        assert_eq!(spot::credentials(&headers["authorization"]).as_deref(), Some("me:sk-real-1"));
        assert_eq!(put(Place::Query("key".to_owned()), &own).0, "/v1?a=1&key=sk-real-1");
        let cookie = self::headers("cookie", "a=b; sid=old");
        assert_eq!(put(Place::Cookie("sid".to_owned()), &cookie).1["cookie"], "a=b; sid=sk-real-1");
        for other in [line(Scheme::Http, "api.example.com", 443), line(Scheme::Https, "evil.example", 443)] {
            assert_eq!(injecting(Place::Bearer).plan(&other, "/v1", &own).unwrap(), Plan::default());
        }
    }

    #[test]
    fn two_secrets_for_one_place_are_refused_and_the_longer_path_wins() {
        let mut other = bound(Place::Bearer, Mode::Inject);
        other.secret = "other".to_owned();
        let own = || (bound(Place::Bearer, Mode::Inject), Secret::new("sk-real-1".to_owned()));
        let both = |other: Binding| Vault::new(vec![own(), (other, Secret::new("sk-real-2".to_owned()))]);
        assert!(matches!(both(other.clone()), Err(ProxyError::SecretsInOnePlace { .. })));
        other.sites[0].path = "/v1".to_owned();
        let (_, headers) = sent(&both(other).unwrap(), "/v1", HeaderMap::new()).unwrap();
        assert_eq!(headers["authorization"], "Bearer sk-real-2");
    }

    #[test]
    fn a_field_of_a_json_body_is_swapped_where_the_binding_says() {
        let vault = vault(Place::Json("/auth/key".to_owned()));
        let planned = |body: &str| {
            let mut plan = vault.plan(&good_line(), "/v1", &HeaderMap::new()).unwrap();
            assert!(plan.needs_body());
            vault.plan_body(&mut plan, &HeaderMap::new(), body.as_bytes()).map(|()| plan)
        };
        let good = format!("{{\"auth\": {{\"key\": \"{HELD}\"}}, \"n\": 1}}");
        let plan = planned(&good).unwrap();
        let mut headers = headers("content-length", "99");
        let body = vault.apply_to_body(&plan, &mut headers, good.into());
        assert_eq!(body, "{\"auth\": {\"key\": \"sk-real-1\"}, \"n\": 1}");
        assert_eq!(headers["content-length"], body.len().to_string());
        assert_eq!(vault.planned(&plan), ["vendor"]);
        for bad in [
            format!("{{\"key\": \"{HELD}\"}}"),
            format!("{{\"auth\": {{\"key\": \"x{HELD}\"}}}}"),
            format!("{{\"auth\": {{\"key\": \"{HELD}\", \"too\": \"{HELD}\"}}}}"),
            format!("{{\"auth\": {{\"key\": \"{HELD}\"}}"),
        ] {
            assert!(planned(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn anywhere_else_the_request_is_refused() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let good = headers("x-api-key", HELD);
        for elsewhere in [
            line(Scheme::Http, "api.example.com", 443),
            line(Scheme::Https, "api.example.com", 8443),
            line(Scheme::Https, "evil.example", 443),
            line(Scheme::Https, "192.0.2.1", 443),
        ] {
            let refused = vault.plan(&elsewhere, "/v1", &good).unwrap_err();
            assert!(matches!(&refused, Misplaced::Found { secret, .. } if secret == "vendor"));
            assert!(!refused.to_string().contains("sk-"), "{refused}");
        }
        assert!(vault.plan(&good_line(), "/v1", &headers("x-other", &format!("a {HELD} b"))).is_err());
        assert!(vault.plan(&good_line(), &format!("/v1?key={HELD}"), &HeaderMap::new()).is_err());
        let percent = HELD.replace('-', "%2d").replace('Z', "%5A");
        assert!(vault.plan(&good_line(), &format!("/v1?key={percent}"), &HeaderMap::new()).is_err());
        let host = format!("{}.example.com", HELD.to_lowercase());
        assert!(vault.plan(&line(Scheme::Https, &host, 443), "/v1", &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_disguise_is_seen_through() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let refused = |target: &str, headers: &HeaderMap| vault.plan(&good_line(), target, headers).is_err();
        for user in ["", "u", "us", "user", "x-access-token"] {
            let basic = BASE64_STANDARD.encode(format!("{user}:{HELD}"));
            assert!(refused("/", &headers("authorization", &format!("Basic {basic}"))), "{user}");
            // In its own place too: a secret is swapped for its placeholder as it is, and for nothing else.
            assert!(refused("/", &headers("x-api-key", &basic)), "{user}");
            let safe = BASE64_URL_SAFE_NO_PAD.encode(format!("{user}:{HELD}?"));
            assert!(refused(&format!("/{safe}/x"), &HeaderMap::new()), "{user}");
        }
        assert!(refused("/", &headers("x-other", &HELD.replace('Z', "%5A"))));
        assert!(refused(&format!("/?k={}", HELD.replace('Z', "%255A")), &HeaderMap::new()));
        let cut = &HELD[..HELD.len() - 4];
        assert!(!refused(
            &format!("/?k={cut}"),
            &headers("authorization", &format!("Basic {}", BASE64_STANDARD.encode(cut)))
        ));
    }

    #[test]
    fn an_answer_that_echoes_the_secret_is_redacted() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let redacted = |text: &str| {
            let mut answer = headers("x-echo", text);
            vault.redact(&mut answer);
            answer["x-echo"].to_str().unwrap().to_owned()
        };
        assert_eq!(redacted("a=sk-real-1, b=sk-real-1"), format!("a={HELD}, b={HELD}"));
        assert_eq!(redacted(&format!("Basic {}", BASE64_STANDARD.encode("me:sk-real-1"))), REDACTED);
        assert_eq!(redacted("/?k=sk%2dreal%2d1"), REDACTED);
        assert_eq!(redacted("nothing of it: sk-real"), "nothing of it: sk-real");
    }

    #[test]
    fn a_secret_too_short_to_be_known_is_not_looked_for() {
        let binding = vault(Place::Bearer).entries.remove(0).binding;
        for (length, found) in [(SECRET_BYTES_MIN - 1, false), (SECRET_BYTES_MIN, true)] {
            let secret = "s".repeat(length);
            let vault = Vault::new(vec![(binding.clone(), Secret::new(secret.clone()))]).unwrap();
            let mut answer = headers("x-echo", &secret);
            vault.redact(&mut answer);
            assert_eq!(answer["x-echo"] != secret, found, "{length}");
        }
    }

    #[test]
    fn a_request_without_a_placeholder_gets_nothing() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let mut own = headers("x-api-key", "sk-mine");
        let plan = vault.plan(&good_line(), "/v1?a=%zz%", &own).unwrap();
        vault.apply(&plan, &mut "/v1".to_owned(), &mut own);
        assert_eq!((plan, &own["x-api-key"]), (Plan::default(), &HeaderValue::from_static("sk-mine")));
    }

    #[test]
    fn a_value_that_would_break_a_header_is_refused_at_the_start() {
        let mut entry = vault(Place::Bearer).entries.remove(0).binding;
        entry.secret = "broken".to_owned();
        let refused = Vault::new(vec![(entry, Secret::new("a\r\nx: y".to_owned()))]);
        assert!(matches!(refused, Err(ProxyError::SecretValue { name }) if name == "broken"));
    }
}
