//! Runs one task with all that a serving runner has (store, queue, worker), in a scratch folder.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use runner_core::parameters::FieldErrors;
use runner_core::plugin::Plugin;
use runner_core::task::{Change, Dispatch, NewTask, Step, Task, TaskState};
use runner_fetch::{FetchConfig, Fetcher, Proxies};
use runner_host::Provided;
use runner_queue::{Events, Offer, Queue};
use runner_store::{DatabaseUrl, Durability, PageWrite, Store, StoreConfig, WorkerKind, WorkerRow};
use runner_worker::{Mismatch, Tools, UpkeepConfig, Worker, WorkerConfig};
use serde_json::Map;
use tokio::sync::watch;

use crate::live::Live;
use crate::scratch::{INTERRUPTED, Scratch, interrupted};
use crate::screen::{Exit, line};
use crate::service::{MAX_ATTEMPTS, WEBHOOK_TIMEOUT};
use crate::values::{Desk, Filled, Given, GivenStep, shown_errors, usage};

/// Part of the addresses of steps, which nobody visits.
const BASE_URL: &str = "http://localhost";
/// How long a cancelled run may take to end after its host was killed.
const LAST_WORK: Duration = Duration::from_secs(3);

/// Store, queue and worker for the tasks of a command.
pub(crate) struct Trial<'a> {
    scratch: &'a Scratch,
    store: Store,
    queue: Queue,
    events: Events,
    fetcher: Fetcher,
    worker: Worker,
}

/// What became of the task.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The task with its whole log and its outputs.
    pub(crate) task: Task,
    /// Why it did not go on, where it waits for a step.
    pub(crate) stuck: Option<String>,
}

impl<'a> Trial<'a> {
    /// Starts the worker. `roots` are the files that inputs may be read from, beside those of the settings.
    pub(crate) async fn start(
        scratch: &'a Scratch,
        roots: Vec<PathBuf>,
        timeout: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let settings = &scratch.settings;
        let store = Store::open(&StoreConfig {
            database: DatabaseUrl::of_file(scratch.folder.join("runner.sqlite")),
            files: scratch.folder.join("files"),
            bucket: None,
            durability: Durability::Process,
            queue: "trial".to_owned(),
            process: "command".to_owned(),
            is_alone: false,
        })
        .await?;
        let fetcher = Fetcher::new(FetchConfig {
            url_map: settings.url_map.clone(),
            file_roots: settings.file_roots.iter().cloned().chain(roots).collect(),
            max_size: settings.max_input,
            proxies: Proxies::from_env(),
            ..FetchConfig::default()
        })?;
        let queue = Queue::in_process();
        let events = queue.events();
        let row = watch::Sender::new(WorkerRow {
            kind: WorkerKind::Both,
            host: String::new(),
            pid: std::process::id(),
            concurrency: 0,
            plugins: Vec::new(),
            digests: BTreeMap::new(),
            generation: 0,
            failing: BTreeMap::new(),
        });
        let worker = Worker::start(
            Tools {
                store: store.clone(),
                queue: queue.clone(),
                events: events.clone(),
                modules: Arc::clone(&scratch.modules),
                fetcher: fetcher.clone(),
            },
            WorkerConfig {
                name: "command".to_owned(),
                queue: "trial".to_owned(),
                concurrency: settings.concurrency,
                upkeep: UpkeepConfig {
                    row: row.subscribe(),
                    lease: settings.worker_lease,
                    max_attempts: MAX_ATTEMPTS,
                },
                run_timeout: timeout.unwrap_or(settings.run_timeout),
                node_files: settings.node_files,
                webhook_timeout: WEBHOOK_TIMEOUT,
                mismatch: Mismatch::Run,
                keeping: None,
            },
        )
        .await?;
        Ok(Self {
            scratch,
            store,
            queue,
            events,
            fetcher,
            worker,
        })
    }

    /// The content of outputs.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Fills in the plugin's form. Says what is wrong, by field.
    pub(crate) async fn fill(
        &self,
        plugin: &Plugin,
        given: &[Given],
    ) -> Result<Filled, FieldErrors> {
        let form = &plugin.form.parameters;
        self.desk().fill(form, &Map::new(), given).await
    }

    /// What tasks are made with, for whoever outlives this borrow.
    pub(crate) fn tasks(&self) -> Tasks {
        Tasks {
            store: self.store.clone(),
            queue: self.queue.clone(),
            events: self.events.clone(),
        }
    }

    fn desk(&self) -> Desk<'_> {
        Desk {
            fetcher: &self.fetcher,
            files: self.store.files(),
            folder: &self.scratch.folder,
        }
    }

    /// Runs the task to its end, or until it asks for a step that nobody gave. Ctrl-C cancels it.
    pub(crate) async fn run(
        &self,
        provided: &Provided,
        filled: Filled,
        steps: Vec<GivenStep>,
        live: &mut Live,
    ) -> anyhow::Result<Ended> {
        let id = self.tasks().begin(provided, filled).await?;
        let mut steps = VecDeque::from(steps);
        let follow = self.follow(id, &mut steps, live);
        let stuck = tokio::select! {
            followed = follow => followed?,
            () = interrupted() => {
                live.say("cancelling; Ctrl-C again ends everything at once");
                self.cancel(id).await?;
                None
            }
        };
        if stuck.is_some() {
            // Nobody will come for it.
            self.cancel(id).await?;
        }
        let task = self.store.task(id).await?.context("the task is gone")?;
        if stuck.is_none() && !steps.is_empty() && task.state == TaskState::Succeeded {
            let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
            live.say(&format!(
                "the task did not ask for the steps {}",
                ids.join(", ")
            ));
        }
        Ok(Ended { task, stuck })
    }

    /// Ends the worker and what still runs.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let grace = self.scratch.settings.cancel_grace * 2 + LAST_WORK;
        let stopped = tokio::select! {
            () = self.worker.stop(grace) => Ok(()),
            () = interrupted() => Err(Exit(INTERRUPTED).into()),
        };
        self.store.close().await;
        stopped
    }

    async fn cancel(&self, id: i64) -> anyhow::Result<()> {
        self.tasks().cancel(id).await
    }

    /// Follows the task. `Some`: it waits for a step, and this is why nobody submits it.
    async fn follow(
        &self,
        id: i64,
        steps: &mut VecDeque<GivenStep>,
        live: &mut Live,
    ) -> anyhow::Result<Option<String>> {
        let mut watch = self.events.watch(id);
        let mut log_length = 0;
        let mut submitted: Vec<String> = Vec::new();
        loop {
            let task = self
                .store
                .task_since(id, log_length, u64::MAX)
                .await?
                .context("the task is gone")?;
            log_length += task.log.len() as u64;
            if !task.log.is_empty() {
                live.log(&task.log);
            }
            if let Some(progress) = &task.progress {
                live.progress(
                    progress.value,
                    progress.start,
                    progress.target,
                    &progress.unit,
                );
            }
            if task.state.is_finished() {
                return Ok(None);
            }
            let is_waiting = task.state == TaskState::Waiting;
            // That a called task has taken its step is seen here a moment later.
            let open = |step: &&Step| {
                !step.cleared && (is_waiting || step.is_called) && !submitted.contains(&step.href)
            };
            if let Some(step) = task.steps.iter().find(open) {
                if let Some(stuck) = self.submit(&task, step, steps.pop_front()).await? {
                    return Ok(Some(stuck));
                }
                if step.is_called {
                    submitted.push(step.href.clone());
                }
                continue;
            }
            watch.changed().await;
        }
    }

    /// Submits a step with the values that were given. `Some`: why not.
    async fn submit(
        &self,
        task: &Task,
        step: &Step,
        given: Option<GivenStep>,
    ) -> anyhow::Result<Option<String>> {
        // A step of a task that was called is submitted there.
        let Some((owner, step_id)) = owner_of(task, step) else {
            bail!(
                "the address of the step {:?} is not usable: {}",
                step.step_id,
                step.href
            );
        };
        let mut owner = match owner == task.id {
            true => task.clone(),
            false => self
                .store
                .task(owner)
                .await?
                .context("the called task is gone")?,
        };
        let plugin = self.plugin_of(&owner)?;
        let form = plugin
            .step(&step.step)
            .context("the step is not part of the plugin")?;
        let id = &step.step_id;
        let Some(given) = given else {
            return Ok(Some(format!(
                "{} waits for the step {id:?} ({}), and none was given; add: --step {id} {}",
                plugin.identity,
                line(&form.title),
                usage(&form.parameters)
                    .replace("-p ", "")
                    .replace("--input ", ""),
            )));
        };
        if given.id != *id && given.id != step.step {
            return Ok(Some(format!(
                "{} waits for the step {id:?}, not for {:?}",
                plugin.identity, given.id
            )));
        }
        let filled = match self
            .desk()
            .fill(&form.parameters, &step.values, &given.values)
            .await
        {
            Ok(filled) => filled,
            Err(errors) => {
                let shown = shown_errors(&form.parameters, &errors);
                return Ok(Some(format!(
                    "the step {id:?} does not take these values:{shown}"
                )));
            }
        };
        let version = owner.version;
        let change = Change::StepSubmitted {
            step_id,
            parameters: filled.parameters,
        };
        let events = owner.apply(change)?;
        let write = PageWrite {
            task: &owner,
            expected_version: version,
            events: &events,
            uploads: &filled.uploads,
            log: "",
        };
        if !self.store.write_page_with(write).await? {
            bail!("the task changed while the step was submitted");
        }
        self.queue.push(Offer::of(&owner));
        self.events.changed(owner.id);
        Ok(None)
    }

    fn plugin_of(&self, task: &Task) -> anyhow::Result<Arc<Plugin>> {
        let table = self.scratch.modules.table();
        let provided = table.plugin(&task.plugin);
        let provided =
            provided.with_context(|| format!("the plugin {} is not loaded", task.plugin))?;
        Ok(Arc::clone(&provided.plugin))
    }
}

/// Makes tasks, waits for them, ends them.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    store: Store,
    queue: Queue,
    events: Events,
}

impl Tasks {
    /// Makes a task; its number.
    pub(crate) async fn begin(&self, provided: &Provided, filled: Filled) -> anyhow::Result<i64> {
        let inserted = self
            .store
            .insert_task(NewTask {
                plugin: provided.plugin.identifier.clone(),
                digest: provided.module.status().sha256,
                parameters: filled.parameters,
                uploads: filled.uploads,
                labels: Vec::new(),
                base_url: BASE_URL.to_owned(),
                caller: None,
                dispatch: Dispatch::default(),
                idempotency: None,
            })
            .await?;
        let id = inserted.id();
        self.queue.push(Offer::first(id, &Dispatch::default()));
        Ok(id)
    }

    /// Waits until a task has ended, or waits for a step that nobody will submit.
    pub(crate) async fn ended(&self, id: i64) -> anyhow::Result<Task> {
        let mut watch = self.events.watch(id);
        loop {
            let task = self.store.task(id).await?.context("the task is gone")?;
            if task.state.is_finished() || task.state == TaskState::Waiting {
                return Ok(task);
            }
            watch.changed().await;
        }
    }

    /// Cancels a task that has not ended.
    pub(crate) async fn cancel(&self, id: i64) -> anyhow::Result<()> {
        let ended = self.store.cancel_task(id).await?.unwrap_or_default();
        self.queue.tasks_ended(&ended, &self.events);
        Ok(())
    }

    /// The content of outputs.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

/// The task that a step belongs to, and its id there.
fn owner_of(task: &Task, step: &Step) -> Option<(i64, String)> {
    if !step.is_called {
        return Some((task.id, step.step_id.clone()));
    }
    let mut segments = step.href.trim_end_matches('/').rsplit('/');
    let step_id = segments.next()?.strip_suffix("-process")?.to_owned();
    Some((segments.next()?.parse().ok()?, step_id))
}
