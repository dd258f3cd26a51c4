//! A URL's query as servers read it.

use crate::model::percent_decode;

/// A name and its value, decoded.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// Splits a query at `&` and `;`, since some servers take either, and decodes `+` and percent signs; none where a percent
/// sign begins nothing, which servers read in different ways.
pub(super) fn pairs(query: &str) -> Option<Vec<Pair>> {
    let parts = query.split(['&', ';']).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    percent_decode(text.replace('+', " ").as_bytes(), &mut out).map(|()| out)
}

/// Whether a query mentions a word in small letters in some value, or cannot be read, so that it may.
pub(super) fn may_mention(query: &str, word: &str) -> bool {
    let mentions = |value: &[u8]| String::from_utf8_lossy(value).to_ascii_lowercase().contains(word);
    pairs(query).is_none_or(|pairs| pairs.iter().any(|(_, value)| mentions(value)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_servers_read_it() {
        let read = |query: &str| -> Vec<(String, String)> {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            pairs(query).unwrap().into_iter().map(|(name, value)| (text(name), text(value))).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("a=b+c&%61=%2f;d"), [pair("a", "b c"), pair("a", "/"), pair("d", "")]);
        assert_eq!(read("a=b=c"), [pair("a", "b=c")]);
        assert_eq!((pairs("a=%"), pairs("%zz=1")), (None, None));
        assert!(may_mention("service=git%2Dreceive-pack", "receive-pack") && may_mention("%", "receive-pack"));
        assert!(!may_mention("service=git-upload-pack", "receive-pack"));
    }
}
