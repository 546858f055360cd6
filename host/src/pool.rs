//! The living hosts of a module: started on demand, reused, retired when idle.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::HostError;
use crate::host::{Host, Patience, RunEnd, RunHandler, Welcome};
use crate::launcher::{HOST_VARIABLE, HostCommand, Launcher};
use crate::loader::{Loader, LoaderEnvironment};
use crate::manifest::{Isolation, Manifest};
use crate::protocol::RunRequest;

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
}

/// The hosts of one module.
#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    loader: &'static dyn Loader,
    /// The file or folder to load, in the snapshot.
    entry: PathBuf,
    /// The snapshot of the module.
    snapshot: PathBuf,
    /// The plugin folder in which the module was found.
    origin: PathBuf,
    manifest: Manifest,
    welcome: Welcome,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(Host, Instant)>>,
    has_janitor: AtomicBool,
    is_closed: AtomicBool,
}

impl Pool {
    #[expect(
        clippy::too_many_arguments,
        reason = "all that a module is made of, once"
    )]
    pub(crate) fn new(
        config: PoolConfig,
        loader: &'static dyn Loader,
        entry: PathBuf,
        snapshot: PathBuf,
        origin: PathBuf,
        manifest: Manifest,
        name: String,
        uuid: String,
    ) -> Arc<Self> {
        let max_hosts = manifest.max_hosts.unwrap_or(config.max_hosts).max(1);
        let args: Vec<Value> = manifest.args.clone();
        Arc::new(Self {
            config,
            loader,
            entry,
            snapshot,
            origin,
            welcome: Welcome { name, uuid, args },
            manifest,
            permits: Arc::new(Semaphore::new(max_hosts)),
            idle: Mutex::new(Vec::new()),
            has_janitor: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        })
    }

    /// A host of its own for this caller; waits while the most hosts are busy.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, HostError> {
        let closed = || HostError::Module(format!("the module {} is closed", self.welcome.name));
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        while let Some((host, _)) = self.idle().pop() {
            if !host.has_exited() {
                return Ok(Lease {
                    host,
                    pool: Arc::clone(self),
                    _permit: permit,
                });
            }
        }
        let host = self.start().await?;
        Ok(Lease {
            host,
            pool: Arc::clone(self),
            _permit: permit,
        })
    }

    /// Pids of the hosts that wait for work.
    pub(crate) fn idle_pids(&self) -> Vec<i32> {
        self.idle().iter().map(|(host, _)| host.pid()).collect()
    }

    /// Ends idle hosts and starts none any more.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Host, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(self: &Arc<Self>) -> Result<Host, HostError> {
        let pool = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || pool.prepare()).await;
        let (command, folder) = prepared
            .map_err(|error| HostError::Start(format!("preparing it failed: {error}")))??;
        let Pool {
            config, welcome, ..
        } = &**self;
        let made = folder.clone();
        let host = Host::start(&config.launcher, command, folder, welcome, config.patience).await;
        if host.is_err() {
            let _ = tokio::fs::remove_dir_all(made).await;
        }
        host
    }

    fn prepare(&self) -> Result<(HostCommand, PathBuf), HostError> {
        let program = self.loader.program(&self.entry, &self.config.environment)?;
        let id = uuid::Uuid::new_v4().to_string();
        let folder = self.config.hosts.join(&id);
        let (inputs, work) = (folder.join("in"), folder.join("work"));
        for path in [&inputs, &work] {
            fs::create_dir_all(path).map_err(HostError::file("make", path))?;
        }
        let mut environment: std::collections::BTreeMap<String, String> = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        environment.extend(program.environment);
        environment.extend(self.manifest.environment.clone());
        for (name, value) in [
            (HOST_VARIABLE, id.clone()),
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
            limits: self.manifest.limits.clone(),
        };
        Ok((command, folder))
    }

    fn take_back(self: &Arc<Self>, host: Host) {
        let is_spent = self.manifest.isolation == Isolation::Process
            || self.manifest.max_runs.is_some_and(|most| host.runs >= most);
        if is_spent || host.has_exited() || self.is_closed.load(Ordering::Acquire) {
            return;
        }
        self.idle().push((host, Instant::now() + self.config.idle));
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

/// A host that works for one caller. Given back by [`Lease::run`], ended when dropped before.
#[derive(Debug)]
pub struct Lease {
    host: Host,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Asks what the module offers, then gives the host back.
    pub(crate) async fn describe(mut self) -> Result<Value, HostError> {
        let description = self.host.describe(self.pool.config.patience).await?;
        self.pool.take_back(self.host);
        Ok(description)
    }

    /// Makes the folders of a run.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn folder(&self, task: i64, run: i64) -> Result<RunFolder, HostError> {
        let name = format!("{task}-{run}");
        let folder = RunFolder {
            inputs: self.host.folder().join("in").join(&name),
            work: self.host.folder().join("work").join(&name),
        };
        fs::create_dir(&folder.work).map_err(HostError::file("make", &folder.work))?;
        Ok(folder)
    }

    /// Runs a task within `limit` (or the manifest's), and gives the host back if it is still of use.
    pub async fn run(
        mut self,
        request: &RunRequest,
        limit: Duration,
        handler: &dyn RunHandler,
        cancel: &CancellationToken,
    ) -> RunEnd {
        let own = self
            .pool
            .manifest
            .timeout
            .and_then(|s| Duration::try_from_secs_f64(s).ok());
        let patience = self.pool.config.patience;
        let limit = own.unwrap_or(limit);
        let end = self
            .host
            .run(request, limit, patience, handler, cancel)
            .await;
        // After any other end the run may have left processes behind, which end with their host.
        if matches!(end, RunEnd::Finished(_) | RunEnd::Failed(_)) {
            self.pool.take_back(self.host);
        }
        end
    }
}

/// The folders of one run; removed when dropped.
#[derive(Debug)]
pub struct RunFolder {
    inputs: PathBuf,
    work: PathBuf,
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.work);
        let _ = fs::remove_dir_all(&self.inputs);
    }
}

impl RunFolder {
    /// Where the plugin may write.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Where its inputs lie, once there are any.
    pub fn inputs_path(&self) -> &Path {
        &self.inputs
    }

    /// Where its inputs lie; the plugin may only read there. Made when first asked for.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn inputs(&self) -> Result<&Path, HostError> {
        match fs::create_dir(&self.inputs) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(HostError::file("make", &self.inputs)(error))
            }
            _ => Ok(&self.inputs),
        }
    }

    /// Opens a file that the plugin made. Whatever it put there, nothing outside of its folder is opened:
    /// links are not followed, and only regular files are taken.
    ///
    /// # Errors
    /// The path leads outside, or to no regular file.
    pub fn open(&self, path: &str) -> Result<File, HostError> {
        let given = Path::new(path);
        let relative = if given.is_absolute() {
            given.strip_prefix(&self.work).map_err(|_| {
                HostError::Module(format!("the output {path:?} is not in the run's directory"))
            })?
        } else {
            given
        };
        let file = open_beneath(&self.work, relative)
            .map_err(HostError::file("open the output", relative))?;
        let metadata = file
            .metadata()
            .map_err(HostError::file("open the output", relative))?;
        if !metadata.is_file() {
            return Err(HostError::Module(format!(
                "the output {path:?} is not a regular file"
            )));
        }
        Ok(file)
    }
}

#[cfg(target_os = "linux")]
fn open_beneath(folder: &Path, path: &Path) -> std::io::Result<File> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    let folder = File::open(folder)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(File::from(openat2(&folder, path, how)?))
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(folder: &Path, path: &Path) -> std::io::Result<File> {
    let real = fs::canonicalize(folder.join(path))?;
    if !real.starts_with(fs::canonicalize(folder)?) {
        return Err(std::io::Error::other(
            "it leads outside of the run's directory",
        ));
    }
    File::open(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_regular_files_of_the_run_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder {
            inputs: root.path().join("in"),
            work: root.path().join("work"),
        };
        fs::create_dir_all(folder.work.join("sub")).unwrap();
        fs::write(folder.work.join("sub/a"), "x").unwrap();
        fs::write(root.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), folder.work.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), folder.work.join("up")).unwrap();
        nix::unistd::mkfifo(&folder.work.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(folder.open("sub/a").is_ok());
        assert!(
            folder
                .open(folder.work.join("sub/a").to_str().unwrap())
                .is_ok()
        );
        for path in [
            "link",
            "up/secret",
            "../secret",
            "/etc/passwd",
            "sub",
            "fifo",
            "missing",
            "",
        ] {
            assert!(folder.open(path).is_err(), "{path}");
        }
        drop(folder);
        assert!(!root.path().join("work").exists());
    }
}
