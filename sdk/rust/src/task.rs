//! The handle of a run: what a plugin reads, and what it says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::connection::{Connection, cut};
use crate::output::{Output, Outputs};
use crate::{Failure, HostCalls};

/// A run of a task, as its plugin sees it.
///
/// It can be shared with threads that the plugin starts. When the run is over the handle is dead:
/// nothing that is said later arrives.
pub struct Task {
    params: RunParams,
    cancelled: Arc<AtomicBool>,
    connection: Arc<Connection>,
    outputs: Arc<Outputs>,
}

/// The params of the protocol's `run`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunParams {
    pub(crate) task: u64,
    pub(crate) run: u64,
    pub(crate) plugin: String,
    pub(crate) step: Option<String>,
    step_id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    inputs: HashMap<String, Inputs>,
    #[serde(default)]
    data: Value,
    directory: PathBuf,
    #[serde(default)]
    base_url: String,
    /// Bytes of outputs that the runner takes as text; an older one takes none.
    #[serde(default)]
    output_text: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Inputs {
    One(Input),
    Several(Vec<Input>),
}

/// A file that a run was given, or has fetched.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Input {
    /// Where it is; to be read, not to be changed.
    pub path: PathBuf,
    /// The file's own name, such as `entities.csv`. Not a path to be trusted.
    #[serde(default)]
    pub name: String,
    /// The media type, perhaps with parameters. Empty if it is not known.
    #[serde(default)]
    pub content_type: String,
    /// The data type, such as `entity/list`. Empty if it is not known.
    #[serde(default)]
    pub data_type: String,
    /// Size in bytes.
    #[serde(default)]
    pub size: u64,
    /// Where it came from; nothing for an upload.
    #[serde(default)]
    pub url: Option<String>,
}

/// The module that a plugin belongs to, as it was loaded.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ModuleInfo {
    /// Its instance name: the one file may be loaded under several.
    pub name: String,
    /// Another one for each load.
    pub uuid: String,
    /// The `args` of its manifest.
    pub args: Vec<Value>,
}

/// A task that was called, as it ended.
#[derive(Debug, Clone, Deserialize)]
pub struct Called {
    /// Its number.
    pub task: u64,
    /// Its URL.
    pub href: String,
    /// `SUCCESS` or `FAILURE`.
    pub status: String,
    /// Its log.
    pub log: String,
    /// Its outputs.
    pub outputs: Vec<Input>,
}

impl Input {
    /// Opens the file.
    pub fn open(&self) -> Result<BufReader<File>, Failure> {
        let file = File::open(&self.path).map_err(|error| self.unreadable(error))?;
        Ok(BufReader::new(file))
    }

    /// Reads the file as text.
    pub fn read_to_string(&self) -> Result<String, Failure> {
        let mut text = String::new();
        self.open()?
            .read_to_string(&mut text)
            .map_err(|error| self.unreadable(error))?;
        Ok(text)
    }

    fn unreadable(&self, error: io::Error) -> Failure {
        Failure::from(error).context(format_args!("cannot read the input `{}`", self.name))
    }
}

impl Task {
    pub(crate) fn new(
        params: RunParams,
        host: Box<dyn HostCalls>,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        let connection = Arc::new(Connection::new(params.task, host));
        let outputs = Arc::new(Outputs::new(
            params.directory.clone(),
            params.output_text,
            Arc::clone(&connection),
        ));
        Self {
            params,
            cancelled,
            connection,
            outputs,
        }
    }

    /// The value of a parameter. One that was left out is an error, unless `T` is an [`Option`].
    pub fn parameter<T: DeserializeOwned>(&self, key: &str) -> Result<T, Failure> {
        let Some(value) = self.params.parameters.get(key) else {
            return serde_json::from_value(Value::Null)
                .map_err(|_| Failure::new(format!("the parameter `{key}` is missing")));
        };
        T::deserialize(value)
            .map_err(|error| Failure::new(format!("the parameter `{key}` does not fit: {error}")))
    }

    /// The file of a parameter that is data or an upload.
    pub fn input(&self, key: &str) -> Result<&Input, Failure> {
        match self.inputs(key) {
            [input] => Ok(input),
            [] => Err(Failure::new(format!("the input `{key}` is missing"))),
            several => Err(Failure::new(format!(
                "the input `{key}` is {} files instead of one",
                several.len()
            ))),
        }
    }

    /// The files of a parameter that is a list of data; none if it was left out.
    pub fn inputs(&self, key: &str) -> &[Input] {
        match self.params.inputs.get(key) {
            Some(Inputs::One(input)) => std::slice::from_ref(input),
            Some(Inputs::Several(inputs)) => inputs,
            None => &[],
        }
    }

    /// What the previous run of this task kept with [`Outcome::keep`](crate::Outcome::keep).
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        Option::<T>::deserialize(&self.params.data).map_err(|error| {
            Failure::new(format!(
                "the data of the previous step does not fit: {error}"
            ))
        })
    }

    /// The id under which the step in progress was added.
    pub fn step_id(&self) -> Option<&str> {
        self.params.step_id.as_deref()
    }

    /// What the plugin's module is called, and with which arguments it was loaded.
    pub fn module(&self) -> ModuleInfo {
        self.connection.welcome()
    }

    /// The base URL of the runner as the client knows it that made the task; no slash at the end.
    pub fn base_url(&self) -> &str {
        &self.params.base_url
    }

    /// The run's own directory: empty at first, writable, removed after the run.
    pub fn directory(&self) -> &Path {
        &self.params.directory
    }

    /// Adds an entry to the task's log. Of a long text the middle is cut.
    pub fn log(&self, text: impl AsRef<str>) {
        self.say("log", json!({"text": cut(text.as_ref())}));
    }

    /// Says how much is done, in percent.
    pub fn progress(&self, percent: f64) {
        self.progress_of(percent, 100.0, "%");
    }

    /// Says how much is done, from 0 to `target`, in `unit`.
    pub fn progress_of(&self, value: f64, target: f64, unit: &str) {
        let params =
            json!({"value": number(value), "start": 0, "target": number(target), "unit": unit});
        self.say("progress", params);
    }

    /// Makes `content` an output called `name`. Kept when the run has succeeded.
    pub fn output(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        data_type: &str,
        content_type: &str,
    ) -> Result<(), Failure> {
        use io::Write as _;

        let mut output = self.create_output(name, data_type, content_type)?;
        output.write_all(content.as_ref())?;
        output.finish()
    }

    /// Makes what stands at `url` an output called `name`: it is not copied, and clients are sent there. It is an http or
    /// https URL that they can open. Kept when the run has succeeded.
    pub fn output_url(
        &self,
        name: &str,
        url: &str,
        data_type: &str,
        content_type: &str,
    ) -> Result<(), Failure> {
        self.outputs.tell(json!({
            "url": url, "name": name, "dataType": data_type, "contentType": content_type,
        }))
    }

    /// Begins an output called `name`, to be written bit by bit and then
    /// [finished](Output::finish).
    pub fn create_output(
        &self,
        name: &str,
        data_type: &str,
        content_type: &str,
    ) -> Result<Output, Failure> {
        Outputs::create(&self.outputs, name, data_type, content_type)
    }

    /// Makes a file in the run's [directory](Self::directory) an output called `name`.
    pub fn output_file(
        &self,
        path: impl AsRef<Path>,
        name: &str,
        data_type: &str,
        content_type: &str,
    ) -> Result<(), Failure> {
        self.outputs
            .announce(path.as_ref(), name, data_type, content_type)
    }

    /// After this run the task waits until somebody submits `step`, which is declared in the
    /// description. `values` (an object) prefill its form.
    pub fn step(&self, step: &str, values: Value) -> Result<(), Failure> {
        self.step_as(step, step, values)
    }

    /// Like [`step`](Self::step), with an id of its own: for a step that a task has several times.
    pub fn step_as(&self, step: &str, id: &str, values: Value) -> Result<(), Failure> {
        let params = json!({"step": step, "stepId": id, "values": values});
        self.connection.notify("step", params)
    }

    /// Adds a link that is shown with the task.
    pub fn link(&self, kind: &str, href: &str) -> Result<(), Failure> {
        self.connection
            .notify("link", json!({"type": kind, "href": href}))
    }

    /// Has the runner download `url`.
    pub fn fetch(&self, url: &str) -> Result<Input, Failure> {
        let answer = self.connection.request("fetch", json!({"url": url}))?;
        let mut input: Input = serde_json::from_value(answer)
            .map_err(|error| Failure::new(format!("the answer to `fetch` is no file: {error}")))?;
        input.url.get_or_insert_with(|| url.to_owned());
        Ok(input)
    }

    /// Runs another plugin as a task of its own, and waits for it; nothing else is held up meanwhile.
    /// `plugin` is a name (the newest version is taken), an identifier, or the URL of a plugin of this
    /// runner. A called task that fails is a failure.
    pub fn call(&self, plugin: &str, parameters: &Value) -> Result<Called, Failure> {
        let params = json!({"plugin": plugin, "parameters": parameters});
        let answer = self.connection.request("call", params)?;
        let called: Called = serde_json::from_value(answer).map_err(|error| {
            Failure::new(format!("the answer to `call` is not usable: {error}"))
        })?;
        match called.status.as_str() {
            "SUCCESS" => Ok(called),
            _ => Err(Failure::new(format!(
                "the called task of {plugin} failed: {}",
                called.log
            ))),
        }
    }

    /// Whether somebody cancelled the task. A long run looks from time to time and ends early; the
    /// process of one that does not is stopped after half a second.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Ends a cancelled run: `task.check_cancelled()?`.
    pub fn check_cancelled(&self) -> Result<(), Failure> {
        if self.is_cancelled() {
            Err(Failure::cancelled())
        } else {
            Ok(())
        }
    }

    /// What is wrong with the run although its plugin says that it went well.
    pub(crate) fn check_finished(&self) -> Result<(), Failure> {
        self.check_cancelled()?;
        self.outputs.check_finished()
    }

    /// Ends the connection to the host.
    pub(crate) fn close(&self) {
        self.connection.close();
    }

    /// Sends what may be lost when the run is over.
    fn say(&self, method: &str, params: Value) {
        // The only failure is that the run is over, and then nobody is there to be told.
        let _ = self.connection.notify(method, params);
    }
}

/// Whole numbers without a decimal point.
fn number(value: f64) -> Value {
    const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    if value.fract() == 0.0 && value.abs() < EXACT {
        json!(value as i64)
    } else {
        json!(value)
    }
}
