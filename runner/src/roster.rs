//! What others see of this process, for as long as its plugins change.

use std::sync::Arc;

use runner_host::{Modules, Provided};
use runner_store::WorkerRow;
use tokio::sync::watch;

/// The row with the plugins that there are now.
pub(crate) fn row(own: &WorkerRow, modules: &Modules) -> WorkerRow {
    let table = modules.table();
    let identifier = |provided: &Provided| provided.plugin.identifier.clone();
    let digest = |provided: &Provided| (identifier(provided), provided.module.digest());
    WorkerRow {
        plugins: table.plugins().iter().map(identifier).collect(),
        digests: table.plugins().iter().map(digest).collect(),
        ..own.clone()
    }
}

/// The row, which follows the modules as soon as they were all loaded.
pub(crate) fn follow(own: WorkerRow, modules: &Arc<Modules>) -> watch::Receiver<WorkerRow> {
    let (sender, receiver) = watch::channel(row(&own, modules));
    let modules = Arc::clone(modules);
    tokio::spawn(async move {
        let mut changes = modules.changes();
        modules.ready().await;
        loop {
            let now = row(&own, &modules);
            sender.send_if_modified(|before| {
                let is_other = *before != now;
                *before = now;
                is_other
            });
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    receiver
}
