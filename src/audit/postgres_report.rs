//! Selects calls from the audit log in a database. The indexes of the columns preselect calls, so that few lines are
//! read if few calls match.

use std::{io, path::Path, pin::pin};

use futures_util::TryStreamExt as _;
use time::OffsetDateTime;
use tokio_postgres::types::Type;

use super::{
    file_lines::{Finding, UnreadableLog},
    reader::Line,
    report::{Call, Filter, Report, ReportError, ReportTotals},
};
use crate::{
    error::status::short,
    postgres::{Database, Error, Parameter},
};

/// Start of the years 1 and 10,000 in seconds. Time stamps of records are between them.
const YEAR_1: i64 = -62_135_596_800;
const YEAR_10_000: i64 = 253_402_300_800;

/// Conditions for request IDs. Each selects all calls of which a record meets the condition of the filter, and may
/// select more.
const OF_USER: &str = "SELECT request_id FROM audit_record WHERE user_name = $1 UNION ALL \
     SELECT request_id FROM audit_record WHERE user_ids @> ARRAY[$1] AND user_ids <> '{}'";
const OF_CALLER: &str = "SELECT request_id FROM audit_record WHERE caller = $2";
const IN_PERIOD: &str = "SELECT request_id FROM audit_record \
     WHERE ts >= to_timestamp($3) AND ts < to_timestamp($4) UNION ALL \
     SELECT request_id FROM audit_record \
     WHERE since >= to_timestamp($3) AND since < to_timestamp($4)";

/// Reads the selected calls in the database, and calls `print` and `fault` as [`report`](super::report::report) does.
/// Reads only the records of calls that may match.
pub async fn report_database<'a>(
    database: &'a Database,
    filter: &Filter,
    mut print: impl FnMut(&Call) -> io::Result<()>,
    mut fault: impl FnMut(Finding<'a>),
) -> Result<ReportTotals, ReportError<'a>> {
    let log = Path::new(database.name());
    let unreadable = |error: Error| {
        let error = io::Error::other(error);
        ReportError::Unreadable(UnreadableLog { log, error })
    };
    let (user, caller) = (text(filter.user.as_deref()), text(filter.caller.as_deref()));
    let (since, until) = period(filter);
    let parameters: [Parameter<'_>; 4] = [
        (&user, Type::TEXT),
        (&caller, Type::TEXT),
        (&since, Type::INT8),
        (&until, Type::INT8),
    ];
    let rows = database.stream(&statement(filter), &parameters).await;
    let mut rows = pin!(rows.map_err(unreadable)?);
    let mut report = Report::new(filter);
    while let Some(row) = rows.try_next().await.map_err(unreadable)? {
        match report.follow(Line::new(row.get(1))) {
            Ok(Some(call)) => print(&call).map_err(ReportError::Output)?,
            Ok(None) => {}
            Err(text) => {
                let line = row.get::<_, i64>(0).try_into().unwrap_or_default();
                let note = false;
                fault(Finding {
                    log,
                    line,
                    note,
                    text,
                });
            }
        }
    }
    let (open, totals) = report.finish();
    for call in &open {
        print(call).map_err(ReportError::Output)?;
    }
    Ok(totals)
}

/// Returns the statement for the records of all calls that may match, in the order of the chain.
fn statement(filter: &Filter) -> String {
    let has_period = filter.since.is_some() || filter.until.is_some();
    let conditions = [
        (filter.user.is_some(), OF_USER),
        (filter.caller.is_some(), OF_CALLER),
        (has_period, IN_PERIOD),
    ];
    let conditions = conditions.into_iter().filter(|(is_set, _)| *is_set);
    let conditions = conditions.map(|(_, ids)| format!("request_id IN ({ids})"));
    let conditions: Vec<_> = conditions.collect();
    let filtered = match &*conditions {
        [] => String::new(),
        _ => format!(" WHERE {}", conditions.join(" AND ")),
    };
    format!("SELECT seq, line FROM audit_record{filtered} ORDER BY seq")
}

/// Returns the text of a column that a filter selects.
fn text(filter: Option<&str>) -> &str {
    filter.map(short).unwrap_or_default()
}

/// Returns the period of a filter in whole seconds since 1970, rounded outwards.
fn period(filter: &Filter) -> (i64, i64) {
    let seconds = |time: OffsetDateTime| time.unix_timestamp().clamp(YEAR_1, YEAR_10_000 - 1);
    let since = filter.since.map_or(YEAR_1, seconds);
    let until = filter.until.map_or(YEAR_10_000, |until| seconds(until) + 1);
    (since, until)
}
