//! One run from its job to its last write.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures::future::BoxFuture;
use runner_core::plugin::Plugin;
use runner_core::task::{Change, Task, TaskEvent};
use runner_host::protocol::{RunAnswer, RunRequest};
use runner_host::{Provided, RunEnd, RunFolder};
use runner_queue::Job;
use runner_store::{NewFile, RunWrite, StoreError};
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::state::{Flush, Handler, RunState};
use crate::{Shared, inputs, outputs};

/// How often a run in progress is written, at most.
const FLUSH: Duration = Duration::from_millis(100);
/// How long to wait before a write that failed is tried again: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How a run went, for its last write.
enum Outcome {
    Succeeded {
        answer: RunAnswer,
        outputs: Vec<NewFile>,
    },
    Failed(String),
    Cancelled,
    /// Another run has begun, or the worker stops: nothing is to be written.
    Overtaken,
}

/// Does the job, unless it is out of date.
pub(crate) async fn perform(shared: Arc<Shared>, job: Job) {
    let Some(task) = load(&shared, job).await else {
        return;
    };
    let cancel = shared.begin(job.task);
    let (state, outcome) = match find(&shared, &task).await {
        Ok(provided) => {
            let broken = cancel.child_token();
            let state = Arc::new(RunState::new(
                task.clone(),
                Some(Arc::clone(&provided.plugin)),
                broken.clone(),
            ));
            let outcome = execute(&shared, &task, &provided, &state, &broken).await;
            (state, outcome)
        }
        Err(problem) => {
            let state = RunState::new(task, None, cancel.child_token());
            (Arc::new(state), Outcome::Failed(problem))
        }
    };
    finish(&shared, &state, outcome).await;
    shared.end(job.task);
}

/// After a panic nothing of the run is left but its number.
pub(crate) async fn fail_after_panic(shared: &Shared, job: Job) {
    let Some(task) = load(shared, job).await else {
        return;
    };
    let state = RunState::new(task, None, CancellationToken::new());
    let problem = "the runner itself failed during this run; its log has the details".to_owned();
    finish(shared, &state, Outcome::Failed(problem)).await;
}

async fn load(shared: &Shared, job: Job) -> Option<Task> {
    let mut pause = RETRY.0;
    loop {
        match shared.tools.store.task_for_run(job.task, job.run).await {
            Ok(task) => return task,
            Err(error) => tracing::error!(task = job.task, "the task cannot be read: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
            () = shared.abort.cancelled() => return None,
        }
    }
}

async fn find(shared: &Shared, task: &Task) -> Result<Provided, String> {
    let modules = &shared.tools.modules;
    if modules.table().plugin(&task.plugin).is_none() && !modules.is_ready() {
        modules.ready().await;
    }
    let table = modules.table();
    let provided = table.plugin(&task.plugin).cloned();
    provided.ok_or_else(|| format!("the plugin {} is not loaded", task.plugin))
}

async fn execute(
    shared: &Shared,
    task: &Task,
    provided: &Provided,
    state: &Arc<RunState>,
    broken: &CancellationToken,
) -> Outcome {
    let plugin = &provided.plugin;
    let (form, given) = match &task.step {
        None => (&plugin.form, &task.parameters),
        Some(step) => match plugin.step(&step.step) {
            Some(form) => (form, &step.parameters),
            None => {
                return Outcome::Failed(format!(
                    "the step {:?} is not part of the plugin any more",
                    step.step
                ));
            }
        },
    };
    let lease = tokio::select! {
        lease = provided.module.lease() => lease,
        () = broken.cancelled() => return Outcome::Cancelled,
        () = shared.abort.cancelled() => return Outcome::Overtaken,
    };
    let lease = match lease {
        Ok(lease) => lease,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let folder = match lease.folder(task.id, task.run) {
        Ok(folder) => Arc::new(folder),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let tools = &shared.tools;
    let work = async {
        let gathered = inputs::gather(
            &tools.fetcher,
            tools.store.files(),
            &folder,
            &form.parameters,
            given,
        )
        .await
        .map_err(|error| RunEnd::Failed(failure(error)))?;
        let handler = Handler {
            state: Arc::clone(state),
            fetcher: tools.fetcher.clone(),
            inputs: folder.inputs_path().to_owned(),
            count: AtomicUsize::new(0),
        };
        let request = RunRequest {
            task: task.id,
            run: task.run,
            plugin: task.plugin.clone(),
            step: task.step.as_ref().map(|step| step.step.clone()),
            step_id: task.step.as_ref().map(|step| step.step_id.clone()),
            parameters: gathered.parameters,
            inputs: gathered.inputs,
            data: task.data.clone(),
            directory: folder.work().display().to_string(),
        };
        Ok(lease
            .run(&request, shared.config.run_timeout, &handler, broken)
            .await)
    };
    let end = match with_writes(shared, state, work).await {
        Some(end) => end.unwrap_or_else(|end| end),
        None => return Outcome::Overtaken,
    };
    conclude(shared, plugin, state, folder, end).await
}

/// Drives the work to its end, and writes what is new every now and then. A write that was begun is
/// brought to its end, since it holds a part of the log. `None`: the run was overtaken.
async fn with_writes<T>(
    shared: &Shared,
    state: &RunState,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FLUSH, FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writing: Option<BoxFuture<'_, bool>> = None;
    let mut work = std::pin::pin!(work);
    let end = loop {
        let is_writing = writing.is_some();
        let write_ends = async {
            match &mut writing {
                Some(writing) => writing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = &mut work => break end,
            is_current = write_ends => {
                writing = None;
                if !is_current {
                    return None;
                }
            }
            _ = ticks.tick(), if !is_writing => if let Some(flush) = state.flush() {
                writing = Some(Box::pin(write_news(shared, flush)));
            },
            () = shared.abort.cancelled() => return None,
        }
    };
    match writing {
        Some(writing) => writing.await.then_some(end),
        None => Some(end),
    }
}

async fn write_news(shared: &Shared, flush: Flush) -> bool {
    let task = flush.task.id;
    let is_current = write(shared, flush, Vec::new(), Vec::new()).await;
    shared.tools.events.changed(task);
    is_current
}

fn failure(message: String) -> runner_host::protocol::RpcError {
    let code = runner_host::protocol::FAILED;
    runner_host::protocol::RpcError {
        code,
        message,
        data: Value::Null,
    }
}

async fn conclude(
    shared: &Shared,
    plugin: &Plugin,
    state: &RunState,
    folder: Arc<RunFolder>,
    end: RunEnd,
) -> Outcome {
    if let Some(problem) = state.problem() {
        return Outcome::Failed(format!("the plugin broke a rule: {problem}"));
    }
    match end {
        RunEnd::Finished(answer) => {
            let files = shared.tools.store.files().clone();
            match outputs::take(files, folder, plugin, state.take_outputs()).await {
                Ok(outputs) => Outcome::Succeeded { answer, outputs },
                Err(problem) => Outcome::Failed(problem),
            }
        }
        RunEnd::Failed(error) => Outcome::Failed(error.text()),
        RunEnd::Cancelled => Outcome::Cancelled,
        RunEnd::TimedOut(limit) => Outcome::Failed(format!(
            "the run took longer than {} s and was ended (the limit is set by RUN_TIMEOUT, or by timeout in \
             the module's plugin.toml)",
            limit.as_secs_f64()
        )),
        RunEnd::Lost(error) => Outcome::Failed(error.to_string()),
    }
}

/// The last write of the run. The folder of the run is gone by now, so that a full disk has room again.
async fn finish(shared: &Shared, state: &RunState, outcome: Outcome) {
    let (change, outputs) = match outcome {
        Outcome::Overtaken => return,
        Outcome::Succeeded { answer, outputs } => {
            if let Some(log) = &answer.log {
                state.log(log);
            }
            (Change::Succeeded { data: answer.data }, outputs)
        }
        Outcome::Failed(problem) => {
            state.log(&problem);
            (Change::Failed, Vec::new())
        }
        Outcome::Cancelled => {
            state.log("cancelled");
            (Change::Cancelled, Vec::new())
        }
    };
    let (flush, events) = state.finish(change);
    let task = flush.task.id;
    let has_events = !events.is_empty();
    let files = shared.tools.store.files();
    if !write(shared, flush, outputs.clone(), events).await {
        outputs::discard(files, &outputs);
        return;
    }
    shared.tools.events.changed(task);
    if has_events {
        shared.tools.queue.deliveries_due();
    }
}

/// Writes, and tries again while SQL is out of reach. `false`: the run was overtaken, or the worker stops.
async fn write(
    shared: &Shared,
    flush: Flush,
    outputs: Vec<NewFile>,
    events: Vec<TaskEvent>,
) -> bool {
    let Flush { task, log } = flush;
    let id = task.id;
    let holder = shared.config.holder.clone();
    let write = RunWrite {
        task,
        holder,
        log,
        outputs,
        events,
    };
    let mut pause = RETRY.0;
    loop {
        match shared.tools.store.write_run(write.clone()).await {
            Ok(is_current) => return is_current,
            Err(StoreError::Closed) => return false,
            Err(error) => tracing::error!(
                task = id,
                "the task cannot be written, trying again: {error}"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
            () = shared.abort.cancelled() => return false,
        }
    }
}
