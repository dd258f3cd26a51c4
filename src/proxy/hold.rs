//! Small bodies of requests are read whole before anything of the request goes out, so that one with a placeholder in it
//! is refused and nothing of it has left. Others are watched as they pass.

use super::Shared;
use super::body::Held;
use super::inject::{Misplaced, Plan};
use super::screen::Screen;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;
use std::time::Duration;

/// Largest body that is read whole.
const WHOLE_BYTES_MAX: usize = 256 * 1024;
/// Largest body that a secret is put into, which is always read whole.
const SWAPPED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long it may take to come.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a body may not go, with the status to say it by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) status: u16,
    pub(super) reason: String,
}

impl From<Misplaced> for Unfit {
    fn from(misplaced: Misplaced) -> Self {
        let status = if matches!(misplaced, Misplaced::Unreadable(_)) { 415 } else { 403 };
        Self { status, reason: misplaced.to_string() }
    }
}

/// Reads a body that is read whole, and plans what of it is swapped; begins to watch any other.
pub(super) async fn hold(
    shared: &Shared,
    plan: &mut Plan,
    headers: &HeaderMap,
    mut body: Held,
) -> (Held, Result<Option<Screen>, Unfit>) {
    let screen = match shared.vault.screen(headers) {
        Ok(None) => return (body, Ok(None)),
        Ok(Some(_)) if body.is_end_stream() => return (body, Ok(None)),
        Ok(Some(screen)) => screen,
        Err(misplaced) => return (body, Err(misplaced.into())),
    };
    let limit = if plan.needs_body() { SWAPPED_BYTES_MAX } else { WHOLE_BYTES_MAX };
    let is_small = body.size_hint().upper().is_some_and(|length| length <= limit as u64);
    if !is_small && !plan.needs_body() {
        return (body, Ok(Some(screen)));
    }
    let read = tokio::time::timeout(WHOLE_TIMEOUT, whole(&mut body, limit)).await;
    let unfit = |status, reason: String| Err(Unfit { status, reason });
    let (bytes, trailers) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(Broken::Long)) => {
            let reason = format!(
                "a secret or a signature rests on its body, which is larger than the {limit} bytes that are read"
            );
            return (body, unfit(413, reason));
        }
        Ok(Err(Broken::Off)) => return (body, unfit(400, "its body broke off".to_owned())),
        Err(_) => return (body, unfit(408, "its body did not come in time".to_owned())),
    };
    let fit = shared.vault.plan_body(plan, headers, &bytes);
    let fit = fit.and_then(|()| trailers.as_ref().map_or(Ok(()), |trailers| shared.vault.look_at_trailers(trailers)));
    (body.with(bytes, trailers), fit.map(|()| None).map_err(Into::into))
}

pub(super) enum Broken {
    Long,
    Off,
}

pub(super) async fn whole(body: &mut Held, limit: usize) -> Result<(Bytes, Option<HeaderMap>), Broken> {
    let (mut read, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| Broken::Off)?.into_data() {
            Ok(data) if read.is_empty() && body.is_end_stream() => return Ok((data, trailers)),
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if read.len() > limit {
            return Err(Broken::Long);
        }
    }
    Ok((read.freeze(), trailers))
}
