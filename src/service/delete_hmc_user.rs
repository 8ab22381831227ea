//! `DeleteHmcUser`.

use super::{
    operation::RequestFields,
    rpc::{Rpc, User, UserFacts},
    validate::Validation,
};
use crate::{
    audit::Case,
    proto::{
        DeleteHmcUserRequest, DeleteHmcUserResponse, DeleteOutcome, HmcUserValidation,
        delete_hmc_user_request::User as UserField,
    },
    upstream::{
        ibm_hmc::{HmcUser, IbmHmc, UserKind, UserRef},
        run::RunReport,
    },
};

pub struct DeleteHmcUser;

impl Rpc for DeleteHmcUser {
    const NAME: &'static str = "DeleteHmcUser";
    type Request = DeleteHmcUserRequest;
    type Response = DeleteHmcUserResponse;
    type Platform = IbmHmc;

    fn alias(request: &Self::Request) -> &str {
        &request.hmc
    }

    fn parse(request: Self::Request, validation: &mut Validation) -> (UserRef, RequestFields) {
        let (text, is_name) = match request.user {
            Some(UserField::UserId(id)) => {
                validation.user_id("user_id", &id);
                (id, false)
            }
            Some(UserField::UserName(name)) => {
                validation.user_name("user_name", &name);
                (name, true)
            }
            None => {
                validation.add_violation("user", "user_id or user_name is required");
                (String::new(), false)
            }
        };
        let user = if is_name {
            UserRef::Name(text.clone())
        } else {
            UserRef::Id(text.clone())
        };
        let fields = RequestFields {
            user: text,
            is_name,
            validate_only: request.validate_only,
            allow_missing: request.allow_missing,
            ..RequestFields::default()
        };
        (user, fields)
    }

    fn recorded_user(case: &Case) -> Option<UserRef> {
        // An ID always identifies the same user. The name may have been given to another one.
        let text = |key| case.identifier(key).map(ToOwned::to_owned);
        let id = text("user_id").map(UserRef::Id);
        id.or_else(|| text("user_name").map(UserRef::Name))
    }

    fn response(
        outcome: DeleteOutcome,
        _user: User<Self>,
        report: RunReport<UserFacts<Self>>,
    ) -> Self::Response {
        let HmcUser {
            kind,
            was_read,
            details,
            ..
        } = report.found;
        let is_validation = outcome == DeleteOutcome::Validated && was_read;
        let details = details.unwrap_or_default();
        let validation = is_validation.then(|| HmcUserValidation {
            user_type: kind.map_or("", UserKind::as_str).to_owned(),
            disabled: details.disabled,
            replication_overwrite_possible: details.replication_overwrite_possible,
            required_task: kind
                .and_then(UserKind::required_task)
                .unwrap_or_default()
                .to_owned(),
        });
        DeleteHmcUserResponse {
            outcome: outcome.into(),
            user_id: report.found.id,
            user_name: report.found.name,
            attempts: report.attempts.count(),
            validation,
        }
    }
}
