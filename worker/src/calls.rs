//! A run calls another plugin and waits for it. The call is a task of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_core::file::{File, plain_name};
use runner_core::parameters::FieldKind;
use runner_core::task::{Change, Dispatch, Idempotency, MAX_DEPTH, NewTask, Priority, Step, Task};
use runner_host::protocol::PluginCall;
use runner_host::{Modules, Provided, RunFiles};
use runner_store::{Store, StoreError};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::Shared;
use crate::given::Given;
use crate::pauses::Pauses;
use crate::slots::Slot;
use crate::state::RunState;

/// What a call needs to know of the run that makes it.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<RunState>,
    pub(crate) slot: Slot,
    pub(crate) task: i64,
    pub(crate) depth: u32,
    pub(crate) base_url: String,
    pub(crate) labels: Vec<String>,
    pub(crate) submitter: String,
    /// Where the outputs of the called task are put for the run to read.
    pub(crate) inputs: PathBuf,
    /// Files that the run may give to the called one.
    pub(crate) files: RunFiles,
}

impl Caller {
    /// Calls a plugin and answers how it ended, with its outputs.
    pub(crate) async fn call(self, call: PluginCall) -> Result<Value, String> {
        if self.depth >= MAX_DEPTH {
            return Err(format!(
                "plugins call one another more than {MAX_DEPTH} deep: {} is not called",
                call.plugin
            ));
        }
        let provided = self.find(&call.plugin)?;
        let mut parameters = provided.plugin.check_parameters(call.parameters)?;
        let mut given = Given::new(&self.shared.tools);
        self.give(&provided, &mut parameters, &mut given).await?;
        let dispatch = Dispatch {
            priority: Priority::Called,
            submitter: self.submitter.clone(),
            ..Dispatch::default()
        };
        let tools = &self.shared.tools;
        let task = NewTask {
            plugin: provided.plugin.identifier.clone(),
            digest: provided.module.status().sha256,
            parameters,
            uploads: Vec::new(),
            labels: self.labels.clone(),
            base_url: self.base_url.clone(),
            caller: Some((self.task, self.depth)),
            dispatch,
            // So that it can be tried again where nobody knows whether it was committed.
            idempotency: Some(unique()?),
        };
        let begun = given.begin(tools, task, self.shared.abort.clone()).await;
        let unfinished = begun.map_err(|error| error.to_string())?;
        let called = unfinished.task;
        self.slot.give_back();
        let ended = self.wait(called).await;
        self.slot.take_again().await;
        let task = ended.map_err(|error| error.to_string())?;
        unfinished.settle();
        let task = task.ok_or_else(|| format!("the called task {called} was deleted"))?;
        self.answer(&task).await
    }

    /// Stores files of the run that a data parameter names by a `file` URL, for a task that may run elsewhere.
    async fn give(
        &self,
        provided: &Provided,
        parameters: &mut Map<String, Value>,
        given: &mut Given,
    ) -> Result<(), String> {
        for field in provided.plugin.form.parameters.fields() {
            let is_fetched = matches!(field.kind.item(), FieldKind::Data(data) if data.fetch);
            let values = match parameters.get_mut(&field.key) {
                Some(Value::Array(values)) if is_fetched => values.as_mut_slice(),
                Some(value) if is_fetched => std::slice::from_mut(value),
                _ => continue,
            };
            for value in values {
                if let Some(path) = self.own_file(value) {
                    let files = self.files.clone();
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    let name = name.into_owned();
                    let open = move || files.open_any(&path.to_string_lossy());
                    let upload = given.store(&name, open).await;
                    *value = upload.map_err(|problem| format!("{}: {problem}", field.key))?;
                }
            }
        }
        Ok(())
    }

    /// The file of this run that a URL is.
    fn own_file(&self, value: &Value) -> Option<PathBuf> {
        let url = value.as_str().filter(|url| url.starts_with("file:"))?;
        let path = Url::parse(url).ok()?.to_file_path().ok()?;
        self.files.has(&path).then_some(path)
    }

    /// A plugin by identifier, by name (then the newest), or by its URL at this runner.
    pub(crate) fn find(&self, wanted: &str) -> Result<Provided, String> {
        find(&self.shared.tools.modules, &self.base_url, wanted)
    }

    /// Waits for the end of the called task, and shows its steps as steps of the caller.
    async fn wait(&self, called: i64) -> Result<Option<Task>, StoreError> {
        let tools = &self.shared.tools;
        let mut watch = tools.events.watch(called);
        while let Some(task) = awaited(&tools.store, called, &self.shared.abort).await? {
            for step in &task.steps {
                let step_id = format!("{called}-{}", step.step_id);
                self.state.show_step(Change::StepShown(Step {
                    step_id,
                    ..step.clone()
                }));
            }
            if task.state.is_finished() {
                return Ok(Some(task));
            }
            watch.changed().await;
        }
        Ok(None)
    }

    async fn answer(&self, task: &Task) -> Result<Value, String> {
        let mut outputs = Vec::with_capacity(task.outputs.len());
        for (number, file) in task.outputs.iter().enumerate() {
            let name = format!("called-{}-{number}-{}", task.id, plain_name(&file.name));
            let path = self.inputs.join(name);
            let size = self.bring(file, &path).await.map_err(|problem| {
                format!(
                    "the output {} of task {} cannot be read: {problem}",
                    file.name, task.id
                )
            })?;
            outputs.push(output(file, &path, size, &self.base_url));
        }
        Ok(outcome(task, outputs, &self.base_url))
    }

    /// Makes an output of a called task readable for the caller. Answers its bytes.
    async fn bring(&self, file: &File, path: &Path) -> Result<u64, String> {
        let tools = &self.shared.tools;
        if let Some(url) = &file.url {
            let made = tokio::fs::create_dir_all(&self.inputs).await;
            made.map_err(|error| error.to_string())?;
            let download = tools.fetcher.download(url, path).await;
            return match download {
                Ok(download) => Ok(download.size),
                Err(error) => Err(error.to_string()),
            };
        }
        let placed = tools.store.place(file, path).await;
        placed.map_err(|error| error.to_string())?;
        Ok(file.size)
    }
}

/// A plugin by identifier, by name (then the newest), or by its URL at this runner, which is known by this base URL.
pub(crate) fn find(modules: &Modules, base_url: &str, wanted: &str) -> Result<Provided, String> {
    let own = format!("{base_url}/plugins/");
    let name = match wanted
        .strip_prefix(&own)
        .or_else(|| wanted.strip_prefix("/plugins/"))
    {
        Some(rest) => rest
            .split('/')
            .next()
            .unwrap_or_default()
            .replace("%40", "@")
            .replace("%20", " "),
        None if wanted.contains("://") => {
            return Err(format!(
                "{wanted} is not a plugin of this runner ({own}…): call others over HTTP"
            ));
        }
        None => wanted.to_owned(),
    };
    let table = modules.table();
    // A version may be written as the plugin writes it.
    let is_whole = name.contains('@');
    let spelled = is_whole.then(|| name.replace('.', "-"));
    let spelled = spelled.and_then(|name| table.plugin(&name).cloned());
    let found = table.plugin(&name).or_else(|| table.newest(&name));
    found
        .cloned()
        .or(spelled)
        .ok_or_else(|| format!("there is no plugin {wanted:?} to call"))
}

/// An output of a task, as whoever has waited for the task is told of it. `path`: where it was put for him.
pub(crate) fn output(file: &File, path: &Path, size: u64, base_url: &str) -> Value {
    let url = file.url.clone();
    json!({
        "path": path,
        "name": file.name,
        "dataType": file.data_type,
        "contentType": file.content_type,
        "size": size,
        "url": url.unwrap_or_else(|| format!("{base_url}{}", file.path())),
    })
}

/// Reads a task for whoever waits for it, when SQL is there. `None`: it was deleted.
///
/// # Errors
/// It can never be read, or the worker stops.
pub(crate) async fn awaited(
    store: &Store,
    task: i64,
    abort: &CancellationToken,
) -> Result<Option<Task>, StoreError> {
    let mut pauses = Pauses::new();
    loop {
        match store.task(task).await {
            Err(error) if error.is_permanent() || matches!(error, StoreError::Closed) => {
                return Err(error);
            }
            Err(error) => {
                tracing::error!(task, "a called task cannot be read: {error}");
                if !pauses.pause(abort).await {
                    return Err(StoreError::Closed);
                }
            }
            read => return read,
        }
    }
}

/// A task that has ended, as whoever has waited for it is told.
pub(crate) fn outcome(task: &Task, outputs: Vec<Value>, base_url: &str) -> Value {
    json!({
        "task": task.id,
        "href": format!("{base_url}/tasks/{}/", task.id),
        "status": task.state.status(),
        "log": task.log,
        "outputs": outputs,
    })
}

/// What no other call has.
pub(crate) fn unique() -> Result<Idempotency, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("there is no randomness: {error}"))?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Idempotency {
        fingerprint: key.clone(),
        key,
    })
}
