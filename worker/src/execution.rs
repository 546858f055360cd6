//! The middle of a run: its host, its inputs, what the plugin does, its outputs.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures::future::BoxFuture;
use runner_core::plugin::{FormDescription, Plugin};
use runner_core::task::Task;
use runner_host::manifest::RunRules;
use runner_host::protocol::{FAILED, OUTPUT_TEXT, RpcError, RunEvent, RunRequest};
use runner_host::{HostError, Lease, NodeHosts, Provided, RunEnd, RunFolder};
use serde_json::{Map, Value};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::calls::Caller;
use crate::pipelines::PipelineRun;
use crate::run::{Outcome, Written, write};
use crate::slots::Slot;
use crate::state::{Handler, RunState};
use crate::{Shared, inputs, outputs};

/// How often a run in progress is written, at most.
const FLUSH: Duration = Duration::from_millis(100);
/// How many hosts may end before they hear of a run.
const MAX_HOSTS: usize = 3;

/// What a run is made of.
pub(crate) struct Execution<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) task: &'a Task,
    pub(crate) provided: &'a Provided,
    pub(crate) rules: &'a RunRules,
    pub(crate) state: &'a Arc<RunState>,
    pub(crate) slot: Slot,
    /// Cancelled when the task is, or when the plugin broke a rule.
    pub(crate) broken: &'a CancellationToken,
}

/// How one try went.
enum Attempt {
    Over(Outcome),
    /// The host ended before it heard of the run, which is nobody's fault.
    Unheard,
    /// The module takes no more runs.
    Closed,
}

impl Execution<'_> {
    /// Does the run. Where the module was replaced before the run began, it is done by the newer version.
    pub(crate) async fn execute(&self) -> Outcome {
        let mut provided = self.provided.clone();
        let mut ended = 0;
        while ended < MAX_HOSTS {
            match self.attempt(&provided).await {
                Attempt::Over(outcome) => return outcome,
                Attempt::Unheard => ended += 1,
                Attempt::Closed => {
                    let table = self.shared.tools.modules.table();
                    let newer = table.plugin_for_task(&self.task.plugin);
                    match newer.filter(|newer| !Arc::ptr_eq(&newer.module, &provided.module)) {
                        Some(newer) => provided = newer.clone(),
                        None => {
                            return Outcome::Failed(format!(
                                "the module of the plugin {} was stopped or removed before the run began",
                                self.task.plugin
                            ));
                        }
                    }
                }
            }
        }
        Outcome::Failed("the plugin's processes end before they hear of the run".to_owned())
    }

    /// Does the run on one host of this module.
    async fn attempt(&self, provided: &Provided) -> Attempt {
        let plugin = &provided.plugin;
        let (form, given) = match &self.task.step {
            None => (&plugin.form, &self.task.parameters),
            Some(step) => match plugin.step(&step.step) {
                Some(form) => (form, &step.parameters),
                None => {
                    return Attempt::Over(Outcome::Failed(format!(
                        "the step {:?} is not part of the plugin any more",
                        step.step
                    )));
                }
            },
        };
        let lease = tokio::select! {
            lease = provided.module.lease() => lease,
            () = self.broken.cancelled() => return Attempt::Over(Outcome::Cancelled),
            () = self.shared.abort.cancelled() => return Attempt::Over(Outcome::Overtaken),
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(HostError::Closed(_)) => return Attempt::Closed,
            Err(error) => return Attempt::Over(Outcome::Failed(error.to_string())),
        };
        self.state.is_run_by(plugin, &provided.module.digest());
        let folder = match lease.folder() {
            Ok(folder) => Arc::new(folder),
            Err(error) => return Attempt::Over(Outcome::Failed(error.to_string())),
        };
        let pipeline = PipelineRun::new(self.shared, self.task, provided);
        let work = self.work(&mut lease, &folder, form, given, pipeline.clone());
        let end = match self.with_writes(work).await {
            Some(Ok(end) | Err(end)) => end,
            None => return Attempt::Over(Outcome::Overtaken),
        };
        if let Some(pipeline) = pipeline {
            pipeline.write().await;
        }
        if matches!(end, RunEnd::Lost(_)) && lease.ended_idle() {
            return Attempt::Unheard;
        }
        // The host is given back when its folder for this run is gone.
        let outcome = self.conclude(plugin, folder, end).await;
        drop(lease);
        Attempt::Over(outcome)
    }

    async fn work(
        &self,
        lease: &mut Lease,
        folder: &RunFolder,
        form: &FormDescription,
        given: &Map<String, Value>,
        pipeline: Option<Arc<PipelineRun>>,
    ) -> Result<RunEnd, RunEnd> {
        let (shared, task) = (self.shared, self.task);
        let tools = &shared.tools;
        let gather = inputs::gather(
            &tools.fetcher,
            &tools.store,
            folder,
            &form.parameters,
            given,
        );
        let gathered = tokio::select! {
            gathered = gather => gathered.map_err(|error| RunEnd::Failed(failure(error)))?,
            () = self.broken.cancelled() => return Err(RunEnd::Cancelled),
        };
        let log = Arc::clone(self.state);
        let nodes = Arc::new(NodeHosts::new(
            Arc::new(move |text| log.event(RunEvent::Log(text))),
            shared.config.node_files,
        ));
        let handler = Handler {
            nodes: Arc::clone(&nodes),
            files: folder.files(),
            pipeline: pipeline.clone(),
            state: Arc::clone(self.state),
            fetcher: tools.fetcher.clone(),
            inputs: folder.inputs_path(),
            count: AtomicUsize::new(0),
            caller: Caller {
                shared: Arc::clone(shared),
                state: Arc::clone(self.state),
                slot: self.slot.clone(),
                task: task.id,
                depth: task.depth,
                base_url: task.base_url.clone(),
                labels: task.labels.clone(),
                submitter: task.dispatch.submitter.clone(),
                inputs: folder.inputs_path(),
                files: folder.files(),
            },
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
            base_url: task.base_url.clone(),
            output_text: OUTPUT_TEXT,
        };
        let run = lease.run(&request, self.limit(), &handler, self.broken);
        let keep = async {
            match &pipeline {
                Some(pipeline) => pipeline.keep().await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            end = run => end,
            never = keep => match never {},
        };
        nodes.end().await;
        Ok(end)
    }

    /// How long the run may take. A request can only lower it.
    fn limit(&self) -> Duration {
        let limit = self.rules.timeout.unwrap_or(self.shared.config.run_timeout);
        match self.task.dispatch.timeout_ms {
            Some(asked) => limit.min(Duration::from_millis(asked)),
            None => limit,
        }
    }

    /// Drives the work to its end, and writes what is new every now and then. A write that was begun is
    /// brought to its end, since it holds a part of the log. `None`: the run was overtaken.
    async fn with_writes<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FLUSH, FLUSH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut writing: Option<BoxFuture<'_, Written>> = None;
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
                written = write_ends => {
                    writing = None;
                    if written != Written::Yes {
                        return None;
                    }
                }
                _ = ticks.tick(), if !is_writing => if let Some(flush) = self.state.flush() {
                    writing = Some(Box::pin(write(self.shared, self.task.run, flush, Vec::new())));
                },
                () = self.shared.abort.cancelled() => return None,
            }
        };
        match writing {
            Some(writing) => (writing.await == Written::Yes).then_some(end),
            None => Some(end),
        }
    }

    /// Takes over what the run made, or says why there is nothing.
    async fn conclude(&self, plugin: &Plugin, folder: Arc<RunFolder>, end: RunEnd) -> Outcome {
        if let Some(problem) = self.state.problem() {
            return Outcome::Failed(format!("the plugin broke a rule: {problem}"));
        }
        match end {
            RunEnd::Finished(answer) => {
                let files = self.shared.tools.store.files().clone();
                match outputs::take(files, folder, plugin, self.state.take_outputs()).await {
                    Ok(outputs) => Outcome::Succeeded { answer, outputs },
                    Err(problem) => Outcome::Failed(problem),
                }
            }
            RunEnd::Failed(error) => Outcome::PluginFailed(error.text()),
            RunEnd::Cancelled => Outcome::Cancelled,
            RunEnd::TimedOut(limit) => Outcome::PluginFailed(format!(
                "the run took longer than {} s and was ended (the limit is set by RUN_TIMEOUT, by timeout in the \
                 module's plugin.toml, or lower by the request)",
                limit.as_secs_f64()
            )),
            RunEnd::Lost(error @ HostError::Killed(_)) => Outcome::Lost(error.to_string()),
            RunEnd::Lost(error) => Outcome::PluginFailed(error.to_string()),
        }
    }
}

fn failure(message: String) -> RpcError {
    RpcError {
        code: FAILED,
        message,
        data: Value::Null,
    }
}
