//! A ledger like that of a busy team: sessions of many users over a year, each with requests that are let through, refused
//! and metered. Nothing in it is random: the same number makes the same ledger.

use anyhow::Context;
use omni::model::{
    BodyEnd, EndReason, Event, ExitStatus, Host, Isolation, NanoUsd, Port, Pricing, RequestLine, RequestNumber, Scheme,
    SessionId, Tier, Timestamp, Usage, Writer,
};
use omni::store::{Home, Journal, Recorder, Sqlite, Store};
use std::time::{Duration, Instant};

/// Events of one session, more or less.
const SESSION_EVENTS: u64 = 2_000;
/// Microseconds of a year, over which the sessions are spread.
const YEAR: u64 = 365 * 86_400 * 1_000_000;
/// When the year begins: 2026-01-01.
const START: u64 = 1_767_225_600_000_000;
const HOSTS: u64 = 500;
const USERS: u64 = 50;
/// Records that are written at once.
const PIECE: u64 = 200;
const WORDS: [&str; 16] = [
    "main", "fix", "proxy", "ledger", "issue", "pull", "review", "build", "cache", "token", "upload", "report", "team",
    "archive", "release", "index",
];
/// A host that is asked once in a hundred thousand events.
pub const RARE_HOST: &str = "rare.example.org";
const RARE_EVERY: u64 = 100_000;
/// A secret that few requests carry.
pub const RARE_SECRET: &str = "deploy-key";

/// Numbers that look like any (Knuth's MMIX).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn word(&mut self) -> &'static str {
        WORDS[usize::try_from(self.below(WORDS.len() as u64)).unwrap_or(0)]
    }

    /// A host, of which few are asked often.
    fn host(&mut self) -> String {
        let place = self.below(1_000);
        let number = place * place * place * HOSTS / 1_000_000_000;
        format!("host-{number}.svc-{}.example.com", number % 7)
    }
}

/// Makes about so many events in a home, folds them and brings their journals to rest.
pub fn make(home: &Home, events: u64) -> anyhow::Result<()> {
    let sessions = events.div_ceil(SESSION_EVENTS);
    let each = events / sessions;
    let mut store = Sqlite::open(home)?;
    let begun = Instant::now();
    let (mut folding, mut resting) = (Duration::ZERO, Duration::ZERO);
    for number in 0..sessions {
        let session = record(home, number, START + YEAR / sessions * number, each)?;
        let started = Instant::now();
        store.fold(&session)?;
        folding += started.elapsed();
        let started = Instant::now();
        store.bring_to_rest(&session)?;
        resting += started.elapsed();
        if number % 500 == 499 {
            eprintln!("{} of {sessions} sessions", number + 1);
        }
    }
    let rate = |spent: Duration| (sessions * each) as f64 / spent.as_secs_f64();
    println!("fold, log and index: {} events in {folding:.2?}, {:.0}/s", sessions * each, rate(folding));
    println!("brought to rest: {resting:.2?}, {:.0}/s; made as a whole in {:.1?}", rate(resting), begun.elapsed());
    Ok(())
}

fn id(number: u64) -> SessionId {
    let [a, b, c, d, e, f, g, h] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    SessionId::from_entropy([7, a, b, c, d, e, f, g, h, 7])
}

/// Records one session.
pub fn record(home: &Home, number: u64, start: u64, events: u64) -> anyhow::Result<SessionId> {
    let session = id(number);
    let mut numbers = Numbers::new(number + 1);
    let mut at = start;
    let mut supervisor = Journal::create(home, &session, Writer::Session)?;
    let mut proxy = Journal::create(home, &session, Writer::Proxy)?;
    supervisor.record(time(at), &started(&session, number))?;
    let (mut written, mut request) = (0, 0);
    while written + 2 < events {
        request += 1;
        let all = request_events(&mut numbers, request, number * events + written)?;
        written += all.len() as u64;
        for event in &all {
            at += 1_000 + numbers.below(2_000_000);
            proxy.defer(time(at), event)?;
        }
        if request.is_multiple_of(PIECE) {
            proxy.settle()?;
        }
    }
    proxy.settle()?;
    let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
    supervisor.record(time(at + 1), &ended)?;
    Ok(session)
}

fn time(at: u64) -> Timestamp {
    Timestamp(at.cast_signed())
}

fn started(session: &SessionId, number: u64) -> Event {
    Event::SessionStarted {
        session: session.clone(),
        name: None,
        user: format!("user{}", number % USERS),
        team: None,
        project: None,
        tags: std::collections::BTreeMap::new(),
        profile: "claude-code".to_owned(),
        argv: vec!["claude".to_owned(), "-p".to_owned(), "mend the build".to_owned()],
        workspace: "/home/user/site".to_owned(),
        policy_hash: "ab".repeat(32),
        isolation: Isolation {
            tier: Tier::Full,
            namespaces: ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"].map(str::to_owned).to_vec(),
            landlock_abi: 6,
            seccomp: true,
            network: "anyip+tproxy".to_owned(),
            gaps: Vec::new(),
            limits: Vec::new(),
        },
        omni_version: "0.1.0".to_owned(),
        pid: 4_711,
        pid_started_ticks: number,
    }
}

/// One request: what was decided, and what became of it.
pub fn request_events(numbers: &mut Numbers, request: u64, place: u64) -> anyhow::Result<Vec<Event>> {
    let rare = place % RARE_EVERY < 2;
    let host = if rare { RARE_HOST.to_owned() } else { numbers.host() };
    let request = RequestNumber(request);
    let line = RequestLine {
        method: if numbers.below(3) == 0 { "POST" } else { "GET" }.to_owned(),
        scheme: Scheme::Https,
        host: Host::parse(&host).context("a host")?,
        port: Port(443),
        path: format!("/v1/{}/{}/{}", numbers.word(), numbers.word(), numbers.below(10_000)),
    };
    if numbers.below(100) < 3 && !rare {
        let reason = format!("no rule allows {} {}", line.method, host);
        return Ok(vec![Event::RequestDenied {
            request,
            line,
            rule: None,
            rule_from: None,
            act: None,
            reason,
            also: Vec::new(),
        }]);
    }
    let secret = if rare { Some(RARE_SECRET) } else { (numbers.below(4) == 0).then_some("github") };
    let mut events = vec![Event::RequestAllowed {
        request,
        rule: format!("* *.example.com/v1/{}/**", numbers.word()),
        rule_from: Some("profile claude-code:12".to_owned()),
        act: None,
        secrets: secret.into_iter().map(str::to_owned).collect(),
        line,
        also: Vec::new(),
    }];
    events.push(Event::RequestCompleted {
        request,
        status: 200,
        request_bytes: numbers.below(20_000),
        response_bytes: numbers.below(200_000),
        duration_ms: numbers.below(3_000),
        end: BodyEnd::Complete,
    });
    if numbers.below(5) == 0 {
        let cost = if rare { 9_000_000_000 } else { numbers.below(200_000_000).cast_signed() };
        let usage = Usage { input: numbers.below(20_000), output: numbers.below(2_000), ..Usage::default() };
        events.push(Event::UsageMetered {
            request,
            dialect: "anthropic-messages".to_owned(),
            vendor: "anthropic".to_owned(),
            model: "claude-sonnet-4-5".to_owned(),
            usage,
            service: String::new(),
            cost: NanoUsd(cost),
            pricing: Pricing::Exact,
            price_table: "2026-11-26".to_owned(),
        });
    }
    Ok(events)
}
