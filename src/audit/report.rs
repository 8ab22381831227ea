//! Joins the records of each call, and selects calls by user, caller and time. Does not verify the chain. Needs memory
//! for the calls that have no outcome yet, and for the selected calls whose outcome is unknown.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    columns::USER_KEYS,
    file_lines::{FileLines, Finding, UnreadableLog},
    reader::{BEING_WRITTEN, Kind, Line, Record},
};
use crate::error::status::short;

/// The conditions for a call. A condition is met if one record of the call meets it. `None` accepts every call.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Name or ID of the user.
    pub user: Option<String>,
    /// Identity of the caller.
    pub caller: Option<String>,
    /// Start of the period.
    pub since: Option<OffsetDateTime>,
    /// End of the period, which is not part of it.
    pub until: Option<OffsetDateTime>,
}

impl Filter {
    fn matches(&self, call: &Call) -> bool {
        let any = |condition: &dyn Fn(&Record) -> bool| {
            let mut records = call.entries().map(|entry| &entry.record);
            records.any(condition)
        };
        let user = self.user.as_deref().map(short);
        let caller = self.caller.as_deref().map(short);
        user.is_none_or(|user| any(&|record| is_of_user(record, user)))
            && caller.is_none_or(|caller| any(&|record| record.text("caller") == caller))
            && any(&|record| self.is_in_period(record))
    }

    /// Returns whether the record, or the first refusal of a summary, is in the period. A time that cannot be read is
    /// in every period, so that no call is hidden.
    fn is_in_period(&self, record: &Record) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let times = ["ts", "since"].map(|key| record.text(key));
        let mut times = times.into_iter().filter(|time| !time.is_empty());
        times.any(|time| {
            let Ok(time) = OffsetDateTime::parse(time, &Rfc3339) else {
                return true;
            };
            self.since.is_none_or(|since| since <= time)
                && self.until.is_none_or(|until| time < until)
        })
    }
}

/// Returns whether a record is about a user with this name or ID.
fn is_of_user(record: &Record, user: &str) -> bool {
    record.text("user") == user
        || record
            .identifiers()
            .any(|(key, value)| key.starts_with(USER_KEYS) && value == user)
}

struct Entry {
    record: Record,
    line: Line,
}

/// The records of a call up to its outcome, or the record of a finding about its user.
pub struct Call {
    /// The intent and its copies.
    earlier: Vec<Entry>,
    last: Entry,
}

impl Call {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.earlier.iter().chain([&self.last])
    }

    /// Returns the lines of the records, without newlines.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.entries()
            .filter_map(|entry| entry.line.complete_text())
    }

    /// Returns the time of the first record.
    pub fn time(&self) -> &str {
        self.earlier.first().unwrap_or(&self.last).record.text("ts")
    }

    /// Returns the text of a key in the last record, or an empty text.
    pub fn text(&self, key: &str) -> &str {
        self.last.record.text(key)
    }

    /// Returns the outcome, `open` if the call has none, or `reconciled` for a finding.
    pub fn outcome(&self) -> &str {
        match self.last.record.kind {
            Kind::Intent { .. } => "open",
            Kind::Outcome { .. } => self.text("outcome"),
            Kind::Reconciled { .. } => "reconciled",
        }
    }

    /// Returns the finding about the user, or an empty text if this is not a finding.
    pub fn finding(&self) -> &str {
        match self.last.record.kind {
            Kind::Reconciled { .. } => self.text("outcome"),
            Kind::Intent { .. } | Kind::Outcome { .. } => "",
        }
    }

    /// Returns the number of refused calls that a summary stands for, or 1.
    pub fn count(&self) -> u64 {
        self.last.record.number("count").unwrap_or(1)
    }
}

/// Totals of a report.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReportTotals {
    /// Number of records that were read.
    pub records: u64,
    /// Number of selected calls, including those that summaries count.
    pub calls: u64,
    /// Number of selected calls without an outcome.
    pub open: u64,
    /// Number of selected findings.
    pub findings: u64,
}

/// Why a report is incomplete.
#[derive(Debug)]
pub enum ReportError<'a> {
    /// A file or the database cannot be read.
    Unreadable(UnreadableLog<'a>),
    /// The report cannot be written.
    Output(io::Error),
}

/// Reads the files, oldest first, and calls `print` for each selected call and finding: calls in the order of their
/// outcomes, then calls without an outcome in the order of their intents. Calls `fault` for each line that is not a
/// record.
pub fn report<'a>(
    files: &'a [PathBuf],
    filter: &Filter,
    mut print: impl FnMut(&Call) -> io::Result<()>,
    mut fault: impl FnMut(Finding<'a>),
) -> Result<ReportTotals, ReportError<'a>> {
    let mut report = Report::new(filter);
    let mut lines = FileLines::new(files);
    while let Some(line) = lines.next().transpose().map_err(ReportError::Unreadable)? {
        let being_written = !line.ended && line.is_being_written();
        match report.follow(line) {
            Ok(Some(call)) => print(&call).map_err(ReportError::Output)?,
            Ok(None) => {}
            Err(_) if being_written => fault(lines.finding(true, BEING_WRITTEN.to_owned())),
            Err(text) => fault(lines.finding(false, text)),
        }
    }
    let (open, totals) = report.finish();
    for call in &open {
        print(call).map_err(ReportError::Output)?;
    }
    Ok(totals)
}

/// Selects calls from lines of any source: the state after the lines that were read so far.
pub(super) struct Report<'a> {
    filter: &'a Filter,
    /// Calls without an outcome by request ID, with the number of their last intent.
    open: HashMap<String, (u64, Call)>,
    /// Request IDs of the selected calls whose outcome is unknown, and that no finding has settled. Their findings are
    /// selected as well, whenever they were made.
    unsettled: HashSet<String>,
    totals: ReportTotals,
}

impl<'a> Report<'a> {
    pub(super) fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            open: HashMap::new(),
            unsettled: HashSet::new(),
            totals: ReportTotals::default(),
        }
    }

    /// Adds a line. Returns the call or the finding that it completes, if it is selected. Returns an error that
    /// describes the fault if the line is not a record.
    pub(super) fn follow(&mut self, line: Line) -> Result<Option<Call>, String> {
        let record = line.record()?;
        self.totals.records += 1;
        let (kind, id) = (record.kind, record.request_id().to_owned());
        let last = Entry { record, line };
        let earlier = match kind {
            Kind::Reconciled { .. } => Vec::new(),
            Kind::Intent { .. } | Kind::Outcome { .. } => self.take_entries(&id),
        };
        let call = Call { earlier, last };
        Ok(match kind {
            Kind::Intent { .. } => {
                self.open.insert(id, (self.totals.records, call));
                None
            }
            Kind::Outcome { unknown, .. } => self.filter.matches(&call).then(|| {
                if unknown {
                    self.unsettled.insert(id);
                }
                self.totals.calls = self.totals.calls.saturating_add(call.count());
                call
            }),
            Kind::Reconciled { settled } => {
                let is_of_selected_call = if settled {
                    self.unsettled.remove(&id)
                } else {
                    self.unsettled.contains(&id)
                };
                (is_of_selected_call || self.filter.matches(&call)).then(|| {
                    self.totals.findings += 1;
                    call
                })
            }
        })
    }

    /// Returns the selected calls without an outcome, and the totals.
    pub(super) fn finish(mut self) -> (Vec<Call>, ReportTotals) {
        let mut open: Vec<_> = self.open.into_values().collect();
        open.retain(|(_, call)| self.filter.matches(call));
        open.sort_unstable_by_key(|(number, _)| *number);
        let calls: Vec<_> = open.into_iter().map(|(_, call)| call).collect();
        self.totals.open = calls.len() as u64;
        self.totals.calls = self.totals.calls.saturating_add(self.totals.open);
        (calls, self.totals)
    }

    /// Removes the records of an open call. Returns them, or nothing if the call is not open.
    fn take_entries(&mut self, id: &str) -> Vec<Entry> {
        let call = self.open.remove(id).map(|(_, call)| call);
        let Some(Call { mut earlier, last }) = call else {
            return Vec::new();
        };
        earlier.push(last);
        earlier
    }
}
