//! `/kernel/<id>/files`: what lies in the folder of a kernel. The id is the secret.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as Segments, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::{Cell, id_of, kernels};
use crate::error::ApiError;
use crate::routes::Segment;
use crate::routes::sessions::{on_disk, uploads::keep_body};

/// What is shown, by its ending; all else is only taken.
const SHOWN: [(&str, &str); 12] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("svg", "image/svg+xml"),
    ("pdf", "application/pdf"),
    ("html", "text/html; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("json", "application/json"),
    ("mp4", "video/mp4"),
];
/// A page that a cell has written is none of this server's: it has an origin of its own.
const POLICY: &str = "sandbox allow-scripts allow-popups";

/// `GET /kernel/<id>/files`.
pub(crate) async fn list(cell: Cell, Segment(id): Segment) -> Result<Json<Value>, ApiError> {
    let files = kernels::files(&cell.face, id_of(&id)?).await?;
    let listed = on_disk(move || files.list(None)).await?;
    let shown: Vec<Value> = listed
        .into_iter()
        .map(|one| {
            let modified = humantime::format_rfc3339_seconds(one.modified).to_string();
            json!({"path": one.path, "size": one.size, "modified": modified})
        })
        .collect();
    Ok(Json(json!({ "files": shown })))
}

/// `GET /kernel/<id>/files/<path>`.
pub(crate) async fn download(
    cell: Cell,
    Segments((id, path)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let files = kernels::files(&cell.face, id_of(&id)?).await?;
    let ending = path
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    let (file, size) = on_disk(move || {
        let file = files.open(&path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    })
    .await?;
    let shown = SHOWN
        .iter()
        .find(|(known, _)| ending.as_deref() == Some(*known));
    let (content_type, disposition) = match shown {
        Some((_, content_type)) => (*content_type, "inline"),
        None => ("application/octet-stream", "attachment"),
    };
    // What is written meanwhile is not more than was said.
    let content = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), size);
    let mut response = Body::from_stream(ReaderStream::new(content)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    let described: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, content_type),
        (CONTENT_DISPOSITION, disposition),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in described {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// `PUT /kernel/<id>/files/<path>`: the body is the content. One that is cut leaves nothing.
pub(crate) async fn upload(
    cell: Cell,
    Segments((id, path)): Segments<(String, String)>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let files = kernels::files(&cell.face, id_of(&id)?).await?;
    let limit = cell.face.config().max_file;
    keep_body(files, path, request, limit).await
}
