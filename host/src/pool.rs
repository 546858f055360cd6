//! The living hosts of a module: started on demand, reused, retired when idle.

mod lease;
mod start;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use runner_core::module::HostStatus;

use crate::HostError;
use crate::crashes::Crashes;
use crate::environments::Environment;
use crate::host::{Host, Patience, Welcome};
use crate::launcher::{HostCommand, Killer, Launcher, Limits};
use crate::loader::{Loader, LoaderEnvironment, Look};
use crate::manifest::{Isolation, Manifest, NetworkRule, RunRules};
use crate::rusage;
use crate::tap::Tap;
use crate::usage::Usage;
use crate::web::Web;

pub use lease::{Lease, Ping};

/// Variables of the runner that its hosts inherit.
const INHERITED: &[&str] = &[
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LD_LIBRARY_PATH",
];

/// What all pools share.
#[derive(Debug, Clone)]
pub(crate) struct PoolConfig {
    pub(crate) launcher: Launcher,
    pub(crate) environment: LoaderEnvironment,
    /// Below it each host has its folder.
    pub(crate) hosts: PathBuf,
    pub(crate) patience: Patience,
    /// After this a host without work is ended.
    pub(crate) idle: Duration,
    /// Hosts of one module that may live at once.
    pub(crate) max_hosts: usize,
    /// Where the roots of hosts are mounted, each in a name space of its own.
    pub(crate) root: PathBuf,
    /// Which modules may use the network.
    pub(crate) network: NetworkRule,
    /// What hosts may use where their manifest does not say it.
    pub(crate) limits: Limits,
}

impl PoolConfig {
    /// A command without a program yet, and the folder for life that is made for it. `variables` come to those that are
    /// inherited.
    pub(crate) fn command(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<HostCommand, HostError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let folder = self.hosts.join(&id);
        let work = folder.join("work");
        for path in [&folder.join("in"), &work] {
            fs::create_dir_all(path).map_err(HostError::file("make", path))?;
        }
        if let Some(owner) = self.launcher.owner() {
            std::os::unix::fs::lchown(&work, Some(owner), Some(owner))
                .map_err(HostError::file("give away", &work))?;
        }
        let inherited = INHERITED.iter();
        let mut environment: BTreeMap<String, String> = inherited
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .chain(variables)
            .collect();
        for name in ["HOME", "TMPDIR"] {
            environment.insert(name.to_owned(), work.to_string_lossy().into_owned());
        }
        Ok(HostCommand {
            id,
            environment,
            directory: work.clone(),
            writable: vec![work],
            folder,
            root: self.root.clone(),
            ..HostCommand::default()
        })
    }
}

/// A host that lives for as long as somebody has its task.
#[derive(Debug)]
struct Living {
    task: Weak<AtomicI64>,
    status: HostStatus,
    killer: Killer,
}

/// The hosts of one module.
#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    loader: Arc<dyn Loader>,
    /// The file or folder to load, in the snapshot.
    entry: PathBuf,
    /// The snapshot of the module.
    snapshot: PathBuf,
    /// The plugin folder in which the module was found.
    origin: PathBuf,
    manifest: Manifest,
    /// The packages that it needs; kept from being removed.
    environment: Option<Arc<Environment>>,
    welcome: Welcome,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(Host, Instant)>>,
    /// Hosts that work, or are started to.
    leased: watch::Sender<usize>,
    /// All hosts that live.
    living: Mutex<Vec<Living>>,
    crashes: Crashes,
    pub(crate) usage: Usage,
    tap: Arc<Tap>,
    has_janitor: AtomicBool,
    is_closed: AtomicBool,
    /// For requests to the own routes of its plugins.
    pub(crate) web: Web,
}

impl Pool {
    #[expect(
        clippy::too_many_arguments,
        reason = "all that a module is made of, once"
    )]
    pub(crate) fn new(
        config: PoolConfig,
        loader: Arc<dyn Loader>,
        entry: PathBuf,
        snapshot: PathBuf,
        origin: PathBuf,
        manifest: Manifest,
        environment: Option<Arc<Environment>>,
        name: String,
        uuid: String,
        tap: Arc<Tap>,
    ) -> Arc<Self> {
        let max_hosts = manifest.max_hosts.unwrap_or(config.max_hosts).max(1);
        let args: Vec<Value> = manifest.args.clone();
        Arc::new(Self {
            config,
            loader,
            entry,
            snapshot,
            origin,
            welcome: Welcome {
                name,
                uuid,
                args,
                config: Value::Object(serde_json::Map::new()),
            },
            manifest,
            environment,
            permits: Arc::new(Semaphore::new(max_hosts)),
            idle: Mutex::new(Vec::new()),
            leased: watch::Sender::new(0),
            living: Mutex::default(),
            crashes: Crashes::default(),
            usage: Usage::default(),
            tap,
            has_janitor: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            web: Web::default(),
        })
    }

    /// A host of its own for this caller; waits while the most hosts are busy.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, HostError> {
        let closed = || HostError::Closed(self.welcome.name.clone());
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let counted = self.count()?;
        while let Some((host, _)) = self.idle().pop() {
            if !host.has_exited() {
                return Ok(Lease::new(host, counted, permit));
            }
        }
        let host = self.start().await?;
        Ok(Lease::new(host, counted, permit))
    }

    /// How many hosts live, by what they do.
    pub(crate) fn hosts(&self) -> Hosts {
        Hosts {
            idle: self.idle().len(),
            busy: *self.leased.borrow(),
            web: usize::from(self.web.is_served()),
        }
    }

    pub(crate) fn run_rules(&self) -> RunRules {
        self.manifest.run_rules()
    }

    /// Pids of the hosts that wait for work.
    pub(crate) fn idle_pids(&self) -> Vec<i32> {
        self.idle().iter().map(|(host, _)| host.pid()).collect()
    }

    /// All its hosts.
    pub(crate) fn living(&self) -> Vec<HostStatus> {
        let living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = living.iter().filter_map(|one| {
            let task = one.task.upgrade()?.load(Ordering::Relaxed);
            Some(HostStatus {
                task: (task != 0).then_some(task),
                resident: rusage::resident(one.status.pid),
                ..one.status.clone()
            })
        });
        alive.collect()
    }

    /// Why the module has failed, if it has.
    pub(crate) fn failure(&self) -> Option<String> {
        self.crashes.failure()
    }

    pub(crate) fn launcher(&self) -> &Launcher {
        &self.config.launcher
    }

    /// What its hosts are greeted with, without what each has of its own.
    pub(crate) fn greeting(&self) -> Value {
        let Welcome {
            name,
            uuid,
            args,
            config,
        } = &self.welcome;
        serde_json::json!({"name": name, "uuid": uuid, "args": args, "config": config})
    }

    /// What the module is, found out without starting it.
    pub(crate) fn look(&self) -> Look {
        self.loader.look(&self.entry)
    }

    /// Whether a file lies in the plugin folder of the module, whatever links lead to it.
    pub(crate) fn is_in_origin(&self, path: &Path) -> bool {
        let real = |path: &Path| fs::canonicalize(path).ok();
        match (real(path), real(&self.origin)) {
            (Some(path), Some(origin)) => path.starts_with(origin),
            _ => false,
        }
    }

    /// What the module says of itself.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The copy of the module.
    pub(crate) fn snapshot(&self) -> &Path {
        &self.snapshot
    }

    /// Takes no more runs and requests, and ends the hosts that have none; the others end with what they do.
    pub(crate) fn finalize(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.permits.close();
        self.idle().clear();
        self.web.finalize();
    }

    /// After [`Pool::finalize`]: waits until nothing is in progress.
    pub(crate) async fn drained(&self) {
        let mut leased = self.leased.subscribe();
        // The sender lives as long as self.
        let _ = leased.wait_for(|leased| *leased == 0).await;
        self.web.ended().await;
    }

    /// Kills all hosts, with all that they have started. Answers how many there were.
    pub(crate) fn kill(&self) -> usize {
        let living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = living.iter().filter(|one| one.task.strong_count() > 0);
        alive.map(|one| one.killer.kill()).count()
    }

    /// Ends idle hosts and starts none any more.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.permits.close();
        self.idle().clear();
        self.web.close();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Host, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> &str {
        &self.welcome.name
    }

    pub(crate) fn patience(&self) -> Patience {
        self.config.patience
    }

    pub(crate) fn idle_time(&self) -> Duration {
        self.config.idle
    }

    /// A host that did not begin may be one of many in a row.
    pub(crate) fn count_crash(&self, error: &HostError) {
        if matches!(error, HostError::Lost(_) | HostError::TimedOut { .. }) {
            self.crashes.count(self.name(), &error.to_string());
        }
    }

    /// Waits while the module rests, since its hosts ended one after the other.
    pub(crate) async fn rest(&self) -> Result<(), HostError> {
        self.crashes.rest(self.name()).await
    }

    /// Counts a host that is no lease, unless the module takes no more.
    pub(crate) fn count(self: &Arc<Self>) -> Result<Counted, HostError> {
        // Before the look whether it is closed, so that who drains it knows of this one.
        let counted = Counted::new(self);
        match self.is_closed.load(Ordering::SeqCst) {
            true => Err(HostError::Closed(self.name().to_owned())),
            false => Ok(counted),
        }
    }

    /// Keeps a host for the next run, unless it is in the middle of something, or was made to end.
    fn take_back(self: &Arc<Self>, host: Host) {
        let is_used_up = self.manifest.isolation == Isolation::Process && !host.forks;
        let is_spent = is_used_up || self.manifest.max_runs.is_some_and(|most| host.runs >= most);
        if is_spent
            || !host.is_at_rest
            || host.has_exited()
            || self.is_closed.load(Ordering::SeqCst)
        {
            return;
        }
        self.idle().push((host, Instant::now() + self.config.idle));
        // Whoever closed it meanwhile has not seen this one.
        if self.is_closed.load(Ordering::SeqCst) {
            return self.idle().clear();
        }
        if !self.has_janitor.swap(true, Ordering::AcqRel) {
            tokio::spawn(Arc::clone(self).retire_idle());
        }
    }

    /// Lives while there are idle hosts, and ends those whose time is over.
    async fn retire_idle(self: Arc<Self>) {
        loop {
            let next = {
                let mut idle = self.idle();
                let now = Instant::now();
                idle.retain(|(_, until)| *until > now);
                let next = idle.iter().map(|(_, until)| *until).min();
                if next.is_none() {
                    self.has_janitor.store(false, Ordering::Release);
                }
                next
            };
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => return,
            }
        }
    }
}

/// How many hosts of a module live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hosts {
    /// They wait for work.
    pub idle: usize,
    /// They work.
    pub busy: usize,
    /// They answer requests to its own routes.
    pub web: usize,
}

/// Counts as working while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Pool>);

impl Counted {
    fn new(pool: &Arc<Pool>) -> Self {
        pool.leased.send_modify(|leased| *leased += 1);
        Self(Arc::clone(pool))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.leased.send_modify(|leased| *leased -= 1);
    }
}
