//! Model calls as rows of the FinOps Open Cost and Usage Specification, version 1.3 (focus.finops.org), in CSV (RFC 4180).
//!
//! A row is one call. It is priced as one request, since its tokens have several prices; how many there were is what it
//! consumed, and the parts are in columns of our own, which begin with `x_` as the specification wants. omni knows no
//! discounts and no invoices, so that all four costs are the same.

use super::owners::{Owner, Owners};
use crate::model::{Event, NanoUsd, SessionId, Timestamp, printable};
use crate::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many events are in memory at once.
const PAGE_EVENTS: u32 = 4_000;

/// The columns, in the order of the specification's own list, and after them those of our own.
pub(super) const COLUMNS: [&str; 52] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "HostProviderName",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceProviderName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
    "x_CacheReadTokens",
    "x_CacheWriteTokens",
    "x_InputTokens",
    "x_OutputTokens",
    "x_PriceTable",
    "x_Pricing",
    "x_Request",
    "x_ServiceClass",
    "x_SessionId",
    "x_WebSearches",
];

/// A call, as its event tells.
struct Call {
    session: SessionId,
    at: Timestamp,
    event: Event,
}

/// Hands over the table, a line at a time.
///
/// # Errors
/// When the store cannot be read, or the lines not be written.
pub(super) fn export(
    store: &dyn Store,
    since: Option<Timestamp>,
    now: Timestamp,
    write: &mut impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut owners = Owners::new(store);
    write(&line(COLUMNS.iter().map(|name| (*name).to_owned())))?;
    let mut after = (since.unwrap_or(Timestamp(i64::MIN)), 0);
    loop {
        // What is folded as this runs may be of the same moment.
        let events = store.log_between(after, Timestamp(now.0.saturating_add(1)), PAGE_EVENTS)?;
        let Some(last) = events.last() else { return Ok(()) };
        after = (last.at, last.entry);
        for stored in &events {
            let Some(event @ Event::UsageMetered { .. }) = stored.event() else { continue };
            let call = Call { session: stored.session.clone(), at: stored.at, event };
            let cells = cells(&call, owners.of(&stored.session)?);
            write(&line(COLUMNS.iter().map(|name| cells.get(name).cloned().unwrap_or_default())))?;
        }
    }
}

/// The cells of a row by their columns; what is not there is null, which CSV has as nothing.
fn cells(call: &Call, owner: &Owner) -> BTreeMap<&'static str, String> {
    let Event::UsageMetered { request, dialect, vendor, model, usage, service: class, cost, pricing, price_table } =
        &call.event
    else {
        return BTreeMap::new();
    };
    let (vendor, service) = names(vendor, dialect);
    let model = plain(model);
    let [month, next_month, hour, next_hour] = periods(call.at);
    let cost = NanoUsd::to_decimal(*cost);
    let written = usage.cache_write.saturating_add(usage.cache_write_long);
    let tokens =
        [usage.input, usage.cache_read, written, usage.output].iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
    let mut cells = BTreeMap::from([
        ("BillingAccountId", vendor.clone()),
        ("BillingAccountType", "API account".to_owned()),
        ("BillingCurrency", "USD".to_owned()),
        ("BillingPeriodStart", month),
        ("BillingPeriodEnd", next_month),
        ("ChargeCategory", "Usage".to_owned()),
        ("ChargeDescription", format!("A call of {model} at {service}")),
        ("ChargeFrequency", "Usage-Based".to_owned()),
        ("ChargePeriodStart", hour),
        ("ChargePeriodEnd", next_hour),
        ("ConsumedQuantity", tokens.to_string()),
        ("ConsumedUnit", "Tokens".to_owned()),
        // Who serves a model does not say on whose machines, which the specification lets be the same.
        ("HostProviderName", service.to_owned()),
        ("InvoiceIssuerName", service.to_owned()),
        ("PricingCategory", "Standard".to_owned()),
        ("PricingCurrency", "USD".to_owned()),
        ("PricingQuantity", "1".to_owned()),
        ("PricingUnit", "Requests".to_owned()),
        ("ProviderName", service.to_owned()),
        ("PublisherName", service.to_owned()),
        ("ResourceId", model.clone()),
        ("ResourceName", model.clone()),
        ("ResourceType", "Model".to_owned()),
        ("ServiceCategory", "AI and Machine Learning".to_owned()),
        ("ServiceName", service.to_owned()),
        ("ServiceProviderName", service.to_owned()),
        ("ServiceSubcategory", "Generative AI".to_owned()),
        ("SkuId", format!("{vendor}/{model}")),
        ("SkuMeter", "Requests".to_owned()),
        ("SkuPriceId", format!("{vendor}/{model}/{}", plain(price_table))),
        ("Tags", tags(&call.session, owner).to_string()),
        ("x_CacheReadTokens", usage.cache_read.to_string()),
        ("x_CacheWriteTokens", written.to_string()),
        ("x_InputTokens", usage.input.to_string()),
        ("x_OutputTokens", usage.output.to_string()),
        ("x_PriceTable", plain(price_table)),
        ("x_Pricing", word(pricing)),
        ("x_Request", request.0.to_string()),
        ("x_ServiceClass", plain(class)),
        ("x_SessionId", call.session.to_string()),
        ("x_WebSearches", usage.web_searches.to_string()),
    ]);
    for column in ["BilledCost", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "ListCost", "ListUnitPrice"]
    {
        cells.insert(column, cost.clone());
    }
    if let Some(project) = &owner.project {
        let project = plain(project);
        cells.insert("SubAccountName", project.clone());
        cells.insert("SubAccountId", project);
        cells.insert("SubAccountType", "Project".to_owned());
    }
    cells
}

/// The word that a value is written as.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default()
}

/// What stands in the `Tags` of a row: the user's own, and ours under a name of their own.
fn tags(session: &SessionId, owner: &Owner) -> Value {
    let own = [
        ("omni:user", Some(owner.user.clone()).filter(|user| !user.is_empty())),
        ("omni:team", owner.team.clone()),
        ("omni:agent", Some(owner.agent.clone()).filter(|agent| !agent.is_empty())),
        ("omni:session", Some(session.to_string())),
        ("omni:name", owner.name.clone()),
    ];
    let own = own.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    json!(owner.tags.clone().into_iter().chain(own).collect::<BTreeMap<_, _>>())
}

/// A vendor as records name it, and as its bill does. Records from before vendors were told have the dialect alone.
fn names(vendor: &str, dialect: &str) -> (String, &'static str) {
    let vendor = match (vendor, dialect) {
        ("", "anthropic-messages") => "anthropic",
        ("", "google-generate") => "google",
        ("", "bedrock-converse") => "bedrock",
        ("", _) => "openai",
        (vendor, _) => vendor,
    };
    let service = match vendor {
        "anthropic" => "Anthropic API",
        "azure" => "Azure OpenAI",
        "bedrock" => "Amazon Bedrock",
        "deepseek" => "DeepSeek API",
        "google" => "Gemini API",
        "groq" => "GroqCloud",
        "local" => "Own hardware",
        "mistral" => "Mistral AI",
        "openai" => "OpenAI API",
        "openrouter" => "OpenRouter",
        "vertex" => "Vertex AI",
        "xai" => "xAI API",
        _ => "Own contract",
    };
    (plain(vendor), service)
}

/// The month and the hour that a moment is in, each from its first second to the first that is in it no more.
fn periods(at: Timestamp) -> [String; 4] {
    const HOUR: i64 = 3_600_000_000;
    let hour = Timestamp(at.0.div_euclid(HOUR).saturating_mul(HOUR));
    let (month, zone) = (crate::model::Window::Month, crate::model::Zone::UTC);
    let next = month.end(at, &zone).unwrap_or(at);
    [month.start(at, &zone), next, hour, Timestamp(hour.0.saturating_add(HOUR))].map(second)
}

/// A moment in the specification's form, to the second.
fn second(at: Timestamp) -> String {
    let whole = at.to_rfc3339();
    format!("{}Z", whole.split(['.', 'Z']).next().unwrap_or_default())
}

/// Text of anybody's: one line, and nothing that a spreadsheet would take for a formula.
fn plain(text: &str) -> String {
    let text = printable(text).into_owned();
    match text.chars().next() {
        Some('=' | '+' | '-' | '@') => format!("'{text}"),
        _ => text,
    }
}

/// A line of the table.
fn line(cells: impl Iterator<Item = String>) -> String {
    let quoted = |cell: String| match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    format!("{}\r\n", cells.map(quoted).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_order_and_each_stands_once() {
        let (given, own): (Vec<&str>, Vec<&str>) = COLUMNS.iter().partition(|name| !name.starts_with("x_"));
        for columns in [given, own] {
            assert!(columns.windows(2).all(|pair| pair[0] < pair[1]), "{columns:?}");
        }
    }

    #[test]
    fn a_period_ends_where_the_next_begins() {
        let at = Timestamp(1_798_761_599_999_999);
        assert_eq!(
            periods(at),
            ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z"]
        );
    }

    #[test]
    fn what_is_written_stays_in_its_cell() {
        let cells = ["a,b", "say \"hi\"", "plain", ""].map(str::to_owned);
        assert_eq!(line(cells.into_iter()), "\"a,b\",\"say \"\"hi\"\"\",plain,\r\n");
        assert_eq!(plain("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
    }
}
