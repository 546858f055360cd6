//! `GET /workers/`: the processes of the installation, and what each runs.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use runner_store::{RunningTask, WorkerInfo};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::relay::placement::Placement;
use crate::relay::{Offer, Relay};
use crate::routes::tasks::moment;

/// So long those are shown that are gone.
const SHOWN: Duration = Duration::from_secs(3600);

pub(crate) async fn list(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let (sessions, cells) = tokio::join!(
        offers(app.0.relay.as_ref()),
        offers(app.relay(Placement::Cell))
    );
    let store = &app.0.store;
    let (workers, running) = tokio::try_join!(store.workers(), store.running())?;
    let mut runs: HashMap<&str, Vec<&RunningTask>> = HashMap::new();
    for task in &running {
        runs.entry(&task.holder).or_default().push(task);
    }
    let lease = app.0.config.lease;
    let shown = workers.iter().filter_map(|worker| {
        let runs = runs.remove(&*worker.process).unwrap_or_default();
        let is_recent = worker.silent_for < SHOWN || !runs.is_empty();
        let shown = || {
            let mut shown = shown(worker, &runs, lease);
            for (all, has, room) in [
                (&sessions, "sessions", "sessionRoom"),
                (&cells, "cells", "cellRoom"),
            ] {
                if let Some(offer) = all.get(&*worker.process) {
                    shown[has] = offer.sessions.into();
                    shown[room] = offer.room.into();
                }
            }
            shown
        };
        is_recent.then(shown)
    });
    let shown: Vec<Value> = shown.collect();
    Ok(Json(json!({ "workers": shown })))
}

/// What the workers say that have kernels of a kind. Where Redis is away, nobody knows.
async fn offers(relay: Option<&Relay>) -> HashMap<String, Offer> {
    match relay {
        Some(relay) => relay.offers().await.unwrap_or_default(),
        None => HashMap::new(),
    }
}

fn shown(worker: &WorkerInfo, runs: &[&RunningTask], lease: Duration) -> Value {
    let state = match worker.stopped_at {
        Some(_) => "stopped",
        None if worker.silent_for < lease => "alive",
        None => "silent",
    };
    let runs: Vec<Value> = runs
        .iter()
        .map(|task| json!({"task": task.id, "run": task.run, "plugin": task.plugin}))
        .collect();
    json!({
        "name": worker.process,
        "kind": worker.row.kind.as_str(),
        "state": state,
        "host": worker.row.host,
        "pid": worker.row.pid,
        "queue": worker.queue,
        "concurrency": worker.row.concurrency,
        "startedAt": moment(worker.started_at),
        "seenAt": moment(worker.beat_at),
        "silentSeconds": worker.silent_for.as_secs(),
        "running": runs,
        "plugins": worker.row.plugins,
    })
}
