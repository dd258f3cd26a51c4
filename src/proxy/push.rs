//! Pushes with git: what they are to change is read before anything of them goes out, and a refusal is told in git's own
//! words.

use super::body::{self, Held};
use super::pack::{PACK_BYTES_MAX, Pack};
use crate::model::{Event, RequestLine, RequestNumber, hex_byte};
use crate::policy::{
    Act, BATCH_BYTES_MAX, Change, LfsBatch, Push, PushError, PushReader, RefUpdate, UPDATES_BYTES_MAX,
};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;

/// How long the list of references may take to come.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);
/// How much of a refused push is read away, so that git gets to read the answer.
const REFUSED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long that may take.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(60);
/// References that the record names.
const UPDATES_TOLD_MAX: usize = 100;
/// Most bytes in one packet of a band (gitprotocol-pack(5)), less its length and band.
const BAND_BYTES_MAX: usize = 65_515;

/// The paths' end, beside which nothing pushes but the old protocol.
const SERVICE: &str = "/git-receive-pack";
/// What the body of a push is.
const REQUEST_TYPE: &str = "application/x-git-receive-pack-request";
/// What its answer is.
pub(super) const RESULT_TYPE: &str = "application/x-git-receive-pack-result";

/// Where large files are asked for, and what the question is.
const BATCH: &str = "/info/lfs/objects/batch";

/// Why a push is not judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) String);

/// A push that was read, and its body with what was read of it.
pub(super) struct Read {
    /// What it turned out to do.
    pub(super) act: Act,
    pub(super) push: Push,
    pub(super) body: Held,
}

/// Reads what a push is to change. Asking for the references there are changes none, and has no body.
///
/// # Errors
/// For a push of a form in which it cannot be read, which then must not go out.
pub(super) async fn read(
    method: &Method,
    line: &RequestLine,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Read, (Unreadable, Incoming)> {
    let unreadable = |why: &str| Unreadable(format!("it is a push, and {why}"));
    if *method == Method::GET && line.path.ends_with("/info/refs") {
        return Ok(Read { act: Act::GitPush, push: Push::default(), body: Held::untouched(body) });
    }
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if *method != Method::POST || !line.path.ends_with(SERVICE) || kind != Some(REQUEST_TYPE.as_bytes()) {
        let why = "not by git's smart protocol, so what it changes cannot be read: push with `git push` over https";
        return Err((unreadable(why), body));
    }
    if headers.contains_key(CONTENT_ENCODING) {
        let why = "its body is compressed, so what it changes cannot be read; git itself never does this";
        return Err((unreadable(why), body));
    }
    let mut body = body;
    match tokio::time::timeout(LIST_TIMEOUT, list(&mut body)).await {
        Ok(Ok((push, begun))) => Ok(Read { act: Act::GitPush, push, body: Held::new(begun, body) }),
        Ok(Err(error)) => Err((unreadable(&error.to_string()), body)),
        Err(_) => Err((unreadable("its list of references did not come in time"), body)),
    }
}

/// Reads which way large files are to go.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_batch(
    method: &Method,
    line: &RequestLine,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Read, (Unreadable, Incoming)> {
    let act = Act::LfsUpload;
    if *method != Method::POST || !line.path.ends_with(BATCH) {
        return Ok(Read { act, push: Push::default(), body: Held::untouched(body) });
    }
    let unreadable = |why: &str| Unreadable(format!("it asks for large files of git, and {why}"));
    if headers.contains_key(CONTENT_ENCODING) {
        return Err((unreadable("its body is compressed, so what it asks for cannot be read"), body));
    }
    let mut body = body;
    let (batch, begun) = match tokio::time::timeout(LIST_TIMEOUT, whole(&mut body)).await {
        Ok(Ok(begun)) => (LfsBatch::read(&begun), begun),
        Ok(Err(error)) => (Err(error), Bytes::new()),
        Err(_) => return Err((unreadable("its body did not come in time"), body)),
    };
    let (act, updates) = match batch {
        Ok(LfsBatch::Download) => (Act::GitFetch, Vec::new()),
        Ok(LfsBatch::Upload(update)) => (act, update.into_iter().collect()),
        Err(_) => return Err((unreadable("what it asks for is not as its client writes it"), body)),
    };
    Ok(Read { act, push: Push { updates, ..Push::default() }, body: Held::new(begun, body) })
}

async fn whole(body: &mut Incoming) -> Result<Bytes, PushError> {
    let mut begun = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| PushError::Short)?;
        // Trailers say nothing that counts.
        begun.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if begun.len() > BATCH_BYTES_MAX {
            return Err(PushError::Long);
        }
    }
    Ok(begun.freeze())
}

async fn list(body: &mut Incoming) -> Result<(Push, Bytes), PushError> {
    let (mut reader, mut begun) = (PushReader::default(), BytesMut::new());
    loop {
        // A frame is bounded by what is read from the connection at once, and the list by its reader.
        if let Some(mut push) = reader.read(&begun)? {
            see_forward(&mut push, reader.end(), &mut begun, body).await?;
            return Ok((push, begun.freeze()));
        }
        if begun.len() > UPDATES_BYTES_MAX {
            return Err(PushError::Long);
        }
        match body.frame().await {
            Some(Ok(frame)) => begun.extend_from_slice(&frame.into_data().map_err(|_| PushError::Short)?),
            Some(Err(_)) | None => return Err(PushError::Short),
        }
    }
}

/// Sees which references only move forward, from the commits that the push brings. They stand at the beginning of the pack.
async fn see_forward(
    push: &mut Push,
    list_bytes: usize,
    begun: &mut BytesMut,
    body: &mut Incoming,
) -> Result<(), PushError> {
    let Some(moved) = push.updates.iter().find(|update| update.change == Change::Update) else { return Ok(()) };
    let mut pack = Pack::new(moved.new.len());
    loop {
        let rest = begun.get(list_bytes..).unwrap_or_default();
        let more = match pack_begin(rest) {
            Some(at) => pack.read(rest.get(at..).unwrap_or_default()),
            None => rest.len() < PACK_BYTES_MAX,
        };
        if !more {
            break;
        }
        match body.frame().await {
            Some(Ok(frame)) => begun.extend_from_slice(&frame.into_data().map_err(|_| PushError::Short)?),
            Some(Err(_)) => return Err(PushError::Short),
            None => break,
        }
    }
    for update in &mut push.updates {
        if update.change == Change::Update && pack.follows(&update.new, &update.old) {
            update.change = Change::Forward;
        }
    }
    Ok(())
}

/// Where the pack begins behind the list of references: at once, or behind a list of options; none while that is not known.
fn pack_begin(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let head = rest.get(at..at + 4)?;
        let length = hex_byte(&head[..2]).zip(hex_byte(&head[2..]));
        let length = length.map(|(high, low)| usize::from(u16::from_be_bytes([high, low])));
        match length {
            // What is no length is a pack, or nothing that is read.
            None => return Some(at),
            Some(0) => return Some(at + 4),
            Some(length) => at += length.max(4),
        }
    }
}

/// The record of a push.
pub(super) fn event(request: RequestNumber, line: &RequestLine, push: &Push) -> Event {
    let repository = line.path.strip_suffix(SERVICE).unwrap_or(&line.path).to_owned();
    let updates = push.updates.iter().take(UPDATES_TOLD_MAX).map(RefUpdate::to_string).collect();
    Event::PushRead { request, repository, updates, count: push.updates.len() as u64, signed: push.signed }
}

/// Reads the rest of a refused push away.
pub(super) async fn drain(body: Held) {
    body::drain_up_to(body, REFUSED_BYTES_MAX, REFUSED_TIMEOUT).await;
}

/// The answer that makes git tell of a refusal for each reference; none where it would not read one.
pub(super) fn refusal(push: &Push, message: &str) -> Option<Bytes> {
    if !push.reports || push.updates.is_empty() {
        return None;
    }
    let mut report = line(b"unpack ok\n");
    for update in &push.updates {
        report.extend(line(format!("ng {} refused by omni\n", update.name).as_bytes()));
    }
    report.extend_from_slice(b"0000");
    if !push.bands {
        return Some(report.into());
    }
    let mut answer = Vec::new();
    let message = format!("{message}\n");
    for piece in message.as_bytes().chunks(BAND_BYTES_MAX) {
        answer.extend(banded(2, piece));
    }
    for piece in report.chunks(BAND_BYTES_MAX) {
        answer.extend(banded(1, piece));
    }
    answer.extend_from_slice(b"0000");
    Some(answer.into())
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", text.len() + 4).into_bytes();
    line.extend_from_slice(text);
    line
}

fn banded(band: u8, piece: &[u8]) -> Vec<u8> {
    line(&[&[band], piece].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::Change;

    #[test]
    fn a_refusal_is_told_for_each_reference_in_the_bands_that_git_asked_for() {
        let update = |name: &str| {
            let (old, new) = ("1".repeat(40), "2".repeat(40));
            RefUpdate { name: name.to_owned(), change: Change::Update, old, new }
        };
        let updates = vec![update("refs/heads/a"), update("refs/heads/b")];
        let plain = Push { updates, reports: true, ..Push::default() };
        let report = "000eunpack ok\n0024ng refs/heads/a refused by omni\n0024ng refs/heads/b refused by omni\n0000";
        assert_eq!(refusal(&plain, "no").unwrap(), report);
        let told = refusal(&Push { bands: true, ..plain.clone() }, "no").unwrap();
        assert_eq!(told, format!("0008\u{2}no\n{:04x}\u{1}{report}0000", report.len() + 5));
        assert_eq!(refusal(&Push { reports: false, ..plain }, "no"), None);
        assert_eq!(refusal(&Push { reports: true, ..Push::default() }, "no"), None);
    }
}
