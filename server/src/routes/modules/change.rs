//! `POST /modules/<name>/start`, `…/stop` and `…/reload`, and `DELETE /modules/<name>/`.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::view;
use crate::app::App;
use crate::body::read_all;
use crate::error::ApiError;
use crate::routes::Segment;

/// The longest time that runs may be given to end, in seconds.
const MAX_DEADLINE: f64 = 86_400.0;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload {
    args: Option<Vec<Value>>,
}

/// Loads one that is EXITED.
pub(crate) async fn start(
    State(app): State<App>,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    let module = app.0.modules.start(&name).await?;
    Ok(Json(view(&app, &module).await))
}

/// Ends one, which stays known.
pub(crate) async fn stop(
    State(app): State<App>,
    Segment(name): Segment,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let limit = deadline(query.as_deref())?;
    let ended = app.0.modules.stop(&name, limit).await?;
    Ok(Json(json!({ "killed": ended.killed })))
}

/// Puts the newer version of one into the place of the older.
pub(crate) async fn reload(
    State(app): State<App>,
    Segment(name): Segment,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let limit = deadline(query.as_deref())?;
    let bytes = read_all(request.into_body(), app.0.config.max_parameters).await?;
    let body = match bytes.is_empty() {
        true => Reload::default(),
        false => serde_json::from_slice(&bytes).map_err(|error| {
            ApiError::with(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("The body is not usable: {error}. Expected nothing, or {{\"args\": […]}}."),
            )
        })?,
    };
    let module = app.0.modules.reload(&name, body.args, limit).await?;
    Ok(Json(view(&app, &module).await))
}

/// Ends one, and forgets it.
pub(crate) async fn remove(
    State(app): State<App>,
    Segment(name): Segment,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let limit = deadline(query.as_deref())?;
    let ended = app.0.modules.remove(&name, limit).await?;
    Ok(Json(json!({ "killed": ended.killed })))
}

/// How long runs may take to end, if the query says it.
fn deadline(query: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, text)) = pairs.find(|(key, _)| key == "deadline") else {
        return Ok(None);
    };
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (0.0..=MAX_DEADLINE).contains(seconds));
    match seconds {
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        None => Err(ApiError::with(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!(
                "The deadline {text:?} is not usable; expected seconds from 0 to {MAX_DEADLINE}."
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_seconds() {
        assert_eq!(deadline(None).unwrap(), None);
        assert_eq!(deadline(Some("token=x")).unwrap(), None);
        let half = deadline(Some("token=x&deadline=0.5")).unwrap();
        assert_eq!(half, Some(Duration::from_millis(500)));
        for wrong in ["", "x", "-1", "86401", "nan", "inf"] {
            let refused = deadline(Some(&format!("deadline={wrong}"))).unwrap_err();
            assert!(refused.to_string().contains("expected seconds"), "{wrong}");
        }
    }
}
