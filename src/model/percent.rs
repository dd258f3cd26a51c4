//! Percent-encoding (RFC 3986, section 2.1), read strictly: behind a percent sign stand two hexadecimal digits and nothing else,
//! no sign either.

/// The byte that two hexadecimal digits stand for.
#[must_use]
pub fn hex_byte(digits: &[u8]) -> Option<u8> {
    let [high, low] = *digits else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Adds the bytes that a text stands for; none where a percent sign begins nothing. Never more than the text has.
#[must_use]
pub fn percent_decode(text: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            into.push(hex_byte(after.get(..2)?)?);
            rest = &after[2..];
        } else {
            into.push(*byte);
            rest = after;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        percent_decode(text.as_bytes(), &mut bytes).map(|()| bytes)
    }

    #[test]
    fn a_percent_sign_begins_two_digits_or_nothing_is_read() {
        assert_eq!(decoded("a%2Fb%c3%A9+"), Some("a/b\u{e9}+".as_bytes().to_vec()));
        assert_eq!(decoded(""), Some(Vec::new()));
        for broken in ["%", "a%2", "%+f", "%-1", "% 1", "%g0", "%0g", "%\u{e9}"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }
}
