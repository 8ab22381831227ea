//! Every combination of caller, rpc, target, pool or way to name the user, `validate_only` and `allow_missing`, from
//! one table.

use std::path::Path;

use tonic::Code;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteHmcUserRequest};
use useradmin_testkit::{
    CallFailure, Reply, SecureClient, Upstream, batch_deleted, batch_request, batch_response,
    batch_section, delete_by_id, delete_by_name, hmc_reply_or, hmc_section, token_reply_or,
};

use super::{SecureServer, dns, uri};

/// Two existing targets, one that does not exist, and an empty one.
const TARGETS: [&str; 4] = ["one", "two", "nowhere", ""];
const POOLS: [&str; 2] = ["pool-1", "render-9"];

/// The credential that a caller presents.
enum Credential {
    Uri(&'static str),
    Dns(&'static str),
    Subject(&'static str),
    Nothing,
}

/// A caller, its entry in `[[callers]]`, and the allowed cells: Batch target and pool, or HMC.
struct Row {
    shows: Credential,
    entry: &'static str,
    batch: &'static [(&'static str, &'static str)],
    hmc: &'static [&'static str],
}

const TABLE: &[Row] = &[
    Row {
        shows: Credential::Uri("spiffe://corp/all"),
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
        shows: Credential::Uri("spiffe://corp/batch-two"),
        entry: r#"identity = "spiffe://corp/batch-two"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["t*"] }]"#,
        batch: &[("two", "pool-1"), ("two", "render-9")],
        hmc: &[],
    },
    Row {
        shows: Credential::Dns("hmc.corp.example"),
        entry: r#"identity = "HMC.corp.example"
allow = [{ rpc = "DeleteHmcUser", targets = ["one"] }]"#,
        batch: &[],
        hmc: &["one"],
    },
    Row {
        shows: Credential::Subject("renderer"),
        entry: r#"identity = "https://login.corp.example#renderer"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["one", "two"], pools = ["render-*"] }]"#,
        batch: &[("one", "render-9"), ("two", "render-9")],
        hmc: &[],
    },
    Row {
        shows: Credential::Subject("both"),
        entry: r#"identity = "https://login.corp.example#both"
allow = [{ rpc = "DeleteHmcUser", targets = ["two"] },
         { rpc = "DeleteBatchNodeUser", targets = ["one"], pools = ["pool-1"] }]"#,
        batch: &[("one", "pool-1")],
        hmc: &["two"],
    },
    Row {
        shows: Credential::Uri("spiffe://corp/nothing"),
        entry: "identity = \"spiffe://corp/nothing\"\nallow = []",
        batch: &[],
        hmc: &[],
    },
    // Near misses of the entries above: different case, a longer name, or another kind of name with the same text.
    Row {
        shows: Credential::Uri("spiffe://corp/All"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Credential::Uri("spiffe://corp/all/x"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Credential::Dns("x.hmc.corp.example"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Credential::Subject("spiffe://corp/all"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Credential::Subject("Both"),
        entry: "",
        batch: &[],
        hmc: &[],
    },
    Row {
        shows: Credential::Nothing,
        // This entry has no effect, because `anonymous` does not apply if authentication is configured.
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

fn client(server: &SecureServer, shows: &Credential) -> SecureClient {
    match shows {
        Credential::Uri(name) => server.with_names(vec![uri(name)]),
        Credential::Dns(name) => server.with_names(vec![dns(name)]),
        Credential::Subject(name) => server.with_subject(name),
        Credential::Nothing => server.client(None),
    }
}

/// The options of a cell in addition to the target and the pool or user. They have no effect on permissions.
#[derive(Clone, Copy, Debug)]
struct CallOptions {
    validate_only: bool,
    allow_missing: bool,
}

const CREDENTIALS: [CallOptions; 4] = {
    const fn options(validate_only: bool, allow_missing: bool) -> CallOptions {
        CallOptions {
            validate_only,
            allow_missing,
        }
    }
    [
        options(false, false),
        options(false, true),
        options(true, false),
        options(true, true),
    ]
};

/// The totals of all cells so far.
struct Totals<'a> {
    server: &'a SecureServer,
    cells: usize,
    denied: usize,
    /// Number of requests that the upstream must have received, all of them from admitted calls.
    requests: usize,
    /// Number of DELETEs among the requests.
    deletes: usize,
}

impl Totals<'_> {
    /// Asserts the result of a cell, and that requests were sent only if the call is allowed and the target exists.
    fn check(
        &mut self,
        row: &Row,
        cell: &str,
        target: &str,
        allowed: bool,
        response: Option<&CallFailure>,
    ) {
        let sent_count = self.server.upstream.received().len() - self.requests;
        self.cells += 1;
        if response.is_none() && allowed && TARGETS[..2].contains(&target) {
            assert!(sent_count > 0, "{cell}");
            self.requests += sent_count;
            return;
        }
        let Some(failure) = response else {
            panic!("{cell}");
        };
        assert_eq!(sent_count, 0, "{cell}");
        if matches!(row.shows, Credential::Nothing) {
            failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
            assert_eq!(failure.metadata_value("cause"), "nothing_shown");
        } else if target.is_empty() {
            // There are two targets, so the field is required. Every authenticated caller receives this error,
            // regardless of permissions.
            failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
            return;
        } else if allowed {
            failure.expect(Code::NotFound, "UNKNOWN_TARGET");
            return;
        } else {
            failure.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
        }
        self.denied += 1;
    }

    async fn batch(&mut self, row: &Row, client: &SecureClient, target: &str, how: CallOptions) {
        for pool in POOLS {
            let request = DeleteBatchNodeUserRequest {
                account: target.to_owned(),
                pool_id: pool.to_owned(),
                validate_only: how.validate_only,
                allow_missing: how.allow_missing,
                ..batch_request("alice")
            };
            let response = client.delete_batch_node_user(request).await.err();
            let allowed = row.batch.contains(&(target, pool));
            let cell = format!("{} batch {target} {pool} {how:?}", row.entry);
            self.check(row, &cell, target, allowed, response.as_ref());
            self.deletes += usize::from(response.is_none() && !how.validate_only);
        }
    }

    async fn hmc(&mut self, row: &Row, client: &SecureClient, target: &str, how: CallOptions) {
        for user in [delete_by_name("alice"), delete_by_id("id-1")] {
            let cell = format!("{} hmc {target} {:?} {how:?}", row.entry, user.user);
            let request = DeleteHmcUserRequest {
                hmc: target.to_owned(),
                validate_only: how.validate_only,
                allow_missing: how.allow_missing,
                ..user
            };
            let response = client.delete_hmc_user(request).await.err();
            let allowed = row.hmc.contains(&target);
            self.check(row, &cell, target, allowed, response.as_ref());
            self.deletes += usize::from(response.is_none() && !how.validate_only);
        }
    }
}

/// Starts an upstream like `access::upstream` whose nodes can also be read.
async fn successful_upstream() -> Upstream {
    Upstream::start(|request| {
        token_reply_or(request, || {
            hmc_reply_or(request, || {
                match (request.method.as_str(), request.target.as_str()) {
                    ("GET", _) => batch_response(200, r#"{"state":"idle"}"#),
                    (_, target) if target.starts_with("/pools/") => batch_deleted(),
                    _ => Reply::empty(204),
                }
            })
        })
    })
    .await
}

#[tokio::test]
async fn permissions_of_every_caller_rpc_and_target() {
    let mut server = SecureServer::start(successful_upstream().await, sections, "").await;
    let mut totals = Totals {
        server: &server,
        cells: 0,
        denied: 0,
        requests: 0,
        deletes: 0,
    };
    let clients = TABLE.iter().map(|row| client(&server, &row.shows));
    let clients: Vec<_> = clients.collect();
    // All callers take turns, so that the individually recorded rejections come from many callers.
    for target in TARGETS {
        for how in CREDENTIALS {
            for (row, client) in TABLE.iter().zip(&clients) {
                totals.batch(row, client, target, how).await;
                totals.hmc(row, client, target, how).await;
            }
        }
    }
    let Totals {
        cells,
        denied,
        requests,
        deletes,
        ..
    } = totals;
    assert_eq!(cells, TABLE.len() * TARGETS.len() * CREDENTIALS.len() * 4);
    check_total(&mut server, requests, deletes).await;
    // Each rejection is recorded: the first ones of each reason individually, with the caller and its kind of identity,
    // and the others as a count.
    let records = server.app.audit();
    let refusals: Vec<_> = records
        .iter()
        .filter(|record| record["outcome"] == "denied")
        .collect();
    let count = |record: &&serde_json::Value| {
        record
            .get("count")
            .map_or(1, |count| count.as_u64().unwrap())
    };
    let recorded_count: u64 = refusals.iter().map(count).sum();
    assert_eq!(recorded_count, u64::try_from(denied).unwrap());
    for (caller, auth) in [
        ("spiffe://corp/nothing", "certificate"),
        ("https://login.corp.example#both", "token"),
        ("x.hmc.corp.example", "certificate"),
        ("", "none"),
    ] {
        let reported_count = refusals
            .iter()
            .any(|record| record["caller"] == caller && record["auth"] == auth);
        assert!(reported_count, "{caller} {auth}");
    }
}

/// Asserts the totals after the server has stopped. Apart from logoffs, it must not have sent anything since.
async fn check_total(server: &mut SecureServer, requests: usize, deletes: usize) {
    server.app.drain().await;
    let count = |target| server.upstream.requests("DELETE", target).len();
    assert_eq!(count("/pools/") + count("/api/users/"), deletes);
    let logoffs = count("/api/sessions/");
    assert_eq!(server.upstream.received().len(), requests + logoffs);
    // The allowed calls in the table: for each target, with and without `allow_missing`, and for HMC users with both
    // ways to name them.
    let exists = |target: &str| usize::from(target != "nowhere");
    let cells = TABLE.iter().map(|row| {
        let batch = row.batch.iter().map(|(target, _)| exists(target));
        let hmc = row.hmc.iter().map(|target| exists(target) * 2);
        batch.chain(hmc).sum::<usize>()
    });
    assert_eq!(deletes, cells.sum::<usize>() * 2);
}
