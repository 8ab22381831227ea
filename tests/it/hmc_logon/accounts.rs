//! Refused logons are counted for each account, that is, for each HMC and user, not for each alias in the
//! configuration.

use std::fs;

use futures_util::future::join_all;
use serde_json::Value;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{App, CallFailure, Upstream, canary::PASSWORD, delete_by_id, hmc_section};

use super::restart::{FILE, hmc_with_password, logons};

/// Aliases of the same account.
const ALIASES: [&str; 4] = ["hmc", "again", "slash", "case"];

/// Starts a server with several aliases of one account, and with one alias of another user.
async fn start_app(upstream: &Upstream, state: Option<&[u8]>) -> App {
    let folder = App::folder();
    if let Some(state) = state {
        fs::write(folder.join(FILE), state).unwrap();
    }
    let section = hmc_section(&folder, &upstream.url);
    let named = |alias: &str| section.replace("hmcs.hmc", &format!("hmcs.{alias}"));
    let url = format!("\"{}\"", upstream.url);
    let sections = [
        section.clone(),
        named("again"),
        named("slash").replace(&url, &format!("\"{}/\"", upstream.url)),
        named("case").replace("svc-useradmin", "SVC-UserAdmin"),
        named("other").replace("svc-useradmin", "svc-other"),
    ];
    App::start_in(folder, &sections.concat()).await
}

async fn delete(app: &App, alias: &str) -> Result<DeleteOutcome, CallFailure> {
    let mut request = delete_by_id("id-1");
    alias.clone_into(&mut request.hmc);
    let response = app.delete_hmc_user(request).await?;
    Ok(response.outcome())
}

async fn expect_refused(app: &App, alias: &str) {
    let failure = delete(app, alias).await.unwrap_err();
    failure.expect(tonic::Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
}

#[tokio::test]
async fn aliases_of_one_account_share_the_logon_limit() {
    let upstream = hmc_with_password("another password").await;
    let app = start_app(&upstream, None).await;
    // Sequential calls.
    for alias in ALIASES {
        expect_refused(&app, alias).await;
    }
    assert_eq!(logons(&upstream), 2);
    // Concurrent calls.
    let app = start_app(&upstream, None).await;
    join_all(ALIASES.map(|alias| expect_refused(&app, alias))).await;
    assert_eq!(logons(&upstream), 4);
    // Calls after a restart, through another alias.
    let state = fs::read(app.folder.join(FILE)).unwrap();
    let app = start_app(&upstream, Some(&state)).await;
    for alias in ALIASES.iter().rev() {
        expect_refused(&app, alias).await;
    }
    assert_eq!(logons(&upstream), 4);
    // Another user has a separate count.
    for _ in 0..3 {
        expect_refused(&app, "other").await;
    }
    assert_eq!(logons(&upstream), 6);
    let state: Value = serde_json::from_slice(&fs::read(app.folder.join(FILE)).unwrap()).unwrap();
    assert_eq!(state["hmcs"].as_object().unwrap().len(), 2);
}

/// A logon in progress does not count as refused.
#[tokio::test]
async fn aliases_of_one_account_log_on_concurrently() {
    let upstream = hmc_with_password(PASSWORD).await;
    let app = start_app(&upstream, None).await;
    for response in join_all(ALIASES.map(|alias| delete(&app, alias))).await {
        // Only the first call finds the user and deletes it.
        let outcome = response.map_err(|failure| failure.reason);
        assert!(
            matches!(&outcome, Ok(DeleteOutcome::Deleted))
                || matches!(&outcome, Err(reason) if reason.ends_with("USER_NOT_FOUND")),
            "{outcome:?}"
        );
    }
    assert_eq!(logons(&upstream), ALIASES.len());
    assert!(!app.folder.join(FILE).exists());
}
