//! Who looks at a session's terminal from elsewhere, or asks for its end: viewers, each at its own pace.
//!
//! None of them slows the harness: to a viewer that does not keep up, what it missed is not sent, but the whole screen
//! once it has room again.

use super::control::{self, Listener, PIECE_BYTES_MAX, Packet, Said, Told};
use super::filter::{Modes, Passed};
use super::policy_change::ChangedFile;
use super::screen::Source;
use crate::model::ExitStatus;
use crate::proxy::Amendment;
use rustix::event::PollFlags;
use rustix::net::SocketFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Most viewers at a time.
const VIEWERS_MAX: usize = 16;
/// Most connections at a time: those of viewers, and of whoever asks for the end.
const CONNECTIONS_MAX: usize = 2 * VIEWERS_MAX;

/// What a viewer did that concerns others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It typed.
    Typed(Vec<u8>),
    /// It wants to see the terminal.
    Attach { viewer: u32, user: String, read_only: bool },
    /// Its terminal has another size.
    Resized,
    /// It is gone; it could see the terminal, if `attached`.
    Left { viewer: u32, attached: bool },
    /// It wants the session's end.
    Stop { user: String, grace: Duration },
    /// It wants a rule to count.
    Amend(Amendment),
    /// It wants a policy file to count in place of the one of its name.
    Replace(ChangedFile),
    /// It answers a question.
    Answer { viewer: u32, user: String, question: u64, answer: String, reason: Option<String> },
}

/// How output is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Showing<'a> {
    /// Everything, rather than what passed.
    pub unfiltered: bool,
    /// Somebody is asked what the harness asks.
    pub asks: bool,
    /// What the harness switched by now.
    pub modes: &'a Modes,
}

/// Where a viewer sits, once it asked for a seat.
#[derive(Debug)]
struct Seat {
    read_only: bool,
    columns: u16,
    rows: u16,
}

#[derive(Debug)]
struct Viewer {
    number: u32,
    user: String,
    is_root: bool,
    socket: OwnedFd,
    seat: Option<Seat>,
    /// A picture of the whole screen on its way.
    pending: Vec<u8>,
    /// How its terminal was left, where output was not sent that it should have seen.
    behind: Option<Modes>,
}

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Audience {
    listener: Listener,
    viewers: Vec<Viewer>,
    next: u32,
    /// Whoever typed or sat down last: its terminal is asked what the harness asks.
    active: Option<u32>,
}

impl Audience {
    /// Lets people come.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { listener: Listener::open(directory)?, viewers: Vec::new(), next: 1, active: None })
    }

    /// What to wait for. Of viewers nothing more is taken while keys cannot be passed on.
    pub(super) fn sources(&self, take_keys: bool) -> impl Iterator<Item = (Source, BorrowedFd<'_>, PollFlags)> {
        let door = (Source::Door, self.listener.socket.as_fd(), PollFlags::IN);
        let viewers = self.viewers.iter().filter_map(move |viewer| {
            let mut flags = if take_keys { PollFlags::IN } else { PollFlags::empty() };
            if viewer.behind.is_some() || !viewer.pending.is_empty() {
                flags |= PollFlags::OUT;
            }
            (!flags.is_empty()).then(|| (Source::Viewer(viewer.number), viewer.socket.as_fd(), flags))
        });
        std::iter::once(door).chain(viewers)
    }

    /// Lets whoever is at the door in, if it is the session's user or root.
    pub(super) fn admit(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&self.listener.socket, flags) else { return };
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&socket) else { return };
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            return;
        }
        if self.viewers.len() >= CONNECTIONS_MAX {
            // It may be gone already.
            let _ = control::send(socket.as_fd(), &Told::Refused(full()));
            return;
        }
        let (number, user) = (self.next, user_name(peer.uid.as_raw()));
        self.next += 1;
        self.viewers.push(Viewer {
            number,
            user,
            is_root: peer.uid.is_root(),
            socket,
            seat: None,
            pending: Vec::new(),
            behind: None,
        });
    }

    /// Hears what a viewer has to say.
    pub(super) fn hear(&mut self, number: u32) -> Option<Act> {
        let seats = self.viewers.iter().filter(|viewer| viewer.seat.is_some()).count();
        let viewer = self.viewers.iter_mut().find(|viewer| viewer.number == number)?;
        match control::receive::<Said>(viewer.socket.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => Some(self.dismiss(number)),
            Ok(Some(Packet::Bytes(keys))) => {
                let writes = viewer.seat.as_ref().is_some_and(|seat| !seat.read_only);
                writes.then(|| {
                    self.active = Some(number);
                    Act::Typed(keys)
                })
            }
            Ok(Some(Packet::Message(Said::Attach { .. }))) if viewer.seat.is_none() && seats >= VIEWERS_MAX => {
                self.refuse(number, &full());
                None
            }
            Ok(Some(Packet::Message(Said::Attach { read_only, columns, rows }))) => {
                viewer.seat = Some(Seat { read_only, columns, rows });
                Some(Act::Attach { viewer: number, user: viewer.user.clone(), read_only })
            }
            Ok(Some(Packet::Message(Said::Resize { columns, rows }))) => {
                let seat = viewer.seat.as_mut()?;
                (seat.columns, seat.rows) = (columns, rows);
                Some(Act::Resized)
            }
            Ok(Some(Packet::Message(Said::Amend { effect, rule, on_behalf_of }))) => {
                // Only root acts for others, as the machine's server does.
                let user = on_behalf_of.filter(|_| viewer.is_root).unwrap_or_else(|| viewer.user.clone());
                Some(Act::Amend(Amendment { number, user, effect, rule }))
            }
            Ok(Some(Packet::Message(Said::Replace { file, path, text }))) => {
                let user = viewer.user.clone();
                Some(Act::Replace(ChangedFile { viewer: number, user, file, path, text }))
            }
            Ok(Some(Packet::Message(Said::Answer { question, answer, reason, on_behalf_of }))) => {
                let user = on_behalf_of.filter(|_| viewer.is_root).unwrap_or_else(|| viewer.user.clone());
                Some(Act::Answer { viewer: number, user, question, answer, reason })
            }
            Ok(Some(Packet::Message(Said::Stop { grace_ms }))) => {
                let grace = Duration::from_millis(grace_ms);
                Some(Act::Stop { user: viewer.user.clone(), grace })
            }
        }
    }

    /// Answers a viewer that asked for something; with a picture of the screen, it is shown the terminal from now on.
    pub(super) fn accept(&mut self, number: u32, picture: Option<Vec<u8>>) {
        let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.number == number) else { return };
        // A viewer that cannot be told is one that is gone, as is found out next.
        let _ = control::send(viewer.socket.as_fd(), &Told::Accepted);
        if let Some(picture) = picture {
            viewer.pending = picture;
            viewer.flush();
            if viewer.seat.as_ref().is_some_and(|seat| !seat.read_only) {
                self.active = Some(number);
            }
        }
    }

    /// Sends a viewer away, with the reason.
    pub(super) fn refuse(&mut self, number: u32, why: &str) {
        if let Some(viewer) = self.viewers.iter().find(|viewer| viewer.number == number) {
            let _ = control::send(viewer.socket.as_fd(), &Told::Refused(why.to_owned()));
        }
        self.dismiss(number);
    }

    fn dismiss(&mut self, number: u32) -> Act {
        let attached = self.viewers.iter().any(|viewer| viewer.number == number && viewer.seat.is_some());
        self.viewers.retain(|viewer| viewer.number != number);
        if self.active == Some(number) {
            let mut writers = self.viewers.iter().filter(|viewer| viewer.writes());
            self.active = writers.next_back().map(|viewer| viewer.number);
        }
        Act::Left { viewer: number, attached }
    }

    /// Whether somebody's terminal can be asked what the harness asks.
    pub(super) fn answers(&self) -> bool {
        self.active.is_some()
    }

    /// Shows output to everybody: what passed, or everything where nothing is filtered. One alone is asked, if `asks`.
    pub(super) fn show(&mut self, output: &[u8], passed: &Passed, how: &Showing<'_>) {
        let asked = if how.asks { self.active } else { None };
        for viewer in self.viewers.iter_mut().filter(|viewer| viewer.seat.is_some()) {
            match how.unfiltered {
                true => viewer.show(output, how.modes),
                false if asked == Some(viewer.number) => viewer.show(&passed.bytes, how.modes),
                false => viewer.show(&passed.unasked(), how.modes),
            }
        }
    }

    /// Sends a viewer what it still has to get. If it missed something and has room again: how its terminal was left.
    pub(super) fn flush(&mut self, number: u32) -> Option<Modes> {
        let viewer = self.viewers.iter_mut().find(|viewer| viewer.number == number)?;
        viewer.flush();
        if viewer.pending.is_empty() { viewer.behind.take() } else { None }
    }

    /// Gives a viewer that missed something a picture of the screen as it is now.
    pub(super) fn catch_up(&mut self, number: u32, picture: &[u8]) {
        if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.number == number) {
            viewer.pending = picture.to_vec();
            viewer.flush();
        }
    }

    /// The sizes of the terminals of those who type.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (u16, u16)> {
        let seats = self.viewers.iter().filter_map(|viewer| viewer.seat.as_ref());
        seats.filter(|seat| !seat.read_only).map(|seat| (seat.columns, seat.rows))
    }

    /// Tells everybody that the session is over.
    pub(super) fn end(&mut self, status: Option<ExitStatus>) {
        for viewer in &mut self.viewers {
            viewer.flush();
            // Whoever does not hear it notices that the connection ends.
            let _ = control::send(viewer.socket.as_fd(), &Told::Ended(status));
        }
        self.viewers.clear();
    }
}

impl Viewer {
    fn writes(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| !seat.read_only)
    }

    /// Sends output, unless something before it did not go out yet.
    fn show(&mut self, output: &[u8], modes: &Modes) {
        let late = self.behind.is_some() || !self.pending.is_empty();
        // Whoever is gone is noticed when it is listened to.
        let sends = |piece| control::send_bytes(self.socket.as_fd(), piece).is_ok();
        if late || !output.chunks(PIECE_BYTES_MAX).all(sends) {
            self.behind.get_or_insert_with(|| modes.clone());
        }
    }

    /// Sends what it takes of the picture.
    fn flush(&mut self) {
        while !self.pending.is_empty() {
            let length = self.pending.len().min(PIECE_BYTES_MAX);
            if control::send_bytes(self.socket.as_fd(), &self.pending[..length]).is_err() {
                return;
            }
            self.pending.drain(..length);
        }
    }
}

fn full() -> String {
    format!("it has {VIEWERS_MAX} viewers, as many as it takes")
}

/// The login name, or the number.
fn user_name(uid: u32) -> String {
    let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("user{uid}"), |user| user.name)
}
