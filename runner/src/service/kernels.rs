//! Kernels of clients in this process, and who else reaches them.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runner_host::Modules;
use runner_queue::{Links, Queue};
use runner_server::Sight;
use runner_session::{NoTasks, SessionTasks, Sessions, SessionsConfig};
use runner_store::Store;
use runner_worker::PluginsOfSessions;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Process, Role};
use crate::instance;
use crate::settings::Only;

/// Kernels of clients, where this process has any.
#[derive(Default)]
pub(super) struct Kernels {
    pub(super) sessions: Option<Sessions>,
    /// Those for cells of Sage Cell.
    pub(super) cells: Option<Sessions>,
    /// Of their folders.
    _lock: Option<File>,
}

impl Kernels {
    /// Ends them.
    pub(super) async fn close(&self) {
        let engines = self.sessions.iter().chain(&self.cells);
        futures::future::join_all(engines.map(Sessions::close)).await;
    }
}

/// Kernels that are served to servers.
pub(super) struct Hosted {
    links: Links,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Hosted {
    /// Takes no more requests, and waits for those in progress.
    pub(super) async fn end(self, grace: Duration) -> Links {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(grace, self.task).await;
        self.links
    }
}

impl Process {
    /// Whether kernels live here, if there are any.
    fn has_kernels(&self) -> bool {
        match self.role {
            Role::Both => true,
            Role::Server => false,
            Role::Worker => self.settings.only != Some(Only::Tasks),
        }
    }

    /// Kernels of clients. `address`: where this process listens.
    pub(super) fn kernels(
        &self,
        store: &Store,
        queue: &Queue,
        modules: &Arc<Modules>,
        address: Option<SocketAddr>,
    ) -> anyhow::Result<Kernels> {
        let settings = &self.settings;
        if !self.has_kernels() || (settings.sessions.is_none() && settings.sage_cell.is_none()) {
            return Ok(Kernels::default());
        }
        let (folder, lock) = instance::sessions(&self.instance)?;
        let sessions = match settings.sessions.clone() {
            None => None,
            Some(config) => {
                let plugins = PluginsOfSessions {
                    tools: self.tools(store, queue, modules)?,
                    base_url: self.own_url(address),
                    // No id, and so removed at the next start.
                    scratch: folder.join("downloads"),
                };
                let config = SessionsConfig {
                    folder: folder.clone(),
                    ..config
                };
                Some(engine(config, Arc::new(plugins), modules))
            }
        };
        let cells = settings.sage_cell.as_ref().map(|cells| {
            let config = SessionsConfig {
                folder: instance::cells(&folder),
                ..cells.sessions.clone()
            };
            engine(config, Arc::new(NoTasks), modules)
        });
        Ok(Kernels {
            sessions,
            cells,
            _lock: Some(lock),
        })
    }

    /// Serves the kernels of a worker to servers.
    pub(super) fn host(
        &self,
        store: &Store,
        queue: &Queue,
        modules: &Arc<Modules>,
        kernels: &Kernels,
        sight: &Sight,
    ) -> Option<Hosted> {
        if self.role != Role::Worker || (kernels.sessions.is_none() && kernels.cells.is_none()) {
            return None;
        }
        let links = queue.links()?;
        let app = self.app(store, queue, modules, kernels, sight.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(runner_server::serve_links(links.clone(), app, async {
            // A dropped sender means the same.
            let _ = stopped.await;
        }));
        Some(Hosted { links, stop, task })
    }
}

/// Kernels, whose host is told as soon as it is known.
fn engine(
    config: SessionsConfig,
    tasks: Arc<dyn SessionTasks>,
    modules: &Arc<Modules>,
) -> Sessions {
    let (sessions, found) = Sessions::new(config, tasks);
    let modules = Arc::clone(modules);
    tokio::spawn(async move {
        // Nobody waits for it where the runner ends.
        let _ = found.send(modules.guests().await);
    });
    sessions
}
