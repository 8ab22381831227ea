//! Checks that the tests cover every row of the tables in the implementation.

use std::collections::BTreeSet;

use useradmin::{
    error::rule::{Body, Rule, first_match},
    upstream::ibm_hmc::rules::{LOGON_RULES, RULES},
};
use useradmin_testkit::ScriptedReply;

use super::rows;
use crate::hmc_logon;

/// Asserts that each row of a table in the implementation is the first match of some tested response, that is, that no
/// row is untested or shadowed.
fn assert_all_rules_used(table: &'static [Rule], replies: &[ScriptedReply]) {
    let actual: Vec<_> = replies
        .iter()
        .filter_map(ScriptedReply::status_and_reason)
        .collect();
    for rule in table {
        let hit = actual.iter().any(|(status, reason)| {
            let code = reason.map(|reason| reason.to_string());
            first_match(table, *status, code.as_deref(), &[])
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
    let replies: Vec<_> = rows().into_iter().map(|row| row.reply).collect();
    assert_all_rules_used(RULES, &replies);
    let replies: Vec<_> = hmc_logon::rows().into_iter().map(|row| row.reply).collect();
    assert_all_rules_used(LOGON_RULES, &replies);
}

#[test]
fn responses_are_unique() {
    let delete = rows().into_iter().map(|row| row.reply.to_string());
    let logon = hmc_logon::rows()
        .into_iter()
        .map(|row| row.reply.to_string());
    for replies in [delete.collect::<Vec<_>>(), logon.collect()] {
        let once: BTreeSet<_> = replies.iter().collect();
        assert_eq!(once.len(), replies.len(), "{replies:?}");
    }
}
