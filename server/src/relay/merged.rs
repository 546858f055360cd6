//! The answers of all workers as one: lists are joined, and so are objects, key by key.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use serde_json::Value;

use super::forward::Going;
use super::{Relay, Worker, lost};
use crate::body::read_all;
use crate::error::ApiError;

/// Bytes of the answer of one worker.
const MAX_ANSWER: u64 = 16 << 20;

impl Relay {
    /// Asks them all at once. None may be missing: a list without what a worker has would say that it is gone.
    pub(super) async fn merged(
        &self,
        going: &mut Going,
        workers: &[Worker],
    ) -> Result<Response, ApiError> {
        let asked = workers.iter().map(|worker| Ok((worker, going.again()?)));
        let asked = asked.collect::<Result<Vec<_>, ApiError>>()?;
        let answers = asked.into_iter().map(|(worker, mut going)| async move {
            let asker = going.asker().clone();
            let answer = self.send(&worker.process, &mut going, &asker).await;
            let answer = answer.map_err(|failure| failure.into_error(&worker.process))?;
            let status = answer.status();
            if status != StatusCode::OK {
                return Ok(Err(answer));
            }
            let body = read_all(answer.into_body(), MAX_ANSWER).await?;
            let value = serde_json::from_slice::<Value>(&body);
            let value = value.map_err(|error| lost(&worker.process, &error.to_string()))?;
            Ok::<_, ApiError>(Ok(value))
        });
        let mut all: Option<Value> = None;
        for answer in join_all(answers).await {
            match answer? {
                Ok(value) => {
                    all = Some(match all {
                        Some(before) => join(before, value),
                        None => value,
                    });
                }
                Err(refused) => return Ok(refused),
            }
        }
        let mut all = all.ok_or_else(ApiError::internal)?;
        sort(&mut all);
        Ok(Json(all).into_response())
    }
}

/// Both as one. Where they are of different kinds, or single values, the first stands.
fn join(mut first: Value, second: Value) -> Value {
    match (&mut first, second) {
        (Value::Array(first), Value::Array(second)) => first.extend(second),
        (Value::Object(first), Value::Object(second)) => {
            for (key, value) in second {
                match first.get_mut(&key) {
                    Some(known) => *known = join(std::mem::take(known), value),
                    None => {
                        first.insert(key, value);
                    }
                }
            }
        }
        _ => {}
    }
    first
}

/// Those that have an age stand in its order, the oldest first, as each worker has them.
fn sort(all: &mut Value) {
    let age = |value: &Value| value.get("age").and_then(Value::as_u64);
    if let Value::Array(all) = all {
        all.sort_by_key(|one| std::cmp::Reverse(age(one)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_joined_and_so_are_objects() {
        let mut joined = join(
            json!([{"age": 1, "id": "a"}]),
            json!([{"age": 5, "id": "b"}]),
        );
        sort(&mut joined);
        assert_eq!(joined[0]["id"], "b");
        let specs = join(
            json!({"default": "python3", "kernelspecs": {"python3": {"name": "python3"}}}),
            json!({"default": "ir", "kernelspecs": {"ir": {"name": "ir"}, "python3": {"name": "x"}}}),
        );
        assert_eq!(
            specs,
            json!({"default": "python3", "kernelspecs": {"python3": {"name": "python3"}, "ir": {"name": "ir"}}})
        );
        assert_eq!(join(json!([1]), json!({"a": 1})), json!([1]));
    }
}
