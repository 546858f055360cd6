//! One invocation of a plugin, its states, and the one function that changes it.
//!
//! ```text
//! queued ──► running ──► succeeded | failed
//!   │ ▲         │
//!   │ └waiting◄─┤          cancelled: from queued, running and waiting
//!   └───────────┴──► (a short run goes from queued to its end in one change)
//! ```

mod log;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::file::{File, Upload};
use crate::plugin::Link;

pub use log::{INLINE_LOG, LogWriter, split_log};

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

/// One invocation of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Number in SQL, in the URL.
    pub id: i64,
    /// Identifier of the plugin, `name@version`.
    pub plugin: String,
    /// SHA-256 of the module when the task was made.
    pub digest: String,
    /// Where it is.
    pub state: TaskState,
    /// Counts the dispatches: the fence.
    pub run: i64,
    /// Counts the runs of the current step that were lost.
    pub attempts: i64,
    /// Counts the changes.
    pub version: i64,
    /// What was submitted to the plugin itself.
    pub parameters: Map<String, Value>,
    /// What the current run processes, if it is a step.
    pub step: Option<StepRun>,
    /// What the plugin keeps between its steps.
    pub data: Value,
    /// The log; only its first [`INLINE_LOG`] bytes where a run begins.
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
    /// Base URL of the request that made it, without a slash at the end.
    pub base_url: String,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
}

/// A task that is to be made.
#[derive(Debug, Clone)]
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

/// Something that happens to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The run has begun and will take a while.
    Started,
    /// The run is this far.
    Progressed(Progress),
    /// The run asks for a step.
    StepAdded {
        /// The step as the plugin declared it.
        step: String,
        /// Its id in the task.
        step_id: String,
        /// Values that prefill its form.
        values: Map<String, Value>,
    },
    /// A task that the run called has a step, as it is now.
    StepShown(Step),
    /// The run added a link.
    LinkAdded(Link),
    /// The run ended well; `data` replaces what is kept between steps.
    Succeeded {
        /// What the plugin keeps, if it said so.
        data: Option<Value>,
    },
    /// The run ended badly.
    Failed,
    /// The task is to end.
    Cancelled,
    /// Somebody submitted a step.
    StepSubmitted {
        /// Its id.
        step_id: String,
        /// What was submitted, checked.
        parameters: Map<String, Value>,
    },
    /// The run was lost with its worker; another one is to begin.
    Lost,
}

/// What subscribers are told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskEvent {
    /// `status` changed.
    Status,
    /// `steps` changed.
    Steps,
    /// Anything else changed that clients wait for.
    Details,
}

impl TaskEvent {
    /// The word in SQL and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Steps => "steps",
            Self::Details => "details",
        }
    }

    /// The event of this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Status, Self::Steps, Self::Details]
            .into_iter()
            .find(|event| event.as_str() == word)
    }
}

/// Why a change does not apply. The task is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The task is in a state in which this cannot happen.
    #[error("the task is {}", .0.as_str())]
    State(TaskState),
    /// No such step.
    #[error("the task has no step {0:?}")]
    UnknownStep(String),
    /// The step was submitted before.
    #[error("the step {0:?} was submitted already")]
    Cleared(String),
    /// The id cannot stand in a URL or is that of another step.
    #[error("the step id {0:?} is not usable: expected letters, digits, _ and -, once in a task")]
    StepId(String),
    /// Too many of something.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Task {
    /// Applies a change: the one place where a task's state changes. Answers what subscribers are told.
    ///
    /// # Errors
    /// Why it does not apply.
    pub fn apply(&mut self, change: Change) -> Result<Vec<TaskEvent>, Refused> {
        use TaskEvent::{Details, Status, Steps};
        use TaskState::{Cancelled, Failed, Queued, Running, Succeeded, Waiting};
        let allowed: &[TaskState] = match change {
            Change::Started => &[Queued],
            Change::StepSubmitted { .. } => &[Waiting],
            Change::Cancelled => &[Queued, Running, Waiting],
            _ => &[Queued, Running],
        };
        // A step posted again is told what happened to the step, not to the task.
        if let Change::StepSubmitted { step_id, .. } = &change {
            let own = |step: &&Step| step.step_id == *step_id && !step.is_called;
            let step = self.steps.iter().find(own);
            let step = step.ok_or_else(|| Refused::UnknownStep(step_id.clone()))?;
            if step.cleared {
                return Err(Refused::Cleared(step_id.clone()));
            }
        }
        if !allowed.contains(&self.state) {
            return Err(Refused::State(self.state));
        }
        match change {
            Change::Started => self.state = Running,
            Change::Progressed(progress) => self.progress = Some(progress),
            Change::LinkAdded(link) => {
                let link = link.below(&self.plugin_url());
                // A run that was lost may have added it before.
                if self.links.contains(&link) {
                    return Ok(Vec::new());
                }
                if self.links.len() >= MAX_LINKS {
                    return Err(Refused::TooMany {
                        what: "links",
                        limit: MAX_LINKS,
                    });
                }
                self.links.push(link);
            }
            Change::StepAdded {
                step,
                step_id,
                values,
            } => self.add_step(step, step_id, values)?,
            Change::StepShown(step) => return Ok(self.show_step(step)),
            Change::Succeeded { data } => {
                if let Some(data) = data {
                    self.data = data;
                }
                self.step = None;
                if self
                    .steps
                    .iter()
                    .any(|step| !step.cleared && !step.is_called)
                {
                    self.state = Waiting;
                    return Ok(vec![Steps, Details]);
                }
                self.state = Succeeded;
                return Ok(vec![Status, Details]);
            }
            Change::Failed | Change::Cancelled => {
                self.state = if change == Change::Cancelled {
                    Cancelled
                } else {
                    Failed
                };
                self.step = None;
                let mut open = self
                    .steps
                    .iter_mut()
                    .filter(|step| !step.cleared)
                    .peekable();
                let events = match open.peek() {
                    Some(_) => vec![Status, Steps, Details],
                    None => vec![Status, Details],
                };
                open.for_each(|step| step.cleared = true);
                return Ok(events);
            }
            Change::StepSubmitted {
                step_id,
                parameters,
            } => {
                for step in self.steps.iter_mut().filter(|step| step.step_id == step_id) {
                    step.cleared = true;
                    self.step = Some(StepRun {
                        step: step.step.clone(),
                        step_id: step_id.clone(),
                        parameters: parameters.clone(),
                    });
                }
                self.state = Queued;
                self.run += 1;
                self.attempts = 0;
                return Ok(vec![Steps]);
            }
            Change::Lost => {
                self.attempts += i64::from(self.state == Running);
                self.state = Queued;
                self.run += 1;
            }
        }
        Ok(Vec::new())
    }

    /// The plugin as the client knows it that made the task, without a slash at the end.
    fn plugin_url(&self) -> String {
        let segment = crate::identity::url_segment(&self.plugin);
        format!("{}/plugins/{segment}", self.base_url)
    }

    /// A step of a called task only grows: it is added, then cleared.
    fn show_step(&mut self, shown: Step) -> Vec<TaskEvent> {
        match self
            .steps
            .iter()
            .position(|step| step.step_id == shown.step_id)
        {
            Some(at) if self.steps[at].cleared || !shown.cleared => return Vec::new(),
            Some(at) => self.steps[at].cleared = true,
            None if self.steps.len() >= MAX_STEPS => return Vec::new(),
            None => self.steps.push(Step {
                is_called: true,
                ..shown
            }),
        }
        vec![TaskEvent::Steps]
    }

    fn add_step(
        &mut self,
        step: String,
        step_id: String,
        values: Map<String, Value>,
    ) -> Result<(), Refused> {
        let same =
            |other: &&mut Step| !other.cleared && other.step == step && other.step_id == step_id;
        // A run that was lost may have added it before.
        if let Some(open) = self.steps.iter_mut().find(same) {
            open.values = values;
            return Ok(());
        }
        if self.steps.len() >= MAX_STEPS {
            return Err(Refused::TooMany {
                what: "steps",
                limit: MAX_STEPS,
            });
        }
        let taken = self.steps.iter().any(|other| other.step_id == step_id);
        if taken || !crate::plugin::is_step_id(&step_id) {
            return Err(Refused::StepId(step_id));
        }
        let base = format!("{}/{}/{step_id}", self.plugin_url(), self.id);
        self.steps.push(Step {
            step_id,
            step,
            href: format!("{base}-process/"),
            ui_href: format!("{base}-ui/"),
            cleared: false,
            values,
            is_called: false,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
