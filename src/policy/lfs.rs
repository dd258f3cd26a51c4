//! What a batch request of git's large files asks for (the Git LFS API, "Batch API"): to fetch objects, or to upload some for a
//! reference.

use super::git_push::{Change, PushError, RefUpdate};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;

/// Most bytes of a batch. The client asks for 100 objects at a time, of some 100 bytes each.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// What a batch asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LfsBatch {
    /// To fetch objects.
    Download,
    /// To upload objects, for this reference where the client names one. It is told as an update, without ids.
    Upload(Option<RefUpdate>),
}

#[derive(Deserialize)]
struct Written {
    operation: String,
    r#ref: Option<Reference>,
    #[serde(flatten)]
    rest: HashMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    #[serde(flatten)]
    rest: HashMap<String, IgnoredAny>,
}

impl LfsBatch {
    /// Reads a whole batch.
    ///
    /// # Errors
    /// [`PushError::Malformed`] for what servers could read in another way: keys written twice, or in other letters' case.
    pub fn read(body: &[u8]) -> Result<Self, PushError> {
        let Written { operation, r#ref, rest } = serde_json::from_slice(body).map_err(|_| PushError::Malformed)?;
        let like = |keys: &HashMap<String, IgnoredAny>, names: &[&str]| {
            keys.keys().any(|key| names.iter().any(|name| key.eq_ignore_ascii_case(name)))
        };
        let twice = r#ref.as_ref().is_some_and(|reference| like(&reference.rest, &["name"]));
        if twice || like(&rest, &["operation", "ref"]) {
            return Err(PushError::Malformed);
        }
        match operation.as_str() {
            "download" => Ok(Self::Download),
            "upload" => Ok(Self::Upload(r#ref.map(|Reference { name, .. }| RefUpdate {
                name,
                change: Change::Update,
                old: String::new(),
                new: String::new(),
            }))),
            _ => Err(PushError::Malformed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_says_which_way_and_for_which_reference() {
        let read = |text: &str| LfsBatch::read(text.as_bytes());
        let objects = r#""objects":[{"oid":"a","size":1}],"hash_algo":"sha256""#;
        assert_eq!(read(&format!(r#"{{"operation":"download",{objects}}}"#)), Ok(LfsBatch::Download));
        assert_eq!(read(&format!(r#"{{"operation":"upload",{objects}}}"#)), Ok(LfsBatch::Upload(None)));
        let named = read(&format!(r#"{{"operation":"upload","ref":{{"name":"refs/heads/main"}},{objects}}}"#)).unwrap();
        assert!(matches!(named, LfsBatch::Upload(Some(RefUpdate { name, .. })) if name == "refs/heads/main"));
    }

    #[test]
    fn what_servers_could_read_in_two_ways_is_refused() {
        for text in [
            r#"{"operation":"download","operation":"upload"}"#,
            r#"{"operation":"download","Operation":"upload"}"#,
            r#"{"operation":"upload","ref":{"name":"a"},"REF":{"name":"b"}}"#,
            r#"{"operation":"upload","ref":{"name":"a","Name":"b"}}"#,
            r#"{"operation":"UPLOAD"}"#,
            r#"{"operation":"upload"} {}"#,
            "[]",
            "",
        ] {
            assert_eq!(LfsBatch::read(text.as_bytes()), Err(PushError::Malformed), "{text}");
        }
    }
}
