//! `GET` and `POST /modules/<name>/debug`: holds up messages of a module's processes, as if it were stuck.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use runner_host::tap::{Direction, Fault};
use serde_json::{Value, json};

use super::{find, sentence};
use crate::app::App;
use crate::body::{parse_object, read_all};
use crate::error::ApiError;
use crate::routes::Segment;

/// What is held up.
pub(crate) async fn show(
    State(app): State<App>,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "faults": find(&app, &name)?.faults() })))
}

/// Holds up the messages of a pattern that go one way, or, with the action `none`, no more.
pub(crate) async fn set(
    State(app): State<App>,
    Segment(name): Segment,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let module = find(&app, &name)?;
    let bytes = read_all(request.into_body(), app.0.config.max_parameters).await?;
    let mut body = parse_object(&bytes)?;
    let unusable = |why: &str| ApiError::with(StatusCode::UNPROCESSABLE_ENTITY, sentence(why));
    let Some(Value::String(messages)) = body.remove("messages") else {
        return Err(unusable(
            "which messages is not said; expected {\"messages\": \"run.answer\", \"action\": \"drop\"}",
        ));
    };
    let direction = match body.remove("direction") {
        None => Direction::default(),
        Some(direction) => serde_json::from_value(direction).map_err(|_| {
            unusable("the direction is not usable; expected \"fromHost\" or \"toHost\"")
        })?,
    };
    let is_none = body.get("action").is_some_and(|action| action == "none");
    let fault = match is_none {
        true => None,
        false => {
            let fault: Result<Fault, _> = serde_json::from_value(Value::Object(body));
            Some(fault.map_err(|error| {
                unusable(&format!(
                    "the fault is not usable: {error}; expected the action delay (with seconds), defer, drop or none"
                ))
            })?)
        }
    };
    module
        .set_fault(&messages, direction, fault)
        .map_err(|error| unusable(&error.to_string()))?;
    Ok(Json(json!({ "faults": module.faults() })))
}
