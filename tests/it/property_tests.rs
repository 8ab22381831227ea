//! Properties of all inputs: no status is larger than its trailer allows. See `fuzz.rs` for more.

use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use tonic_types::StatusExt as _;
use useradmin::{
    error::{
        Effect, Failure, UpstreamResponse,
        document::ErrorDocument,
        recipe::{recipe, retry_delay},
        status::{CallFacts, MAX_STATUS_BYTES, status},
    },
    proto::{BatchError, BatchErrorDetail, ErrorMessage, ErrorReason, HmcError},
    upstream::{azure_batch, ibm_hmc},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn status_size_is_bounded(
        reason in 1..=36_i32,
        identifiers in prop::collection::vec("\\PC{0,300}", 5),
        code in "\\PC{0,300}",
        values in prop::collection::vec(("\\PC{0,256}", "\\PC{0,256}"), 0..9),
        hmc in any::<bool>(),
    ) {
        let reason = ErrorReason::try_from(reason).unwrap();
        let keys = ["account", "pool_id", "node_id", "user_name", "client_request_id"];
        let facts = CallFacts {
            names: Some(if hmc { &ibm_hmc::NAMES } else { &azure_batch::NAMES }),
            caller: "anonymous".into(),
            request_id: "5289d960-0000-0000-0000-000000000000".into(),
            identifiers: keys.into_iter().zip(identifiers).collect(),
            attempts: 3,
            outcome: Effect::Unknown,
            user_was_present: hmc,
        };
        let document: Arc<dyn ErrorDocument> = if hmc {
            Arc::new(HmcError { http_status: 409, reason: 1, message: code.clone() })
        } else {
            let value = |(key, value)| BatchErrorDetail { key, value };
            Arc::new(BatchError {
                code: code.clone(),
                message: Some(ErrorMessage { lang: "en-US".to_owned(), value: code.clone() }),
                values: values.into_iter().map(value).collect(),
                ..BatchError::default()
            })
        };
        let failure = Failure {
            upstream_response: Some(Box::new(UpstreamResponse {
                http_status: 409,
                code: Some(code.clone()),
                request_id: Some(code),
                missing_task: hmc.then_some("Manage User Templates"),
                document: Some(document),
            })),
            ..Failure::new(reason, "")
        };
        let status = status(&failure, &facts);
        prop_assert!(status.details().len() <= MAX_STATUS_BYTES, "{}", status.details().len());
        prop_assert_eq!(status.code(), recipe(reason).code);
        let details = status.get_error_details();
        prop_assert!(details.error_info().is_some() && details.request_info().is_some());
        let retry = details.retry_info().is_some();
        prop_assert_eq!(retry, retry_delay(recipe(reason).extras).is_some());
        prop_assert!(tonic_types::pb::Status::decode(status.details()).is_ok());
    }
}
