//! `POST /tasks/<id>/cancel` and `DELETE /tasks/<id>/`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runner_core::task::{Task, TaskState};
use serde_json::Value;

use super::{find, view};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::Id;

/// Ends a task and everything it started. What the first of "finished" and "cancelled" writes is what
/// stands; cancelling twice is cancelling once.
pub(crate) async fn cancel(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let task = end(&app, id).await?;
    match task.state {
        TaskState::Cancelled => Ok(Json(view(&task, &base))),
        _ => Err(ApiError::with(
            StatusCode::CONFLICT,
            "The task has ended already.",
        )),
    }
}

/// Deletes a task with its files, cancelling it first.
pub(crate) async fn delete(State(app): State<App>, Id(id): Id) -> Result<StatusCode, ApiError> {
    let task = end(&app, id).await?;
    if !app.0.store.delete_task(task.id).await? {
        return Err(ApiError::task_not_found());
    }
    app.0.events.changed(task.id);
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels a task, and those that it called, unless it has ended. Answers it as it is then.
async fn end(app: &App, id: Option<i64>) -> Result<Task, ApiError> {
    let id = id.ok_or_else(ApiError::task_not_found)?;
    let ended = app
        .0
        .store
        .cancel_task(id)
        .await?
        .ok_or_else(ApiError::task_not_found)?;
    for task in ended {
        app.0.queue.task_ended(task);
        app.0.events.changed(task);
    }
    app.0.queue.deliveries_due();
    find(app, Some(id)).await
}
