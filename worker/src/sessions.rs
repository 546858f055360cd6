//! Plugins that are run for sessions: each as a task of its own, whose submitter is who has the session.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use runner_core::file::{File, plain_name};
use runner_core::parameters::FieldKind;
use runner_core::task::{Dispatch, NewTask, Task};
use runner_host::Provided;
use runner_session::{BringError, News, SessionFiles, SessionTasks, TaskCall, TaskOutput};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::Tools;
use crate::calls::{awaited, find, outcome, output, unique};
use crate::given::Given;

/// The folder of outputs of tasks, in that of a session.
const OUTPUTS: &str = "outputs";
/// How long modules that are being described are waited for.
const LOADING: Duration = Duration::from_secs(4);
/// The key of a parameter that is a file of the session.
const FILE: &str = "$file";
/// Bytes of the parameters of a task.
const MAX_PARAMETERS: usize = 1_000_000;

/// Runs plugins for sessions of this process; workers do the work.
#[derive(Clone)]
pub struct PluginsOfSessions {
    /// What it works with.
    pub tools: Tools,
    /// The URL by which clients know the runner, for sessions whose client has not come back since a restart.
    pub base_url: String,
    /// Where outputs that stand elsewhere are downloaded to.
    pub scratch: PathBuf,
}

impl fmt::Debug for PluginsOfSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginsOfSessions")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl SessionTasks for PluginsOfSessions {
    fn run(
        &self,
        call: TaskCall,
        news: mpsc::Sender<News>,
    ) -> BoxFuture<'static, Result<Value, String>> {
        let own = self.clone();
        Box::pin(async move { own.perform(call, news).await })
    }

    fn plugins(&self) -> BoxFuture<'static, Value> {
        let own = self.clone();
        Box::pin(async move {
            own.loaded().await;
            let table = own.tools.modules.table();
            let shown = table.plugins().iter().map(|provided| {
                let plugin = &provided.plugin;
                json!({
                    "identifier": plugin.identifier,
                    "name": plugin.identity.name(),
                    "title": plugin.title,
                    "description": plugin.description,
                    "tags": plugin.tags,
                    "parameters": plugin.form.parameters.fields().iter().map(|field| &field.key).collect::<Vec<_>>(),
                })
            });
            shown.collect()
        })
    }

    fn bring(
        &self,
        output: TaskOutput,
        files: SessionFiles,
        path: String,
    ) -> BoxFuture<'static, Result<u64, BringError>> {
        let own = self.clone();
        Box::pin(async move {
            let file = own.output(output).await?;
            own.copy(&file, &files, &path).await
        })
    }
}

impl PluginsOfSessions {
    /// Waits a little for modules that are still being described.
    async fn loaded(&self) {
        let modules = &self.tools.modules;
        if !modules.is_ready() {
            let _ = tokio::time::timeout(LOADING, modules.ready()).await;
        }
    }

    async fn perform(&self, mut call: TaskCall, news: mpsc::Sender<News>) -> Result<Value, String> {
        if call.base_url.is_empty() {
            call.base_url.clone_from(&self.base_url);
        }
        self.loaded().await;
        let tools = &self.tools;
        let provided = find(&tools.modules, &call.base_url, &call.plugin)?;
        let mut given = Given::new(tools);
        let parameters = self.parameters(&call, &provided, &mut given).await?;
        let dispatch = Dispatch {
            priority: provided.module.run_rules().priority,
            submitter: call.submitter.clone(),
            ..Dispatch::default()
        };
        let task = NewTask {
            plugin: provided.plugin.identifier.clone(),
            digest: provided.module.status().sha256,
            parameters,
            uploads: Vec::new(),
            labels: vec![format!("session {}", call.session)],
            base_url: call.base_url.clone(),
            caller: None,
            dispatch,
            // So that it can be tried again where nobody knows whether it was committed.
            idempotency: Some(unique()?),
        };
        // Whoever waits for a session that ends is dropped.
        let abort = CancellationToken::new();
        let begun = given.begin(tools, task, abort.clone()).await;
        let unfinished = begun.map_err(|error| error.to_string())?;
        let task = unfinished.task;
        let _ = news.send(News::Task(task)).await;
        let ended = self.wait(task, &news, &abort).await?;
        unfinished.settle();
        self.answer(&ended, &call).await
    }

    /// The parameters, checked. Files of the session become files in the store, or URLs, as the plugin wants them.
    async fn parameters(
        &self,
        call: &TaskCall,
        provided: &Provided,
        given: &mut Given,
    ) -> Result<Map<String, Value>, String> {
        let form = &provided.plugin.form.parameters;
        let (mut plain, mut uploaded) = (Map::new(), Map::new());
        for (name, value) in &call.parameters {
            let mut fields = form.fields().iter();
            let field = fields.find(|field| field.key == *name || field.id == *name);
            let Some(field) = field else {
                plain.insert(name.clone(), value.clone());
                continue;
            };
            match field.kind.item() {
                FieldKind::Upload(_) => {
                    let value = self.store(call, value, given).await;
                    let value = value.map_err(|problem| format!("{name}: {problem}"))?;
                    uploaded.insert(field.key.clone(), value);
                }
                FieldKind::Data(_) | FieldKind::Url => {
                    plain.insert(field.key.clone(), linked(call, value));
                }
                _ => {
                    plain.insert(field.key.clone(), value.clone());
                }
            }
        }
        let mut checked = form.check_json(plain);
        for (key, value) in uploaded {
            checked.errors.remove(&key);
            checked.values.insert(key, value);
        }
        let values = provided.plugin.accepted(checked)?;
        let size = serde_json::to_vec(&values).map_or(0, |text| text.len());
        match size > MAX_PARAMETERS {
            true => Err(format!(
                "the parameters have {size} bytes; the limit is {MAX_PARAMETERS}: put what is large into files"
            )),
            false => Ok(values),
        }
    }

    /// Puts a file of the session, or several, into the store.
    async fn store(
        &self,
        call: &TaskCall,
        value: &Value,
        given: &mut Given,
    ) -> Result<Value, String> {
        if let Value::Array(values) = value {
            let mut all = Vec::with_capacity(values.len());
            for value in values {
                all.push(self.store_one(call, value, given).await?);
            }
            return Ok(Value::Array(all));
        }
        self.store_one(call, value, given).await
    }

    async fn store_one(
        &self,
        call: &TaskCall,
        value: &Value,
        given: &mut Given,
    ) -> Result<Value, String> {
        let Some(path) = value[FILE].as_str() else {
            return Err("expected a file: a pathlib.Path, an open file, or bytes".to_owned());
        };
        let (files, opened) = (call.files.clone(), path.to_owned());
        let name = path.rsplit('/').next().unwrap_or(path);
        let stored = given.store(name, move || files.open(&opened)).await;
        stored.map_err(|problem| format!("the file {path:?} cannot be read: {problem}"))
    }

    /// Waits for the end of a task, and tells what is heard of it meanwhile.
    async fn wait(
        &self,
        id: i64,
        news: &mpsc::Sender<News>,
        abort: &CancellationToken,
    ) -> Result<Task, String> {
        let mut watch = self.tools.events.watch(id);
        let mut told = Told::default();
        loop {
            let task = awaited(&self.tools.store, id, abort).await;
            let task = task.map_err(|error| format!("task {id} cannot be read: {error}"))?;
            let task = task.ok_or_else(|| format!("the task {id} was deleted"))?;
            for one in told.news_of(&task) {
                // Whoever does not hear it waits no more, and is gone soon.
                let _ = news.send(one).await;
            }
            if task.state.is_finished() {
                return Ok(task);
            }
            watch.changed().await;
        }
    }

    async fn answer(&self, task: &Task, call: &TaskCall) -> Result<Value, String> {
        let mut outputs = Vec::with_capacity(task.outputs.len());
        let mut names: Vec<String> = Vec::new();
        for file in &task.outputs {
            let mut name = plain_name(&file.name);
            if names.contains(&name) {
                name = format!("{}-{name}", names.len());
            }
            let path = format!("{OUTPUTS}/{}/{name}", task.id);
            let size = self
                .copy(file, &call.files, &path)
                .await
                .map_err(|problem| {
                    format!(
                        "the output {} of task {} is not in the session: {problem}",
                        file.name, task.id
                    )
                })?;
            names.push(name);
            outputs.push(output(file, Path::new(&path), size, &call.base_url));
        }
        let mut told = outcome(task, outputs, &call.base_url);
        told["plugin"] = task.plugin.clone().into();
        Ok(told)
    }

    /// The output that is meant.
    async fn output(&self, wanted: TaskOutput) -> Result<File, BringError> {
        let failed = |error: runner_store::StoreError| BringError::Unreadable(error.to_string());
        let store = &self.tools.store;
        match wanted {
            TaskOutput::Url(url) => {
                let (id, tag) = of_url(&url).ok_or_else(|| {
                    BringError::Unknown(format!(
                        "{url:?} is not the URL of an output of this runner; expected such as /files/1/?file-id=…"
                    ))
                })?;
                let file = store.file(id).await.map_err(failed)?;
                file.filter(|file| file.tag == tag)
                    .ok_or_else(|| BringError::Unknown(format!("there is no output {url:?}")))
            }
            TaskOutput::Named(id, name) => {
                let task = store.task(id).await.map_err(failed)?;
                let task =
                    task.ok_or_else(|| BringError::Unknown(format!("there is no task {id}")))?;
                let known: Vec<_> = task.outputs.iter().map(|file| file.name.clone()).collect();
                let found = task.outputs.into_iter().find(|file| file.name == name);
                found.ok_or_else(|| {
                    let known = match known.is_empty() {
                        true => "none".to_owned(),
                        false => known.join(", "),
                    };
                    BringError::Unknown(format!(
                        "the task {id} has no output {name:?}; it has: {known}"
                    ))
                })
            }
        }
    }

    /// Puts the content of an output into a session. Answers its bytes.
    async fn copy(&self, file: &File, files: &SessionFiles, path: &str) -> Result<u64, BringError> {
        let unreadable = BringError::Unreadable;
        let (own, size) = (files.clone(), file.size);
        let mut draft = blocking(move || own.draft(size)).await?;
        if let Some(url) = &file.url {
            let made = tokio::fs::create_dir_all(&self.scratch).await;
            made.map_err(|error| unreadable(error.to_string()))?;
            let scratch = Scratch(self.scratch.join(unique().map_err(unreadable)?.key));
            let download = self.tools.fetcher.download(url, &scratch.0).await;
            download.map_err(|error| unreadable(error.to_string()))?;
            draft = blocking(move || {
                let mut content = std::fs::File::open(&scratch.0)?;
                let mut buffer = vec![0; 1 << 18];
                loop {
                    match std::io::Read::read(&mut content, &mut buffer)? {
                        0 => return Ok(draft),
                        read => draft.write(&buffer[..read])?,
                    }
                }
            })
            .await?;
        } else {
            let content = self.tools.store.content(file, 0..file.size).await;
            let mut content = content.map_err(|error| unreadable(error.to_string()))?;
            while let Some(chunk) = content.next().await {
                let chunk = chunk.map_err(|error| unreadable(error.to_string()))?;
                draft = blocking(move || {
                    draft.write(&chunk)?;
                    Ok(draft)
                })
                .await?;
            }
        }
        let (size, path) = (draft.size(), path.to_owned());
        blocking(move || draft.keep(&path)).await?;
        Ok(size)
    }
}

/// A download, removed when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may not be there yet.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Does what waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)?
}

/// A file of the session, or several, as URLs under which workers have them.
fn linked(call: &TaskCall, value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(|value| linked(call, value)).collect(),
        value => match value[FILE].as_str() {
            Some(path) => format!("{}{}", call.base_url, call.links.path(path)).into(),
            None => value.clone(),
        },
    }
}

/// Number and tag of an output in its URL, whatever the host is called.
fn of_url(url: &str) -> Option<(i64, String)> {
    let base = Url::parse("http://runner").ok()?;
    let url = base.join(url).ok()?;
    let path = url.path().trim_end_matches('/');
    let (_, id) = path.rsplit_once("/files/")?;
    let tag = url.query_pairs().find(|(key, _)| key == "file-id")?.1;
    Some((id.parse().ok()?, tag.into_owned()))
}

/// What was told of a task.
#[derive(Debug, Default)]
struct Told {
    log: usize,
    progress: Option<Value>,
    steps: Vec<String>,
}

impl Told {
    /// What there is to tell.
    fn news_of(&mut self, task: &Task) -> Vec<News> {
        let mut news = Vec::new();
        if let Some(more) = task.log.get(self.log..).filter(|more| !more.is_empty()) {
            news.push(News::Log(more.to_owned()));
            self.log = task.log.len();
        }
        let progress = task.progress.as_ref().map(|progress| json!(progress));
        if let Some(progress) = progress.filter(|found| self.progress.as_ref() != Some(found)) {
            news.push(News::Progress(progress.clone()));
            self.progress = Some(progress);
        }
        for step in task.steps.iter().filter(|step| !step.cleared) {
            if !self.steps.contains(&step.step_id) {
                self.steps.push(step.step_id.clone());
                news.push(News::Step(step.ui_href.clone()));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_known_by_their_urls() {
        for (url, known) in [
            ("/files/3/?file-id=ab", Some((3, "ab"))),
            (
                "http://x.example:5/below/files/3/?file-id=ab",
                Some((3, "ab")),
            ),
            ("/files/3?file-id=ab", Some((3, "ab"))),
            ("/files/3/", None),
            ("/files/x/?file-id=ab", None),
            ("/tasks/3/?file-id=ab", None),
            ("http://[", None),
        ] {
            let known = known.map(|(id, tag): (i64, &str)| (id, tag.to_owned()));
            assert_eq!(of_url(url), known, "{url}");
        }
    }
}
