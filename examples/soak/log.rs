//! The audit log and its faults.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A fault of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The disk is full.
    Full,
    /// The file is a pipe without a reader.
    Pipe,
}

/// The files of the audit log, in the order of their records.
pub struct Log {
    folder: PathBuf,
    files: Vec<PathBuf>,
    readers: Vec<JoinHandle<io::Result<u64>>>,
    failing: Option<Sink>,
}

impl Log {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            readers: Vec::new(),
            failing: None,
        }
    }

    fn name(&self) -> PathBuf {
        self.folder.join("audit.jsonl")
    }

    fn renamed(&mut self) -> PathBuf {
        let number = self.files.len() + 1;
        let file = self.folder.join(format!("audit.jsonl.{number}"));
        self.files.push(file.clone());
        file
    }

    /// Atomically replaces the log with a file that fails.
    pub fn fail(&mut self, sink: Sink) {
        let (name, next) = (self.name(), self.folder.join("next"));
        fs::hard_link(&name, self.renamed()).unwrap();
        match sink {
            Sink::Full => symlink("/dev/full", &next).unwrap(),
            Sink::Pipe => {
                let mode = Mode::RUSR | Mode::WUSR;
                mknodat(CWD, &next, FileType::Fifo, mode, 0).unwrap();
            }
        }
        fs::rename(next, name).unwrap();
        self.failing = Some(sink);
    }

    /// Removes the file that fails, so that the server creates a new one. Records in a pipe are part of the log and are
    /// copied to a file.
    pub fn restore(&mut self) {
        let name = self.name();
        match self.failing.take() {
            None => {}
            Some(Sink::Full) => fs::remove_file(name).unwrap(),
            Some(Sink::Pipe) => {
                let pipe = self.folder.join("pipe");
                fs::rename(name, &pipe).unwrap();
                let file = self.renamed();
                // The thread ends when the server has closed the pipe.
                self.readers.push(thread::spawn(move || {
                    io::copy(&mut fs::File::open(pipe)?, &mut fs::File::create(file)?)
                }));
            }
        }
    }

    /// Returns all files. The server must have exited.
    pub fn files(mut self) -> Vec<PathBuf> {
        for reader in self.readers.drain(..) {
            reader.join().unwrap().unwrap();
        }
        self.files.push(self.name());
        self.files
    }
}
