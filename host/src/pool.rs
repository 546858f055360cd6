//! The living hosts of a module: started on demand, reused, retired when idle.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use runner_core::module::HostStatus;

use crate::HostError;
use crate::crashes::Crashes;
use crate::environments::Environment;
use crate::host::{Host, Patience, RunEnd, RunHandler, Welcome};
use crate::launcher::{HostCommand, Killer, Launcher, Limits};
use crate::loader::{Loader, LoaderEnvironment, Look, Place};
use crate::manifest::{Isolation, Manifest, NetworkRule, RunRules};
use crate::protocol::{CallRequest, RunEvent, RunRequest};
use crate::run_folder::RunFolder;
use crate::rusage;
use crate::tap::Tap;
use crate::usage::Usage;
use crate::web::Web;

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
        // Before the look whether it is closed, so that who drains it knows of this one.
        let counted = Counted::new(self);
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
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

    async fn start(self: &Arc<Self>) -> Result<Host, HostError> {
        self.crashes.rest(self.name()).await?;
        let (command, folder) = self.prepared().await?;
        let started = self
            .start_with(
                command,
                folder,
                |welcome| self.isolated(welcome),
                Vec::new(),
            )
            .await;
        started.inspect_err(|error| {
            if matches!(error, HostError::Lost(_) | HostError::TimedOut { .. }) {
                self.crashes.count(self.name(), &error.to_string());
            }
        })
    }

    /// Asks a host to give each run a process of its own, if the manifest says so.
    fn isolated(&self, welcome: Welcome) -> Welcome {
        if self.manifest.isolation == Isolation::Host {
            return welcome;
        }
        let temporary = self.config.launcher.temporary();
        let config = serde_json::json!({"isolation": "process", "temporary": temporary});
        Welcome { config, ..welcome }
    }

    /// The command of a new host, and the folder that was made for it.
    pub(crate) async fn prepared(self: &Arc<Self>) -> Result<(HostCommand, PathBuf), HostError> {
        let pool = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || pool.prepare()).await;
        prepared.map_err(|error| HostError::Start(format!("preparing it failed: {error}")))?
    }

    /// Starts what was prepared, with these descriptors from 3 on.
    pub(crate) async fn start_with(
        &self,
        command: HostCommand,
        folder: PathBuf,
        welcome: impl FnOnce(Welcome) -> Welcome,
        extra: Vec<OwnedFd>,
    ) -> Result<Host, HostError> {
        let config = &self.config;
        let made = folder.clone();
        let host = Host::start(
            &config.launcher,
            command,
            folder,
            &welcome(self.welcome.clone()),
            extra,
            config.patience,
            Arc::clone(&self.tap),
        )
        .await;
        let outcome = if host.is_ok() { "started" } else { "failed" };
        metrics::counter!("runner_host_starts_total", "outcome" => outcome).increment(1);
        self.usage.started(host.is_ok());
        match &host {
            Ok(host) => {
                let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
                living.retain(|one| one.task.strong_count() > 0);
                living.push(Living {
                    task: host.task(),
                    status: host.status(),
                    killer: host.killer(),
                });
            }
            Err(_) => {
                let _ = tokio::fs::remove_dir_all(made).await;
            }
        }
        host
    }

    fn prepare(&self) -> Result<(HostCommand, PathBuf), HostError> {
        let place = Place {
            entry: &self.entry,
            snapshot: &self.snapshot,
            guest: &self.manifest.guest,
            environment: self.environment.as_ref().map(|one| one.path.as_path()),
        };
        let program = self.loader.program(&place, &self.config.environment)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let folder = self.config.hosts.join(&id);
        let (inputs, work) = (folder.join("in"), folder.join("work"));
        for path in [&inputs, &work] {
            fs::create_dir_all(path).map_err(HostError::file("make", path))?;
        }
        if let Some(owner) = self.config.launcher.owner() {
            std::os::unix::fs::lchown(&work, Some(owner), Some(owner))
                .map_err(HostError::file("give away", &work))?;
        }
        let mut environment: std::collections::BTreeMap<String, String> = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        environment.extend(program.environment);
        environment.extend(self.manifest.environment.clone());
        for (name, value) in [
            ("RUNNER_PROTOCOL", crate::protocol::PROTOCOL.to_string()),
            (
                "RUNNER_MODULE_FOLDER",
                self.origin.to_string_lossy().into_owned(),
            ),
            ("HOME", work.to_string_lossy().into_owned()),
            ("TMPDIR", work.to_string_lossy().into_owned()),
        ] {
            environment.insert(name.to_owned(), value);
        }
        let mut readable = program.readable;
        readable.extend([self.snapshot.clone(), self.origin.clone(), inputs]);
        let command = HostCommand {
            id,
            argv: program.argv,
            environment,
            directory: work.clone(),
            readable,
            writable: vec![work],
            folder: folder.clone(),
            root: self.config.root.clone(),
            network: self.config.network.allows(self.manifest.permissions),
            limits: self.manifest.limits.or(&self.config.limits),
        };
        Ok((command, folder))
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

/// A host's sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Which host.
    pub pid: i32,
    /// From the question to the answer; without the start of a host.
    pub round_trip: Duration,
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
struct Counted(Arc<Pool>);

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

/// A host that works for one caller. When it is dropped the host goes back to its pool, if it is still of
/// use; until then nothing else runs on it.
#[derive(Debug)]
pub struct Lease {
    /// Empty only while it is being dropped.
    host: Option<Host>,
    pool: Arc<Pool>,
    /// The place of the host among those of its module; given to others while its run only waits.
    place: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    /// Dropped after all else.
    _counted: Counted,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.usage.touch();
        if let Some(host) = self.host.take() {
            self.pool.take_back(host);
        }
    }
}

impl Lease {
    fn new(host: Host, counted: Counted, place: OwnedSemaphorePermit) -> Self {
        Self {
            host: Some(host),
            pool: Arc::clone(&counted.0),
            place: Arc::new(Mutex::new(Some(place))),
            _counted: counted,
        }
    }

    /// The name that the module gives itself.
    pub(crate) fn module_name(&self) -> Option<String> {
        self.host.as_ref()?.module_name.clone()
    }

    /// Asks what the module offers.
    pub(crate) async fn describe(mut self) -> Result<Value, HostError> {
        let patience = self.pool.config.patience;
        self.host()?.describe(patience).await
    }

    /// Asks the host for a sign of life.
    pub(crate) async fn ping(&mut self) -> Result<Ping, HostError> {
        let patience = self.pool.config.patience;
        let host = self.host()?;
        let begin = Instant::now();
        host.ping(patience).await?;
        Ok(Ping {
            pid: host.pid(),
            round_trip: begin.elapsed(),
        })
    }

    fn host(&mut self) -> Result<&mut Host, HostError> {
        let gone = || HostError::Lost("the host was given back".to_owned());
        self.host.as_mut().ok_or_else(gone)
    }

    /// Whether a run on it can be lost for no fault of its own: the host had worked before, and ended
    /// without a word about this run. The run may be done on another host.
    pub fn ended_idle(&self) -> bool {
        self.host
            .as_ref()
            .is_some_and(|host| host.runs > 1 && !host.has_spoken)
    }

    /// Makes the folders of a run.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn folder(&mut self) -> Result<RunFolder, HostError> {
        self.host()?.run_folder()
    }

    /// Runs a task within `limit`.
    pub async fn run(
        &mut self,
        request: &RunRequest,
        limit: Duration,
        handler: &dyn RunHandler,
        cancel: &CancellationToken,
    ) -> RunEnd {
        let patience = self.pool.config.patience;
        let yielding = Yielding {
            handler,
            place: Arc::clone(&self.place),
            pool: Arc::clone(&self.pool),
        };
        let begin = Instant::now();
        let end = match self.host() {
            Ok(host) => host.run(request, limit, patience, &yielding, cancel).await,
            Err(error) => RunEnd::Lost(error),
        };
        self.pool.usage.ran(&end, begin.elapsed());
        match &end {
            RunEnd::Lost(HostError::Lost(why)) if !self.ended_idle() => {
                self.pool.crashes.count(self.pool.name(), why);
            }
            RunEnd::Finished(_) | RunEnd::Failed(_) => self.pool.crashes.forget(),
            _ => {}
        }
        end
    }
}

/// Gives the place of a host to others of its module while its run waits for a plugin that it called: that
/// may be the same one.
struct Yielding<'a> {
    handler: &'a dyn RunHandler,
    place: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    pool: Arc<Pool>,
}

impl RunHandler for Yielding<'_> {
    fn event(&self, event: RunEvent) {
        self.handler.event(event);
    }

    fn fetch(&self, url: String) -> BoxFuture<'static, Result<Value, String>> {
        self.handler.fetch(url)
    }

    fn call(&self, call: CallRequest) -> BoxFuture<'static, Result<Value, String>> {
        let answer = self.handler.call(call);
        let (place, permits) = (Arc::clone(&self.place), Arc::clone(&self.pool.permits));
        Box::pin(async move {
            drop(place.lock().unwrap_or_else(PoisonError::into_inner).take());
            let answer = answer.await;
            // A closed pool has no places to wait for.
            if let Ok(permit) = permits.acquire_owned().await {
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
            }
            answer
        })
    }
}
