//! What is to be seen of this process from outside: numbers, and whether it can do its work.
//!
//! # Layout
//! - [`Sight`]: what a look needs. A server shows it at its own address; a process that has none, or whose watcher
//!   shows no token, at another: [`serve_sight`].
//! - [`record`]: keeps what the rooms count. `checks`: what must be usable for the process to be ready. `gauges`: what is read at the moment of a look.
//! - `text`: the format of Prometheus. `http`: what is counted of requests.

mod checks;
mod gauges;
pub(crate) mod http;
mod recorder;
mod text;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use runner_host::Modules;
use runner_queue::Queue;
use runner_store::{Store, WorkerKind};
use serde_json::json;
use tokio::net::TcpListener;

use crate::error::ApiError;
use checks::Checks;

pub use recorder::record;

/// The format in which numbers are told.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The numbers that were recorded so far, as text for Prometheus.
pub type Recorded = Arc<dyn Fn() -> String + Send + Sync>;

/// What a look at the process needs. Clones are cheap.
#[derive(Clone)]
pub struct Sight(Arc<Parts>);

/// What a look is made of.
pub struct SightParts {
    /// SQL and files.
    pub store: Store,
    /// Where jobs are.
    pub queue: Queue,
    /// What can be run.
    pub modules: Arc<Modules>,
    /// What this process does.
    pub kind: WorkerKind,
    /// How long a process may be silent.
    pub lease: Duration,
    /// Bytes that must be free on the disk for a task to be accepted.
    pub disk_floor: u64,
    /// What was recorded.
    pub recorded: Recorded,
}

struct Parts {
    given: SightParts,
    checks: Checks,
    disk: Arc<gauges::Disk>,
}

impl Sight {
    /// Puts together what a look needs.
    pub fn new(parts: SightParts) -> Self {
        Self(Arc::new(Parts {
            given: parts,
            checks: Checks::default(),
            disk: Arc::default(),
        }))
    }

    /// All numbers, for Prometheus.
    pub(crate) async fn metrics(&self) -> Response {
        let given = &self.0.given;
        let mut text = gauges::read(given, &self.0.disk).await;
        text.push_str(&(given.recorded)());
        ([(CONTENT_TYPE, FORMAT), (CACHE_CONTROL, "no-store")], text).into_response()
    }

    /// Whether everything can be used that the process needs.
    pub(crate) async fn ready(&self) -> Response {
        let found = self.0.checks.look(&self.0.given).await;
        let problems: Vec<String> = found
            .iter()
            .filter_map(|(name, problem)| Some(format!("{name}: {}", problem.as_ref()?)))
            .collect();
        let checks: serde_json::Map<_, _> = found
            .into_iter()
            .map(|(name, problem)| {
                let check = match problem {
                    None => json!({"ok": true}),
                    Some(problem) => json!({"ok": false, "problem": problem}),
                };
                (name.to_owned(), check)
            })
            .collect();
        let is_ready = problems.is_empty();
        let status = match is_ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut body = json!({"ready": is_ready, "checks": checks});
        if !is_ready {
            body["code"] = json!(status.as_u16());
            body["status"] = json!(status.canonical_reason());
            body["message"] = json!(format!("Not ready: {}.", problems.join("; ")));
        }
        let headers = [(CACHE_CONTROL, "no-store")];
        (status, headers, axum::Json(body)).into_response()
    }
}

/// That the process answers is all there is to it.
pub(crate) fn live() -> Response {
    (
        [(CACHE_CONTROL, "no-store")],
        axum::Json(json!({"live": true})),
    )
        .into_response()
}

/// Answers `/metrics` and `/health/` to whoever asks, and nothing else, until `shutdown` is done.
///
/// # Errors
/// The listener fails.
pub async fn serve_sight(
    listener: TcpListener,
    sight: Sight,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let metrics = async |State(sight): State<Sight>| sight.metrics().await;
    let ready = async |State(sight): State<Sight>| sight.ready().await;
    let live = async || live();
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED))
        .with_state(sight);
    axum::serve(listener, routes)
        .with_graceful_shutdown(shutdown)
        .await
}
