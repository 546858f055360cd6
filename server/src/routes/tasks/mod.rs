//! Tasks: what became of a submission, and who is told of it.

pub(crate) mod cancel;
pub(crate) mod events;
pub(crate) mod list;
pub(crate) mod pipeline;
mod subscribe;
pub(crate) mod webhooks;

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use jiff::Timestamp;
use runner_core::parameters::{FieldErrors, Form};
use runner_core::task::{Priority, Progress, RanBy, Step, Task};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Id;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::parse_query;
use crate::error::{ApiError, Location};

pub(crate) use subscribe::subscribe;

/// The longest that a request waits for a change.
const MAX_WAIT: f64 = 60.0;

/// `GET /tasks/<id>/`; with `wait` the answer comes as soon as the task has another version than the one
/// named, or than it has now, or when the time is over.
pub(crate) async fn show(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let query = parse_query(query.unwrap_or_default().as_bytes())?;
    let Some(wait) = number_of(&query, "wait")? else {
        return Ok(Json(view(&find(&app, id).await?, &base)));
    };
    if wait.is_nan() || wait < 0.0 {
        return Err(wrong("wait", "Must be greater than or equal to 0."));
    }
    let until = Instant::now() + Duration::from_secs_f64(wait.min(MAX_WAIT));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "versions are small whole numbers"
    )]
    let known = number_of(&query, "version")?.map(|version| version as i64);
    // Listening begins before reading, so that no change falls in between.
    let mut watch = app.0.events.watch(id.ok_or_else(ApiError::task_not_found)?);
    let mut task = find(&app, id).await?;
    let known = known.unwrap_or(task.version);
    while task.version == known && !task.state.is_finished() {
        if tokio::time::timeout_at(until, watch.changed())
            .await
            .is_err()
        {
            break;
        }
        task = find(&app, id).await?;
    }
    Ok(Json(view(&task, &base)))
}

fn number_of(query: &Form, key: &str) -> Result<Option<f64>, ApiError> {
    let Some(text) = query.text(key) else {
        return Ok(None);
    };
    text.trim()
        .parse()
        .map(Some)
        .map_err(|_| wrong(key, "Not a valid number."))
}

fn wrong(key: &str, message: &str) -> ApiError {
    let errors = FieldErrors::from([(key.to_owned(), vec![message.to_owned()])]);
    ApiError::fields(Location::Query, errors)
}

async fn find(app: &App, id: Option<i64>) -> Result<Task, ApiError> {
    let id = id.ok_or_else(ApiError::task_not_found)?;
    app.0
        .store
        .task(id)
        .await?
        .ok_or_else(ApiError::task_not_found)
}

/// The task as clients know it. `steps` and `progress` are closed records: the backend of QHAna refuses
/// other keys in them.
fn view(task: &Task, base: &BaseUrl) -> Value {
    let mut links = vec![json!({
        "type": "subscribe",
        "href": base.url(&format!("/tasks/{}/", task.id)),
    })];
    links.extend(task.links.iter().map(|link| json!(link)));
    let outputs: Vec<Value> = match task.state.is_finished() {
        false => Vec::new(),
        true => task
            .outputs
            .iter()
            .map(|file| output_view(file, base))
            .collect(),
    };
    let mut shown = json!({
        "status": task.state.status(),
        "log": task.log,
        "outputs": outputs,
        "links": links,
        "plugin": task.plugin,
        "state": task.state,
        "version": task.version,
        "labels": task.labels,
        "module": module_view(task),
    });
    if task.dispatch.priority != Priority::Normal {
        shown["priority"] = json!(task.dispatch.priority);
    }
    if task.attempts + task.failures > 0 {
        shown["attempts"] = json!(task.attempts + task.failures);
    }
    if let Some(run_at) = task.dispatch.run_at.and_then(moment) {
        shown["runAt"] = json!(run_at);
    }
    if let Some(progress) = &task.progress {
        shown["progress"] = progress_view(progress);
    }
    if !task.steps.is_empty() {
        shown["steps"] = task.steps.iter().map(step_view).collect();
    }
    shown
}

/// For which version of its module the task was made, and which did each of its runs.
fn module_view(task: &Task) -> Value {
    let is_other = |ran: &RanBy| ran.digest != task.digest;
    json!({
        "digest": task.digest,
        "runs": task.ran_by,
        "changed": task.ran_by.iter().any(is_other),
    })
}

/// Milliseconds since 1970 as RFC 3339 has them.
pub(crate) fn moment(milliseconds: i64) -> Option<String> {
    let moment = Timestamp::from_millisecond(milliseconds).ok()?;
    Some(moment.to_string())
}

fn output_view(file: &runner_core::file::File, base: &BaseUrl) -> Value {
    let href = match &file.url {
        Some(url) => url.clone(),
        None => base.url(&file.path()),
    };
    json!({
        "href": href,
        "dataType": file.data_type,
        "contentType": file.content_type,
        "name": file.name,
    })
}

fn step_view(step: &Step) -> Value {
    json!({
        "href": step.href,
        "uiHref": step.ui_href,
        "stepId": step.step_id,
        "cleared": step.cleared,
    })
}

fn progress_view(progress: &Progress) -> Value {
    json!({
        "value": number(progress.value),
        "start": number(progress.start),
        "target": number(progress.target),
        "unit": progress.unit,
    })
}

/// Whole numbers without a fraction, as clients expect them.
fn number(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    match number.fract() == 0.0 && number.abs() < 9e15 {
        true => json!(number as i64),
        false => json!(number),
    }
}
