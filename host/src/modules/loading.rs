//! From a file or folder to the plugins that it offers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use runner_core::module::{ModuleState, check_name};
use runner_core::plugin::{Description, MAX_PLUGINS, Plugin};

use super::module::{Module, Provided};
use super::table::twice;
use super::{Modules, is_set, order};
use crate::HostError;
use crate::digest::{self, ModuleFile};
use crate::discovery::{Candidate, Found};
use crate::loader::Look;
use crate::manifest::Manifest;
use crate::pool::{Pool, PoolConfig};

/// The most files outside of a module that its description may depend on.
const MAX_DEPENDS: usize = 1_000;

/// What a host said of its module.
struct Described {
    description: Description,
    /// The name that the module gives itself.
    name: Option<String>,
}

/// A module as it is about to be loaded.
struct Copied {
    digest: String,
    /// The file or folder to load, in the snapshot.
    entry: PathBuf,
    snapshot: PathBuf,
}

impl Modules {
    /// Loads a module that was found at the start.
    pub(super) async fn load_one(
        &self,
        module: &Arc<Module>,
        candidate: Candidate,
        config: PoolConfig,
    ) -> Result<(), HostError> {
        let provided = self.prepare(module, candidate, config).await?;
        self.provide(module, provided)
    }

    /// Reads, copies and describes a module: all that can fail before it takes its place. Dropped, it leaves nothing
    /// behind.
    pub(super) async fn prepare(
        &self,
        module: &Arc<Module>,
        candidate: Candidate,
        config: PoolConfig,
    ) -> Result<Vec<Provided>, HostError> {
        let mut found = candidate.found?;
        if let Some(args) = &module.source.args {
            found.manifest.args.clone_from(args);
        }
        self.require(&candidate.name, &found.manifest)?;
        let copied = self.copy(module, &candidate.path, &found).await?;
        let origin = candidate.path.parent().unwrap_or(Path::new("/")).to_owned();
        let origin = std::path::absolute(&origin).unwrap_or(origin);
        let key = digest::text_digest(
            &json!([
                copied.digest,
                found.manifest,
                candidate.name,
                found.loader.name(),
                crate::protocol::PROTOCOL,
                config.environment.sdk,
                config.environment.python
            ])
            .to_string(),
        );
        let status = module.status();
        let manifest = found.manifest.clone();
        let pool = Pool::new(
            config,
            found.loader,
            copied.entry,
            copied.snapshot,
            origin,
            found.manifest,
            status.name,
            status.uuid,
            Arc::clone(&module.tap),
        );
        module.set_pool(Arc::clone(&pool));
        let mut described = match self.remembered(&key).await {
            Some(described) => described,
            None => {
                refuse_what_is_broken(&pool).await?;
                self.describe(&pool, &key).await?
            }
        };
        manifest.declare(&mut described.description)?;
        if let (Some(name), None) = (described.name, &module.source.name) {
            check_name(&name).map_err(|error| {
                HostError::Module(format!("its answer to welcome names it, and {error}"))
            })?;
            module.change(|status| status.name = name);
        }
        checked(module, described.description)
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

    /// Digests a module and copies it to where hosts run from.
    async fn copy(&self, module: &Module, path: &Path, found: &Found) -> Result<Copied, HostError> {
        let (files, root, entry) = files(path, found)?;
        let contents = self.content_digests(&files).await?;
        let snapshots = self.config.instance.join("modules");
        let size = files.iter().map(|file| file.size).sum();
        let copied = tokio::task::spawn_blocking(move || {
            let pairs: Vec<_> = files
                .iter()
                .zip(contents.iter().map(String::as_str))
                .collect();
            let digest = digest::digest(&pairs);
            let snapshot = digest::snapshot(&snapshots, &root, &pairs, &digest)?;
            Ok::<_, HostError>((digest, snapshot))
        });
        let (digest, snapshot) = copied
            .await
            .map_err(|error| HostError::Module(format!("copying the module failed: {error}")))??;
        module.change(|status| {
            status.sha256.clone_from(&digest);
            status.size = size;
        });
        let entry = match entry.as_os_str().is_empty() {
            true => snapshot.clone(),
            false => snapshot.join(entry),
        };
        Ok(Copied {
            digest,
            entry,
            snapshot,
        })
    }

    async fn content_digests(&self, files: &[ModuleFile]) -> Result<Vec<String>, HostError> {
        let mut digests = Vec::with_capacity(files.len());
        let mut new = Vec::new();
        for file in files {
            if let Some(digest) = self.cache.file_digest(&file.stat).await {
                digests.push(digest);
                continue;
            }
            let source = file.source.clone();
            let digest = tokio::task::spawn_blocking(move || digest::content_digest(&source))
                .await
                .map_err(|error| {
                    HostError::Module(format!("reading the module failed: {error}"))
                })??;
            new.push((file.stat, digest.clone()));
            digests.push(digest);
        }
        if !new.is_empty() {
            self.cache.put_file_digests(&new).await;
        }
        Ok(digests)
    }

    /// The remembered description, if all that it depends on is as it was.
    async fn remembered(&self, key: &str) -> Option<Described> {
        let text = self.cache.description(key).await?;
        let (description, depends, name): (Description, Vec<(PathBuf, String)>, Option<String>) =
            serde_json::from_str(&text).ok()?;
        for (path, digest) in depends {
            let file = ModuleFile::new(path, String::new()).ok()?;
            let now = self
                .content_digests(std::slice::from_ref(&file))
                .await
                .ok()?;
            if now.first() != Some(&digest) {
                return None;
            }
        }
        Some(Described { description, name })
    }

    async fn describe(&self, pool: &Arc<Pool>, key: &str) -> Result<Described, HostError> {
        let lease = pool.lease().await?;
        let name = lease.module_name();
        let answer: Value = lease.describe().await?;
        let description: Description = serde_json::from_value(answer).map_err(|error| {
            HostError::Module(format!("its description is not usable: {error}"))
        })?;
        let mut depends = Vec::new();
        if description.depends.len() > MAX_DEPENDS {
            return Err(HostError::Module(format!(
                "it depends on more than {MAX_DEPENDS} files"
            )));
        }
        for path in &description.depends {
            if !pool.is_in_origin(Path::new(path)) {
                return Err(HostError::Module(format!(
                    "it says that it depends on {path}, which is not in its plugin folder"
                )));
            }
            let file = ModuleFile::new(PathBuf::from(path), String::new())?;
            let digest = self.content_digests(std::slice::from_ref(&file)).await?;
            depends.push((file.source, digest.concat()));
        }
        if let Ok(text) = serde_json::to_string(&(&description, depends, &name)) {
            self.cache.put_description(key, &text).await;
        }
        Ok(Described { description, name })
    }

    /// Puts the plugins of a module that was found at the start into the table. Of two modules that offer one
    /// identity, the one that was found first keeps it, whichever was described first.
    fn provide(&self, module: &Arc<Module>, provided: Vec<Provided>) -> Result<(), HostError> {
        self.try_replace(|table| {
            take_name(table, module, None)?;
            while let Some((one, other)) = table.rival(&provided, &[module]) {
                let other = Arc::clone(&other.module);
                if table.position(&other) < table.position(module) {
                    return Err(twice(&one.plugin.identity, &other));
                }
                table.take_away(&other, true);
                other.fail(&twice(&one.plugin.identity, module).to_string());
            }
            run(module, &provided);
            table.add(&provided);
            Ok(())
        })
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
            let position = table.position(older).ok_or_else(|| {
                HostError::Module("it was removed while a newer version was loaded".to_owned())
            })?;
            take_name(table, module, Some(older))?;
            if let Some((one, other)) = table.rival(&provided, &[module, older]) {
                return Err(twice(&one.plugin.identity, &other.module));
            }
            table.modules[position] = Arc::clone(module);
            if !Arc::ptr_eq(older, module) && older.state() == ModuleState::Running {
                table.replaced.push(Arc::clone(older));
                finalize(older, &format!("replaced by {}", module.status().uuid));
            }
            table.take_away(older, false);
            run(module, &provided);
            table.add(&provided);
            Ok(())
        })
    }
}

/// From here on its plugins can be used.
fn run(module: &Module, provided: &[Provided]) {
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
    table: &super::Table,
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

/// The files of a module, the name of its copy, and the entry in it.
fn files(path: &Path, found: &Found) -> Result<(Vec<ModuleFile>, String, PathBuf), HostError> {
    let root = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("module")
        .to_owned();
    let Some(folder) = &found.folder else {
        let entry = PathBuf::from(&root);
        return Ok((
            vec![ModuleFile::new(found.entry.clone(), root)?],
            "module".to_owned(),
            entry,
        ));
    };
    let mut files = digest::files_of(folder)?;
    let entry = match found.entry.strip_prefix(folder) {
        Ok(inside) => inside.to_owned(),
        Err(_) => {
            let name = found
                .entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            files.push(ModuleFile::new(found.entry.clone(), name.clone())?);
            files.sort_by(|a, b| a.path.cmp(&b.path));
            PathBuf::from(name)
        }
    };
    Ok((files, root, entry))
}
