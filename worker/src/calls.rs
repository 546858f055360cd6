//! A run calls another plugin and waits for it. The call is a task of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_core::file::{File, plain_name};
use runner_core::identity::url_segment;
use runner_core::task::{Change, Dispatch, Idempotency, MAX_DEPTH, NewTask, Priority, Step, Task};
use runner_host::Provided;
use runner_host::protocol::CallRequest;
use runner_queue::Offer;
use runner_store::StoreError;
use serde_json::{Value, json};

use crate::Shared;
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
}

impl Caller {
    /// Calls a plugin and answers how it ended, with its outputs.
    pub(crate) async fn call(self, call: CallRequest) -> Result<Value, String> {
        if self.depth >= MAX_DEPTH {
            return Err(format!(
                "plugins call one another more than {MAX_DEPTH} deep: {} is not called",
                call.plugin
            ));
        }
        let provided = self.find(&call.plugin)?;
        let parameters = provided.plugin.check_parameters(call.parameters)?;
        let dispatch = Dispatch {
            priority: Priority::Called,
            submitter: self.submitter.clone(),
            ..Dispatch::default()
        };
        let tools = &self.shared.tools;
        let called = tools
            .store
            .insert_task(NewTask {
                plugin: provided.plugin.identifier.clone(),
                digest: provided.module.status().sha256,
                parameters,
                uploads: Vec::new(),
                labels: self.labels.clone(),
                base_url: self.base_url.clone(),
                caller: Some((self.task, self.depth)),
                dispatch: dispatch.clone(),
                // So that it can be tried again where nobody knows whether it was committed.
                idempotency: Some(unique()?),
            })
            .await
            .map_err(|error| error.to_string())?
            .id();
        let unfinished = Unfinished {
            shared: Arc::clone(&self.shared),
            task: Some(called),
        };
        tools.queue.push(Offer::first(called, &dispatch));
        self.slot.give_back();
        let ended = self.wait(called).await;
        self.slot.take_again().await;
        let task = ended.map_err(|error| error.to_string())?;
        unfinished.settle();
        let task = task.ok_or_else(|| format!("the called task {called} was deleted"))?;
        self.answer(&task).await
    }

    /// A plugin by identifier, by name (then the newest), or by its URL at this runner.
    fn find(&self, wanted: &str) -> Result<Provided, String> {
        let own = format!("{}/plugins/", self.base_url);
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
        let table = self.shared.tools.modules.table();
        let found = table.plugin(&name).or_else(|| table.newest(&name));
        found
            .cloned()
            .ok_or_else(|| format!("there is no plugin {wanted:?} to call"))
    }

    /// Waits for the end of the called task, and shows its steps as steps of the caller.
    async fn wait(&self, called: i64) -> Result<Option<Task>, StoreError> {
        let tools = &self.shared.tools;
        let mut watch = tools.events.watch(called);
        let mut pauses = Pauses::new();
        loop {
            let task = match tools.store.task(called).await {
                Ok(Some(task)) => task,
                Ok(None) => return Ok(None),
                Err(error) if error.is_permanent() || matches!(error, StoreError::Closed) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(task = called, "a called task cannot be read: {error}");
                    if !pauses.pause(&self.shared.abort).await {
                        return Err(StoreError::Closed);
                    }
                    continue;
                }
            };
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
            let url = match &file.url {
                Some(url) => url.clone(),
                None => {
                    let tag = url_segment(&file.tag);
                    format!("{}/files/{}/?file-id={tag}", self.base_url, file.id)
                }
            };
            outputs.push(json!({
                "path": path,
                "name": file.name,
                "dataType": file.data_type,
                "contentType": file.content_type,
                "size": size,
                "url": url,
            }));
        }
        Ok(json!({
            "task": task.id,
            "href": format!("{}/tasks/{}/", self.base_url, task.id),
            "status": task.state.status(),
            "log": task.log,
            "outputs": outputs,
        }))
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

/// What no other call has.
fn unique() -> Result<Idempotency, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("there is no randomness: {error}"))?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Idempotency {
        fingerprint: key.clone(),
        key,
    })
}

/// A called task whose caller waits. When the caller's run ends before it, it is cancelled.
struct Unfinished {
    shared: Arc<Shared>,
    task: Option<i64>,
}

impl Unfinished {
    fn settle(mut self) {
        self.task = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(task) = self.task else { return };
        // When the worker stops, the task goes on at the next start, as its caller does.
        if self.shared.abort.is_cancelled() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            match shared.tools.store.cancel_task(task).await {
                Ok(Some(ended)) => shared.tools.queue.tasks_ended(&ended, &shared.tools.events),
                Ok(None) => {}
                Err(error) => tracing::error!(task, "a called task cannot be cancelled: {error}"),
            }
        });
    }
}
