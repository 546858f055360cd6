//! Files into a session: one as a body, several as a form, an output of a task. What is cut or refused leaves nothing.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Segments, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use futures::StreamExt;
use runner_session::{BringError, Draft, SessionFiles, TaskOutput};
use serde::Deserialize;
use serde_json::{Value, json};

use super::files::Below;
use super::{Segment, Who, on_disk, on_file, sessions};
use crate::app::App;
use crate::body::FileParts;
use crate::error::ApiError;
use crate::incoming::slow::Slow;

/// Files of one form.
const MAX_FILES: usize = 1_000;

/// `PUT /api/kernels/<id>/files/<path>`: the body is the content.
pub(crate) async fn put(
    State(app): State<App>,
    who: Who,
    Segments((id, path)): Segments<(String, String)>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let files = who.session(sessions(&app)?, &id)?.files()?;
    keep_body(files, path, request, app.0.config.max_upload).await
}

/// Puts a body into a file.
pub(crate) async fn keep_body(
    files: SessionFiles,
    path: String,
    request: Request,
    limit: u64,
) -> Result<StatusCode, ApiError> {
    let announced = announced(request.headers(), limit)?;
    let mut draft = on_disk(move || files.draft(announced)).await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| match Slow::of(&error) {
            Some(slow) => ApiError::slow(slow),
            None => ApiError::bad_request(format!("The body was cut: {error}")),
        })?;
        draft = write(draft, chunk, 0, limit).await?;
    }
    on_disk(move || draft.keep(&path)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/kernels/<id>/files`: the files of a form, under their names, which may be paths.
pub(crate) async fn post(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
    Query(below): Query<Below>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let files = who.session(sessions(&app)?, &id)?.files()?;
    let limit = app.0.config.max_upload;
    announced(
        request.headers(),
        limit.saturating_add(app.0.config.max_body),
    )?;
    let media = request.headers().get(CONTENT_TYPE);
    let media = media.and_then(|value| value.to_str().ok());
    let media = media.unwrap_or_default().to_owned();
    let drafts = drafts(&app, files.clone(), &media, request.into_body()).await?;
    let folder = below.folder.unwrap_or_default();
    let folder = folder.trim_end_matches('/').to_owned();
    let kept = on_disk(move || {
        let path = |name: &str| match folder.is_empty() {
            true => name.to_owned(),
            false => format!("{folder}/{name}"),
        };
        // All of them, or none.
        for (name, _) in &drafts {
            files.check(&path(name))?;
        }
        let mut kept = Vec::with_capacity(drafts.len());
        for (name, draft) in drafts {
            let (path, size) = (path(&name), draft.size());
            draft.keep(&path)?;
            kept.push(json!({"path": path, "size": size}));
        }
        Ok(kept)
    })
    .await?;
    Ok((StatusCode::CREATED, Json(json!({ "files": kept }))))
}

/// The files of a form, with their names.
async fn drafts(
    app: &App,
    files: SessionFiles,
    media: &str,
    body: Body,
) -> Result<Vec<(String, Draft)>, ApiError> {
    let limit = app.0.config.max_upload;
    let mut parts = FileParts::new(app, media, body)?;
    let (mut drafts, mut before) = (Vec::new(), 0);
    while let Some(name) = parts.next().await? {
        if drafts.len() >= MAX_FILES {
            return Err(ApiError::bad_request(format!(
                "The form has more than {MAX_FILES} files."
            )));
        }
        let own = files.clone();
        let mut draft = on_disk(move || own.draft(0)).await?;
        while let Some(chunk) = parts.chunk().await? {
            draft = write(draft, chunk, before, limit).await?;
        }
        before += draft.size();
        drafts.push((name, draft));
    }
    match drafts.is_empty() {
        true => Err(ApiError::bad_request(
            "The form has no file: expected parts with a `filename`.",
        )),
        false => Ok(drafts),
    }
}

/// Adds to a file. `before`: bytes of others of the same request.
async fn write(mut draft: Draft, chunk: Bytes, before: u64, limit: u64) -> Result<Draft, ApiError> {
    if before + draft.size() + chunk.len() as u64 > limit {
        return Err(ApiError::too_large("upload", limit));
    }
    on_disk(move || {
        draft.write(&chunk)?;
        Ok(draft)
    })
    .await
}

/// What a body says itself of its size.
fn announced(headers: &HeaderMap, limit: u64) -> Result<u64, ApiError> {
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    match length.unwrap_or(0) {
        length if length > limit => Err(ApiError::too_large("body", limit)),
        length => Ok(length),
    }
}

/// Which output of a task is meant.
#[derive(Debug, Deserialize)]
pub(crate) struct Source {
    /// Its URL, with its tag.
    from: Option<String>,
    /// The number of its task.
    task: Option<String>,
    /// Its name.
    output: Option<String>,
}

/// `POST /api/kernels/<id>/files/<path>?from=URL`, or `?task=N&output=NAME`: puts an output of a task there.
pub(crate) async fn bring(
    State(app): State<App>,
    who: Who,
    Segments((id, path)): Segments<(String, String)>,
    Query(from): Query<Source>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let sessions = sessions(&app)?;
    let files = who.session(sessions, &id)?.files()?;
    let task = from.task.map(|task| task.parse::<i64>());
    let output = match (from.from, task, from.output) {
        (Some(url), None, None) => TaskOutput::Url(url),
        (None, Some(Ok(task)), Some(name)) => TaskOutput::Named(task, name),
        _ => {
            return Err(ApiError::bad_request(
                "Which output is meant? Expected ?from=URL, or ?task=NUMBER&output=NAME.",
            ));
        }
    };
    let brought = sessions.tasks().bring(output, files, path.clone()).await;
    let size = brought.map_err(|error| match error {
        BringError::Unknown(problem) => ApiError::with(StatusCode::NOT_FOUND, problem),
        BringError::Unreadable(_) => {
            ApiError::with(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        BringError::File(error) => on_file(&error),
    })?;
    let made = json!({"path": path, "size": size});
    Ok((StatusCode::CREATED, Json(made)))
}
