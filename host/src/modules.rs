//! What is loaded, and the plugins it provides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use runner_core::file::FileStat;
use runner_core::identity::Identity;
use runner_core::module::{Confinement, HostStatus, ModuleState, ModuleStatus};
use runner_core::plugin::{Description, MAX_PLUGINS, Plugin};

use crate::digest::{self, ModuleFile};
use crate::discovery::{Candidate, Discovery, Found};
use crate::environments::{Environment, Environments, EnvironmentsConfig, Requirements, UNUSED};
use crate::folders::Folders;
use crate::host::Patience;
use crate::launcher::{Launcher, Limits};
use crate::loader::{LoaderEnvironment, Loaders, Look};
use crate::manifest::{NetworkRule, RunRules};
use crate::pool::{Hosts, Lease, Pool, PoolConfig};
use crate::web::WebConnection;
use crate::{HostError, sdk};

/// The most files outside of a module that its description may depend on.
const MAX_DEPENDS: usize = 1_000;
/// Modules that are described at the same time.
const DESCRIBED_AT_ONCE: usize = 4;

/// Remembers descriptions and digests over restarts. A miss is never an error.
pub trait DescriptionCache: Send + Sync {
    /// The description of this key.
    fn description<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<String>>;
    /// Remembers a description.
    fn put_description<'a>(&'a self, key: &'a str, description: &'a str) -> BoxFuture<'a, ()>;
    /// The digest of a file that has not changed.
    fn file_digest<'a>(&'a self, stat: &'a FileStat) -> BoxFuture<'a, Option<String>>;
    /// Remembers digests.
    fn put_file_digests<'a>(&'a self, digests: &'a [(FileStat, String)]) -> BoxFuture<'a, ()>;
}

/// Remembers nothing: what is known of modules lives as long as their table.
#[derive(Debug, Clone, Copy)]
pub struct NoCache;

impl DescriptionCache for NoCache {
    fn description<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn put_description<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn file_digest<'a>(&'a self, _: &'a FileStat) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
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
}

/// A module that was found.
#[derive(Debug)]
pub struct Module {
    status: Mutex<ModuleStatus>,
    pool: Mutex<Option<Arc<Pool>>>,
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
    environments: Environments,
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

    fn with(&self, plugins: Vec<Provided>) -> Self {
        let mut table = self.clone();
        for provided in plugins {
            table
                .plugins
                .insert(provided.plugin.identifier.clone(), provided);
        }
        table.sorted = table.plugins.values().cloned().collect();
        table
            .sorted
            .sort_by(|a, b| a.plugin.identity.cmp(&b.plugin.identity));
        table
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
            status.doing = None;
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
            environments: Environments::new(config.environments.clone(), config.python.clone()),
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

    /// Finds and loads all modules of the plugin folders. A module that fails takes no other down.
    ///
    /// # Errors
    /// The instance folder cannot be used.
    pub async fn load(self: &Arc<Self>) -> Result<(), HostError> {
        let folders = self.config.folders.clone();
        self.load_found(move |discovery| discovery.discover(&folders), None)
            .await?;
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
        let path = path.to_owned();
        let find = move |discovery: &Discovery<'_>| vec![discovery.look_at_one(&path)];
        self.load_found(find, loader.map(str::to_owned)).await
    }

    async fn load_found(
        self: &Arc<Self>,
        find: impl FnOnce(&Discovery<'_>) -> Vec<Candidate> + Send + 'static,
        forced: Option<String>,
    ) -> Result<(), HostError> {
        let instance = self.config.instance.clone();
        let loaders = self.config.loaders.clone();
        let beside = self
            .config
            .runner
            .parent()
            .unwrap_or(Path::new("/"))
            .to_owned();
        let prepared = tokio::task::spawn_blocking(move || {
            let folders = Folders::make(&instance)?;
            let sdk = sdk::unpack(&folders.sdk)?;
            let discovery = Discovery {
                loaders: &loaders,
                beside: &beside,
                forced: forced.as_deref(),
            };
            Ok::<_, HostError>((folders, sdk, find(&discovery)))
        });
        let (folders, sdk, candidates) = prepared
            .await
            .map_err(|error| HostError::Module(format!("looking for modules failed: {error}")))??;
        let config = PoolConfig {
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
        let found: Vec<(Arc<Module>, Candidate)> = candidates
            .into_iter()
            .map(|candidate| (Arc::new(self.module(&candidate)), candidate))
            .collect();
        self.replace(|table| Table {
            modules: found.iter().map(|(module, _)| Arc::clone(module)).collect(),
            ..table.clone()
        });
        let places = Arc::new(Semaphore::new(DESCRIBED_AT_ONCE));
        let loading = found.into_iter().map(|(module, candidate)| {
            let (modules, config) = (Arc::clone(self), config.clone());
            let places = Arc::clone(&places);
            async move {
                let loaded = modules.load_one(&module, candidate, config, &places).await;
                if let Err(error) = loaded {
                    module.exit(&error.to_string());
                }
            }
        });
        futures::future::join_all(loading).await;
        self.is_ready.send_replace(true);
        self.sweep_snapshots(folders).await;
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
                doing: None,
                environment: None,
                plugins: Vec::new(),
                sandbox: self.launcher.sandbox().to_string(),
                failed: false,
            }),
            pool: Mutex::new(None),
        }
    }

    async fn load_one(
        &self,
        module: &Arc<Module>,
        candidate: Candidate,
        config: PoolConfig,
        places: &Semaphore,
    ) -> Result<(), HostError> {
        let found = candidate.found?;
        // Others are loaded in the meantime.
        let environment = self.environment(module, &candidate.path, &found).await?;
        let _place = places.acquire().await;
        let (files, root, entry) = files(&candidate.path, &found)?;
        let contents = self.content_digests(&files).await?;
        let digest = {
            let pairs: Vec<_> = files
                .iter()
                .zip(contents.iter().map(String::as_str))
                .collect();
            digest::digest(&pairs)
        };
        module.change(|status| {
            status.sha256.clone_from(&digest);
            status.size = files.iter().map(|file| file.size).sum();
        });
        let snapshots = self.config.instance.join("modules");
        let snapshot_digest = digest.clone();
        let snapshot = tokio::task::spawn_blocking(move || {
            let pairs: Vec<_> = files
                .iter()
                .zip(contents.iter().map(String::as_str))
                .collect();
            digest::snapshot(&snapshots, &root, &pairs, &snapshot_digest)
        })
        .await
        .map_err(|error| HostError::Module(format!("copying the module failed: {error}")))??;
        let entry = match entry.as_os_str().is_empty() {
            true => snapshot.clone(),
            false => snapshot.join(entry),
        };
        let origin = candidate.path.parent().unwrap_or(Path::new("/")).to_owned();
        let origin = std::path::absolute(&origin).unwrap_or(origin);
        let key = digest::text_digest(
            &json!([
                digest,
                found.manifest,
                candidate.name,
                found.loader.name(),
                crate::protocol::PROTOCOL,
                config.environment.sdk,
                config.environment.python,
                environment.as_ref().map(|one| &one.digest),
            ])
            .to_string(),
        );
        let status = module.status();
        let manifest = found.manifest.clone();
        let pool = Pool::new(
            config,
            found.loader,
            entry,
            snapshot,
            origin,
            found.manifest,
            environment,
            status.name,
            status.uuid,
        );
        *module.pool.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pool));
        let mut description = match self.remembered(&key).await {
            Some(description) => description,
            None => {
                refuse_what_is_broken(&pool).await?;
                self.describe(&pool, &key).await?
            }
        };
        manifest.declare(&mut description)?;
        self.provide(module, description)
    }

    /// The environment of a module, if it needs one; made if it is not there, which may take minutes.
    async fn environment(
        &self,
        module: &Arc<Module>,
        path: &Path,
        found: &Found,
    ) -> Result<Option<Arc<Environment>>, HostError> {
        let wanted = Requirements::of(path, found)?;
        let Some(digest) = self.environments.digest(&wanted).await? else {
            return Ok(None);
        };
        let told = |what: &str| module.change(|status| status.doing = Some(what.to_owned()));
        module.change(|status| {
            status.environment = Some(digest.clone());
            status.doing = Some("waits for its environment".to_owned());
        });
        let environment = self.environments.get(&digest, &wanted, &told).await;
        module.change(|status| status.doing = None);
        environment.map(Some)
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

    async fn content_digests(&self, files: &[ModuleFile]) -> Result<Vec<String>, HostError> {
        let mut digests = Vec::with_capacity(files.len());
        let mut new = Vec::new();
        for file in files {
            if let Some(digest) = self.cache.file_digest(&file.stat).await {
                digests.push(digest);
                continue;
            }
            let source = file.source.clone();
            let digest = tokio::task::spawn_blocking(move || digest::content_digest(&source))
                .await
                .map_err(|error| {
                    HostError::Module(format!("reading the module failed: {error}"))
                })??;
            new.push((file.stat, digest.clone()));
            digests.push(digest);
        }
        if !new.is_empty() {
            self.cache.put_file_digests(&new).await;
        }
        Ok(digests)
    }

    /// The remembered description, if all that it depends on is as it was.
    async fn remembered(&self, key: &str) -> Option<Description> {
        let text = self.cache.description(key).await?;
        let (description, depends): (Description, Vec<(PathBuf, String)>) =
            serde_json::from_str(&text).ok()?;
        for (path, digest) in depends {
            let file = ModuleFile::new(path, String::new()).ok()?;
            let now = self
                .content_digests(std::slice::from_ref(&file))
                .await
                .ok()?;
            if now.first() != Some(&digest) {
                return None;
            }
        }
        Some(description)
    }

    async fn describe(&self, pool: &Arc<Pool>, key: &str) -> Result<Description, HostError> {
        let answer = pool.lease().await?.describe().await?;
        let description: Description = serde_json::from_value(answer).map_err(|error| {
            HostError::Module(format!("its description is not usable: {error}"))
        })?;
        let mut depends = Vec::new();
        if description.depends.len() > MAX_DEPENDS {
            return Err(HostError::Module(format!(
                "it depends on more than {MAX_DEPENDS} files"
            )));
        }
        for path in &description.depends {
            if !pool.is_in_origin(Path::new(path)) {
                return Err(HostError::Module(format!(
                    "it says that it depends on {path}, which is not in its plugin folder"
                )));
            }
            let file = ModuleFile::new(PathBuf::from(path), String::new())?;
            let digest = self.content_digests(std::slice::from_ref(&file)).await?;
            depends.push((file.source, digest.concat()));
        }
        if let Ok(text) = serde_json::to_string(&(&description, depends)) {
            self.cache.put_description(key, &text).await;
        }
        Ok(description)
    }

    /// Checks the plugins and puts them into the table. Of two modules that offer one identity, the one
    /// that was found first keeps it, whichever was described first.
    fn provide(&self, module: &Arc<Module>, description: Description) -> Result<(), HostError> {
        if description.plugins.is_empty() {
            return Err(HostError::Module("it offers no plugin".to_owned()));
        }
        if description.plugins.len() > MAX_PLUGINS {
            return Err(HostError::Module(format!(
                "it offers more than {MAX_PLUGINS} plugins"
            )));
        }
        let mut provided: Vec<Provided> = Vec::new();
        for plugin in description.plugins {
            let plugin =
                Plugin::new(plugin).map_err(|error| HostError::Module(error.to_string()))?;
            if provided
                .iter()
                .any(|other| other.plugin.identifier == plugin.identifier)
            {
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
        let mut write = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = (**write).clone();
        for one in &provided {
            let Some(other) = table.plugin(&one.plugin.identifier).cloned() else {
                continue;
            };
            if position(&table, &other.module) < position(&table, module) {
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
        *write = Arc::new(table.with(provided));
        Ok(())
    }

    fn replace(&self, change: impl FnOnce(&Table) -> Table) {
        let mut write = self.table.write().unwrap_or_else(PoisonError::into_inner);
        *write = Arc::new(change(&write));
    }

    /// Removes snapshots of modules that are loaded no more.
    async fn sweep_snapshots(&self, folders: Folders) {
        let kept: Vec<String> = self
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

/// The files of a module, the name of its copy, and the entry in it.
fn files(path: &Path, found: &Found) -> Result<(Vec<ModuleFile>, String, PathBuf), HostError> {
    let root = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("module")
        .to_owned();
    let Some(folder) = &found.folder else {
        let entry = PathBuf::from(&root);
        return Ok((
            vec![ModuleFile::new(found.entry.clone(), root)?],
            "module".to_owned(),
            entry,
        ));
    };
    let mut files = digest::files_of(folder)?;
    let entry = match found.entry.strip_prefix(folder) {
        Ok(inside) => inside.to_owned(),
        Err(_) => {
            let name = found
                .entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            files.push(ModuleFile::new(found.entry.clone(), name.clone())?);
            files.sort_by(|a, b| a.path.cmp(&b.path));
            PathBuf::from(name)
        }
    };
    Ok((files, root, entry))
}
