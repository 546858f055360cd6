//! What a run changes, between two writes to SQL.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use runner_core::plugin::Plugin;
use runner_core::task::{Change, LogWriter, MAX_OUTPUTS, Task, TaskEvent, TaskState};
use runner_fetch::Fetcher;
use runner_host::protocol::{
    CallRequest, NodeRequest, OutputContent, OutputNote, RunEvent, StepNote,
};
use runner_host::{NodeHosts, Opened, OwnFiles, RunFiles, RunHandler};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::calls::Caller;
use crate::pipelines::PipelineRun;
use crate::run::short;

/// A run that lasts this long is written as running even if it tells nothing.
const QUIET: Duration = Duration::from_secs(1);

/// Bytes of the steps, links, and names and texts of outputs of one run: they are kept in memory and written
/// together.
const MAX_NAMED: usize = 4 * 1024 * 1024;

/// What an event adds to what is kept of a run.
fn size(event: &RunEvent) -> usize {
    match event {
        RunEvent::Log(_) | RunEvent::Progress(_) | RunEvent::Pipeline(_) | RunEvent::Items(_) => 0,
        RunEvent::Link(link) => link.kind.len() + link.href.len(),
        RunEvent::Step(note) => {
            let values = serde_json::to_string(&note.values).map_or(0, |text| text.len());
            note.step.len() + note.step_id.as_ref().map_or(0, String::len) + values
        }
        RunEvent::Output(note) => {
            let texts = [&note.name, &note.data_type, &note.content_type];
            let (OutputContent::Path(content)
            | OutputContent::Text(content)
            | OutputContent::Url(content)) = &note.content;
            content.len()
                + texts
                    .iter()
                    .filter_map(|text| text.as_ref())
                    .map(String::len)
                    .sum::<usize>()
        }
    }
}

/// The task as the run has made it so far. Many changes become one write.
pub(crate) struct RunState {
    inner: Mutex<Inner>,
    /// `None` where it is not loaded: then there is no run.
    plugin: Mutex<Option<Arc<Plugin>>>,
    began: Instant,
    /// Cancelled when the plugin breaks a rule and need not go on.
    broken: CancellationToken,
}

/// Where a run is, for what its end does to its task.
pub(crate) struct Standing {
    pub(crate) run: i64,
    pub(crate) state: TaskState,
    pub(crate) attempts: i64,
    pub(crate) failures: i64,
    pub(crate) retries: Option<u32>,
}

struct Inner {
    task: Task,
    log: LogWriter,
    outputs: Vec<OutputNote>,
    /// What subscribers are told with the next write.
    events: Vec<TaskEvent>,
    is_changed: bool,
    /// Bytes of the steps, links and outputs that the run named.
    named: usize,
    problem: Option<String>,
}

/// What a write takes along.
pub(crate) struct Flush {
    pub(crate) task: Task,
    pub(crate) log: String,
    pub(crate) events: Vec<TaskEvent>,
}

impl RunState {
    pub(crate) fn new(task: Task, plugin: Option<Arc<Plugin>>, broken: CancellationToken) -> Self {
        let log = LogWriter::new(task.log_length);
        let inner = Inner {
            task,
            log,
            outputs: Vec::new(),
            events: Vec::new(),
            is_changed: false,
            named: 0,
            problem: None,
        };
        Self {
            inner: Mutex::new(inner),
            plugin: Mutex::new(plugin),
            began: Instant::now(),
            broken,
        }
    }

    /// This version of the plugin does the run. Where the run before was done by another one, the log says so.
    pub(crate) fn is_run_by(&self, plugin: &Arc<Plugin>, digest: &str) {
        *self.plugin.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(plugin));
        let mut inner = self.inner();
        let since = match inner.task.ran_by.is_empty() {
            true => "this task was made",
            false => "its last run",
        };
        if let Some(before) = inner.task.is_run_by(digest) {
            inner.log.entry(&format!(
                "The module of the plugin has changed since {since}: its digest was {}, and is {} now.",
                short(&before),
                short(digest)
            ));
            inner.is_changed = true;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the run is.
    pub(crate) fn standing(&self) -> Standing {
        let task = &self.inner().task;
        Standing {
            run: task.run,
            state: task.state,
            attempts: task.attempts,
            failures: task.failures,
            retries: task.dispatch.retries,
        }
    }

    pub(crate) fn log(&self, text: &str) {
        let mut inner = self.inner();
        inner.log.entry(text);
        inner.is_changed = true;
    }

    /// What is to be written now, if anything: news, or that a quiet run is still at work.
    pub(crate) fn flush(&self) -> Option<Flush> {
        let mut inner = self.inner();
        let is_long = self.began.elapsed() >= QUIET && inner.task.state == TaskState::Queued;
        if !inner.is_changed && !is_long {
            return None;
        }
        inner.is_changed = false;
        if inner.task.state == TaskState::Queued {
            // From queued this is always allowed.
            let _ = inner.task.apply(Change::Started);
        }
        Some(Flush {
            task: inner.task.clone(),
            log: inner.log.take(),
            events: std::mem::take(&mut inner.events),
        })
    }

    /// The beginning of the run, to be written before anything else.
    pub(crate) fn begin(&self) -> Flush {
        let mut inner = self.inner();
        // From queued this is always allowed.
        let _ = inner.task.apply(Change::Started);
        inner.is_changed = false;
        Flush {
            task: inner.task.clone(),
            log: inner.log.take(),
            events: std::mem::take(&mut inner.events),
        }
    }

    /// Applies the last change of the run. Answers what to write.
    pub(crate) fn finish(&self, change: Change) -> Flush {
        let mut inner = self.inner();
        match inner.task.apply(change) {
            Ok(events) => inner.events.extend(events),
            Err(refused) => {
                tracing::error!(
                    task = inner.task.id,
                    "the end of a run was refused: {refused}"
                );
            }
        }
        Flush {
            task: inner.task.clone(),
            log: inner.log.finish(),
            events: std::mem::take(&mut inner.events),
        }
    }

    /// Shows a step of a task that the run called.
    pub(crate) fn show_step(&self, change: Change) {
        let mut inner = self.inner();
        if let Ok(events) = inner.task.apply(change)
            && !events.is_empty()
        {
            inner.events.extend(events);
            inner.is_changed = true;
        }
    }

    /// The outputs that the run named.
    pub(crate) fn take_outputs(&self) -> Vec<OutputNote> {
        std::mem::take(&mut self.inner().outputs)
    }

    /// What the plugin did that it must not do.
    pub(crate) fn problem(&self) -> Option<String> {
        self.inner().problem.clone()
    }

    pub(crate) fn event(&self, event: RunEvent) {
        let mut inner = self.inner();
        if inner.problem.is_some() {
            return;
        }
        inner.named += size(&event);
        if inner.named > MAX_NAMED {
            inner.problem = Some(format!(
                "its steps, links and outputs have more than {MAX_NAMED} bytes"
            ));
            self.broken.cancel();
            return;
        }
        let is_output = matches!(event, RunEvent::Output(_));
        let outcome = match event {
            RunEvent::Log(text) => {
                inner.log.entry(&text);
                Ok(())
            }
            // They are no part of the task.
            RunEvent::Pipeline(_) | RunEvent::Items(_) => return,
            RunEvent::Progress(progress) => inner.apply(Change::Progressed(progress)),
            RunEvent::Link(link) => inner.apply(Change::LinkAdded(link)),
            RunEvent::Step(note) => self.add_step(&mut inner, note),
            RunEvent::Output(_) if inner.outputs.len() >= MAX_OUTPUTS => {
                Err(format!("more than {MAX_OUTPUTS} outputs"))
            }
            RunEvent::Output(note) => {
                inner.outputs.push(note);
                Ok(())
            }
        };
        // An output is written with the end of the run.
        inner.is_changed |= !is_output;
        if let Err(problem) = outcome {
            inner.problem = Some(problem);
            self.broken.cancel();
        }
    }

    fn add_step(&self, inner: &mut Inner, note: StepNote) -> Result<(), String> {
        let plugin = self.plugin.lock().unwrap_or_else(PoisonError::into_inner);
        if plugin
            .as_ref()
            .is_none_or(|plugin| plugin.step(&note.step).is_none())
        {
            return Err(format!(
                "the plugin asked for the step {:?}, which it does not describe",
                note.step
            ));
        }
        let step_id = note.step_id.unwrap_or_else(|| note.step.clone());
        inner.apply(Change::StepAdded {
            step: note.step,
            step_id,
            values: note.values,
        })
    }
}

impl Inner {
    fn apply(&mut self, change: Change) -> Result<(), String> {
        self.task
            .apply(change)
            .map(drop)
            .map_err(|refused| refused.to_string())
    }
}

/// Hears a run, and downloads what it asks for.
pub(crate) struct Handler {
    pub(crate) state: Arc<RunState>,
    pub(crate) fetcher: Fetcher,
    /// Where downloads go.
    pub(crate) inputs: std::path::PathBuf,
    pub(crate) count: std::sync::atomic::AtomicUsize,
    pub(crate) caller: Caller,
    /// The hosts of its nodes, if it is a pipeline.
    pub(crate) nodes: Arc<NodeHosts>,
    /// The files of the run.
    pub(crate) files: RunFiles,
    /// What is seen of it, if it is a pipeline.
    pub(crate) pipeline: Option<Arc<PipelineRun>>,
}

impl RunHandler for Handler {
    fn event(&self, event: RunEvent) {
        match (event, &self.pipeline) {
            (RunEvent::Pipeline(note), Some(pipeline)) => pipeline.tell(note),
            (RunEvent::Items(note), Some(pipeline)) => pipeline.show(&note),
            (event, _) => self.state.event(event),
        }
    }

    fn call(&self, call: CallRequest) -> BoxFuture<'static, Result<Value, String>> {
        match (call, &self.pipeline) {
            (CallRequest::Plugin(call), _) => Box::pin(self.caller.clone().call(call)),
            (CallRequest::Wanted(known), Some(pipeline)) => Arc::clone(pipeline).wanted(known),
            (CallRequest::Wanted(_), None) => {
                Box::pin(async { Err("it is no pipeline".to_owned()) })
            }
        }
    }

    fn node(&self, request: NodeRequest) -> BoxFuture<'static, Result<Opened, String>> {
        let nodes = Arc::clone(&self.nodes);
        if request.host.is_some() {
            let own = OwnFiles::Hosted(self.files.clone());
            return Box::pin(async move {
                let given = request.give.len();
                let mut opened = nodes.carry(request, own).await?;
                // Plugins that the pipeline calls may be given them.
                for file in opened.answer.carried.iter_mut().skip(given) {
                    file.url = Url::from_file_path(&file.path).ok().map(String::from);
                }
                Ok(opened)
            });
        }
        if request.plugin.is_empty() {
            let lost = request.lost.unwrap_or_default();
            return Box::pin(async move { Ok(nodes.lost(lost).await) });
        }
        let found = self.caller.find(&request.plugin);
        Box::pin(async move { nodes.open(&found?, request).await })
    }

    fn fetch(&self, url: String) -> BoxFuture<'static, Result<Value, String>> {
        let number = self
            .count
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = self.inputs.clone();
        let fetcher = self.fetcher.clone();
        Box::pin(async move {
            tokio::fs::create_dir_all(&folder)
                .await
                .map_err(|error| error.to_string())?;
            let path = folder.join(format!("fetched-{number}"));
            let download = fetcher
                .download(&url, &path)
                .await
                .map_err(|error| error.to_string())?;
            Ok(json!({
                "path": path,
                "name": download.name,
                "contentType": download.content_type,
                "dataType": download.data_type.unwrap_or_else(|| "*".to_owned()),
                "size": download.size,
                "url": url,
            }))
        })
    }
}
