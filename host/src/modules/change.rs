//! What administrators do with modules while the runner runs.
//!
//! Each change goes on when its caller is gone, and each has an end: a load when its host does not answer in time, a
//! removal at its deadline.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use runner_core::module::{ModuleState, Origin, check_name};

use super::in_progress::{Change, Verb};
use super::loading::finalize;
use super::module::{Module, Source};
use super::{Modules, ModulesConfig};
use crate::HostError;
use crate::discovery::Candidate;
use crate::pool::PoolConfig;

/// The reason of a module that an administrator stopped.
pub(super) const STOPPED: &str = "stopped";

/// A module that is to be loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadRequest {
    /// An absolute path; without a slash the name of a module or file in the plugin folders.
    pub target: String,
    /// Its name, instead of the one in its manifest or that of its file.
    pub name: Option<String>,
    /// Its arguments, instead of those in its manifest.
    pub args: Option<Vec<Value>>,
    /// Its loader, instead of the one that would be chosen.
    pub loader: Option<String>,
}

/// Why a module was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is none of this name.
    #[error("there is no module {0:?}")]
    Unknown(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Unusable(String),
    /// It does not fit what there is now.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be loaded.
    #[error("the module {name} was not loaded: {reason}")]
    Failed {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
}

/// How the end of a module went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Processes that were still at work at the deadline, and were killed.
    pub killed: usize,
}

impl Modules {
    /// Loads a module; answers when it is RUNNING.
    ///
    /// # Errors
    /// There is one of this name, or why it cannot be loaded. Then nothing of it is left.
    pub async fn load_module(
        self: &Arc<Self>,
        request: LoadRequest,
    ) -> Result<Arc<Module>, ChangeError> {
        let modules = Arc::clone(self);
        detached(async move { modules.load_new(request, Origin::Administrator).await }).await
    }

    /// Loads an EXITED module again; answers when it is RUNNING.
    ///
    /// # Errors
    /// There is none, it is running, or why it cannot be loaded.
    pub async fn start(self: &Arc<Self>, name: &str) -> Result<Arc<Module>, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let change = modules.begin(&name, Verb::Start)?;
            let module = modules.named(&name)?;
            match module.state() {
                ModuleState::Exited => modules.load_again(change, module, None, None).await,
                state => Err(ChangeError::Conflict(format!(
                    "the module {name} is {state}; only one that is EXITED can be started"
                ))),
            }
        })
        .await
    }

    /// Loads the newer version of a module, lets it take the place of the older one, and answers; the older one ends
    /// meanwhile, within `limit`. With `args` it is loaded with other arguments.
    ///
    /// # Errors
    /// There is none, another change of it is in progress, or why its newer version cannot be loaded: then the older
    /// one is as it was.
    pub async fn reload(
        self: &Arc<Self>,
        name: &str,
        args: Option<Vec<Value>>,
        limit: Option<Duration>,
    ) -> Result<Arc<Module>, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let change = modules.begin(&name, Verb::Reload)?;
            let module = modules.named(&name)?;
            modules.load_again(change, module, args, limit).await
        })
        .await
    }

    /// Ends a module, which stays known; answers when it is EXITED, `limit` at the latest.
    ///
    /// # Errors
    /// There is none, it is not running, or others require it.
    pub async fn stop(
        self: &Arc<Self>,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Ended, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let change = modules.in_progress.begin_at_any_rate(&name, Verb::Stop);
            let _change = change.await.map_err(ChangeError::Conflict)?;
            let module = modules.named(&name)?;
            match module.state() {
                ModuleState::Exited => Err(ChangeError::Conflict(format!(
                    "the module {name} is EXITED already"
                ))),
                _ => modules.end(&module, STOPPED, limit).await,
            }
        })
        .await
    }

    /// Ends a module and forgets it; answers when it is gone, `limit` at the latest. A load that is in progress is
    /// given up.
    ///
    /// # Errors
    /// There is none, or others require it.
    pub async fn remove(
        self: &Arc<Self>,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Ended, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let was_there = modules.table().module(&name).is_some();
            let change = modules.in_progress.begin_at_any_rate(&name, Verb::Remove);
            let _change = change.await.map_err(ChangeError::Conflict)?;
            let module = match modules.named(&name) {
                Ok(module) => module,
                // It was just being loaded, and that was given up.
                Err(_) if was_there => return Ok(Ended { killed: 0 }),
                Err(error) => return Err(error),
            };
            let ended = match module.state() {
                ModuleState::Exited => Ended { killed: 0 },
                _ => modules.end(&module, "removed", limit).await?,
            };
            modules.forget(&module);
            module.tap.close();
            Ok(ended)
        })
        .await
    }

    /// Loads a module that was not there.
    pub(super) async fn load_new(
        self: &Arc<Self>,
        request: LoadRequest,
        origin: Origin,
    ) -> Result<Arc<Module>, ChangeError> {
        if let Some(name) = &request.name {
            check_name(name).map_err(|error| ChangeError::Unusable(error.to_string()))?;
        }
        check_target(&request.target)?;
        let hosting = self.settled().await;
        let config = self.config.clone();
        let (target, loader) = (request.target, request.loader.clone());
        let found = blocking(move || find(&config, &target, loader.as_deref())).await?;
        let mut candidate = found?;
        if let Some(name) = &request.name {
            candidate.name.clone_from(name);
        }
        let name = candidate.name.clone();
        check_name(&name).map_err(|error| {
            ChangeError::Unusable(format!("{error}; another name can be given"))
        })?;
        let change = self.begin(&name, Verb::Load)?;
        let source = Source {
            path: candidate.path.clone(),
            name: request.name,
            args: request.args,
            loader: request.loader,
            origin,
        };
        let tap = self
            .table()
            .module(&name)
            .map(|older| Arc::clone(&older.tap));
        let module = self.module(&candidate, source, tap.unwrap_or_default());
        let older = match self.table().module(&name) {
            None => {
                self.replace(|table| table.modules.push(Arc::clone(&module)));
                Arc::clone(&module)
            }
            Some(older) => {
                replaceable(&name, older, &module)?;
                Arc::clone(older)
            }
        };
        let loaded = self
            .load_in_place_of(&change, &older, &module, candidate, hosting)
            .await;
        // What lies in a plugin folder is shown with what is wrong with it, as after a start.
        if loaded.is_err() && origin == Origin::Administrator {
            self.forget(&module);
        }
        loaded.map(|()| module)
    }

    /// Loads a module once more, from where it was loaded before.
    async fn load_again(
        self: &Arc<Self>,
        change: Change,
        older: Arc<Module>,
        args: Option<Vec<Value>>,
        limit: Option<Duration>,
    ) -> Result<Arc<Module>, ChangeError> {
        let hosting = self.settled().await;
        let mut source = older.source.clone();
        source.args = args.or(source.args);
        let (config, path, loader) = (
            self.config.clone(),
            source.path.clone(),
            source.loader.clone(),
        );
        let looked = move || config.discovery(loader.as_deref()).look_at_one(&path);
        let mut candidate = blocking(looked).await?;
        candidate.name = older.name();
        let was_running = older.state() == ModuleState::Running;
        let module = self.module(&candidate, source, Arc::clone(&older.tap));
        let loaded = self
            .load_in_place_of(&change, &older, &module, candidate, hosting)
            .await;
        match loaded {
            Ok(()) => {}
            Err(error) => {
                older.change(|status| match was_running {
                    true => status.refused = Some(error.to_string()),
                    false => status.reason = Some(error.to_string()),
                });
                return Err(error);
            }
        }
        if was_running {
            let (modules, limit) = (Arc::clone(self), limit.unwrap_or(self.config.drain));
            let reason = format!("replaced by {}", module.status().uuid);
            tokio::spawn(async move { modules.drain(&older, limit, &reason).await });
        }
        Ok(module)
    }

    /// All of a load that can fail, and then its taking the place of an older one.
    async fn load_in_place_of(
        &self,
        change: &Change,
        older: &Arc<Module>,
        module: &Arc<Module>,
        candidate: Candidate,
        hosting: PoolConfig,
    ) -> Result<(), ChangeError> {
        let preparing = async {
            let read = self.read(vec![(module, candidate)], &hosting).await?;
            let read = read
                .into_iter()
                .next()
                .unwrap_or_else(|| Err(HostError::Module("it was not read".to_owned())))?;
            self.prepare(module, read, hosting.clone()).await
        };
        let prepared = tokio::select! {
            prepared = preparing => prepared,
            () = change.given_up() => Err(HostError::Module(
                "it was removed or stopped while it was being loaded".to_owned(),
            )),
        };
        let provided =
            prepared.and_then(|provided| self.provide_in_place_of(older, module, provided));
        provided.map_err(|error| {
            let reason = error.to_string();
            module.fail(&reason);
            ChangeError::Failed {
                name: module.name(),
                reason,
            }
        })
    }

    async fn end(
        &self,
        module: &Arc<Module>,
        reason: &str,
        limit: Option<Duration>,
    ) -> Result<Ended, ChangeError> {
        self.try_replace(|table| {
            let dependents = table.dependents(module);
            if !dependents.is_empty() {
                return Err(ChangeError::Conflict(format!(
                    "the module {} is required by {}, which runs",
                    module.name(),
                    dependents.join(", ")
                )));
            }
            finalize(module, reason);
            table.take_away(module, false);
            Ok(())
        })?;
        let limit = limit.unwrap_or(self.config.drain);
        let killed = self.drain(module, limit, reason).await;
        Ok(Ended { killed })
    }

    fn forget(&self, module: &Arc<Module>) {
        self.replace(|table| {
            table.modules.retain(|other| !Arc::ptr_eq(other, module));
        });
    }

    fn begin(&self, name: &str, verb: Verb) -> Result<Change, ChangeError> {
        self.in_progress
            .begin(name, verb)
            .map_err(ChangeError::Conflict)
    }

    fn named(&self, name: &str) -> Result<Arc<Module>, ChangeError> {
        let table = self.table();
        let module = table.module(name).cloned();
        module.ok_or_else(|| ChangeError::Unknown(name.to_owned()))
    }

    /// What pools share, as soon as the plugin folders were gone through.
    pub(super) async fn settled(&self) -> PoolConfig {
        let mut hosting = self.hosting.subscribe();
        loop {
            if let Some(hosting) = hosting.borrow_and_update().clone() {
                return hosting;
            }
            if hosting.changed().await.is_err() {
                // The sender lives as long as self.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Does it whatever becomes of the caller.
async fn detached<T: Send + 'static>(
    change: impl Future<Output = Result<T, ChangeError>> + Send + 'static,
) -> Result<T, ChangeError> {
    match tokio::spawn(change).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ChangeError::Conflict(format!(
            "the change ended with an error of the runner: {error}"
        ))),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChangeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ChangeError::Conflict(format!("looking at the module failed: {error}")))
}

/// Whether a load may take the place of what has its name.
fn replaceable(name: &str, older: &Module, module: &Module) -> Result<(), ChangeError> {
    let (older, path) = (older.status(), module.status().path);
    let absolute = |path: &str| std::path::absolute(path).unwrap_or_else(|_| path.into());
    let is_same = absolute(&older.path) == absolute(&path);
    if older.state == ModuleState::Exited && is_same {
        return Ok(());
    }
    let advice = match is_same {
        true => "reload it, or give it another name to load it twice",
        false => "give it another name, or remove that one first",
    };
    Err(ChangeError::Conflict(format!(
        "the module {name} is already loaded, from {} ({}): {advice}",
        older.path, older.state
    )))
}

fn check_target(target: &str) -> Result<(), ChangeError> {
    let problem = if target.is_empty() {
        "what is to be loaded is not said"
    } else if target.chars().any(char::is_control) {
        "what is to be loaded has control characters in its name"
    } else if target.contains('/') && !Path::new(target).is_absolute() {
        "the path of what is to be loaded is not absolute"
    } else {
        return Ok(());
    };
    Err(ChangeError::Unusable(format!(
        "{problem} ({target:?}); expected an absolute path, or the name of a module in the plugin folders"
    )))
}

/// What a path or a name leads to.
fn find(
    config: &ModulesConfig,
    target: &str,
    loader: Option<&str>,
) -> Result<Candidate, ChangeError> {
    let discovery = config.discovery(loader);
    if target.contains('/') {
        return Ok(discovery.look_at_one(Path::new(target)));
    }
    let is_named = |candidate: &Candidate| {
        let file = candidate.path.file_name().unwrap_or_default();
        candidate.name == target || file == target
    };
    let mut candidates = discovery
        .discover(&config.folders, &mut BTreeSet::new())
        .into_iter();
    candidates.find(is_named).ok_or_else(|| {
        let folders: Vec<_> = config
            .folders
            .iter()
            .map(|folder: &PathBuf| folder.display().to_string())
            .collect();
        let places = match folders.is_empty() {
            true => "there are no plugin folders".to_owned(),
            false => format!("it is not in {}", folders.join(", ")),
        };
        ChangeError::Failed {
            name: target.to_owned(),
            reason: format!("{places} (a path has a slash)"),
        }
    })
}
