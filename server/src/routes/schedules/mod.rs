//! Schedules: work that comes again.

pub(crate) mod change;
pub(crate) mod run;
mod wish;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use runner_core::age;
use runner_core::schedule::{Kind, Schedule, Timing};
use runner_core::task::Priority;
use serde_json::{Map, Value, json};

use super::Id;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;

/// So many of the times at which it is due next are shown.
const SHOWN: usize = 5;

/// `GET /schedules/`: all of them, by their names.
pub(crate) async fn list(State(app): State<App>, base: BaseUrl) -> Result<Json<Value>, ApiError> {
    let schedules = app.0.store.schedules().await?;
    let schedules: Vec<Value> = schedules.iter().map(|one| view(one, &base)).collect();
    Ok(Json(json!({ "schedules": schedules })))
}

/// `GET /schedules/<id>/`.
pub(crate) async fn show(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let schedule = find(&app, id).await?;
    Ok(Json(view(&schedule, &base)))
}

fn not_found() -> ApiError {
    ApiError::with(StatusCode::NOT_FOUND, "Schedule not found.")
}

async fn find(app: &App, id: Option<i64>) -> Result<Schedule, ApiError> {
    let id = id.ok_or_else(not_found)?;
    app.0.store.schedule(id).await?.ok_or_else(not_found)
}

/// What was said of a schedule, as it is said again.
fn wish_view(schedule: &Schedule) -> Map<String, Value> {
    let what = &schedule.what;
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| {
        shown.insert(key.to_owned(), value);
    };
    put("name", json!(what.name));
    put("plugin", json!(what.plugin));
    put("parameters", json!(what.parameters));
    let rule = match what.rule.kind {
        Kind::Cron => "cron",
        Kind::Interval => "every",
    };
    put(rule, json!(what.rule.expression));
    put("timeZone", json!(what.rule.time_zone));
    let jitter = std::time::Duration::from_millis(what.rule.jitter_ms.max(0).cast_unsigned());
    put("jitter", json!(age::show(jitter)));
    put("overlap", json!(what.overlap));
    put("missed", json!(what.missed));
    put("enabled", json!(what.enabled));
    // None asks for the highest, which calls have.
    put(
        "priority",
        json!(what.dispatch.priority.min(Priority::High)),
    );
    if let Some(retries) = what.dispatch.retries {
        put("retries", json!(retries));
    }
    if let Some(timeout) = what.dispatch.timeout_ms {
        #[expect(clippy::cast_precision_loss, reason = "at most 10^12")]
        put("timeout", json!(timeout as f64 / 1000.0));
    }
    put("labels", json!(what.labels));
    shown
}

/// The schedule as clients know it.
fn view(schedule: &Schedule, base: &BaseUrl) -> Value {
    let mut shown = json!({
        "id": schedule.id,
        "href": base.url(&format!("/schedules/{}/", schedule.id)),
    });
    let timing = Timing::new(&schedule.what.rule).ok();
    if let Some(object) = shown.as_object_mut() {
        object.extend(wish_view(schedule));
    }
    if let Some(owner) = &schedule.owner {
        shown["module"] = json!(owner);
    }
    if let Some(timing) = &timing {
        shown["description"] = json!(timing.words());
    }
    shown["pending"] = json!(schedule.pending);
    shown["next"] = json!(next(schedule, timing.as_ref()));
    if let Some(moment) = schedule.next_at.and_then(moment) {
        shown["firesAt"] = json!(moment);
    }
    if let Some(moment) = schedule.last_at.and_then(moment) {
        shown["lastAt"] = json!(moment);
    }
    if let Some(task) = schedule.last_task {
        shown["lastTask"] = json!(base.url(&format!("/tasks/{task}/")));
    }
    if let Some(error) = &schedule.last_error {
        shown["lastError"] = json!(error);
    }
    shown
}

/// When it is due next, as a clock in its time zone shows it.
fn next(schedule: &Schedule, timing: Option<&Timing>) -> Vec<String> {
    let Some(timing) = timing else {
        return Vec::new();
    };
    let due = std::iter::successors(schedule.due_at, |due| timing.next_after(*due));
    due.take(SHOWN)
        .filter_map(|due| timing.shown(due))
        .collect()
}

/// Milliseconds since 1970 as RFC 3339 has them.
fn moment(milliseconds: i64) -> Option<String> {
    let moment = Timestamp::from_millisecond(milliseconds).ok()?;
    Some(moment.to_string())
}
