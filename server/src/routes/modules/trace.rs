//! `GET /modules/<name>/trace`: the messages of a module's processes, as server-sent events.

use std::convert::Infallible;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event;
use futures::stream;
use runner_host::tap::Seen;
use serde_json::json;
use url::form_urlencoded;

use super::find;
use crate::app::App;
use crate::error::ApiError;
use crate::routes::Segment;
use crate::sse;

/// Who does not read misses messages, and is told how many.
pub(crate) async fn stream(
    State(app): State<App>,
    Segment(name): Segment,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut pairs = form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    let pattern = pairs.find(|(key, _)| key == "messages");
    let pattern = pattern.map_or_else(|| "*".to_owned(), |(_, pattern)| pattern.into_owned());
    let trace = find(&app, &name)?.trace(&pattern);
    let trace = trace.map_err(|error| {
        ApiError::with(
            StatusCode::UNPROCESSABLE_ENTITY,
            super::sentence(&error.to_string()),
        )
    })?;
    let events = stream::unfold(Some(trace), async |trace| {
        let mut trace = trace?;
        let (name, data, next) = match trace.next().await {
            Some(Seen::Message(message)) => ("message", json!(*message), Some(trace)),
            Some(Seen::Dropped(count)) => ("dropped", json!({ "count": count }), Some(trace)),
            None => ("end", json!({}), None),
        };
        let event = Event::default().event(name).data(data.to_string());
        Some((Ok::<_, Infallible>(event), next))
    });
    Ok(sse::respond(events))
}
