//! The flags of `omni exec` that limit what a session may use up; each stands in for the profile's.

use crate::policy::{Limits, parse_size};

/// What a session may use up.
#[derive(clap::Args)]
pub struct LimitFlags {
    /// Memory of the whole session, such as 8GiB; reaching it ends the session.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Processes and threads at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pids: Option<u64>,
    /// Processors' worth of time, such as 1.5.
    #[arg(long, value_name = "N", value_parser = cpus)]
    cpus: Option<f64>,
}

impl LimitFlags {
    /// Puts the flags in the place of what the profile says.
    pub(super) fn apply(&self, limits: &mut Limits) {
        limits.memory = self.memory.or(limits.memory);
        limits.pids = self.pids.or(limits.pids);
        limits.cpus = self.cpus.or(limits.cpus);
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

fn cpus(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| format!("`{text}` is not a number above zero: write it like `2` or `1.5`"))
}
