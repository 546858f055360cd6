//! `POST /plugins/<identifier>/process/`: makes a task.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use runner_core::parameters::{Parameters, UPLOAD};
use runner_core::task::{Idempotency, NewTask};
use runner_queue::Offer;
use runner_store::Inserted;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::find;
use crate::app::App;
use crate::auth::Caller;
use crate::base_url::BaseUrl;
use crate::body::Sent;
use crate::error::ApiError;
use crate::incoming::client::ClientAddress;
use crate::router::redirect;
use crate::routes::{Segment, commit_then_announce};

/// The header with the key that a client chose.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Bytes of such a key.
const MAX_KEY: usize = 200;

pub(crate) async fn start(
    State(app): State<App>,
    base: BaseUrl,
    Segment(identifier): Segment,
    request: Request,
) -> Result<Response, ApiError> {
    let provided = find(&app, &identifier).await?;
    require_room(&app)?;
    let key = idempotency_key(request.headers())?;
    let subject = subject(&request);
    let submitter = submitter(&request, subject.as_deref());
    let mut sent = Sent::read(&app, request).await?;
    let labels = sent.take_labels()?;
    let priority = provided.module.run_rules().priority;
    let dispatch = sent.take_dispatch(priority, submitter)?;
    let form = &provided.plugin.form.parameters;
    let parameters = checked(&app, &sent, form)?;
    let uploads = form.uploads(&parameters);
    let files = sent.into_uploads(&uploads);
    let idempotency = key.map(|key| {
        idempotency(
            &key,
            subject.as_deref(),
            &provided.plugin.identifier,
            &parameters,
        )
    });
    let task = NewTask {
        plugin: provided.plugin.identifier.clone(),
        digest: provided.module.status().sha256,
        parameters,
        uploads,
        labels,
        base_url: base.url(""),
        caller: None,
        dispatch,
        idempotency,
    };
    let shared = app.clone();
    let dispatch = task.dispatch.clone();
    let commit = async move {
        match shared.0.store.insert_task(task).await? {
            Inserted::Other(_) => Err(ApiError::with(
                StatusCode::CONFLICT,
                "The Idempotency-Key was used for another request.",
            )),
            inserted => Ok(inserted),
        }
    };
    let commit = files.named_by(commit);
    let announce = move |inserted: &Inserted| {
        if let Inserted::New(task) = inserted {
            app.0.queue.push(Offer::first(*task, &dispatch));
        }
    };
    let task = commit_then_announce(commit, announce).await?.id();
    Ok(redirect(
        StatusCode::SEE_OTHER,
        &base.path(&format!("/tasks/{task}/")),
    ))
}

/// Who showed a token, by its subject.
pub(crate) fn subject(request: &Request) -> Option<Arc<str>> {
    request.extensions().get::<Caller>()?.subject.clone()
}

/// Who asks, so that one who asks for much does not hold up the others: by the subject, or else by the address.
pub(crate) fn submitter(request: &Request, subject: Option<&str>) -> String {
    if let Some(subject) = subject {
        return format!("user {subject}");
    }
    let client = request.extensions().get::<ClientAddress>();
    client.map_or_else(String::new, |client| client.0.to_string())
}

/// The key that a client chose for a request that it may send again.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = key.to_str().unwrap_or_default().trim();
    match key.len() {
        1..=MAX_KEY => Ok(Some(key.to_owned())),
        _ => Err(ApiError::bad_request(format!(
            "The Idempotency-Key is not usable; expected 1 to {MAX_KEY} ASCII characters."
        ))),
    }
}

/// The digests by which the request of somebody is known when it comes again. Files that are sent along are not part of
/// it: they have other keys each time.
pub(crate) fn idempotency(
    key: &str,
    subject: Option<&str>,
    plugin: &str,
    parameters: &Map<String, Value>,
) -> Idempotency {
    let mut compared = parameters.clone();
    compared.retain(|_, value| value.get(UPLOAD).is_none());
    let fingerprint = serde_json::to_vec(&compared).unwrap_or_default();
    let owner = subject.map(str::as_bytes);
    let parts: Vec<&[u8]> = [plugin.as_bytes(), key.as_bytes()]
        .into_iter()
        .chain(owner)
        .collect();
    Idempotency {
        key: digest(&parts),
        fingerprint: digest(&[plugin.as_bytes(), &fingerprint]),
    }
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The values, if all is right with them.
pub(super) fn checked(
    app: &App,
    sent: &Sent,
    parameters: &Parameters,
) -> Result<Map<String, Value>, ApiError> {
    let values = sent.check(parameters).into_result();
    let values = values.map_err(|errors| ApiError::fields(sent.location(), errors))?;
    let limit = app.0.config.max_parameters;
    let size = serde_json::to_vec(&values).map_or(0, |text| text.len() as u64);
    if size > limit {
        return Err(ApiError::with(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The parameters have {size} bytes; the limit is {limit}. Send large values as files."
            ),
        ));
    }
    Ok(values)
}

/// Refuses while the disk is nearly full: what is accepted must be able to end.
pub(crate) fn require_room(app: &App) -> Result<(), ApiError> {
    match app.0.store.files().free_bytes() {
        Ok(free) if free < app.0.config.disk_floor => Err(ApiError::disk_full()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
