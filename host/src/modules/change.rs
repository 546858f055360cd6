//! What administrators do with modules while the runner runs.
//!
//! Each change goes on when its caller is gone, and each has an end: a load when its host does not answer in time, a
//! removal at its deadline. What administrators decide is written down for all processes (`decide`); the same changes
//! are made by the process itself, which follows what was decided, or its plugin folders.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use runner_core::module::{ModuleState, Origin, check_name};
use runner_core::wanted::WantedState;

use super::Modules;
use super::decide::By;
use super::in_progress::{Change, Verb};
use super::loading::{finalize, is_kept};
use super::module::{Module, Source};
use super::replace::Newer;
use super::table::Table;
use super::target::{check_target, find, is_own, replaceable};
use crate::pool::PoolConfig;
use crate::tap::Tap;

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
    /// Its files cannot be put to where all processes have them, or be had from there, just now.
    #[error("the module {name} was not loaded: {reason}")]
    Unavailable {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// It cannot be written down for all processes; nothing was done.
    #[error("what is wanted of the module {0} cannot be written down: {1}")]
    Away(String, String),
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
        detached(async move { modules.load_new(request, By::Administrator).await }).await
    }

    /// Loads an EXITED module again; answers when it is RUNNING.
    ///
    /// # Errors
    /// There is none, it is running, or why it cannot be loaded.
    pub async fn start(self: &Arc<Self>, name: &str) -> Result<Arc<Module>, ChangeError> {
        self.start_by(By::Administrator, name).await
    }

    pub(super) async fn start_by(
        self: &Arc<Self>,
        by: By,
        name: &str,
    ) -> Result<Arc<Module>, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let change = modules.begin(&name, Verb::Start)?;
            let older = modules.named(&name)?;
            match older.state() {
                ModuleState::Exited => {}
                state => {
                    return Err(ChangeError::Conflict(format!(
                        "the module {name} is {state}; only one that is EXITED can be started"
                    )));
                }
            }
            let candidate = match is_kept(&older) {
                true => modules.kept_again(&older).await?,
                false => {
                    modules
                        .look_again(&older, older.source.path.clone())
                        .await?
                }
            };
            let module = modules.again(&older, &candidate, older.source.args.clone());
            let newer = Newer {
                module,
                candidate,
                is_load: false,
                by,
            };
            modules.replace_by(change, older, newer, None).await
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
        self.reload_by(By::Administrator, name, args, limit).await
    }

    pub(super) async fn reload_by(
        self: &Arc<Self>,
        by: By,
        name: &str,
        args: Option<Vec<Value>>,
        limit: Option<Duration>,
    ) -> Result<Arc<Module>, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let change = modules.begin(&name, Verb::Reload)?;
            let older = modules.named(&name)?;
            // One that is kept was perhaps loaded from a copy; where it lay there may be a newer version.
            let path = PathBuf::from(older.status().path);
            let candidate = modules.look_again(&older, path).await?;
            let args = args.or_else(|| older.source.args.clone());
            let module = modules.again(&older, &candidate, args);
            let newer = Newer {
                module,
                candidate,
                is_load: true,
                by,
            };
            modules.replace_by(change, older, newer, limit).await
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
        self.stop_by(By::Administrator, name, limit).await
    }

    pub(super) async fn stop_by(
        self: &Arc<Self>,
        by: By,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Ended, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let _change = modules.begin_end(&name, Verb::Stop).await?;
            let module = modules.named(&name)?;
            // One that failed here may run elsewhere.
            let is_stopped = module.state() == ModuleState::Exited
                && module.status().reason.as_deref() == Some(STOPPED);
            if is_stopped {
                return Err(ChangeError::Conflict(format!(
                    "the module {name} is EXITED already"
                )));
            }
            modules.end(&module, WantedState::Stopped, by, limit).await
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
        self.remove_by(By::Administrator, name, limit).await
    }

    pub(super) async fn remove_by(
        self: &Arc<Self>,
        by: By,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Ended, ChangeError> {
        let (modules, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let was_there = modules.table().module(&name).is_some();
            let _change = modules.begin_end(&name, Verb::Remove).await?;
            let module = match modules.named(&name) {
                Ok(module) => module,
                // It was just being loaded, and that was given up.
                Err(_) if was_there => return Ok(Ended { killed: 0 }),
                Err(error) => return Err(error),
            };
            let ended = modules
                .end(&module, WantedState::Removed, by, limit)
                .await?;
            modules.forget(&module);
            modules.was_put_aside(&module);
            module.tap.close();
            Ok(ended)
        })
        .await
    }

    /// Loads a module that was not there.
    pub(super) async fn load_new(
        self: &Arc<Self>,
        request: LoadRequest,
        by: By,
    ) -> Result<Arc<Module>, ChangeError> {
        if let Some(name) = &request.name {
            check_name(name).map_err(|error| ChangeError::Unusable(error.to_string()))?;
        }
        check_target(&request.target)?;
        let hosting = self.settled().await;
        let config = self.config.clone();
        let (target, loader) = (request.target.clone(), request.loader.clone());
        let found = blocking(move || find(&config, &target, loader.as_deref())).await?;
        let mut candidate = found?;
        let origin = match by == By::Process || is_own(&self.config, &request, &candidate) {
            true => Origin::Folder,
            false => Origin::Administrator,
        };
        if let Some(name) = &request.name {
            candidate.name.clone_from(name);
        }
        let name = candidate.name.clone();
        check_name(&name).map_err(|error| {
            ChangeError::Unusable(format!("{error}; another name can be given"))
        })?;
        let change = self.begin(&name, Verb::Load)?;
        let wanted = self.known().of(&name);
        if by == By::Process && (wanted.kept.is_some() || wanted.state != WantedState::Running) {
            return Err(ChangeError::Conflict(format!(
                "an administrator decided otherwise about the module {name}"
            )));
        }
        let source = Source {
            path: candidate.path.clone(),
            name: request.name,
            args: request.args,
            loader: request.loader,
            origin,
        };
        let tap = self.tap_of(&name);
        let module = self.module(&candidate, source, tap);
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
        let newer = Newer {
            module: Arc::clone(&module),
            candidate,
            is_load: true,
            by,
        };
        let loaded = self.load_in_place_of(&change, &older, newer, hosting).await;
        // What lies in a plugin folder is shown with what is wrong with it, as after a start.
        if loaded.is_err() && by == By::Administrator {
            self.forget(&module);
        }
        loaded.map(|()| module)
    }

    /// Ends a module if it is not needed by others. That it is to end everywhere is written down before.
    async fn end(
        &self,
        module: &Arc<Module>,
        state: WantedState,
        by: By,
        limit: Option<Duration>,
    ) -> Result<Ended, ChangeError> {
        if by == By::Administrator {
            not_required(&self.table(), module)?;
            self.decide_end(module, state).await?;
        }
        let reason = match state {
            WantedState::Removed => "removed",
            _ => STOPPED,
        };
        if module.state() == ModuleState::Exited {
            module.exit(reason);
            return Ok(Ended { killed: 0 });
        }
        self.try_replace(|table| {
            not_required(table, module)?;
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

    /// Begins the end of a module; a load of it is given up.
    async fn begin_end(&self, name: &str, verb: Verb) -> Result<Change, ChangeError> {
        let change = self.in_progress.begin_at_any_rate(name, verb).await;
        change.map_err(ChangeError::Conflict)
    }

    pub(super) fn begin(&self, name: &str, verb: Verb) -> Result<Change, ChangeError> {
        self.in_progress
            .begin(name, verb)
            .map_err(ChangeError::Conflict)
    }

    pub(super) fn named(&self, name: &str) -> Result<Arc<Module>, ChangeError> {
        let table = self.table();
        let module = table.module(name).cloned();
        module.ok_or_else(|| ChangeError::Unknown(name.to_owned()))
    }

    /// What watches the messages of a module of this name, also over its loads.
    pub(super) fn tap_of(&self, name: &str) -> Arc<Tap> {
        let table = self.table();
        let older = table.module(name);
        older
            .map(|older| Arc::clone(&older.tap))
            .unwrap_or_default()
    }

    /// What pools share, as soon as the plugin folders were gone through.
    pub(crate) async fn settled(&self) -> PoolConfig {
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

/// Whether no running module requires this one.
fn not_required(table: &Table, module: &Module) -> Result<(), ChangeError> {
    let dependents = table.dependents(module);
    match dependents.is_empty() {
        true => Ok(()),
        false => Err(ChangeError::Conflict(format!(
            "the module {} is required by {}, which runs",
            module.name(),
            dependents.join(", ")
        ))),
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

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChangeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ChangeError::Conflict(format!("looking at the module failed: {error}")))
}
