//! What serves: a server, a worker, or both in one process. All wiring of the rooms is here.

mod kernels;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;
use runner_fetch::{FetchConfig, Fetcher, Proxies};
use runner_host::host::Patience;
use runner_host::loader::Loaders;
use runner_host::{FolderWatch, Launcher, Modules, ModulesConfig};
use runner_queue::{Queue, RedisConfig};
use runner_server::auth::{Auth, KeyConfig};
use runner_server::{App, Recorded, SageCell, ServerConfig, Sight, SightParts};
use runner_store::{Store, StoreConfig, WorkerKind, WorkerRow};
use runner_worker::{
    Keeping, StoreCache, StoreLedger, Tools, Upkeep, UpkeepConfig, Worker, WorkerConfig,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use kernels::{Hosted, Kernels};

use crate::instance::{self, Holder, Lock};
use crate::settings::sources::Sources;
use crate::settings::{Flags, Only, Settings, access};
use crate::{board, git, greeting, logging, roster, surroundings};

/// Runs that were lost with their worker before a task is given up.
pub(crate) const MAX_ATTEMPTS: i64 = 3;
/// How long `GET /plugins/` waits for modules that are being described.
const PLUGINS_WAIT: Duration = Duration::from_secs(4);
/// How long a webhook may take to answer.
pub(crate) const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// What a second signal says.
const INTERRUPTED: &str = "interrupted; what was running begins again";

/// Flags of all that serve. Each is a setting; more settings, as variables, stand in `.env.example`.
#[derive(Debug, Args)]
pub(crate) struct ServiceFlags {
    /// Folder of everything the runner keeps [RUNNER_INSTANCE_FOLDER, default instance]
    #[arg(long)]
    instance_folder: Option<String>,
    /// Folders of plugins, separated by colons [PLUGIN_FOLDERS, default plugins and stable_plugins/*]
    #[arg(long)]
    plugin_folders: Option<String>,
    /// Reloads modules that change in the plugin folders, loads new ones and removes others [WATCH, default off]
    #[arg(long)]
    watch: bool,
    /// Where tasks are kept: sqlite:///path, postgresql://… or mysql://… [DATABASE_URL, default in the instance folder]
    #[arg(long)]
    database_url: Option<String>,
    /// Folders below which file:// URLs may be opened, separated by colons [FILE_ROOTS, default none]
    #[arg(long)]
    file_roots: Option<String>,
    /// error, warn, info, debug or trace [LOG_LEVEL, default info]
    #[arg(long)]
    log_level: Option<String>,
}

impl ServiceFlags {
    /// The settings they are.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = given([
            ("RUNNER_INSTANCE_FOLDER", &self.instance_folder),
            ("PLUGIN_FOLDERS", &self.plugin_folders),
            ("DATABASE_URL", &self.database_url),
            ("FILE_ROOTS", &self.file_roots),
            ("LOG_LEVEL", &self.log_level),
        ]);
        if self.watch {
            flags.insert("WATCH", "on".to_owned());
        }
        flags
    }
}

/// Flags of what listens.
#[derive(Debug, Args)]
pub(crate) struct ListenFlags {
    /// Address to listen on [RUNNER_HOST, default 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on; 0 takes a free one [RUNNER_PORT, default 5005]
    #[arg(long)]
    port: Option<String>,
    /// Shows all routes and a host page for micro frontends at /debug/ [DEVELOPMENT, default off]
    #[arg(long)]
    dev: bool,
}

impl ListenFlags {
    /// The settings they are.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = given([("RUNNER_HOST", &self.host), ("RUNNER_PORT", &self.port)]);
        if self.dev {
            flags.insert("DEVELOPMENT", "on".to_owned());
        }
        flags
    }
}

/// Flags of what shares a queue with others.
#[derive(Debug, Args)]
pub(crate) struct QueueFlags {
    // As a comment for documents its brackets would be links.
    #[arg(
        long,
        help = "Where the queue is: redis://[user:password@]host[:port][/database] [BROKER_URL]"
    )]
    broker_url: Option<String>,
    /// Name of the queue; servers and workers of one name work together [QUEUE, default runner]
    #[arg(long)]
    queue: Option<String>,
}

impl QueueFlags {
    /// The settings they are.
    pub(crate) fn flags(&self) -> Flags {
        given([("BROKER_URL", &self.broker_url), ("QUEUE", &self.queue)])
    }
}

/// The flags that were given.
pub(crate) fn given<const N: usize>(flags: [(&'static str, &Option<String>); N]) -> Flags {
    let given = flags
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)));
    given.collect()
}

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

    /// The URL by which clients know the runner, for tasks that no request made.
    fn own_url(&self, address: Option<SocketAddr>) -> String {
        let settings = &self.settings;
        match (&settings.public_url, &settings.server_name) {
            (Some(url), _) => return url.trim_end_matches('/').to_owned(),
            (None, Some(name)) => return format!("http://{name}"),
            (None, None) => {}
        }
        let holder = || Holder::of(&self.instance).and_then(|holder| holder.url);
        match address {
            Some(address) => instance::base_url(&address),
            None => holder().unwrap_or_else(|| {
                instance::base_url(&SocketAddr::new(settings.host, settings.port))
            }),
        }
    }

    async fn listen(&self, lock: &mut Lock) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let address = SocketAddr::new(self.settings.host, self.settings.port);
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (another --port may be free)"))?;
        let address = listener
            .local_addr()
            .context("cannot tell the own address")?;
        lock.tell_address(&address)?;
        Ok((listener, address))
    }

    /// For those who only watch.
    async fn listen_for_watchers(&self) -> anyhow::Result<Option<TcpListener>> {
        let Some(address) = self.settings.metrics_address else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}, which METRICS_ADDRESS names"))?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(
                "{}/metrics and /health/ready answer",
                instance::base_url(&address)
            );
        }
        Ok(Some(listener))
    }

    fn sight(&self, store: &Store, queue: &Queue, modules: &Arc<Modules>) -> Sight {
        Sight::new(SightParts {
            store: store.clone(),
            queue: queue.clone(),
            modules: Arc::clone(modules),
            kind: self.role.kind(),
            lease: self.settings.worker_lease,
            disk_floor: self.settings.disk_floor,
            recorded: Arc::clone(&self.recorded),
        })
    }

    async fn open_store(&self) -> anyhow::Result<Store> {
        let store = Store::open(&StoreConfig {
            database: self.settings.database.clone(),
            files: self.settings.files.clone(),
            bucket: self.settings.bucket.clone(),
            durability: self.settings.durability,
            queue: self.queue_name(),
            process: self.name.clone(),
            is_alone: self.role == Role::Both && !self.settings.database.is_server(),
        })
        .await?;
        store.check_file_store(&host_name()).await?;
        Ok(store)
    }

    /// The name under which tasks of this process are queued. A process that queues for itself has a name of
    /// its own where it may share the database with others.
    fn queue_name(&self) -> String {
        let name = &self.settings.queue;
        match self.role == Role::Both && self.settings.database.is_server() {
            true => format!("{name}-{}", instance::digest(&self.token)),
            false => name.clone(),
        }
    }

    async fn open_queue(&self, store: &Store) -> anyhow::Result<Queue> {
        if self.role != Role::Both {
            let Some(url) = self.settings.broker.clone() else {
                bail!(
                    "a server and its workers meet in Redis: say where it is with --broker-url \
                     redis://host:6379/0 or BROKER_URL (`runner up` is server and worker in one, without Redis)"
                );
            };
            let config = RedisConfig {
                url,
                name: self.queue_name(),
                process: self.name.clone(),
            };
            return Ok(Queue::connect(&config).await?);
        }
        let queue = Queue::in_process();
        let recovered = store.recover(MAX_ATTEMPTS).await?;
        if !recovered.jobs.is_empty() {
            tracing::info!("{} tasks go on that had not ended", recovered.jobs.len());
        }
        queue.push_all(recovered.jobs);
        Ok(queue)
    }

    fn modules(&self, store: &Store, queue: &Queue) -> Arc<Modules> {
        let settings = &self.settings;
        Modules::new(
            ModulesConfig {
                folders: settings.plugin_folders.clone(),
                instance: self.instance.clone(),
                trust: settings.trust.clone(),
                runner: self.runner.clone(),
                python: settings.python.clone(),
                loaders: Loaders::with(settings.loaders.clone()),
                patience: Patience {
                    describe: settings.describe_timeout,
                    cancel: settings.cancel_grace,
                },
                idle: settings.host_idle,
                max_hosts: settings.max_hosts,
                network: settings.plugin_network,
                limits: settings.host_limits.clone(),
                drain: settings.module_drain,
                environments: settings.environments(&self.instance, true),
            },
            self.launcher.clone(),
            Arc::new(StoreCache(store.clone())),
            Arc::new(StoreCache(store.clone())),
            Arc::new(StoreLedger {
                store: store.clone(),
                queue: queue.clone(),
            }),
        )
    }

    /// Whether tasks run here.
    fn runs_tasks(&self) -> bool {
        let is_worker = self.role == Role::Worker;
        self.role.works() && !(is_worker && self.settings.only == Some(Only::Sessions))
    }

    fn start_server(
        &self,
        listener: TcpListener,
        store: &Store,
        queue: &Queue,
        modules: &Arc<Modules>,
        kernels: &Kernels,
        sight: Sight,
    ) -> Server {
        let app = self.app(store, queue, modules, kernels, sight);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(runner_server::serve(listener, app, async {
            // A dropped sender means the same.
            let _ = stopped.await;
        }));
        Server { stop, task }
    }

    /// What the routes share.
    fn app(
        &self,
        store: &Store,
        queue: &Queue,
        modules: &Arc<Modules>,
        kernels: &Kernels,
        sight: Sight,
    ) -> App {
        let settings = &self.settings;
        let face = settings.sage_cell.as_ref();
        let face = face.map(|settings| settings.face.clone());
        let auth = self.auth.clone().unwrap_or_else(Auth::off);
        auth.prepare();
        App::new(
            store.clone(),
            queue.clone(),
            queue.events(),
            Arc::clone(modules),
            kernels.sessions.clone(),
            sight,
            ServerConfig {
                server_name: settings.server_name.clone(),
                hosts: settings.hosts.clone(),
                origins: settings.origins.clone(),
                auth,
                limits: settings.limits.clone(),
                proxies: settings.proxies,
                development: settings.development,
                token: self.token.clone(),
                max_body: settings.max_body,
                max_parameters: settings.max_parameters,
                max_upload: settings.max_upload,
                disk_floor: settings.disk_floor,
                retention: settings.retention,
                lease: settings.worker_lease,
                route_timeout: settings.route_timeout,
                plugins_wait: PLUGINS_WAIT,
                relays: settings.sessions.is_some() && self.role == Role::Server,
                sage_cell: face.and_then(|face| match kernels.cells.clone() {
                    Some(cells) => Some(SageCell::with_kernels(cells, face)),
                    None if self.role == Role::Server => {
                        let links = queue.links()?;
                        Some(SageCell::with_workers(links, face))
                    }
                    None => None,
                }),
            },
        )
    }

    async fn start_worker(
        &self,
        store: &Store,
        queue: &Queue,
        modules: &Arc<Modules>,
        address: Option<SocketAddr>,
    ) -> anyhow::Result<Worker> {
        let settings = &self.settings;
        let tools = self.tools(store, queue, modules)?;
        let config = WorkerConfig {
            upkeep: self.upkeep(modules),
            name: self.name.clone(),
            queue: self.queue_name(),
            concurrency: settings.concurrency,
            run_timeout: settings.run_timeout,
            node_files: settings.node_files,
            webhook_timeout: WEBHOOK_TIMEOUT,
            mismatch: settings.module_mismatch,
            keeping: Some(Keeping {
                base_url: self.own_url(address),
                retention: settings.retention,
            }),
        };
        Ok(Worker::start(tools, config).await?)
    }

    /// What tasks are made and run with.
    fn tools(&self, store: &Store, queue: &Queue, modules: &Arc<Modules>) -> anyhow::Result<Tools> {
        let settings = &self.settings;
        let fetcher = Fetcher::new(FetchConfig {
            url_map: settings.url_map.clone(),
            file_roots: settings.file_roots.clone(),
            policy: settings.addresses.clone(),
            max_size: settings.max_input,
            proxies: Proxies::from_env(),
            ..FetchConfig::default()
        })?;
        Ok(Tools {
            store: store.clone(),
            queue: queue.clone(),
            events: queue.events(),
            modules: Arc::clone(modules),
            fetcher,
        })
    }

    /// What others see of this process, without its plugins.
    fn row(&self) -> WorkerRow {
        WorkerRow {
            kind: self.role.kind(),
            host: host_name(),
            pid: std::process::id(),
            concurrency: match self.runs_tasks() {
                true => u32::try_from(self.settings.concurrency).unwrap_or(u32::MAX),
                false => 0,
            },
            plugins: Vec::new(),
            digests: BTreeMap::new(),
            generation: 0,
            failing: BTreeMap::new(),
        }
    }

    fn upkeep(&self, modules: &Arc<Modules>) -> UpkeepConfig {
        UpkeepConfig {
            row: roster::follow(self.row(), modules),
            lease: self.settings.worker_lease,
            max_attempts: MAX_ATTEMPTS,
        }
    }
}

/// What has to be stopped.
struct Running {
    queue: Queue,
    store: Store,
    modules: Arc<Modules>,
    kernels: Kernels,
    hosted: Option<Hosted>,
    server: Option<Server>,
    worker: Option<Worker>,
    upkeep: Option<Upkeep>,
}

struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn stop(self, grace: Duration) {
        let server = self.server.map(|server| {
            let _ = server.stop.send(());
            server.task
        });
        // Servers look elsewhere from now on.
        let links = match self.hosted {
            Some(hosted) => Some(hosted.end(grace).await),
            None => None,
        };
        // What is left ends with the launcher.
        let _ = tokio::time::timeout(grace, self.kernels.close()).await;
        if let Some(links) = links {
            links.leave().await;
        }
        let flushed = tokio::time::timeout(grace, self.queue.flushed());
        if let Some(worker) = self.worker {
            worker.stop(grace).await;
        }
        if let Some(upkeep) = self.upkeep {
            match flushed.await {
                Ok(()) => upkeep.stop().await,
                // Its signs of life end, so that others queue again what it could not.
                Err(_) => {
                    tracing::warn!("the queue did not take all jobs; others find them in SQL")
                }
            }
        }
        self.modules.close();
        if let Some(server) = server {
            server.abort();
        }
        self.store.close().await;
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Removes files that were stored before this moment for tasks that never came to know them.
async fn sweep(store: &Store, before: SystemTime) {
    match store.sweep_files(before).await {
        Ok(0) => {}
        Ok(count) => tracing::info!("{count} files that belonged to no task were removed"),
        Err(error) => tracing::warn!("files that belong to no task cannot be removed: {error}"),
    }
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
