//! What a change writes into the row of its task.

use runner_core::task::{INLINE_LOG, Task, TaskEvent, TaskState, without_nul};
use serde_json::json;

use super::update::CHUNK;
use crate::sql::{Arg, args, json_rows};
use crate::tasks::to_json;
use crate::{file_store, now_ms};

/// The columns that a change may change, as they stand in SQL.
pub(super) struct Columns {
    pub(super) id: i64,
    pub(super) run: i64,
    pub(super) attempts: i64,
    pub(super) failures: i64,
    pub(super) run_at: Option<i64>,
    pub(super) state: TaskState,
    pub(super) now: i64,
    pub(super) progress: Option<String>,
    pub(super) step: Option<String>,
    pub(super) steps: String,
    pub(super) links: String,
    pub(super) data: Option<String>,
    pub(super) log: String,
    pub(super) process: String,
    pub(super) token: i64,
    pub(super) ran_by: Option<String>,
}

impl Columns {
    pub(super) fn of(task: &Task, process: &str, log: String) -> Self {
        Self {
            id: task.id,
            run: task.run,
            attempts: task.attempts,
            failures: task.failures,
            run_at: task.dispatch.run_at,
            state: task.state,
            now: now_ms(),
            progress: task.progress.as_ref().map(to_json),
            step: task.step.as_ref().map(to_json),
            steps: to_json(&task.steps),
            links: to_json(&task.links),
            data: (!task.data.is_null()).then(|| to_json(&task.data)),
            log: harmless(log),
            process: process.to_owned(),
            token: token(),
            ran_by: (!task.ran_by.is_empty()).then(|| to_json(&task.ran_by)),
        }
    }

    pub(super) fn finished_at(&self) -> Option<i64> {
        self.state.is_finished().then_some(self.now)
    }

    /// Arguments 1 to 21 of an update; `fence` is the run or the version. What does not fit into the row is not sent
    /// as if it did, unless the statement wants `all` of it.
    pub(super) fn args(&self, fence: i64, output_count: i64, all: bool) -> Vec<Arg<'_>> {
        let most = if all { CHUNK } else { INLINE_LOG };
        let inline = match self.log.len() <= most {
            true => self.log.as_str(),
            false => "",
        };
        let args: &[Arg<'_>] = args![
            self.state.as_str(),
            &self.process,
            self.finished_at(),
            &self.progress,
            &self.step,
            &self.steps,
            &self.links,
            &self.data,
            output_count,
            self.log_size(),
            INLINE_LOG as i64,
            inline,
            self.id,
            fence,
            self.now,
            self.run,
            self.attempts,
            self.failures,
            self.run_at,
            self.token,
            &self.ran_by,
        ];
        args.to_vec()
    }

    pub(super) fn log_size(&self) -> i64 {
        i64::try_from(self.log.len()).unwrap_or(i64::MAX)
    }
}

/// Bytes are counted here, so NUL goes before it gets to SQL.
pub(super) fn harmless(text: String) -> String {
    match without_nul(&text) {
        std::borrow::Cow::Borrowed(_) => text,
        std::borrow::Cow::Owned(changed) => changed,
    }
}

/// A number by which a write is known that may have been committed.
pub(crate) fn token() -> i64 {
    // 63 bits: it is not negative, and not the zero of rows that nobody changed.
    (i64::from_le_bytes(file_store::random()) & i64::MAX).max(1)
}

/// What subscribers are told, as SQL takes it apart.
pub(crate) struct Events(Option<String>);

impl Events {
    pub(crate) fn new(events: &[TaskEvent]) -> Self {
        let rows = events.iter().map(|event| json!(event.as_str()));
        Self((!events.is_empty()).then(|| json_rows(rows.collect())))
    }

    pub(crate) fn json(&self) -> Option<&str> {
        self.0.as_deref()
    }
}
