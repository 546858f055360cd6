//! `GET /tasks/`: tasks from the newest to the oldest, by pages.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{RawQuery, State};
use runner_core::parameters::{FieldErrors, Form, FormValue};
use runner_core::task::TaskState;
use runner_store::{TaskFilter, TaskSummary};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::progress_view;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::parse_query;
use crate::error::{ApiError, Location};

/// Tasks on a page, unless the client wants another number.
const LIMIT: u32 = 50;
/// The most tasks on a page.
const MAX_LIMIT: u32 = 500;

pub(crate) async fn list(
    State(app): State<App>,
    base: BaseUrl,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let query = parse_query(query.unwrap_or_default().as_bytes())?;
    let (filter, limit) =
        read(&query).map_err(|errors| ApiError::fields(Location::Query, errors))?;
    let tasks = app.0.store.tasks(&filter, limit).await?;
    let mut page =
        json!({ "tasks": tasks.iter().map(|task| view(task, &base)).collect::<Vec<_>>() });
    if let Some(last) = tasks.last().filter(|_| tasks.len() == limit as usize) {
        page["next"] = json!(base.url(&format!("/tasks/?{}", next(&query, last.id))));
    }
    Ok(Json(page))
}

/// The query of the next page: the same, from there on.
fn next(query: &Form, last: i64) -> String {
    let mut next = form_urlencoded::Serializer::new(String::new());
    for key in ["state", "status", "plugin", "label", "limit"] {
        for text in texts(query, key) {
            next.append_pair(key, text);
        }
    }
    next.append_pair("cursor", &last.to_string());
    next.finish()
}

fn texts<'a>(query: &'a Form, key: &'a str) -> impl Iterator<Item = &'a str> {
    query.all(key).filter_map(|value| match value {
        FormValue::Text(text) => Some(text.as_str()),
        FormValue::Upload(_) => None,
    })
}

fn read(query: &Form) -> Result<(TaskFilter, u32), FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut wrong = |key: &str, message: &str| {
        errors.insert(key.to_owned(), vec![message.to_owned()]);
    };
    let mut states: Vec<TaskState> = TaskState::ALL.to_vec();
    if query.text("state").is_some() {
        let wanted: Vec<_> = texts(query, "state").map(TaskState::parse).collect();
        if wanted.contains(&None) {
            wrong(
                "state",
                "Must be one of: queued, running, waiting, succeeded, failed, cancelled.",
            );
        }
        states.retain(|state| wanted.contains(&Some(*state)));
    }
    if let Some(status) = query.text("status") {
        if !["PENDING", "SUCCESS", "FAILURE"].contains(&status) {
            wrong("status", "Must be one of: PENDING, SUCCESS, FAILURE.");
        }
        states.retain(|state| state.status() == status);
    }
    let limit = match query.text("limit").map(str::parse) {
        None => LIMIT,
        Some(Ok(limit @ 1..=MAX_LIMIT)) => limit,
        Some(_) => {
            wrong("limit", "Must be between 1 and 500.");
            LIMIT
        }
    };
    let before = match query.text("cursor").map(str::parse::<i64>) {
        None => None,
        Some(Ok(before)) => Some(before),
        Some(Err(_)) => {
            wrong("cursor", "Not a valid cursor.");
            None
        }
    };
    let filter = TaskFilter {
        states,
        plugin: query.text("plugin").map(str::to_owned),
        labels: texts(query, "label").map(str::to_owned).collect(),
        before,
    };
    if errors.is_empty() {
        Ok((filter, limit))
    } else {
        Err(errors)
    }
}

fn view(task: &TaskSummary, base: &BaseUrl) -> Value {
    let mut shown = json!({
        "id": task.id,
        "href": base.url(&format!("/tasks/{}/", task.id)),
        "plugin": task.plugin,
        "state": task.state,
        "status": task.state.status(),
        "labels": task.labels,
        "createdAt": time(task.created_at),
    });
    if let Some(finished_at) = task.finished_at {
        shown["finishedAt"] = json!(time(finished_at));
    }
    if let Some(progress) = &task.progress {
        shown["progress"] = progress_view(progress);
    }
    shown
}

/// RFC 3339, in UTC, with milliseconds.
fn time(milliseconds: i64) -> String {
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default());
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Form {
        pairs.iter().copied().collect()
    }

    #[test]
    fn filters_are_read_and_wrong_ones_named() {
        let (filter, limit) = read(&query(&[])).unwrap();
        assert_eq!((filter.states.len(), limit), (6, 50));
        let (filter, _) = read(&query(&[
            ("status", "FAILURE"),
            ("state", "failed"),
            ("label", "a"),
            ("label", "b"),
        ]))
        .unwrap();
        assert_eq!(filter.states, [TaskState::Failed]);
        assert_eq!(filter.labels, ["a", "b"]);
        let errors = read(&query(&[
            ("state", "x"),
            ("status", "x"),
            ("limit", "0"),
            ("cursor", "x"),
        ]))
        .unwrap_err();
        assert_eq!(errors.len(), 4);
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let query = query(&[
            ("label", "a b"),
            ("state", "failed"),
            ("cursor", "9"),
            ("x", "y"),
        ]);
        assert_eq!(next(&query, 5), "state=failed&label=a+b&cursor=5");
        assert_eq!(time(1_795_345_404_434), "2026-11-22T11:03:24.434Z");
    }
}
