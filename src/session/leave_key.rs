//! The keys by which a person leaves a session: Ctrl-\ and then d. Ctrl-\ twice is one for the harness; before anything
//! else, it is passed on with it.

/// Ctrl-\ as terminals send it: by itself, by kitty's keyboard protocol, by xterm's modified keys.
const PREFIX: [&[u8]; 4] = [b"\x1c", b"\x1b[92;5u", b"\x1b[92;5:1u", b"\x1b[27;5;92~"];
/// Its release, where releases are reported.
const PREFIX_RELEASED: &[u8] = b"\x1b[92;5:3u";
/// The key d.
const LEAVE: [&[u8]; 4] = [b"d", b"\x1b[100u", b"\x1b[100;1u", b"\x1b[100;1:1u"];

/// Reads keys as they come.
#[derive(Debug, Default)]
pub(super) struct LeaveKey {
    /// What of the prefix was typed and not passed on.
    held: Vec<u8>,
}

impl LeaveKey {
    /// The keys that are to be passed on; none when the person leaves.
    pub(super) fn read(&mut self, keys: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::new();
        let mut rest = keys;
        while !rest.is_empty() {
            let prefix = PREFIX.iter().find(|prefix| rest.starts_with(prefix));
            let taken = match (self.held.is_empty(), prefix) {
                (true, Some(prefix)) => {
                    self.held.extend_from_slice(prefix);
                    prefix.len()
                }
                (false, Some(prefix)) => {
                    passed.append(&mut self.held);
                    prefix.len()
                }
                (false, None) if rest.starts_with(PREFIX_RELEASED) => PREFIX_RELEASED.len(),
                (false, None) if LEAVE.iter().any(|leave| rest.starts_with(leave)) => return None,
                (_, None) => {
                    passed.append(&mut self.held);
                    passed.push(rest[0]);
                    1
                }
            };
            rest = &rest[taken..];
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &[&[u8]]) -> Option<Vec<u8>> {
        let mut leave = LeaveKey::default();
        let passed: Option<Vec<Vec<u8>>> = keys.iter().map(|keys| leave.read(keys)).collect();
        passed.map(|passed| passed.concat())
    }

    #[test]
    fn ctrl_backslash_and_d_leave_in_every_spelling_and_over_two_reads() {
        for prefix in PREFIX {
            for leave in LEAVE {
                assert_eq!(read(&[&[prefix, leave].concat()]), None);
                assert_eq!(read(&[b"x", prefix, leave]), None);
            }
        }
        assert_eq!(read(&[b"\x1b[92;5:1u\x1b[92;5:3u", b"d"]), None);
    }

    #[test]
    fn everything_else_is_the_harnesss() {
        assert_eq!(read(&[b"abc\x1b[A\x03d"]), Some(b"abc\x1b[A\x03d".to_vec()));
        assert_eq!(read(&[b"\x1c", b"\x1c", b"d"]), Some(b"\x1cd".to_vec()));
        assert_eq!(read(&[b"\x1c", b"x"]), Some(b"\x1cx".to_vec()));
        assert_eq!(read(&[b"\x1c"]), Some(Vec::new()));
    }
}
