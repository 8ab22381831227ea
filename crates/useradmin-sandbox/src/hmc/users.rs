//! The users of the simulated HMC and the result of deleting each of them.
//!
//! The results come from a table that follows the vendor's document "Delete User". The only state is which users have
//! been deleted. This module does not depend on HTTP.

use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use self::DeletionResult::{Deletes, Invisible, Page, Rejected};
use super::name_filter::NameFilter;
use super::reply::ErrorReply;
use super::sessions::{DISABLE_DELAY_MINUTES, IDLE_MINUTES, MAX_FAILED_LOGINS, MAX_SESSIONS};
use crate::net::lock;

/// The user that comes from another HMC by data replication.
const REPLICATED: &str = "carol";
/// The URI of the template `template-in-use`, to which pattern-based users refer.
const TEMPLATE_URI: &str = "/api/users/00000317-4a7a-11e4-91ee-1c6f65065a91";

/// A user object of the HMC.
pub(super) struct User {
    id: &'static str,
    name: &'static str,
    kind: &'static str,
    deletion_result: DeletionResult,
}

/// The result of a request to delete a user.
enum DeletionResult {
    Deletes,
    /// The HTTP status, reason code and message of an error with the documented body.
    Rejected(u16, u16, &'static str),
    /// The HTTP status and message of an error without the documented body.
    Page(u16, &'static str),
    /// The user exists, but the API user cannot access it: it is in no list, and its URI returns 404.
    Invisible,
}

const fn user(
    id: &'static str,
    name: &'static str,
    kind: &'static str,
    deletion_result: DeletionResult,
) -> User {
    User {
        id,
        name,
        kind,
        deletion_result,
    }
}

/// All users at the start. The first group of an ID usually encodes the status and the reason of the error; alice has
/// the ID of the example in the vendor's document.
#[rustfmt::skip]
static USERS: [User; 22] = [
    user("e9e8d20a-4a7a-11e4-91ee-1c6f65065a91", "alice", "standard", Deletes),
    user("00000b0b-4a7a-11e4-91ee-1c6f65065a91", "bob", "standard", Deletes),
    user("000ca401-4a7a-11e4-91ee-1c6f65065a91", "carol", "standard", Deletes),
    user("00000a0b-4a7a-11e4-91ee-1c6f65065a91", "A.B", "standard", Deletes),
    user("00000acb-4a7a-11e4-91ee-1c6f65065a91", "AxB", "standard", Deletes),
    user("0ac5ad00-4a7a-11e4-91ee-1c6f65065a91", "ACSADMIN", "system-defined", Deletes),
    user("00000204-4a7a-11e4-91ee-1c6f65065a91", "template-free", "template", Deletes),
    user("00000b16-4a7a-11e4-91ee-1c6f65065a91", "Twin", "standard", Deletes),
    user("00000b17-4a7a-11e4-91ee-1c6f65065a91", "TWIN", "standard", Deletes),
    user("00000b18-4a7a-11e4-91ee-1c6f65065a91", "protected", "standard", Deletes),
    user("00000312-4a7a-11e4-91ee-1c6f65065a91", "pattern-user", "pattern-based", Rejected(400, 312,
        "This operation is not supported for an object of this type. Pattern-based users may not be deleted.")),
    user("00000313-4a7a-11e4-91ee-1c6f65065a91", "svc-useradmin", "standard", Rejected(400, 313,
        "The request URI designates the API user's own User object.")),
    // The server never sends a DELETE request for its own user. This user returns the same error when it is deleted.
    user("00400313-4a7a-11e4-91ee-1c6f65065a91", "own-object", "standard", Rejected(400, 313,
        "The request URI designates the API user's own User object.")),
    user("00000317-4a7a-11e4-91ee-1c6f65065a91", "template-in-use", "template", Rejected(409, 317,
        "The object cannot be deleted at this time. One or more users or User Patterns refer to this template user.")),
    user("00000320-4a7a-11e4-91ee-1c6f65065a91", "auto-logon", "standard", Rejected(409, 320,
        "The object cannot be deleted at this time. It is currently identified as the Automatic Logon ID for the \
         Hardware Management Console.")),
    user("00000321-4a7a-11e4-91ee-1c6f65065a91", "last-admin", "standard", Rejected(409, 321,
        "The object cannot be deleted at this time. It is currently the only locally-authenticated user with \
         permission to the tasks for managing users and user roles.")),
    user("00403001-4a7a-11e4-91ee-1c6f65065a91", "no-permission", "standard", Rejected(403, 1,
        "The API user does not have the required permission for this operation.")),
    user("00404001-4a7a-11e4-91ee-1c6f65065a91", "invisible", "standard", Invisible),
    user("00409001-4a7a-11e4-91ee-1c6f65065a91", "wrong-state", "standard", Rejected(409, 1,
        "The operation cannot be performed because the object is not in the correct state.")),
    user("00409002-4a7a-11e4-91ee-1c6f65065a91", "busy", "standard", Rejected(409, 2,
        "The operation cannot be performed because the object is currently busy with another operation.")),
    user("00500012-4a7a-11e4-91ee-1c6f65065a91", "hmc-defect", "standard", Rejected(500, 12,
        "Unexpected Throwable")),
    user("00503000-4a7a-11e4-91ee-1c6f65065a91", "hmc-unavailable", "standard", Page(503,
        "Service Unavailable")),
];

/// State of the users: the IDs of those that have been deleted.
#[derive(Default)]
pub(super) struct Users {
    deleted: Mutex<HashSet<&'static str>>,
}

impl Users {
    /// Returns the list of users that the API user can access and that match one of `names` and one of `kinds`. An
    /// empty filter matches all users.
    pub(super) fn list(&self, names: &[NameFilter], kinds: &[String]) -> Value {
        let matches_filters = |user: &&User| {
            (names.is_empty() || names.iter().any(|filter| filter.matches(user.name)))
                && (kinds.is_empty() || kinds.iter().any(|kind| kind == user.kind))
        };
        let entry =
            |user: &User| json!({"object-uri": user.uri(), "name": user.name, "type": user.kind});
        let users: Vec<Value> = USERS
            .iter()
            .filter(|user| self.is_accessible(user))
            .filter(matches_filters)
            .map(entry)
            .collect();
        json!({ "users": users })
    }

    pub(super) fn get(&self, id: &str) -> Result<&'static User, ErrorReply> {
        let found = USERS
            .iter()
            .find(|user| user.id == id && self.is_accessible(user));
        found.ok_or_else(|| {
            let text = "The request URI does not designate an existing resource of the correct type, or the API user \
                        has no access permission to it.";
            ErrorReply::new(404, 1, text)
        })
    }

    pub(super) fn delete(&self, id: &str) -> Result<(), ErrorReply> {
        let user = self.get(id)?;
        match user.deletion_result {
            // If two deletions are concurrent, the second one receives 404.
            Deletes if !lock(&self.deleted).insert(user.id) => self.get(id).map(drop),
            Deletes => Ok(()),
            Rejected(status, reason, message) => Err(ErrorReply::new(status, reason, message)),
            Page(status, message) => Err(ErrorReply {
                status,
                reason: None,
                message: message.to_owned(),
            }),
            Invisible => self.get(id).map(drop),
        }
    }

    fn is_accessible(&self, user: &User) -> bool {
        !matches!(user.deletion_result, Invisible) && !lock(&self.deleted).contains(user.id)
    }
}

impl User {
    /// Returns whether the user has this name, ignoring case.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn uri(&self) -> String {
        format!("/api/users/{}", self.id)
    }

    /// Returns the full user object. It is built from two parts because a single `json!` of this length exceeds the
    /// recursion limit.
    pub(super) fn document(&self, disabled: bool) -> Value {
        let ldap = matches!(self.kind, "template" | "pattern-based");
        let mut fields = self.identity(disabled, ldap);
        let settings = json!({
            "allow-management-interfaces": true,
            "allow-remote-access": true,
            "default-group-uri": null,
            "disable-delay": DISABLE_DELAY_MINUTES,
            "disruptive-pw-required": true,
            "disruptive-text-required": false,
            "email-address": null,
            "idle-timeout": 0,
            "inactivity-timeout": 0,
            "max-failed-logins": MAX_FAILED_LOGINS,
            "max-web-services-api-sessions": MAX_SESSIONS,
            "min-pw-change-time": 0,
            "multi-factor-authentication-required": false,
            "session-timeout": 0,
            "verify-timeout": 15,
            "web-services-api-session-idle-timeout": IDLE_MINUTES,
        });
        if let Value::Object(settings) = settings {
            fields.extend(settings);
        }
        if !ldap {
            fields.insert("password-expires".to_owned(), 87.into());
            fields.insert("force-password-change".to_owned(), false.into());
            fields.insert(
                "password-rule-uri".to_owned(),
                "/api/console/password-rules/standard".into(),
            );
        }
        Value::Object(fields)
    }

    fn identity(&self, disabled: bool, ldap: bool) -> Map<String, Value> {
        let pattern_based = self.kind == "pattern-based";
        let fields = json!({
            "object-uri": self.uri(),
            "object-id": self.id,
            "parent": "/api/console",
            "class": "user",
            "name": self.name,
            "type": self.kind,
            "description": format!("Simulated {} user", self.kind),
            "disabled": disabled,
            "is-locked": false,
            "authentication-type": if ldap { "ldap" } else { "local" },
            "ldap-server-definition-uri": ldap.then_some("/api/console/ldap-server-definitions/corporate"),
            "userid-on-ldap-server": null,
            "user-pattern-uri": pattern_based.then_some("/api/console/user-patterns/all-staff"),
            "user-template-uri": pattern_based.then_some(TEMPLATE_URI),
            "user-roles": ["/api/user-roles/hmc-operator-tasks"],
            "replication-overwrite-possible": self.name == REPLICATED,
        });
        if let Value::Object(fields) = fields {
            fields
        } else {
            Map::new()
        }
    }
}
