//! `POST /tasks/<id>/cancel` and `DELETE /tasks/<id>/`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runner_core::task::{Change, LogWriter, Task, TaskState};
use runner_store::PageWrite;
use serde_json::Value;

use super::{find, view};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::Id;

/// How often a task may change under our hands before we give up: it changes at most every 100 ms.
const ATTEMPTS: usize = 20;

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
        _ => Err(ApiError::with(StatusCode::CONFLICT, "The task has ended already.")),
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

/// Cancels a task unless it has ended. Answers it as it is then.
async fn end(app: &App, id: Option<i64>) -> Result<Task, ApiError> {
    for _ in 0..ATTEMPTS {
        let mut task = find(app, id).await?;
        let version = task.version;
        let Ok(events) = task.apply(Change::Cancelled) else { return Ok(task) };
        let mut log = LogWriter::new(task.log_length);
        log.entry("cancelled");
        let write = PageWrite {
            task: &task,
            expected_version: version,
            events: &events,
            uploads: &[],
            log: &log.finish(),
        };
        if app.0.store.write_page_with(write).await? {
            app.0.queue.task_ended(task.id);
            app.0.queue.deliveries_due();
            app.0.events.changed(task.id);
            return find(app, id).await;
        }
    }
    Err(ApiError::with(StatusCode::CONFLICT, "The task changes too fast to be cancelled; try again."))
}
