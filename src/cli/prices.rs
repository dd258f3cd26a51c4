//! `omni prices`: the price table that costs are reckoned with.

use crate::meter::{PriceTable, Prices, Rates};
use crate::model::NanoUsd;
use anyhow::bail;
use clap::{Args as ClapArgs, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Least likeness, from 0 to 1, at which another model's name is suggested.
const LIKENESS_MIN: f64 = 0.7;

/// Show what models cost.
///
/// Prices are in US dollars for a million tokens; with `--json`, as decimal strings.
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
    /// One model's prices; its name may end in a date, as vendors write it
    #[command(after_help = "Example:\n  omni prices show claude-sonnet-5")]
    Show {
        /// The model's name
        model: String,
    },
}

/// Prints the table, or one model of it.
///
/// # Errors
/// A model that the table does not know, with the nearest one that it does; stdout that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let table = PriceTable::embedded();
    let models: Vec<&Prices> = match &args.what {
        None => table.models().collect(),
        Some(What::Show { model }) => match table.get(model) {
            Some(prices) => vec![prices],
            None => bail!(unknown(&table, model)),
        },
    };
    let text = if args.json { lines(&table, &models) } else { listing(&table, &models) };
    super::listing::emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn unknown(table: &PriceTable, model: &str) -> String {
    let likeness = |name: &str| strsim::jaro_winkler(name, &model.to_ascii_lowercase());
    let names = table.models().map(|prices| prices.model.as_str());
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|name| likeness(name) > LIKENESS_MIN);
    let hint = nearest.map_or_else(|| "see `omni prices`".to_owned(), |name| format!("did you mean `{name}`?"));
    let version = table.version();
    format!(
        "no prices are known for `{model}` in the table of {version}; {hint} \
         Calls of an unknown model are charged at the dearest price of any model"
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

/// Dollars for a million tokens, of nano-dollars for one.
fn per_million(nano: u32) -> String {
    NanoUsd(i64::from(nano) * 1_000_000).to_decimal()
}

fn lines(table: &PriceTable, models: &[&Prices]) -> String {
    let rates = |rates| {
        Value::Object(
            parts(rates).map(|(name, nano)| (name.to_owned(), per_million(nano).into())).into_iter().collect(),
        )
    };
    let line = |prices: &&Prices| {
        let long =
            prices.long_prompt.map(|long| json!({"above_tokens": long.above, "usd_per_million": rates(long.rates)}));
        let all = json!({
            "model": prices.model,
            "usd_per_million": rates(prices.rates),
            "long_prompt": long,
            "usd_per_web_search": table.web_search().to_decimal(),
            "price_table": table.version(),
        });
        format!("{all}\n")
    };
    models.iter().map(line).collect()
}

fn listing(table: &PriceTable, models: &[&Prices]) -> String {
    let mut shown = Table::new();
    shown.load_preset(presets::NOTHING);
    shown.set_header(["MODEL", "PROMPT", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "CACHE WRITE LONG"]);
    for prices in models {
        let row = |name: &str, prompt: String, rates: Rates| {
            let mut row = vec![name.to_owned(), prompt];
            row.extend(parts(rates).map(|(_, nano)| per_million(nano)));
            row
        };
        shown.add_row(row(&prices.model, "any".to_owned(), prices.rates));
        if let Some(long) = prices.long_prompt {
            shown.add_row(row("", format!("> {}", long.above), long.rates));
        }
    }
    for column in shown.column_iter_mut() {
        column.set_padding((0, 1));
        if column.index > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let (version, search) = (table.version(), table.web_search());
    let body: String = shown.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("{body}\nUSD per million tokens, table of {version}; a web search is {search}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_model_is_told_the_nearest() {
        let text = unknown(&PriceTable::embedded(), "claude-sonet-5");
        assert!(text.contains("did you mean `claude-sonnet-5`?"), "{text}");
        assert!(unknown(&PriceTable::embedded(), "zzz").contains("see `omni prices`"));
    }

    #[test]
    fn prices_are_decimal_dollars() {
        assert_eq!(per_million(125), "0.125");
        assert_eq!(per_million(2_000), "2.00");
    }
}
