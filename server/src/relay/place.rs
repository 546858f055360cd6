//! The layer before the routes of kernels: where this process has none, it finds the worker that answers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::UPGRADE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use uuid::Uuid;

use super::forward::{Failure, Going};
use super::placement::{self, Placement};
use super::{Relay, Worker, ended, kernel, lost, notebook, path};
use crate::access::Rules;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::sage_cell;
use crate::routes::sessions::{id_of, kernels::MAX_BODY};
use crate::socket;

/// A route of the table, as this layer knows it.
#[derive(Clone)]
pub(crate) struct Placed {
    pub(crate) app: App,
    pub(crate) route: &'static str,
    pub(crate) rules: Arc<Rules>,
}

/// What a body says that matters for its place.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// The kernelspec.
    name: Option<String>,
    path: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    kernel: Option<WantedKernel>,
}

#[derive(Debug, Default, Deserialize)]
struct WantedKernel {
    id: Option<String>,
    name: Option<String>,
}

impl Wanted {
    /// What is no JSON is refused by the worker.
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// Answers from where the request is placed.
pub(crate) async fn place(
    State(placed): State<Placed>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Placed { app, route, rules } = placed;
    let placement = placement::of(route, request.method());
    let is_answered = rules.of(request.method()).is_some();
    let relay = match app.relay(placement) {
        Some(relay) if is_answered => relay.clone(),
        _ => return Ok(next.run(request).await),
    };
    let segment = segment(route, request.uri().path());
    let upload = app.0.config.limits.upload;
    if matches!(placement, Placement::Cell | Placement::Output)
        && let Some(cells) = app.relay(Placement::Cell)
        && let Ok(id) = Uuid::try_parse(&segment)
        && let Some(worker) = cells.worker_of(id).await?
    {
        if placement == Placement::Cell {
            sage_cell::check_origin(&app, request.headers(), &base_url(&request)?)?;
        }
        return cells.at(&worker, &mut Going::new(request, upload)?).await;
    }
    if placement == Placement::Cell {
        // As of any kernel that is unknown.
        return Ok(next.run(request).await);
    }
    if request.headers().contains_key(UPGRADE) {
        let base = base_url(&request)?;
        socket::check_origin(&app.0.config.origins, request.headers(), &base)?;
    }
    let mut going = Going::new(request, upload)?;
    match placement {
        Placement::Local | Placement::Cell => Err(ApiError::internal()),
        Placement::All => relay.all(&mut going).await,
        Placement::Spec => relay.with_spec(&mut going, &segment).await,
        Placement::New => relay.new_session(&mut going).await,
        Placement::Named => relay.named(&mut going).await,
        Placement::Session | Placement::Output => {
            relay.held(&mut going, &kernel(id_of(&segment)?)).await
        }
        Placement::SessionOrNew => relay.claimed(&mut going, id_of(&segment)?).await,
        Placement::Notebook => {
            let unknown = || ended(&format!("notebook/{}", shown(&segment)));
            let id = Uuid::try_parse(&segment).map_err(|_| unknown())?;
            relay.held(&mut going, &notebook(id)).await
        }
    }
}

/// The URL by which the client knows the runner.
fn base_url(request: &Request) -> Result<BaseUrl, ApiError> {
    let base = request.extensions().get::<BaseUrl>();
    base.cloned().ok_or_else(ApiError::internal)
}

/// The first parameter in a path.
fn segment(route: &str, path: &str) -> String {
    let parts = route.split('/').zip(path.split('/'));
    let found = parts
        .into_iter()
        .find(|(name, _)| name.starts_with('{') && !name.starts_with("{*"));
    let found = found.map_or("", |(_, value)| value);
    percent_decode_str(found).decode_utf8_lossy().into_owned()
}

fn shown(id: &str) -> String {
    id.chars().take(60).collect()
}

impl Relay {
    /// The answer of a worker.
    pub(crate) async fn at(&self, worker: &str, going: &mut Going) -> Result<Response, ApiError> {
        let asker = going.asker().clone();
        let answer = self.send(worker, going, &asker).await;
        answer.map_err(|failure| failure.into_error(worker))
    }

    /// The answer of the worker that this server keeps least busy, for what needs no place.
    pub(crate) async fn least_busy(&self, going: &mut Going) -> Result<Response, ApiError> {
        let mut workers = self.workers().await?;
        let busy = self.lock_busy().clone();
        workers.sort_by_key(|worker| busy.get(&worker.process).copied().unwrap_or_default());
        let mut refused = None;
        for worker in &workers {
            let _busy = self.busy(&worker.process);
            let asker = going.asker().clone();
            match self.send(&worker.process, going, &asker).await {
                // It has not begun anything.
                Err(Failure::NotThere(why)) => refused = Some(lost(&worker.process, &why)),
                answer => return answer.map_err(|failure| failure.into_error(&worker.process)),
            }
        }
        Err(refused.unwrap_or_else(|| self.full()))
    }

    /// A session where something is.
    async fn held(&self, going: &mut Going, place: &str) -> Result<Response, ApiError> {
        let process = self.find(place).await?.ok_or_else(|| ended(place))?;
        let asker = going.asker().clone();
        match self.send(&process, going, &asker).await {
            Err(Failure::Away(_) | Failure::NotThere(_)) if going.may_go_again() => {
                // It may have come back, or what it had is known to be gone.
                let process = self.find(place).await?.ok_or_else(|| ended(place))?;
                let again = self.send(&process, going, &asker).await;
                again.map_err(|failure| failure.into_error(&process))
            }
            answer => answer.map_err(|failure| failure.into_error(&process)),
        }
    }

    /// A session of this id, at a worker with room if none has it.
    async fn claimed(&self, going: &mut Going, id: Uuid) -> Result<Response, ApiError> {
        let place = kernel(id);
        if let Some(process) = self.find(&place).await? {
            let asker = going.asker().clone();
            let answer = self.send(&process, going, &asker).await;
            let is_lost = matches!(answer, Err(Failure::Away(_) | Failure::NotThere(_)));
            // Nobody else may have it as long as that one may be alive.
            if !is_lost || self.find(&place).await?.is_some() {
                return answer.map_err(|failure| failure.into_error(&process));
            }
        }
        // Else it is refused where nothing begins.
        if !going.is_upgrade() {
            return Err(ApiError::bad_request(
                "Expected a WebSocket: the headers Connection and Upgrade are missing.",
            ));
        }
        self.first_with_room(going, None, Some(&place)).await
    }

    /// A new session at a worker with room.
    async fn new_session(&self, going: &mut Going) -> Result<Response, ApiError> {
        let wanted = Wanted::read(going.read(MAX_BODY).await?);
        self.first_with_room(going, wanted.name.as_deref(), None)
            .await
    }

    /// A session for something that has a name.
    async fn named(&self, going: &mut Going) -> Result<Response, ApiError> {
        let wanted = Wanted::read(going.read(MAX_BODY).await?);
        let asked = wanted.kernel.unwrap_or_default();
        let own = asked.id.as_deref().filter(|id| !id.is_empty());
        if let Some(id) = own {
            return self.held(going, &kernel(id_of(id)?)).await;
        }
        let place = match (&wanted.kind, &wanted.path) {
            (Some(kind), Some(name)) => path(kind, name),
            // The worker says what is missing.
            _ => return self.first_with_room(going, None, None).await,
        };
        if let Some(process) = self.find(&place).await? {
            let asker = going.asker().at(&process, &self.workers().await?);
            let answer = self.send(&process, going, &asker).await;
            return answer.map_err(|failure| failure.into_error(&process));
        }
        self.first_with_room(going, asked.name.as_deref(), Some(&place))
            .await
    }

    /// The answer of the first worker that has room, if `place` is given: of the one that has it by then.
    pub(crate) async fn first_with_room(
        &self,
        going: &mut Going,
        spec: Option<&str>,
        place: Option<&str>,
    ) -> Result<Response, ApiError> {
        let workers = self.workers().await?;
        let spec = spec.filter(|spec| !spec.is_empty());
        let has_spec = |worker: &&Worker| spec.is_none_or(|spec| worker.has(spec));
        let mut able: Vec<&Worker> = workers.iter().filter(has_spec).collect();
        if able.is_empty() {
            // Any of them says so.
            able = workers.iter().collect();
        }
        let mut refused = None;
        for worker in able {
            if worker.offer.room == 0 {
                continue;
            }
            let process = match place {
                Some(place) => self.claim(place, worker).await?,
                None => worker.process.clone(),
            };
            let asker = going.asker().at(&process, &workers);
            let answer = match self.send(&process, going, &asker).await {
                Ok(answer) => answer,
                // Should it have begun one after all, nobody knows it, and it ends (SESSION_CONNECT).
                Err(Failure::Away(why) | Failure::NotThere(why)) => {
                    if let Some(place) = place {
                        self.release(place, &worker.process).await;
                    }
                    refused = Some(lost(&process, &why).into_response());
                    continue;
                }
                Err(failure) => return Err(failure.into_error(&process)),
            };
            let is_refused = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
            if let Some(place) = place
                && !answer.status().is_success()
                && answer.status() != StatusCode::SWITCHING_PROTOCOLS
                && process == worker.process
            {
                self.release(place, &process).await;
            }
            if !is_refused {
                return Ok(answer);
            }
            refused = Some(answer);
            if process != worker.process {
                break;
            }
        }
        refused.ok_or_else(|| self.full())
    }

    /// The answer of a worker that has a kernelspec.
    async fn with_spec(&self, going: &mut Going, spec: &str) -> Result<Response, ApiError> {
        let workers = self.workers().await?;
        let able = workers.iter().find(|worker| worker.has(spec));
        let worker = able.or(workers.first()).ok_or_else(|| self.full())?;
        self.at(&worker.process, going).await
    }

    /// The answers of all workers as one.
    async fn all(&self, going: &mut Going) -> Result<Response, ApiError> {
        let workers = self.workers().await?;
        going.read(MAX_BODY).await?;
        self.merged(going, &workers).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_paths() {
        let found = segment(
            "/api/kernels/{id}/files/{*path}",
            "/api/kernels/a%20b/files/c/d",
        );
        assert_eq!(found, "a b");
        assert_eq!(
            segment("/api/kernelspecs/{name}", "/api/kernelspecs/ir"),
            "ir"
        );
        assert_eq!(segment("/api/kernels", "/api/kernels"), "");
    }

    #[test]
    fn what_is_wanted_is_read_or_left_to_the_worker() {
        let wanted = Wanted::read(br#"{"path": "a", "type": "b", "kernel": {"id": "c"}}"#);
        assert_eq!(
            wanted.kernel.and_then(|kernel| kernel.id).as_deref(),
            Some("c")
        );
        assert!(Wanted::read(b"{").path.is_none());
        assert!(Wanted::read(br#"{"path": 1}"#).path.is_none());
    }
}
