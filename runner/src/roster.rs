//! What others see of this process, for as long as its plugins change.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_host::{Modules, Provided};
use runner_store::{WorkerKind, WorkerRow};
use tokio::sync::watch;

/// Modules whose failures others are told.
const MAX_FAILING: usize = 100;
/// Characters of each that they are told.
const MAX_REASON: usize = 500;

/// The row with the plugins that there are now. A worker that takes no tasks has none for others: it knows them for its
/// sessions.
pub(crate) fn row(own: &WorkerRow, modules: &Modules) -> WorkerRow {
    let followed = WorkerRow {
        generation: modules.followed(),
        failing: failing(modules),
        ..own.clone()
    };
    if own.kind == WorkerKind::Worker && own.concurrency == 0 {
        return followed;
    }
    let table = modules.table();
    let identifier = |provided: &Provided| provided.plugin.identifier.clone();
    let digest = |provided: &Provided| (identifier(provided), provided.module.digest());
    WorkerRow {
        plugins: table.plugins().iter().map(identifier).collect(),
        digests: table.plugins().iter().map(digest).collect(),
        ..followed
    }
}

/// Why modules are not here as they should be; not more than is worth a row.
fn failing(modules: &Modules) -> BTreeMap<String, String> {
    let all = modules.failing().into_iter().take(MAX_FAILING);
    let cut = |reason: String| reason.chars().take(MAX_REASON).collect();
    all.map(|(name, reason)| (name, cut(reason))).collect()
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
