//! An SSH agent for the sandbox: it shows the keys that the session may use, and has the user's own agent sign logins to the
//! hosts that are named. OpenSSH says to which host a connection leads, and proves it (`session-bind@openssh.com`).

use super::Shared;
use super::consent::{self, Consent};
use super::ssh_wire::{
    EXTENSION, FAILURE, IDENTITIES_ANSWER, Login, REQUEST_IDENTITIES, SESSION_BIND, SIGN_REQUEST, SIGN_RESPONSE,
    SUCCESS, SessionBind, Words, fingerprint, written,
};
use crate::model::Event;
use crate::policy::Approval;
use std::collections::HashSet;
use std::io;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};

/// Longest message, as OpenSSH has it.
const MESSAGE_BYTES_MAX: u32 = 256 * 1024;
/// Most connections of the sandbox's at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long the user's agent may take: it may ask for a touch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait after the system refused to give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the sandbox may have signed, and by whom.
#[derive(Debug)]
pub struct SshAgent {
    /// The user's own agent.
    pub agent: StdUnixStream,
    /// The hosts that it signs for, each with one of its keys.
    pub hosts: Vec<(String, Vec<u8>)>,
    /// The fingerprints of the keys that may be used; all where there are none.
    pub keys: Vec<String>,
    /// When a person must say yes before.
    pub approval: Approval,
}

/// The same, at work.
pub(super) struct Post {
    hosts: Vec<(String, Vec<u8>)>,
    keys: Vec<String>,
    approval: Approval,
    /// None once an answer did not come: the next would be taken for it.
    agent: Mutex<Option<UnixStream>>,
    /// The hosts that a person said yes to; an empty name is all of them.
    approved: Mutex<HashSet<String>>,
}

/// What one connection has proved.
#[derive(Default)]
struct Bound {
    last: Option<SessionBind>,
    /// Whether it leads on to other hosts, which nothing is known of.
    forwarded: bool,
}

/// A login that may be signed, once a person says yes where that is wanted.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    host: String,
    user: String,
}

impl Post {
    /// Takes it over. The runtime must be there.
    fn open(setup: SshAgent) -> io::Result<Arc<Self>> {
        let SshAgent { agent, hosts, keys, approval } = setup;
        agent.set_nonblocking(true)?;
        let agent = Mutex::new(Some(UnixStream::from_std(agent)?));
        Ok(Arc::new(Self { hosts, keys, approval, agent, approved: Mutex::default() }))
    }

    fn may_use(&self, key: &[u8]) -> bool {
        self.keys.is_empty() || self.keys.contains(&fingerprint(key))
    }

    /// What a client wants signed, if it may be.
    fn judge(&self, bound: &Bound, key: &[u8], data: &[u8]) -> Result<Wanted, &'static str> {
        if !self.may_use(key) {
            return Err("this key is not among those that the session may use");
        }
        let login = Login::read(data, key).ok_or("only logins are signed")?;
        let bind = bound.last.as_ref().ok_or("the client does not say to which host: OpenSSH does since 8.9")?;
        if bound.forwarded || bind.forwarding {
            return Err("agents are not passed on to other hosts");
        }
        if login.session != bind.session || login.host_key.is_some_and(|key| key != bind.host_key) {
            return Err("the login is for another connection than the one that the client told of");
        }
        let known = self.hosts.iter().find(|(_, key)| *key == bind.host_key);
        let (host, _) =
            known.ok_or("the host is none that the session may log in to, or its key is not known outside")?;
        Ok(Wanted { host: host.clone(), user: login.user })
    }

    /// Passes a message to the user's agent.
    async fn ask(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let mut agent = self.agent.lock().await;
        let Some(open) = agent.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        let asked = async {
            open.write_all(&written(message)).await?;
            read(open).await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        if answer.is_err() {
            *agent = None;
        }
        answer
    }

    /// The keys of the user's agent that may be used.
    async fn identities(&self) -> io::Result<Vec<u8>> {
        let answer = self.ask(&[REQUEST_IDENTITIES]).await?;
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let mut words = Words(&answer);
        if words.byte() != Some(IDENTITIES_ANSWER) {
            return Err(broken());
        }
        let (mut count, mut shown) = (0u32, Vec::new());
        for _ in 0..words.number().ok_or_else(broken)? {
            let (key, comment) = words.text().zip(words.text()).ok_or_else(broken)?;
            if self.may_use(key) {
                count += 1;
                shown.extend([written(key), written(comment)].concat());
            }
        }
        Ok([&[IDENTITIES_ANSWER][..], &count.to_be_bytes(), &shown].concat())
    }

    /// Has a person asked where that is wanted.
    async fn approve(&self, shared: &Shared, wanted: &Wanted, key: &str) -> Result<(), String> {
        let scope = match self.approval {
            Approval::Never => return Ok(()),
            Approval::Host => wanted.host.clone(),
            Approval::Session | Approval::Use => String::new(),
        };
        let mut approved = self.approved.lock().await;
        if approved.contains(&scope) {
            return Ok(());
        }
        let what = format!("ssh {}@{} by the key {key}", wanted.user, wanted.host);
        let Consent { lasting } = consent::ask(shared, consent::of_login(shared, what, self.approval)).await?;
        if lasting || self.approval != Approval::Use {
            approved.insert(scope);
        }
        Ok(())
    }

    /// Signs a login, or says why not.
    async fn sign(&self, shared: &Shared, bound: &Bound, message: &[u8]) -> Result<Vec<u8>, String> {
        let mut words = Words(message.get(1..).unwrap_or_default());
        let (key, data) = words.text().zip(words.text()).ok_or("the request cannot be read")?;
        let name = fingerprint(key);
        let refused = |reason: String, host: String| Event::SshRefused { key: name.clone(), host, reason };
        let wanted = match self.judge(bound, key, data) {
            Ok(wanted) => wanted,
            Err(reason) => {
                let _ = shared.books.clerk.record(refused(reason.to_owned(), String::new())).await;
                return Err(reason.to_owned());
            }
        };
        if let Err(reason) = self.approve(shared, &wanted, &name).await {
            let _ = shared.books.clerk.record(refused(reason.clone(), wanted.host)).await;
            return Err(reason);
        }
        let Wanted { host, user } = wanted;
        // No effect without its record.
        shared
            .books
            .clerk
            .record(Event::SshSigned { key: name, host, user })
            .await
            .map_err(|error| error.to_string())?;
        let answer = self.ask(message).await.map_err(|error| error.to_string())?;
        if answer.first() == Some(&SIGN_RESPONSE) {
            Ok(answer)
        } else {
            Err("the agent outside does not sign".to_owned())
        }
    }
}

impl Bound {
    /// Takes in what the client proves.
    fn take(&mut self, message: &[u8]) -> bool {
        let mut words = Words(message.get(1..).unwrap_or_default());
        if words.text() != Some(SESSION_BIND) {
            return false;
        }
        match SessionBind::read(words) {
            Some(bind) => {
                self.forwarded |= bind.forwarding;
                self.last = Some(bind);
                true
            }
            None => false,
        }
    }
}

/// Opens it to the sandbox's programs, which connect to this listener. The runtime must be there.
pub(super) fn open(listener: StdUnixListener, setup: SshAgent) -> io::Result<(UnixListener, Arc<Post>)> {
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, Post::open(setup)?))
}

/// Serves them, for ever.
pub(super) async fn serve(shared: Arc<Shared>, listener: UnixListener, post: Arc<Post>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if !shared.quiet.begin() {
            return;
        }
        let (shared, post) = (shared.clone(), post.clone());
        tokio::spawn(async move {
            // What goes wrong on it is the client's to notice.
            let _ = shared.unless_drained(connection(&shared, stream, &post)).await;
            drop(permit);
        });
    }
}

async fn connection(shared: &Shared, mut stream: UnixStream, post: &Post) -> io::Result<()> {
    let mut bound = Bound::default();
    while let Some(message) = read(&mut stream).await? {
        let answer = match message.first() {
            Some(&REQUEST_IDENTITIES) => post.identities().await.unwrap_or_else(|_| vec![FAILURE]),
            Some(&SIGN_REQUEST) => post.sign(shared, &bound, &message).await.unwrap_or_else(|_| vec![FAILURE]),
            Some(&EXTENSION) if bound.take(&message) => vec![SUCCESS],
            // Keys can neither be added nor removed, and the agent not be locked.
            _ => vec![FAILURE],
        };
        stream.write_all(&written(&answer)).await?;
    }
    Ok(())
}

/// The next message; none at the end.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    if length == 0 || length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn login(session: &[u8], key: &[u8]) -> Vec<u8> {
        let head =
            [written(session), vec![50], written(b"git"), written(b"ssh-connection"), written(b"publickey"), vec![1]];
        [head.concat(), written(b"ssh-ed25519"), written(key)].concat()
    }

    #[test]
    fn a_login_is_signed_for_a_named_host_by_a_listed_key_on_the_connection_that_was_told_of() {
        let post = Post {
            hosts: vec![("git.example".to_owned(), b"host".to_vec())],
            keys: vec![fingerprint(b"key")],
            approval: Approval::Never,
            agent: Mutex::new(None),
            approved: Mutex::default(),
        };
        let bound = |host: &[u8], forwarding, forwarded| Bound {
            last: Some(SessionBind { host_key: host.to_vec(), session: b"id".to_vec(), forwarding }),
            forwarded,
        };
        let good = bound(b"host", false, false);
        let wanted = Wanted { host: "git.example".to_owned(), user: "git".to_owned() };
        assert_eq!(post.judge(&good, b"key", &login(b"id", b"key")), Ok(wanted));
        for (bound, key, data) in [
            (&good, &b"other"[..], login(b"id", b"other")),
            (&good, &b"key"[..], login(b"another", b"key")),
            (&good, &b"key"[..], b"SSHSIG".to_vec()),
            (&bound(b"evil", false, false), &b"key"[..], login(b"id", b"key")),
            (&bound(b"host", true, false), &b"key"[..], login(b"id", b"key")),
            (&bound(b"host", false, true), &b"key"[..], login(b"id", b"key")),
            (&Bound::default(), &b"key"[..], login(b"id", b"key")),
        ] {
            assert!(post.judge(bound, key, &data).is_err());
        }
    }
}
