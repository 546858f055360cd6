//! The start of a host.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::{Living, Pool};
use crate::HostError;
use crate::host::{Host, Welcome};
use crate::launcher::HostCommand;
use crate::loader::Place;
use crate::manifest::Isolation;
use crate::nodes::Passing;

impl Pool {
    pub(super) async fn start(self: &Arc<Self>) -> Result<Host, HostError> {
        self.crashes.rest(self.name()).await?;
        let (command, folder) = self.prepared().await?;
        let passing = match self.loader.runs_pipelines() {
            true => Some(Passing::new()?),
            false => None,
        };
        let (passing, extra) = passing.unzip();
        let welcome = |welcome| match &passing {
            Some(_) => Welcome {
                config: Passing::config(),
                ..welcome
            },
            None => self.isolated(welcome),
        };
        let started = self
            .start_with(command, folder, welcome, extra.into_iter().collect())
            .await;
        let mut host = started.inspect_err(|error| self.count_crash(error))?;
        host.passing = passing;
        Ok(host)
    }

    /// Asks a host to give each run a process of its own, if the manifest says so.
    fn isolated(&self, welcome: Welcome) -> Welcome {
        if self.manifest.isolation == Isolation::Host {
            return welcome;
        }
        let temporary = self.config.launcher.temporary();
        let config = serde_json::json!({"isolation": "process", "temporary": temporary});
        Welcome { config, ..welcome }
    }

    /// The command of a new host, and the folder that was made for it.
    pub(crate) async fn prepared(self: &Arc<Self>) -> Result<(HostCommand, PathBuf), HostError> {
        let pool = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || pool.prepare()).await;
        prepared.map_err(|error| HostError::Start(format!("preparing it failed: {error}")))?
    }

    /// Starts what was prepared, with these descriptors from 3 on.
    pub(crate) async fn start_with(
        &self,
        command: HostCommand,
        folder: PathBuf,
        welcome: impl FnOnce(Welcome) -> Welcome,
        extra: Vec<OwnedFd>,
    ) -> Result<Host, HostError> {
        let config = &self.config;
        let made = folder.clone();
        let host = Host::start(
            &config.launcher,
            command,
            folder,
            &welcome(self.welcome.clone()),
            extra,
            config.patience,
            Arc::clone(&self.tap),
        )
        .await;
        let outcome = if host.is_ok() { "started" } else { "failed" };
        metrics::counter!("runner_host_starts_total", "outcome" => outcome).increment(1);
        self.usage.started(host.is_ok());
        match &host {
            Ok(host) => {
                let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
                living.retain(|one| one.task.strong_count() > 0);
                living.push(Living {
                    task: host.task(),
                    status: host.status(),
                    killer: host.killer(),
                });
            }
            Err(_) => {
                let _ = tokio::fs::remove_dir_all(made).await;
            }
        }
        host
    }

    fn prepare(&self) -> Result<(HostCommand, PathBuf), HostError> {
        let place = Place {
            entry: &self.entry,
            snapshot: &self.snapshot,
            guest: &self.manifest.guest,
            environment: self.environment.as_ref().map(|one| one.path.as_path()),
        };
        let program = self.loader.program(&place, &self.config.environment)?;
        let own = [
            ("RUNNER_PROTOCOL", crate::protocol::PROTOCOL.to_string()),
            (
                "RUNNER_MODULE_FOLDER",
                self.origin.to_string_lossy().into_owned(),
            ),
        ];
        let variables = program.environment.into_iter();
        let variables = variables
            .chain(self.manifest.environment.clone())
            .chain(own.map(|(name, value)| (name.to_owned(), value)));
        let command = self.config.command(variables)?;
        let folder = command.folder.clone();
        let mut readable = program.readable;
        readable.extend([
            self.snapshot.clone(),
            self.origin.clone(),
            folder.join("in"),
        ]);
        let command = HostCommand {
            argv: program.argv,
            readable,
            network: self.config.network.allows(self.manifest.permissions),
            limits: self.manifest.limits.or(&self.config.limits),
            ..command
        };
        Ok((command, folder))
    }
}
