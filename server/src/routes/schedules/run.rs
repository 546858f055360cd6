//! `POST /schedules/<id>/run`: fires a schedule now.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use runner_core::schedule::Schedule;
use runner_core::task::NewTask;
use runner_queue::Offer;
use runner_store::{Fire, Fired};

use super::{find, view};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::router::redirect;
use crate::routes::plugins::loaded;
use crate::routes::{Id, commit_then_announce};

/// It may be fired by a worker in between.
const ATTEMPTS: usize = 10;

/// As if it were due, also if it is disabled: 303 to the task, or 202 if it waits for another. When it is due next
/// stays as it is.
pub(crate) async fn run(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
) -> Result<Response, ApiError> {
    loaded(&app).await?;
    for _ in 0..ATTEMPTS {
        let schedule = find(&app, id).await?;
        let task = new_task(&app, &schedule, &base)?;
        let Fired::Done {
            tasks,
            said,
            pending,
            ..
        } = fire(&app, &schedule, task).await?
        else {
            continue;
        };
        if let Some(task) = tasks.last() {
            return Ok(redirect(
                StatusCode::SEE_OTHER,
                &base.path(&format!("/tasks/{task}/")),
            ));
        }
        if pending > 0 {
            let schedule = find(&app, id).await?;
            let shown = Json(view(&schedule, &base));
            return Ok((StatusCode::ACCEPTED, shown).into_response());
        }
        let said = said.unwrap_or_else(|| "a firing is left out".to_owned());
        return Err(ApiError::with(
            StatusCode::CONFLICT,
            format!("Not run: {said}."),
        ));
    }
    Err(ApiError::busy(
        "The schedule is changed by others; try again in a moment.",
    ))
}

fn new_task(app: &App, schedule: &Schedule, base: &BaseUrl) -> Result<NewTask, ApiError> {
    let conflict =
        |reason: String| ApiError::with(StatusCode::CONFLICT, format!("Not run: {reason}."));
    let what = &schedule.what;
    let table = app.0.modules.table();
    let found = table
        .plugin(&what.plugin)
        .or_else(|| table.newest(&what.plugin));
    let provided =
        found.ok_or_else(|| conflict(format!("there is no plugin {:?}", what.plugin)))?;
    let digest = provided.module.status().sha256;
    what.task(&provided.plugin, digest, &base.url(""))
        .map_err(conflict)
}

async fn fire(app: &App, schedule: &Schedule, task: NewTask) -> Result<Fired, ApiError> {
    let dispatch = task.dispatch.clone();
    let fire = Fire {
        id: schedule.id,
        version: schedule.version,
        firings: 1,
        due_at: schedule.due_at,
        next_at: schedule.next_at,
        task: Ok(task),
        note: None,
        by_hand: true,
    };
    let (shared, app) = (app.clone(), app.clone());
    let commit = async move { Ok(shared.0.store.fire_schedule(fire).await?) };
    let announce = move |fired: &Fired| {
        if let Fired::Done {
            tasks, cancelled, ..
        } = fired
        {
            let queue = &app.0.queue;
            queue.tasks_ended(cancelled, &app.0.events);
            queue.push_all(tasks.iter().map(|task| Offer::first(*task, &dispatch)));
            queue.schedules_changed();
        }
    };
    commit_then_announce(commit, announce).await
}
