//! `POST /tasks/<id>/`: who is told of a task's changes.

use axum::Json;
use axum::extract::{Request, State};
use runner_core::parameters::field::parse_url;
use runner_core::parameters::{FieldErrors, MISSING, UNKNOWN};
use runner_core::task::TaskEvent;
use runner_store::MAX_SUBSCRIPTIONS;
use serde_json::{Map, Value};
use url::Url;

use super::{find, view};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::{parse_object, read_all};
use crate::error::{ApiError, Location};
use crate::routes::Id;

/// A subscription is small.
const MAX_BODY: u64 = 64 * 1024;
/// The longest webhook, in bytes.
const MAX_WEBHOOK: usize = 2_000;

pub(crate) async fn subscribe(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let body = read_all(request.into_body(), MAX_BODY).await?;
    let wish = Wish::read(&parse_object(&body)?)
        .map_err(|errors| ApiError::fields(Location::Json, errors))?;
    let task = find(&app, id).await?;
    let store = &app.0.store;
    if !wish.is_subscription {
        store
            .unsubscribe(task.id, &wish.webhook, wish.event)
            .await?;
    } else if !store.subscribe(task.id, &wish.webhook, wish.event).await? {
        let problem = format!(
            "The limit of {MAX_SUBSCRIPTIONS} subscriptions of a task is reached; unsubscribe others."
        );
        let errors = FieldErrors::from([("webhookHref".to_owned(), vec![problem])]);
        return Err(ApiError::fields(Location::Json, errors));
    }
    Ok(Json(view(&task, &base)))
}

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    is_subscription: bool,
    webhook: String,
    event: Option<TaskEvent>,
}

impl Wish {
    fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::new();
        let mut wrong = |key: &str, message: &str| {
            errors.insert(key.to_owned(), vec![message.to_owned()]);
        };
        let mut wish = Self {
            is_subscription: true,
            webhook: String::new(),
            event: None,
        };
        match body.get("command") {
            None => wrong("command", MISSING),
            Some(Value::String(word)) if word == "subscribe" => {}
            Some(Value::String(word)) if word == "unsubscribe" => wish.is_subscription = false,
            Some(Value::String(_)) => wrong("command", "Must be one of: subscribe, unsubscribe."),
            Some(_) => wrong("command", "Not a valid string."),
        }
        match body.get("webhookHref") {
            None => wrong("webhookHref", MISSING),
            Some(Value::String(url)) if is_webhook(url) => wish.webhook.clone_from(url),
            Some(_) => wrong("webhookHref", "Not a valid URL."),
        }
        match body.get("event") {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) => match TaskEvent::parse(word) {
                Some(event) => wish.event = Some(event),
                None => wrong("event", "Must be one of: status, steps, details."),
            },
            Some(_) => wrong("event", "Not a valid string."),
        }
        for key in body.keys() {
            if !["command", "webhookHref", "event"].contains(&key.as_str()) {
                wrong(key, UNKNOWN);
            }
        }
        if errors.is_empty() {
            Ok(wish)
        } else {
            Err(errors)
        }
    }
}

/// Also hosts without a dot, as in networks of containers.
fn is_webhook(url: &str) -> bool {
    let is_web = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    url.len() <= MAX_WEBHOOK && parse_url(url).is_some_and(is_web)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Wish, Value> {
        Wish::read(body.as_object().unwrap()).map_err(|errors| json!(errors))
    }

    #[test]
    fn the_messages_are_those_of_the_reference() {
        assert_eq!(
            read(json!({})).unwrap_err(),
            json!({"command": ["Missing data for required field."], "webhookHref": ["Missing data for required field."]})
        );
        assert_eq!(
            read(json!({"command": "foo", "webhookHref": "foo", "event": 5, "x": 1})).unwrap_err(),
            json!({"command": ["Must be one of: subscribe, unsubscribe."], "webhookHref": ["Not a valid URL."],
                   "event": ["Not a valid string."], "x": ["Unknown field."]})
        );
        for href in [
            "http://h/\r\nX: y",
            "http://h\t/",
            " http://h/",
            "http://h/\u{0}",
        ] {
            assert_eq!(
                read(json!({"command": "subscribe", "webhookHref": href})).unwrap_err(),
                json!({"webhookHref": ["Not a valid URL."]})
            );
        }
        let wish = read(
            json!({"command": "unsubscribe", "webhookHref": "http://backend:9090/x", "event": null}),
        );
        assert_eq!(
            wish.unwrap(),
            Wish {
                is_subscription: false,
                webhook: "http://backend:9090/x".to_owned(),
                event: None
            }
        );
    }
}
