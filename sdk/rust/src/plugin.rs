//! The trait of a plugin, and what its functions return.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::connection::{check_size, cut};
use crate::{Description, Failure, Node, Opening, Task};

/// A plugin. Made known with [`export!`](crate::export!).
///
/// One value serves all runs, from several threads if the manifest says `concurrent`.
pub trait Plugin: Send + Sync + 'static {
    /// Identity, metadata and parameters. Must not depend on anything that changes.
    fn describe(&self) -> Description;

    /// Does the work of one task. The parameters of `task` fit the description.
    fn run(&self, task: &Task) -> Result<Outcome, Failure>;

    /// Goes on with a task when its `step` was submitted: a step that is part of the description,
    /// and that the previous run asked for with [`Task::step`].
    fn step(&self, task: &Task, step: &str) -> Result<Outcome, Failure> {
        let _ = task;
        Err(Failure::new(format!("this plugin has no step `{step}`")))
    }

    /// Opens it as a node of a pipeline, where its description says that it is one
    /// ([`Description::node`]). It may be open several times.
    fn node(&self, opening: &Opening) -> Result<Box<dyn Node>, Failure> {
        let _ = opening;
        Err(Failure::new("this plugin is no node of pipelines"))
    }
}

/// How a run ended well: perhaps a last entry for the log, perhaps data for the next step.
///
/// `Ok("text".into())` is a log entry, `Ok(().into())` is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    log: Option<String>,
    data: Option<Value>,
}

impl Outcome {
    /// Keeps `data` with the task; the next step reads it with [`Task::data`]. At most 1 MiB.
    pub fn keep(mut self, data: impl Serialize) -> Result<Self, Failure> {
        self.data = Some(serde_json::to_value(data)?);
        Ok(self)
    }

    /// The result of the protocol's `run`.
    pub(crate) fn into_json(self) -> Result<Value, Failure> {
        let mut result = Map::new();
        if let Some(log) = self.log {
            result.insert("log".to_owned(), Value::String(cut(&log)));
        }
        if let Some(data) = self.data {
            check_size(&data, "the data kept for the next step")?;
            result.insert("data".to_owned(), data);
        }
        Ok(Value::Object(result))
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<String> for Outcome {
    fn from(log: String) -> Self {
        Self {
            log: Some(log),
            data: None,
        }
    }
}

impl From<&str> for Outcome {
    fn from(log: &str) -> Self {
        log.to_owned().into()
    }
}
