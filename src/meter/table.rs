//! The price table: what each model costs at each vendor from which day on, as written and as checked.

use super::Vendor;
use super::prices::{Prices, WrittenPrices};
use super::rates::Multipliers;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The table that ships with omni, made by `scripts/prices`.
pub(super) const EMBEDDED: &str = include_str!("prices.jsonl");
/// Longest line of a table.
const LINE_BYTES_MAX: usize = 4096;
/// Most lines of a table.
const LINES_MAX: usize = 20_000;

/// Where a table's figures are from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The published table's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The licence of its data.
    pub licence: String,
    /// The hash of the file that was read, in hexadecimal.
    pub sha256: String,
}

/// Why a text is not a price table.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// A line is not the JSON that is expected.
    #[error("line {line} of the price table cannot be read: {error}; correct the file at that place")]
    Json {
        /// The line, from 1 on.
        line: usize,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// No model is in it, so nothing could be charged for an unknown one.
    #[error("the price table has no models; add at least one")]
    Empty,
    /// It is larger than any table of prices.
    #[error("the price table has a line of more than {LINE_BYTES_MAX} bytes, or more than {LINES_MAX} lines")]
    TooLarge,
    /// Two lines for one model and day.
    #[error("the price table has `{0}` twice for the same day; remove one of the lines")]
    Twice(String),
    /// A factor divides by zero.
    #[error("the price table has a multiplier with the denominator 0; write it as [numerator, denominator]")]
    Denominator,
    /// Long prompts are cheaper than short ones, which no vendor does.
    #[error("the price table has `{0}` cheaper for long prompts than for short ones; correct its `long`")]
    Falling(String),
    /// A day that is none.
    #[error("the price table has `{0}` from a day that is none; write it as YYYY-MM-DD")]
    Day(String),
}

type Models = BTreeMap<(Vendor, String), Vec<Prices>>;

/// All known prices, under a version.
#[derive(Debug)]
pub struct PriceTable {
    version: String,
    sources: Vec<Source>,
    web_search: u32,
    multipliers: Multipliers,
    /// What `models` is made of when somebody first asks: most sessions end without, and start the sooner.
    lines: &'static str,
    models: OnceLock<Models>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHead {
    version: String,
    #[serde(rename = "unit")]
    _unit: Unit,
    sources: Vec<Source>,
    web_search: u32,
    multipliers: Multipliers,
}

/// The only unit that there is; a table in another is refused.
#[derive(Deserialize)]
enum Unit {
    #[serde(rename = "pico-dollars per token")]
    PicoPerToken,
}

impl PriceTable {
    /// The table that ships with omni.
    #[must_use]
    pub fn embedded() -> Self {
        // The text is part of the program and a test parses it, so the empty table is never seen; it charges nothing
        // and says of every model that it is unknown.
        let (head, lines) = EMBEDDED.split_once('\n').unwrap_or((EMBEDDED, ""));
        Self::headed(head, lines).unwrap_or_else(|_| Self {
            version: "none".to_owned(),
            sources: Vec::new(),
            web_search: 0,
            multipliers: Multipliers::NONE,
            lines: "",
            models: OnceLock::new(),
        })
    }

    /// Parses a table in the form of `prices.jsonl`.
    ///
    /// # Errors
    /// A [`PriceError`] for anything that could not be charged by.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let (head, lines) = text.split_once('\n').unwrap_or((text, ""));
        let table = Self::headed(head, "")?;
        let models = parse_lines(lines)?;
        if models.is_empty() {
            return Err(PriceError::Empty);
        }
        Ok(Self { models: models.into(), ..table })
    }

    fn headed(head: &str, lines: &'static str) -> Result<Self, PriceError> {
        let head: WrittenHead = serde_json::from_str(head).map_err(|error| PriceError::Json { line: 1, error })?;
        let WrittenHead { version, sources, web_search, multipliers, .. } = head;
        if multipliers.all().into_iter().any(|ratio| ratio.denominator == 0) {
            return Err(PriceError::Denominator);
        }
        Ok(Self { version, sources, web_search, multipliers, lines, models: OnceLock::new() })
    }

    /// The same with these prices in the place of what it says of their models, or beside it. `name` becomes part of the
    /// version.
    #[must_use]
    pub fn with(mut self, own: Vec<Prices>, name: &str) -> Self {
        let mut models = self.known().clone();
        let mut replaced = Models::new();
        for prices in own {
            replaced.entry((prices.vendor, prices.model.clone())).or_default().push(prices);
        }
        models.extend(replaced.into_iter().map(|(key, mut dated)| {
            dated.sort_by(|one, other| one.from.cmp(&other.from));
            (key, dated)
        }));
        self.version = format!("{}+{name}", self.version);
        self.models = models.into();
        self
    }

    fn known(&self) -> &Models {
        self.models.get_or_init(|| parse_lines(self.lines).unwrap_or_default())
    }

    /// The table's version, which stands in every record of a cost.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where its figures are from.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// All models, by vendor and name, of each what held from which day on.
    pub fn models(&self) -> impl Iterator<Item = &Prices> {
        self.known().values().flatten()
    }

    /// What one web search costs that a vendor runs, in nano-dollars, where a model does not say otherwise.
    #[must_use]
    pub fn web_search(&self) -> u32 {
        self.web_search
    }

    /// The factors that apply to models without their own.
    #[must_use]
    pub fn multipliers(&self) -> &Multipliers {
        &self.multipliers
    }

    /// The prices of a model as its vendor names it, on a day (`YYYY-MM-DD`): by the whole name, or by the name without a
    /// final date or `-latest`.
    ///
    /// Nothing shorter is tried: `gpt-5.5-pro` is not `gpt-5.5`, and guessing so would charge too little.
    #[must_use]
    pub fn get(&self, vendor: Vendor, model: &str, day: &str) -> Option<&Prices> {
        let model = model.to_ascii_lowercase();
        let short = undated(&model).to_owned();
        let dated = self.known().get(&(vendor, model)).or_else(|| self.known().get(&(vendor, short)))?;
        dated.iter().rev().find(|prices| prices.held_on(day)).or_else(|| dated.first())
    }

    /// What holds on a day of everything that a vendor has; of all vendors where the table knows none of its models.
    pub(super) fn of_vendor(&self, vendor: Vendor, day: &str) -> Vec<&Prices> {
        let current = |dated: &Vec<Prices>| dated.iter().rposition(|prices| prices.held_on(day)).unwrap_or(0);
        let all = || self.known().iter().map(|((of, _), dated)| (*of, &dated[current(dated)]));
        let own: Vec<_> = all().filter(|(of, _)| *of == vendor).map(|(_, prices)| prices).collect();
        if own.is_empty() { all().map(|(_, prices)| prices).collect() } else { own }
    }
}

fn parse_lines(text: &str) -> Result<Models, PriceError> {
    let mut models = Models::new();
    for (index, line) in text.lines().enumerate() {
        if line.len() > LINE_BYTES_MAX || index >= LINES_MAX {
            return Err(PriceError::TooLarge);
        }
        let written: WrittenPrices =
            serde_json::from_str(line).map_err(|error| PriceError::Json { line: index + 2, error })?;
        let prices = Prices::from(written);
        prices.check()?;
        let dated = models.entry((prices.vendor, prices.model.clone())).or_default();
        match dated.binary_search_by(|other| other.from.cmp(&prices.from)) {
            Ok(_) => return Err(PriceError::Twice(prices.model)),
            Err(place) => dated.insert(place, prices),
        }
    }
    Ok(models)
}

/// A model's name without a final `-YYYYMMDD`, `@YYYYMMDD`, `-YYYY-MM-DD` or `-latest`.
pub fn undated(model: &str) -> &str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(name) = model.strip_suffix("-latest") {
        return name;
    }
    if let Some((name, date)) = model.rsplit_once(['-', '@'])
        && date.len() == 8
        && digits(date)
    {
        return name;
    }
    let mut parts = model.rsplitn(4, '-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(day), Some(month), Some(year), Some(name))
            if day.len() == 2 && month.len() == 2 && year.len() == 4 && [day, month, year].into_iter().all(digits) =>
        {
            name
        }
        _ => model,
    }
}
