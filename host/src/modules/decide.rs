//! What an administrator decides counts for all processes. It is written down before it is done; what may fail, such
//! as a load, is tried here before.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use runner_core::module::Origin;
use runner_core::wanted::{Decision, Wanted, WantedModules, WantedState};

use super::Modules;
use super::change::{ChangeError, blocking};
use super::loading::is_kept;
use super::module::Module;
use crate::HostError;

/// Whose change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// An administrator decides, for all processes.
    Administrator,
    /// This process does what was decided, or follows its plugin folders.
    Process,
}

impl Modules {
    /// What is wanted, as far as this process knows.
    pub fn wanted(&self) -> WantedModules {
        self.known().clone()
    }

    pub(super) fn known(&self) -> MutexGuard<'_, WantedModules> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is wanted.
    pub(super) async fn look_at_wanted(&self) -> Result<(), HostError> {
        let wanted = self.ledger.wanted().await.map_err(|error| {
            HostError::Module(format!("what is wanted of modules cannot be read: {error}"))
        })?;
        // A decision of this process may have been faster.
        let mut known = self.known();
        if wanted.generation >= known.generation {
            *known = wanted;
        }
        Ok(())
    }

    /// A module that an administrator removed lies in a plugin folder here, or did when this process began.
    pub(super) fn was_put_aside(&self, module: &Module) {
        if !is_kept(module) {
            self.aside().insert(module.name());
        }
    }

    fn aside(&self) -> MutexGuard<'_, BTreeSet<String>> {
        let aside = self.put_aside.lock();
        aside.unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which removed modules are not to be forgotten, since they would be loaded again.
    pub(super) async fn tell_put_aside(&self) {
        let is_removed = |name: &String| self.known().of(name).state == WantedState::Removed;
        let names: Vec<String> = self.aside().iter().cloned().collect();
        let names: Vec<String> = names.into_iter().filter(is_removed).collect();
        if names.is_empty() {
            return;
        }
        if let Err(error) = self.ledger.put_aside(names).await {
            tracing::warn!("that removed modules lie in plugin folders is told later: {error}");
        }
    }

    /// What is wanted of a module that is loaded here.
    fn wanted_of(&self, name: &str, origin: Origin) -> Wanted {
        let known = self.known();
        let wanted = known.get(name, origin == Origin::Administrator);
        wanted.cloned().unwrap_or_else(|| Wanted::of_folder(name))
    }

    /// A module is to be stopped or removed everywhere.
    pub(super) async fn decide_end(
        &self,
        module: &Module,
        state: WantedState,
    ) -> Result<(), ChangeError> {
        let origin = module.source.origin;
        let wanted = Wanted {
            state,
            ..self.wanted_of(&module.name(), origin)
        };
        // One that never came to be wanted is not wanted any less.
        if origin == Origin::Administrator && wanted.kept.is_none() {
            return Ok(());
        }
        let is_load = false;
        self.decide(Decision { wanted, is_load }).await.map(drop)
    }

    /// A module that has proved to be loadable is to run everywhere; with `is_load` anew, from these files.
    pub(super) async fn decide_load(
        &self,
        module: &Module,
        is_load: bool,
    ) -> Result<(), ChangeError> {
        let source = &module.source;
        let mut wanted = self.wanted_of(&module.name(), source.origin);
        wanted.state = WantedState::Running;
        wanted.args.clone_from(&source.args);
        wanted.loader.clone_from(&source.loader);
        if is_load && source.origin == Origin::Administrator {
            wanted.kept = Some(self.keep(module).await?);
        }
        let key = wanted.kept.as_ref().map(|kept| kept.key.clone());
        let loaded = wanted.loaded;
        match self.decide(Decision { wanted, is_load }).await {
            Ok(generation) => {
                module.is_loaded_for(if is_load { generation } else { loaded });
                Ok(())
            }
            Err(error) => {
                if let (true, Some(key), ChangeError::Conflict(_)) = (is_load, key, &error) {
                    let ledger = Arc::clone(&self.ledger);
                    blocking(move || ledger.discard(&key)).await?;
                }
                Err(error)
            }
        }
    }

    async fn decide(&self, decision: Decision) -> Result<i64, ChangeError> {
        let name = decision.wanted.name.clone();
        let decided = self.ledger.decide(decision.clone()).await;
        match decided.map_err(|error| ChangeError::Away(name.clone(), error))? {
            Some(generation) => {
                self.known().take(&decision, generation);
                self.look.notify_one();
                Ok(generation)
            }
            None => {
                self.look.notify_one();
                Err(ChangeError::Conflict(format!(
                    "something else was decided about the module {name} meanwhile, elsewhere: look at it again"
                )))
            }
        }
    }
}
