//! One run from its job to its last write.

use std::sync::Arc;
use std::time::Duration;

use runner_core::task::{Change, Task};
use runner_host::Provided;
use runner_host::protocol::RunAnswer;
use runner_queue::Job;
use runner_store::{NewFile, RunWrite, StoreError};
use tokio_util::sync::CancellationToken;

use crate::execution::Execution;
use crate::slots::Slot;
use crate::state::{Flush, RunState};
use crate::{Shared, outputs};

/// How long to wait before a write that failed is tried again: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How a run went, for its last write.
pub(crate) enum Outcome {
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
pub(crate) async fn perform(shared: Arc<Shared>, job: Job, slot: Slot) {
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
            let outcome = {
                let execution = Execution {
                    shared: &shared,
                    task: &task,
                    provided: &provided,
                    state: &state,
                    slot,
                    broken: &broken,
                };
                execution.execute().await
            };
            (state, outcome)
        }
        Err(outcome) => {
            let state = RunState::new(task, None, cancel.child_token());
            (Arc::new(state), outcome)
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
            Err(error) if error.is_permanent() => {
                let problem = format!("the task cannot be read: {error}");
                tracing::error!(task = job.task, "{problem}");
                give_up(shared, job, &problem).await;
                return None;
            }
            Err(error) => tracing::error!(task = job.task, "the task cannot be read: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
            () = shared.abort.cancelled() => return None,
        }
    }
}

/// Fails a task of which nothing but its number can be used.
async fn give_up(shared: &Shared, job: Job, problem: &str) {
    if let Err(error) = shared
        .tools
        .store
        .fail_task(job.task, job.run, problem)
        .await
    {
        tracing::error!(task = job.task, "the task cannot be failed: {error}");
    }
    shared.tools.events.changed(job.task);
    shared.tools.queue.deliveries_due();
}

async fn find(shared: &Shared, task: &Task) -> Result<Provided, Outcome> {
    let modules = &shared.tools.modules;
    if modules.table().plugin(&task.plugin).is_none() && !modules.is_ready() {
        tokio::select! {
            () = modules.ready() => {}
            () = shared.abort.cancelled() => return Err(Outcome::Overtaken),
        }
    }
    let table = modules.table();
    let provided = table.plugin(&task.plugin).cloned();
    let unknown = || Outcome::Failed(format!("the plugin {} is not loaded", task.plugin));
    provided.ok_or_else(unknown)
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
    let flush = state.finish(change);
    let files = shared.tools.store.files();
    if !write(shared, flush, outputs.clone()).await {
        outputs::discard(files, &outputs);
    }
}

/// Writes, tells who listens, and tries again while SQL is out of reach. `false`: the run was overtaken, or
/// the worker stops.
pub(crate) async fn write(shared: &Shared, flush: Flush, outputs: Vec<NewFile>) -> bool {
    let Flush { task, log, events } = flush;
    let (id, run) = (task.id, task.run);
    let has_events = !events.is_empty();
    let holder = shared.config.holder.clone();
    let write = RunWrite {
        task,
        holder,
        log,
        outputs,
        events,
    };
    let mut pause = RETRY.0;
    let is_current = loop {
        match shared.tools.store.write_run(write.clone()).await {
            Ok(is_current) => break is_current,
            Err(StoreError::Closed) => return false,
            Err(error) if error.is_permanent() => {
                let problem = format!("what the run made cannot be written: {error}");
                tracing::error!(task = id, "{problem}");
                give_up(shared, Job { task: id, run }, &problem).await;
                return false;
            }
            Err(error) => tracing::error!(
                task = id,
                "the task cannot be written, trying again: {error}"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
            () = shared.abort.cancelled() => return false,
        }
    };
    if is_current {
        shared.tools.events.changed(id);
        if has_events {
            shared.tools.queue.deliveries_due();
        }
    }
    is_current
}
