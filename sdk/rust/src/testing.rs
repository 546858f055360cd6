//! Runs a plugin without a runner, for its tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::code;
use crate::task::RunParams;
use crate::{HostCalls, Plugin, RunFailure, exports};

/// Bytes of outputs that may come as text, as with a runner.
const OUTPUT_TEXT: usize = 1024 * 1024;

/// A run of a plugin that is to be tried.
///
/// ```
/// # use runner_sdk::{Description, Failure, Outcome, Plugin, Task};
/// # struct Shout;
/// # impl Plugin for Shout {
/// #     fn describe(&self) -> Description { Description::new("shout", "1.0.0") }
/// #     fn run(&self, task: &Task) -> Result<Outcome, Failure> {
/// #         let text = task.parameter::<String>("inputStr")?;
/// #         task.output("out.txt", text.to_uppercase(), "custom/shout", "text/plain")?;
/// #         Ok("done".into())
/// #     }
/// # }
/// use runner_sdk::testing::Trial;
///
/// let report = Trial::new().parameter("inputStr", "hello").run(&Shout)?;
/// assert_eq!(report.outputs[0].content, b"HELLO");
/// assert_eq!(report.log, ["done"]);
/// # Ok::<(), runner_sdk::RunFailure>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Trial {
    parameters: Map<String, Value>,
    inputs: Map<String, Value>,
    step: Option<String>,
    data: Value,
    cancelled: bool,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The entries of the log, the run's last one with them.
    pub log: Vec<String>,
    /// The outputs in their order.
    pub outputs: Vec<ReportedOutput>,
    /// The params of the other notifications (`progress`, `step`, `link`), with their methods.
    pub notifications: Vec<(String, Value)>,
    /// What the run keeps for the next step.
    pub data: Option<Value>,
}

/// An output of a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedOutput {
    /// Where the file is; none if it came as text.
    pub(crate) path: Option<PathBuf>,
    #[serde(default)]
    text: String,
    /// Where the content stands, if that is elsewhere.
    pub url: Option<String>,
    /// The name of the file.
    pub name: String,
    /// The data type.
    pub data_type: String,
    /// The media type.
    pub content_type: String,
    /// What is in the file.
    #[serde(skip)]
    pub content: Vec<u8>,
}

impl Trial {
    /// A run without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a parameter. It is not checked, and defaults are not filled in.
    pub fn parameter(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.parameters.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a parameter that is a file of this media type.
    pub fn input(mut self, key: &str, path: impl AsRef<Path>, content_type: &str) -> Self {
        let path = path.as_ref();
        let input = json!({
            "path": path,
            "name": path.file_name().unwrap_or_default().to_string_lossy(),
            "contentType": content_type,
            "dataType": "",
            "size": path.metadata().map(|file| file.len()).unwrap_or_default(),
        });
        self.inputs.insert(key.to_owned(), input);
        self
    }

    /// Processes a step, with what the previous run kept.
    pub fn step(mut self, step: &str, data: Value) -> Self {
        self.step = Some(step.to_owned());
        self.data = data;
        self
    }

    /// The run finds itself cancelled.
    pub fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    /// Runs `plugin`, in this thread and in a directory of its own that is removed afterwards.
    pub fn run(self, plugin: &dyn Plugin) -> Result<Report, RunFailure> {
        let directory = Directory::new()?;
        let params = json!({
            "task": 1, "run": 1, "plugin": plugin.describe().identifier(),
            "step": self.step, "stepId": self.step,
            "parameters": self.parameters, "inputs": self.inputs, "data": self.data,
            "directory": directory.0, "outputText": OUTPUT_TEXT,
        });
        let params = RunParams::deserialize(params).map_err(internal)?;
        let recorder = Recorder::default();
        let cancelled = Arc::new(AtomicBool::new(self.cancelled));
        let result = exports::run(plugin, params, Box::new(recorder.clone()), cancelled)?;
        let mut report = std::mem::take(&mut *recorder.report());
        if let Some(log) = result["log"].as_str() {
            report.log.push(log.to_owned());
        }
        report.data = result.get("data").cloned();
        for output in &mut report.outputs {
            output.content = match &output.path {
                Some(path) => std::fs::read(directory.0.join(path)).map_err(internal)?,
                None => std::mem::take(&mut output.text).into_bytes(),
            };
        }
        Ok(report)
    }
}

/// A host that writes down what it is told.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Report>>);

impl Recorder {
    fn report(&self) -> std::sync::MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostCalls for Recorder {
    fn notify(&self, method: &str, params: Value) {
        let mut report = self.report();
        match method {
            "log" => report
                .log
                .push(params["text"].as_str().unwrap_or_default().to_owned()),
            "output" => report.outputs.extend(ReportedOutput::deserialize(params)),
            _ => report.notifications.push((method.to_owned(), params)),
        }
    }

    fn request(&self, method: &str, _params: Value) -> Result<Value, RunFailure> {
        Err(RunFailure::new(
            code::UNKNOWN_METHOD,
            format!("a trial does not answer `{method}`"),
        ))
    }
}

/// A directory that is removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self, RunFailure> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = LAST.fetch_add(1, Ordering::Relaxed);
            let name = format!("runner-trial-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left over from an earlier process of the same id.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(internal(error)),
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn internal(error: impl std::fmt::Display) -> RunFailure {
    RunFailure::new(code::INTERNAL, format!("the trial went wrong: {error}"))
}
