//! `DeleteHmcUser`: what is particular to it.

use std::sync::Arc;

use http::HeaderValue;
use tonic::{Request, Response, Status};

use super::{
    Shared,
    call::{Finished, Subject, Trace, Work},
    meta::CallMeta,
    pipeline,
    targets::{IBM_HMC, Target},
    validate::Checked,
};
use crate::{
    error::Failure,
    proto::{
        DeleteHmcUserRequest, DeleteHmcUserResponse, DeleteOutcome, ErrorReason,
        delete_hmc_user_request::User,
    },
    upstream::{
        absence,
        attempt::Ledger,
        ibm_hmc::{Call, Hmc, HmcUser, UserRef},
    },
};

/// The HMC uses the first 64 characters of `X-Audit-Id`.
const MAX_AUDIT_ID: usize = 64;

/// Handles a call.
pub async fn handle(
    shared: Arc<Shared>,
    request: Request<DeleteHmcUserRequest>,
) -> Result<Response<DeleteHmcUserResponse>, Status> {
    let meta = CallMeta::of_read(request.extensions());
    let request = request.into_inner();
    let subject = subject(&shared, &request);
    let hmc = shared.targets.hmcs.get(&subject.target);
    let exists = hmc.is_some();
    let protected = match (&request.user, hmc) {
        (Some(User::UserName(name)), Some(hmc)) => hmc.protects(name),
        _ => false,
    };
    pipeline::run(shared, meta, subject, exists, protected, |work| {
        delete(work, request)
    })
    .await
}

fn subject(shared: &Shared, request: &DeleteHmcUserRequest) -> Subject {
    let mut checked = Checked::default();
    let target = checked.alias("hmc", &request.hmc, shared.targets.hmcs.keys());
    let user = match &request.user {
        Some(User::UserId(id)) => {
            checked.user_id("user_id", id);
            id.clone()
        }
        Some(User::UserName(name)) => {
            checked.user_name("user_name", name);
            name.clone()
        }
        None => {
            checked.fault("user", "user_id or user_name is required");
            String::new()
        }
    };
    Subject {
        rpc: "DeleteHmcUser",
        upstream: IBM_HMC,
        target,
        alias_is_ours: request.hmc.is_empty(),
        pool: None,
        user,
        checked,
        validate_only: request.validate_only,
        client_request_id: String::new(),
    }
}

async fn delete(work: Work, request: DeleteHmcUserRequest) -> Finished<DeleteHmcUserResponse> {
    let mut learned = Vec::new();
    let (user, hmc) = match (request.user, work.shared.targets.hmcs.get(&work.target)) {
        (Some(User::UserId(id)), Some(hmc)) => (UserRef::Id(id), hmc),
        (Some(User::UserName(name)), Some(hmc)) => (UserRef::Name(name), hmc),
        _ => return failed(Failure::internal("the target or the user has gone")),
    };
    let audit_id = audit_id(&work.request_id, &work.caller);
    let mut call = match hmc.upstream.call(audit_id, work.limits.clone()) {
        Ok(call) => call,
        Err(failure) => return failed(failure),
    };
    let mut found = named(&user);
    let result = step(&mut call, hmc, &user, request.validate_only, &mut found).await;
    if !found.id.is_empty() {
        learned.push(("user_id", found.id.clone()));
    }
    if !found.name.is_empty() {
        learned.push(("user_name", found.name.clone()));
    }
    let result = match result {
        Ok(outcome) => Ok(outcome),
        Err(failure) if failure.reason == ErrorReason::UserNotFound => {
            absent(&call.ledger, request.allow_missing, request.validate_only).ok_or(failure)
        }
        Err(failure) => Err(failure),
    };
    let response = |outcome: DeleteOutcome| DeleteHmcUserResponse {
        outcome: outcome.into(),
        user_id: found.id.clone(),
        user_name: found.name.clone(),
        attempts: call.ledger.attempts(),
    };
    Finished {
        result: result.map(|outcome| (response(outcome), outcome)),
        ledger: call.ledger.clone(),
        learned,
        trace: Trace::default(),
    }
}

/// Reads the user, refuses what is known to be wrong, deletes.
async fn step(
    call: &mut Call<'_>,
    hmc: &Target<Hmc>,
    user: &UserRef,
    validate_only: bool,
    found: &mut HmcUser,
) -> Result<DeleteOutcome, Failure> {
    *found = call.find(user).await?;
    if hmc.upstream.is_own(&found.name) {
        return Err(Failure::new(ErrorReason::OwnUser, "the configured userid"));
    }
    if hmc.protects(&found.name) {
        return Err(Failure::new(ErrorReason::ProtectedUser, "protected_users"));
    }
    if !validate_only {
        call.delete(found).await?;
        return Ok(DeleteOutcome::Deleted);
    }
    // What the type shows; all else only the deletion itself would tell.
    if found.kind == "pattern-based" {
        return Err(Failure::new(
            ErrorReason::PatternBasedUser,
            "the user's type",
        ));
    }
    Ok(DeleteOutcome::Validated)
}

fn absent(ledger: &Ledger, allow_missing: bool, validate_only: bool) -> Option<DeleteOutcome> {
    let outcome = absence(ledger, allow_missing)?;
    Some(if validate_only {
        DeleteOutcome::Validated
    } else {
        outcome
    })
}

/// The user as far as the request names it.
fn named(user: &UserRef) -> HmcUser {
    let (id, name) = match user {
        UserRef::Id(id) => (id.clone(), String::new()),
        UserRef::Name(name) => (String::new(), name.clone()),
    };
    HmcUser {
        id,
        name,
        kind: String::new(),
    }
}

fn failed(failure: Failure) -> Finished<DeleteHmcUserResponse> {
    Finished {
        result: Err(failure),
        ledger: Ledger::default(),
        learned: Vec::new(),
        trace: Trace::default(),
    }
}

/// Puts this server's request id and the caller into the HMC's own audit log.
fn audit_id(request_id: &str, caller: &str) -> HeaderValue {
    let plain = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    let text = format!("{request_id} {caller}");
    let text: Vec<u8> = text.bytes().filter(plain).take(MAX_AUDIT_ID).collect();
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("useradmin"))
}
