//! Generates `docs/errors.md` and `docs/configuration.md` from the proto comments and the tables. If a file is out of
//! date, the test rewrites it and fails once; where `CI` is set, the test only fails. Also checks that everything that
//! `docs/security.md` names exists.

#![allow(
    clippy::format_push_string,
    reason = "a document is built from its top to its end"
)]

mod audit;
mod configuration;
mod dependencies;
mod errors;
mod links;
mod operations;
mod releases;
mod reliability;
mod security;

use std::{env, fs, path::Path};

#[test]
fn errors_page_is_up_to_date() {
    assert_up_to_date("errors.md", &errors::document());
}

#[test]
fn configuration_page_is_up_to_date() {
    assert_up_to_date("configuration.md", &configuration::document());
}

fn assert_up_to_date(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return;
    }
    assert!(
        env::var_os("CI").is_none(),
        "docs/{name} is stale: run `cargo test` without CI set, and commit what it writes"
    );
    fs::write(&path, text).unwrap();
    panic!("docs/{name} was stale and has been written anew: commit it");
}

/// Returns a row of a Markdown table.
fn row(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Returns the header of a Markdown table.
fn head(cells: &[&str]) -> String {
    row(cells) + &"|---".repeat(cells.len()) + "|\n"
}
