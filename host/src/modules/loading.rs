//! From a file or folder to the plugins that it offers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use runner_core::module::{ModuleState, Origin, check_name};
use runner_core::plugin::{Description, MAX_PLUGINS, Plugin};
use runner_core::wanted::{Wanted, WantedState};

use super::change::STOPPED;
use super::module::{Module, Provided};
use super::table::{Table, twice};
use super::{Modules, is_set, order};
use crate::HostError;
use crate::digest::ModuleFile;
use crate::discovery::Candidate;
use crate::environments::{Environment, Requirements};
use crate::loader::Look;
use crate::manifest::Manifest;
use crate::pool::{Pool, PoolConfig};
use crate::reading::{self, Depends, Described, ReadModule, Reading};

/// The most files outside of a module that its description may depend on.
const MAX_DEPENDS: usize = 1_000;

impl Modules {
    /// Reads and copies modules, all of them at once; what became of each, in their order.
    pub(super) async fn read(
        &self,
        candidates: Vec<(&Arc<Module>, Candidate)>,
        config: &PoolConfig,
    ) -> Result<Vec<Result<ReadModule, HostError>>, HostError> {
        let (modules, candidates): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .map(|(module, mut candidate)| {
                if let (Ok(found), Some(args)) = (&mut candidate.found, &module.source.args) {
                    found.manifest.args.clone_from(args);
                }
                candidate.is_alone = module.source.origin == Origin::Administrator;
                (module, candidate)
            })
            .unzip();
        let reading = Reading {
            cache: &*self.cache,
            snapshots: &self.config.instance.join("modules"),
            environment: &config.environment,
            trust: &self.config.trust,
            environments: &self.environments,
        };
        let outcomes = reading.read(candidates).await?.into_iter();
        let read = modules.into_iter().zip(outcomes).map(|(module, outcome)| {
            module.change(|status| {
                status.sha256 = outcome.digest;
                status.size = outcome.size;
            });
            outcome.read
        });
        Ok(read.collect())
    }

    /// Reads and copies a module.
    pub(super) async fn read_one(
        &self,
        module: &Arc<Module>,
        candidate: Candidate,
        config: &PoolConfig,
    ) -> Result<ReadModule, HostError> {
        let mut read = self.read(vec![(module, candidate)], config).await?;
        read.pop()
            .unwrap_or_else(|| Err(HostError::Module("it was not read".to_owned())))
    }

    /// Loads a module that was read: all that can fail before it takes its place. Dropped, it leaves nothing behind.
    pub(super) async fn prepare(
        &self,
        module: &Arc<Module>,
        read: ReadModule,
        config: PoolConfig,
    ) -> Result<Vec<Provided>, HostError> {
        self.require(&module.name(), &read.found.manifest)?;
        // Others are loaded in the meantime.
        let environment = self.environment(module, &read).await?;
        let _place = self.describing.acquire().await;
        let manifest = read.found.manifest.clone();
        let status = module.status();
        let pool = Pool::new(
            config,
            read.found.loader,
            read.entry,
            read.snapshot,
            read.origin,
            read.found.manifest,
            environment,
            status.name,
            status.uuid,
            Arc::clone(&module.tap),
        );
        module.set_pool(Arc::clone(&pool));
        let described = match read.remembered {
            Some(described) => described,
            None => {
                refuse_what_is_broken(&pool).await?;
                self.describe(&pool, &read.key).await?
            }
        };
        offered(module, &manifest, described)
    }

    /// The environment of a module, if it needs one; made if it is not there, which may take minutes.
    async fn environment(
        &self,
        module: &Arc<Module>,
        read: &ReadModule,
    ) -> Result<Option<Arc<Environment>>, HostError> {
        let Some(digest) = &read.environment else {
            return Ok(None);
        };
        let wanted: &Requirements = &read.requirements;
        let told = |what: &str| module.change(|status| status.doing = Some(what.to_owned()));
        module.change(|status| {
            status.environment = Some(digest.clone());
            status.doing = Some("waits for its environment".to_owned());
        });
        let environment = self.environments.get(digest, wanted, &told).await;
        module.change(|status| status.doing = None);
        environment.map(Some)
    }

    /// What a manifest demands of its surroundings.
    fn require(&self, name: &str, manifest: &Manifest) -> Result<(), HostError> {
        if let Some(variable) = order::lacking(manifest, &is_set) {
            return Err(HostError::Module(order::needs_variable(variable)));
        }
        let table = self.table();
        for required in &manifest.requires {
            if required == name || table.provider(required).is_some() {
                continue;
            }
            let why = match table.module(required).map(|module| module.status()) {
                None => "which no module is or provides".to_owned(),
                Some(other) => {
                    let reason = other.reason.unwrap_or_default();
                    format!("which is {} {reason}", other.state)
                }
            };
            return Err(HostError::Module(format!(
                "it requires {required:?}, {}",
                why.trim_end()
            )));
        }
        Ok(())
    }

    async fn describe(&self, pool: &Arc<Pool>, key: &str) -> Result<Described, HostError> {
        let lease = pool.lease().await?;
        let name = lease.module_name();
        let answer: Value = lease.describe().await?;
        let description: Description = serde_json::from_value(answer).map_err(|error| {
            HostError::Module(format!("its description is not usable: {error}"))
        })?;
        if description.depends.len() > MAX_DEPENDS {
            return Err(HostError::Module(format!(
                "it depends on more than {MAX_DEPENDS} files"
            )));
        }
        let mut files = Vec::new();
        for path in &description.depends {
            if !pool.is_in_origin(Path::new(path)) {
                return Err(HostError::Module(format!(
                    "it says that it depends on {path}, which is not in its plugin folder"
                )));
            }
            files.push(ModuleFile::new(PathBuf::from(path), String::new())?);
        }
        let digests = reading::content_digests(&*self.cache, files.clone()).await?;
        let depends = files.into_iter().map(|file| {
            let digest = digests.get(&file.stat)?.clone();
            Some((file.source, digest))
        });
        let depends: Option<Vec<Depends>> = depends.collect();
        // A file that was not to be read is not remembered.
        let Some(depends) = depends else {
            return Ok(Described { description, name });
        };
        if let Ok(text) = serde_json::to_string(&(&description, depends, &name)) {
            self.cache.put_description(key, &text).await;
        }
        Ok(Described { description, name })
    }

    /// Puts the plugins of modules that were found at the start into the table, all at once.
    pub(super) fn provide(&self, all: Vec<(Arc<Module>, Vec<Provided>)>) {
        if all.is_empty() {
            return;
        }
        self.replace(|table| {
            for (module, provided) in all {
                // Its name may be known only now.
                match self.known().of(&module.name()) {
                    wanted if wanted.kept.is_some() != is_kept(&module) => {}
                    Wanted { state, .. } if state != WantedState::Running => {
                        self.put_aside(table, &module, state);
                        continue;
                    }
                    _ => {}
                }
                if let Err(error) = provide_one(table, &module, &provided) {
                    module.fail(&error.to_string());
                }
            }
            table.sort();
        });
    }

    /// A module that is not wanted to run: one that was stopped is shown.
    pub(super) fn put_aside(&self, table: &mut Table, module: &Arc<Module>, state: WantedState) {
        module.exit(STOPPED);
        if state == WantedState::Removed {
            table.modules.retain(|other| !Arc::ptr_eq(other, module));
            self.was_put_aside(module);
        }
    }

    /// Puts the plugins of a module into the table that an administrator loads. `older` is the load whose place it
    /// takes.
    pub(super) fn provide_in_place_of(
        &self,
        older: &Arc<Module>,
        module: &Arc<Module>,
        provided: Vec<Provided>,
    ) -> Result<(), HostError> {
        self.try_replace(|table| {
            let position = place(table, older, module, &provided)?;
            table.modules[position] = Arc::clone(module);
            if !Arc::ptr_eq(older, module) && older.state() == ModuleState::Running {
                table.replaced.push(Arc::clone(older));
                finalize(older, &format!("replaced by {}", module.status().uuid));
            }
            table.take_away(older, false);
            run(module, &provided);
            table.add(&provided);
            table.sort();
            Ok(())
        })
    }
}

/// The place of an older load in the table, if a newer one can take it.
pub(super) fn place(
    table: &Table,
    older: &Arc<Module>,
    module: &Arc<Module>,
    provided: &[Provided],
) -> Result<usize, HostError> {
    let position = table.position(older).ok_or_else(|| {
        HostError::Module("it was removed while a newer version was loaded".to_owned())
    })?;
    take_name(table, module, Some(older))?;
    match table.rival(provided, &[module, older]) {
        Some((one, other)) => Err(twice(&one.plugin.identity, &other.module)),
        None => Ok(position),
    }
}

/// Whether all machines have it from the file store.
pub(super) fn is_kept(module: &Module) -> bool {
    module.source.origin == Origin::Administrator
}

/// Of two modules that offer one identity, the one that was found first keeps it, whichever was described first. To be
/// followed by [`Table::sort`].
fn provide_one(
    table: &mut Table,
    module: &Arc<Module>,
    provided: &[Provided],
) -> Result<(), HostError> {
    take_name(table, module, None)?;
    while let Some((one, other)) = table.rival(provided, &[module]) {
        let other = Arc::clone(&other.module);
        if table.position(&other) < table.position(module) {
            return Err(twice(&one.plugin.identity, &other));
        }
        table.take_away(&other, true);
        other.fail(&twice(&one.plugin.identity, module).to_string());
    }
    run(module, provided);
    table.add(provided);
    Ok(())
}

/// From here on its plugins can be used.
pub(super) fn run(module: &Module, provided: &[Provided]) {
    let plugins = provided.iter().map(|one| one.plugin.identifier.clone());
    module.change(|status| {
        status.state = ModuleState::Running;
        status.plugins = plugins.collect();
    });
}

/// From here on it takes no new runs.
pub(super) fn finalize(module: &Module, reason: &str) {
    module.change(|status| {
        status.state = ModuleState::Finalizing;
        status.reason = Some(reason.to_owned());
    });
}

/// A module may have given itself a name that another one has.
fn take_name(
    table: &Table,
    module: &Arc<Module>,
    older: Option<&Arc<Module>>,
) -> Result<(), HostError> {
    let name = module.name();
    let is_other = |other: &&Arc<Module>| {
        let is_older = older.is_some_and(|older| Arc::ptr_eq(older, other));
        !Arc::ptr_eq(module, other) && !is_older && other.name() == name
    };
    match table.modules.iter().find(is_other) {
        None => Ok(()),
        Some(other) => Err(HostError::Module(format!(
            "it gives itself the name {name:?}, which another module has ({})",
            other.status().path
        ))),
    }
}

/// What a module offers by its own description and its manifest.
pub(super) fn offered(
    module: &Arc<Module>,
    manifest: &Manifest,
    described: Described,
) -> Result<Vec<Provided>, HostError> {
    let Described {
        mut description,
        name,
    } = described;
    manifest.declare(&mut description)?;
    if let (Some(name), None) = (name, &module.source.name) {
        check_name(&name).map_err(|error| {
            HostError::Module(format!("its answer to welcome names it, and {error}"))
        })?;
        module.change(|status| status.name = name);
    }
    checked(module, description)
}

/// The plugins of a description. One without a name of its own takes that of its module.
fn checked(module: &Arc<Module>, description: Description) -> Result<Vec<Provided>, HostError> {
    if description.plugins.is_empty() {
        return Err(HostError::Module("it offers no plugin".to_owned()));
    }
    if description.plugins.len() > MAX_PLUGINS {
        return Err(HostError::Module(format!(
            "it offers more than {MAX_PLUGINS} plugins"
        )));
    }
    let mut provided: Vec<Provided> = Vec::new();
    for mut plugin in description.plugins {
        if plugin.name.is_empty() {
            plugin.name = module.name();
        }
        let plugin = Plugin::new(plugin).map_err(|error| HostError::Module(error.to_string()))?;
        let is_same = |other: &Provided| other.plugin.identifier == plugin.identifier;
        if provided.iter().any(is_same) {
            return Err(HostError::Module(format!(
                "it offers {} twice",
                plugin.identifier
            )));
        }
        provided.push(Provided {
            plugin: Arc::new(plugin),
            module: Arc::clone(module),
        });
    }
    Ok(provided)
}

/// What can be seen without starting a host is not tried with one.
async fn refuse_what_is_broken(pool: &Arc<Pool>) -> Result<(), HostError> {
    let looked = Arc::clone(pool);
    match tokio::task::spawn_blocking(move || looked.look()).await {
        Ok(Look {
            problem: Some(problem),
            ..
        }) => Err(HostError::Module(problem)),
        _ => Ok(()),
    }
}
