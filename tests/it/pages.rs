//! Pages that name tests: each `file.rs::name` is a test of that file, and each claim of docs/compare.md names one.

use freehold_tests::paths::workspace;

use crate::house::read;

const COMPARISON: &str = "docs/compare.md";

#[test]
fn every_test_that_a_page_names_exists() {
    for (page, fewest) in [(COMPARISON, 15), ("docs/when-to-use.md", 5)] {
        let text = page_text(page);
        let named: Vec<(&str, &str)> = tests_named_in(&text).collect();
        assert!(named.len() > fewest, "{page} names {named:?}");
        for (file, name) in named {
            let there = is_test(&read(&workspace().join(file)), name);
            assert!(there, "{page} names {file}::{name}: no such test");
        }
    }
}

#[test]
fn every_claim_of_the_comparison_names_a_test() {
    let page = page_text(COMPARISON);
    let claims = rows_below(&page, "## What each does");
    let proofs = rows_below(&page, "## What holds it");
    let claimed: Vec<&str> = claims.iter().map(|row| cell(row, 1)).collect();
    let proven: Vec<&str> = proofs.iter().map(|row| cell(row, 1)).collect();
    assert!(claimed.len() > 10, "{claimed:?}");
    assert_eq!(claimed, proven);
    for row in claims {
        let ours = cell(row, 3);
        assert!(ours == "yes" || ours.starts_with("part"), "{row}");
    }
    for row in proofs {
        assert!(tests_named_in(row).next().is_some(), "no test: {row}");
    }
}

#[test]
fn a_function_that_is_no_test_is_not_taken_for_one() {
    let text = "#[tokio::test(start_paused = true)]\nasync fn one() {\n}\n\nfn two() {\n}\n\n#[test]\n\
                #[ignore]\nfn three() {\n}\n";
    assert!(is_test(text, "one"));
    assert!(!is_test(text, "two"));
    assert!(!is_test(text, "on"));
    assert!(!is_test(text, "three"), "an ignored test proves nothing");
}

fn page_text(page: &str) -> String {
    read(&workspace().join(page))
}

/// `tests/it/kills.rs::name`, between backquotes.
fn tests_named_in(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let pairs = quoted.filter_map(|word| word.split_once("::"));
    pairs.filter(|(file, _)| file.ends_with(".rs"))
}

/// The function exists, and the line above it says that it runs as a test.
fn is_test(text: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    lines.windows(2).any(|pair| {
        let attribute = pair[0].starts_with("#[test]") || pair[0].starts_with("#[tokio::test");
        attribute && pair[1].trim_start_matches("async ").starts_with(&function)
    })
}

/// The numbered rows of the table below a heading.
fn rows_below<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, part) = page.split_once(heading).expect("the heading");
    let part = part.split("\n## ").next().unwrap_or_default();
    let numbered = |row: &&str| cell(row, 1).parse::<u32>().is_ok();
    part.lines()
        .filter(|line| line.starts_with('|'))
        .filter(numbered)
        .collect()
}

fn cell(row: &str, number: usize) -> &str {
    row.split('|').nth(number).unwrap_or_default().trim()
}
