//! The line between proxy and session: one socket of packets (unix(7), SOCK_SEQPACKET), on which either asks and the other
//! answers, by numbers. The proxy has no files and no terminal; what takes a database or a person is done at the other end.
//!
//! Where the session is gone, no answer comes and none ever will: whoever asked is told so, and that is a denial.

use super::Shared;
use super::amend::{self, Amended, Amendment, Replacement};
use super::live::{Happened, Live};
use crate::meter::Wish;
use crate::model::{NanoUsd, RequestNumber};
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Longest packet.
pub const PACKET_BYTES_MAX: usize = 48 * 1024;
/// Most packets that wait to be sent. Who finds no room for a question is denied; a settlement is found in the journal.
const WAITING_MAX: usize = 4096;

/// How much of a model's name is told.
const MODEL_CHARACTERS_MAX: usize = 256;

/// What the session says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSession {
    /// A rule is to count from now on.
    Amend(Amendment),
    /// Files are to count in place of those that do.
    Replace(Box<Replacement>),
    /// The answer to what was asked.
    Answer {
        /// The number of what was asked.
        number: u64,
        /// The answer.
        answer: Answer,
    },
}

/// What the proxy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromProxy {
    /// What became of a rule.
    Amended(Amended),
    /// Something is asked.
    Ask {
        /// Its number, which the answer bears.
        number: u64,
        /// What.
        ask: Ask,
    },
    /// Nobody waits for the answer any more.
    Withdraw {
        /// The number of what was asked.
        number: u64,
    },
    /// What has happened so far, where somebody watches.
    Live(Happened),
    /// A call that money was held for is over.
    Settle {
        /// The call.
        request: RequestNumber,
        /// What it came to.
        cost: NanoUsd,
    },
}

/// What the proxy asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// To set money aside.
    Reserve {
        /// For which request.
        request: RequestNumber,
        /// What it can cost at most.
        full: NanoUsd,
        /// With how little it can be made.
        least: NanoUsd,
        /// For which model.
        model: String,
        /// Whether that model's price is known.
        priced: bool,
        /// The first call of the turn that it belongs to; 0 where no policy asks.
        turn: RequestNumber,
    },
    /// To ask a person.
    Person(Box<Inquiry>),
}

/// What a person is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    /// The request that waits.
    pub request: RequestNumber,
    /// Its method and URL.
    pub what: String,
    /// Why somebody must say.
    pub why: String,
    /// The strictest rule that asks, where one does.
    pub rule: Option<String>,
    /// Every rule that asks, in its canonical form.
    pub asked_by: Vec<String>,
    /// The narrowest rules that together are about such requests; none where there are none.
    pub covers: Vec<String>,
    /// The beginning of its body, or what it changes.
    pub preview: String,
    /// SHA-256 of the request, in hexadecimal.
    pub digest: String,
    /// What about a policy on money asks, where that is why.
    pub doubt: Option<Doubt>,
}

/// What about a policy on money a person must say, by the policy's place in the session's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Its soft limit is reached.
    SoftLimit(usize),
    /// It wants to hear of models without a price.
    UnknownModel(usize),
    /// Its hard limit is reached, and it pauses what does not fit.
    HardLimit(usize),
}

impl Doubt {
    /// The policy's place.
    #[must_use]
    pub fn policy(self) -> usize {
        match self {
            Self::SoftLimit(index) | Self::UnknownModel(index) | Self::HardLimit(index) => index,
        }
    }
}

/// What the session answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// So much is set aside.
    Held(NanoUsd),
    /// What is left is held by other calls: ask again.
    Busy(String),
    /// A person must say, for this reason.
    AskFirst {
        /// What about which policy.
        doubt: Doubt,
        /// Why.
        why: String,
    },
    /// A soft limit is reached: the call is to go to this model, and where it cannot, a person must say.
    Downgrade {
        /// The place of the policy in the session's list.
        policy: usize,
        /// What it is called.
        name: String,
        /// The model.
        model: String,
        /// Why.
        why: String,
    },
    /// A person said yes.
    Consented {
        /// Who.
        by: String,
        /// Whether it holds for the rest of the session.
        lasting: bool,
    },
    /// No, and why.
    Denied(String),
}

/// The proxy's end of the line.
pub(super) struct Line {
    outgoing: mpsc::Sender<FromProxy>,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>,
    next: AtomicU64,
    cut: AtomicBool,
}

/// The session is gone or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut;

impl Line {
    /// A line, and what is to be sent on it.
    pub(super) fn new() -> (Self, mpsc::Receiver<FromProxy>) {
        let (outgoing, queue) = mpsc::channel(WAITING_MAX);
        let (next, cut) = (AtomicU64::new(1), AtomicBool::new(false));
        (Self { outgoing, waiting: Mutex::default(), next, cut }, queue)
    }

    /// Asks, and waits for the answer. Whoever stops waiting withdraws what it asked.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, Cut> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answers, answer) = oneshot::channel();
        self.waiting().insert(number, answers);
        let mut asked = Asked { line: self, number, open: true };
        if self.cut.load(Ordering::Acquire) || self.outgoing.send(FromProxy::Ask { number, ask }).await.is_err() {
            asked.open = false;
            self.waiting().remove(&number);
            return Err(Cut);
        }
        let answer = answer.await.map_err(|_| Cut);
        asked.open = false;
        answer
    }

    /// Says that a call is over. Where there is no room to say it, the session reads it in the journal.
    pub(super) fn settle(&self, request: RequestNumber, cost: NanoUsd) {
        let _ = self.outgoing.try_send(FromProxy::Settle { request, cost });
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hang_up(&self) {
        self.cut.store(true, Ordering::Release);
        self.waiting().clear();
    }
}

/// Something that was asked and not answered yet.
struct Asked<'a> {
    line: &'a Line,
    number: u64,
    open: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.open {
            self.line.waiting().remove(&self.number);
            let _ = self.line.outgoing.try_send(FromProxy::Withdraw { number: self.number });
        }
    }
}

/// Carries packets both ways until the session is gone.
pub(super) async fn serve(
    shared: Arc<Shared>,
    socket: UnixStream,
    mut queue: mpsc::Receiver<FromProxy>,
    mut live: Option<Live>,
) {
    let mut added = 0;
    loop {
        let said = tokio::select! {
            said = socket.async_io(Interest::READABLE, || receive(socket.as_fd())) => said,
            Some(word) = queue.recv() => match send(&socket, &word).await {
                Ok(()) => continue,
                Err(_) => break,
            },
            happened = Live::next(live.as_mut()) => match send(&socket, &FromProxy::Live(happened)).await {
                Ok(()) => continue,
                Err(_) => break,
            },
        };
        match said {
            Ok(Some(_)) if !shared.quiet.begin() => break,
            Ok(Some(FromSession::Amend(amendment))) => {
                let amended = amend::take(&shared, amendment, &mut added).await;
                if send(&socket, &FromProxy::Amended(amended)).await.is_err() {
                    break;
                }
            }
            Ok(Some(FromSession::Replace(replacement))) => {
                let amended = amend::replace(&shared, *replacement).await;
                if send(&socket, &FromProxy::Amended(amended)).await.is_err() {
                    break;
                }
            }
            Ok(Some(FromSession::Answer { number, answer })) => {
                // Nobody may wait for it any more.
                let _ = shared.books.line.waiting().remove(&number).map(|waits| waits.send(answer));
            }
            Ok(None) | Err(_) => break,
        }
    }
    queue.close();
    shared.books.line.hang_up();
}

fn receive(socket: impl AsFd) -> io::Result<Option<FromSession>> {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    let (count, whole) = rustix::net::recv(socket, &mut packet, RecvFlags::TRUNC)?;
    match packet.get(..count) {
        Some([]) | None => Ok(None),
        Some(_) if whole > count => Err(io::Error::from(io::ErrorKind::InvalidData)),
        Some(message) => Ok(Some(serde_json::from_slice(message)?)),
    }
}

async fn send(socket: &UnixStream, word: &FromProxy) -> io::Result<()> {
    let packet = serde_json::to_vec(word)?;
    let send = || Ok(rustix::net::send(socket, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?);
    socket.async_io(Interest::WRITABLE, send).await.map(drop)
}

/// The socket as this room waits on it.
pub(super) fn open(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

impl Ask {
    /// To set so much aside for a call of this model, in the turn that began with that call.
    pub(super) fn reserve(
        request: RequestNumber,
        wish: &Wish,
        (model, priced): (&str, bool),
        turn: RequestNumber,
    ) -> Self {
        let model = model.chars().take(MODEL_CHARACTERS_MAX).collect();
        Self::Reserve { request, full: wish.full, least: wish.least, model, priced, turn }
    }
}
