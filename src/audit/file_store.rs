//! The audit log in a file, or at standard output: chains the records, and repeats open intents in a new file.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{
    chain::{Head, Lines},
    record::Record,
    sink::{Opened, Sink},
    store::{AuditStore, Condition, OverQuota, worthwhile_duration},
};
use crate::config;

pub(super) struct FileStore {
    sink: Sink,
    head: Head,
    /// Recorded intents that have no recorded outcome, by request ID.
    open_intents: HashMap<Arc<str>, Record>,
    /// Whether the next write must repeat the open intents, because the file is new.
    carries_open_intents: bool,
}

impl FileStore {
    pub(super) fn new(config: &config::Audit) -> Self {
        Self {
            sink: Sink::new(config.sink.clone(), config.sync),
            head: Head::default(),
            open_intents: HashMap::new(),
            carries_open_intents: false,
        }
    }
}

impl AuditStore for FileStore {
    fn name(&self) -> String {
        self.sink.name()
    }

    /// Opens the file. Opens a new file with the configured name if the file was renamed.
    fn open(&mut self) -> io::Result<Vec<Map<String, Value>>> {
        match self.sink.open()? {
            Opened::Same => Ok(Vec::new()),
            Opened::First(recovered) => {
                recovered.log(&self.sink.name());
                self.carries_open_intents = recovered.predecessor.is_some();
                self.head = recovered.head.unwrap_or_default();
                let intents = recovered.open.iter();
                self.open_intents = intents
                    .map(|(id, intent)| {
                        (id.as_str().into(), Record::recovered_intent(intent.clone()))
                    })
                    .collect();
                Ok(recovered.open.into_values().collect())
            }
            Opened::New => {
                let (file, head) = (self.sink.name(), self.head.to_string());
                let open = self.open_intents.len();
                tracing::info!(file, head, open, "audit log reopened");
                self.carries_open_intents = true;
                Ok(Vec::new())
            }
        }
    }

    fn append(
        &mut self,
        records: &[&Record],
        _retained: usize,
        durable: bool,
    ) -> io::Result<Vec<OverQuota>> {
        let mut lines = Lines::after(&self.head, records.len());
        if self.carries_open_intents {
            // Oldest first, because a hash map has no order.
            let mut intents: Vec<_> = self.open_intents.values().collect();
            intents.sort_unstable_by(|a, b| (a.at, &a.request_id).cmp(&(b.at, &b.request_id)));
            for intent in intents {
                lines.push(intent, true);
            }
        }
        for record in records {
            lines.push(record, false);
        }
        let durable = durable || self.carries_open_intents;
        self.sink.write(&lines.text, durable)?;
        self.head = lines.head;
        self.carries_open_intents = false;
        Ok(Vec::new())
    }

    fn keep(&mut self, appended: Record) {
        if appended.is_intent() {
            self.open_intents
                .insert(Arc::clone(&appended.request_id), appended);
        } else {
            self.open_intents.remove(&appended.request_id);
        }
    }

    /// Syncs earlier writes. After a failure, also checks whether the file works again.
    fn check(&mut self, condition: Condition) -> io::Result<()> {
        if self.carries_open_intents && !self.open_intents.is_empty() {
            return self.append(&[], 0, true).map(drop);
        }
        self.sink.sync()?;
        match condition {
            Condition::Unknown => self.sink.check_space(),
            Condition::Writable => Ok(()),
            Condition::Failed => self.sink.probe(),
        }
    }

    fn head(&self) -> &Head {
        &self.head
    }

    fn commit_duration(&self) -> Duration {
        worthwhile_duration(self.sink.sync_duration())
    }

    fn unsynced(&self) -> Duration {
        self.sink.unsynced()
    }

    fn external_changes(&self) -> u64 {
        self.sink.external_changes
    }
}
