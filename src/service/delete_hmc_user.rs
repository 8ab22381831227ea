//! `DeleteHmcUser`.

use super::{
    rpc::{Found, Parsed, Rpc, User},
    validate::Checked,
};
use crate::{
    proto::{DeleteHmcUserRequest, DeleteHmcUserResponse, DeleteOutcome, delete_hmc_user_request},
    upstream::{
        ibm_hmc::{IbmHmc, UserRef},
        target::Conclusion,
    },
};

/// The rpc.
pub struct DeleteHmcUser;

impl Rpc for DeleteHmcUser {
    const NAME: &'static str = "DeleteHmcUser";
    type Request = DeleteHmcUserRequest;
    type Response = DeleteHmcUserResponse;
    type Platform = IbmHmc;

    fn alias(request: &Self::Request) -> &str {
        &request.hmc
    }

    fn parse(request: Self::Request, checked: &mut Checked) -> Parsed<UserRef> {
        let (user, shown, name) = match request.user {
            Some(delete_hmc_user_request::User::UserId(id)) => {
                checked.user_id("user_id", &id);
                (UserRef::Id(id.clone()), id, None)
            }
            Some(delete_hmc_user_request::User::UserName(name)) => {
                checked.user_name("user_name", &name);
                (UserRef::Name(name.clone()), name.clone(), Some(name))
            }
            None => {
                checked.fault("user", "user_id or user_name is required");
                (UserRef::Id(String::new()), String::new(), None)
            }
        };
        Parsed {
            user,
            shown,
            name,
            pool: None,
            validate_only: request.validate_only,
            allow_missing: request.allow_missing,
            client_request_id: String::new(),
        }
    }

    fn response(
        outcome: DeleteOutcome,
        _user: User<Self>,
        conclusion: Conclusion<Found<Self>>,
    ) -> Self::Response {
        DeleteHmcUserResponse {
            outcome: outcome.into(),
            user_id: conclusion.found.id,
            user_name: conclusion.found.name,
            attempts: conclusion.attempts.count(),
        }
    }
}
