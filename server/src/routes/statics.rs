//! `GET /static/…`: style and script of the forms, embedded.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::Segment;
use crate::error::ApiError;

#[derive(RustEmbed)]
#[folder = "static"]
struct Static;

pub(crate) async fn file(Segment(name): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    let file = Static::get(&name).ok_or_else(ApiError::not_found)?;
    let digest: String = file.metadata.sha256_hash()[..16]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let etag = format!("\"{digest}\"");
    let known = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let described = [(CACHE_CONTROL, "no-cache".to_owned()), (ETAG, etag)];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    let content_type = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    Ok((
        described,
        [(CONTENT_TYPE, content_type)],
        file.data.into_owned(),
    )
        .into_response())
}
