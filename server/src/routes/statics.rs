//! `GET /static/…`: style and script of the forms, embedded.

use std::io::Write;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

use super::Segment;
use super::docs::accepts_gzip;
use crate::error::ApiError;

#[derive(RustEmbed)]
#[folder = "static"]
struct Static;

pub(crate) async fn file(Segment(name): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    serve(&name, &headers)
}

/// Answers with an embedded file.
pub(crate) fn serve(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let file = Static::get(name).ok_or_else(ApiError::not_found)?;
    let digest: String = file.metadata.sha256_hash()[..16]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let content_type = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("html") => "text/html; charset=utf-8",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    let is_packed = content_type.ends_with("utf-8") && accepts_gzip(headers);
    // Two representations, two tags.
    let etag = format!("\"{digest}{}\"", if is_packed { "-gz" } else { "" });
    let known = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let described = [
        (CACHE_CONTROL, "no-cache".to_owned()),
        (VARY, "Accept-Encoding".to_owned()),
        (ETAG, etag),
    ];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    let content_type = [(CONTENT_TYPE, content_type)];
    match is_packed.then(|| packed(&file.data)).flatten() {
        Some(packed) => {
            let encoding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            Ok((described, content_type, encoding, packed).into_response())
        }
        None => Ok((described, content_type, file.data.into_owned()).into_response()),
    }
}

/// The same as gzip. Nothing: it could not be packed.
fn packed(data: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).ok()?;
    encoder.finish().ok()
}
