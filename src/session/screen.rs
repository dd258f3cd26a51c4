//! The harness's terminal shown on the user's: output one way, through the filter, keys the other.
//!
//! It knows nothing of how the harness fares, and no failure of a terminal is one of the session's: when either terminal is
//! gone, so is the other. Nothing here waits but [`Screen::drain`] and [`Screen::leave`], and those not for ever.

use super::audience::{Act, Audience, Showing};
use super::desk::{Asked, Reply};
use super::filter::{Filter, Rules};
use super::leave_key::LeaveKey;
use super::panel::{Outcome, Panel};
use super::picture::Picture;
use super::policy_change::ChangedFile;
use super::raised::{Below, Raised};
use super::recording::Recording;
use super::terminal::{DEFAULT_SIZE, UserTerminal};
use crate::model::{Event, ExitStatus, printable};
use crate::policy::{Terminal, TerminalFilter};
use crate::proxy::{Amended, Amendment};
use rustix::event::PollFlags;
use rustix::termios::Winsize;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes of output moved at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of keys read at once.
const KEYS_BYTES: usize = 4096;
/// Keys that may wait for a harness that does not read.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// Output that waits for the user's terminal before the harness has to wait too.
const BACKLOG_BYTES_MAX: usize = 64 * 1024;
/// Pieces of output that may follow a stop before the user's terminal is given back: what was stopped may have companions
/// that write on.
const LAST_PIECES_MAX: usize = 64;
/// How long the user's terminal may take nothing at the end before the rest is given up.
const STUCK_MAX: Duration = Duration::from_secs(2);

/// Something that a screen waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The harness's terminal.
    Harness,
    /// The user's keys.
    Keys,
    /// Room for output in the user's terminal.
    Output,
    /// Somebody who wants to look, or to say something.
    Door,
    /// Somebody who came in.
    Viewer(u32),
}

/// What others than the terminals' two ends must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A fact for the record.
    Fact(Box<Event>),
    /// Somebody wants the session's end; the harness gets this long.
    Stop {
        /// Who.
        user: String,
        /// How long.
        grace: Duration,
    },
    /// Somebody wants a rule to count.
    Amend(Amendment),
    /// Somebody changed a policy file.
    Replace(ChangedFile),
    /// Somebody answers a question.
    Answer {
        /// Who is to be told whether it counted.
        viewer: u32,
        /// Who.
        user: String,
        /// Which.
        question: u64,
        /// The answer, as a word.
        answer: String,
        /// Why, where it is no.
        reason: Option<String>,
    },
    /// Whoever sits at the user's terminal wants to leave the session running.
    Leave,
    /// Whoever sits there said something to the question that is drawn there.
    Said(Said),
}

/// What a person said to a question that was drawn over their terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The question.
    pub(super) question: u64,
    /// The answer; none where it is left for another time.
    pub(super) reply: Option<Reply>,
}

/// The two terminals, as far as there are any.
#[derive(Debug)]
pub struct Screen {
    /// The harness's.
    master: Option<OwnedFd>,
    user: UserTerminal,
    /// Whether no keys will come from there any more.
    keys_end: bool,
    /// Reads the keys by which the user leaves, where they can.
    leave_key: Option<LeaveKey>,
    /// Keys on their way.
    pending: Vec<u8>,
    /// Output on its way.
    backlog: Vec<u8>,
    filter: Filter,
    /// Whether the user's terminal was given back in the middle, with what the harness switched switched back.
    left: bool,
    /// Whether the user's terminal gets everything as it is.
    unfiltered: bool,
    /// Whether the user's terminal has a title of ours.
    titled: bool,
    recording: Option<Recording>,
    /// What the harness's terminal shows.
    picture: Option<Picture>,
    /// The question that is drawn over the user's terminal.
    raised: Option<Box<Raised>>,
    /// Who looks from elsewhere; none where this only mirrors another's screen.
    audience: Option<Audience>,
}

impl Screen {
    /// Takes the user's terminal over, if the harness has one of its own.
    pub(super) fn open(
        master: Option<OwnedFd>,
        user: UserTerminal,
        rules: &Terminal,
        recording: Option<Recording>,
        audience: Option<Audience>,
    ) -> io::Result<Self> {
        if let Some(master) = &master {
            rustix::io::ioctl_fionbio(master, true)?;
        }
        let picture =
            master.as_ref().filter(|_| audience.is_some()).map(|_| Picture::new(user.size().unwrap_or(DEFAULT_SIZE)));
        let mut screen = Self {
            master,
            keys_end: !user.has_keys(),
            user,
            leave_key: None,
            pending: Vec::new(),
            backlog: Vec::new(),
            filter: Filter::new(Rules::of(rules)),
            left: false,
            unfiltered: rules.filter == TerminalFilter::Off,
            titled: false,
            recording,
            picture,
            raised: None,
            audience,
        };
        screen.take_terminal();
        Ok(screen)
    }

    /// Shows a terminal as it is on the standard streams' one: what is behind it filters and records by itself.
    pub fn mirror(master: Option<OwnedFd>) -> io::Result<Self> {
        let rules = Terminal { filter: TerminalFilter::Off, ..Terminal::default() };
        Self::open(master, UserTerminal::standard()?, &rules, None, None)
    }

    /// Whether there is a terminal whose keys go to somebody else for now: this job is in the background.
    pub fn awaits_terminal(&self) -> bool {
        self.master.is_some() && !self.user.is_raw() && !self.keys_end
    }

    /// Takes the user's terminal as soon as this job is in its foreground. Before, that would stop the job.
    pub fn take_terminal(&mut self) {
        if self.awaits_terminal() && self.user.is_foreground() {
            // A terminal that cannot be set is as good as gone.
            self.keys_end = self.user.make_raw().is_err();
            if std::mem::take(&mut self.left) {
                self.backlog.extend(self.filter.modes().enter());
            }
            self.resize();
        }
    }

    /// Whether the harness has a terminal.
    pub fn is_there(&self) -> bool {
        self.master.is_some()
    }

    /// What to wait for, and how. A standard input that is not ours to read must not even be waited for: it is the
    /// harness's.
    pub fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut sources = Vec::new();
        let want = |flag: PollFlags, wanted: bool| if wanted { flag } else { PollFlags::empty() };
        if let Some(master) = &self.master {
            let room = self.backlog.len() < BACKLOG_BYTES_MAX;
            let flags = want(PollFlags::IN, room) | want(PollFlags::OUT, !self.pending.is_empty());
            // The end of a terminal is told even to whom nothing else is: again and again, if it is not looked at.
            if !flags.is_empty() {
                sources.push((Source::Harness, master.as_fd(), flags));
            }
            let keys = self.user.input().filter(|_| self.user.is_raw() && self.pending.len() < PENDING_BYTES_MAX);
            sources.extend(keys.map(|keys| (Source::Keys, keys, PollFlags::IN)));
        }
        let output = self.user.output().filter(|_| !self.backlog.is_empty());
        sources.extend(output.map(|output| (Source::Output, output, PollFlags::OUT)));
        let take_keys = self.pending.len() < PENDING_BYTES_MAX;
        sources.extend(self.audience.iter().flat_map(|audience| audience.sources(take_keys)));
        sources
    }

    /// Does what a source is ready for.
    pub fn serve(&mut self, source: Source, ready: PollFlags) -> Option<Happening> {
        let ended = PollFlags::HUP | PollFlags::ERR;
        match source {
            Source::Harness => {
                if ready.intersects(PollFlags::IN | ended) {
                    self.show();
                }
                if ready.contains(PollFlags::OUT) {
                    self.pass_keys();
                }
            }
            Source::Keys => {
                let happening = self.read_keys();
                self.pass_keys();
                return happening;
            }
            Source::Output => self.flush(),
            Source::Door => self.audience.iter_mut().for_each(Audience::admit),
            Source::Viewer(viewer) => {
                if ready.contains(PollFlags::OUT) {
                    self.catch_up(viewer);
                }
                if ready.intersects(PollFlags::IN | ended) {
                    return self.hear(viewer);
                }
            }
        }
        None
    }

    /// Sends a viewer what it has room for.
    fn catch_up(&mut self, viewer: u32) {
        if let Some(then) = self.audience.as_mut().and_then(|audience| audience.flush(viewer)) {
            let picture = [then.leave(), self.whole()].concat();
            self.audience.iter_mut().for_each(|audience| audience.catch_up(viewer, &picture));
        }
    }

    /// Does what a viewer wants.
    fn hear(&mut self, viewer: u32) -> Option<Happening> {
        match self.audience.as_mut()?.hear(viewer)? {
            Act::Typed(keys) => {
                self.pending.extend_from_slice(&keys);
                self.pass_keys();
                None
            }
            Act::Attach { viewer, .. } if self.master.is_none() => {
                self.audience.as_mut()?.refuse(viewer, "it has no terminal: its input and output are pipes or files");
                None
            }
            Act::Attach { viewer, user, read_only } => {
                // The size first, so that what is drawn is drawn for it.
                self.resize();
                let picture = self.whole();
                self.audience.as_mut()?.accept(viewer, Some(picture));
                Some(Happening::Fact(Box::new(Event::ViewerAttached { viewer, user, read_only })))
            }
            Act::Resized => {
                self.resize();
                None
            }
            Act::Left { viewer, attached } => {
                self.resize();
                attached.then(|| Happening::Fact(Box::new(Event::ViewerLeft { viewer })))
            }
            Act::Amend(amendment) => Some(Happening::Amend(amendment)),
            Act::Replace(file) => Some(Happening::Replace(file)),
            Act::Answer { viewer, user, question, answer, reason } => {
                Some(Happening::Answer { viewer, user, question, answer, reason })
            }
            Act::Stop { user, grace } => {
                self.audience.as_mut()?.accept(viewer, None);
                Some(Happening::Stop { user, grace })
            }
        }
    }

    /// Tells people at the user's terminal something, in its last row, with a bell; the harness's picture comes back with
    /// [`Screen::redraw`].
    pub(super) fn notify(&mut self, text: &str) {
        if !self.is_there() {
            return;
        }
        let columns = usize::from(self.user.size().unwrap_or(DEFAULT_SIZE).ws_col);
        let line: String = printable(text).chars().take(columns).collect();
        if self.user.output().is_some() && self.user.is_raw() {
            self.backlog.extend(format!("\x07\x1b7\x1b[999;1H\x1b[0;7m\x1b[2K{line}\x1b[0m\x1b8").into_bytes());
            self.flush();
        }
    }

    /// Gives the user's terminal a title, which is taken back as it is given back (xterm's window operations 22 and 23). Where
    /// everything passes as it is, this could stand in the middle of a sequence.
    pub(super) fn set_title(&mut self, text: &str) {
        if self.is_there() && self.user.output().is_some() && self.user.is_raw() && !self.unfiltered {
            let keep = if std::mem::replace(&mut self.titled, true) { "" } else { "\x1b[22;2t" };
            self.backlog.extend(format!("{keep}\x1b]2;{text}\x1b\\").into_bytes());
            self.flush();
        }
    }

    /// Draws the harness's screen as it is.
    pub(super) fn redraw(&mut self) {
        if self.user.output().is_some() && self.user.is_raw() && self.picture.is_some() {
            let whole = self.whole();
            self.backlog.extend(whole);
            self.flush();
        }
    }

    /// Answers whoever wanted a rule to count, or answered a question.
    pub fn answer(&mut self, Amended { number, refused }: Amended) {
        let Some(audience) = self.audience.as_mut() else { return };
        match refused {
            None => audience.accept(number, None),
            Some(why) => audience.refuse(number, &why),
        }
    }

    /// Everything that a terminal needs to show what the harness's does.
    fn whole(&self) -> Vec<u8> {
        let contents = self.picture.as_ref().map(Picture::contents).unwrap_or_default();
        [self.filter.modes().enter(), contents].concat()
    }

    /// Shows what the harness wrote; whether there may be more.
    fn show(&mut self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut chunk = vec![0; CHUNK_BYTES];
        match rustix::io::read(master, &mut chunk) {
            Err(rustix::io::Errno::INTR) => true,
            Err(rustix::io::Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                // The user's terminal is given back once it has the rest.
                self.master = None;
                self.lower();
                self.pending.clear();
                self.flush();
                false
            }
            Ok(count) => {
                self.spread(&chunk[..count]);
                true
            }
        }
    }

    /// Passes output on to whoever shows or keeps it.
    fn spread(&mut self, output: &[u8]) {
        let passed = self.filter.pass(output);
        if let Some(recording) = &mut self.recording {
            recording.output(&passed.unasked());
        }
        // One terminal alone is asked, or the harness would get two answers; where there is none, the picture answers.
        let user_answers = self.user.is_raw() && self.raised.is_none();
        let nobody_answers =
            !user_answers && !self.audience.as_ref().is_some_and(Audience::answers) && !self.unfiltered;
        if let Some(picture) = &mut self.picture {
            self.pending.extend(picture.draw(&passed, nobody_answers));
        }
        let how = Showing { unfiltered: self.unfiltered, asks: !user_answers, modes: self.filter.modes() };
        self.audience.iter_mut().for_each(|audience| audience.show(output, &passed, &how));
        if let Some(raised) = &mut self.raised {
            raised.hold(&passed.unasked());
        } else if self.user.output().is_some() {
            match self.unfiltered {
                true => self.backlog.extend_from_slice(output),
                false if user_answers => self.backlog.extend_from_slice(&passed.bytes),
                false => self.backlog.extend_from_slice(&passed.unasked()),
            }
            self.flush();
        }
        self.pass_keys();
    }

    /// Writes what the user's terminal takes.
    fn flush(&mut self) {
        while !self.backlog.is_empty() {
            match self.user.write(&self.backlog) {
                Ok(0) => return,
                Ok(count) => drop(self.backlog.drain(..count)),
                Err(_) => return self.hang_up(),
            }
        }
        if self.master.is_none() {
            self.user.restore();
        }
    }

    /// Writes everything, unless the user's terminal is stuck; whether all was written.
    fn flush_all(&mut self) -> bool {
        self.flush();
        while !self.backlog.is_empty() {
            if !self.user.wait_for_room(STUCK_MAX) {
                return false;
            }
            self.flush();
        }
        true
    }

    /// Has the user's keys looked at for those that leave.
    pub(super) fn make_leavable(&mut self) {
        self.leave_key = Some(LeaveKey::default());
    }

    /// Does without the user's terminal from now on, and keeps the harness's.
    pub(super) fn forget_user(&mut self) {
        self.user = UserTerminal::none();
        self.raised = None;
        self.left = false;
        self.keys_end = true;
        self.backlog.clear();
    }

    /// Takes the keys that were typed; whether they were those that leave, or an answer.
    fn read_keys(&mut self) -> Option<Happening> {
        let input = self.user.input()?;
        let mut chunk = [0; KEYS_BYTES];
        match rustix::io::read(input, &mut chunk) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // A raw terminal has no end but that of the terminal itself.
            Ok(0) | Err(_) => self.hang_up(),
            Ok(count) if self.raised.is_some() => return self.read_answer(&chunk[..count]),
            Ok(count) => match self.leave_key.as_mut().map(|key| key.read(&chunk[..count])) {
                None => self.pending.extend_from_slice(&chunk[..count]),
                Some(Some(keys)) => self.pending.extend(keys),
                Some(None) => {
                    self.leave_key = Some(LeaveKey::default());
                    return Some(Happening::Leave);
                }
            },
        }
        None
    }

    /// Keys while a question is up go to it, and never to the harness.
    fn read_answer(&mut self, typed: &[u8]) -> Option<Happening> {
        let raised = self.raised.as_mut()?;
        let question = raised.question();
        match raised.read(typed, Instant::now()) {
            Ok(drawn) => {
                self.put(&drawn);
                None
            }
            Err(outcome) => {
                self.lower();
                let reply = match outcome {
                    Outcome::Answer(reply) => Some(reply),
                    Outcome::Later => None,
                };
                Some(Happening::Said(Said { question, reply }))
            }
        }
    }

    /// Whether a question could be drawn here now.
    pub(super) fn can_raise(&self) -> bool {
        let shown = self.user.output().is_some() && self.user.is_raw() && !self.unfiltered;
        shown && self.picture.is_some() && self.is_there() && self.filter.modes().draws_anywhere()
    }

    /// The question that is up.
    pub(super) fn raised(&self) -> Option<u64> {
        self.raised.as_ref().map(|raised| raised.question())
    }

    /// Draws a question over whatever is there; whether there is room.
    pub(super) fn raise(&mut self, asked: Asked) -> bool {
        self.lower();
        let Some(picture) = self.picture.as_ref().filter(|_| self.can_raise()) else { return false };
        let (rows, columns) = picture.screen().size();
        let size = (usize::from(rows.get()), usize::from(columns.get()));
        let Some(panel) = Panel::new(asked, size, Instant::now()) else { return false };
        let (raised, drawn) = Raised::over(picture, panel, self.filter.modes().choose_characters());
        self.raised = Some(Box::new(raised));
        self.put(&drawn);
        true
    }

    /// Takes the question away again, so that the terminal is as if it had never been there.
    pub(super) fn lower(&mut self) {
        match self.raised.take().map(|raised| raised.lower()) {
            None => {}
            Some(Below::Bytes(bytes)) => self.put(&bytes),
            Some(Below::Whole) => self.redraw(),
        }
    }

    /// When the question that is up changes by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.raised.as_ref().and_then(|raised| raised.due())
    }

    /// Changes it as time passes.
    pub(super) fn tick(&mut self) {
        if let Some(drawn) = self.raised.as_mut().map(|raised| raised.tick(Instant::now())) {
            self.put(&drawn);
        }
    }

    /// Writes to the user's terminal.
    fn put(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.backlog.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Passes keys on, as far as there is room.
    fn pass_keys(&mut self) {
        if let Some(master) = &self.master
            && let Ok(count) = rustix::io::write(master, &self.pending)
        {
            self.pending.drain(..count);
        }
    }

    /// Gives the harness's terminal a size at which everybody who types sees all of it: the smallest of theirs. Where nobody
    /// is left, it stays as it is.
    pub fn resize(&mut self) {
        let Some(master) = &self.master else { return };
        let own = self.user.size();
        let others = self.audience.iter().flat_map(Audience::sizes).map(|(ws_col, ws_row)| Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        });
        let smaller = |one: Winsize, other: Winsize| Winsize {
            ws_row: one.ws_row.min(other.ws_row),
            ws_col: one.ws_col.min(other.ws_col),
            ..one
        };
        let Some(size) = own.into_iter().chain(others).reduce(smaller) else { return };
        // What stood below is not where it was.
        let raised = self.raised.take().is_some();
        // A size that cannot be set is no reason to end anything.
        if rustix::termios::tcsetwinsize(master, size).is_ok() {
            self.picture.iter_mut().for_each(|picture| picture.resize(size));
            if let Some(recording) = &mut self.recording {
                recording.resized(size);
            }
        }
        if raised {
            self.redraw();
        }
    }

    /// Gives the user's terminal back for as long as `away` takes; afterwards this job may be in the background. What the
    /// harness switched is switched back meanwhile: the shell must not live with a mouse or a screen that is another's.
    pub fn leave(&mut self, away: impl FnOnce()) {
        self.give_back();
        away();
        self.take_terminal();
        self.resize();
    }

    /// Gives the user's terminal back, until this takes it again.
    pub(super) fn give_back(&mut self) {
        self.lower();
        for _ in 0..LAST_PIECES_MAX {
            if !self.flush_all() || !self.show() {
                break;
            }
        }
        self.switch_back();
        self.left = true;
        self.user.restore();
    }

    /// Shows what is left once everything inside is dead, then gives the user's terminal back, with everything switched
    /// back that the harness left switched.
    pub fn drain(&mut self) {
        self.lower();
        while self.flush_all() && self.show() {}
        self.switch_back();
        self.hang_up();
    }

    /// Switches everything back in the user's terminal that the harness switched.
    fn switch_back(&mut self) {
        // What stuck a moment ago is not waited for again.
        if self.user.output().is_some() && self.backlog.is_empty() {
            self.backlog.extend(self.filter.modes().leave());
            if std::mem::take(&mut self.titled) {
                self.backlog.extend(b"\x1b[23;2t");
            }
            self.flush_all();
        }
    }

    /// Tells everybody who looks that the session is over.
    pub(super) fn dismiss(&mut self, status: Option<ExitStatus>) {
        self.audience.iter_mut().for_each(|audience| audience.end(status));
    }

    /// Whether the harness can be stopped with Ctrl-Z: somebody's shell has it as a job.
    pub(super) fn is_job(&self) -> bool {
        self.user.output().is_some()
    }

    /// Ends the recording; why it is not whole, if it is not.
    pub fn finish_recording(&mut self, status: i32) -> Option<String> {
        self.recording.as_mut().and_then(|recording| recording.finish(status).map(str::to_owned))
    }

    /// What was kept from the user's terminal: how much of which kind.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        if self.unfiltered {
            return BTreeMap::new();
        }
        self.filter.refused().iter().map(|(kind, count)| (kind.as_str().to_owned(), *count)).collect()
    }

    /// The user's terminal is gone, or the harness's is. To the harness this is what the end of its terminal always is: the
    /// kernel sends it SIGHUP, and it reads an end.
    fn hang_up(&mut self) {
        self.master = None;
        self.user.restore();
        self.user = UserTerminal::none();
        self.raised = None;
        self.keys_end = true;
        self.pending.clear();
        self.backlog.clear();
    }
}
