//! Checks that the tests cover every row of the tables in the implementation.

use std::collections::BTreeSet;

use useradmin::{
    error::rule::{Body, Rule, decide},
    upstream::ibm_hmc::rules::{LOGON_RULES, RULES},
};
use useradmin_testkit::Say;

use super::rows;
use crate::hmc_logon;

/// Asserts that each row of a table in the implementation is the first match of some tested response, that is, that no
/// row is untested or shadowed.
fn expect_all_hit(table: &'static [Rule], said: &[Say]) {
    let told: Vec<_> = said.iter().filter_map(Say::told).collect();
    for rule in table {
        let hit = told.iter().any(|(status, reason)| {
            let code = reason.map(|reason| reason.to_string());
            decide(table, *status, code.as_deref(), &[])
                .is_some_and(|first| std::ptr::eq(first, rule))
        });
        assert!(
            hit,
            "add one to tests/it/hmc_rules/ or hmc_logon/: no answer leads to {rule:?}"
        );
    }
    let mut codes = BTreeSet::new();
    for rule in table {
        if let Body::Code(reason) = rule.body {
            assert!(
                codes.insert((*rule.status.start(), reason)),
                "{rule:?} twice"
            );
        }
    }
}

#[test]
fn every_rule_is_tested_and_not_shadowed() {
    let said: Vec<_> = rows().into_iter().map(|row| row.say).collect();
    expect_all_hit(RULES, &said);
    let said: Vec<_> = hmc_logon::rows().into_iter().map(|row| row.say).collect();
    expect_all_hit(LOGON_RULES, &said);
}

#[test]
fn responses_are_unique() {
    let delete = rows().into_iter().map(|row| row.say.to_string());
    let logon = hmc_logon::rows().into_iter().map(|row| row.say.to_string());
    for said in [delete.collect::<Vec<_>>(), logon.collect()] {
        let once: BTreeSet<_> = said.iter().collect();
        assert_eq!(once.len(), said.len(), "{said:?}");
    }
}
