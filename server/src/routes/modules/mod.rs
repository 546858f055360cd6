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
use runner_host::{ChangeError, HostError, Module};
use serde::Serialize;
use serde_json::{Value, json};

use super::Segment;
use crate::app::App;
use crate::error::ApiError;

/// `GET /modules/`: all that is there, and why something was not loaded.
pub(crate) async fn list(State(app): State<App>) -> Json<Value> {
    let modules = &app.0.modules;
    let table = modules.table();
    let loads: Vec<&Arc<Module>> = table.modules.iter().chain(&table.replaced).collect();
    let shown = views(&app, &loads).await;
    Json(json!({ "modules": shown, "sandbox": modules.sandbox().to_string() }))
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
    let views = views(app, &[module]).await;
    views.into_iter().next().unwrap_or_default()
}

/// SQL is asked once for all of them.
async fn views(app: &App, modules: &[&Arc<Module>]) -> Vec<Value> {
    let statuses: Vec<_> = modules.iter().map(|module| module.status()).collect();
    let plugins: Vec<String> = statuses
        .iter()
        .flat_map(|status| status.plugins.clone())
        .collect();
    let elsewhere = elsewhere(app).await;
    let mut queued = app.0.modules.queued(&plugins).await.into_iter();
    let views = modules.iter().zip(statuses).map(|(module, status)| {
        let differing: Vec<&Elsewhere> = elsewhere
            .iter()
            .filter(|other| status.plugins.contains(&other.plugin) && other.sha256 != status.sha256)
            .collect();
        let differing = json!(differing);
        let own: u64 = queued.by_ref().take(status.plugins.len()).sum();
        let mut shown = serde_json::to_value(status).unwrap_or_default();
        shown["queued"] = json!(own);
        shown["differing"] = differing;
        shown["hosts"] = json!(module.idle_hosts());
        shown["processes"] = json!(module.hosts());
        shown
    });
    views.collect()
}

/// What another process of the installation has under the identity of a plugin.
#[derive(Debug, Serialize)]
struct Elsewhere {
    process: String,
    host: String,
    plugin: String,
    sha256: String,
}

/// What others have. SQL that is away must not hide the modules.
async fn elsewhere(app: &App) -> Vec<Elsewhere> {
    let store = &app.0.store;
    let workers = store.workers().await.unwrap_or_default();
    let lease = app.0.config.lease;
    let others = workers.into_iter().filter(|worker| {
        let is_alive = worker.stopped_at.is_none() && worker.silent_for < lease;
        is_alive && worker.process != store.process()
    });
    let all = others.flat_map(|worker| {
        let (process, host) = (worker.process, worker.row.host);
        worker
            .row
            .digests
            .into_iter()
            .map(move |(plugin, sha256)| Elsewhere {
                process: process.clone(),
                host: host.clone(),
                plugin,
                sha256,
            })
    });
    all.collect()
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let status = match &error {
            ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
            ChangeError::Conflict(_) => StatusCode::CONFLICT,
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
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(characters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}
