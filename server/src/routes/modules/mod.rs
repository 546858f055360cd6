//! Modules: what is loaded, what it is made of, what it does. All of it is the administrator's.

pub(crate) mod change;
pub(crate) mod debug;
pub(crate) mod load;
pub(crate) mod measure;
pub(crate) mod trace;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runner_core::module::ModuleStatus;
use runner_core::wanted::{Wanted, WantedState};
use runner_host::{ChangeError, HostError, Module};
use runner_store::WorkerInfo;
use serde_json::{Value, json};

use super::Segment;
use crate::app::App;
use crate::error::ApiError;

/// `GET /modules/`: all that is there, and why something was not loaded.
pub(crate) async fn list(State(app): State<App>) -> Json<Value> {
    let modules = &app.0.modules;
    let table = modules.table();
    let loads: Vec<&Arc<Module>> = table.modules.iter().chain(&table.replaced).collect();
    let others = others(&app).await;
    let shown = views(&app, &loads, &others).await;
    let wanted = modules.wanted();
    let is_removed = |wanted: &&Wanted| wanted.state == WantedState::Removed;
    let removed = wanted.modules.iter().filter(is_removed);
    Json(json!({
        "modules": shown,
        "sandbox": modules.sandbox().to_string(),
        "generation": modules.followed(),
        "removed": removed.map(|wanted| &wanted.name).collect::<Vec<_>>(),
        "others": others.iter().map(other_view).collect::<Vec<_>>(),
    }))
}

/// `GET /modules/<name>/`: one of them.
pub(crate) async fn show(
    State(app): State<App>,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    let module = find(&app, &name)?;
    Ok(Json(view(&app, &module).await))
}

/// The module of this name.
fn find(app: &App, name: &str) -> Result<Arc<Module>, ApiError> {
    let table = app.0.modules.table();
    let module = table.module(name).cloned();
    module.ok_or_else(|| ChangeError::Unknown(name.to_owned()).into())
}

async fn view(app: &App, module: &Arc<Module>) -> Value {
    let views = views(app, &[module], &others(app).await).await;
    views.into_iter().next().unwrap_or_default()
}

/// SQL is asked once for all of them.
async fn views(app: &App, modules: &[&Arc<Module>], others: &[WorkerInfo]) -> Vec<Value> {
    let statuses: Vec<_> = modules.iter().map(|module| module.status()).collect();
    let plugins: Vec<String> = statuses
        .iter()
        .flat_map(|status| status.plugins.clone())
        .collect();
    let mut queued = app.0.modules.queued(&plugins).await.into_iter();
    let views = modules.iter().zip(statuses).map(|(module, status)| {
        let differing: Vec<_> = others
            .iter()
            .flat_map(|other| differing(other, &status))
            .collect();
        let failing: Vec<_> = others
            .iter()
            .filter_map(|other| failing(other, &status.name))
            .collect();
        let own: u64 = queued.by_ref().take(status.plugins.len()).sum();
        let mut shown = serde_json::to_value(status).unwrap_or_default();
        shown["queued"] = json!(own);
        shown["differing"] = json!(differing);
        shown["failing"] = json!(failing);
        shown["hosts"] = json!(module.idle_hosts());
        shown["processes"] = json!(module.hosts());
        shown
    });
    views.collect()
}

/// The other processes of the queue that live. SQL that is away must not hide the modules.
pub(crate) async fn others(app: &App) -> Vec<WorkerInfo> {
    let store = &app.0.store;
    let workers = store.workers().await.unwrap_or_default();
    let lease = app.0.config.lease;
    let is_other = |worker: &WorkerInfo| {
        let is_alive = worker.stopped_at.is_none() && worker.silent_for < lease;
        is_alive && worker.process != store.process() && worker.queue == store.queue()
    };
    workers.into_iter().filter(is_other).collect()
}

/// How far another process follows what is wanted, and what it has not.
fn other_view(other: &WorkerInfo) -> Value {
    json!({
        "process": other.process,
        "host": other.row.host,
        "kind": other.row.kind.as_str(),
        "generation": other.row.generation,
        "failing": other.row.failing,
    })
}

/// The plugins of a module that another process has with another digest.
fn differing(other: &WorkerInfo, status: &ModuleStatus) -> Vec<Value> {
    let digests = other.row.digests.iter();
    let differing = digests
        .filter(|(plugin, sha256)| status.plugins.contains(plugin) && **sha256 != status.sha256);
    let view = |(plugin, sha256)| json!({"process": other.process, "host": other.row.host, "plugin": plugin, "sha256": sha256});
    differing.map(view).collect()
}

/// Why another process has not the module of this name.
fn failing(other: &WorkerInfo, name: &str) -> Option<Value> {
    let reason = other.row.failing.get(name)?;
    Some(json!({"process": other.process, "host": other.row.host, "reason": reason}))
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let status = match &error {
            ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
            ChangeError::Conflict(_) => StatusCode::CONFLICT,
            ChangeError::Away(..) | ChangeError::Unavailable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ChangeError::Unusable(_) | ChangeError::Failed { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        };
        Self::with(status, sentence(&error.to_string()))
    }
}

/// What a host said, or did not say, to an administrator.
fn of_host(error: &HostError) -> ApiError {
    let text = sentence(&error.to_string());
    match error {
        HostError::Busy(_) => ApiError::busy(&text),
        HostError::Closed(_) => ApiError::with(StatusCode::CONFLICT, text),
        _ => ApiError::with(StatusCode::BAD_GATEWAY, text),
    }
}

/// With a capital at its beginning and a stop at its end.
pub(crate) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(characters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}
