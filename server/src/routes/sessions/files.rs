//! Files of a session: looked at, taken out, removed. How they come in stands in `uploads`, all at once go out in `zip`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as Segments, Query, State};
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_core::file::{OCTET_STREAM, content_type_of};
use runner_session::{MAX_LISTED, SessionFiles};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::{Segment, Who, id_of, on_disk, sessions};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;

/// Which of the files are meant.
#[derive(Debug, Deserialize)]
pub(crate) struct Below {
    /// Those below this folder; all where none is named.
    pub(super) folder: Option<String>,
}

/// `GET /api/kernels/<id>/files`.
pub(crate) async fn list(
    State(app): State<App>,
    base: BaseUrl,
    who: Who,
    Segment(id): Segment,
    Query(below): Query<Below>,
) -> Result<Json<Value>, ApiError> {
    let session = who.session(sessions(&app)?, &id)?;
    let files = session.files()?;
    let above = below.folder.as_deref().unwrap_or_default();
    let above = match above.trim_end_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let listed = on_disk(move || files.list(below.folder.as_deref())).await?;
    let is_complete = listed.len() <= MAX_LISTED;
    let shown = listed.into_iter().take(MAX_LISTED).map(|one| {
        let modified = humantime::format_rfc3339_seconds(one.modified).to_string();
        let path = format!("{above}{}", one.path);
        let url = base.url(&session.shared_path(&path));
        json!({"path": path, "size": one.size, "modified": modified, "url": url})
    });
    let shown: Vec<Value> = shown.collect();
    Ok(Json(json!({ "files": shown, "complete": is_complete })))
}

/// `GET /api/kernels/<id>/files/<path>`.
pub(crate) async fn download(
    State(app): State<App>,
    who: Who,
    Segments((id, path)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let files = who.session(sessions(&app)?, &id)?.files()?;
    content(files, path, OCTET_STREAM).await
}

/// `GET /api/kernels/<id>/shared/<tag>/<path>`: for whoever knows the tag of the file, such as a plugin.
pub(crate) async fn shared(
    State(app): State<App>,
    Segments((id, tag, path)): Segments<(String, String, String)>,
) -> Result<Response, ApiError> {
    let session = sessions(&app)?.get(id_of(&id)?);
    let session = session.filter(|session| session.shares(&path, &tag));
    let session = session.ok_or_else(ApiError::file_not_found)?;
    let files = session.files()?;
    let media = content_type_of(&path);
    content(files, path, media).await
}

/// A file as it is now. It is never shown as a page of this server.
async fn content(
    files: SessionFiles,
    path: String,
    media: &'static str,
) -> Result<Response, ApiError> {
    let (file, size) = on_disk(move || {
        let file = files.open(&path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    })
    .await?;
    let content = ReaderStream::new(tokio::fs::File::from_std(file));
    let mut response = Body::from_stream(content).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("sandbox");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// `DELETE /api/kernels/<id>/files/<path>`.
pub(crate) async fn remove(
    State(app): State<App>,
    who: Who,
    Segments((id, path)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let files = who.session(sessions(&app)?, &id)?.files()?;
    on_disk(move || files.remove(&path)).await?;
    Ok(StatusCode::NO_CONTENT)
}
