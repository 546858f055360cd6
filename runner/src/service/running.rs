//! What runs, until a signal says that it is to stop.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use runner_host::Modules;
use runner_queue::Queue;
use runner_store::Store;
use runner_worker::{Upkeep, Worker};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::kernels::{Hosted, Kernels};

/// What has to be stopped.
pub(super) struct Running {
    pub(super) queue: Queue,
    pub(super) store: Store,
    pub(super) modules: Arc<Modules>,
    pub(super) kernels: Kernels,
    pub(super) hosted: Option<Hosted>,
    pub(super) server: Option<Server>,
    pub(super) worker: Option<Worker>,
    pub(super) upkeep: Option<Upkeep>,
}

pub(super) struct Server {
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(super) async fn stop(self, grace: Duration) {
        let server = self.server.map(|server| {
            let _ = server.stop.send(());
            server.task
        });
        // Servers look elsewhere from now on.
        let links = match self.hosted {
            Some(hosted) => Some(hosted.end(grace).await),
            None => None,
        };
        // What is left ends with the launcher.
        let _ = tokio::time::timeout(grace, self.kernels.close()).await;
        if let Some(links) = links {
            links.leave().await;
        }
        let flushed = tokio::time::timeout(grace, self.queue.flushed());
        if let Some(worker) = self.worker {
            worker.stop(grace).await;
        }
        if let Some(upkeep) = self.upkeep {
            match flushed.await {
                Ok(()) => upkeep.stop().await,
                // Its signs of life end, so that others queue again what it could not.
                Err(_) => {
                    tracing::warn!("the queue did not take all jobs; others find them in SQL")
                }
            }
        }
        self.modules.close();
        if let Some(server) = server {
            server.abort();
        }
        self.store.close().await;
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Removes files that were stored before this moment for tasks that never came to know them.
pub(super) async fn sweep(store: &Store, before: SystemTime) {
    match store.sweep_files(before).await {
        Ok(0) => {}
        Ok(count) => tracing::info!("{count} files that belonged to no task were removed"),
        Err(error) => tracing::warn!("files that belong to no task cannot be removed: {error}"),
    }
}
