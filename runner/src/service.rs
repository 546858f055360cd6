//! What serves: a server, a worker, or both in one process. All wiring of the rooms is here.

mod flags;
mod kernels;
mod running;
mod wiring;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use runner_fetch::{FetchConfig, Fetcher, Proxies};
use runner_host::{FolderWatch, Launcher};
use runner_server::Recorded;
use runner_server::auth::{Auth, KeyConfig};
use runner_store::WorkerKind;
use runner_worker::Upkeep;

pub(crate) use flags::{ListenFlags, QueueFlags, ServiceFlags, given};
use running::{Running, Signals, sweep};

use crate::instance::{self, Lock};
use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings, access};
use crate::{board, git, greeting, logging, roster, surroundings};

/// Runs that were lost with their worker before a task is given up.
pub(crate) const MAX_ATTEMPTS: i64 = 3;
/// How long a webhook may take to answer.
pub(crate) const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// What a second signal says.
const INTERRUPTED: &str = "interrupted; what was running begins again";

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Server and worker, with a queue of its own.
    Both,
    /// Answers requests.
    Server,
    /// Runs tasks.
    Worker,
}

impl Role {
    fn serves(self) -> bool {
        self != Self::Worker
    }

    fn works(self) -> bool {
        self != Self::Server
    }

    fn kind(self) -> WorkerKind {
        match self {
            Self::Both => WorkerKind::Both,
            Self::Server => WorkerKind::Server,
            Self::Worker => WorkerKind::Worker,
        }
    }
}

/// Serves until it is told to stop.
pub(crate) fn run(role: Role, flags: Flags) -> anyhow::Result<()> {
    let settings = Settings::read(&Sources::read(flags)?)?;
    logging::start(&settings)?;
    let format = settings.log_format;
    logging::told(format, serve_as(role, settings))
}

fn serve_as(role: Role, settings: Settings) -> anyhow::Result<()> {
    let auth = match role.serves() {
        true => Some(auth(&settings)?),
        false => None,
    };
    for notice in &settings.notices {
        tracing::warn!("{notice}");
    }
    if let Some(notice) = access::notice(&settings.auth) {
        tracing::warn!("{notice}");
    }
    if role == Role::Both && settings.broker.is_some() {
        tracing::warn!(
            "BROKER_URL is not used: `runner up` queues in its own process (`runner server` and `runner worker` \
             use it)"
        );
    }
    let instance = instance::make(&settings.instance)?;
    let mut kept: Vec<&Path> = vec![&instance, &settings.files];
    kept.extend(settings.database.file());
    instance::keep_apart(&kept, &settings.plugin_folders)?;
    let mut lock = match role {
        Role::Both => Lock::take(&instance)?,
        Role::Server | Role::Worker => Lock::share(&instance)?,
    };
    let is_alone = role == Role::Both;
    let mut others = vec![instance::lock_apart(&settings.files, &instance, is_alone)?];
    if let Some(file) = settings.database.file() {
        others.push(instance::lock_apart(file, &instance, is_alone)?);
    }
    let token = instance::token(&instance)?;
    let runner = std::env::current_exe().context("cannot find the runner's own program")?;
    // Before any other thread is started, while this process is small.
    let launcher = Launcher::start(&runner, &settings.sandbox)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let process = Process {
        role,
        recorded: runner_server::record(),
        name: process_name()?,
        instance,
        runner,
        token,
        auth,
        launcher,
        settings,
    };
    runtime.block_on(process.serve(&mut lock))
}

/// A process that serves, with what it was started with.
struct Process {
    role: Role,
    /// What is counted from here on.
    recorded: Recorded,
    /// As others know it.
    name: String,
    instance: PathBuf,
    runner: PathBuf,
    token: String,
    /// Who may ask for what, if it serves.
    auth: Option<Auth>,
    launcher: Launcher,
    settings: Settings,
}

impl Process {
    async fn serve(self, lock: &mut Lock) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let around = &self.settings.surroundings;
        surroundings::forward(around).await?;
        tokio::select! {
            waited = surroundings::wait(around) => waited?,
            () = signals.next() => bail!("told to stop while waiting for WAIT_HOSTS"),
        }
        let listener = match self.role.serves() {
            true => Some(self.listen(lock).await?),
            false => None,
        };
        let watched = self.listen_for_watchers().await?;
        let started = SystemTime::now();
        let store = self.open_store().await?;
        let queue = self.open_queue(&store).await?;
        let modules = self.modules(&store, &queue);
        let sight = self.sight(&store, &queue, &modules);
        let address = listener.as_ref().map(|(_, address)| *address);
        let kernels = self.kernels(&store, &queue, &modules, address)?;
        let hosted = self.host(&store, &queue, &modules, &kernels, &sight);
        if let Some(listener) = watched {
            let forever = std::future::pending();
            tokio::spawn(runner_server::serve_sight(listener, sight.clone(), forever));
        }
        let mut running = Running {
            queue: queue.clone(),
            store: store.clone(),
            modules: Arc::clone(&modules),
            kernels,
            hosted,
            server: None,
            worker: None,
            upkeep: None,
        };
        match self.role {
            Role::Both => {
                let worker = self.start_worker(&store, &queue, &modules, address).await?;
                running.worker = Some(worker);
            }
            Role::Server => {
                let upkeep = Upkeep::start(&store, &queue, self.upkeep(&modules)).await?;
                running.upkeep = Some(upkeep);
            }
            Role::Worker if !self.runs_tasks() => {
                let upkeep = Upkeep::start(&store, &queue, self.upkeep(&modules)).await?;
                running.upkeep = Some(upkeep);
            }
            Role::Worker => {}
        }
        // It joined before it makes tasks, or others would take them for those of a dead one.
        if let Some((listener, _)) = listener {
            running.server = Some(self.start_server(
                listener,
                &store,
                &queue,
                &modules,
                &running.kernels,
                sight,
            ));
        }
        let loading = async {
            let watch = match self.settings.watch {
                true => Some(FolderWatch::new(&modules).await?),
                false => None,
            };
            modules
                .load(async { git::newest(&self.settings.git_plugins).await })
                .await?;
            if let Some(watch) = watch {
                tokio::spawn(watch.follow());
            }
            tokio::spawn(Arc::clone(&modules).follow());
            // A worker tells others which plugins it has, so it has to know.
            if self.role == Role::Worker && self.runs_tasks() {
                let worker = self.start_worker(&store, &queue, &modules, None).await?;
                running.worker = Some(worker);
            }
            if self.role == Role::Both {
                // It joined before it knew its plugins.
                store.join(roster::row(&self.row(), &modules)).await?;
            }
            match address {
                Some(address) => greeting::of_server(
                    &address,
                    &modules,
                    &self.settings,
                    &self.instance,
                    &self.token,
                ),
                None => greeting::of_worker(&self.settings, &modules),
            }
            if let (Role::Worker, Some(worker)) = (self.role, &running.worker) {
                board::show(worker, &queue, self.settings.concurrency).await;
            }
            // Nobody else is at work on files that were stored before.
            if self.role == Role::Both {
                sweep(&store, started).await;
            }
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            failed = loading => failed?,
            () = signals.next() => {}
            // Without it no plugin can be started.
            () = self.launcher.ended() => bail!("the launcher of plugin processes ended; start the runner again"),
        }
        let grace = self.settings.shutdown_grace;
        tracing::info!(
            "stopping; runs in progress have {} s to end",
            grace.as_secs_f64()
        );
        tokio::select! {
            () = running.stop(grace) => Ok(()),
            () = signals.next() => bail!(INTERRUPTED),
        }
    }
}

/// Whoever checks tokens. Where its keys are published is the operator's choice, and may be near.
///
/// # Errors
/// The key is none, or others would reach the runner by oversight.
pub(crate) fn auth(settings: &Settings) -> anyhow::Result<Auth> {
    if let Err(problem) = &settings.may_serve {
        bail!("{problem}");
    }
    let mut policy = settings.addresses.clone();
    if let Some(KeyConfig::Jwks(url)) = &settings.auth.key {
        policy = policy.with_host_of(&settings.url_map.apply(url));
    }
    let fetcher = Fetcher::new(FetchConfig {
        url_map: settings.url_map.clone(),
        policy,
        proxies: Proxies::from_env(),
        ..FetchConfig::default()
    })?;
    let name = match &settings.auth.key {
        Some(KeyConfig::Secret(_)) => "AUTH_SECRET",
        Some(KeyConfig::PublicKey(_)) => "AUTH_PUBLIC_KEY",
        Some(KeyConfig::Jwks(_)) => "AUTH_JWKS_URL",
        None => "AUTH",
    };
    Auth::new(settings.auth.clone(), fetcher).context(name)
}

/// A name for this start, so that what an earlier one held is not taken for its own.
pub(crate) fn process_name() -> anyhow::Result<String> {
    let host: String = host_name()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(30)
        .collect();
    Ok(format!(
        "{host}-{}-{}",
        std::process::id(),
        &instance::random()?[..8]
    ))
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
