//! `/api/sessions`: Jupyter's names for kernels.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use runner_session::{Notebook, NotebookWish};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::kernels::{KernelWish, MAX_BODY};
use super::{Segment, Who, sessions};
use crate::app::App;
use crate::body::read_all;
use crate::error::ApiError;

/// What is asked for.
#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(flatten)]
    names: NotebookWish,
    kernel: Option<AskedKernel>,
}

/// An existing kernel, or a new one.
#[derive(Debug, Default, Deserialize)]
struct AskedKernel {
    id: Option<String>,
    #[serde(flatten)]
    wish: KernelWish,
}

impl Asked {
    async fn read(request: Request) -> Result<Self, ApiError> {
        let body = read_all(request.into_body(), MAX_BODY).await?;
        serde_json::from_slice(&body).map_err(|error| ApiError::invalid_json(&error.to_string()))
    }
}

/// The kernel that is asked for; a new one where none is named.
async fn kernel(app: &App, who: &Who, asked: AskedKernel) -> Result<Uuid, ApiError> {
    let sessions = sessions(app)?;
    if let Some(id) = asked.id.filter(|id| !id.is_empty()) {
        return Ok(who.session(sessions, &id)?.id());
    }
    Ok(sessions.create(asked.wish.into_wish(who)).await?.id())
}

fn view(app: &App, one: &Notebook) -> Result<Value, ApiError> {
    let session = sessions(app)?.get(one.kernel);
    let session = session.ok_or_else(|| unknown(&one.id.to_string()))?;
    Ok(json!({
        "id": one.id.to_string(),
        "path": one.path,
        "name": one.name,
        "type": one.kind,
        "kernel": session.model(),
        "notebook": {"path": one.path, "name": one.name},
    }))
}

/// One that is to be seen.
fn find(app: &App, who: &Who, id: &str) -> Result<Notebook, ApiError> {
    let known = Uuid::try_parse(id).ok();
    let found = known.and_then(|id| app.0.notebooks.get(id));
    let found = found.ok_or_else(|| unknown(id))?;
    let kernel = sessions(app)?.get(found.kernel);
    match kernel.is_some_and(|kernel| who.may_see(&kernel)) {
        true => Ok(found),
        false => Err(unknown(id)),
    }
}

fn unknown(id: &str) -> ApiError {
    let shown: String = id.chars().take(60).collect();
    ApiError::jupyter_not_found(format!("Session not found: session_id='{shown}'"))
}

/// `GET /api/sessions`.
pub(crate) async fn list(State(app): State<App>, who: Who) -> Result<Json<Vec<Value>>, ApiError> {
    let sessions = sessions(&app)?;
    let all = app
        .0
        .notebooks
        .list(|kernel| sessions.get(kernel).is_some());
    let seen = all.iter().filter(|one| {
        let kernel = sessions.get(one.kernel);
        kernel.is_some_and(|kernel| who.may_see(&kernel))
    });
    // One whose kernel ends now is seen no more.
    Ok(Json(seen.filter_map(|one| view(&app, one).ok()).collect()))
}

/// `POST /api/sessions`.
pub(crate) async fn make(
    State(app): State<App>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::read(request).await?;
    let (Some(path), Some(kind)) = (&asked.names.path, &asked.names.kind) else {
        return Err(ApiError::bad_request(
            "`path` and `type` are missing: what is named, and what it is, such as notebook",
        ));
    };
    // Who opens a notebook again gets the kernel that it has.
    if let Some(known) = app.0.notebooks.find(kind, path)
        && let Some(session) = sessions(&app)?.get(known.kernel)
        && who.may_see(&session)
    {
        return Ok((StatusCode::CREATED, Json(view(&app, &known)?)).into_response());
    }
    let kernel = kernel(&app, &who, asked.kernel.unwrap_or_default()).await?;
    let made = app.0.notebooks.add(kernel, asked.names);
    Ok((StatusCode::CREATED, Json(view(&app, &made)?)).into_response())
}

/// `GET /api/sessions/<id>`.
pub(crate) async fn show(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
) -> Result<Json<Value>, ApiError> {
    let found = find(&app, &who, &id)?;
    Ok(Json(view(&app, &found)?))
}

/// `PATCH /api/sessions/<id>`: another name, or another kernel.
pub(crate) async fn change(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let found = find(&app, &who, &id)?;
    let asked = Asked::read(request).await?;
    let kernel = match asked.kernel {
        Some(asked) => Some(kernel(&app, &who, asked).await?),
        None => None,
    };
    let changed = app.0.notebooks.change(found.id, asked.names, kernel);
    if kernel.is_some_and(|kernel| kernel != found.kernel) {
        // It may have ended by itself.
        let _ = sessions(&app)?.remove(found.kernel).await;
    }
    Ok(Json(view(&app, &changed.ok_or_else(|| unknown(&id))?)?))
}

/// `DELETE /api/sessions/<id>`: ends its kernel as well.
pub(crate) async fn remove(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    let found = find(&app, &who, &id)?;
    app.0.notebooks.remove(found.id);
    sessions(&app)?.remove(found.kernel).await?;
    Ok(StatusCode::NO_CONTENT)
}
