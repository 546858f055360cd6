//! `GET` and `DELETE /modules/<name>/stats`, `GET …/rusage`, `POST …/ping`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{find, of_host};
use crate::app::App;
use crate::error::ApiError;
use crate::routes::Segment;

/// What its runs and hosts came to.
pub(crate) async fn stats(
    State(app): State<App>,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!(find(&app, &name)?.stats())))
}

/// Begins to count anew.
pub(crate) async fn reset(
    State(app): State<App>,
    Segment(name): Segment,
) -> Result<StatusCode, ApiError> {
    find(&app, &name)?.reset_stats();
    Ok(StatusCode::NO_CONTENT)
}

/// What its hosts have used.
pub(crate) async fn rusage(
    State(app): State<App>,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    let module = find(&app, &name)?;
    let usage = tokio::task::spawn_blocking(move || module.usage()).await;
    let usage = usage.map_err(|error| {
        tracing::error!("what the hosts of {name} have used cannot be read: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    Ok(Json(json!({ "hosts": usage })))
}

/// A message to one of its hosts and back.
pub(crate) async fn ping(
    State(app): State<App>,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    let pong = find(&app, &name)?.ping().await;
    let pong = pong.map_err(|error| of_host(&error))?;
    let milliseconds = pong.round_trip.as_secs_f64() * 1_000.0;
    Ok(Json(
        json!({ "pid": pong.pid, "milliseconds": milliseconds }),
    ))
}
