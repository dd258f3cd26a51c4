//! A report as one page of HTML that loads nothing: bars are drawn in SVG, and nothing in it runs.

use super::digest::{Named, Report};
use crate::cli::listing;
use crate::model::printable;
use std::fmt::Write as _;

/// What the page looks like.
const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2330}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #e3e6ec;vertical-align:top;overflow-wrap:anywhere}\
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}svg{display:block}.w{color:#a02020}";
/// Pixels of the longest bar.
const BAR_WIDTH: u64 = 240;

/// Text of anybody's as it may stand in HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A cell of a table.
enum Cell {
    Text(String),
    Number(String),
    /// How long a bar is of the longest.
    Bar(u64, u64),
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => format!("<td>{}</td>", escaped(text)),
        Cell::Number(text) => format!("<td class=n>{}</td>", escaped(text)),
        Cell::Bar(count, most) => {
            let width = (BAR_WIDTH * count / (*most).max(1)).max(1);
            format!(
                "<td><svg width={BAR_WIDTH} height=12 role=img aria-label=\"{count}\"><rect width={width} height=12 \
                 fill=\"#3b6fd4\"/></svg></td>"
            )
        }
    }
}

fn part(page: &mut String, title: &str, columns: &[&str], rows: &[Vec<Cell>]) {
    if rows.is_empty() {
        return;
    }
    let numbers = |index: usize| rows.iter().any(|row| matches!(row.get(index), Some(Cell::Number(_))));
    let class = |index: usize| if numbers(index) { " class=n" } else { "" };
    let head = |(index, column): (usize, &&str)| format!("<th{}>{}</th>", class(index), escaped(column));
    let head: String = columns.iter().enumerate().map(head).collect();
    let body: String =
        rows.iter().map(|row| format!("<tr>{}</tr>\n", row.iter().map(cell).collect::<String>())).collect();
    // Writing to a string cannot fail.
    let _ = write!(page, "<h2>{}</h2>\n<table><tr>{head}</tr>\n{body}</table>\n", escaped(title));
}

fn bars(all: &[Named]) -> Vec<Vec<Cell>> {
    let most = all.iter().map(|one| one.count).max().unwrap_or_default();
    let row = |one: &Named| {
        vec![Cell::Text(one.name.clone()), Cell::Number(one.count.to_string()), Cell::Bar(one.count, most)]
    };
    all.iter().map(row).collect()
}

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta http-equiv=Content-Security-Policy content=\"default-src \
         'none'; style-src 'unsafe-inline'\"><title>omni: {0} to {1}</title><style>{STYLE}</style>\n<h1>What the agents did, \
         {0} to {1}</h1>\n",
        escaped(&report.since),
        escaped(&report.until)
    );
    for what in &report.unusual {
        let _ = writeln!(page, "<p class=w>Unusual: {}</p>", escaped(what));
    }
    let counts = report.counts.rows().into_iter().zip(report.before.rows());
    let counts: Vec<_> = counts
        .map(|((name, now), (_, before))| {
            vec![Cell::Text(name.to_owned()), Cell::Number(now.to_string()), Cell::Number(before.to_string())]
        })
        .collect();
    part(&mut page, "In numbers", &["", "now", "before"], &counts);
    let most = report.refusals.iter().map(|one| one.count).max().unwrap_or_default();
    let refusals = report.refusals.iter().map(|one| {
        let what = Cell::Text(one.what.clone());
        vec![what, Cell::Text(one.why.clone()), Cell::Number(one.count.to_string()), Cell::Bar(one.count, most)]
    });
    part(&mut page, "Refused", &["what", "why", "times", ""], &refusals.collect::<Vec<_>>());
    part(&mut page, "New hosts", &["host", "requests", ""], &bars(&report.new_hosts));
    part(&mut page, "Hosts", &["host", "requests", ""], &bars(&report.hosts));
    part(&mut page, "Secrets used", &["secret", "requests", ""], &bars(&report.secrets));
    let dearest = report.spend.iter().map(|one| one.cost.0.cast_unsigned()).max().unwrap_or_default();
    let spend = report.spend.iter().map(|one| {
        let cost = Cell::Number(listing::money(one.cost, 0));
        let calls = Cell::Number(one.calls.to_string());
        // In thousandths, so that no multiplication overflows.
        let bar = Cell::Bar(one.cost.0.cast_unsigned() / 1000, dearest / 1000);
        vec![Cell::Text(one.user.clone()), Cell::Text(one.model.clone()), calls, cost, bar]
    });
    part(&mut page, "Spend", &["user", "model", "calls", "cost", ""], &spend.collect::<Vec<_>>());
    let dearest = report.spend_by_team.iter().map(|one| one.cost.0.cast_unsigned()).max().unwrap_or_default();
    let teams = report.spend_by_team.iter().map(|one| {
        let (calls, cost) = (Cell::Number(one.calls.to_string()), Cell::Number(listing::money(one.cost, 0)));
        vec![Cell::Text(one.team.clone()), calls, cost, Cell::Bar(one.cost.0.cast_unsigned() / 1000, dearest / 1000)]
    });
    part(&mut page, "Spend by team", &["team", "calls", "cost", ""], &teams.collect::<Vec<_>>());
    let answers = report.answers.iter().map(|one| {
        let number = |value: i64| Cell::Number(format!("{value} ms"));
        vec![
            Cell::Text(one.answer.clone()),
            Cell::Number(one.count.to_string()),
            number(one.median_ms),
            number(one.longest_ms),
        ]
    });
    part(&mut page, "Questions", &["answer", "times", "median", "longest"], &answers.collect::<Vec<_>>());
    let weak = report.weak.iter().map(|one| vec![Cell::Text(one.session.clone()), Cell::Text(one.gaps.join("; "))]);
    part(&mut page, "Weak isolation", &["session", "why"], &weak.collect::<Vec<_>>());
    page.push_str("</html>\n");
    page
}
