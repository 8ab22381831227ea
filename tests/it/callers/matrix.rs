//! Every caller x rpc x target x pool, from one table.

use std::path::Path;

use tonic::Code;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteHmcUserRequest};

use super::{House, dns, uri};
use crate::{
    access::upstream,
    support::{Failed, Secure, batch_request, batch_section, by_name, hmc_section},
};

const TARGETS: [&str; 3] = ["one", "two", "nowhere"];
const POOLS: [&str; 2] = ["pool-1", "render-9"];

/// What a caller shows.
enum Shows {
    Uri(&'static str),
    Dns(&'static str),
    Subject(&'static str),
    Nothing,
}

/// A caller, the entry of `[[callers]]` that is about it, and the cells that are allowed: Batch target and pool, or HMC.
struct Row {
    shows: Shows,
    entry: &'static str,
    batch: &'static [(&'static str, &'static str)],
    hmc: &'static [&'static str],
}

const TABLE: &[Row] = &[
    Row {
        shows: Shows::Uri("spiffe://corp/all"),
        entry: r#"identity = "spiffe://corp/all"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }, { rpc = "DeleteHmcUser", targets = ["*"] }]"#,
        batch: &[
            ("one", "pool-1"),
            ("one", "render-9"),
            ("two", "pool-1"),
            ("two", "render-9"),
            ("nowhere", "pool-1"),
            ("nowhere", "render-9"),
        ],
        hmc: &["one", "two", "nowhere"],
    },
    Row {
        shows: Shows::Uri("spiffe://corp/batch-two"),
        entry: r#"identity = "spiffe://corp/batch-two"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["t*"] }]"#,
        batch: &[("two", "pool-1"), ("two", "render-9")],
        hmc: &[],
    },
    Row {
        shows: Shows::Dns("hmc.corp.example"),
        entry: r#"identity = "HMC.corp.example"
allow = [{ rpc = "DeleteHmcUser", targets = ["one"] }]"#,
        batch: &[],
        hmc: &["one"],
    },
    Row {
        shows: Shows::Subject("renderer"),
        entry: r#"identity = "https://login.corp.example#renderer"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["one", "two"], pools = ["render-*"] }]"#,
        batch: &[("one", "render-9"), ("two", "render-9")],
        hmc: &[],
    },
    Row {
        shows: Shows::Subject("both"),
        entry: r#"identity = "https://login.corp.example#both"
allow = [{ rpc = "DeleteHmcUser", targets = ["two"] },
         { rpc = "DeleteBatchNodeUser", targets = ["one"], pools = ["pool-1"] }]"#,
        batch: &[("one", "pool-1")],
        hmc: &["two"],
    },
    Row {
        shows: Shows::Uri("spiffe://corp/nothing"),
        entry: "identity = \"spiffe://corp/nothing\"\nallow = []",
        batch: &[],
        hmc: &[],
    },
    // Near misses of the entries above: case, a longer name, another kind of name with the same text.
    Row {
        shows: Shows::Uri("spiffe://corp/All"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Shows::Uri("spiffe://corp/all/x"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Shows::Dns("x.hmc.corp.example"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Shows::Subject("spiffe://corp/all"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Shows::Subject("Both"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Shows::Nothing,
        // It stands there, and nobody is `anonymous` where an identity is asked for.
        entry: r#"identity = "anonymous"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }, { rpc = "DeleteHmcUser", targets = ["*"] }]"#,
        batch: &[],
        hmc: &[],
    },
];

fn sections(folder: &Path, url: &str) -> String {
    let mut text = String::new();
    for row in TABLE.iter().filter(|row| !row.entry.is_empty()) {
        text.extend(["[[callers]]\n", row.entry, "\n"]);
    }
    for target in &TARGETS[..2] {
        text += &batch_section(folder, url)
            .replace("batch_accounts.batch", &format!("batch_accounts.{target}"));
        text += &hmc_section(folder, url).replace("hmcs.hmc", &format!("hmcs.{target}"));
    }
    text
}

fn client(house: &House, shows: &Shows) -> Secure {
    match shows {
        Shows::Uri(name) => house.with_names(vec![uri(name)]),
        Shows::Dns(name) => house.with_names(vec![dns(name)]),
        Shows::Subject(name) => house.with_subject(name),
        Shows::Nothing => house.client(None),
    }
}

/// What must come of a cell, and that nothing was sent unless it is allowed and exists.
fn check(
    house: &House,
    row: &Row,
    cell: &str,
    allowed: bool,
    before: usize,
    answer: Option<&Failed>,
) {
    let requests = house.upstream.seen().len() - before;
    let exists = !cell.contains("nowhere");
    match (answer, allowed, &row.shows) {
        (None, true, _) if exists => assert!(requests > 0, "{cell}"),
        (Some(failed), true, _) if !exists => {
            failed.expect(Code::NotFound, "UNKNOWN_TARGET");
            assert_eq!(requests, 0, "{cell}");
        }
        (Some(failed), false, Shows::Nothing) => {
            failed.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
            assert_eq!(failed.meta("cause"), "nothing_shown");
            assert_eq!(requests, 0, "{cell}");
        }
        (Some(failed), false, _) => {
            failed.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
            assert_eq!(requests, 0, "{cell}");
        }
        _ => panic!("{cell}: {answer:?}"),
    }
}

#[tokio::test]
async fn every_caller_on_every_rpc_and_target() {
    let house = House::start(upstream().await, sections, "").await;
    let mut cells = 0;
    for row in TABLE {
        let client = client(&house, &row.shows);
        for target in TARGETS {
            for pool in POOLS {
                let request = DeleteBatchNodeUserRequest {
                    account: target.to_owned(),
                    pool_id: pool.to_owned(),
                    ..batch_request("alice")
                };
                let before = house.upstream.seen().len();
                let answer = client.delete_batch_node_user(request).await.err();
                let allowed = row.batch.contains(&(target, pool));
                let cell = format!("{} batch {target} {pool}", row.entry);
                check(&house, row, &cell, allowed, before, answer.as_ref());
                cells += 1;
            }
            let request = DeleteHmcUserRequest {
                hmc: target.to_owned(),
                ..by_name("alice")
            };
            let before = house.upstream.seen().len();
            let answer = client.delete_hmc_user(request).await.err();
            let cell = format!("{} hmc {target}", row.entry);
            check(
                &house,
                row,
                &cell,
                row.hmc.contains(&target),
                before,
                answer.as_ref(),
            );
            cells += 1;
        }
    }
    assert_eq!(cells, TABLE.len() * 9);
    // Each refusal is on record, with who it was and how it was shown.
    let records = house.app.audit();
    let denied: Vec<_> = records
        .iter()
        .filter(|record| record["outcome"] == "denied")
        .collect();
    let allowed: usize = TABLE
        .iter()
        .map(|row| row.batch.len() + row.hmc.len())
        .sum();
    assert_eq!(denied.len(), cells - allowed);
    for (caller, auth) in [
        ("spiffe://corp/nothing", "certificate"),
        ("https://login.corp.example#both", "token"),
        ("x.hmc.corp.example", "certificate"),
        ("", "none"),
    ] {
        let found = denied
            .iter()
            .any(|record| record["caller"] == caller && record["auth"] == auth);
        assert!(found, "{caller} {auth}");
    }
}
