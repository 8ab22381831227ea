//! The versions of the Azure Batch REST API that the service supports.
//!
//! Sources: Microsoft's OpenAPI and TypeSpec specifications of each version; "Batch API life cycle", by which a version
//! is supported for two years, deprecated for one more, and may then be removed.

use std::fmt;

use time::{Date, Month, OffsetDateTime};

/// Number of years for which Microsoft supports a version.
const SUPPORT_YEARS: i32 = 2;

/// A version of the API, and what differs between versions.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiVersion {
    /// Value of the query parameter `api-version`.
    pub name: &'static str,
    /// Name of the query parameter with the time limit of a request.
    pub timeout_parameter: &'static str,
    /// Whether the specification of the version describes shared keys.
    pub documents_shared_key: bool,
    /// States of a node that 2023-11-01.18.0 does not have.
    new_node_states: &'static [&'static str],
}

/// The states of a node in all versions.
const NODE_STATES: &[&str] = &[
    "idle",
    "rebooting",
    "reimaging",
    "running",
    "unusable",
    "creating",
    "starting",
    "waitingforstarttask",
    "starttaskfailed",
    "unknown",
    "leavingpool",
    "offline",
    "preempted",
];

/// Returns a version that was specified in OpenAPI by hand.
const fn open_api(name: &'static str, new_node_states: &'static [&'static str]) -> ApiVersion {
    ApiVersion {
        name,
        timeout_parameter: "timeout",
        documents_shared_key: true,
        new_node_states,
    }
}

/// Returns a version that is specified in TypeSpec, from 2024-07-01.20.0 on.
const fn type_spec(name: &'static str) -> ApiVersion {
    ApiVersion {
        name,
        timeout_parameter: "timeOut",
        documents_shared_key: true,
        new_node_states: &["upgradingos", "deallocated", "deallocating"],
    }
}

/// The supported versions, oldest first.
pub static API_VERSIONS: [ApiVersion; 5] = [
    open_api("2023-11-01.18.0", &[]),
    open_api("2024-02-01.19.0", &["upgradingos"]),
    type_spec("2024-07-01.20.0"),
    type_spec("2025-06-01"),
    // The specification of this version lists OAuth only.
    ApiVersion {
        documents_shared_key: false,
        ..type_spec("2026-10-01")
    },
];

impl ApiVersion {
    /// The version of the document that this service implements.
    pub const DEFAULT: &'static Self = &API_VERSIONS[0];

    /// Returns the version with this name, or `None` if it is not supported.
    pub fn find(name: &str) -> Option<&'static Self> {
        API_VERSIONS.iter().find(|version| version.name == name)
    }

    /// Returns whether the specification of the version contains this state of a node.
    pub fn has_node_state(&self, state: &str) -> bool {
        NODE_STATES.contains(&state) || self.new_node_states.contains(&state)
    }

    /// Returns whether Microsoft's support of the version has ended at this time.
    pub fn is_out_of_support(&self, now: OffsetDateTime) -> bool {
        let end = self.released().and_then(|released| {
            let year = released.year() + SUPPORT_YEARS;
            released.replace_year(year).ok()
        });
        end.is_some_and(|end| now.date() > end)
    }

    /// Returns the date that the name of the version starts with.
    fn released(&self) -> Option<Date> {
        let mut parts = self.name.get(..10)?.split('-');
        let year = parts.next()?.parse().ok()?;
        let month = Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
        Date::from_calendar_date(year, month, parts.next()?.parse().ok()?).ok()
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use time::{Date, Month, OffsetDateTime, Time};

    use super::{API_VERSIONS, ApiVersion};

    #[test]
    fn support_ends_after_two_years() -> Result<(), time::Error> {
        for (name, (year, month, day), ended) in [
            ("2023-11-01.18.0", (2025, Month::November, 1), false),
            ("2023-11-01.18.0", (2025, Month::November, 2), true),
            ("2024-02-01.19.0", (2026, Month::January, 31), false),
            ("2024-02-01.19.0", (2026, Month::February, 2), true),
            ("2025-06-01", (2027, Month::June, 1), false),
            ("2025-06-01", (2027, Month::June, 2), true),
            ("2026-10-01", (2023, Month::January, 1), false),
        ] {
            let date = Date::from_calendar_date(year, month, day)?;
            let now = OffsetDateTime::new_utc(date, Time::MIDNIGHT);
            let version = ApiVersion::find(name);
            let is_ended = version.map(|version| version.is_out_of_support(now));
            assert_eq!(is_ended, Some(ended), "{name} {now}");
        }
        Ok(())
    }

    #[test]
    fn states_of_nodes_depend_on_version() {
        let first_version = [
            ("idle", Some(0)),
            ("unusable", Some(0)),
            ("upgradingos", Some(1)),
            ("deallocated", Some(2)),
            ("deallocating", Some(2)),
            ("Idle", None),
            ("", None),
        ];
        for (state, first) in first_version {
            for (at, version) in API_VERSIONS.iter().enumerate() {
                let expected = first.is_some_and(|first| at >= first);
                assert_eq!(version.has_node_state(state), expected, "{version} {state}");
            }
        }
    }

    #[test]
    fn only_exact_names_are_supported() {
        for name in [
            "",
            "2023-11-01",
            "2023-11-01.18.0 ",
            "2025-06-01.0",
            "latest",
        ] {
            assert_eq!(ApiVersion::find(name), None, "{name}");
        }
    }
}
