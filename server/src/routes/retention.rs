//! `GET /retention/` and `POST /retention/run`: how much is kept, for how long, and what is removed.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use runner_core::age;
use runner_core::retention::show_age;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::routes::commit_then_announce;

/// After it was done by hand it is due again as always.
const PAUSE: Duration = Duration::from_secs(3_600);

/// What is kept for how long, how much there is, what would be removed now, and what was removed last.
pub(crate) async fn show(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let store = &app.0.store;
    let retention = &app.0.config.retention;
    let usage = store.usage().await?;
    let due = store.due_removals(retention).await?;
    let known = store.housekeeping().await?;
    let counted = |(count, bytes): (u64, u64)| json!({"count": count, "bytes": bytes});
    let mut shown = json!({
        "keep": {
            "tasks": retention.tasks.show(),
            "files": retention.files.show(),
            "temporary": age::show(retention.temporary),
            "permalinks": show_age(retention.permalinks),
        },
        "usage": {
            "tasks": usage.tasks,
            "outputs": counted(usage.outputs),
            "uploads": counted(usage.uploads),
            "temporary": counted(usage.temporary),
            "content": counted(usage.content),
            "free": usage.free,
        },
        "due": due,
    });
    if let Some(bytes) = usage.database {
        shown["usage"]["database"] = json!(bytes);
    }
    let moment = |milliseconds: i64| Timestamp::from_millisecond(milliseconds).ok();
    if let Some(moment) = known.finished_at.and_then(moment) {
        shown["lastAt"] = json!(moment.to_string());
    }
    if let Some(moment) = known.next_at.and_then(moment) {
        shown["nextAt"] = json!(moment.to_string());
    }
    if let Some(removed) = known.removed {
        shown["last"] = json!(removed);
    }
    Ok(Json(shown))
}

/// Removes what is due now. It goes on if the client hangs up.
pub(crate) async fn run(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let commit = async move {
        let (store, retention) = (&app.0.store, &app.0.config.retention);
        let pause = PAUSE.min(retention.shortest());
        store
            .keep_house(retention, pause, true)
            .await?
            .ok_or_else(|| {
                ApiError::with(
                    StatusCode::CONFLICT,
                    "Another process is at it; see /retention/ for what it removed.",
                )
            })
    };
    let removed = commit_then_announce(commit, |_| ()).await?;
    Ok(Json(json!(removed)))
}
