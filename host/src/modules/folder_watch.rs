//! Follows the plugin folders: what changes there is reloaded, what is new is loaded, what is gone is removed.
//!
//! What the system tells of changes only says when to look. What is done follows from a look at all folders, compared
//! with the last one: so nothing depends on a message that got lost, or on how many came.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use runner_core::file::FileStat;
use runner_core::module::{ModuleState, Origin};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::change::{LoadRequest, STOPPED};
use super::decide::By;
use super::{Modules, ModulesConfig};
use crate::HostError;
use crate::digest::{self, ModuleFile};
use crate::discovery::Candidate;

/// So long nothing must change before what changed is looked at: who writes a file writes several times.
const QUIET: Duration = Duration::from_millis(300);
/// Where something changes all the time, it is looked at after this.
const LONGEST: Duration = Duration::from_secs(3);
/// Between two looks when nothing was told: a folder may be away, or where it is nothing is ever told.
const LOOK: Duration = Duration::from_secs(5);

/// What a module in a plugin folder is made of, as far as it can be known without reading it.
type Signature = Vec<(PathBuf, Option<FileStat>)>;

/// A look at the plugin folders.
#[derive(Debug, Default)]
struct Scan {
    modules: BTreeMap<PathBuf, Signature>,
    /// Folders that cannot be read.
    away: BTreeSet<PathBuf>,
}

/// Follows the plugin folders.
pub struct FolderWatch {
    modules: Arc<Modules>,
    watcher: RecommendedWatcher,
    told: mpsc::Receiver<()>,
    /// Device and inode of the folders of which changes are told: another one may be in the place of one.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    last: Scan,
}

impl FolderWatch {
    /// Looks at the folders for the first time. Before [`Modules::load`], so that nothing changes in between unseen.
    ///
    /// # Errors
    /// The system does not tell of changes.
    pub async fn new(modules: &Arc<Modules>) -> Result<Self, HostError> {
        let (tell, told) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if is_change(&event) {
                // One that waits says it all.
                let _ = tell.try_send(());
            }
        });
        let watcher = watcher.map_err(|error| {
            HostError::Module(format!("the plugin folders cannot be watched: {error}"))
        })?;
        let mut watch = Self {
            modules: Arc::clone(modules),
            watcher,
            told,
            watched: BTreeMap::new(),
            last: Scan::default(),
        };
        watch.watch_folders();
        watch.last = watch.scan().await;
        Ok(watch)
    }

    /// Follows them, as soon as all modules were loaded.
    pub async fn follow(mut self) {
        self.modules.settled().await;
        loop {
            self.watch_folders();
            self.reconcile().await;
            self.quiet().await;
        }
    }

    /// Waits for a change, and then until there are no more for a moment.
    async fn quiet(&mut self) {
        // The sender lives as long as the watcher.
        let _ = tokio::time::timeout(LOOK, self.told.recv()).await;
        let until = Instant::now() + LONGEST;
        while Instant::now() < until {
            match tokio::time::timeout(QUIET, self.told.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Asks to be told of changes in folders that are there, and were not, or were others.
    fn watch_folders(&mut self) {
        for folder in self.modules.config.folders.clone() {
            let now = std::fs::metadata(&folder).map(|found| (found.dev(), found.ino()));
            let Ok(now) = now else {
                self.watched.remove(&folder);
                continue;
            };
            if self.watched.get(&folder) == Some(&now) {
                continue;
            }
            let _ = self.watcher.unwatch(&folder);
            match self.watcher.watch(&folder, RecursiveMode::Recursive) {
                Ok(()) => {
                    self.watched.insert(folder, now);
                }
                // It is looked at now and then.
                Err(error) => tracing::warn!(
                    "changes of the plugin folder {} are seen late: {error}",
                    folder.display()
                ),
            }
        }
    }

    async fn scan(&self) -> Scan {
        let config = self.modules.config.clone();
        let scan = tokio::task::spawn_blocking(move || scan(&config)).await;
        scan.unwrap_or_default()
    }

    /// Does what is different from the last look. What lies in a folder that is away is left as it is: hosts run from
    /// copies, and a folder may come back.
    async fn reconcile(&mut self) {
        let now = self.scan().await;
        for folder in now.away.difference(&self.last.away) {
            tracing::warn!(
                "the plugin folder {} is away; its modules stay as they are until it is back",
                folder.display()
            );
        }
        for folder in self.last.away.difference(&now.away) {
            tracing::info!("the plugin folder {} is there", folder.display());
        }
        let is_away = |path: &Path| {
            path.parent()
                .is_some_and(|folder| now.away.contains(folder))
        };
        let mut modules = now.modules.clone();
        for (path, signature) in &self.last.modules {
            if modules.contains_key(path) {
                continue;
            }
            match is_away(path) {
                true => {
                    modules.insert(path.clone(), signature.clone());
                }
                false => self.gone(path).await,
            }
        }
        for (path, signature) in &now.modules {
            if self.last.modules.get(path) != Some(signature) {
                self.changed(path).await;
            }
        }
        self.last = Scan { modules, ..now };
    }

    /// The names of the modules that were loaded from a path, but those that an administrator stopped.
    fn named(&self, path: &Path) -> Vec<String> {
        let table = self.modules.table();
        let is_of = |path_of: &Path| same(path_of, path);
        let found = table.modules.iter().filter(|module| {
            let status = module.status();
            let is_stopped =
                status.state == ModuleState::Exited && status.reason.as_deref() == Some(STOPPED);
            is_of(&module.source.path) && is_own(module) && !is_stopped
        });
        found.map(|module| module.name()).collect()
    }

    async fn gone(&self, path: &Path) {
        for name in self.named(path) {
            tracing::info!(module = name, "{} is gone", path.display());
            if let Err(error) = self.modules.remove_by(By::Process, &name, None).await {
                tracing::warn!("what is gone cannot be removed: {error}");
            }
        }
    }

    async fn changed(&self, path: &Path) {
        let names = self.named(path);
        for name in &names {
            tracing::info!(module = name, "{} has changed", path.display());
            if let Err(error) = self.modules.reload_by(By::Process, name, None, None).await {
                tracing::warn!("what has changed cannot be reloaded: {error}");
            }
        }
        let is_known =
            |module: &Arc<super::Module>| is_own(module) && same(&module.source.path, path);
        if !names.is_empty() || self.modules.table().modules.iter().any(is_known) {
            return;
        }
        let Some(target) = path.to_str().map(str::to_owned) else {
            return tracing::warn!("the name of {} is not UTF-8: rename it", path.display());
        };
        tracing::info!("{target} is new");
        let request = LoadRequest {
            target,
            ..LoadRequest::default()
        };
        if let Err(error) = self.modules.load_new(request, By::Process).await {
            tracing::warn!("what is new cannot be loaded: {error}");
        }
    }
}

/// Whether a module is the machine's own. One that is kept is the same everywhere.
fn is_own(module: &super::Module) -> bool {
    module.source.origin == Origin::Folder
}

/// Whether something may be different now. That files are opened is told, too, and happens when they are looked at.
fn is_change(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        },
        // Some were lost.
        Err(_) => true,
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute(one) == absolute(other)
}

fn scan(config: &ModulesConfig) -> Scan {
    let mut scan = Scan::default();
    let (there, away): (Vec<_>, Vec<_>) = config
        .folders
        .iter()
        .map(|folder| std::path::absolute(folder).unwrap_or_else(|_| folder.clone()))
        .partition(|folder| std::fs::read_dir(folder).is_ok());
    scan.away.extend(away);
    for candidate in config
        .discovery(None)
        .discover(&there, &mut BTreeSet::new())
    {
        let signature = signature(&candidate);
        scan.modules.insert(candidate.path, signature);
    }
    scan
}

fn signature(candidate: &Candidate) -> Signature {
    let of_file = |path: &Path| {
        let file = ModuleFile::new(path.to_owned(), String::new()).ok();
        (path.to_owned(), file.map(|file| file.stat))
    };
    let Ok(found) = &candidate.found else {
        return match digest::files_of(&candidate.path) {
            Ok(files) if !files.is_empty() => stats(files),
            _ => vec![of_file(&candidate.path)],
        };
    };
    let mut signature = found
        .folder
        .as_ref()
        .and_then(|folder| digest::files_of(folder).ok())
        .map(stats)
        .unwrap_or_default();
    signature.push(of_file(&found.entry));
    signature
}

fn stats(files: Vec<ModuleFile>) -> Signature {
    let stats = files.into_iter().map(|file| (file.source, Some(file.stat)));
    stats.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looking_does_is_no_change() {
        let event = |kind| Ok(Event::new(kind));
        assert!(!is_change(&event(EventKind::Access(AccessKind::Open(
            AccessMode::Any
        )))));
        assert!(!is_change(&event(EventKind::Access(AccessKind::Close(
            AccessMode::Read
        )))));
        assert!(is_change(&event(EventKind::Access(AccessKind::Close(
            AccessMode::Write
        )))));
        assert!(is_change(&event(EventKind::Remove(
            notify::event::RemoveKind::Any
        ))));
        assert!(is_change(&Err(notify::Error::generic("lost"))));
    }
}
