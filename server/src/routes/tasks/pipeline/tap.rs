//! `GET /tasks/<id>/pipeline/tap?edge=FROM->TO`: samples of what passes on an edge, as server-sent events, or over a
//! WebSocket.
//!
//! Samples are taken where there is time for it; who does not read misses some, which it is told (`behind`), and is cut as
//! any client is that does not take what it is sent. So the run is never slower for it. The wish to see them stands in SQL
//! for some seconds, and is renewed while somebody reads. How the run ended is told last, however late that is read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::header::UPGRADE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::response::sse::Event;
use futures::stream;
use runner_core::pipeline::{TAP_LEASE_MS, Want};
use runner_queue::{Follow, Watch};
use runner_store::PipelineRow;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{pipeline_task, socket, wish, wrong};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::parse_query;
use crate::cors::may_have_socket;
use crate::error::ApiError;
use crate::incoming::seat::Seat;
use crate::routes::Id;
use crate::sse;

/// How often the wish is renewed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How late it may be renewed, before nothing is shown any more.
const LATEST: Duration = Duration::from_millis(TAP_LEASE_MS as u64).saturating_sub(RENEWAL);

pub(crate) async fn stream(
    State(app): State<App>,
    Id(id): Id,
    base: BaseUrl,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    seat: Option<Extension<Seat>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = match upgrade {
        Ok(upgrade) if may_have_socket(&app.0.config.origins, &headers, &base) => Some(upgrade),
        Ok(_) => {
            let text = "Pages of this origin may not read what is here (CORS_ORIGINS).";
            return Err(ApiError::with(StatusCode::FORBIDDEN, text));
        }
        Err(rejection) if is_socket(&headers) => {
            return Err(ApiError::bad_request(rejection.to_string()));
        }
        Err(_) => None,
    };
    let tap = begin(app, id, query).await?;
    if let Some(upgrade) = upgrade {
        let seat = seat.map(|Extension(seat)| seat);
        let upgrade = upgrade.max_message_size(socket::MAX_HEARD);
        return Ok(upgrade.on_upgrade(|socket| socket::send(socket, tap, seat)));
    }
    let events = stream::unfold(tap, async |mut tap| {
        let (name, data) = tap.next().await?;
        let event = Event::default().event(name).data(data.to_string());
        Some((Ok::<_, Infallible>(event), tap))
    });
    Ok(sse::respond(events))
}

/// Whether the client wants a WebSocket.
fn is_socket(headers: &HeaderMap) -> bool {
    let wanted = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(b"websocket"))
}

async fn begin(app: App, id: Option<i64>, query: Option<String>) -> Result<Tap, ApiError> {
    let query = parse_query(query.unwrap_or_default().as_bytes())?;
    let task = pipeline_task(&app, id).await?;
    if task.state.is_finished() {
        let text = "The pipeline has ended already.";
        return Err(ApiError::with(StatusCode::CONFLICT, text));
    }
    let row = app.0.store.pipeline(task.id).await?;
    let edge = edge_of(row.as_ref(), query.text("edge").unwrap_or_default())?;
    // Following begins before anything is shown.
    let follow = app.0.queue.follow(task.id).await;
    let watch = app.0.events.watch(task.id);
    wish(&app, task.id, tapped(&edge)).await?;
    Ok(Tap {
        app,
        task: task.id,
        edge,
        follow,
        watch,
        renewal: Instant::now() + RENEWAL,
        ready: VecDeque::new(),
        // It may have ended before it was watched.
        is_unsure: true,
        has_ended: false,
    })
}

/// The edge that is meant, if there is one.
fn edge_of(row: Option<&PipelineRow>, wanted: &str) -> Result<String, ApiError> {
    let Some(graph) = row.and_then(|row| row.graph.as_ref()) else {
        let text = "The pipeline has not begun, so that its edges are not known.";
        return Err(ApiError::with(StatusCode::CONFLICT, text));
    };
    let edges = graph["edges"].as_array().into_iter().flatten();
    let names = edges.map(|edge| {
        let end = |key: &str| edge[key].as_str().unwrap_or_default();
        format!("{}->{}", end("from"), end("to"))
    });
    let names: Vec<String> = names.collect();
    let plain: String = wanted.split_whitespace().collect();
    match names.iter().find(|name| **name == plain) {
        Some(name) => Ok(name.clone()),
        None => Err(wrong(
            "edge",
            &format!(
                "There is no edge {wanted:?}; there are {}.",
                names.join(", ")
            ),
        )),
    }
}

fn tapped(edge: &str) -> Want {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    Want::Tap {
        edge: edge.to_owned(),
        until: now.saturating_add(TAP_LEASE_MS),
    }
}

/// Samples of an edge, for one client.
pub(super) struct Tap {
    app: App,
    task: i64,
    edge: String,
    follow: Follow,
    watch: Watch,
    renewal: Instant,
    ready: VecDeque<Record>,
    /// Whether the task has changed since it was read.
    is_unsure: bool,
    has_ended: bool,
}

/// What a client is told: `item`, `behind` or `end`, and more about it.
type Record = (&'static str, Value);

impl Tap {
    /// The next record; `None` after the last. What waits may be given up at any time, and is done once more then.
    pub(super) async fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(record);
            }
            if self.has_ended {
                return None;
            }
            if self.is_unsure {
                self.look().await;
            } else if self.renewal <= Instant::now() {
                self.renew().await;
            } else {
                tokio::select! {
                    message = self.follow.next() => self.take(&message),
                    () = self.watch.changed() => self.is_unsure = true,
                    () = sleep_until(self.renewal) => {}
                }
                self.behind(self.follow.missed());
            }
        }
    }

    fn take(&mut self, message: &[u8]) {
        let Ok(mut message) = serde_json::from_slice::<Value>(message) else {
            return;
        };
        if message["tap"]["edge"].as_str() == Some(&self.edge)
            && let Value::Array(items) = message["items"].take()
        {
            let items = items.into_iter().filter(Value::is_object);
            self.ready.extend(items.map(|item| ("item", item)));
        }
    }

    /// Samples were missed: so many messages with them, at least.
    fn behind(&mut self, missed: u64) {
        if missed > 0 {
            self.ready
                .push_back(("behind", json!({ "missed": missed })));
        }
    }

    /// Looks whether the task has ended. What passed before is told before.
    async fn look(&mut self) {
        let end = match self.app.0.store.task(self.task).await {
            Ok(Some(task)) if !task.state.is_finished() => None,
            Ok(Some(task)) => Some(json!({"state": task.state, "status": task.state.status()})),
            Ok(None) => Some(json!({"reason": "the task was deleted"})),
            Err(error) => Some(json!({"reason": error.to_string()})),
        };
        self.is_unsure = false;
        if let Some(end) = end {
            self.end(end);
        }
    }

    fn end(&mut self, data: Value) {
        while let Some(message) = self.follow.now() {
            self.take(&message);
        }
        self.behind(self.follow.missed());
        self.ready.push_back(("end", data));
        self.has_ended = true;
    }

    /// Wishes again. Who did not read for so long that nobody wished meanwhile has missed what passed.
    async fn renew(&mut self) {
        let late = self.renewal.elapsed();
        match wish(&self.app, self.task, tapped(&self.edge)).await {
            Ok(_) => {
                self.renewal = Instant::now() + RENEWAL;
                self.behind(u64::from(late > LATEST));
            }
            Err(error) => self.end(json!({"reason": error.to_string()})),
        }
    }
}
