//! Tasks: what became of a submission, and who is told of it.

mod subscribe;

use axum::Json;
use axum::extract::State;
use runner_core::identity::url_segment;
use runner_core::task::{Progress, Task};
use serde_json::{Value, json};

use super::Id;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;

pub(crate) use subscribe::subscribe;

/// `GET /tasks/<id>/`.
pub(crate) async fn show(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let task = find(&app, id).await?;
    Ok(Json(view(&task, &base)))
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
            .map(|file| {
                json!({
                    "href": base.url(&format!("/files/{}/?file-id={}", file.id, url_segment(&file.tag))),
                    "dataType": file.data_type,
                    "contentType": file.content_type,
                    "name": file.name,
                })
            })
            .collect(),
    };
    let mut shown = json!({
        "status": task.state.status(),
        "log": task.log,
        "outputs": outputs,
        "links": links,
    });
    if let Some(progress) = &task.progress {
        shown["progress"] = progress_view(progress);
    }
    if !task.steps.is_empty() {
        let step = |step: &runner_core::task::Step| {
            json!({
                "href": step.href,
                "uiHref": step.ui_href,
                "stepId": step.step_id,
                "cleared": step.cleared,
            })
        };
        shown["steps"] = task.steps.iter().map(step).collect();
    }
    shown
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
