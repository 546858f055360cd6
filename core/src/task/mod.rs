//! One invocation of a plugin, its states, and the one function that changes it.
//!
//! ```text
//! queued ──► running ──► succeeded | failed
//!   │ ▲         │
//!   │ └waiting◄─┤          cancelled: from queued, running and waiting
//!   └───────────┴──► (a short run goes from queued to its end in one change)
//!   ▲
//!   └── failed, cancelled: when somebody wants it to be run once more
//! ```

mod change;
mod dispatch;
mod log;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::file::{File, Upload};
use crate::plugin::Link;

pub use change::{Change, Refused, TaskEvent};
pub use dispatch::{Dispatch, Idempotency, MAX_RETRIES, Priority, retry_pause};
pub use log::{INLINE_LOG, LogWriter, without_nul};

/// The most outputs that a task may have.
pub const MAX_OUTPUTS: usize = 1_000;
/// The most steps that a task may have.
pub const MAX_STEPS: usize = 1_000;
/// The most links that a task may have.
pub const MAX_LINKS: usize = 100;

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// A worker should take it.
    Queued,
    /// A worker has it.
    Running,
    /// Somebody should submit a step.
    Waiting,
    /// Ended well.
    Succeeded,
    /// Ended badly; the log says why.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl TaskState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word in SQL and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing will change any more.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The `status` that QHAna's clients know.
    pub fn status(self) -> &'static str {
        match self {
            Self::Queued | Self::Running | Self::Waiting => "PENDING",
            Self::Succeeded => "SUCCESS",
            Self::Failed | Self::Cancelled => "FAILURE",
        }
    }
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is now.
    pub value: f64,
    /// Where it began.
    #[serde(default)]
    pub start: f64,
    /// Where it will end.
    #[serde(default = "hundred")]
    pub target: f64,
    /// What is counted.
    #[serde(default = "percent")]
    pub unit: String,
}

fn hundred() -> f64 {
    100.0
}

fn percent() -> String {
    "%".to_owned()
}

/// A step that a task waits for, or waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its id, unique in the task; part of its URLs.
    pub step_id: String,
    /// The step as the plugin declared it.
    pub step: String,
    /// Where its form is posted; absolute, as it was when the step was made.
    pub href: String,
    /// Where its form is shown.
    pub ui_href: String,
    /// Whether it was submitted, or is no longer wanted.
    pub cleared: bool,
    /// Values that prefill its form.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub values: Map<String, Value>,
    /// Whether it is the step of a task that this one called, and only shown here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_called: bool,
}

/// What the run in progress, or the next one, is to process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRun {
    /// The step as the plugin declared it.
    pub step: String,
    /// The id under which it was added.
    pub step_id: String,
    /// What was submitted.
    pub parameters: Map<String, Value>,
}

/// Which version of its module did a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RanBy {
    /// The run.
    pub run: i64,
    /// SHA-256 of the module, hexadecimal.
    pub digest: String,
}

/// The most runs of a task of which that is kept: the last ones.
pub const MAX_RAN_BY: usize = 100;

/// One invocation of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Number in SQL, in the URL.
    pub id: i64,
    /// Identifier of the plugin, `name@version`.
    pub plugin: String,
    /// SHA-256 of the module when the task was made.
    pub digest: String,
    /// Which version of the module did each run that began, in their order.
    pub ran_by: Vec<RanBy>,
    /// Where it is.
    pub state: TaskState,
    /// Counts the dispatches: the fence.
    pub run: i64,
    /// Counts the runs of the current step that were lost with their worker or host.
    pub attempts: i64,
    /// Counts the runs of the current step in which the plugin itself failed.
    pub failures: i64,
    /// Counts the changes.
    pub version: i64,
    /// What was submitted to the plugin itself.
    pub parameters: Map<String, Value>,
    /// What the current run processes, if it is a step.
    pub step: Option<StepRun>,
    /// What the plugin keeps between its steps.
    pub data: Value,
    /// The log; where a run begins only its first part, at most [`INLINE_LOG`] bytes.
    pub log: String,
    /// Bytes of the whole log.
    pub log_length: u64,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Steps in the order in which they were added.
    pub steps: Vec<Step>,
    /// Links that the plugin added.
    pub links: Vec<Link>,
    /// Outputs in the order in which they were made.
    pub outputs: Vec<File>,
    /// How many tasks called one another to make it; 0 for one that a client made.
    pub depth: u32,
    /// Words by which its owner finds it.
    pub labels: Vec<String>,
    /// When, how often and before whom it is run.
    pub dispatch: Dispatch,
    /// Base URL of the request that made it, without a slash at the end.
    pub base_url: String,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
}

/// A task that is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTask {
    /// Identifier of the plugin.
    pub plugin: String,
    /// SHA-256 of its module.
    pub digest: String,
    /// What was submitted, checked.
    pub parameters: Map<String, Value>,
    /// Files that were submitted.
    pub uploads: Vec<Upload>,
    /// Words by which its owner finds it; see [`check_labels`].
    pub labels: Vec<String>,
    /// Base URL of the request.
    pub base_url: String,
    /// The task that calls it, and its depth.
    pub caller: Option<(i64, u32)>,
    /// When, how often and before whom it is run.
    pub dispatch: Dispatch,
    /// By what the same request is known when it comes again.
    pub idempotency: Option<Idempotency>,
}

impl NewTask {
    /// The task as it is when it was made under this number: queued, with its first run. `created_at` is in milliseconds
    /// since 1970 (UTC).
    pub fn made(&self, id: i64, created_at: i64) -> Task {
        Task {
            id,
            plugin: self.plugin.clone(),
            digest: self.digest.clone(),
            ran_by: Vec::new(),
            state: TaskState::Queued,
            run: 1,
            attempts: 0,
            failures: 0,
            version: 0,
            parameters: self.parameters.clone(),
            step: None,
            data: Value::Null,
            log: String::new(),
            log_length: 0,
            progress: None,
            steps: Vec::new(),
            links: Vec::new(),
            outputs: Vec::new(),
            depth: self.caller.map_or(0, |(_, depth)| depth + 1),
            labels: self.labels.clone(),
            dispatch: self.dispatch.clone(),
            base_url: self.base_url.clone(),
            created_at,
            finished_at: None,
        }
    }
}

/// How deep tasks may call one another.
pub const MAX_DEPTH: u32 = 16;

/// The most labels that a task may have.
pub const MAX_LABELS: usize = 20;

/// Checks labels: each has 1 to 100 characters, none of them a control character. Repeated ones count once.
///
/// # Errors
/// Says what is wrong.
pub fn check_labels(labels: Vec<String>) -> Result<Vec<String>, String> {
    let mut checked: Vec<String> = Vec::new();
    for label in labels {
        let length = label.chars().count();
        if length == 0 || length > 100 || label.chars().any(char::is_control) {
            return Err(format!(
                "Not a valid label: {label:?}. Expected 1 to 100 characters."
            ));
        }
        if !checked.contains(&label) {
            checked.push(label);
        }
    }
    match checked.len() {
        0..=MAX_LABELS => Ok(checked),
        count => Err(format!("{count} labels; the limit is {MAX_LABELS}.")),
    }
}

#[cfg(test)]
mod tests;
