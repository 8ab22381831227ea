//! Verifies the audit log in a database: the chain of its lines, its last record, and the columns.

use std::{io, path::Path, pin::pin};

use futures_util::TryStreamExt as _;
use tokio_postgres::Row;

use super::{
    chain::Head,
    columns::{Columns, storable},
    file_lines::{Finding, UnreadableLog},
    reader::{Line, Record},
    verify::{Chain, Summary, VerifyOptions},
};
use crate::postgres::{Database, Error};

/// All records, and then the head of the chain, which has no `seq`. As a single statement, it sees one state of the
/// database.
const LINES_AND_HEAD: &str = r#"
    SELECT seq, line, request_id, event, outcome, caller, user_name, user_ids,
        to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS ts,
        to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS since
    FROM audit_record
    UNION ALL
    SELECT NULL, hash, seq::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM audit_head
    ORDER BY seq"#;

/// Reads the log in the database, and calls `report` for each fault. Besides the chain, checks that its last record is
/// the one in the table `audit_head`, and that the columns of each record agree with its line.
pub async fn verify_database<'a>(
    database: &'a Database,
    options: &VerifyOptions,
    mut report: impl FnMut(Finding<'a>),
) -> Result<Summary, UnreadableLog<'a>> {
    let log = Path::new(database.name());
    let unreadable = |error: Error| {
        let error = io::Error::other(error);
        UnreadableLog { log, error }
    };
    let mut chain = Chain::new(options.partial, options.contains.clone());
    let rows = database.stream(LINES_AND_HEAD, &[]).await;
    let mut rows = pin!(rows.map_err(unreadable)?);
    let (mut last, mut head) = (Head::default(), None);
    let mut fault = |line, text| {
        let note = false;
        report(Finding {
            log,
            line,
            note,
            text,
        });
    };
    while let Some(row) = rows.try_next().await.map_err(unreadable)? {
        let Some(seq) = number(&row, "seq") else {
            head = Some(Head {
                seq: text(&row, "request_id")
                    .map_or(Ok(0), str::parse)
                    .unwrap_or_default(),
                hash: text(&row, "line").unwrap_or_default().to_owned(),
            });
            continue;
        };
        let line = text(&row, "line").unwrap_or_default();
        let (columns, line) = (Columns::of(line), Line::new(line.to_owned()));
        let record = line.record();
        let mut faults = chain.follow(&line.hash, &record);
        if let Ok(record) = &record {
            faults.extend(differing_columns(&row, seq, record, &columns));
        }
        // No record has a negative number.
        last.seq = seq.try_into().unwrap_or_default();
        for text in faults {
            fault(last.seq, text);
        }
        last.hash = line.hash;
    }
    let (mut faults, summary) = chain.finish();
    faults.extend(compare_head(&last, head.as_ref()));
    for text in faults {
        fault(last.seq, text);
    }
    Ok(summary)
}

/// Returns the fault if the last record is not the head of the chain.
fn compare_head(last: &Head, head: Option<&Head>) -> Option<String> {
    let Some(head) = head else {
        return Some("the table `audit_head` is empty".to_owned());
    };
    let (found, expected) = (last.seq, head.seq);
    if found < expected {
        Some(format!(
            "the newest records are missing: the last one is {expected} in `audit_head`"
        ))
    } else if found > expected {
        Some(format!(
            "records were added: the last one is {expected} in `audit_head`"
        ))
    } else if last.hash != head.hash {
        Some("the last record has another hash in `audit_head`".to_owned())
    } else {
        None
    }
}

/// Returns a description of each column that differs from the record.
fn differing_columns(row: &Row, seq: i64, record: &Record, columns: &Columns) -> Vec<String> {
    let same_text = |name, expected: &str| text(row, name) == Some(expected);
    let ts = in_microseconds(record.text("ts"));
    let since = columns.since.as_deref().map(in_microseconds);
    let user_ids = row
        .try_get::<_, Vec<Option<&str>>>("user_ids")
        .unwrap_or_default();
    let expected_ids = columns.user_ids.iter().map(|id| Some(id.as_str()));
    let same = [
        ("seq", u64::try_from(seq) == Ok(record.seq)),
        ("ts", same_text("ts", &ts)),
        (
            "request_id",
            same_text("request_id", &storable(record.request_id())),
        ),
        ("event", same_text("event", record.text("event"))),
        ("outcome", same_text("outcome", record.text("outcome"))),
        ("caller", same_text("caller", &columns.caller)),
        ("user_name", same_text("user_name", &columns.user)),
        ("user_ids", user_ids.into_iter().eq(expected_ids)),
        ("since", text(row, "since") == since.as_deref()),
    ];
    let differing = same.into_iter().filter(|(_, same)| !same);
    differing
        .map(|(name, _)| format!("the column `{name}` differs from the record"))
        .collect()
}

/// Adds the digits of microseconds to a time stamp with milliseconds, as the database returns it.
fn in_microseconds(ts: &str) -> String {
    format!("{}000Z", ts.trim_end_matches('Z'))
}

fn number(row: &Row, column: &str) -> Option<i64> {
    row.try_get(column).ok().flatten()
}

fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.try_get(column).ok().flatten()
}
