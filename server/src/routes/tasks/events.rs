//! `GET /tasks/<id>/events`: what happens to a task, as server-sent events.
//!
//! The id of an event is a cursor into SQL. Whoever comes back with it as `Last-Event-ID` gets what SQL has
//! beyond it, then what is new: an event is a hint to read, so nothing is missed, and a client that does
//! not read costs its connection and one piece of what it does not read.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use futures::Stream;
use runner_core::task::Task;
use runner_queue::Watch;
use serde_json::{Value, json};

use super::pipeline::{is_pipeline, view};
use super::{output_view, progress_view, step_view};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::Id;
use crate::sse;

/// The largest piece of a log in one event, and about as much of it as is read at a time: what waits for a
/// client that does not read stays in SQL.
const MAX_LOG: usize = 64 * 1024;
/// The most outputs of which events are made at a time.
const MAX_OUTPUTS: usize = 100;

pub(crate) async fn stream(
    State(app): State<App>,
    base: BaseUrl,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let number = id.ok_or_else(ApiError::task_not_found)?;
    let watch = app.0.events.watch(number);
    // The follower reads its log.
    let found = app.0.store.task_since(number, 0, 0).await?;
    let found = found.ok_or_else(ApiError::task_not_found)?;
    // What is seen of a pipeline has no place in the cursor: who comes back is told it as it is.
    let seen = is_pipeline(&app, &found).await?.then_some(-1);
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let cursor = last.and_then(Cursor::parse).unwrap_or_default();
    let follower = Follower {
        app,
        base,
        task: number,
        watch,
        cursor,
        ready: VecDeque::new(),
        seen,
        is_behind: true,
        has_ended: false,
    };
    Ok(sse::respond(follower.events()))
}

/// How much of a task a client knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    version: i64,
    log: u64,
    steps: usize,
    cleared: usize,
    links: usize,
    outputs: usize,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let cursor = Self {
            version: parts.next()?.parse().ok()?,
            log: parts.next()?.parse().ok()?,
            steps: parts.next()?.parse().ok()?,
            cleared: parts.next()?.parse().ok()?,
            links: parts.next()?.parse().ok()?,
            outputs: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            version,
            log,
            steps,
            cleared,
            links,
            outputs,
        } = self;
        write!(f, "{version}-{log}-{steps}-{cleared}-{links}-{outputs}")
    }
}

struct Follower {
    app: App,
    base: BaseUrl,
    task: i64,
    watch: Watch,
    cursor: Cursor,
    ready: VecDeque<(Cursor, &'static str, Value)>,
    /// The version of what is seen of it that the client knows, where it is a pipeline.
    seen: Option<i64>,
    /// Whether SQL has more than was read: at the beginning, and after a piece.
    is_behind: bool,
    has_ended: bool,
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures::stream::unfold(self, |mut follower| async move {
            let (cursor, name, data) = follower.next().await?;
            let event = Event::default()
                .id(cursor.to_string())
                .event(name)
                .data(data.to_string());
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Option<(Cursor, &'static str, Value)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.has_ended {
                return None;
            }
            if !self.is_behind {
                self.watch.changed().await;
            }
            self.is_behind = false;
            match self
                .app
                .0
                .store
                .task_since(self.task, self.cursor.log, MAX_LOG as u64)
                .await
            {
                Ok(Some(task)) => {
                    self.look(&task).await;
                    self.take(&task);
                }
                Ok(None) => self.end(json!({"reason": "the task was deleted"})),
                Err(error) => {
                    tracing::error!(task = self.task, "its events cannot be read: {error}");
                    return None;
                }
            }
        }
    }

    /// Tells what is seen of a pipeline. What cannot be read now is told the next time.
    async fn look(&mut self, task: &Task) {
        let Some(known) = self.seen else { return };
        if let Ok(Some(row)) = self.app.0.store.pipeline(self.task).await
            && row.version > known
        {
            self.seen = Some(row.version);
            self.push("pipeline", view(task, Some(&row)));
        }
    }

    fn push(&mut self, name: &'static str, data: Value) {
        self.ready.push_back((self.cursor, name, data));
    }

    fn end(&mut self, data: Value) {
        self.has_ended = true;
        self.push("end", data);
    }

    /// Makes events of what the client does not know.
    fn take(&mut self, task: &Task) {
        let is_new = task.version > self.cursor.version || self.cursor == Cursor::default();
        let mut log = task.log.as_str();
        while !log.is_empty() {
            let at = log.floor_char_boundary(MAX_LOG.min(log.len()));
            let (piece, rest) = log.split_at(at);
            self.cursor.log += piece.len() as u64;
            self.push("log", json!({ "text": piece }));
            log = rest;
        }
        // The rest comes behind all of the log, so that nothing has ended before it.
        if self.cursor.log < task.log_length && !task.log.is_empty() {
            self.is_behind = true;
            return;
        }
        let cleared = task.steps.iter().filter(|step| step.cleared).count();
        if task.steps.len() > self.cursor.steps || cleared > self.cursor.cleared {
            self.cursor.steps = task.steps.len();
            self.cursor.cleared = cleared;
            self.push("steps", task.steps.iter().map(step_view).collect());
        }
        for link in task.links.iter().skip(self.cursor.links) {
            self.cursor.links += 1;
            self.push("link", json!(link));
        }
        if task.state.is_finished() {
            let new = task.outputs.iter().skip(self.cursor.outputs);
            for file in new.take(MAX_OUTPUTS) {
                self.cursor.outputs += 1;
                self.push("output", output_view(file, &self.base));
            }
            if self.cursor.outputs < task.outputs.len() {
                self.is_behind = true;
                return;
            }
        }
        if let Some(progress) = task.progress.as_ref().filter(|_| is_new) {
            self.push("progress", progress_view(progress));
        }
        self.cursor.version = task.version;
        let state =
            json!({"state": task.state, "status": task.state.status(), "version": task.version});
        if is_new {
            self.push("state", state.clone());
        }
        if task.state.is_finished() {
            self.end(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor {
            version: 1,
            log: 2,
            steps: 3,
            cleared: 4,
            links: 5,
            outputs: 6,
        };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for wrong in [
            "",
            "1",
            "1-2-3-4-5",
            "1-2-3-4-5-6-7",
            "a-b-c-d-e-f",
            "1-2-3-4-5--6",
        ] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
