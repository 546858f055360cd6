//! A state of the modules.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_core::identity::Identity;
use runner_core::module::ModuleState;

use super::module::{Module, Provided};
use crate::HostError;

/// A state of the modules; never changed, only replaced. Who works with one goes on with it to the end.
#[derive(Debug, Default, Clone)]
pub struct Table {
    /// In the order in which they were found; each name once.
    pub modules: Vec<Arc<Module>>,
    /// Loads that a newer one of the same name has replaced, while what runs on them ends.
    pub replaced: Vec<Arc<Module>>,
    /// By identifier.
    plugins: BTreeMap<String, Provided>,
    /// Sorted by name and version.
    sorted: Vec<Provided>,
    /// Plugins that take no new tasks, until those that were made before are done.
    leaving: BTreeMap<String, Provided>,
}

impl Table {
    /// The plugin with this identifier.
    pub fn plugin(&self, identifier: &str) -> Option<&Provided> {
        self.plugins.get(identifier)
    }

    /// The plugin with this identifier for a task that was made before: also one that takes no new ones.
    pub fn plugin_for_task(&self, identifier: &str) -> Option<&Provided> {
        self.plugins
            .get(identifier)
            .or_else(|| self.leaving.get(identifier))
    }

    /// Whether a plugin is there for those tasks only that were made before.
    pub fn is_leaving(&self, identifier: &str) -> bool {
        !self.plugins.contains_key(identifier) && self.leaving.contains_key(identifier)
    }

    /// All plugins by name, then version.
    pub fn plugins(&self) -> &[Provided] {
        &self.sorted
    }

    /// The newest version of a plugin, by PEP 440.
    pub fn newest(&self, name: &str) -> Option<&Provided> {
        self.sorted
            .iter()
            .rfind(|provided| provided.plugin.identity.name() == name)
    }

    /// The module of this name.
    pub fn module(&self, name: &str) -> Option<&Arc<Module>> {
        self.modules.iter().find(|module| module.name() == name)
    }

    /// The running module of this name, or else the one that provides the name.
    pub(super) fn provider(&self, name: &str) -> Option<&Arc<Module>> {
        let is_running = |module: &&Arc<Module>| module.state() == ModuleState::Running;
        let provides = |module: &&Arc<Module>| {
            let pool = module.pool();
            pool.is_some_and(|pool| pool.manifest().provides.iter().any(|own| own == name))
        };
        let named = self.module(name).filter(is_running);
        named.or_else(|| self.modules.iter().filter(is_running).find(provides))
    }

    /// Running modules that require this one.
    pub(super) fn dependents(&self, module: &Module) -> Vec<String> {
        let Some(pool) = module.pool() else {
            return Vec::new();
        };
        let (name, provides) = (module.name(), &pool.manifest().provides);
        let needs = |other: &&Arc<Module>| {
            let Some(pool) = other.pool() else {
                return false;
            };
            let mut required = pool.manifest().requires.iter();
            other.state() == ModuleState::Running
                && required.any(|required| *required == name || provides.contains(required))
        };
        let others = self.modules.iter().filter(needs);
        others
            .map(|other| other.name())
            .filter(|other| *other != name)
            .collect()
    }

    /// A module that offers one of these plugins, and is none of `except`.
    pub(super) fn rival<'a>(
        &self,
        provided: &'a [Provided],
        except: &[&Arc<Module>],
    ) -> Option<(&'a Provided, &Provided)> {
        provided.iter().find_map(|one| {
            let other = self.plugin(&one.plugin.identifier)?;
            let is_except = except
                .iter()
                .any(|module| Arc::ptr_eq(module, &other.module));
            (!is_except).then_some((one, other))
        })
    }

    pub(super) fn position(&self, module: &Arc<Module>) -> Option<usize> {
        self.modules
            .iter()
            .position(|other| Arc::ptr_eq(other, module))
    }

    /// Adds plugins, each in place of another one of its identifier. To be followed by [`Table::sort`].
    pub(super) fn add(&mut self, plugins: &[Provided]) {
        for provided in plugins {
            let identifier = &provided.plugin.identifier;
            self.leaving.remove(identifier);
            self.plugins.insert(identifier.clone(), provided.clone());
        }
    }

    /// Takes away the plugins of a module. With `is_drained` none of them is there for earlier tasks either.
    pub(super) fn take_away(&mut self, module: &Arc<Module>, is_drained: bool) {
        let is_other = |provided: &Provided| !Arc::ptr_eq(&provided.module, module);
        if is_drained {
            self.leaving.retain(|_, provided| is_other(provided));
        } else {
            let own = self.plugins.iter().filter(|(_, own)| !is_other(own));
            self.leaving
                .extend(own.map(|(name, own)| (name.clone(), own.clone())));
        }
        self.plugins.retain(|_, provided| is_other(provided));
        self.sort();
    }

    /// Identifiers of a module that are there for earlier tasks only.
    pub(super) fn left_by(&self, module: &Arc<Module>) -> Vec<String> {
        let own = self
            .leaving
            .iter()
            .filter(|(_, own)| Arc::ptr_eq(&own.module, module));
        own.map(|(identifier, _)| identifier.clone()).collect()
    }

    pub(super) fn sort(&mut self) {
        self.sorted = self.plugins.values().cloned().collect();
        self.sorted
            .sort_by(|a, b| a.plugin.identity.cmp(&b.plugin.identity));
    }
}

pub(super) fn twice(identity: &Identity, other: &Module) -> HostError {
    let other = other.status();
    HostError::Module(format!(
        "the plugin {} is already provided by the module {} ({})",
        identity.identifier(),
        other.name,
        other.path
    ))
}
