//! Checks a table against FOCUS 1.3 (focus.finops.org): that every mandatory column is there and no unknown one, that each value
//! is of its column's type and among those allowed, and what one column says of another.

use std::collections::BTreeMap;

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// A number that is not negative here, since nothing is given back.
    Decimal,
    /// A moment in UTC.
    Moment,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A JSON object whose values are texts.
    Tags,
}

use Kind::{Decimal, Moment, Tags, Text, Word};

/// The columns of version 1.3 that a table of usage can have: name, whether it must be there, whether it may be null, and what it
/// holds.
const COLUMNS: [(&str, bool, bool, Kind); 50] = [
    ("AvailabilityZone", false, true, Text),
    ("BilledCost", true, false, Decimal),
    ("BillingAccountId", true, false, Text),
    ("BillingAccountName", true, true, Text),
    ("BillingAccountType", false, false, Text),
    ("BillingCurrency", true, false, Word(&["USD"])),
    ("BillingPeriodEnd", true, false, Moment),
    ("BillingPeriodStart", true, false, Moment),
    ("ChargeCategory", true, false, Word(&["Usage", "Purchase", "Tax", "Credit", "Adjustment"])),
    ("ChargeClass", true, true, Word(&["Correction"])),
    ("ChargeDescription", true, true, Text),
    ("ChargeFrequency", false, false, Word(&["One-Time", "Recurring", "Usage-Based"])),
    ("ChargePeriodEnd", true, false, Moment),
    ("ChargePeriodStart", true, false, Moment),
    ("ConsumedQuantity", false, true, Decimal),
    ("ConsumedUnit", false, true, Text),
    ("ContractedCost", true, false, Decimal),
    ("ContractedUnitPrice", false, true, Decimal),
    ("EffectiveCost", true, false, Decimal),
    ("HostProviderName", true, false, Text),
    ("InvoiceId", false, true, Text),
    ("InvoiceIssuerName", true, false, Text),
    ("ListCost", true, false, Decimal),
    ("ListUnitPrice", false, true, Decimal),
    ("PricingCategory", false, true, Word(&["Standard", "Dynamic", "Committed", "Other"])),
    ("PricingCurrency", false, false, Word(&["USD"])),
    ("PricingCurrencyContractedUnitPrice", false, true, Decimal),
    ("PricingCurrencyEffectiveCost", false, false, Decimal),
    ("PricingCurrencyListUnitPrice", false, true, Decimal),
    ("PricingQuantity", true, true, Decimal),
    ("PricingUnit", true, true, Text),
    ("ProviderName", true, false, Text),
    ("PublisherName", true, false, Text),
    ("RegionId", false, true, Text),
    ("RegionName", false, true, Text),
    ("ResourceId", false, true, Text),
    ("ResourceName", false, true, Text),
    ("ResourceType", false, true, Text),
    ("ServiceCategory", true, false, Word(&["AI and Machine Learning"])),
    ("ServiceName", true, false, Text),
    ("ServiceProviderName", true, false, Text),
    (
        "ServiceSubcategory",
        false,
        false,
        Word(&[
            "AI Platforms",
            "Bots",
            "Generative AI",
            "Machine Learning",
            "Natural Language Processing",
            "Other (AI and Machine Learning)",
        ]),
    ),
    ("SkuId", false, true, Text),
    ("SkuMeter", false, true, Text),
    ("SkuPriceDetails", false, true, Tags),
    ("SkuPriceId", false, true, Text),
    ("SubAccountId", false, true, Text),
    ("SubAccountName", false, true, Text),
    ("SubAccountType", false, true, Text),
    ("Tags", false, true, Tags),
];

pub type Row = BTreeMap<String, String>;

/// The rows of a table.
pub fn rows(table: &str) -> Vec<Row> {
    let mut lines = csv(table).into_iter();
    let head = lines.next().expect("a head");
    lines
        .map(|cells| {
            assert_eq!(cells.len(), head.len(), "{cells:?}");
            head.iter().cloned().zip(cells).collect()
        })
        .collect()
}

/// What is wrong with a table; nothing where it is as the specification says.
pub fn faults(table: &str) -> Vec<String> {
    let head = csv(table).remove(0);
    let known = |name: &String| name.starts_with("x_") || COLUMNS.iter().any(|(column, ..)| column == name);
    let missing = COLUMNS.iter().filter(|(name, must, ..)| *must && !head.iter().any(|column| column == name));
    let mut faults: Vec<String> = missing.map(|(name, ..)| format!("{name} is missing")).collect();
    faults.extend(head.iter().filter(|name| !known(name)).map(|name| format!("{name} is no column of 1.3")));
    for row in rows(table) {
        for (name, _, nullable, kind) in COLUMNS {
            match row.get(name).map(String::as_str) {
                None => {}
                Some("") if nullable => {}
                Some(value) if holds(kind, value) => {}
                Some(value) => faults.push(format!("{name} cannot be `{value}`")),
            }
        }
        faults.extend(relations(&row));
    }
    faults
}

fn holds(kind: Kind, value: &str) -> bool {
    match kind {
        Text => !value.is_empty(),
        Decimal => value.parse::<f64>().is_ok_and(|number| number >= 0.0) && !value.contains(['e', 'E', '+', ',']),
        Moment => value.len() == 20 && value.ends_with('Z') && value.parse::<jiff::Timestamp>().is_ok(),
        Word(words) => words.contains(&value),
        Tags => serde_json::from_str::<BTreeMap<String, String>>(value).is_ok(),
    }
}

/// What the specification says of columns together, for rows of usage.
fn relations(row: &Row) -> Vec<String> {
    let text = |name: &str| row.get(name).map(String::as_str).unwrap_or_default();
    let number = |name: &str| text(name).parse::<f64>().unwrap_or(f64::NAN);
    let mut faults = Vec::new();
    let mut check = |holds: bool, what: &str| faults.extend((!holds).then(|| what.to_owned()));
    for period in ["Billing", "Charge"] {
        let [start, end] = ["Start", "End"].map(|end| text(&format!("{period}Period{end}")));
        check(start < end, &format!("the {period} period ends before it starts"));
    }
    check(text("BillingPeriodStart") <= text("ChargePeriodStart"), "a charge is before its billing period");
    check(text("ChargePeriodEnd") <= text("BillingPeriodEnd"), "a charge is after its billing period");
    for (unit, cost) in [("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")] {
        let product = number(unit) * number("PricingQuantity");
        check((product - number(cost)).abs() < 1e-9, &format!("{cost} is not {unit} times PricingQuantity"));
    }
    for (quantity, unit) in [("PricingQuantity", "PricingUnit"), ("ConsumedQuantity", "ConsumedUnit")] {
        check(text(quantity).is_empty() == text(unit).is_empty(), &format!("{quantity} without {unit}"));
    }
    for named in ["SubAccountName", "SubAccountType"] {
        check(text("SubAccountId").is_empty() == text(named).is_empty(), &format!("{named} without SubAccountId"));
    }
    check(text("SkuId").is_empty() == text("SkuPriceId").is_empty(), "SkuPriceId without SkuId");
    faults
}

/// Cells of CSV (RFC 4180), line by line.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            other => cell.push(other),
        }
    }
    lines
}
