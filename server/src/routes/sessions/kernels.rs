//! Kernels: made, looked at, interrupted, restarted, ended.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_session::{SessionModel, Wish};
use serde::Deserialize;

use super::{Segment, Who, sessions};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::read_all;
use crate::error::ApiError;

/// Bytes of a body.
pub(crate) const MAX_BODY: u64 = 64 << 10;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct KernelWish {
    /// The kernelspec.
    name: Option<String>,
    /// Where clients want it to begin; each begins in its own folder.
    #[serde(default)]
    #[expect(dead_code, reason = "only what is no path is refused")]
    path: Option<String>,
    /// Variables of the kernel.
    #[serde(default)]
    env: Option<HashMap<String, String>>,
}

impl KernelWish {
    /// Reads a body; an empty one asks for nothing special.
    pub(super) fn into_wish(self, who: &Who) -> Wish {
        Wish {
            spec: self.name.filter(|name| !name.is_empty()),
            environment: self.env.unwrap_or_default(),
            ..who.wish()
        }
    }
}

/// `GET /api/kernels`.
pub(crate) async fn list(
    State(app): State<App>,
    who: Who,
) -> Result<Json<Vec<SessionModel>>, ApiError> {
    let all = sessions(&app)?.list().into_iter();
    let seen = all.filter(|session| who.may_see(session));
    Ok(Json(seen.map(|session| session.model()).collect()))
}

/// `POST /api/kernels`.
pub(crate) async fn make(
    State(app): State<App>,
    base: BaseUrl,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let body = read_all(request.into_body(), MAX_BODY).await?;
    let wish: KernelWish = match body.trim_ascii().is_empty() {
        true => KernelWish::default(),
        false => serde_json::from_slice(&body)
            .map_err(|error| ApiError::invalid_json(&error.to_string()))?,
    };
    let session = sessions(&app)?.create(wish.into_wish(&who)).await?;
    let model = session.model().starting();
    let path = base.path(&format!("/api/kernels/{}", model.id));
    let mut response = (StatusCode::CREATED, Json(model)).into_response();
    if let Ok(location) = HeaderValue::try_from(path) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /api/kernels/<id>`.
pub(crate) async fn show(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
) -> Result<Json<SessionModel>, ApiError> {
    let session = who.session(sessions(&app)?, &id)?;
    Ok(Json(session.model()))
}

/// `DELETE /api/kernels/<id>`.
pub(crate) async fn remove(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    let sessions = sessions(&app)?;
    let session = who.session(sessions, &id)?;
    sessions.remove(session.id()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/kernels/<id>/interrupt`.
pub(crate) async fn interrupt(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    who.session(sessions(&app)?, &id)?.interrupt();
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/kernels/<id>/restart`.
pub(crate) async fn restart(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
) -> Result<Json<SessionModel>, ApiError> {
    let session = who.session(sessions(&app)?, &id)?;
    session.restart().await?;
    Ok(Json(session.model()))
}
