//! What leaves a pipeline, as it leaves.
//!
//! The items of each node come in their order, each once. They are shown while they pass, and nobody waits for a client
//! that does not read: it falls behind, which it is told, also where the task has ended meanwhile, and gets the rest from
//! the files of the task when that has ended. So nothing is held for it but a few messages. When a task is run again, its
//! items begin anew.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use runner_core::file::{File, plain_name};
use runner_core::task::Task;
use runner_queue::{Follow, Watch};
use runner_store::ContentStream;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::App;
use crate::base_url::BaseUrl;
use crate::sse::{KEEP_ALIVE, UNBUFFERED};

/// Bytes of the log of a task that failed, of which its end is told.
const MAX_LOG: usize = 2_000;
/// Bytes of an item that is read from a file.
const MAX_ITEM: usize = 32 << 20;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON document on each line.
    Lines,
    /// Server-sent events.
    Events,
}

impl Form {
    /// What is wanted by an `Accept` header.
    pub(super) fn accepted(accept: &str) -> Self {
        match accept.contains("text/event-stream") {
            true => Self::Events,
            false => Self::Lines,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    fn write(self, name: &str, mut data: Value) -> Bytes {
        match self {
            Self::Lines => {
                data["event"] = json!(name);
                format!("{data}\n").into()
            }
            Self::Events => format!("event: {name}\ndata: {data}\n\n").into(),
        }
    }

    /// What says nothing, so that a connection is kept, or seen to be gone.
    fn silence(self) -> Bytes {
        match self {
            Self::Lines => Bytes::from_static(b"\n"),
            Self::Events => Bytes::from_static(b":\n\n"),
        }
    }
}

/// What left at a node.
#[derive(Debug, Default)]
struct Node {
    /// How many items the client got.
    next: u64,
    /// Whether one is missing, so that the rest comes from the file.
    is_behind: bool,
}

impl Node {
    /// Items are missing from the next one on, which is told once.
    fn fall_behind(&mut self, name: &str, ready: &mut VecDeque<(&'static str, Value)>) {
        if !std::mem::replace(&mut self.is_behind, true) {
            ready.push_back(("behind", json!({"node": name, "number": self.next})));
        }
    }
}

/// The stream for a client.
pub(super) struct Leaving {
    app: App,
    base: BaseUrl,
    task: i64,
    run: i64,
    follow: Follow,
    watch: Watch,
    nodes: BTreeMap<String, Node>,
    ready: VecDeque<(&'static str, Value)>,
    /// Whether the task has changed since it was read.
    is_unsure: bool,
    /// Whether the client read so slowly that something passed unseen.
    is_late: bool,
    phase: Phase,
    /// Whether the task goes on without the client.
    is_kept: bool,
}

enum Phase {
    /// Items are shown as they leave.
    Live,
    /// The task has ended: what is missing is read.
    Rest(Box<Task>, Option<Reading>, Vec<String>),
    Over,
}

/// A file that is read.
struct Reading {
    node: String,
    content: ContentStream,
    /// The line that is not whole.
    line: Vec<u8>,
    /// The number of that line.
    number: u64,
}

impl Leaving {
    pub(super) fn new(
        app: App,
        base: BaseUrl,
        task: i64,
        follow: Follow,
        outputs: Vec<String>,
        is_kept: bool,
    ) -> Self {
        let watch = app.0.events.watch(task);
        let href = base.url(&format!("/tasks/{task}/"));
        let nodes = outputs.into_iter().map(|node| (node, Node::default()));
        Self {
            app,
            task,
            run: 0,
            follow,
            watch,
            nodes: nodes.collect(),
            ready: VecDeque::from([("task", json!({"task": task, "href": href}))]),
            is_unsure: true,
            is_late: false,
            phase: Phase::Live,
            is_kept,
            base,
        }
    }

    /// The answer, which begins at once.
    pub(super) fn respond(self, form: Form) -> Response {
        let href = self.base.path(&format!("/tasks/{}/", self.task));
        let records = stream::unfold(self, move |mut leaving| async move {
            let bytes = match timeout(KEEP_ALIVE, leaving.next()).await {
                Ok(Some((name, data))) => form.write(name, data),
                Ok(None) => return None,
                Err(_) => form.silence(),
            };
            Some((Ok::<_, Infallible>(bytes), leaving))
        });
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(form.media_type())),
            UNBUFFERED,
        ];
        let mut response = (headers, Body::from_stream(records)).into_response();
        if let Ok(href) = HeaderValue::from_str(&href) {
            response.headers_mut().insert(LOCATION, href);
        }
        response
    }

    async fn next(&mut self) -> Option<(&'static str, Value)> {
        // What waits may be given up at any time, and is done once more then.
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(record);
            }
            match &mut self.phase {
                Phase::Over => return None,
                Phase::Rest(..) => self.read_on().await,
                Phase::Live if self.is_unsure => self.look().await,
                Phase::Live => tokio::select! {
                    message = self.follow.next() => self.take(&message),
                    () = self.watch.changed() => self.is_unsure = true,
                },
            }
        }
    }

    /// Items that passed.
    fn take(&mut self, message: &[u8]) {
        let Ok(mut message) = serde_json::from_slice::<Value>(message) else {
            return;
        };
        let (Some(run), Some(first)) =
            (message["run"].as_i64(), message["output"]["first"].as_u64())
        else {
            return;
        };
        self.is_run(run);
        // One that was lost, and did not know it yet.
        if run < self.run {
            return;
        }
        let name = message["output"]["node"].as_str().unwrap_or_default();
        let name = name.to_owned();
        let Value::Array(items) = message["items"].take() else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        if node.is_behind {
            return;
        }
        if first > node.next {
            node.fall_behind(&name, &mut self.ready);
            return;
        }
        let known = usize::try_from(node.next - first).unwrap_or(usize::MAX);
        for value in items.into_iter().skip(known) {
            let data = json!({"node": name, "number": node.next, "value": value});
            node.next += 1;
            self.ready.push_back(("item", data));
        }
    }

    /// Another run begins anew.
    fn is_run(&mut self, run: i64) {
        if self.run >= run {
            return;
        }
        let has_items = self.nodes.values().any(|node| node.next > 0);
        if std::mem::replace(&mut self.run, run) != 0 && has_items {
            self.nodes
                .values_mut()
                .for_each(|node| *node = Node::default());
            self.ready.push_back(("again", json!({"run": run})));
        }
    }

    /// Looks whether the task has ended.
    async fn look(&mut self) {
        let found = self.app.0.store.task(self.task).await;
        self.is_unsure = false;
        match found {
            Ok(Some(task)) if task.state.is_finished() => {
                // What has passed comes from the file only where it is missing.
                while let Some(message) = self.follow.now() {
                    self.take(&message);
                }
                self.is_late = self.follow.missed() > 0;
                self.is_run(task.run);
                let nodes = self.nodes.keys().cloned().collect();
                self.phase = Phase::Rest(Box::new(task), None, nodes);
            }
            Ok(Some(_)) => {}
            Ok(None) => self.end(json!({"reason": "the task was deleted"})),
            Err(error) => {
                tracing::error!(task = self.task, "a task cannot be read: {error}");
                self.end(json!({"reason": "the task cannot be read"}));
            }
        }
    }

    fn end(&mut self, data: Value) {
        self.phase = Phase::Over;
        self.ready.push_back(("end", data));
    }

    /// Reads more of what is missing, file after file.
    async fn read_on(&mut self) {
        let Phase::Rest(task, reading, nodes) = &mut self.phase else {
            return;
        };
        let Some(current) = reading else {
            let Some(node) = nodes.last().cloned() else {
                let data = ended(task, &self.base, &self.nodes);
                return self.end(data);
            };
            let file = task
                .outputs
                .iter()
                .find(|file| file.name == file_name(&node));
            match open(&self.app, file, &node).await {
                Ok(opened) => {
                    nodes.pop();
                    // A run that failed leaves no file.
                    if let (None, true, Some(seen)) =
                        (&opened, self.is_late, self.nodes.get_mut(&node))
                    {
                        seen.fall_behind(&node, &mut self.ready);
                    }
                    *reading = opened;
                }
                Err(reason) => self.end(json!({"reason": reason})),
            }
            return;
        };
        match current.content.next().await {
            Some(Ok(bytes)) => {
                let Some(node) = self.nodes.get_mut(&current.node) else {
                    return;
                };
                if let Err(reason) = current.take(&bytes, node, self.is_late, &mut self.ready) {
                    self.end(json!({"reason": reason}));
                }
            }
            Some(Err(error)) => {
                let reason = format!("an output cannot be read: {error}");
                self.end(json!({"reason": reason}));
            }
            None => *reading = None,
        }
    }
}

impl Reading {
    /// Takes the lines that are whole now, and that the client does not have. One that read too slowly is told so before
    /// the first of them.
    fn take(
        &mut self,
        bytes: &[u8],
        node: &mut Node,
        is_late: bool,
        ready: &mut VecDeque<(&'static str, Value)>,
    ) -> Result<(), String> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.number >= node.next {
                self.line.extend_from_slice(piece);
            }
            if self.line.len() > MAX_ITEM {
                return Err(format!(
                    "the item {} of {} has more than {MAX_ITEM} bytes; its task has it",
                    self.number, self.node
                ));
            }
            if !piece.ends_with(b"\n") {
                continue;
            }
            if self.number >= node.next {
                let value: Value = serde_json::from_slice(&self.line)
                    .map_err(|error| format!("an output is no JSON: {error}"))?;
                if is_late {
                    node.fall_behind(&self.node, ready);
                }
                let data = json!({"node": self.node, "number": self.number, "value": value});
                ready.push_back(("item", data));
                node.next = self.number + 1;
                self.line.clear();
            }
            self.number += 1;
        }
        Ok(())
    }
}

/// The output with what left at a node.
fn file_name(node: &str) -> String {
    plain_name(&format!("{}.jsonl", node.replace('/', "_")))
}

async fn open(app: &App, file: Option<&File>, node: &str) -> Result<Option<Reading>, String> {
    let Some(file) = file else { return Ok(None) };
    let content = app.0.store.content(file, 0..file.size).await;
    let content = content.map_err(|error| format!("an output cannot be read: {error}"))?;
    Ok(Some(Reading {
        node: node.to_owned(),
        content,
        line: Vec::new(),
        number: 0,
    }))
}

/// How it ended.
fn ended(task: &Task, base: &BaseUrl, nodes: &BTreeMap<String, Node>) -> Value {
    let items: BTreeMap<&str, u64> = nodes
        .iter()
        .map(|(name, node)| (name.as_str(), node.next))
        .collect();
    let at = task.log.len().saturating_sub(MAX_LOG);
    json!({
        "state": task.state, "status": task.state.status(), "items": items,
        "href": base.url(&format!("/tasks/{}/", task.id)),
        "log": &task.log[task.log.ceil_char_boundary(at)..],
    })
}

impl Drop for Leaving {
    /// A client that goes away ends its pipeline, unless it may come back.
    fn drop(&mut self) {
        if self.is_kept || !matches!(self.phase, Phase::Live) {
            return;
        }
        let (app, task) = (self.app.clone(), self.task);
        tokio::spawn(async move {
            match app.0.store.cancel_task(task).await {
                Ok(Some(ended)) => app.0.queue.tasks_ended(&ended, &app.0.events),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(
                        task,
                        "the pipeline of a client that is gone goes on: {error}"
                    );
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_known_are_passed_over_however_they_are_cut() {
        let text = b"1\n\"two\"\n[3]\n";
        for cut in 0..text.len() {
            let mut reading = Reading {
                node: "n".to_owned(),
                content: stream::empty::<std::io::Result<Bytes>>().boxed(),
                line: Vec::new(),
                number: 0,
            };
            let mut node = Node {
                next: 1,
                is_behind: false,
            };
            let mut ready = VecDeque::new();
            let (one, other) = text.split_at(cut);
            reading.take(one, &mut node, true, &mut ready).unwrap();
            reading.take(other, &mut node, true, &mut ready).unwrap();
            let told = ready.pop_front();
            assert_eq!(told, Some(("behind", json!({"node": "n", "number": 1}))));
            let values: Vec<_> = ready
                .iter()
                .map(|(_, data)| data["value"].clone())
                .collect();
            assert_eq!(values, [json!("two"), json!([3])], "{cut}");
            assert_eq!(node.next, 3);
        }
    }

    #[test]
    fn records_are_lines_or_events() {
        let lines = Form::accepted("*/*").write("item", json!({"value": 1}));
        assert_eq!(&*lines, b"{\"value\":1,\"event\":\"item\"}\n");
        let events = Form::accepted("text/event-stream").write("item", json!({"value": 1}));
        assert_eq!(&*events, b"event: item\ndata: {\"value\":1}\n\n");
    }
}
