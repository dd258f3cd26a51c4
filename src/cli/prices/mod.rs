//! `omni prices`: the price table that costs are reckoned with.

mod update;

use super::listing::emit;
use crate::meter::{Card, PriceTable, Prices, Rates};
use crate::model::{NanoUsd, Timestamp};
use crate::store::{Home, load_prices};
use anyhow::bail;
use clap::{Args as ClapArgs, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Least likeness, from 0 to 1, at which another model's name is suggested.
const LIKENESS_MIN: f64 = 0.7;
/// Pico-dollars for a token in nano-dollars for a million.
const NANO_PER_MILLION: i64 = 1000;

/// Show what models cost.
///
/// Prices are in US dollars for a million tokens; with `--json`, as decimal strings. Prices of your own, such as those of a
/// contract, stand in prices.yaml in omni's home (docs/prices.md).
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  omni prices\n  omni prices show claude-sonnet-5 --json")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// One model's prices at each vendor, of all days; its name may end in a date, as vendors write it
    #[command(after_help = "Example:\n  omni prices show claude-sonnet-5")]
    Show {
        /// The model's name
        model: String,
    },
    /// Put another table in the place of the one that ships with omni
    #[command(
        after_help = "Example:\n  omni prices update prices.jsonl --sha256 8a1f0c…\n  omni prices update --shipped"
    )]
    Update(update::Args),
}

/// Prints the table, or one model of it; or puts another in its place.
///
/// # Errors
/// A model that the table does not know, with the nearest one that it does; files of prices that are wrong; stdout that cannot
/// be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::path_from_env()?;
    if let Some(What::Update(args)) = args.what {
        return update::run(args);
    }
    let table = load_prices(&home)?;
    let today = Timestamp(jiff::Timestamp::now().as_microsecond()).to_day();
    let prices = match &args.what {
        Some(What::Show { model }) => named(&table, model)?,
        _ => holding(&table, &today),
    };
    let text = if args.json { lines(&table, &prices) } else { listing(&table, &prices, args.what.is_some()) };
    emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What holds on a day, of every model.
fn holding<'a>(table: &'a PriceTable, day: &str) -> Vec<&'a Prices> {
    let holds = |prices: &&Prices| table.get(prices.vendor, &prices.model, day) == Some(*prices);
    table.models().filter(holds).collect()
}

/// Everything on one model.
fn named<'a>(table: &'a PriceTable, model: &str) -> anyhow::Result<Vec<&'a Prices>> {
    let whole = model.to_ascii_lowercase();
    let is = |name: &str| table.models().filter(|prices| prices.model == name).collect::<Vec<_>>();
    let found = is(&whole);
    let found = if found.is_empty() { is(crate::meter::undated(&whole)) } else { found };
    if found.is_empty() {
        bail!(unknown(table, model));
    }
    Ok(found)
}

fn unknown(table: &PriceTable, model: &str) -> String {
    let likeness = |name: &str| strsim::jaro_winkler(name, &model.to_ascii_lowercase());
    let names = table.models().map(|prices| prices.model.as_str());
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|name| likeness(name) > LIKENESS_MIN);
    let hint = nearest.map_or_else(|| "see `omni prices`".to_owned(), |name| format!("did you mean `{name}`?"));
    let version = table.version();
    format!(
        "no prices are known for `{model}` in the table of {version}; {hint}\n\
         calls of an unknown model are charged at the dearest price of any model of its vendor"
    )
}

/// The parts of a price, with the names that both forms of output use.
fn parts(rates: Rates) -> [(&'static str, u32); 5] {
    [
        ("input", rates.input),
        ("output", rates.output),
        ("cache_read", rates.cache_read),
        ("cache_write", rates.cache_write),
        ("cache_write_long", rates.cache_write_long),
    ]
}

/// Dollars for a million tokens, of pico-dollars for one.
fn per_million(pico: u32) -> String {
    NanoUsd(i64::from(pico) * NANO_PER_MILLION).to_decimal()
}

/// The rates of a card's classes of service other than the usual one, as far as they have their own.
fn services(card: &Card) -> impl Iterator<Item = (&'static str, Rates)> {
    let own = [("priority", card.priority), ("flex", card.flex), ("batch", card.batch), ("ultrafast", card.ultrafast)];
    own.into_iter().filter_map(|(name, rates)| Some((name, rates?)))
}

fn lines(table: &PriceTable, all: &[&Prices]) -> String {
    let rates = |rates| {
        let parts = parts(rates).map(|(name, pico)| (name.to_owned(), per_million(pico).into()));
        Value::Object(parts.into_iter().collect())
    };
    let card = |card: &Card| {
        let services = services(card).map(|(name, own)| (name.to_owned(), rates(own))).collect();
        json!({"above_tokens": card.above, "usd_per_million": rates(card.rates), "services": Value::Object(services)})
    };
    let line = |prices: &&Prices| {
        let all = json!({
            "vendor": prices.vendor.as_str(),
            "model": prices.model,
            "from": prices.from,
            "prompts": prices.cards.iter().map(card).collect::<Vec<_>>(),
            "output_tokens_max": prices.max_output,
            "usd_per_web_search": NanoUsd(prices.web_search.unwrap_or(table.web_search()).into()).to_decimal(),
            "disputed": prices.disputed,
            "price_table": table.version(),
        });
        format!("{all}\n")
    };
    all.iter().map(line).collect()
}

fn listing(table: &PriceTable, all: &[&Prices], whole: bool) -> String {
    let mut shown = Table::new();
    shown.load_preset(presets::NOTHING);
    shown.set_header([
        "MODEL",
        "VENDOR",
        "FROM",
        "PROMPT",
        "INPUT",
        "OUTPUT",
        "CACHE READ",
        "CACHE WRITE",
        "CACHE WRITE LONG",
    ]);
    let row = |head: [&str; 3], prompt: String, rates: Rates| {
        let head = head.into_iter().map(str::to_owned).chain([prompt]);
        head.chain(parts(rates).map(|(_, pico)| per_million(pico))).collect::<Vec<_>>()
    };
    for prices in all {
        for (index, card) in prices.cards.iter().enumerate() {
            let prompt = if card.above == 0 { "any".to_owned() } else { format!("> {}", card.above) };
            let from = prices.from.as_deref().unwrap_or_default();
            let head = if index == 0 { [&prices.model, prices.vendor.as_str(), from] } else { [""; 3] };
            shown.add_row(row(head, prompt, card.rates));
            for (service, rates) in services(card).filter(|_| whole) {
                shown.add_row(row([""; 3], service.to_owned(), rates));
            }
        }
    }
    for column in shown.column_iter_mut() {
        column.set_padding((0, 1));
        if column.index > 3 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let body: String = shown.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("{body}\n{}", if whole { explained(table, all) } else { told(table) })
}

/// What the figures are, and where they are from.
fn told(table: &PriceTable) -> String {
    let sources: Vec<_> = table
        .sources()
        .iter()
        .map(|source| format!("{} {} ({})", source.name, source.version, source.licence))
        .collect();
    let (version, sources) = (table.version(), sources.join(" and "));
    format!("USD per million tokens, table of {version}, made of {sources}.\n")
}

/// The same, and what a table cannot show.
fn explained(table: &PriceTable, all: &[&Prices]) -> String {
    let mut text = told(table);
    if all.iter().any(|prices| prices.disputed) {
        text.push_str("Its sources disagree on this model; the dearer price of each part is taken.\n");
    }
    if let Some(tokens) = all.iter().filter_map(|prices| prices.max_output).max() {
        text.push_str(&format!("An answer has at most {tokens} tokens.\n"));
    }
    let searches = all.iter().map(|prices| prices.web_search.unwrap_or(table.web_search())).max().unwrap_or_default();
    text.push_str(&format!("A web search that the vendor runs is {}.\n", NanoUsd(searches.into())));
    let usual = table.multipliers();
    let times = |name: &str, ratio: crate::meter::Ratio| format!("{name} {}/{}", ratio.numerator, ratio.denominator);
    let factors = [
        times("priority", usual.priority),
        times("flex", usual.flex),
        times("batch", usual.batch),
        times("fast mode", usual.fast),
    ];
    text.push_str(&format!("Where no rates of their own stand above: {}.\n", factors.join(", ")));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::meter::Vendor;

    #[test]
    fn a_mistyped_model_is_told_the_nearest() {
        let text = unknown(&PriceTable::embedded(), "claude-sonet-5");
        assert!(text.contains("did you mean `claude-sonnet-5`?"), "{text}");
        assert!(unknown(&PriceTable::embedded(), "zzz").contains("see `omni prices`"));
    }

    #[test]
    fn prices_are_decimal_dollars() {
        assert_eq!(per_million(125_000), "0.125");
        assert_eq!(per_million(2_000_000), "2.00");
        assert_eq!(per_million(18_750), "0.01875");
    }

    #[test]
    fn only_what_holds_is_listed_and_everything_is_shown() {
        let table = PriceTable::embedded();
        let is = |prices: &&Prices| prices.vendor == Vendor::Google && prices.model == "gemini-3.8-flash";
        let on = |day| holding(&table, day).into_iter().filter(|prices| is(prices)).count();
        assert_eq!((on("2026-12-31"), on("2027-01-01")), (1, 1));
        let all = named(&table, "gemini-3.8-flash-latest").unwrap();
        assert_eq!(all.into_iter().filter(is).count(), 2);
    }
}
