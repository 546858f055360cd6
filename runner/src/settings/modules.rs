//! How modules are run, as the settings have it.

use std::path::{Path, PathBuf};

use runner_host::host::Patience;
use runner_host::loader::Loaders;
use runner_host::{EnvironmentsConfig, ModulesConfig};

use super::Settings;

impl Settings {
    /// For modules that are kept in this instance folder, and run by this program.
    pub(crate) fn modules(
        &self,
        instance: PathBuf,
        runner: PathBuf,
        environments: EnvironmentsConfig,
    ) -> ModulesConfig {
        ModulesConfig {
            folders: self.plugin_folders.clone(),
            instance,
            trust: self.trust.clone(),
            runner,
            python: self.python.clone(),
            loaders: Loaders::with(self.loaders.clone()),
            patience: Patience {
                describe: self.describe_timeout,
                cancel: self.cancel_grace,
            },
            idle: self.host_idle,
            max_hosts: self.max_hosts,
            network: self.plugin_network,
            limits: self.host_limits.clone(),
            drain: self.module_drain,
            environments,
        }
    }

    /// Where and how virtual environments are made. `instance` is the instance folder, which may not be there yet.
    pub(crate) fn environments(&self, instance: &Path, makes: bool) -> EnvironmentsConfig {
        // Environments know their own path.
        let real = |folder: &Path| {
            folder
                .canonicalize()
                .or_else(|_| std::path::absolute(folder))
                .unwrap_or_else(|_| folder.to_owned())
        };
        EnvironmentsConfig {
            folder: real(instance).join("environments"),
            shared: self.environments.as_deref().map(real),
            makes,
            builds: self.builds,
            limit: self.install_timeout,
        }
    }
}
