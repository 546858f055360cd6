//! `POST /tasks/<id>/cancel`, `POST /tasks/<id>/retry` and `DELETE /tasks/<id>/`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runner_core::task::TaskState;
use runner_queue::Offer;
use runner_store::Retried;
use serde_json::Value;

use super::{find, view};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::{Id, commit_then_announce};

/// Ends a task and everything it started. What the first of "finished" and "cancelled" writes is what
/// stands; cancelling twice is cancelling once.
pub(crate) async fn cancel(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let id = id.ok_or_else(ApiError::task_not_found)?;
    end(&app, id).await?;
    let task = find(&app, Some(id)).await?;
    match task.state {
        TaskState::Cancelled => Ok(Json(view(&task, &base))),
        _ => Err(ApiError::with(
            StatusCode::CONFLICT,
            "The task has ended already.",
        )),
    }
}

/// Runs a task once more that failed or was cancelled.
pub(crate) async fn retry(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let id = id.ok_or_else(ApiError::task_not_found)?;
    let shared = app.clone();
    let commit = async move {
        match shared.0.store.retry_task(id).await? {
            Retried::Queued(offer) => Ok(offer),
            Retried::Refused(state) => Err(ApiError::with(
                StatusCode::CONFLICT,
                format!(
                    "The task is {}; only one that failed or was cancelled can be run once more.",
                    state.as_str()
                ),
            )),
            Retried::Unknown => Err(ApiError::task_not_found()),
        }
    };
    let shared = app.clone();
    let announce = move |offer: &Offer| {
        shared.0.queue.push(offer.clone());
        shared.0.queue.deliveries_due();
        shared.0.events.changed(id);
    };
    commit_then_announce(commit, announce).await?;
    Ok(Json(view(&find(&app, Some(id)).await?, &base)))
}

/// Deletes a task with its files, cancelling it first.
pub(crate) async fn delete(State(app): State<App>, Id(id): Id) -> Result<StatusCode, ApiError> {
    let id = id.ok_or_else(ApiError::task_not_found)?;
    let shared = app.clone();
    let commit = async move {
        end(&shared, id).await?;
        match shared.0.store.delete_task(id).await? {
            true => Ok(()),
            false => Err(ApiError::task_not_found()),
        }
    };
    commit_then_announce(commit, move |()| app.0.events.changed(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels a task, and those that it called, unless it has ended.
async fn end(app: &App, id: i64) -> Result<(), ApiError> {
    let shared = app.clone();
    let commit = async move {
        let ended = shared.0.store.cancel_task(id).await?;
        ended.ok_or_else(ApiError::task_not_found)
    };
    let app = app.clone();
    let announce = move |ended: &Vec<i64>| app.0.queue.tasks_ended(ended, &app.0.events);
    commit_then_announce(commit, announce).await.map(drop)
}
