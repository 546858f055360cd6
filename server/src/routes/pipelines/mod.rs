//! `POST /pipelines/`: runs a pipeline that comes with the request, and streams what leaves it.

mod stream;
mod wish;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::ACCEPT;
use axum::response::Response;
use runner_core::pipeline::GIVEN;
use runner_core::task::{NewTask, Priority};
use runner_queue::Offer;
use runner_store::Inserted;

use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::router::redirect;
use crate::routes::commit_then_announce;
use crate::routes::plugins::process::{
    idempotency, idempotency_key, require_room, subject, submitter,
};

use stream::{Form, Leaving};
use wish::Wish;

/// The header with which a client says that it does not wait, as RFC 7240 has it.
const PREFER: &str = "prefer";
/// What it says then.
const ASYNC: &str = "respond-async";

pub(crate) async fn run(
    State(app): State<App>,
    base: BaseUrl,
    request: Request,
) -> Result<Response, ApiError> {
    require_room(&app)?;
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_async = text(PREFER).is_some_and(|prefer| {
        let mut wishes = prefer.split(',');
        wishes.any(|wish| wish.trim().eq_ignore_ascii_case(ASYNC))
    });
    let form = Form::accepted(text(ACCEPT.as_str()).unwrap_or_default());
    let key = idempotency_key(headers)?;
    let subject = subject(&request);
    let submitter = submitter(&request, subject.as_deref());
    let wish = Wish::read(&app, request, Priority::Normal, submitter).await?;
    // Who may send the request again may come back to what it began.
    let is_kept = key.is_some();
    let idempotency = key.map(|key| idempotency(&key, subject.as_deref(), GIVEN, &wish.parameters));
    let task = NewTask {
        plugin: GIVEN.to_owned(),
        digest: String::new(),
        parameters: wish.parameters,
        uploads: Vec::new(),
        labels: wish.labels,
        base_url: base.url(""),
        caller: None,
        dispatch: wish.dispatch,
        idempotency,
    };
    let (shared, dispatch) = (app.clone(), task.dispatch.clone());
    let (own_base, outputs) = (base.clone(), wish.outputs);
    let commit = async move {
        let inserted = shared.0.store.insert_task(task).await?;
        if matches!(inserted, Inserted::Other(_)) {
            return Err(ApiError::with(
                StatusCode::CONFLICT,
                "The Idempotency-Key was used for another request.",
            ));
        }
        if is_async {
            return Ok((inserted, None));
        }
        let task = inserted.id();
        // Following begins before anybody hears of the task. A client that is gone by now leaves here.
        let follow = shared.0.queue.follow(task).await;
        let leaving = Leaving::new(shared, own_base, task, follow, outputs, is_kept);
        Ok((inserted, Some(leaving)))
    };
    let announce = move |(inserted, _): &(Inserted, _)| {
        if let Inserted::New(task) = inserted {
            app.0.queue.push(Offer::first(*task, &dispatch));
        }
    };
    let (inserted, leaving) = commit_then_announce(commit, announce).await?;
    if let Some(leaving) = leaving {
        return Ok(leaving.respond(form));
    }
    let path = base.path(&format!("/tasks/{}/", inserted.id()));
    Ok(redirect(StatusCode::SEE_OTHER, &path))
}
