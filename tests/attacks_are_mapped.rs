//! `docs/attacks.md` tells the truth: every attack has its row, and every test that a row names is in the sources.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// How many attacks the list has.
const ATTACKS: usize = 78;

/// A row of the tables: its number, and what it says.
struct Row {
    number: usize,
    cells: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string("docs/attacks.md").unwrap();
    let row = |line: &str| {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        Some(Row { number: cells.first()?.parse().ok()?, cells })
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
    let numbers: Vec<usize> = rows().iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=ATTACKS).collect::<Vec<_>>());
}

#[test]
fn every_row_says_what_is_tried_and_what_comes_of_it() {
    for row in rows() {
        assert!(row.cells.len() == 4 && row.cells.iter().all(|cell| !cell.is_empty()), "{}", row.number);
    }
}

#[test]
fn every_test_that_is_named_is_in_the_sources() {
    let missing: Vec<String> = rows()
        .iter()
        .flat_map(|row| {
            row.tests().filter(|test| !is_there(test)).map(|test| format!("{}: {test}", row.number)).collect::<Vec<_>>()
        })
        .collect();
    assert!(missing.is_empty(), "these are not there: {missing:#?}");
    assert!(!is_there("sandbox::files::no_such_test"), "what is not there is noticed");
}
