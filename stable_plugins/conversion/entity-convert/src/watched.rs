//! Progress and cancellation, where the bytes come in.

use std::cell::Cell;
use std::io::{self, Read};

use runner_sdk::Task;

/// The bytes that a task has read.
pub(crate) struct Watch<'a> {
    task: &'a Task,
    /// Bytes that will be read in all.
    total: u64,
    read: Cell<u64>,
    /// The percentage that was said last.
    said: Cell<u64>,
}

/// A reader whose bytes count.
pub(crate) struct Watched<'a, R> {
    watch: &'a Watch<'a>,
    input: R,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(task: &'a Task, total: u64) -> Self {
        Self {
            task,
            total,
            read: Cell::new(0),
            said: Cell::new(0),
        }
    }

    pub(crate) fn reader<R: Read>(&'a self, input: R) -> Watched<'a, R> {
        Watched { watch: self, input }
    }

    /// Says every tenth of the way; small files are read at once and say nothing.
    fn count(&self, bytes: usize) {
        self.read.set(self.read.get() + bytes as u64);
        let percent = (self.read.get() * 100)
            .checked_div(self.total)
            .unwrap_or(0)
            .min(100);
        if percent >= self.said.get() + 10 && percent < 100 {
            self.said.set(percent);
            self.task.progress(percent as f64);
        }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.task.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let read = self.input.read(buffer)?;
        self.watch.count(read);
        Ok(read)
    }
}
