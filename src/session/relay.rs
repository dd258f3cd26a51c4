//! While the harness runs: keys and output, signals, the clock, and word from inside, in one `poll`.

use super::asking::Asking;
use super::clock;
use super::cost_title;
use super::cover_watch::CoverWatch;
use super::desk::{Desk, News, Reply, tell};
use super::desktop::Desktop;
use super::disk_watch::DiskWatch;
use super::error::SessionError;
use super::late_look::{LateLook, Looked};
use super::leave;
use super::policy_change::Policies;
use super::proxy_process::{Heard, ProxyProcess};
use super::screen::{Happening, Said, Screen, Source};
use super::signals::Signals;
use crate::model::{EndReason, Event, ExitStatus};
use crate::proxy::{Amended, FromProxy, FromSession};
use crate::store::{Journal, Recorder};
use crate::supervisor::{Notice, Order, Rest, Sandbox, SupervisorError};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Most words of the proxy's that are heard before anything else is attended to.
const WORDS_MAX: usize = 128;
/// How often to look whether a job in the background has come to the foreground: no signal says so.
const FOREGROUND_LOOK: Duration = Duration::from_millis(200);
/// What a harness gets between SIGTERM and the end when its time is up.
const GRACE: Duration = Duration::from_secs(2);

/// How the harness ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub reason: EndReason,
    /// The harness's own end, when it came to one.
    pub status: Option<ExitStatus>,
    /// Why it never started: the error's number and text.
    pub not_started: Option<(i32, String)>,
}

/// Everything the relay waits for.
pub(super) struct Relay<'a> {
    sandbox: &'a Sandbox,
    proxy: &'a ProxyProcess,
    signals: &'a Signals,
    screen: &'a mut Screen,
    journal: &'a mut Journal,
    deadline: Option<Instant>,
    disk: Option<&'a mut DiskWatch>,
    /// Says how to come back, where the session can be left at the terminal that it was started at.
    farewell: Option<&'a dyn Fn()>,
    /// Where more is looked for that is to be hidden, until it was.
    late: Option<LateLook>,
    /// What is hidden, and may be replaced outside.
    covers: Option<CoverWatch>,
    rest: Rest,
    /// Why the harness was asked to end, if it was.
    ending: Option<EndReason>,
    /// Whether the proxy still says something.
    heard: bool,
    desk: Desk<'a>,
    /// How people are asked.
    asking: Asking,
    desktop: Desktop,
    /// The policy files as they count.
    policies: Policies<'a>,
    /// The questions that whoever sits at the terminal left for later.
    later: BTreeSet<u64>,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        sandbox: &'a Sandbox,
        proxy: &'a ProxyProcess,
        signals: &'a Signals,
        screen: &'a mut Screen,
        journal: &'a mut Journal,
        timeout: Option<Duration>,
        desk: Desk<'a>,
    ) -> Self {
        // A time that no clock reaches is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let rest = Rest::default();
        Self {
            sandbox,
            proxy,
            signals,
            screen,
            journal,
            deadline,
            disk: None,
            farewell: None,
            late: None,
            covers: None,
            rest,
            ending: None,
            heard: true,
            asking: desk.asking(),
            policies: Policies::of(desk.prepared()),
            desktop: if desk.asking().silent { Desktop::none() } else { Desktop::from_env() },
            desk,
            later: BTreeSet::new(),
        }
    }

    /// Lets whoever sits at the user's terminal leave the session running, if there is a way.
    pub(super) fn leavable(mut self, farewell: Option<&'a dyn Fn()>) -> Self {
        if farewell.is_some() {
            self.screen.make_leavable();
        }
        self.farewell = farewell;
        self
    }

    /// Looks after the layer's room on the disk, too.
    pub(super) fn watching(self, disk: Option<&'a mut DiskWatch>) -> Self {
        Self { disk, ..self }
    }

    /// Hears of what is hidden meanwhile, too, and of what is hidden and replaced outside.
    pub(super) fn looking_on(self, late: Option<LateLook>, covers: Option<CoverWatch>) -> Self {
        Self { late, covers, ..self }
    }

    /// Runs until the harness ended or has to be ended.
    pub(super) fn run(&mut self) -> Result<Ended, SessionError> {
        if !self.desk.notices.is_empty() {
            // What is known from the start is told then.
            self.attend_desk();
        }
        loop {
            self.screen.take_terminal();
            let ready = self.wait().map_err(SupervisorError::Wire)?;
            for (source, ready) in ready.sources {
                if let Some(happening) = self.screen.serve(source, ready) {
                    self.attend(happening);
                }
            }
            if ready.signal {
                self.handle_signals();
            }
            // First, since the end ends everything else.
            if ready.searched {
                self.hear_of_the_look()?;
            }
            // At once, and before it is heard that the harness ended: what it could read must be told of.
            if ready.replaced {
                self.cover_anew()?;
            }
            if ready.notice
                && let Some(ended) = self.hear()?
            {
                return Ok(ended);
            }
            if ready.line {
                self.hear_proxy();
            }
            self.attend_desk();
            if ready.no_memory {
                return Ok(Ended { reason: EndReason::MemoryLimit, status: None, not_started: None });
            }
            if ready.proxy_gone {
                return Ok(Ended { reason: EndReason::ProxyLost, status: None, not_started: None });
            }
            if self.disk.as_mut().is_some_and(|disk| disk.is_full()) {
                return Ok(Ended { reason: EndReason::DiskLimit, status: None, not_started: None });
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
                && let Some(ended) = self.time_is_up()
            {
                return Ok(ended);
            }
        }
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let (notices, proxy, signals) = (self.sandbox.as_fd(), self.proxy.as_fd(), self.signals.as_fd());
        let line = self.proxy.line();
        let room = if self.desk.has_words() { PollFlags::OUT } else { PollFlags::empty() };
        let mut waits = vec![
            PollFd::new(&notices, PollFlags::IN),
            PollFd::new(&proxy, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(&line, if self.heard { PollFlags::IN | room } else { PollFlags::empty() }),
        ];
        let alarm = self.sandbox.alarm();
        waits.extend(alarm.iter().map(|alarm| PollFd::new(alarm, PollFlags::IN)));
        let searched = waits.len();
        waits.extend(self.late.iter().map(|late| PollFd::from_borrowed_fd(late.as_fd(), PollFlags::IN)));
        let replaced = waits.len();
        waits.extend(self.covers.iter().map(|covers| PollFd::from_borrowed_fd(covers.as_fd(), PollFlags::IN)));
        let own = waits.len();
        let sources = self.screen.sources();
        waits.extend(sources.iter().map(|(_, fd, flags)| PollFd::new(fd, *flags)));
        let moments = self
            .deadline
            .into_iter()
            .chain(self.disk.as_ref().map(|disk| disk.next()))
            .chain(self.desk.due())
            .chain(self.screen.due());
        let left = moments.min().map(|moment| moment.saturating_duration_since(Instant::now()));
        let look = self.screen.awaits_terminal().then_some(FOREGROUND_LOOK);
        let wait = left.into_iter().chain(look).chain(self.rest.due()).min();
        let timeout = wait.and_then(clock::timespec);
        match poll(&mut waits, timeout.as_ref()) {
            // A wait that was cut short for something else was none.
            Ok(0) if wait != self.rest.due() => {}
            Ok(events) => self.rest.pass(events > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = |index: usize| waits.get(index).map_or(PollFlags::empty(), PollFd::revents);
        Ok(Ready {
            notice: !happened(0).is_empty(),
            proxy_gone: !happened(1).is_empty(),
            signal: !happened(2).is_empty(),
            line: self.heard && happened(3).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            no_memory: alarm.is_some() && !happened(4).is_empty(),
            searched: self.late.is_some() && !happened(searched).is_empty(),
            replaced: self.covers.is_some() && !happened(replaced).is_empty(),
            sources: (own..)
                .zip(&sources)
                .map(|(index, (source, ..))| (*source, happened(index)))
                .filter(|(_, ready)| !ready.is_empty())
                .collect(),
        })
    }

    fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::SIGWINCH => self.screen.resize(),
                Signal::SIGTSTP => self.stop(),
                Signal::SIGCONT => {}
                other => self.order(&Order::Signal(other as i32)),
            }
        }
    }

    /// Says something inside. When nobody is there to hear it, the harness's end is on its way here.
    fn order(&self, order: &Order) {
        let _ = self.sandbox.order(order);
    }

    /// Stops the harness, and this job with it.
    fn stop(&mut self) {
        self.order(&Order::Signal(libc::SIGSTOP));
        // With a terminal, word comes that it stopped; this job follows then, as when it stops by itself.
        if !self.screen.is_there() {
            self.suspend();
            self.order(&Order::Signal(libc::SIGCONT));
        }
    }

    /// Stops this job, as Ctrl-Z would have without us; returns when it goes on.
    fn suspend(&mut self) {
        // Our own group stops as a whole, as the shell expects of a job. The call returns once we are continued.
        self.screen.leave(|| {
            let _ = nix::sys::signal::killpg(nix::unistd::getpgrp(), Signal::SIGSTOP);
        });
    }

    /// Covers what took the place of what is hidden.
    fn cover_anew(&mut self) -> Result<(), SessionError> {
        let Some(covers) = &mut self.covers else { return Ok(()) };
        let replaced = covers.attend()?;
        self.tell_replaced(replaced)
    }

    fn tell_replaced(&mut self, paths: Vec<PathBuf>) -> Result<(), SessionError> {
        for path in paths {
            let path = path.display().to_string();
            self.journal.record(clock::now(), &Event::HiddenFileReplaced { path })?;
        }
        Ok(())
    }

    /// What was found late is watched as what was found at the start is.
    fn hear_of_the_look(&mut self) -> Result<(), SessionError> {
        let Some(late) = &mut self.late else { return Ok(()) };
        let hidden = match late.hear() {
            Looked::Hidden(hidden) => hidden,
            Looked::Over(event) => {
                self.late = None;
                return Ok(self.journal.record(clock::now(), &event)?);
            }
        };
        let Some(covers) = &mut self.covers else { return Ok(()) };
        let replaced = covers.add(hidden)?;
        if replaced.is_none() {
            late.leave_out();
        }
        self.tell_replaced(replaced.unwrap_or_default())
    }

    /// Word from inside; an end if it is one.
    fn hear(&mut self) -> Result<Option<Ended>, SessionError> {
        let reason = self.ending.unwrap_or(EndReason::Finished);
        match self.sandbox.notice()? {
            Some((Notice::Exited(status), _)) => Ok(Some(Ended { reason, status: Some(status), not_started: None })),
            Some((Notice::Stopped, _)) => {
                if self.screen.is_there() {
                    // Where no shell has this as a job, nobody could bring it to the foreground again.
                    if self.screen.is_job() {
                        self.suspend();
                    }
                    self.order(&Order::Continue);
                }
                Ok(None)
            }
            Some((Notice::NotExecuted(number), _)) => {
                let text = io::Error::from_raw_os_error(number).to_string();
                let not_started = Some((number, text));
                Ok(Some(Ended { reason: EndReason::NotStarted, status: None, not_started }))
            }
            Some((Notice::Failed { step, error }, _)) => Err(SupervisorError::Step { step, error }.into()),
            Some((Notice::FileRefused { act, path, rule }, _)) => {
                self.journal.record(clock::now(), &Event::FileRefused { act, path, rule })?;
                Ok(None)
            }
            Some((Notice::FileRefusalsUntold(count), _)) => {
                self.journal.record(clock::now(), &Event::FileRefusalsUntold { count })?;
                Ok(None)
            }
            Some((Notice::Outlives, _)) => self.part().map(|()| None),
            Some((Notice::Built { .. } | Notice::Listening, _)) => Ok(None),
            None => Ok(Some(Ended { reason: EndReason::Interrupted, status: None, not_started: None })),
        }
    }

    /// Goes on without the user's terminal, in another process.
    fn part(&mut self) -> Result<(), SessionError> {
        let Some(farewell) = self.farewell else { return Ok(()) };
        self.screen.give_back();
        self.desk.let_go();
        if leave::part(farewell, self.journal)? {
            self.screen.forget_user();
            // No key comes from there any more.
            self.farewell = None;
        }
        // Else the terminal is taken again.
        Ok(())
    }

    /// Hears what the proxy has said by now, and does what it asks.
    fn hear_proxy(&mut self) {
        for _ in 0..WORDS_MAX {
            match self.proxy.hear() {
                Heard::Word(FromProxy::Amended(amended)) => self.screen.answer(amended),
                Heard::Word(FromProxy::Ask { number, ask }) => self.desk.ask(number, ask, self.journal),
                Heard::Word(FromProxy::Withdraw { number }) => self.desk.withdraw(number, self.journal),
                Heard::Word(FromProxy::Live(happened)) => {
                    self.screen.set_title(&cost_title::line(&happened, self.desk.held()));
                }
                Heard::Word(FromProxy::Settle { request, cost }) => self.desk.settle(request, cost),
                Heard::Nothing => break,
                Heard::End => {
                    self.heard = false;
                    break;
                }
            }
        }
        self.desk.turn_over(self.journal);
    }

    /// Sends and tells what the desk has to say.
    fn attend_desk(&mut self) {
        self.desk.expire(self.journal);
        self.desk.flush(self.proxy);
        let drawn = !self.asking.line && self.screen.can_raise();
        for News { line, discreet } in std::mem::take(&mut self.desk.news) {
            self.desktop.notify("A session of omni's asks", &discreet);
            if !drawn {
                self.desk.notices.push(line);
            }
        }
        self.show_question(drawn);
        // The last row is the question's while one is up.
        if self.screen.raised().is_none() {
            for notice in std::mem::take(&mut self.desk.notices) {
                match self.screen.is_there() {
                    true => self.screen.notify(&format!("omni: {notice}")),
                    false => tell(&notice),
                }
            }
        }
    }

    /// Draws the first question that waits over the terminal, and takes away one that waits no more.
    fn show_question(&mut self, drawn: bool) {
        let foremost = self.desk.foremost(&self.later).filter(|_| drawn);
        match (foremost, self.screen.raised()) {
            (None, None) => {}
            (None, Some(_)) => self.screen.lower(),
            (Some(asked), Some(up)) if asked.approval.question == up => self.screen.tick(),
            (Some(asked), _) => {
                let question = asked.approval.question;
                if !self.screen.raise(asked) {
                    self.later.insert(question);
                    self.desk
                        .notices
                        .push("a question waits, and the terminal has no room for it: omni approvals".to_owned());
                }
            }
        }
    }

    /// Does what a person at the terminal said to a question.
    fn take_answer(&mut self, said: Said) {
        let Said { question, reply } = said;
        match reply {
            None => drop(self.later.insert(question)),
            Some(reply) => {
                let user = self.desk.user().to_owned();
                if let Err(why) = self.desk.answer(question, &reply, &user, self.journal) {
                    self.desk.notices.push(why);
                }
            }
        }
    }

    /// First a polite signal, then the end.
    fn time_is_up(&mut self) -> Option<Ended> {
        if let Some(reason) = self.ending {
            return Some(Ended { reason, status: None, not_started: None });
        }
        self.ask_to_end(EndReason::Timeout, GRACE);
        None
    }

    /// Asks the harness to end, and looks again when it had this long.
    fn ask_to_end(&mut self, reason: EndReason, grace: Duration) {
        self.ending.get_or_insert(reason);
        let now = Instant::now();
        let pending = self.deadline.filter(|deadline| *deadline > now);
        self.deadline = pending.into_iter().chain(now.checked_add(grace)).min();
        self.order(&Order::Signal(libc::SIGTERM));
        // What is stopped hears nothing else.
        self.order(&Order::Signal(libc::SIGCONT));
    }

    /// Does and records what somebody from elsewhere wanted.
    fn attend(&mut self, happening: Happening) {
        let fact = match happening {
            Happening::Fact(fact) => *fact,
            Happening::Leave => {
                self.order(&Order::Outlive);
                return;
            }
            Happening::Said(said) => return self.take_answer(said),
            Happening::Replace(file) => {
                let number = file.viewer;
                let said = self.policies.replaced(file).and_then(|replacement| {
                    let said = self.proxy.say(&FromSession::Replace(Box::new(replacement)));
                    said.map_err(|_| {
                        "the session is ending, or its policy is too long to change while it runs".to_owned()
                    })
                });
                if let Err(why) = said {
                    self.screen.answer(Amended { number, refused: Some(why) });
                }
                return;
            }
            Happening::Stop { user, grace } => {
                self.ask_to_end(EndReason::Stopped, grace);
                Event::StopRequested { user }
            }
            Happening::Amend(amendment) => {
                let number = amendment.number;
                // The proxy records it and answers, since it lets it count.
                if self.proxy.say(&FromSession::Amend(amendment)).is_err() {
                    let refused = Some("the session is ending, or busy with other rules".to_owned());
                    self.screen.answer(Amended { number, refused });
                }
                return;
            }
            Happening::Answer { viewer, user, question, answer, reason } => {
                let refused = match Reply::named(&answer, reason) {
                    Some(reply) => self.desk.answer(question, &reply, &user, self.journal).err(),
                    None => Some(format!("`{answer}` is no answer")),
                };
                self.screen.answer(Amended { number: viewer, refused });
                if !self.desk.is_asking() && self.screen.raised().is_none() {
                    self.screen.redraw();
                }
                return;
            }
        };
        // A journal that fails once fails for good, and the session's end says so.
        let _ = self.journal.record(clock::now(), &fact);
    }
}

struct Ready {
    notice: bool,
    proxy_gone: bool,
    signal: bool,
    line: bool,
    no_memory: bool,
    searched: bool,
    replaced: bool,
    sources: Vec<(Source, PollFlags)>,
}
