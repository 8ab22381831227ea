//! Checks what each platform declares: the names of its resources and its tables of rules. Covers all platforms of the
//! registry.

use std::{collections::BTreeSet, path::Path};

use useradmin::{
    error::{
        resource::Level,
        rule::{Body, Rule, first_match},
    },
    proto::request_fields,
    service::rpcs::RPCS,
    upstream::registry::tables,
};

#[test]
fn platform_resource_names_match_request_fields() {
    let mut upstreams = BTreeSet::new();
    for (rpc, names) in RPCS {
        let levels: Vec<_> = names.collections.iter().map(|one| one.level).collect();
        assert_eq!(levels.first(), Some(&Level::Target), "{rpc}");
        assert_eq!(levels.last(), Some(&Level::User), "{rpc}");
        let keys = names
            .collections
            .iter()
            .flat_map(|collection| collection.metadata_keys);
        for key in keys {
            assert!(request_fields().any(|field| field == *key), "{rpc}: {key}");
        }
        assert!(
            upstreams.insert(names.upstream),
            "{rpc}: its upstream has two rpcs"
        );
        assert!(
            tables()
                .iter()
                .any(|(named, ..)| named.upstream == names.upstream),
            "{rpc}"
        );
    }
}

/// Only a 5xx status means that a target is down. A rule for a 5xx with any body always does.
#[test]
fn rules_for_5xx_count_for_circuit_breaker() {
    for row in tables().into_iter().flat_map(|(_, _, rules)| rules) {
        let is_5xx = *row.status.start() >= 500 && *row.status.end() < 600;
        assert!(is_5xx || !row.down, "{row:?}");
        assert!(row.down || !is_5xx || row.body != Body::Any, "{row:?}");
    }
}

/// Asserts that every row decides some response, that is, that the rows before it do not cover it completely.
#[track_caller]
fn assert_no_shadowed_row(table: &[Rule]) {
    for row in table {
        let (code, header) = match row.body {
            Body::Any => (None, None),
            Body::AnyErrorDocument => (Some("unlisted"), None),
            Body::Code(code) => (Some(code), None),
            Body::Header(code, header) => (Some(code), Some(header)),
        };
        let headers: Vec<&str> = header.into_iter().collect();
        let decides = |status| {
            first_match(table, status, code, &headers).is_some_and(|found| std::ptr::eq(found, row))
        };
        assert!(row.status.clone().any(decides), "{row:?}");
        assert!(!row.source.is_empty(), "{row:?}");
    }
    let last = table.last().unwrap();
    assert_eq!((last.status.clone(), last.body), (0..=u16::MAX, Body::Any));
}

#[test]
fn rule_tables_have_no_shadowed_row_and_cover_everything() {
    for (_, _, rules) in tables() {
        assert_no_shadowed_row(rules);
    }
}

/// Each upstream, with the module that tests the rows of its tables and with the fuzz entry point for its responses.
const TESTED: [(&str, &str, &str); 2] = [
    ("azure_batch", "batch_rules", "batch"),
    ("ibm_hmc", "hmc_rules", "hmc"),
];

#[test]
fn every_upstream_has_tests_of_its_rows_and_a_fuzz_entry_point() {
    let upstreams: BTreeSet<_> = tables().iter().map(|(names, ..)| names.upstream).collect();
    assert_eq!(upstreams, TESTED.map(|(upstream, ..)| upstream).into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (_, rows, entry) in TESTED {
        for file in [
            format!("tests/it/{rows}.rs"),
            format!("fuzz/entries/{entry}.rs"),
        ] {
            assert!(root.join(&file).exists(), "{file}");
        }
    }
}
