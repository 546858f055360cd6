//! What is loaded, and the plugins it provides: found in the plugin folders at the start, and changed by
//! administrators while runs go on.
//!
//! # Layout
//! - [`Module`]: one load of a module, with the hosts that belong to it. [`Table`]: all that is there at a moment.
//! - `loading`: from a file to the plugins it offers. `order`: which of those that need each other comes first.
//! - `change`: load, start, stop, reload, remove. `in_progress`: one change of a module at a time.
//! - `drain`: the end of a load.
//! - `folder_watch`: follows the plugin folders.
//! - `cache`: what is remembered over restarts.
//!
//! # Invariants
//! - The table is never changed, only replaced by another one, at once. Whoever has looked something up in one goes on
//!   with it; what it got says [`HostError::Closed`] if it came too late, and then a new look finds what there is now.
//! - A newer load of a module takes the place of the older one only when it is RUNNING. The older one takes no new
//!   runs from then on, and ends when those in progress have, or at a deadline.

mod cache;
mod change;
mod drain;
mod folder_watch;
mod in_progress;
mod loading;
mod module;
mod order;
mod table;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use runner_core::module::{Confinement, ModuleState, ModuleStatus};

use self::in_progress::InProgress;
use self::module::Source;
use self::order::Wish;
use crate::discovery::{Candidate, Discovery, Fetched};
use crate::environments::{Environments, EnvironmentsConfig, UNUSED};
use crate::folders::Folders;
use crate::host::Patience;
use crate::launcher::{Launcher, Limits};
use crate::loader::{LoaderEnvironment, Loaders};
use crate::manifest::NetworkRule;
use crate::pool::PoolConfig;
use crate::reading::ReadModule;
use crate::tap::Tap;
use crate::trust::Trust;
use crate::{HostError, sdk};

pub use self::cache::{Backlog, DescriptionCache, NoCache};
pub use self::change::{ChangeError, Ended, LoadRequest};
pub use self::folder_watch::FolderWatch;
pub use self::module::{Module, Provided};
pub use self::table::Table;

/// Modules that are described at the same time.
const DESCRIBED_AT_ONCE: usize = 4;

/// Settings of [`Modules`].
#[derive(Debug, Clone)]
pub struct ModulesConfig {
    /// Plugin folders, in order; only their top level is looked at.
    pub folders: Vec<PathBuf>,
    /// The instance folder: snapshots, SDKs and the folders of hosts lie below it.
    pub instance: PathBuf,
    /// Which modules may be loaded.
    pub trust: Trust,
    /// The `runner` program.
    pub runner: PathBuf,
    /// The Python interpreter.
    pub python: String,
    /// Which kinds of module there are.
    pub loaders: Loaders,
    /// How long hosts may take.
    pub patience: Patience,
    /// After this a host without work is ended.
    pub idle: Duration,
    /// Hosts of one module that may live at once.
    pub max_hosts: usize,
    /// Which modules may use the network.
    pub network: NetworkRule,
    /// What hosts may use where their manifest does not say it.
    pub limits: Limits,
    /// The virtual environments of Python modules.
    pub environments: EnvironmentsConfig,
    /// How long runs in progress may take to end when their module is stopped or replaced.
    pub drain: Duration,
}

/// What modules are loaded with.
struct Prepared {
    folders: Folders,
    hosting: PoolConfig,
}

/// All modules of this runner.
pub struct Modules {
    config: ModulesConfig,
    launcher: Launcher,
    cache: Arc<dyn DescriptionCache>,
    backlog: Arc<dyn Backlog>,
    environments: Environments,
    /// A place for each module that is being described.
    describing: Semaphore,
    /// Counts how often it was replaced.
    changes: watch::Sender<u64>,
    table: RwLock<Arc<Table>>,
    in_progress: InProgress,
    /// Held while hosts may live.
    folders: Mutex<Option<Folders>>,
    /// What pools share; there as soon as the plugin folders were gone through.
    hosting: watch::Sender<Option<PoolConfig>>,
    is_ready: watch::Sender<bool>,
}

impl Modules {
    /// Knows no module yet; [`Modules::load`] finds them.
    pub fn new(
        config: ModulesConfig,
        launcher: Launcher,
        cache: Arc<dyn DescriptionCache>,
        backlog: Arc<dyn Backlog>,
    ) -> Arc<Self> {
        metrics::describe_counter!(
            "runner_host_starts_total",
            "Processes of modules that were started, or failed to."
        );
        Arc::new(Self {
            environments: Environments::new(config.environments.clone(), config.python.clone()),
            describing: Semaphore::new(DESCRIBED_AT_ONCE),
            config,
            launcher,
            cache,
            backlog,
            changes: watch::Sender::new(0),
            table: RwLock::default(),
            in_progress: InProgress::default(),
            folders: Mutex::default(),
            hosting: watch::Sender::new(None),
            is_ready: watch::Sender::new(false),
        })
    }

    /// The modules as they are now.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tasks that are queued for each of these plugins.
    pub async fn queued(&self, plugins: &[String]) -> Vec<u64> {
        self.backlog.queued(plugins).await
    }

    /// Tells whenever the table was replaced.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether every module was described, or failed.
    pub fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    /// Waits until every module was described, or failed.
    pub async fn ready(&self) {
        let mut is_ready = self.is_ready.subscribe();
        // The sender lives as long as self.
        let _ = is_ready.wait_for(|ready| *ready).await;
    }

    /// How hosts are confined on this machine.
    pub fn sandbox(&self) -> Confinement {
        self.launcher.sandbox()
    }

    /// Finds and loads all modules of the plugin folders, and those that were fetched. The former are loaded while
    /// the latter are fetched. A module that fails takes no other down.
    ///
    /// # Errors
    /// The instance folder cannot be used.
    pub async fn load(
        self: &Arc<Self>,
        fetched: impl Future<Output = Vec<Fetched>>,
    ) -> Result<(), HostError> {
        let prepared = self.make_folders().await?;
        let folders = self.config.folders.clone();
        let mut names = BTreeSet::new();
        let find = move |discovery: &Discovery<'_>| {
            let found = discovery.discover(&folders, &mut names);
            (names, found)
        };
        let (mut names, found) = self.find(find, None).await?;
        let (taken, fetched) = tokio::join!(self.take(found, None, &prepared.hosting), fetched);
        taken?;
        let find = move |discovery: &Discovery<'_>| discovery.look_at_fetched(fetched, &mut names);
        let found = self.find(find, None).await?;
        self.take(found, None, &prepared.hosting).await?;
        self.settle(prepared).await;
        self.prune_environments().await;
        Ok(())
    }

    /// Loads one file or folder, and nothing else; with this loader if one is named.
    ///
    /// # Errors
    /// The instance folder cannot be used. What is wrong with the module stands in its status.
    pub async fn load_only(
        self: &Arc<Self>,
        path: &Path,
        loader: Option<&str>,
    ) -> Result<(), HostError> {
        let prepared = self.make_folders().await?;
        let (path, forced) = (path.to_owned(), loader.map(str::to_owned));
        let find = move |discovery: &Discovery<'_>| vec![discovery.look_at_one(&path)];
        let found = self.find(find, forced.clone()).await?;
        self.take(found, forced, &prepared.hosting).await?;
        self.settle(prepared).await;
        Ok(())
    }

    async fn make_folders(&self) -> Result<Prepared, HostError> {
        let instance = self.config.instance.clone();
        let made = tokio::task::spawn_blocking(move || {
            let folders = Folders::make(&instance)?;
            let sdk = sdk::unpack(&folders.sdk)?;
            Ok::<_, HostError>((folders, sdk))
        });
        let (folders, sdk) = made
            .await
            .map_err(|error| HostError::Module(format!("making folders failed: {error}")))??;
        let hosting = self.hosting(&folders, sdk);
        Ok(Prepared { folders, hosting })
    }

    /// Looks for modules.
    async fn find<T: Send + 'static>(
        &self,
        find: impl FnOnce(&Discovery<'_>) -> T + Send + 'static,
        forced: Option<String>,
    ) -> Result<T, HostError> {
        let config = self.config.clone();
        let looked =
            tokio::task::spawn_blocking(move || find(&config.discovery(forced.as_deref())));
        looked
            .await
            .map_err(|error| HostError::Module(format!("looking for modules failed: {error}")))
    }

    /// Reads modules, loads them in waves, each after what it waits for, and puts their plugins into the table.
    async fn take(
        self: &Arc<Self>,
        candidates: Vec<Candidate>,
        forced: Option<String>,
        hosting: &PoolConfig,
    ) -> Result<(), HostError> {
        let wishes: Vec<Wish<'_>> = candidates
            .iter()
            .map(|candidate| Wish {
                name: &candidate.name,
                manifest: candidate.found.as_ref().ok().map(|found| &found.manifest),
            })
            .collect();
        let order = order::waves(&wishes, &is_set);
        let modules: Vec<Arc<Module>> = candidates
            .iter()
            .map(|candidate| {
                let source = Source {
                    path: candidate.path.clone(),
                    name: None,
                    args: None,
                    loader: forced.clone(),
                    origin: runner_core::module::Origin::Folder,
                };
                self.module(candidate, source, Arc::default())
            })
            .collect();
        self.replace(|table| table.modules.extend(modules.iter().cloned()));
        let read = self
            .read(modules.iter().zip(candidates).collect(), hosting)
            .await?;
        let mut waves: Vec<Vec<(Arc<Module>, ReadModule)>> = Vec::new();
        for ((module, read), wave) in modules.into_iter().zip(read).zip(order) {
            match (wave, read) {
                (Ok(wave), Ok(read)) => {
                    waves.resize_with(waves.len().max(wave + 1), Vec::new);
                    waves[wave].push((module, read));
                }
                (Err(reason), _) => module.fail(&reason),
                (_, Err(error)) => module.fail(&error.to_string()),
            }
        }
        for wave in waves {
            self.load_wave(wave, hosting).await;
        }
        Ok(())
    }

    /// Loads modules that do not wait for each other: those that are known at once, then the others beside each other.
    async fn load_wave(
        self: &Arc<Self>,
        wave: Vec<(Arc<Module>, ReadModule)>,
        hosting: &PoolConfig,
    ) {
        let is_known = |read: &ReadModule| read.remembered.is_some() && read.environment.is_none();
        let (known, unknown): (Vec<_>, Vec<_>) =
            wave.into_iter().partition(|(_, read)| is_known(read));
        let mut all = Vec::with_capacity(known.len());
        for (module, read) in known {
            match self.prepare(&module, read, hosting.clone()).await {
                Ok(provided) => all.push((module, provided)),
                Err(error) => module.fail(&error.to_string()),
            }
        }
        self.provide(all);
        let loading = unknown.into_iter().map(|(module, read)| {
            let (modules, hosting) = (Arc::clone(self), hosting.clone());
            async move {
                match modules.prepare(&module, read, hosting).await {
                    Ok(provided) => modules.provide(vec![(module, provided)]),
                    Err(error) => module.fail(&error.to_string()),
                }
            }
        });
        futures::future::join_all(loading).await;
    }

    /// From here on modules can be changed.
    async fn settle(&self, prepared: Prepared) {
        self.is_ready.send_replace(true);
        self.sweep_snapshots(prepared.folders).await;
        self.hosting.send_replace(Some(prepared.hosting));
    }

    /// Removes environments that were needed long ago.
    async fn prune_environments(&self) {
        if !self.config.environments.makes {
            return;
        }
        let table = self.table();
        let kept = table.modules.iter();
        let kept = kept.filter_map(|module| module.status().environment);
        match self.environments.prune(kept.collect(), UNUSED).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(
                "removed environments that were not used for 30 days: {}",
                removed.join(", ")
            ),
            Err(error) => tracing::warn!("old environments cannot be removed: {error}"),
        }
    }

    /// What all pools share.
    fn hosting(&self, folders: &Folders, sdk: PathBuf) -> PoolConfig {
        PoolConfig {
            launcher: self.launcher.clone(),
            environment: LoaderEnvironment {
                runner: self.config.runner.clone(),
                sdk,
                python: self.config.python.clone(),
            },
            hosts: folders.hosts.clone(),
            patience: self.config.patience,
            idle: self.config.idle,
            max_hosts: self.config.max_hosts,
            root: folders.root.clone(),
            network: self.config.network,
            limits: self.config.limits.clone(),
        }
    }

    /// Ends all idle hosts.
    pub fn close(&self) {
        let table = self.table();
        for module in table.modules.iter().chain(&table.replaced) {
            if let Some(pool) = module.pool() {
                pool.close();
            }
        }
    }

    /// A load that begins.
    fn module(&self, candidate: &Candidate, source: Source, tap: Arc<Tap>) -> Arc<Module> {
        let found = candidate.found.as_ref();
        let own = || found.map(|found| found.manifest.args.clone());
        let args = source.args.clone().or_else(|| own().ok());
        let status = ModuleStatus {
            name: candidate.name.clone(),
            path: candidate.path.display().to_string(),
            loader: found.map_or("", |found| found.loader.name()).to_owned(),
            sha256: String::new(),
            size: 0,
            uuid: uuid::Uuid::new_v4().to_string(),
            state: ModuleState::Init,
            reason: None,
            doing: None,
            environment: None,
            plugins: Vec::new(),
            sandbox: self.launcher.sandbox().to_string(),
            failed: false,
            origin: source.origin,
            args: args.unwrap_or_default(),
            idle_seconds: None,
            refused: None,
        };
        Module::new(status, source, tap)
    }

    /// Replaces the table by a changed one.
    fn replace(&self, change: impl FnOnce(&mut Table)) {
        let replaced = self.try_replace(|table| {
            change(table);
            Ok(())
        });
        // Nothing can go wrong.
        let _: Result<(), HostError> = replaced;
    }

    /// Replaces the table by a changed one, unless that is refused.
    fn try_replace<T, E>(&self, change: impl FnOnce(&mut Table) -> Result<T, E>) -> Result<T, E> {
        let changed = {
            let mut write = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let mut table = (**write).clone();
            let changed = change(&mut table)?;
            *write = Arc::new(table);
            changed
        };
        self.changes.send_modify(|count| *count += 1);
        Ok(changed)
    }

    /// Removes snapshots of modules that are loaded no more.
    async fn sweep_snapshots(&self, folders: Folders) {
        let table = self.table();
        let kept: HashSet<String> = table.modules.iter().map(|module| module.digest()).collect();
        let swept = tokio::task::spawn_blocking(move || {
            let swept = folders.sweep_modules(&kept);
            (folders, swept)
        });
        let Ok((folders, swept)) = swept.await else {
            return;
        };
        if let Err(error) = swept {
            tracing::warn!("old copies of modules cannot be removed: {error}");
        }
        *self.folders.lock().unwrap_or_else(PoisonError::into_inner) = Some(folders);
    }
}

impl ModulesConfig {
    /// How files are looked at, with this loader if one is named.
    fn discovery<'a>(&'a self, forced: Option<&'a str>) -> Discovery<'a> {
        Discovery {
            loaders: &self.loaders,
            beside: self.runner.parent().unwrap_or(Path::new("/")),
            forced,
        }
    }
}

/// Whether a variable is set here.
fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}
