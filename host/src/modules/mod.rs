//! What is loaded, and the plugins it provides: found in the plugin folders at the start, and changed by
//! administrators while runs go on.
//!
//! # Layout
//! - [`Module`]: one load of a module, with the hosts that belong to it. [`Table`]: all that is there at a moment.
//! - `start`: all that there are, before anybody changes one. `loading`: from a file to the plugins it offers. `order`: which of those that need each other comes first.
//! - `change`: load, start, stop, reload, remove. `in_progress`: one change of a module at a time. `target`: what is
//!   to be loaded, by path or name. `replace`: a newer load in place of an older one.
//! - `decide`: what administrators decide counts for all processes. `ledger`: where that stands. `kept`: modules that
//!   all processes have from there. `claims`: what was decided about and has no place yet. `follow`: does what was
//!   decided elsewhere, or while this process was away.
//! - `drain`: the end of a load.
//! - `folder_watch`: follows the plugin folders. `given`: what runs pipelines that come with their tasks.
//! - `cache`: what is remembered over restarts.
//!
//! # Invariants
//! - The table is never changed, only replaced by another one, at once. Whoever has looked something up in one goes on
//!   with it; what it got says [`HostError::Closed`] if it came too late, and then a new look finds what there is now.
//! - A newer load of a module takes the place of the older one only when it is RUNNING. The older one takes no new
//!   runs from then on, and ends when those in progress have, or at a deadline.
//! - Between the decision about a load and its taking its place nothing else takes its name or its plugins: what was
//!   decided is what is done.

mod cache;
mod change;
mod claims;
mod decide;
mod drain;
mod folder_watch;
mod follow;
mod given;
mod in_progress;
mod kept;
mod ledger;
mod loading;
mod module;
mod order;
mod replace;
mod start;
mod table;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell, Semaphore, watch};

use runner_core::module::{Confinement, ModuleState, ModuleStatus};
use runner_core::wanted::WantedModules;

use self::change::STOPPED;
use self::claims::Claims;
use self::in_progress::InProgress;
use self::module::Source;
use crate::HostError;
use crate::discovery::{Candidate, Discovery};
use crate::environments::{Environments, EnvironmentsConfig};
use crate::folders::Folders;
use crate::host::Patience;
use crate::launcher::{Launcher, Limits};
use crate::loader::{LoaderEnvironment, Loaders};
use crate::manifest::NetworkRule;
use crate::pool::PoolConfig;
use crate::tap::Tap;
use crate::trust::Trust;

pub use self::cache::{Backlog, DescriptionCache, NoCache};
pub use self::change::{ChangeError, Ended, LoadRequest};
pub use self::folder_watch::FolderWatch;
pub use self::ledger::Ledger;
pub use self::module::{Module, Provided};
pub use self::table::Table;

/// Modules that are described at the same time.
const DESCRIBED_AT_ONCE: usize = 4;
/// Kept modules that are fetched at the same time.
const FETCHED_AT_ONCE: usize = 4;

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

/// All modules of this runner.
pub struct Modules {
    config: ModulesConfig,
    launcher: Launcher,
    cache: Arc<dyn DescriptionCache>,
    backlog: Arc<dyn Backlog>,
    ledger: Arc<dyn Ledger>,
    /// What the ledger says, as far as it was read.
    wanted: Mutex<WantedModules>,
    /// The generation up to which all was done that is wanted, or was tried.
    followed: watch::Sender<i64>,
    /// Woken when the ledger may say something else.
    look: Notify,
    /// What loads that were decided about are about to take.
    claims: Claims,
    /// Names of modules of the plugin folders that were put aside here, since they are to be removed.
    put_aside: Mutex<BTreeSet<String>>,
    /// A place for each kept module that is being fetched.
    fetching: Semaphore,
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
    /// What runs pipelines that come with their tasks, once there was one.
    given: OnceCell<Provided>,
}

impl Modules {
    /// Knows no module yet; [`Modules::load`] finds them.
    pub fn new(
        config: ModulesConfig,
        launcher: Launcher,
        cache: Arc<dyn DescriptionCache>,
        backlog: Arc<dyn Backlog>,
        ledger: Arc<dyn Ledger>,
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
            ledger,
            wanted: Mutex::default(),
            followed: watch::Sender::new(0),
            look: Notify::new(),
            claims: Claims::default(),
            put_aside: Mutex::default(),
            fetching: Semaphore::new(FETCHED_AT_ONCE),
            changes: watch::Sender::new(0),
            table: RwLock::default(),
            in_progress: InProgress::default(),
            folders: Mutex::default(),
            hosting: watch::Sender::new(None),
            is_ready: watch::Sender::new(false),
            given: OnceCell::new(),
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

    /// The generation of what is wanted up to which all was done here, or was tried.
    pub fn followed(&self) -> i64 {
        *self.followed.borrow()
    }

    /// Why modules are not here as they should be, by their names.
    pub fn failing(&self) -> BTreeMap<String, String> {
        let table = self.table();
        let failing = table.modules.iter().filter_map(|module| {
            let status = module.status();
            let reason = match status.state {
                ModuleState::Exited => status.reason.filter(|reason| reason != STOPPED),
                _ => status.refused,
            };
            Some((status.name, reason?))
        });
        failing.collect()
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
        let given = self.given.get().map(|given| &given.module);
        for module in table.modules.iter().chain(&table.replaced).chain(given) {
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
