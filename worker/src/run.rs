//! One run from its job to its last write.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runner_core::task::{Change, Task, TaskState, retry_pause};
use runner_host::Provided;
use runner_host::manifest::RunRules;
use runner_host::protocol::RunAnswer;
use runner_queue::{Job, Offer, Taken};
use runner_store::{
    Current, LostRun, NewFile, Recorded, RunWrite, StoreError, WorkerInfo, WorkerKind,
};
use tokio_util::sync::CancellationToken;

use crate::execution::Execution;
use crate::pauses::Pauses;
use crate::pipelines::is_given;
use crate::sight::{Ended, RunMeter, leases_lost};
use crate::state::{Flush, RunState, Standing};
use crate::{Mismatch, Shared, outputs};

/// How long giving a run back may take while the worker stops; then others find it by its lease.
const HAND_BACK: Duration = Duration::from_secs(5);

/// After this a job is offered again to workers that may have its plugin.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// Why a task is not run again that might be.
const NOT_AGAIN: &str = "It is not run again, since its plugin is not repeatable.";

/// How a run went, for its last write.
pub(crate) enum Outcome {
    Succeeded {
        answer: RunAnswer,
        outputs: Vec<NewFile>,
    },
    Failed(String),
    /// The plugin failed; another run may do better.
    PluginFailed(String),
    /// The host was ended from outside; another run may do better.
    Lost(String),
    Cancelled,
    /// Another run has begun: nothing is to be written. Or the worker stops.
    Overtaken,
    /// The worker stops; another one is to run it.
    HandedBack,
}

/// Does the job, unless it is out of date.
pub(crate) async fn perform(shared: Arc<Shared>, mut taken: Taken) {
    let job = taken.job();
    let slot = shared.slots.slot(taken.take_slot());
    if taken.deliveries() > 1 {
        begin_again(&shared, job).await;
        return taken.done();
    }
    let Some(Current { task, waited }) = load(&shared, job).await else {
        return match shared.abort.is_cancelled() {
            true => taken.hand_back(),
            false => taken.done(),
        };
    };
    let found = match find(&shared, &task).await {
        Found::Here(provided) => Ok(provided),
        Found::Elsewhere => return taken.hand_back_later(ELSEWHERE),
        Found::Nowhere(outcome) => Err(outcome),
    };
    let rules = match &found {
        Ok(provided) => provided.module.run_rules(),
        Err(_) => RunRules::default(),
    };
    if let Ok(provided) = &found
        && let Some(most) = rules.concurrency
        && !taken.enter(&provided.module.status().name, most).await
    {
        return;
    }
    let plugin = found.as_ref().ok();
    let plugin = plugin.map(|provided| Arc::clone(&provided.plugin));
    let cancel = shared.in_hand.begin(job.task, job.run, plugin);
    let meter = shared.meters.run_of(&task.plugin);
    meter.waited(waited);
    let (state, outcome) = match found {
        Ok(provided) => {
            let broken = cancel.child_token();
            let state = Arc::new(RunState::new(
                task.clone(),
                Some(Arc::clone(&provided.plugin)),
                broken.clone(),
            ));
            let execution = Execution {
                shared: &shared,
                task: &task,
                provided: &provided,
                rules: &rules,
                state: &state,
                slot,
                broken: &broken,
            };
            let outcome = match rules.repeatable {
                true => execution.execute().await,
                false => once(&execution).await,
            };
            drop(execution);
            (state, outcome)
        }
        Err(outcome) => {
            let state = RunState::new(task, None, cancel.child_token());
            (Arc::new(state), outcome)
        }
    };
    let is_given_up = matches!(outcome, Outcome::Overtaken) && shared.abort.is_cancelled();
    // Who ends a task writes that before it tells. A run that was told and is still current was not meant.
    let was_told = matches!(outcome, Outcome::Cancelled) && cancel.is_cancelled();
    let outcome = match is_given_up || was_told {
        true => Outcome::HandedBack,
        false => outcome,
    };
    let finishing = finish(&shared, &state, &rules, outcome, &meter);
    // What it gave up begins again elsewhere, at once: that it did stands in SQL first.
    let is_told = match is_given_up {
        true => tokio::time::timeout(HAND_BACK, finishing).await.is_ok(),
        false => {
            finishing.await;
            true
        }
    };
    shared.in_hand.end(job.task, job.run);
    match is_told {
        true => taken.done(),
        false => taken.hand_back(),
    }
}

/// Does a run that must not be done twice: it is written as begun before the plugin hears of it, and not done
/// where an earlier one may have begun.
async fn once(execution: &Execution<'_>) -> Outcome {
    let task = execution.task;
    if task.attempts > 0 {
        return Outcome::Failed(format!(
            "A worker ended while it ran this task. {NOT_AGAIN}"
        ));
    }
    let begun = execution.state.begin();
    match write(execution.shared, task.run, begun, Vec::new()).await {
        Written::Yes => execution.execute().await,
        Written::Overtaken | Written::Unknown => Outcome::Overtaken,
    }
}

/// A job that a worker took and did not bring to its end: that run is lost, and another one is offered.
async fn begin_again(shared: &Shared, job: Job) {
    let max_attempts = shared.config.upkeep.max_attempts;
    let why = format!(
        "The worker ended {} times while it ran this task. It is not tried again.",
        max_attempts + 1
    );
    let tools = &shared.tools;
    let mut pauses = Pauses::new();
    loop {
        match tools
            .store
            .lost_run(job.task, job.run, max_attempts, &why)
            .await
        {
            Ok(LostRun::Again(offer)) => {
                leases_lost("queue", 1);
                tools.queue.push(offer);
            }
            Ok(LostRun::Failed) => {
                leases_lost("queue", 1);
                tools.queue.deliveries_due();
            }
            Ok(LostRun::Overtaken) => return,
            Err(error) => {
                tracing::error!(task = job.task, "the task cannot be queued again: {error}");
                if !pauses.pause(&shared.abort).await {
                    return;
                }
                continue;
            }
        }
        return tools.events.changed(job.task);
    }
}

/// After a panic nothing of the run is left but its number.
pub(crate) async fn fail_after_panic(shared: &Shared, job: Job) {
    let Some(Current { task, .. }) = load(shared, job).await else {
        return;
    };
    let meter = shared.meters.run_of(&task.plugin);
    let state = RunState::new(task, None, CancellationToken::new());
    let problem = "the runner itself failed during this run; its log has the details".to_owned();
    let (rules, outcome) = (RunRules::default(), Outcome::Failed(problem));
    finish(shared, &state, &rules, outcome, &meter).await;
}

async fn load(shared: &Shared, job: Job) -> Option<Current> {
    let mut pauses = Pauses::new();
    loop {
        match shared.tools.store.task_for_run(job.task, job.run).await {
            Ok(current) => return current,
            Err(error) if error.is_permanent() => {
                let problem = format!("the task cannot be read: {error}");
                tracing::error!(task = job.task, "{problem}");
                give_up(shared, job, &problem).await;
                return None;
            }
            Err(error) => tracing::error!(task = job.task, "the task cannot be read: {error}"),
        }
        if !pauses.pause(&shared.abort).await {
            return None;
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

/// Where a task can be run.
enum Found {
    Here(Provided),
    /// Another worker has the plugin, or will.
    Elsewhere,
    Nowhere(Outcome),
}

async fn find(shared: &Shared, task: &Task) -> Found {
    let modules = &shared.tools.modules;
    if is_given(task) {
        return match modules.given().await {
            Ok(provided) => Found::Here(provided),
            Err(error) => Found::Nowhere(Outcome::Failed(format!(
                "pipelines cannot be run here: {error}"
            ))),
        };
    }
    if modules.table().plugin_for_task(&task.plugin).is_none() && !modules.is_ready() {
        tokio::select! {
            () = modules.ready() => {}
            () = shared.abort.cancelled() => return Found::Nowhere(Outcome::Overtaken),
        }
    }
    let here = modules.table().plugin_for_task(&task.plugin).cloned();
    let is_refused = |provided: &Provided| {
        shared.config.mismatch == Mismatch::Refuse && is_other(task, provided)
    };
    let refused = match here {
        Some(provided) if is_refused(&provided) => Some(provided),
        Some(provided) => return Found::Here(provided),
        None => None,
    };
    let others = match shared.tools.store.workers().await {
        Ok(workers) => workers,
        // Then it cannot be written either that nobody has it.
        Err(_) => return Found::Elsewhere,
    };
    let lease = shared.config.upkeep.lease;
    let has_it = |worker: &WorkerInfo| {
        let is_alive = worker.stopped_at.is_none() && worker.silent_for < lease;
        is_alive
            && worker.queue == shared.config.queue
            && worker.row.kind != WorkerKind::Server
            && worker.row.plugins.contains(&task.plugin)
            && (refused.is_none() || worker.row.digests.get(&task.plugin) == Some(&task.digest))
    };
    match (others.iter().any(has_it), &refused) {
        (true, _) => Found::Elsewhere,
        (false, Some(provided)) => Found::Nowhere(Outcome::Failed(format!(
            "the module of the plugin {} has changed since this task was made: its digest was {}, and is {} now. No \
             worker of the queue {} has the one that it was (MODULE_MISMATCH is refuse)",
            task.plugin,
            short(&task.digest),
            short(&provided.module.digest()),
            shared.config.queue
        ))),
        (false, None) => Found::Nowhere(Outcome::Failed(format!(
            "no worker of the queue {} has the plugin {}",
            shared.config.queue, task.plugin
        ))),
    }
}

/// Whether a task was made for another digest of the module.
fn is_other(task: &Task, provided: &Provided) -> bool {
    !task.digest.is_empty() && task.digest != provided.module.digest()
}

/// The beginning of a digest, for people.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// What a run that ended like this does to its task.
fn change(
    shared: &Shared,
    state: &RunState,
    rules: &RunRules,
    standing: &Standing,
    failed: Failed,
) -> Change {
    let again = |what: &str, count: i64, most: i64| {
        state.log(&format!(
            "It is run again {what} ({count} of at most {most} times)."
        ));
    };
    match failed {
        Failed::Lost => {
            let most = shared.config.upkeep.max_attempts;
            if !rules.repeatable {
                state.log(NOT_AGAIN);
                return Change::Failed;
            }
            if standing.attempts >= most {
                return Change::Failed;
            }
            again("at once", standing.attempts + 1, most);
            Change::Lost
        }
        Failed::Plugin => {
            let most = i64::from(standing.retries.unwrap_or(rules.retries));
            if standing.failures >= most {
                return Change::Failed;
            }
            let pause = retry_pause(standing.failures + 1, random());
            again(
                &format!("in {:.1} s", pause.as_secs_f64()),
                standing.failures + 1,
                most,
            );
            let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            Change::RetryAt(now_ms().saturating_add(pause))
        }
    }
}

/// Whose fault it was.
enum Failed {
    Plugin,
    Lost,
}

/// The last write of the run. The folder of the run is gone by now, so that a full disk has room again.
async fn finish(
    shared: &Shared,
    state: &RunState,
    rules: &RunRules,
    outcome: Outcome,
    meter: &RunMeter<'_>,
) {
    let standing = state.standing();
    let (change, outputs) = match outcome {
        Outcome::Overtaken => return meter.ended(Ended::Overtaken),
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
        Outcome::PluginFailed(problem) => {
            state.log(&problem);
            let change = change(shared, state, rules, &standing, Failed::Plugin);
            (change, Vec::new())
        }
        Outcome::Lost(problem) => {
            state.log(&problem);
            let change = change(shared, state, rules, &standing, Failed::Lost);
            (change, Vec::new())
        }
        Outcome::HandedBack if rules.repeatable || standing.state == TaskState::Queued => {
            (Change::HandedBack, Vec::new())
        }
        Outcome::HandedBack => {
            state.log(&format!(
                "The worker was stopped while it ran this task. {NOT_AGAIN}"
            ));
            (Change::Failed, Vec::new())
        }
        Outcome::Cancelled => {
            state.log("cancelled");
            (Change::Cancelled, Vec::new())
        }
    };
    let flush = state.finish(change);
    let ended = match flush.task.state {
        TaskState::Succeeded => Ended::Succeeded,
        TaskState::Failed => Ended::Failed,
        TaskState::Cancelled => Ended::Cancelled,
        TaskState::Waiting => Ended::Step,
        TaskState::Queued | TaskState::Running => Ended::Again,
    };
    let next = (flush.task.state == TaskState::Queued).then(|| Offer::of(&flush.task));
    let files = shared.tools.store.files();
    match (
        write(shared, standing.run, flush, outputs.clone()).await,
        next,
    ) {
        (Written::Yes, offer) => {
            meter.ended(ended);
            if let Some(offer) = offer {
                shared.tools.queue.push(offer);
            }
        }
        (Written::Overtaken, _) => {
            meter.ended(Ended::Overtaken);
            outputs::discard(files, &outputs);
        }
        // If there is no row for them, they are swept later.
        (Written::Unknown, _) => {}
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// The run is not current any more: nothing was written.
    Overtaken,
    /// The worker stops, and whether it was written is not known.
    Unknown,
}

/// Writes, tells who listens, and tries again while SQL is out of reach.
pub(crate) async fn write(
    shared: &Shared,
    run: i64,
    flush: Flush,
    outputs: Vec<NewFile>,
) -> Written {
    let Flush { task, log, events } = flush;
    let id = task.id;
    let has_events = !events.is_empty();
    let write = RunWrite {
        task,
        run,
        log,
        outputs,
        events,
    };
    let mut pauses = Pauses::new();
    let recorded = loop {
        match shared.tools.store.record_run(write.clone()).await {
            Ok(recorded) => break recorded,
            Err(StoreError::Closed) => return Written::Unknown,
            Err(error) if error.is_permanent() => {
                let problem = format!("what the run made cannot be written: {error}");
                tracing::error!(task = id, "{problem}");
                give_up(shared, Job { task: id, run }, &problem).await;
                return Written::Overtaken;
            }
            Err(error) => tracing::error!(
                task = id,
                "the task cannot be written, trying again: {error}"
            ),
        }
        if !pauses.pause(&shared.abort).await {
            return Written::Unknown;
        }
    };
    let Recorded::Yes { is_subscribed } = recorded else {
        return Written::Overtaken;
    };
    shared.tools.events.changed(id);
    // The hint wakes every worker, and each asks SQL.
    if has_events && is_subscribed {
        shared.tools.queue.deliveries_due();
    }
    Written::Yes
}

/// Milliseconds since 1970 (UTC).
fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Between 0 and 1. Without randomness tasks that failed together come back together.
fn random() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
