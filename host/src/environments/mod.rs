//! Virtual environments of Python modules: one for each set of requirements, made when it is first needed, shared by
//! all modules and processes that need the same, and never changed.
//!
//! # Layout
//! - [`Requirements`]: what a module needs, and who says so; `requirement` and `script` read their parts.
//! - `install`: how an environment is made.
//! - `folder`: where they lie, and who uses them.

mod folder;
mod install;
mod requirement;
mod requirements;
mod script;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::HostError;
use crate::loader::{Runtime, runtime};
use folder::{Hold, Lock};
use install::Installer;
pub use install::Told;
pub use requirements::Requirements;

/// Environments that are made at the same time.
const MADE_AT_ONCE: usize = 2;
/// After this an environment that no loaded module needs is removed.
pub const UNUSED: Duration = Duration::from_secs(30 * 86_400);

/// Settings of [`Environments`].
#[derive(Debug, Clone)]
pub struct EnvironmentsConfig {
    /// Where they lie, and are made.
    pub folder: PathBuf,
    /// Where they are looked for first, if they may be there as well; it is only read.
    pub shared: Option<PathBuf>,
    /// Whether one that is missing is made. Else a module that needs it is not loaded.
    pub makes: bool,
    /// Whether packages are built that are not there as wheels, which runs their code with all rights of the runner.
    pub builds: bool,
    /// How long making one may take.
    pub limit: Duration,
}

/// The environments of an instance folder, for one interpreter.
#[derive(Debug)]
pub struct Environments {
    config: EnvironmentsConfig,
    /// A path, or a name on the search path.
    python: String,
    /// By digest. Each has a lock of its own: only those who need the same one wait for each other.
    known: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
    permits: Semaphore,
}

/// What became of an environment; a failure is final until the next start.
type Known = Option<Result<Arc<Environment>, String>>;

/// An environment that is there. While this lives nobody removes it.
#[derive(Debug)]
pub struct Environment {
    /// Names it; made of requirements and interpreter.
    pub digest: String,
    /// Its folder.
    pub path: PathBuf,
    /// Whether it was made just now.
    pub is_new: bool,
    /// None where nobody may write, so that nobody removes it either.
    _lock: Option<Lock>,
}

impl Environment {
    fn found(digest: &str, path: PathBuf, lock: Option<Lock>) -> Self {
        if let Some(lock) = &lock {
            lock.touch();
        }
        Self {
            digest: digest.to_owned(),
            path,
            is_new: false,
            _lock: lock,
        }
    }
}

/// The interpreter, in an environment.
const PYTHON: &str = "bin/python";

impl Environments {
    /// Makes nothing yet.
    pub fn new(config: EnvironmentsConfig, python: String) -> Self {
        Self {
            config,
            python,
            known: Mutex::default(),
            permits: Semaphore::new(MADE_AT_ONCE),
        }
    }

    /// What would name the environment of these requirements; `None` if there is nothing to install.
    ///
    /// # Errors
    /// There is no interpreter, or another version of it is needed.
    pub async fn digest(&self, wanted: &Requirements) -> Result<Option<String>, HostError> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let runtime = self.runtime().await?;
        wanted.check_python(&runtime.version)?;
        let interpreter = [runtime.version.as_str(), runtime.executable.as_str()];
        Ok(wanted.has_packages().then(|| wanted.digest(&interpreter)))
    }

    /// The environment with this digest of these requirements, made if it is not there. What the installer says is
    /// told to whoever makes it, and to the log.
    ///
    /// # Errors
    /// The end of what the installer said, or that it is missing where none are made. The same error is answered
    /// again until the next start.
    pub async fn get(
        &self,
        digest: &str,
        wanted: &Requirements,
        told: Told<'_>,
    ) -> Result<Arc<Environment>, HostError> {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(digest.to_owned()).or_default())
        };
        let mut known = cell.lock().await;
        if let Some(outcome) = &*known {
            return outcome.clone().map_err(HostError::Module);
        }
        let made = self.find_or_make(digest, wanted, told).await;
        let outcome = made.map(Arc::new).map_err(|error| error.to_string());
        *known = Some(outcome.clone());
        outcome.map_err(HostError::Module)
    }

    /// Whether an environment is there and can be used.
    pub fn is_there(&self, digest: &str) -> bool {
        let shared = self.config.shared.as_ref();
        let mut folders = shared.into_iter().chain([&self.config.folder]);
        folders.any(|folder| is_whole(&folder.join(digest)))
    }

    /// Removes the environments that are not `kept`, that no process uses, and that were not used for so long.
    /// Answers their digests.
    ///
    /// # Errors
    /// Their folder cannot be read.
    pub async fn prune(
        &self,
        kept: BTreeSet<String>,
        unused: Duration,
    ) -> Result<Vec<String>, HostError> {
        let folder = self.config.folder.clone();
        let pruned =
            tokio::task::spawn_blocking(move || folder::prune(&folder, &kept, unused)).await;
        pruned
            .map_err(|error| HostError::Module(format!("removing environments failed: {error}")))?
    }

    async fn runtime(&self) -> Result<Arc<Runtime>, HostError> {
        let python = self.python.clone();
        let asked = tokio::task::spawn_blocking(move || runtime(&python)).await;
        asked
            .map_err(|error| HostError::Module(format!("asking the interpreter failed: {error}")))?
    }

    async fn find_or_make(
        &self,
        digest: &str,
        wanted: &Requirements,
        told: Told<'_>,
    ) -> Result<Environment, HostError> {
        let waits = || told("waits for another process that makes its environment");
        let shared = self.config.shared.as_deref();
        if let Some(folder) = shared.filter(|folder| is_whole(&folder.join(digest))) {
            let lock = Lock::take(folder, digest, Hold::Shared, waits).await.ok();
            let path = folder.join(digest);
            if is_whole(&path) {
                return Ok(Environment::found(digest, path, lock));
            }
        }
        let all = &self.config.folder;
        let path = all.join(digest);
        if !self.config.makes && !is_whole(&path) {
            let what = match path.exists() {
                true => "broken: its interpreter is gone",
                false => "missing",
            };
            return Err(HostError::Module(format!(
                "its environment {digest} ({}) is {what}: `runner plugin install` makes it",
                wanted.shown()
            )));
        }
        fs::create_dir_all(all).map_err(HostError::file("make", all))?;
        let mut is_new = false;
        loop {
            let lock = Lock::take(all, digest, Hold::Shared, waits).await?;
            if is_whole(&path) {
                return Ok(Environment {
                    is_new,
                    ..Environment::found(digest, path, Some(lock))
                });
            }
            drop(lock);
            let _permit = match self.permits.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    told("waits until other environments are made");
                    let closed = |_| HostError::Module("no more environments are made".to_owned());
                    self.permits.acquire().await.map_err(closed)?
                }
            };
            let lock = Lock::take(all, digest, Hold::Alone, waits).await?;
            if !is_whole(&path) {
                self.make(digest, wanted, told).await?;
                is_new = true;
            }
            drop(lock);
        }
    }

    /// Makes an environment, whole or not at all. Its lock is held alone.
    async fn make(
        &self,
        digest: &str,
        wanted: &Requirements,
        told: Told<'_>,
    ) -> Result<(), HostError> {
        let all = &self.config.folder;
        let path = all.join(digest);
        let runtime = self.runtime().await?;
        tracing::info!("making the environment {digest}: {}", wanted.shown());
        folder::remove_drafts(all, digest);
        if path.exists() {
            let removed = tokio::fs::remove_dir_all(&path).await;
            removed.map_err(HostError::file("remove", &path))?;
        }
        let draft = folder::draft(all, digest);
        let installer = Installer {
            python: &runtime.executable,
            builds: self.config.builds,
            limit: self.config.limit,
        };
        let both = |line: &str| {
            tracing::info!("environment {}: {line}", &digest[..8]);
            told(line);
        };
        let begun = std::time::Instant::now();
        let made = installer.make(&draft, &path, wanted, &both).await;
        let made =
            made.and_then(|()| fs::rename(&draft, &path).map_err(HostError::file("make", &path)));
        if made.is_err() {
            let _ = tokio::fs::remove_dir_all(&draft).await;
        }
        made.map_err(|error| {
            HostError::Module(format!(
                "the environment of its requirements ({}) cannot be made: {error}",
                wanted.shown()
            ))
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        tracing::info!("the environment {digest} is there, after {seconds:.1} s");
        Ok(())
    }
}

/// Whether an environment can be used: it is named when it is whole, but the interpreter may be gone.
fn is_whole(path: &Path) -> bool {
    path.join(PYTHON).exists() && path.join(install::REQUIREMENTS).is_file()
}
