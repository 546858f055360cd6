//! What may happen to a task, and the one function that applies it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{MAX_LINKS, MAX_RAN_BY, MAX_STEPS, Progress, RanBy, Step, StepRun, Task, TaskState};
use crate::plugin::Link;

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
    /// No step can be done any more, since what it began with is gone.
    GivenUp,
    /// The task is to end.
    Cancelled,
    /// Somebody submitted a step.
    StepSubmitted {
        /// Its id.
        step_id: String,
        /// What was submitted, checked.
        parameters: Map<String, Value>,
    },
    /// The run was lost with its worker or host; another one is to begin.
    Lost,
    /// The worker stops and gives the run up, which is nobody's fault; another one is to begin.
    HandedBack,
    /// The plugin failed in this run, and another one is to begin, not before this moment (milliseconds since
    /// 1970, UTC).
    RetryAt(i64),
    /// Somebody wants a task that failed or was cancelled to be run once more.
    Retried,
    /// The files of a task that has ended were kept for long enough.
    FilesRemoved,
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
    /// The current run is done by this version of the module. Answers the version that the run before had, or the task
    /// when it was made, if that was another one.
    pub fn is_run_by(&mut self, digest: &str) -> Option<String> {
        self.ran_by.retain(|ran| ran.run != self.run);
        let before = self.ran_by.last().map_or(&self.digest, |ran| &ran.digest);
        let other = (!before.is_empty() && before != digest).then(|| before.clone());
        if self.ran_by.len() >= MAX_RAN_BY {
            self.ran_by.remove(0);
        }
        self.ran_by.push(RanBy {
            run: self.run,
            digest: digest.to_owned(),
        });
        other
    }

    /// Applies a change: the one place where a task's state changes. Answers what subscribers are told.
    ///
    /// # Errors
    /// Why it does not apply.
    pub fn apply(&mut self, change: Change) -> Result<Vec<TaskEvent>, Refused> {
        use TaskEvent::{Details, Status, Steps};
        use TaskState::{Cancelled, Failed, Queued, Running, Succeeded, Waiting};
        let allowed: &[TaskState] = match change {
            Change::Started => &[Queued],
            Change::StepSubmitted { .. } | Change::GivenUp => &[Waiting],
            Change::Cancelled => &[Queued, Running, Waiting],
            Change::Retried => &[Failed, Cancelled],
            Change::FilesRemoved => &[Succeeded, Failed, Cancelled],
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
            Change::Failed | Change::GivenUp | Change::Cancelled => {
                self.state = if change == Change::Cancelled {
                    Cancelled
                } else {
                    Failed
                };
                // The step that it processed stays, for who runs it once more.
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
                self.queue_again();
                self.attempts = 0;
                self.failures = 0;
                self.dispatch.run_at = None;
                return Ok(vec![Steps]);
            }
            Change::Lost => {
                self.attempts += 1;
                self.queue_again();
            }
            Change::HandedBack => self.queue_again(),
            Change::RetryAt(moment) => {
                self.failures += 1;
                self.dispatch.run_at = Some(moment);
                self.queue_again();
            }
            Change::Retried => {
                self.attempts = 0;
                self.failures = 0;
                self.dispatch.run_at = None;
                self.finished_at = None;
                self.forget_what_failed();
                self.queue_again();
                return Ok(vec![Status, Details]);
            }
            Change::FilesRemoved => self.outputs.clear(),
        }
        Ok(Vec::new())
    }

    /// A run that begins again adds its steps again. What stays is what led to the step that it processes; with
    /// none it begins anew.
    fn forget_what_failed(&mut self) {
        let processed = self.step.as_ref().map(|step| &step.step_id);
        let kept = processed.and_then(|id| self.steps.iter().position(|step| step.step_id == *id));
        self.steps.truncate(kept.map_or(0, |at| at + 1));
        if kept.is_none() {
            self.step = None;
            self.data = Value::Null;
        }
        self.progress = None;
    }

    /// Another dispatch, and so another number in the fence.
    fn queue_again(&mut self) {
        self.state = TaskState::Queued;
        self.run += 1;
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
