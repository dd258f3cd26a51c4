//! The facts of a session, in the past tense. The ledger is these persisted; a session's state is a fold over them.

use super::{FileAct, Host, Isolation, NanoUsd, Port, Pricing, ReachedLimit, Scheme, SessionId, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The number of a request within its session, from 1, in the order in which requests were judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestNumber(pub u64);

/// The format in which calls are recorded of which nothing can be read but that they were made ([`Event::UsageMetered`]).
pub const UNMETERED: &str = "unmetered";

/// How the harness ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called `exit` with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The harness ended by itself or by a signal that was meant for it.
    Finished,
    /// The harness could not be started.
    NotStarted,
    /// The session's time was up.
    Timeout,
    /// A person asked for its end.
    Stopped,
    /// The session used up its memory.
    MemoryLimit,
    /// The session used up its room on the disk.
    DiskLimit,
    /// The proxy died, so the sandbox was ended with it.
    ProxyLost,
    /// Something outside ended the session's process or its sandbox, without a word. The former is found out when the
    /// journal is read later.
    Interrupted,
}

/// The line of a request that a person reads: method and canonical URL without query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestLine {
    /// The method, in capitals.
    pub method: String,
    /// Plain or in TLS.
    pub scheme: Scheme,
    /// The one host that all names agreed on.
    pub host: Host,
    /// The port the client asked for.
    pub port: Port,
    /// The normalised path without the query, which may hold secrets.
    pub path: String,
}

/// What kind of thing was refused before it became a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// A question to the resolver.
    Name,
    /// A connection whose first bytes were neither TLS nor HTTP.
    Protocol,
    /// A TLS handshake that failed or named nobody.
    Tls,
    /// A connection over a limit.
    Limit,
}

/// How a response body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyEnd {
    /// To its end.
    Complete,
    /// The client went away first.
    ClientGone,
    /// The upstream broke off in the middle.
    UpstreamBroke,
    /// The session ended first.
    SessionEnded,
    /// A rule's quota of bytes was reached, here or in the request's body.
    QuotaReached,
    /// The answer outran the money that was held for it.
    BudgetReached,
    /// A rule that was added while it was open does not let it through.
    RuleAdded,
}

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodySide {
    /// What the client sent.
    Request,
    /// What it was answered.
    Response,
}

/// One fact. The variants are closed: a reader knows every thing that can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The sandbox stands and the harness is about to be let go.
    SessionStarted {
        /// The session.
        session: SessionId,
        /// The name a person gave it, if any.
        name: Option<String>,
        /// The user on whose behalf it runs.
        user: String,
        /// The team in whose budgets it counts, where one was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        team: Option<String>,
        /// The project in whose budgets it counts, where one was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        project: Option<String>,
        /// What its user marks its costs with.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tags: BTreeMap<String, String>,
        /// The profile's name.
        profile: String,
        /// The command line inside the sandbox.
        argv: Vec<String>,
        /// The workspace's path.
        workspace: String,
        /// SHA-256 of the compiled policy, in hexadecimal.
        policy_hash: String,
        /// What the sandbox reached.
        isolation: Isolation,
        /// The version of omni.
        omni_version: String,
        /// The session process's id on the host, for finding out later whether it still runs.
        pid: u32,
        /// When that process started, in the kernel's clock ticks since boot (proc(5), field 22 of stat), so that a
        /// process id used again is not mistaken for it.
        pid_started_ticks: u64,
    },
    /// The proxy is ready: the first fact of its journal.
    ProxyStarted {
        /// The session.
        session: SessionId,
        /// SHA-256 of the session's CA certificate, in hexadecimal.
        ca_fingerprint: String,
        /// The version of the price table.
        price_table: String,
        /// The names of the secrets it holds.
        secrets: Vec<String>,
    },
    /// A secret of the profile had no value to load, or a policy forbids it, and the session went on without it.
    SecretMissing {
        /// The secret's name.
        secret: String,
        /// Where it was looked for, or the policy.
        from: String,
    },
    /// A login was renewed, or a key exchanged for a token: the tokens are new, outside.
    SecretRenewed {
        /// The request that did.
        request: RequestNumber,
        /// The name of the secret.
        secret: String,
        /// Why the new tokens could not be written into the login's file; none where they are there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// A login with SSH is signed by a key of the user's agent; written before it is.
    SshSigned {
        /// The key's fingerprint.
        key: String,
        /// The host.
        host: String,
        /// As whom.
        user: String,
    },
    /// The user's agent was not asked to sign.
    SshRefused {
        /// The key's fingerprint.
        key: String,
        /// The host, where it is known.
        host: String,
        /// Why, for a person.
        reason: String,
    },
    /// A name was given a synthetic address for the first time.
    NameResolved {
        /// The name that was asked for.
        name: String,
        /// The address handed out, which is never dialled.
        address: IpAddr,
    },
    /// Something was refused before there was a request to judge.
    ConnectionRefused {
        /// What it was.
        kind: RefusalKind,
        /// Where it was going, as far as is known.
        target: String,
        /// Why, for a person.
        reason: String,
    },
    /// A request was judged allowed; written before a byte of it leaves.
    RequestAllowed {
        /// Its number.
        request: RequestNumber,
        /// What it asked for.
        #[serde(flatten)]
        line: RequestLine,
        /// The rule that allowed it.
        rule: String,
        /// Whose rule that is and where it stands, such as `profile claude-code:12`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule_from: Option<String>,
        /// What it does, where its shape tells, such as `npm-publish`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        act: Option<String>,
        /// The names of the secrets that were put into it.
        secrets: Vec<String>,
        /// The other rules that were about it, each with its effect and where it stands.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<String>,
    },
    /// A request was refused; nothing of it left.
    RequestDenied {
        /// Its number.
        request: RequestNumber,
        /// What it asked for.
        #[serde(flatten)]
        line: RequestLine,
        /// The rule that refused it; none when no rule matched.
        rule: Option<String>,
        /// Whose rule that is and where it stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule_from: Option<String>,
        /// What it does, where its shape tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        act: Option<String>,
        /// Why, for a person.
        reason: String,
        /// The other rules that were about it, each with its effect and where it stands.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<String>,
    },
    /// A request is a push with git, and this is what it is to change; written before it is judged.
    PushRead {
        /// Its number.
        request: RequestNumber,
        /// The repository's path at its host.
        repository: String,
        /// What becomes of each reference, such as `update refs/heads/main`; the first of them.
        updates: Vec<String>,
        /// How many there are.
        count: u64,
        /// Whether the client signed it.
        signed: bool,
    },
    /// A rule was added while the session ran; written before it counts.
    RuleAdded {
        /// Who added it.
        user: String,
        /// The rule with its effect, in canonical form.
        rule: String,
        /// SHA-256 of the policy with it, in hexadecimal.
        policy_hash: String,
    },
    /// A policy file was changed while the session ran; written before it counts.
    PolicyChanged {
        /// Who changed it.
        user: String,
        /// Which file.
        file: String,
        /// SHA-256 of the whole policy with it, in hexadecimal.
        policy_hash: String,
    },
    /// An allowed request got no response from its upstream.
    RequestFailed {
        /// Its number.
        request: RequestNumber,
        /// Why, for a person.
        reason: String,
    },
    /// An allowed request got its response, to the end or not.
    RequestCompleted {
        /// Its number.
        request: RequestNumber,
        /// The HTTP status.
        status: u16,
        /// Bytes of the request's body.
        request_bytes: u64,
        /// Bytes of the response's body.
        response_bytes: u64,
        /// From judgement to the last byte, in milliseconds.
        duration_ms: u64,
        /// How the body ended.
        end: BodyEnd,
    },
    /// A body was recorded, since that was asked for: without secrets, in a file beside the journals.
    BodyRecorded {
        /// The request.
        request: RequestNumber,
        /// Whether it is the request's or its answer's.
        side: BodySide,
        /// Its `Content-Type`.
        content_type: Option<String>,
        /// SHA-256 of what was recorded, in hexadecimal; none where nothing could be.
        sha256: Option<String>,
        /// How many bytes were recorded, decompressed.
        bytes: u64,
        /// Why not all of it was, for a person.
        missing: Option<String>,
    },
    /// A model call used this much.
    UsageMetered {
        /// The request that carried it.
        request: RequestNumber,
        /// The vendor's dialect, such as `anthropic-messages`; `unmetered` where it is a call that nobody can read what it
        /// used of, such as one that begins a batch.
        dialect: String,
        /// Who bills it, such as `bedrock`; empty in records from before this was told.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        vendor: String,
        /// The model as the vendor's answer names it, else as the request did.
        model: String,
        /// What it used.
        usage: Usage,
        /// The class of service that it was billed as, such as `batch`; empty for the usual one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        service: String,
        /// What that costs.
        cost: NanoUsd,
        /// How far the cost can be trusted.
        pricing: Pricing,
        /// The version of the price table it was reckoned with.
        price_table: String,
    },
    /// Money was set aside for a model call; written before the call is allowed.
    HoldPlaced {
        /// The request that carries it.
        request: RequestNumber,
        /// How much.
        amount: NanoUsd,
        /// What it can cost at most; more than is held where no more was left.
        bound: NanoUsd,
    },
    /// A model call that money was held for is over, or never left.
    HoldSettled {
        /// The request that carried it.
        request: RequestNumber,
        /// How much was held.
        held: NanoUsd,
        /// What budgets are charged with.
        charged: NanoUsd,
        /// Whether that is reckoned, since the vendor's final numbers did not come.
        estimated: bool,
    },
    /// A person is asked whether something may happen.
    ApprovalAsked {
        /// The question's number within the session, from 1.
        question: u64,
        /// The request that waits for the answer.
        request: RequestNumber,
        /// What is to be done, as method and URL.
        what: String,
        /// Why somebody must say.
        why: String,
        /// The rule that asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// SHA-256 of what is to be sent, in hexadecimal.
        digest: String,
        /// When it is denied for want of an answer, in microseconds since 1970.
        expires: i64,
    },
    /// A question was answered, or needs no answer any more.
    ApprovalAnswered {
        /// The question's number.
        question: u64,
        /// What became of it: `once`, `session`, `always`, `denied`, `expired`, `cancelled`, or `turned_over` where the window of
        /// the limit was over at which it waited.
        answer: String,
        /// Who said so; none where nobody did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why, where it was denied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A request that is the same as one that a person is being asked about waits for the same answer.
    ApprovalJoined {
        /// The question's number.
        question: u64,
        /// The request that waits, too.
        request: RequestNumber,
    },
    /// A person said yes to requests of a kind from now on, in later sessions too.
    ConsentGiven {
        /// What the consent is named by.
        consent: String,
        /// The question that it answers.
        question: u64,
        /// The rules, as texts, that together say which requests it is about.
        covers: Vec<String>,
        /// The rules whose question it answers, in canonical form.
        asked_by: Vec<String>,
        /// Who gave it.
        by: String,
    },
    /// A question was answered before it was asked, by a consent that a person had given.
    ConsentUsed {
        /// The consent.
        consent: String,
        /// The request that goes.
        request: RequestNumber,
        /// What it does, as method and URL.
        what: String,
    },
    /// A model call is sent to another model than it asked for, since a policy says so beyond its soft limit.
    ModelReplaced {
        /// The request that carries it.
        request: RequestNumber,
        /// The policy.
        policy: String,
        /// The model that was asked for.
        from: String,
        /// The model that is called.
        to: String,
    },
    /// What calls cost reached a part of a budget, told once each.
    BudgetReached {
        /// The policy.
        policy: String,
        /// How much of it, in per cent: of the soft limit where it has no hard one.
        percent: u32,
        /// What was spent by then.
        spent: NanoUsd,
    },
    /// A person raised a hard limit at which the session waited, for this session and as long as the limit's window lasts;
    /// written before it counts.
    BudgetRaised {
        /// The policy.
        policy: String,
        /// Who.
        by: String,
        /// What the limit is then.
        limit: NanoUsd,
    },
    /// A port of the sandbox is listened for on the host.
    PortPublished {
        /// Where on the host.
        address: SocketAddr,
        /// Which port inside.
        port: Port,
    },
    /// Somebody on the host connected to a published port; written before anything reaches the sandbox.
    PublishedPortEntered {
        /// The connection's number within the session, from 1.
        connection: u64,
        /// The port inside.
        port: Port,
        /// Where it came from.
        from: SocketAddr,
    },
    /// A connection to a published port is over.
    PublishedPortLeft {
        /// Its number.
        connection: u64,
        /// Bytes that went into the sandbox.
        bytes_in: u64,
        /// Bytes that came out of it.
        bytes_out: u64,
        /// How it ended; whoever connected is the client, and the sandbox the upstream.
        end: BodyEnd,
        /// Why it never got there, for a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Somebody looks at the session's terminal from another.
    ViewerAttached {
        /// Its number within the session, from 1.
        viewer: u32,
        /// Who.
        user: String,
        /// Whether it can only look, not type.
        read_only: bool,
    },
    /// Somebody looks no more.
    ViewerLeft {
        /// Its number.
        viewer: u32,
    },
    /// The session goes on without the terminal that it was started at, in another process.
    SessionDetached {
        /// That process's id on the host.
        pid: u32,
        /// When it started, as in `session_started`.
        pid_started_ticks: u64,
    },
    /// Somebody asked for the session's end.
    StopRequested {
        /// Who.
        user: String,
    },
    /// Some of what the harness wrote to its terminal was kept from the user's, in the whole session.
    OutputFiltered {
        /// How often, by what it was, such as `clipboard`.
        refused: BTreeMap<String, u64>,
    },
    /// The recording of the terminal is not whole.
    RecordingStopped {
        /// Why, for a person.
        reason: String,
    },
    /// The session reached one of its limits.
    LimitReached(ReachedLimit),
    /// Files of the workspace that look like secrets are hidden from the harness.
    SecretFilesHidden {
        /// How many.
        count: u64,
        /// The first of them, relative to the workspace.
        paths: Vec<String>,
        /// Whether the workspace holds more than was looked at so far, so that such files deeper in it are visible. Told before
        /// the start; what the look came to is told again.
        incomplete: bool,
    },
    /// A file was opened that looks like a secret and is shown to the harness; each is told once.
    SecretFileRead {
        /// Which: relative to the workspace, or where it is shown outside that. Or why it counts as read that one was, which
        /// cannot be known.
        path: String,
    },
    /// A program outside put something else in the place of what is hidden from the harness; it was hidden at once, but for a
    /// moment could be read.
    HiddenFileReplaced {
        /// Where, as the sandbox shows it.
        path: String,
    },
    /// A change of a protected name in a place of the host was refused; each is told once.
    FileRefused {
        /// What was tried.
        act: FileAct,
        /// On which path.
        path: String,
        /// The protected name, as the list has it.
        rule: String,
    },
    /// More such changes were refused than are told one by one.
    FileRefusalsUntold {
        /// How many.
        count: u64,
    },
    /// The harness ended.
    HarnessExited {
        /// How.
        status: ExitStatus,
    },
    /// The session is over: the last fact of the session's journal.
    SessionEnded {
        /// Why.
        reason: EndReason,
        /// The status that omni itself exits with.
        exit: ExitStatus,
    },
    /// Changes that the overlay kept are taken over into the workspace; written before the first of them is.
    ChangesApplied {
        /// How many paths were made.
        added: u64,
        /// How many were changed.
        modified: u64,
        /// How many were removed.
        deleted: u64,
        /// The paths that may be executed on the host, made printable; the first of them, where there are very many.
        executables: Vec<String>,
        /// The paths whose changes on the host were given up, made printable; the first of them.
        overwritten: Vec<String>,
        /// SHA-256, in hexadecimal, of every path with what becomes of it.
        digest: String,
    },
    /// Taking changes over did not go through, and the workspace is as it was before.
    ChangesRolledBack {
        /// Why, for a person.
        reason: String,
    },
    /// What the session recorded of bodies and of its terminal is destroyed; written before its key is.
    PrivatePartsForgotten {
        /// Who wanted it.
        user: String,
        /// Why: `asked`, or the rule of retention, such as `older than 30d`.
        reason: String,
        /// Bytes of recorded bodies.
        bodies: u64,
        /// Bytes of the terminal's recording.
        recording: u64,
    },
    /// A visitor of the machine's server reads what is recorded; written before any of it is shown.
    LedgerRead {
        /// Who.
        user: String,
        /// By which command.
        command: String,
        /// Of which session; none where of all that they may see.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of_session: Option<SessionId>,
    },
    /// A secret is kept from now on, or kept otherwise; written before it is.
    SecretSet {
        /// Who wants it.
        user: String,
        /// Its name.
        secret: String,
        /// Where it may go.
        sites: Vec<String>,
        /// Where its value is found; `store:` is omni's own store.
        from: Vec<String>,
    },
    /// A secret is kept no more; written before it goes.
    SecretRemoved {
        /// Who wants it.
        user: String,
        /// Its name.
        secret: String,
    },
    /// The store of secrets is guarded otherwise; written before it is.
    SecretStoreGuarded {
        /// Who wants it.
        user: String,
        /// Whether by a passphrase.
        passphrase: bool,
        /// Whether by the desktop's secret service; by a file where neither.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        desktop: bool,
    },
    /// Sessions that begin from now on are charged by another table; written before it is there.
    PricesChanged {
        /// Who wants it.
        user: String,
        /// The table's version.
        price_table: String,
        /// SHA-256 of its file, in hexadecimal; none for the table that ships with omni.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// What the overlay still kept is given up; written before it is removed.
    ChangesDiscarded {
        /// How many paths still differed from the workspace; none where that could not be told.
        changes: Option<u64>,
    },
}
