//! The key that an SSH server shows, where a profile pins it: looked for in what the server says until it begins to encrypt
//! (RFC 4253, sections 4.2, 6, 7.3 and 8), and nothing passes that shows another.
//!
//! The client verifies that the server has the key; this only makes sure which key it is, whatever the client was told
//! about checking.

/// Most bytes that a server may say before it encrypts. Its lists of algorithms have some 2 KiB, and a key less than 1 KiB.
const PLAIN_BYTES_MAX: usize = 64 * 1024;
/// Longest packet (RFC 4253, section 6.1).
const PACKET_BYTES_MAX: usize = 35_000;
/// What a server's version begins with; other lines may come before it.
const VERSION: &[u8] = b"SSH-";
/// SSH_MSG_NEWKEYS: what follows is encrypted.
const NEW_KEYS: u8 = 21;
/// SSH_MSG_KEXDH_REPLY and its kin, of whichever exchange: its first string is the server's key. In an exchange of groups it
/// is a group instead, and the key comes in 33 (RFC 4419, section 5).
const KEY_REPLY: u8 = 31;
const GROUP_KEY_REPLY: u8 = 33;

/// Looks at what one server says.
pub(super) struct KeyCheck {
    /// The keys of which it must show one.
    pinned: Vec<Vec<u8>>,
    /// What is not a whole line or packet yet.
    rest: Vec<u8>,
    seen: usize,
    state: State,
}

enum State {
    /// Before its version.
    Greeting,
    /// Packets in the open; whether a pinned key was shown in one.
    Open { shown: bool },
    /// Encrypted.
    Closed,
}

impl KeyCheck {
    /// A server that must show one of these keys.
    pub(super) fn new(pinned: Vec<Vec<u8>>) -> Self {
        Self { pinned, rest: Vec::new(), seen: 0, state: State::Greeting }
    }

    /// Looks at the next bytes, before they are passed on.
    ///
    /// # Errors
    /// Why they must not be.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if matches!(self.state, State::Closed) {
            return Ok(());
        }
        self.seen += bytes.len();
        self.rest.extend_from_slice(bytes);
        while self.step()? {}
        match self.state {
            State::Closed => self.rest = Vec::new(),
            _ if self.seen > PLAIN_BYTES_MAX => {
                return Err("the server says more than SSH does before it shows its key");
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes one line or packet; false where there is no whole one.
    fn step(&mut self) -> Result<bool, &'static str> {
        match self.state {
            State::Closed => Ok(false),
            State::Greeting => {
                let Some(end) = memchr::memchr(b'\n', &self.rest) else { return Ok(false) };
                if self.rest.starts_with(VERSION) {
                    self.state = State::Open { shown: false };
                }
                self.rest.drain(..=end);
                Ok(true)
            }
            State::Open { shown } => {
                let Some((packet, payload)) = packet(&self.rest)? else { return Ok(false) };
                let shown = shown | self.shows_pinned(payload)?;
                let closes = payload.first() == Some(&NEW_KEYS);
                self.rest.drain(..packet);
                if closes && !shown {
                    return Err("the server began to encrypt without having shown its key");
                }
                self.state = if closes { State::Closed } else { State::Open { shown } };
                Ok(true)
            }
        }
    }

    /// Whether a message shows a pinned key.
    fn shows_pinned(&self, payload: &[u8]) -> Result<bool, &'static str> {
        let Some((&kind @ (KEY_REPLY | GROUP_KEY_REPLY), message)) = payload.split_first() else { return Ok(false) };
        let key = string(message).filter(|key| kind == GROUP_KEY_REPLY || string(key).is_some());
        match key {
            Some(key) if self.pinned.iter().any(|pinned| pinned == key) => Ok(true),
            Some(_) => Err("the server shows another key than the profile's `host_keys` pin for it"),
            // A group. What follows it is looked at, and encrypts nothing without a key.
            None => Ok(false),
        }
    }
}

/// The first packet in the open: its length with what frames it, and its payload.
fn packet(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, &'static str> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > PACKET_BYTES_MAX {
        return Err("the server does not speak SSH");
    }
    let Some(framed) = rest.get(..length) else { return Ok(None) };
    let payload = framed.split_first().and_then(|(padding, rest)| {
        let end = rest.len().checked_sub(usize::from(*padding))?;
        rest.get(..end)
    });
    payload.map(|payload| Some((4 + length, payload))).ok_or("the server does not speak SSH")
}

/// The string that something begins with (RFC 4251, section 5).
fn string(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let padding = 4;
        let length = u32::try_from(1 + payload.len() + padding).unwrap().to_be_bytes();
        [&length[..], &[4], payload, &[0; 4]].concat()
    }

    fn text(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn key(of: u8) -> Vec<u8> {
        [text(b"ssh-ed25519"), text(&[of; 32])].concat()
    }

    /// What a server says that shows this key, in a message of this kind.
    fn said(kind: u8, key: &[u8]) -> Vec<u8> {
        let reply = [&[kind][..], &text(key), &text(b"exchanged"), &text(b"signed")].concat();
        [b"Welcome\r\nSSH-2.0-OpenSSH_9.2\r\n".to_vec(), framed(&[20; 300]), framed(&reply), framed(&[NEW_KEYS])]
            .concat()
    }

    fn check(said: &[u8], piece: usize) -> Result<(), &'static str> {
        let mut check = KeyCheck::new(vec![key(1), key(2)]);
        said.chunks(piece).try_for_each(|piece| check.next(piece))
    }

    #[test]
    fn one_of_the_pinned_keys_passes_however_it_is_cut() {
        let mut whole = said(KEY_REPLY, &key(2));
        whole.extend_from_slice(&[0xff; 100_000]);
        for piece in [1, 7, 1000, usize::MAX] {
            assert_eq!(check(&whole, piece), Ok(()), "{piece}");
        }
        // An exchange of groups: the first number of a group is no key.
        let group = framed(&[&[KEY_REPLY][..], &text(&[0, 0xff, 0xfe, 0xfd, 0xfc]), &text(&[2])].concat());
        let groups = [b"SSH-2.0-x\r\n".to_vec(), group, said(GROUP_KEY_REPLY, &key(1))[30..].to_vec()].concat();
        assert_eq!(check(&groups, 5), Ok(()));
    }

    #[test]
    fn another_key_none_and_other_protocols_do_not() {
        for piece in [1, usize::MAX] {
            assert!(check(&said(KEY_REPLY, &key(3)), piece).unwrap_err().contains("another key"));
            assert!(check(&said(GROUP_KEY_REPLY, &key(3)), piece).unwrap_err().contains("another key"));
            assert!(check(&said(30, &key(1)), piece).unwrap_err().contains("without having shown"));
            assert!(check(b"SSH-2.0-x\r\n\xff\xff\xff\xff", piece).unwrap_err().contains("not speak SSH"));
            assert!(check(&vec![b'x'; PLAIN_BYTES_MAX + 1], piece).unwrap_err().contains("more than SSH"));
        }
    }

    #[test]
    fn nothing_of_a_wrong_key_is_passed_on() {
        let whole = said(KEY_REPLY, &key(3));
        let mut check = KeyCheck::new(vec![key(1)]);
        let passed = whole.iter().take_while(|byte| check.next(&[**byte]).is_ok()).count();
        // Its last byte is held back with all that follows.
        assert_eq!(whole.len() - passed, framed(&[NEW_KEYS]).len() + 1);
    }
}
