//! What is loaded, and the plugins it provides.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::StreamExt;
use tokio::sync::watch;

use runner_core::file::FileStat;
use runner_core::identity::Identity;
use runner_core::module::{Confinement, HostStatus, ModuleState, ModuleStatus};
use runner_core::plugin::{Description, MAX_PLUGINS, Plugin};

use crate::digest::ModuleFile;
use crate::discovery::{Candidate, Discovery, Fetched};
use crate::folders::Folders;
use crate::host::Patience;
use crate::launcher::{Launcher, Limits};
use crate::loader::{LoaderEnvironment, Loaders, Look};
use crate::manifest::{Manifest, NetworkRule, RunRules};
use crate::pool::{Hosts, Lease, Pool, PoolConfig};
use crate::reading::{self, Depends, ReadModule, Reading};
use crate::trust::Trust;
use crate::web::WebConnection;
use crate::{HostError, sdk};

/// The most files outside of a module that its description may depend on.
const MAX_DEPENDS: usize = 1_000;
/// Modules that are described at the same time.
const DESCRIBED_AT_ONCE: usize = 4;

/// Remembers descriptions and digests over restarts. A miss is never an error.
pub trait DescriptionCache: Send + Sync {
    /// The descriptions of those keys that are known.
    fn descriptions<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, HashMap<String, String>>;
    /// Remembers a description.
    fn put_description<'a>(&'a self, key: &'a str, description: &'a str) -> BoxFuture<'a, ()>;
    /// The digests of those files that have not changed.
    fn file_digests<'a>(
        &'a self,
        stats: &'a [FileStat],
    ) -> BoxFuture<'a, HashMap<FileStat, String>>;
    /// Remembers digests.
    fn put_file_digests<'a>(&'a self, digests: &'a [(FileStat, String)]) -> BoxFuture<'a, ()>;
}

/// Remembers nothing: what is known of modules lives as long as their table.
#[derive(Debug, Clone, Copy)]
pub struct NoCache;

impl DescriptionCache for NoCache {
    fn descriptions<'a>(&'a self, _: &'a [String]) -> BoxFuture<'a, HashMap<String, String>> {
        Box::pin(async { HashMap::new() })
    }

    fn put_description<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn file_digests<'a>(&'a self, _: &'a [FileStat]) -> BoxFuture<'a, HashMap<FileStat, String>> {
        Box::pin(async { HashMap::new() })
    }

    fn put_file_digests<'a>(&'a self, _: &'a [(FileStat, String)]) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

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
}

/// A module that was found.
#[derive(Debug)]
pub struct Module {
    status: Mutex<ModuleStatus>,
    pool: Mutex<Option<Arc<Pool>>>,
}

/// What modules are loaded with.
struct Prepared {
    folders: Folders,
    pools: PoolConfig,
}

/// A module whose hosts can be started, on its way to what it offers.
struct Opened {
    pool: Arc<Pool>,
    manifest: Manifest,
    /// Of its description.
    key: String,
}

/// A plugin and the module that provides it.
#[derive(Debug, Clone)]
pub struct Provided {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Its module.
    pub module: Arc<Module>,
}

/// All modules of this runner.
pub struct Modules {
    config: ModulesConfig,
    launcher: Launcher,
    cache: Arc<dyn DescriptionCache>,
    table: RwLock<Arc<Table>>,
    /// Held while hosts may live.
    folders: Mutex<Option<Folders>>,
    is_ready: watch::Sender<bool>,
}

/// A state of the modules; never changed, only replaced.
#[derive(Debug, Default, Clone)]
pub struct Table {
    /// In the order in which they were found.
    pub modules: Vec<Arc<Module>>,
    /// By identifier.
    plugins: BTreeMap<String, Provided>,
    /// Sorted by name and version.
    sorted: Vec<Provided>,
}

impl Table {
    /// The plugin with this identifier.
    pub fn plugin(&self, identifier: &str) -> Option<&Provided> {
        self.plugins.get(identifier)
    }

    /// All plugins by name, then version.
    pub fn plugins(&self) -> &[Provided] {
        &self.sorted
    }

    /// The newest version of a plugin, by PEP 440.
    pub fn newest(&self, name: &str) -> Option<&Provided> {
        self.sorted
            .iter()
            .rfind(|provided| provided.plugin.identity.name() == name)
    }

    /// To be followed by [`Table::sort`].
    fn add(&mut self, plugins: Vec<Provided>) {
        for provided in plugins {
            self.plugins
                .insert(provided.plugin.identifier.clone(), provided);
        }
    }

    fn sort(&mut self) {
        self.sorted = self.plugins.values().cloned().collect();
        self.sorted
            .sort_by(|a, b| a.plugin.identity.cmp(&b.plugin.identity));
    }
}

impl Module {
    /// What administrators see.
    pub fn status(&self) -> ModuleStatus {
        let mut status = self
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(why) = self.pool().and_then(|pool| pool.failure()) {
            status.failed = true;
            status.reason = Some(why);
        }
        status
    }

    /// All its living hosts.
    pub fn hosts(&self) -> Vec<HostStatus> {
        self.pool().map(|pool| pool.living()).unwrap_or_default()
    }

    /// Its name, and where it is in its life.
    pub fn name_and_state(&self) -> (String, ModuleState) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        (status.name.clone(), status.state)
    }

    /// What it is, found out without starting it; `None` if it is not loaded.
    pub fn look(&self) -> Option<Look> {
        self.pool().map(|pool| pool.look())
    }

    /// Pids of its hosts that wait for work.
    pub fn idle_hosts(&self) -> Vec<i32> {
        self.pool().map(|pool| pool.idle_pids()).unwrap_or_default()
    }

    /// How many of its hosts live.
    pub fn count_hosts(&self) -> Hosts {
        self.pool().map(|pool| pool.hosts()).unwrap_or_default()
    }

    /// A host for one run; waits while the most hosts are busy.
    ///
    /// # Errors
    /// The module is not running, or its host cannot be started.
    pub async fn lease(&self) -> Result<Lease, HostError> {
        self.running()?.lease().await
    }

    /// What it says about its runs.
    pub fn run_rules(&self) -> RunRules {
        self.pool().map(|pool| pool.run_rules()).unwrap_or_default()
    }

    /// A connection for one request to a route of one of its plugins.
    ///
    /// # Errors
    /// The module is not running or busy, or its web host cannot be started.
    pub async fn visit(&self) -> Result<WebConnection, HostError> {
        self.running()?.visit().await
    }

    /// The pool of its hosts.
    pub(crate) fn running(&self) -> Result<Arc<Pool>, HostError> {
        self.pool().ok_or_else(|| {
            HostError::Module(format!("the module {} is not running", self.status().name))
        })
    }

    fn pool(&self) -> Option<Arc<Pool>> {
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes the pool of its hosts. Answers its description too, if that is remembered.
    fn open(&self, read: ReadModule, config: PoolConfig) -> (Opened, Option<Description>) {
        let status = self.status();
        let manifest = read.found.manifest.clone();
        let pool = Pool::new(
            config,
            read.found.loader,
            read.entry,
            read.snapshot,
            read.origin,
            read.found.manifest,
            status.name,
            status.uuid,
        );
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pool));
        let opened = Opened {
            pool,
            manifest,
            key: read.key,
        };
        (opened, read.remembered)
    }

    fn change(&self, change: impl FnOnce(&mut ModuleStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn exit(&self, reason: &str) {
        self.change(|status| {
            tracing::error!(
                module = status.name,
                path = status.path,
                "the module was not loaded: {reason}"
            );
            status.state = ModuleState::Exited;
            status.reason = Some(reason.to_owned());
            status.plugins.clear();
        });
        let pool = self
            .pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(pool) = pool {
            pool.close();
        }
    }
}

impl Modules {
    /// Knows no module yet; [`Modules::load`] finds them.
    pub fn new(
        config: ModulesConfig,
        launcher: Launcher,
        cache: Arc<dyn DescriptionCache>,
    ) -> Arc<Self> {
        metrics::describe_counter!(
            "runner_host_starts_total",
            "Processes of modules that were started, or failed to."
        );
        Arc::new(Self {
            config,
            launcher,
            cache,
            table: RwLock::default(),
            folders: Mutex::default(),
            is_ready: watch::Sender::new(false),
        })
    }

    /// The modules as they are now.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
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
        let prepared = self.prepare().await?;
        let folders = self.config.folders.clone();
        let mut names = BTreeSet::new();
        let find = move |discovery: &Discovery<'_>| {
            let found = discovery.discover(&folders, &mut names);
            (names, found)
        };
        let (mut names, found) = self.find(find, None).await?;
        let (taken, fetched) = tokio::join!(self.take(found, &prepared), fetched);
        taken?;
        let find = move |discovery: &Discovery<'_>| discovery.look_at_fetched(fetched, &mut names);
        let found = self.find(find, None).await?;
        self.take(found, &prepared).await?;
        self.is_ready.send_replace(true);
        self.sweep_snapshots(prepared.folders).await;
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
        let prepared = self.prepare().await?;
        let path = path.to_owned();
        let find = move |discovery: &Discovery<'_>| vec![discovery.look_at_one(&path)];
        let found = self.find(find, loader.map(str::to_owned)).await?;
        self.take(found, &prepared).await?;
        self.is_ready.send_replace(true);
        self.sweep_snapshots(prepared.folders).await;
        Ok(())
    }

    async fn prepare(&self) -> Result<Prepared, HostError> {
        let instance = self.config.instance.clone();
        let made = tokio::task::spawn_blocking(move || {
            let folders = Folders::make(&instance)?;
            let sdk = sdk::unpack(&folders.sdk)?;
            Ok::<_, HostError>((folders, sdk))
        });
        let (folders, sdk) = made
            .await
            .map_err(|error| HostError::Module(format!("making folders failed: {error}")))??;
        let pools = PoolConfig {
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
        };
        Ok(Prepared { folders, pools })
    }

    /// Looks for modules.
    async fn find<T: Send + 'static>(
        &self,
        find: impl FnOnce(&Discovery<'_>) -> T + Send + 'static,
        forced: Option<String>,
    ) -> Result<T, HostError> {
        let loaders = self.config.loaders.clone();
        let runner = self.config.runner.clone();
        let looked = tokio::task::spawn_blocking(move || {
            find(&Discovery {
                loaders: &loaders,
                beside: runner.parent().unwrap_or(Path::new("/")),
                forced: forced.as_deref(),
            })
        });
        looked
            .await
            .map_err(|error| HostError::Module(format!("looking for modules failed: {error}")))
    }

    /// Reads modules, describes those that are not known, and puts all into the table.
    async fn take(
        self: &Arc<Self>,
        candidates: Vec<Candidate>,
        prepared: &Prepared,
    ) -> Result<(), HostError> {
        let modules: Vec<Arc<Module>> = candidates
            .iter()
            .map(|candidate| Arc::new(self.module(candidate)))
            .collect();
        self.replace(|table| Table {
            modules: [&table.modules[..], &modules[..]].concat(),
            ..table.clone()
        });
        let reading = Reading {
            cache: &*self.cache,
            snapshots: &prepared.folders.modules,
            environment: &prepared.pools.environment,
            trust: &self.config.trust,
        };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for (module, outcome) in modules.into_iter().zip(reading.read(candidates).await?) {
            module.change(|status| {
                status.sha256 = outcome.digest;
                status.size = outcome.size;
            });
            match outcome.read {
                Ok(read) => match module.open(read, prepared.pools.clone()) {
                    (opened, Some(description)) => known.push((module, opened, description)),
                    (opened, None) => unknown.push((module, opened)),
                },
                Err(error) => module.exit(&error.to_string()),
            }
        }
        self.provide(known);
        let describing = futures::stream::iter(unknown).map(|(module, opened)| {
            let modules = Arc::clone(self);
            async move {
                match modules.describe(&opened).await {
                    Ok(description) => modules.provide(vec![(module, opened, description)]),
                    Err(error) => module.exit(&error.to_string()),
                }
            }
        });
        describing
            .buffer_unordered(DESCRIBED_AT_ONCE)
            .collect::<Vec<()>>()
            .await;
        Ok(())
    }

    /// Ends all idle hosts.
    pub fn close(&self) {
        for module in &self.table().modules {
            if let Some(pool) = module.pool() {
                pool.close();
            }
        }
    }

    fn module(&self, candidate: &Candidate) -> Module {
        let loader = candidate
            .found
            .as_ref()
            .map_or("", |found| found.loader.name())
            .to_owned();
        Module {
            status: Mutex::new(ModuleStatus {
                name: candidate.name.clone(),
                path: candidate.path.display().to_string(),
                loader,
                sha256: String::new(),
                size: 0,
                uuid: uuid::Uuid::new_v4().to_string(),
                state: ModuleState::Init,
                reason: None,
                plugins: Vec::new(),
                sandbox: self.launcher.sandbox().to_string(),
                failed: false,
            }),
            pool: Mutex::new(None),
        }
    }

    /// Asks a module what it offers, and remembers the answer.
    async fn describe(&self, opened: &Opened) -> Result<Description, HostError> {
        let pool = &opened.pool;
        refuse_what_is_broken(pool).await?;
        let answer = pool.lease().await?.describe().await?;
        let description: Description = serde_json::from_value(answer).map_err(|error| {
            HostError::Module(format!("its description is not usable: {error}"))
        })?;
        if description.depends.len() > MAX_DEPENDS {
            return Err(HostError::Module(format!(
                "it depends on more than {MAX_DEPENDS} files"
            )));
        }
        let mut files = Vec::new();
        for path in &description.depends {
            if !pool.is_in_origin(Path::new(path)) {
                return Err(HostError::Module(format!(
                    "it says that it depends on {path}, which is not in its plugin folder"
                )));
            }
            files.push(ModuleFile::new(PathBuf::from(path), String::new())?);
        }
        let digests = reading::content_digests(&*self.cache, files.clone()).await?;
        let depends: Option<Vec<Depends>> = files
            .into_iter()
            .map(|file| Some((file.source, digests.get(&file.stat)?.clone())))
            .collect();
        // What depends on a file that cannot be read is asked again at the next start.
        if let Some(depends) = depends
            && let Ok(text) = serde_json::to_string(&(&description, depends))
        {
            self.cache.put_description(&opened.key, &text).await;
        }
        Ok(description)
    }

    /// Checks the plugins of modules and puts them into the table, all in one step.
    fn provide(&self, described: Vec<(Arc<Module>, Opened, Description)>) {
        let mut write = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = (**write).clone();
        for (module, opened, mut description) in described {
            let declared = opened.manifest.declare(&mut description);
            if let Err(error) =
                declared.and_then(|()| provide_one(&mut table, &module, description))
            {
                module.exit(&error.to_string());
            }
        }
        table.sort();
        *write = Arc::new(table);
    }

    fn replace(&self, change: impl FnOnce(&Table) -> Table) {
        let mut write = self.table.write().unwrap_or_else(PoisonError::into_inner);
        *write = Arc::new(change(&write));
    }

    /// Removes snapshots of modules that are loaded no more.
    async fn sweep_snapshots(&self, folders: Folders) {
        let kept: HashSet<String> = self
            .table()
            .modules
            .iter()
            .map(|module| module.status().sha256)
            .collect();
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

/// Of two modules that offer one identity, the one that was found first keeps it, whichever was described first.
fn provide_one(
    table: &mut Table,
    module: &Arc<Module>,
    description: Description,
) -> Result<(), HostError> {
    if description.plugins.is_empty() {
        return Err(HostError::Module("it offers no plugin".to_owned()));
    }
    if description.plugins.len() > MAX_PLUGINS {
        return Err(HostError::Module(format!(
            "it offers more than {MAX_PLUGINS} plugins"
        )));
    }
    let mut provided: Vec<Provided> = Vec::new();
    let mut identifiers = HashSet::new();
    for plugin in description.plugins {
        let plugin = Plugin::new(plugin).map_err(|error| HostError::Module(error.to_string()))?;
        if !identifiers.insert(plugin.identifier.clone()) {
            return Err(HostError::Module(format!(
                "it offers {} twice",
                plugin.identifier
            )));
        }
        provided.push(Provided {
            plugin: Arc::new(plugin),
            module: Arc::clone(module),
        });
    }
    let position = |table: &Table, module: &Arc<Module>| {
        table
            .modules
            .iter()
            .position(|other| Arc::ptr_eq(other, module))
    };
    for one in &provided {
        let Some(other) = table.plugin(&one.plugin.identifier).cloned() else {
            continue;
        };
        if position(table, &other.module) < position(table, module) {
            return Err(twice(&one.plugin.identity, &other.module));
        }
        table
            .plugins
            .retain(|_, provided| !Arc::ptr_eq(&provided.module, &other.module));
        other
            .module
            .exit(&twice(&one.plugin.identity, module).to_string());
    }
    module.change(|status| {
        status.state = ModuleState::Running;
        status.plugins = provided
            .iter()
            .map(|one| one.plugin.identifier.clone())
            .collect();
    });
    table.add(provided);
    Ok(())
}

fn twice(identity: &Identity, other: &Module) -> HostError {
    let other = other.status();
    HostError::Module(format!(
        "the plugin {} is already provided by the module {} ({})",
        identity.identifier(),
        other.name,
        other.path
    ))
}

/// What can be seen without starting a host is not tried with one.
async fn refuse_what_is_broken(pool: &Arc<Pool>) -> Result<(), HostError> {
    let looked = Arc::clone(pool);
    match tokio::task::spawn_blocking(move || looked.look()).await {
        Ok(Look {
            problem: Some(problem),
            ..
        }) => Err(HostError::Module(problem)),
        _ => Ok(()),
    }
}
