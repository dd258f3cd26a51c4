//! `docs/attacks.md` and `docs/proxy-cases.md` tell the truth: every attack and case has its row, and every test that a row
//! names is in the sources.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A page of tables.
const ATTACKS: &str = "docs/attacks.md";
const CASES: &str = "docs/proxy-cases.md";

/// A row of the tables: its number, and what it says.
struct Row {
    number: String,
    cells: Vec<String>,
}

/// The numbers that each page has, in their order.
fn numbers(page: &str) -> Vec<String> {
    let series =
        |letter: &'static str, from: usize, to: usize| (from..=to).map(move |number| format!("{letter}{number}"));
    match page {
        ATTACKS => series("", 1, 78).collect(),
        _ => {
            let seen = series("P", 1, 40).chain(series("P", 77, 80));
            seen.chain(series("S", 58, 80)).chain(series("O", 1, 24)).collect()
        }
    }
}

fn rows(page: &str) -> Vec<Row> {
    let text = fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let number = cells.first().filter(|cell| cell.ends_with(|last: char| last.is_ascii_digit()))?.clone();
        Some(Row { number, cells })
    };
    text.lines().filter(|line| line.starts_with('|')).filter_map(row).collect()
}

impl Row {
    /// The tests that it names.
    fn tests(&self) -> impl Iterator<Item = &str> {
        self.cells.last().into_iter().flat_map(|cell| cell.split('`')).filter(|word| word.contains("::"))
    }
}

/// The file that `suite::module::…::name` is in, and the test's name.
fn place(test: &str) -> (PathBuf, &str) {
    let (modules, name) = test.rsplit_once("::").unwrap();
    let path = match modules.split_once("::") {
        Some(("lib", inner)) => Path::new("src").join(inner.replace("::", "/")),
        _ => Path::new("tests").join(modules.replace("::", "/")),
    };
    (path.with_extension("rs"), name)
}

fn is_there(test: &str) -> bool {
    let (file, name) = place(test);
    // Written out, or as a line of a table that a macro makes tests of.
    let forms = [format!("fn {name}("), format!("    {name}: Who::")];
    fs::read_to_string(file).is_ok_and(|source| forms.iter().any(|form| source.contains(form)))
}

#[test]
fn every_number_has_its_row_once_and_in_order() {
    for page in [ATTACKS, CASES] {
        let found: Vec<String> = rows(page).into_iter().map(|row| row.number).collect();
        assert_eq!(found, numbers(page), "{page}");
    }
}

#[test]
fn every_row_says_what_is_tried_and_what_comes_of_it() {
    for row in [ATTACKS, CASES].into_iter().flat_map(rows) {
        assert!(row.cells.len() == 4 && row.cells.iter().all(|cell| !cell.is_empty()), "{}", row.number);
    }
    let untried: Vec<String> =
        rows(CASES).into_iter().filter(|row| row.tests().count() == 0).map(|row| row.number).collect();
    assert!(untried.is_empty(), "nothing tries {untried:?}");
}

#[test]
fn every_test_that_is_named_is_in_the_sources() {
    let missing: Vec<String> = [ATTACKS, CASES]
        .into_iter()
        .flat_map(rows)
        .flat_map(|row| {
            row.tests().filter(|test| !is_there(test)).map(|test| format!("{}: {test}", row.number)).collect::<Vec<_>>()
        })
        .collect();
    assert!(missing.is_empty(), "these are not there: {missing:#?}");
    assert!(!is_there("sandbox::files::no_such_test"), "what is not there is noticed");
}
