//! `POST /plugins/<identifier>/process/`: makes a task.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use runner_core::parameters::Parameters;
use runner_core::task::NewTask;
use runner_queue::Job;
use serde_json::{Map, Value};

use super::find;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::Sent;
use crate::error::ApiError;
use crate::router::redirect;
use crate::routes::{Segment, commit_then_announce};

pub(crate) async fn start(
    State(app): State<App>,
    base: BaseUrl,
    Segment(identifier): Segment,
    request: Request,
) -> Result<Response, ApiError> {
    let provided = find(&app, &identifier).await?;
    require_room(&app)?;
    let mut sent = Sent::read(&app, request).await?;
    let labels = sent.take_labels()?;
    let form = &provided.plugin.form.parameters;
    let parameters = checked(&app, &sent, form)?;
    let uploads = form.uploads(&parameters);
    let files = sent.into_uploads(&uploads);
    let task = NewTask {
        plugin: provided.plugin.identifier.clone(),
        digest: provided.module.status().sha256,
        parameters,
        uploads,
        labels,
        base_url: base.url(""),
        caller: None,
    };
    let shared = app.clone();
    let commit = files.named_by(async move { Ok(shared.0.store.insert_task(task).await?) });
    let announce = move |task: &i64| {
        app.0.queue.push(Job {
            task: *task,
            run: 1,
        });
    };
    let task = commit_then_announce(commit, announce).await?;
    Ok(redirect(
        StatusCode::SEE_OTHER,
        &base.path(&format!("/tasks/{task}/")),
    ))
}

/// The values, if all is right with them.
pub(super) fn checked(
    app: &App,
    sent: &Sent,
    parameters: &Parameters,
) -> Result<Map<String, Value>, ApiError> {
    let values = sent.check(parameters).into_result();
    let values = values.map_err(|errors| ApiError::fields(sent.location(), errors))?;
    let limit = app.0.config.max_parameters;
    let size = serde_json::to_vec(&values).map_or(0, |text| text.len() as u64);
    if size > limit {
        return Err(ApiError::with(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The parameters have {size} bytes; the limit is {limit}. Send large values as files."
            ),
        ));
    }
    Ok(values)
}

/// Refuses while the disk is nearly full: what is accepted must be able to end.
fn require_room(app: &App) -> Result<(), ApiError> {
    match app.0.store.files().free_bytes() {
        Ok(free) if free < app.0.config.disk_floor => Err(ApiError::disk_full()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
