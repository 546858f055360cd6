//! A runner for one command: plugins are loaded into a temporary instance folder, whatever runs elsewhere. Only the
//! virtual environments are those of the real one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use runner_host::modules::Table;
use runner_host::{Launcher, Modules, ModulesConfig, NoCache, Provided};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::git;
use crate::screen::{Exit, note};
use crate::settings::Settings;

/// How long work that cannot be interrupted may go on when the command ends.
const LAST_WORK: Duration = Duration::from_secs(2);
/// The exit code of a command that was interrupted, as shells have it for Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// What is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The plugin folders.
    Folders,
    /// One file or folder; with the loader of this name, if there is one.
    Path(PathBuf, Option<String>),
}

impl What {
    /// A name, unless it has a slash or there is a file of this name, or a loader is named.
    pub(crate) fn of(name_or_path: &Path, loader: Option<&str>) -> Self {
        let has_slash = name_or_path.as_os_str().as_encoded_bytes().contains(&b'/');
        match has_slash || name_or_path.is_file() || loader.is_some() {
            true => Self::Path(name_or_path.to_owned(), loader.map(str::to_owned)),
            false => Self::Folders,
        }
    }
}

/// What becomes of a virtual environment that a module needs and that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made, in the real instance folder.
    Made,
    /// The module is not loaded, and its reason says what to do.
    Told,
}

/// The temporary instance folder, and what is loaded in it.
pub(crate) struct Scratch {
    pub(crate) settings: Settings,
    pub(crate) modules: Arc<Modules>,
    pub(crate) folder: PathBuf,
}

impl Scratch {
    /// Does something with a scratch runner; Ctrl-C and SIGTERM end it. Whatever happens, hosts and folder are
    /// gone afterwards.
    pub(crate) fn with<T>(
        settings: Settings,
        missing: Missing,
        work: impl AsyncFnOnce(&Scratch) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        Self::with_signals(settings, missing, async |scratch| {
            tokio::select! {
                done = work(scratch) => done,
                () = interrupted() => {
                    note("interrupted");
                    Err(Exit(INTERRUPTED).into())
                }
            }
        })
    }

    /// As [`Scratch::with`], for work that hears [`interrupted`] itself.
    pub(crate) fn with_signals<T>(
        settings: Settings,
        missing: Missing,
        work: impl AsyncFnOnce(&Scratch) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let folder = tempfile::Builder::new()
            .prefix("runner-")
            .tempdir()
            .context("cannot make a temporary folder (TMPDIR names another place)")?;
        let path = folder
            .path()
            .canonicalize()
            .context("cannot find the temporary folder")?;
        let runner = std::env::current_exe().context("cannot find the runner's own program")?;
        // Before any other thread is started, while this process is small.
        let launcher = Launcher::start(&runner, &settings.sandbox)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let environments = settings.environments(&settings.instance, missing == Missing::Made);
        let config = settings.modules(path.clone(), runner, environments);
        let modules = Modules::new(
            ModulesConfig {
                max_hosts: config.max_hosts.max(1),
                ..config
            },
            launcher.clone(),
            Arc::new(NoCache),
            Arc::new(NoCache),
            Arc::new(NoCache),
        );
        let scratch = Self {
            settings,
            modules,
            folder: path,
        };
        let done = runtime.block_on(work(&scratch));
        scratch.modules.close();
        drop(scratch);
        // In this order: nobody speaks to hosts any more, the hosts are gone, their folders can be removed.
        runtime.shutdown_timeout(LAST_WORK);
        drop(launcher);
        drop(folder);
        done
    }

    /// Loads modules. What is wrong with one stands in its status.
    pub(crate) async fn load(&self, what: &What) -> anyhow::Result<Arc<Table>> {
        match what {
            What::Folders => {
                let fetched = git::known(&self.settings.git_plugins);
                self.modules.load(fetched).await?;
            }
            What::Path(path, loader) => {
                std::fs::metadata(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                self.modules.load_only(path, loader.as_deref()).await?;
            }
        }
        Ok(self.modules.table())
    }

    /// Loads what is asked for and finds the plugin in it: by name, `name@version` or identifier; for a path,
    /// its only plugin, or the one named after it.
    pub(crate) async fn find(
        &self,
        name_or_path: &Path,
        plugin: Option<&str>,
        loader: Option<&str>,
    ) -> anyhow::Result<Provided> {
        let what = What::of(name_or_path, loader);
        let table = self.load(&what).await?;
        match (&what, plugin) {
            (What::Path(path, _), None) => match table.plugins() {
                [only] => Ok(only.clone()),
                [] => bail!("{} cannot be loaded: {}", path.display(), reason(&table)),
                several => bail!(
                    "{} has {} plugins; choose one with --plugin: {}",
                    path.display(),
                    several.len(),
                    names(several)
                ),
            },
            (What::Path(path, _), Some(name)) => named(&table, name).with_context(|| {
                format!(
                    "{} has no plugin {name:?}; it has: {}",
                    path.display(),
                    names(table.plugins())
                )
            }),
            (What::Folders, _) => {
                let name = name_or_path.to_string_lossy();
                named(&table, &name).with_context(|| self.not_found(&table, &name))
            }
        }
    }

    fn not_found(&self, table: &Table, name: &str) -> String {
        let folders: Vec<String> = self
            .settings
            .plugin_folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let mut text = match folders.is_empty() {
            true => format!(
                "there is no plugin {name:?}: there are no plugin folders here (PLUGIN_FOLDERS names them)"
            ),
            false => format!("there is no plugin {name:?} in {}", folders.join(", ")),
        };
        let failed = table
            .modules
            .iter()
            .filter(|module| module.status().reason.is_some())
            .count();
        if failed > 0 {
            text.push_str(&format!("; {failed} modules could not be loaded"));
        }
        text.push_str("; `runner plugin list` shows all");
        if Path::new(name).exists() {
            text.push_str(&format!(". The folder {name} is meant by ./{name}"));
        }
        text
    }
}

/// Ctrl-C and SIGTERM, from when this was made: none is missed between two waits.
pub(crate) struct Interrupts(Option<[Signal; 2]>);

impl Interrupts {
    /// Where signals cannot be heard, none ever comes.
    pub(crate) fn new() -> Self {
        let heard = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        let [Ok(interrupt), Ok(terminate)] = heard else {
            return Self(None);
        };
        Self(Some([interrupt, terminate]))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let Some([interrupt, terminate]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    Interrupts::new().next().await;
}

fn named(table: &Table, name: &str) -> Option<Provided> {
    let same = |provided: &&Provided| {
        let plugin = &provided.plugin;
        plugin.identifier == name || plugin.identity.to_string() == name
    };
    table
        .plugins()
        .iter()
        .find(same)
        .or_else(|| table.newest(name))
        .cloned()
}

fn names(plugins: &[Provided]) -> String {
    let names: Vec<String> = plugins
        .iter()
        .map(|provided| provided.plugin.identity.to_string())
        .collect();
    names.join(", ")
}

fn reason(table: &Table) -> String {
    let reason = table
        .modules
        .iter()
        .find_map(|module| module.status().reason);
    reason.unwrap_or_else(|| "it offers no plugin".to_owned())
}
