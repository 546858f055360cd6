//! One load of a module.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use runner_core::module::{HostStatus, HostUsage, ModuleState, ModuleStats, ModuleStatus, Origin};
use runner_core::plugin::Plugin;

use crate::HostError;
use crate::loader::Look;
use crate::manifest::RunRules;
use crate::pool::{Hosts, Lease, Ping, Pool};
use crate::rusage;
use crate::tap::{Direction, Fault, Faulty, Tap, TapError, Trace};
use crate::web::WebConnection;

/// From what a module is loaded, so that it can be loaded again.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// Its name, where that was given from outside: then neither its manifest nor the module itself chooses one.
    pub(crate) name: Option<String>,
    /// Instead of the arguments in its manifest.
    pub(crate) args: Option<Vec<Value>>,
    /// Instead of the loader that would be chosen.
    pub(crate) loader: Option<String>,
    /// Who put it here.
    pub(crate) origin: Origin,
}

/// One load of a module. What holds one keeps it, whatever becomes of its name in the table.
#[derive(Debug)]
pub struct Module {
    status: Mutex<ModuleStatus>,
    pool: Mutex<Option<Arc<Pool>>>,
    pub(super) source: Source,
    /// The generation that wanted this load, as [`Wanted::loaded`](runner_core::wanted::Wanted::loaded).
    loaded: AtomicI64,
    /// That of the load before it under this name.
    pub(super) tap: Arc<Tap>,
}

/// A plugin and the module that provides it.
#[derive(Debug, Clone)]
pub struct Provided {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Its module.
    pub module: Arc<Module>,
}

impl Module {
    pub(super) fn new(status: ModuleStatus, source: Source, tap: Arc<Tap>) -> Arc<Self> {
        Arc::new(Self {
            status: Mutex::new(status),
            pool: Mutex::new(None),
            source,
            loaded: AtomicI64::new(0),
            tap,
        })
    }

    /// The generation that wanted this load.
    pub(super) fn loaded(&self) -> i64 {
        self.loaded.load(Ordering::Acquire)
    }

    /// It was loaded because this generation wanted it.
    pub(super) fn is_loaded_for(&self, generation: i64) {
        self.loaded.store(generation, Ordering::Release);
    }

    /// What administrators see.
    pub fn status(&self) -> ModuleStatus {
        let mut status = self.locked().clone();
        if let Some(pool) = self.pool() {
            status.idle_seconds = pool.usage.idle_seconds();
            if let Some(why) = pool.failure() {
                status.failed = true;
                status.reason = Some(why);
            }
        }
        status
    }

    /// All its living hosts.
    pub fn hosts(&self) -> Vec<HostStatus> {
        self.pool().map(|pool| pool.living()).unwrap_or_default()
    }

    /// Its name, and where it is in its life.
    pub fn name_and_state(&self) -> (String, ModuleState) {
        let status = self.locked();
        (status.name.clone(), status.state)
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.locked().name.clone()
    }

    /// Where it is in its life.
    pub fn state(&self) -> ModuleState {
        self.locked().state
    }

    /// The digest of what it was loaded from; empty until that was read.
    pub fn digest(&self) -> String {
        self.locked().sha256.clone()
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

    /// What its runs and hosts came to.
    pub fn stats(&self) -> ModuleStats {
        self.pool()
            .map(|pool| pool.usage.stats())
            .unwrap_or_default()
    }

    /// Sets what [`Module::stats`] tells to zero.
    pub fn reset_stats(&self) {
        if let Some(pool) = self.pool() {
            pool.usage.reset();
        }
    }

    /// What its living hosts have used, each with all that it has started. Blocks for as long as reading `/proc` takes.
    pub fn usage(&self) -> Vec<HostUsage> {
        let pids: Vec<i32> = self.hosts().iter().map(|host| host.pid).collect();
        rusage::usage(&pids)
    }

    /// Asks one of its hosts for a sign of life: one without a run, or a new one.
    ///
    /// # Errors
    /// The module is not running, all of its hosts stay busy, or there is no answer in time.
    pub async fn ping(&self) -> Result<Ping, HostError> {
        let pool = self.running()?;
        let patience = pool.patience().describe;
        let lease = tokio::time::timeout(patience, pool.lease()).await;
        let busy = |_| {
            HostError::Busy(format!(
                "all hosts of the module {} are busy, and none had ended its run after {} s",
                pool.name(),
                patience.as_secs_f64()
            ))
        };
        lease.map_err(busy)??.ping().await
    }

    /// Shows the messages of its hosts whose topics match a glob; also those of newer loads of this name.
    ///
    /// # Errors
    /// The pattern is no glob.
    pub fn trace(&self, messages: &str) -> Result<Trace, TapError> {
        self.tap.trace(messages)
    }

    /// Which messages of its hosts are held up.
    pub fn faults(&self) -> Vec<Faulty> {
        self.tap.faults()
    }

    /// Holds up the messages from or to its hosts whose topics match a glob, or no more.
    ///
    /// # Errors
    /// The pattern is no glob, or the delay is none.
    pub fn set_fault(
        &self,
        messages: &str,
        direction: Direction,
        fault: Option<Fault>,
    ) -> Result<(), TapError> {
        let done = self.tap.set_fault(messages, direction, fault);
        if done.is_ok() {
            tracing::warn!(
                module = self.name(),
                "messages {messages:?} ({direction:?}) are held up: {fault:?}"
            );
        }
        done
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
        self.pool().ok_or_else(|| HostError::Closed(self.name()))
    }

    pub(super) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_pool(&self, pool: Arc<Pool>) {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = Some(pool);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut ModuleStatus)) {
        change(&mut self.locked());
    }

    /// It was not loaded.
    pub(super) fn fail(&self, reason: &str) {
        self.change(|status| {
            tracing::error!(
                module = status.name,
                path = status.path,
                "the module was not loaded: {reason}"
            );
        });
        self.exit(reason);
    }

    /// It is loaded no more: its hosts end.
    pub(super) fn exit(&self, reason: &str) {
        self.change(|status| {
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

    fn locked(&self) -> MutexGuard<'_, ModuleStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
