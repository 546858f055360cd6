//! `POST /schedules/`, `PATCH /schedules/<id>/` and `DELETE /schedules/<id>/`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use runner_core::parameters::FieldErrors;
use runner_core::schedule::{MAX_SCHEDULES, NewSchedule, Rule, Schedule, Timing};
use runner_store::Changed;
use serde_json::{Map, Value};

use super::{find, not_found, view, wish, wish_view};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::{parse_object, read_all};
use crate::error::{ApiError, Location};
use crate::routes::plugins::loaded;
use crate::routes::{Id, commit_then_announce};

/// Others may change a schedule between reading and writing it; it is fired in between, too.
const ATTEMPTS: usize = 10;

/// Makes a schedule.
pub(crate) async fn make(
    State(app): State<App>,
    base: BaseUrl,
    request: Request,
) -> Result<Response, ApiError> {
    let body = body(&app, request.into_body()).await?;
    let now = app.0.store.database_now().await?;
    let what = read(&app, &body, now, base.url(""))?;
    let (due_at, next_at) = due(&what, now, now);
    let shared = app.clone();
    let commit = async move {
        let changed = shared.0.store.make_schedule(what, due_at, next_at).await?;
        done(changed)?.ok_or_else(not_found)
    };
    let id = announced(&app, commit).await?;
    let schedule = find(&app, Some(id)).await?;
    let location = base.path(&format!("/schedules/{id}/"));
    let shown = Json(view(&schedule, &base));
    Ok((StatusCode::CREATED, [(LOCATION, location)], shown).into_response())
}

/// Changes what is named, and leaves the rest as it is.
pub(crate) async fn change(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let body = body(&app, request.into_body()).await?;
    for _ in 0..ATTEMPTS {
        let schedule = find(&app, id).await?;
        refuse_foreign(&schedule, &body)?;
        let now = app.0.store.database_now().await?;
        let what = changed(&app, &schedule, &body, now)?;
        let is_as_before = what.rule == schedule.what.rule && schedule.what.enabled;
        let (due_at, next_at) = match is_as_before {
            true => (schedule.due_at, schedule.next_at),
            false => due(&what, now, schedule.id),
        };
        let (shared, old) = (app.clone(), schedule.clone());
        let commit = async move {
            let store = &shared.0.store;
            done(store.change_schedule(&old, what, due_at, next_at).await?)
        };
        if announced(&app, commit).await?.is_some() {
            let schedule = find(&app, id).await?;
            return Ok(Json(view(&schedule, &base)));
        }
    }
    Err(ApiError::busy(
        "The schedule is changed by others; try again in a moment.",
    ))
}

/// Removes a schedule. Its tasks stay.
pub(crate) async fn remove(State(app): State<App>, Id(id): Id) -> Result<StatusCode, ApiError> {
    let schedule = find(&app, id).await?;
    if let Some(owner) = &schedule.owner {
        return Err(ApiError::with(
            StatusCode::CONFLICT,
            format!(
                "The module {owner} declares this schedule and would make it again; disable it."
            ),
        ));
    }
    let shared = app.clone();
    let commit = async move {
        match shared.0.store.remove_schedule(schedule.id).await? {
            true => Ok(()),
            false => Err(not_found()),
        }
    };
    announced(&app, commit).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn body(app: &App, body: Body) -> Result<Map<String, Value>, ApiError> {
    let object = parse_object(&read_all(body, app.0.config.max_parameters).await?)?;
    loaded(app).await?;
    Ok(object)
}

fn read(
    app: &App,
    body: &Map<String, Value>,
    now: i64,
    base_url: String,
) -> Result<NewSchedule, ApiError> {
    wish::read(body, &app.0.modules.table(), now, base_url)
        .map_err(|errors| ApiError::fields(Location::Json, errors))
}

/// The schedule as it is to be.
fn changed(
    app: &App,
    schedule: &Schedule,
    body: &Map<String, Value>,
    now: i64,
) -> Result<NewSchedule, ApiError> {
    let is_only_switch = body.keys().all(|key| key == "enabled");
    if is_only_switch && let Some(Value::Bool(enabled)) = body.get("enabled") {
        // Also one whose plugin is not there any more.
        return Ok(NewSchedule {
            enabled: *enabled,
            ..schedule.what.clone()
        });
    }
    let mut whole = wish_view(schedule);
    for (one, other) in [("cron", "every"), ("every", "cron")] {
        if body.get(one).is_some_and(|value| !value.is_null()) && !body.contains_key(other) {
            whole.shift_remove(other);
        }
    }
    whole.extend(body.clone());
    let old = &schedule.what;
    let mut what = read(app, &whole, now, old.base_url.clone())?;
    let as_before = Rule {
        anchor: old.rule.anchor,
        ..what.rule.clone()
    };
    if as_before == old.rule {
        what.rule = as_before;
    }
    Ok(what)
}

/// What a module declares is changed by the module.
fn refuse_foreign(schedule: &Schedule, body: &Map<String, Value>) -> Result<(), ApiError> {
    match &schedule.owner {
        Some(owner) if body.keys().any(|key| key != "enabled") => Err(ApiError::with(
            StatusCode::CONFLICT,
            format!(
                "The module {owner} declares this schedule; only `enabled` can be changed here."
            ),
        )),
        _ => Ok(()),
    }
}

/// When a schedule that is new or was changed is due first.
fn due(what: &NewSchedule, now: i64, seed: i64) -> (Option<i64>, Option<i64>) {
    let Ok(timing) = Timing::new(&what.rule) else {
        return (None, None);
    };
    let due = timing.next_after(now);
    (due, due.map(|due| timing.fire_at(due, seed)))
}

/// The number of the schedule; None: others were faster.
fn done(changed: Changed) -> Result<Option<i64>, ApiError> {
    match changed {
        Changed::Done(id) => Ok(Some(id)),
        Changed::Overtaken => Ok(None),
        Changed::NameTaken => {
            let problem = "Another schedule has this name.".to_owned();
            let errors = FieldErrors::from([("name".to_owned(), vec![problem])]);
            Err(ApiError::fields(Location::Json, errors))
        }
        Changed::TooMany => Err(ApiError::with(
            StatusCode::CONFLICT,
            format!("There are {MAX_SCHEDULES} schedules, which is the limit; remove others."),
        )),
    }
}

/// Workers are told of what was committed.
async fn announced<T: Send + 'static>(
    app: &App,
    commit: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let app = app.clone();
    commit_then_announce(commit, move |_| app.0.queue.schedules_changed()).await
}
