//! The start: all modules that there are, before anybody changes one.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use runner_core::module::Origin;
use runner_core::wanted::WantedState;

use super::module::{Module, Source};
use super::order::{self, Wish};
use super::{Modules, is_set};
use crate::discovery::{Candidate, Discovery, Fetched};
use crate::environments::UNUSED;
use crate::folders::Folders;
use crate::pool::PoolConfig;
use crate::reading::ReadModule;
use crate::{HostError, sdk};

/// What modules are loaded with.
struct Prepared {
    folders: Folders,
    hosting: PoolConfig,
}

/// A module that is to be loaded at the start, if it is to run.
struct Beginning {
    module: Arc<Module>,
    candidate: Candidate,
    state: WantedState,
}

impl Modules {
    /// Finds and loads all modules of the plugin folders, those that were kept, and those that were fetched; the
    /// last are fetched while the others are loaded. A module that fails takes no other down.
    ///
    /// # Errors
    /// The instance folder cannot be used, or what is wanted of modules cannot be read.
    pub async fn load(
        self: &Arc<Self>,
        fetched: impl Future<Output = Vec<Fetched>>,
    ) -> Result<(), HostError> {
        let prepared = self.make_folders().await?;
        self.look_at_wanted().await?;
        let folders = self.config.folders.clone();
        let mut names = BTreeSet::new();
        let find = move |discovery: &Discovery<'_>| {
            let found = discovery.discover(&folders, &mut names);
            (names, found)
        };
        let (mut names, found) = self.find(find, None).await?;
        let mut all = self.kept_ones().await;
        all.extend(self.own_ones(found, None));
        let (taken, fetched) = tokio::join!(self.take(all, &prepared.hosting), fetched);
        taken?;
        let find = move |discovery: &Discovery<'_>| discovery.look_at_fetched(fetched, &mut names);
        let found = self.find(find, None).await?;
        self.take(self.own_ones(found, None), &prepared.hosting)
            .await?;
        self.settle(prepared).await;
        self.prune_environments().await;
        Ok(())
    }

    /// Loads one file or folder, and nothing else; with this loader if one is named.
    ///
    /// # Errors
    /// The instance folder cannot be used. What is wrong with the module stands in its status.
    pub async fn load_only(
        self: &Arc<Self>,
        path: &Path,
        loader: Option<&str>,
    ) -> Result<(), HostError> {
        let prepared = self.make_folders().await?;
        let (path, forced) = (path.to_owned(), loader.map(str::to_owned));
        let find = move |discovery: &Discovery<'_>| vec![discovery.look_at_one(&path)];
        let found = self.find(find, forced.clone()).await?;
        self.take(self.own_ones(found, forced), &prepared.hosting)
            .await?;
        self.settle(prepared).await;
        Ok(())
    }

    async fn make_folders(&self) -> Result<Prepared, HostError> {
        let instance = self.config.instance.clone();
        let made = tokio::task::spawn_blocking(move || {
            let folders = Folders::make(&instance)?;
            let sdk = sdk::unpack(&folders.sdk)?;
            Ok::<_, HostError>((folders, sdk))
        });
        let (folders, sdk) = made
            .await
            .map_err(|error| HostError::Module(format!("making folders failed: {error}")))??;
        let hosting = self.hosting(&folders, sdk);
        Ok(Prepared { folders, hosting })
    }

    /// Looks for modules.
    pub(super) async fn find<T: Send + 'static>(
        &self,
        find: impl FnOnce(&Discovery<'_>) -> T + Send + 'static,
        forced: Option<String>,
    ) -> Result<T, HostError> {
        let config = self.config.clone();
        let looked =
            tokio::task::spawn_blocking(move || find(&config.discovery(forced.as_deref())));
        looked
            .await
            .map_err(|error| HostError::Module(format!("looking for modules failed: {error}")))
    }

    /// The modules that are kept, as they begin. Those that are not on this machine are fetched, a few at a time.
    async fn kept_ones(&self) -> Vec<Beginning> {
        let known = self.wanted();
        let beginning = known.kept().map(|(wanted, kept)| async move {
            let candidate = self.kept_candidate(wanted, kept).await;
            Beginning {
                module: self.kept_module(wanted, kept, &candidate, Arc::default()),
                candidate,
                state: wanted.state,
            }
        });
        futures::future::join_all(beginning).await
    }

    /// The modules of this machine's own, as they begin, but those in whose place one is kept. What an administrator
    /// decided holds for them as well; `forced` is the loader of all of them.
    fn own_ones(&self, candidates: Vec<Candidate>, forced: Option<String>) -> Vec<Beginning> {
        let known = self.wanted();
        let own = candidates.into_iter().filter_map(|candidate| {
            let wanted = known.of(&candidate.name);
            if wanted.kept.is_some() {
                tracing::warn!(
                    "{} is not loaded: an administrator loaded another module of the name {}",
                    candidate.path.display(),
                    candidate.name
                );
                return None;
            }
            let source = Source {
                path: candidate.path.clone(),
                name: None,
                args: wanted.args,
                loader: forced.clone().or(wanted.loader),
                origin: Origin::Folder,
            };
            let module = self.module(&candidate, source, Arc::default());
            module.is_loaded_for(wanted.loaded);
            Some(Beginning {
                module,
                candidate,
                state: wanted.state,
            })
        });
        own.collect()
    }

    /// Reads modules, loads them in waves, each after what it waits for, and puts their plugins into the table.
    async fn take(
        self: &Arc<Self>,
        all: Vec<Beginning>,
        hosting: &PoolConfig,
    ) -> Result<(), HostError> {
        let (all, aside): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|one| one.state == WantedState::Running);
        self.replace(|table| {
            for Beginning { module, state, .. } in aside {
                table.modules.push(Arc::clone(&module));
                self.put_aside(table, &module, state);
            }
        });
        let (modules, candidates): (Vec<Arc<Module>>, Vec<Candidate>) = all
            .into_iter()
            .map(|one| (one.module, one.candidate))
            .unzip();
        let wishes: Vec<Wish<'_>> = candidates
            .iter()
            .map(|candidate| Wish {
                name: &candidate.name,
                manifest: candidate.found.as_ref().ok().map(|found| &found.manifest),
            })
            .collect();
        let order = order::waves(&wishes, &is_set);
        self.replace(|table| table.modules.extend(modules.iter().cloned()));
        let read = self
            .read(modules.iter().zip(candidates).collect(), hosting)
            .await?;
        let mut waves: Vec<Vec<(Arc<Module>, ReadModule)>> = Vec::new();
        for ((module, read), wave) in modules.into_iter().zip(read).zip(order) {
            match (wave, read) {
                (Ok(wave), Ok(read)) => {
                    waves.resize_with(waves.len().max(wave + 1), Vec::new);
                    waves[wave].push((module, read));
                }
                (Err(reason), _) => module.fail(&reason),
                (_, Err(error)) => module.fail(&error.to_string()),
            }
        }
        for wave in waves {
            self.load_wave(wave, hosting).await;
        }
        Ok(())
    }

    /// Loads modules that do not wait for each other: those that are known at once, then the others beside each other.
    async fn load_wave(
        self: &Arc<Self>,
        wave: Vec<(Arc<Module>, ReadModule)>,
        hosting: &PoolConfig,
    ) {
        let is_known = |read: &ReadModule| read.remembered.is_some() && read.environment.is_none();
        let (known, unknown): (Vec<_>, Vec<_>) =
            wave.into_iter().partition(|(_, read)| is_known(read));
        let mut all = Vec::with_capacity(known.len());
        for (module, read) in known {
            match self.prepare(&module, read, hosting.clone()).await {
                Ok(provided) => all.push((module, provided)),
                Err(error) => module.fail(&error.to_string()),
            }
        }
        self.provide(all);
        let loading = unknown.into_iter().map(|(module, read)| {
            let (modules, hosting) = (Arc::clone(self), hosting.clone());
            async move {
                match modules.prepare(&module, read, hosting).await {
                    Ok(provided) => modules.provide(vec![(module, provided)]),
                    Err(error) => module.fail(&error.to_string()),
                }
            }
        });
        futures::future::join_all(loading).await;
    }

    /// From here on modules can be changed.
    async fn settle(&self, prepared: Prepared) {
        self.is_ready.send_replace(true);
        self.sweep_snapshots(prepared.folders).await;
        self.hosting.send_replace(Some(prepared.hosting));
    }

    /// Removes environments that were needed long ago.
    async fn prune_environments(&self) {
        if !self.config.environments.makes {
            return;
        }
        let table = self.table();
        let kept = table.modules.iter();
        let kept = kept.filter_map(|module| module.status().environment);
        match self.environments.prune(kept.collect(), UNUSED).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(
                "removed environments that were not used for 30 days: {}",
                removed.join(", ")
            ),
            Err(error) => tracing::warn!("old environments cannot be removed: {error}"),
        }
    }

    /// Removes snapshots of modules that are loaded no more.
    async fn sweep_snapshots(&self, folders: Folders) {
        let table = self.table();
        let kept: HashSet<String> = table.modules.iter().map(|module| module.digest()).collect();
        let swept = tokio::task::spawn_blocking(move || {
            let swept = folders.sweep_modules(&kept);
            (folders, swept)
        });
        let Ok((folders, swept)) = swept.await else {
            return;
        };
        if let Err(error) = swept {
            tracing::warn!("old copies of modules cannot be removed: {error}");
        }
        *self.folders.lock().unwrap_or_else(PoisonError::into_inner) = Some(folders);
    }
}
