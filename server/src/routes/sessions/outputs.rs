//! What a session wrote beside its messages: output that was too much for them, and its standard error.

use std::io::ErrorKind;
use std::path::Path;

use axum::body::Body;
use axum::extract::{Path as Segments, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::{Segment, Who, id_of, sessions};
use crate::app::App;
use crate::error::ApiError;
use crate::sage_cell::SageCell;

/// `GET /api/kernels/<id>/outputs/<name>`: for whoever knows its name.
pub(crate) async fn download(
    State(app): State<App>,
    Segments((id, name)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let id = id_of(&id)?;
    let mut all = app
        .0
        .sessions
        .iter()
        .chain(app.0.config.sage_cell.iter().filter_map(SageCell::here));
    let session = all.find_map(|sessions| sessions.get(id));
    let path = session.and_then(|session| session.output(&name));
    let path = path.ok_or_else(ApiError::file_not_found)?;
    let mut response = text(&path).await?.ok_or_else(ApiError::file_not_found)?;
    response.headers_mut().insert(
        CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"output.txt\""),
    );
    Ok(response)
}

/// `GET /api/kernels/<id>/stderr`: what its kernels wrote to their standard error, beside output of cells.
pub(crate) async fn errors(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let session = who.session(sessions(&app)?, &id)?;
    let found = text(&session.error_log()).await?;
    Ok(found.unwrap_or_else(|| plain(Body::empty())))
}

/// The file as it is now.
async fn text(path: &Path) -> Result<Option<Response>, ApiError> {
    match tokio::fs::File::open(path).await {
        Ok(file) => Ok(Some(plain(Body::from_stream(ReaderStream::new(file))))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            tracing::error!("cannot open {}: {error}", path.display());
            Err(ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}

fn plain(body: Body) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
