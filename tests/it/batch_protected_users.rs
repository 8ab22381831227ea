//! Protected users of a Batch account: calls are rejected before any request is sent.

use tonic::Code::FailedPrecondition;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteOutcome};
use useradmin_testkit::{
    App, Upstream, batch_deleted, batch_request, batch_section, token_reply_or,
};

#[tokio::test]
async fn protected_users_are_refused_without_a_request() {
    let upstream = Upstream::start(|seen| token_reply_or(seen, batch_deleted)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let list = "[batch_accounts.batch]\nprotected_users = [\"Admin*\", \"root\", \"*svc*\", \"\u{c4}rger\"]\n";
    let section = section.replacen("[batch_accounts.batch]\n", list, 1);
    let app = App::start_in(folder, &section).await;
    for name in [
        "Admin",
        "administrator",
        "ADMIN-2",
        "ROOT",
        "my-SVC-1",
        "svc",
        "\u{c4}RGER",
    ] {
        for validate_only in [false, true] {
            let request = DeleteBatchNodeUserRequest {
                validate_only,
                ..batch_request(name)
            };
            let failure = app.delete_batch_node_user(request).await.unwrap_err();
            failure.expect(FailedPrecondition, "PROTECTED_USER");
            assert_eq!(
                (
                    failure.metadata_value("attempts"),
                    failure.metadata_value("outcome")
                ),
                ("0", "not_sent")
            );
            assert_eq!(failure.precondition.len(), 1, "{name}");
        }
    }
    assert_eq!(upstream.received().len(), 0);
    let records = app.audit();
    assert!(records.iter().all(|record| record["outcome"] == "not_sent"));
    // Users with similar names are deleted.
    for name in ["adm", "xadmin", "roots", "s-v-c"] {
        let response = app
            .delete_batch_node_user(batch_request(name))
            .await
            .unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Deleted, "{name}");
    }
}
