//! `/tasks/<id>/pipeline`: a pipeline that runs, or did, as a task: how it is doing, and what is wanted of it.

mod graph;
mod socket;
pub(crate) mod tap;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_core::pipeline::{GIVEN, Want};
use runner_core::task::Task;
use runner_store::{PipelineRow, Wished};
use serde_json::{Value, json};

use super::{find, wrong};
use crate::app::App;
use crate::body::{Sent, parse_query};
use crate::error::ApiError;
use crate::routes::{Id, commit_then_announce};

use graph::Language;

/// The loader of pipelines.
const LOADER: &str = "pipeline";

/// Its nodes and edges, and what they have done; after the end, what they had done then. Or its graph alone, in a language
/// of programs that draw.
pub(crate) async fn show(
    State(app): State<App>,
    Id(id): Id,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = parse_query(query.unwrap_or_default().as_bytes())?;
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let language = Language::wanted(query.text("format"), accept.unwrap_or_default())?;
    let task = pipeline_task(&app, id).await?;
    let row = app.0.store.pipeline(task.id).await?;
    let shown = match language {
        Language::Json => Json(view(&task, row.as_ref())).into_response(),
        language => language.draw(row.as_ref())?,
    };
    Ok(([(VARY, "Accept")], shown).into_response())
}

/// Holds all of it, or the `node`.
pub(crate) async fn pause(
    State(app): State<App>,
    Id(id): Id,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let node = node_of(&app, request).await?;
    want(&app, id, node.as_deref(), Want::Pause(node.clone())).await
}

/// Lets all of it go on, or the `node`.
pub(crate) async fn resume(
    State(app): State<App>,
    Id(id): Id,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let node = node_of(&app, request).await?;
    want(&app, id, node.as_deref(), Want::Resume(node.clone())).await
}

/// Ends its sources; what is on its way goes on to the end.
pub(crate) async fn drain(State(app): State<App>, Id(id): Id) -> Result<Json<Value>, ApiError> {
    want(&app, id, None, Want::Drain).await
}

async fn node_of(app: &App, request: Request) -> Result<Option<String>, ApiError> {
    let mut sent = Sent::read(app, request).await?;
    match sent.take_option("node").as_slice() {
        [] => Ok(None),
        [Value::String(node)] => Ok(Some(node.clone())),
        _ => Err(sent.wrong("node", "Expected the name of a node.")),
    }
}

async fn want(
    app: &App,
    id: Option<i64>,
    node: Option<&str>,
    want: Want,
) -> Result<Json<Value>, ApiError> {
    let task = pipeline_task(app, id).await?;
    if task.state.is_finished() {
        return Err(ApiError::with(
            StatusCode::CONFLICT,
            "The pipeline has ended already.",
        ));
    }
    if let Some(node) = node {
        let row = app.0.store.pipeline(task.id).await?;
        require_node(row.as_ref(), node)?;
    }
    let row = wish(app, task.id, want).await?;
    Ok(Json(view(&task, row.as_ref())))
}

/// Writes a wish, and tells whoever runs the pipeline that there is one.
async fn wish(app: &App, task: i64, want: Want) -> Result<Option<PipelineRow>, ApiError> {
    let shared = app.clone();
    let commit = async move {
        match shared.0.store.want_pipeline(task, want).await? {
            Wished::Yes(wanted) => Ok(wanted),
            Wished::Refused(limit) => {
                let text = crate::routes::modules::sentence(&limit.to_string());
                Err(ApiError::with(StatusCode::CONFLICT, text))
            }
            Wished::Unknown => Err(ApiError::task_not_found()),
        }
    };
    let shared = app.clone();
    commit_then_announce(commit, move |_| shared.0.events.changed(task)).await?;
    Ok(app.0.store.pipeline(task).await?)
}

fn require_node(row: Option<&PipelineRow>, node: &str) -> Result<(), ApiError> {
    let Some(graph) = row.and_then(|row| row.graph.as_ref()) else {
        return Err(ApiError::with(
            StatusCode::CONFLICT,
            "The pipeline has not begun, so that its nodes are not known.",
        ));
    };
    let names = || {
        let nodes = graph["nodes"].as_array().into_iter().flatten();
        nodes.filter_map(|node| node["name"].as_str())
    };
    match graph.get("omitted").is_some() || names().any(|name| name == node) {
        true => Ok(()),
        false => Err(ApiError::with(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!(
                "There is no node {node:?}; there are {}.",
                names().collect::<Vec<_>>().join(", ")
            ),
        )),
    }
}

/// A task that is a pipeline.
async fn pipeline_task(app: &App, id: Option<i64>) -> Result<Task, ApiError> {
    let task = find(app, id).await?;
    match is_pipeline(app, &task).await? {
        true => Ok(task),
        false => Err(ApiError::with(
            StatusCode::NOT_FOUND,
            "The task is no pipeline.",
        )),
    }
}

/// Whether a task is a pipeline.
pub(super) async fn is_pipeline(app: &App, task: &Task) -> Result<bool, ApiError> {
    let table = app.0.modules.table();
    let provided = table.plugin_for_task(&task.plugin);
    let is_known = provided.is_some_and(|provided| provided.module.status().loader == LOADER);
    // Its module may be gone.
    Ok(task.plugin == GIVEN || is_known || app.0.store.pipeline(task.id).await?.is_some())
}

/// What clients see of a pipeline.
pub(super) fn view(task: &Task, row: Option<&PipelineRow>) -> Value {
    let mut shown = json!({
        "task": task.id, "state": task.state, "status": task.state.status(),
        "graph": Value::Null, "seen": Value::Null,
        "wanted": {"isPaused": false, "pausedNodes": [], "isDrained": false},
    });
    if let Some(row) = row {
        shown["run"] = json!(row.run);
        shown["graph"] = json!(row.graph);
        shown["seen"] = json!(row.seen);
        shown["wanted"] = json!({
            "isPaused": row.wanted.is_paused,
            "pausedNodes": row.wanted.paused_nodes,
            "isDrained": row.wanted.drained_run == Some(task.run),
        });
    }
    shown
}
