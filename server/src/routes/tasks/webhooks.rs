//! `GET /tasks/<id>/webhooks`: what subscribers of a task are still to be told, or could not be told.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::find;
use crate::app::App;
use crate::error::ApiError;
use crate::routes::Id;

/// Deliveries in the order of what happened. Those that arrived are gone.
pub(crate) async fn list(State(app): State<App>, Id(id): Id) -> Result<Json<Value>, ApiError> {
    let task = find(&app, id).await?;
    let deliveries = app.0.store.deliveries_of(task.id).await?;
    let shown: Vec<Value> = deliveries
        .iter()
        .map(|delivery| {
            json!({
                "webhook": delivery.webhook,
                "event": delivery.event.as_str(),
                "attempts": delivery.attempts,
                "lastError": delivery.last_error,
                "givenUp": delivery.gave_up_at.is_some(),
                "dueAt": delivery.due_at.and_then(super::moment),
            })
        })
        .collect();
    Ok(Json(json!({ "deliveries": shown })))
}
