//! The columns of the table `audit_record` that repeat values of the line, so that records can be searched for. The
//! writer fills them, `audit report` searches by them, and `audit verify` compares them with the line.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

/// Start of the names of the identifiers that suffice to identify a user, such as `user_id`.
pub(super) const USER_KEYS: &str = "user_";

/// The values of one record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) caller: String,
    pub(super) user: String,
    /// The other identifiers that `--user` finds.
    pub(super) user_ids: Vec<String>,
    /// In a summary, the time of the first refusal.
    pub(super) since: Option<String>,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    caller: Cow<'a, str>,
    #[serde(borrow, default)]
    user: Cow<'a, str>,
    #[serde(default)]
    identifiers: BTreeMap<String, String>,
    #[serde(borrow)]
    since: Option<Cow<'a, str>>,
}

impl Columns {
    /// Returns the values of a record, from its JSON object.
    pub(super) fn of(object: &str) -> Self {
        let Ok(members) = serde_json::from_str::<Members<'_>>(object) else {
            return Self::default();
        };
        let user = storable(&members.user);
        let identifiers = members.identifiers.iter();
        let ids = identifiers.filter(|(key, _)| key.starts_with(USER_KEYS));
        let mut user_ids: Vec<_> = ids.map(|(_, id)| storable(id)).collect();
        user_ids.retain(|id| *id != user);
        user_ids.sort();
        user_ids.dedup();
        Self {
            caller: storable(&members.caller),
            user,
            user_ids,
            since: members.since.map(|since| storable(&since)),
        }
    }

    /// Returns `user_ids` as the text of an array in SQL.
    pub(super) fn user_ids_literal(&self) -> String {
        let ids = self.user_ids.iter().map(|id| {
            let escaped = id.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{escaped}\"")
        });
        format!("{{{}}}", ids.collect::<Vec<_>>().join(","))
    }
}

/// Returns a text without NUL, which the database does not store. The line has it in an escaped form.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
