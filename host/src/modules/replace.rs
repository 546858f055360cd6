//! A newer load in place of an older one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runner_core::module::ModuleState;
use serde_json::Value;

use super::Modules;
use super::change::{ChangeError, blocking};
use super::decide::By;
use super::in_progress::Change;
use super::loading::{is_kept, place};
use super::module::Module;
use crate::HostError;
use crate::discovery::Candidate;
use crate::pool::PoolConfig;

/// What replaces a load.
pub(super) struct Newer {
    pub(super) module: Arc<Module>,
    pub(super) candidate: Candidate,
    /// Whether all processes are to load it anew.
    pub(super) is_load: bool,
    pub(super) by: By,
}

impl Modules {
    /// Looks at what a module was loaded from, or where its newer version lies.
    pub(super) async fn look_again(
        &self,
        older: &Module,
        path: PathBuf,
    ) -> Result<Candidate, ChangeError> {
        let (config, loader) = (self.config.clone(), older.source.loader.clone());
        let looked = blocking(move || config.discovery(loader.as_deref()).look_at_one(&path));
        let mut candidate = looked.await?;
        candidate.name = older.name();
        Ok(candidate)
    }

    /// What is kept of a module.
    pub(super) async fn kept_again(&self, older: &Module) -> Result<Candidate, ChangeError> {
        let name = older.name();
        let wanted = self.known().get(&name, true).cloned();
        match wanted.as_ref().map(|wanted| (wanted, &wanted.kept)) {
            Some((wanted, Some(kept))) => Ok(self.kept_candidate(wanted, kept).await),
            _ => Err(ChangeError::Conflict(format!(
                "the module {name} was removed elsewhere"
            ))),
        }
    }

    /// Another load of a module, which begins.
    pub(super) fn again(
        &self,
        older: &Module,
        candidate: &Candidate,
        args: Option<Vec<Value>>,
    ) -> Arc<Module> {
        let mut source = older.source.clone();
        source.args = args;
        source.path.clone_from(&candidate.path);
        if is_kept(older) {
            source.name = Some(older.name());
        }
        let module = self.module(candidate, source, Arc::clone(&older.tap));
        module.is_loaded_for(older.loaded());
        let path = older.status().path;
        module.change(|status| status.path = path);
        module
    }

    /// Loads a module in place of an older load, which then ends within `limit`.
    pub(super) async fn replace_by(
        self: &Arc<Self>,
        change: Change,
        older: Arc<Module>,
        newer: Newer,
        limit: Option<Duration>,
    ) -> Result<Arc<Module>, ChangeError> {
        let hosting = self.settled().await;
        let module = Arc::clone(&newer.module);
        let was_running = older.state() == ModuleState::Running;
        let loaded = self.load_in_place_of(&change, &older, newer, hosting).await;
        if let Err(error) = loaded {
            older.change(|status| match was_running {
                true => status.refused = Some(error.to_string()),
                false => status.reason = Some(error.to_string()),
            });
            return Err(error);
        }
        if was_running {
            let (modules, limit) = (Arc::clone(self), limit.unwrap_or(self.config.drain));
            let reason = format!("replaced by {}", module.status().uuid);
            tokio::spawn(async move { modules.drain(&older, limit, &reason).await });
        }
        Ok(module)
    }

    /// All of a load that can fail, and then its taking the place of an older one. Between the two it is written down
    /// for all processes, if an administrator wants it.
    pub(super) async fn load_in_place_of(
        &self,
        change: &Change,
        older: &Arc<Module>,
        newer: Newer,
        hosting: PoolConfig,
    ) -> Result<(), ChangeError> {
        let Newer {
            module,
            candidate,
            is_load,
            by,
        } = newer;
        let failed = |error: HostError| {
            let (name, reason) = (module.name(), error.to_string());
            match error {
                HostError::Away(_) => ChangeError::Unavailable { name, reason },
                _ => ChangeError::Failed { name, reason },
            }
        };
        let preparing = async {
            let read = self.read_one(&module, candidate, &hosting).await?;
            self.prepare(&module, read, hosting.clone()).await
        };
        let prepared = tokio::select! {
            prepared = preparing => prepared,
            () = change.given_up() => Err(HostError::Module(
                "it was removed or stopped while it was being loaded".to_owned(),
            )),
        };
        let switch = async {
            let provided = prepared.map_err(failed)?;
            let _claim = self.claims.claim(module.name(), &provided).await;
            if by == By::Administrator {
                place(&self.table(), older, &module, &provided).map_err(failed)?;
                self.decide_load(&module, is_load).await?;
            }
            self.provide_in_place_of(older, &module, provided)
                .map_err(failed)
        };
        let switched = switch.await;
        if let Err(error) = &switched {
            module.fail(&match error {
                ChangeError::Failed { reason, .. } | ChangeError::Unavailable { reason, .. } => {
                    reason.clone()
                }
                error => error.to_string(),
            });
        }
        switched
    }
}
