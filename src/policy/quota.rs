//! How much a rule lets through: `upload=`, `download=`, `session-upload=`, `session-download=` and `rate=` behind its
//! target.

use super::error::hint_of;
use super::quantity::parse_size;
use std::fmt;
use std::time::Duration;

/// Most requests that one rate counts, which is also how many moments are remembered for it.
const RATE_COUNT_MAX: u32 = 10_000;

/// The units of rates.
const UNITS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)];

/// The keys of quota.
const KEYS: [&str; 5] = ["upload", "download", "session-upload", "session-download", "rate"];
/// The keys of conditions, for hints.
const OTHER_KEYS: [&str; 4] = ["header:NAME", "query:NAME", "act", "push"];

/// How much a rule lets through; nothing written is no cap.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota {
    /// Bytes of the body of one request.
    pub upload: Option<u64>,
    /// Bytes of the body of one answer.
    pub download: Option<u64>,
    /// Bytes of the bodies of all requests of the session.
    pub session_upload: Option<u64>,
    /// Bytes of the bodies of all answers of the session.
    pub session_download: Option<u64>,
    /// Requests in a time.
    pub rate: Option<Rate>,
}

/// At most so many requests in any span of time of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

/// Why a word is no cap: what is wrong, and what to do.
pub(super) struct BadQuota {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Quota {
    /// Whether nothing is capped.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a cap, given what stands before and behind its `=`.
    pub(super) fn add(&mut self, key: &str, value: &str) -> Result<(), BadQuota> {
        let twice = match key {
            "rate" => {
                let rate = Rate::parse(value).ok_or_else(|| BadQuota {
                    message: format!("`{value}` is not a rate"),
                    hint: format!("write it like `60/min`: at most {RATE_COUNT_MAX}, per s, min, h or d"),
                })?;
                self.rate.replace(rate).is_some()
            }
            "upload" => self.upload.replace(size(value)?).is_some(),
            "download" => self.download.replace(size(value)?).is_some(),
            "session-upload" => self.session_upload.replace(size(value)?).is_some(),
            "session-download" => self.session_download.replace(size(value)?).is_some(),
            _ => {
                let known: Vec<&str> = KEYS.into_iter().chain(OTHER_KEYS).collect();
                let message = format!("`{key}` is nothing that a rule can ask for");
                return Err(BadQuota { message, hint: hint_of(key, &known) });
            }
        };
        if twice {
            let (message, hint) = (format!("`{key}` stands here twice"), "leave one of them".to_owned());
            return Err(BadQuota { message, hint });
        }
        Ok(())
    }
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|count| digits && (1..=RATE_COUNT_MAX).contains(count))?;
        Some(Self { count, per: Duration::from_secs(*seconds) })
    }
}

fn size(value: &str) -> Result<u64, BadQuota> {
    if value == "0" {
        return Ok(0);
    }
    parse_size(value).map_err(|_| BadQuota {
        message: format!("`{value}` is not a size"),
        hint: "write it like `512KiB` or `10MiB`, or `0` for nothing at all".to_owned(),
    })
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.per.as_secs()).map_or("", |(name, _)| name);
        write!(f, "{}/{unit}", self.count)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = [self.upload, self.download, self.session_upload, self.session_download];
        for (key, size) in KEYS.iter().zip(sizes) {
            if let Some(size) = size {
                write!(f, " {key}={size}")?;
            }
        }
        self.rate.map_or(Ok(()), |rate| write!(f, " rate={rate}"))
    }
}
