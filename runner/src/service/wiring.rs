//! The rooms of a process, each made of its settings and of the rooms that it stands on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use runner_fetch::{FetchConfig, Fetcher, Proxies};
use runner_host::Modules;
use runner_queue::{Queue, RedisConfig};
use runner_server::auth::Auth;
use runner_server::{App, SageCell, ServerConfig, Sight, SightParts};
use runner_store::{Store, StoreConfig, WorkerRow};
use runner_worker::{Keeping, StoreCache, StoreLedger, Tools, UpkeepConfig, Worker, WorkerConfig};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::kernels::Kernels;
use super::running::Server;
use super::{MAX_ATTEMPTS, Process, Role, WEBHOOK_TIMEOUT, host_name};
use crate::instance::{self, Holder, Lock};
use crate::roster;
use crate::settings::Only;

/// How long `GET /plugins/` waits for modules that are being described.
const PLUGINS_WAIT: Duration = Duration::from_secs(4);

impl Process {
    /// The URL by which clients know the runner, for tasks that no request made.
    pub(super) fn own_url(&self, address: Option<SocketAddr>) -> String {
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

    pub(super) async fn listen(
        &self,
        lock: &mut Lock,
    ) -> anyhow::Result<(TcpListener, SocketAddr)> {
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
    pub(super) async fn listen_for_watchers(&self) -> anyhow::Result<Option<TcpListener>> {
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

    pub(super) fn sight(&self, store: &Store, queue: &Queue, modules: &Arc<Modules>) -> Sight {
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

    pub(super) async fn open_store(&self) -> anyhow::Result<Store> {
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
    pub(super) fn queue_name(&self) -> String {
        let name = &self.settings.queue;
        match self.role == Role::Both && self.settings.database.is_server() {
            true => format!("{name}-{}", instance::digest(&self.token)),
            false => name.clone(),
        }
    }

    pub(super) async fn open_queue(&self, store: &Store) -> anyhow::Result<Queue> {
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

    pub(super) fn modules(&self, store: &Store, queue: &Queue) -> Arc<Modules> {
        let settings = &self.settings;
        Modules::new(
            settings.modules(
                self.instance.clone(),
                self.runner.clone(),
                settings.environments(&self.instance, true),
            ),
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
    pub(super) fn runs_tasks(&self) -> bool {
        let is_worker = self.role == Role::Worker;
        self.role.works() && !(is_worker && self.settings.only == Some(Only::Sessions))
    }

    pub(super) fn start_server(
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
    pub(super) fn app(
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

    pub(super) async fn start_worker(
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
    pub(super) fn tools(
        &self,
        store: &Store,
        queue: &Queue,
        modules: &Arc<Modules>,
    ) -> anyhow::Result<Tools> {
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
    pub(super) fn row(&self) -> WorkerRow {
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

    pub(super) fn upkeep(&self, modules: &Arc<Modules>) -> UpkeepConfig {
        UpkeepConfig {
            row: roster::follow(self.row(), modules),
            lease: self.settings.worker_lease,
            max_attempts: MAX_ATTEMPTS,
        }
    }
}
