//! Pipelines that run here: what is seen of them is written, what is wanted of them is told to them, and what passes is
//! shown to who follows.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use metrics::{counter, describe_counter};
use runner_core::pipeline::GIVEN;
use runner_core::task::Task;
use runner_host::Provided;
use runner_host::protocol::{ItemsNote, PipelineNote, WantedAfter};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::Shared;

/// How often what is seen of a run is written, at most.
const PACE: Duration = Duration::from_millis(200);
/// What is wanted is looked for after this, also if nobody said that it changed.
const LOOK: Duration = Duration::from_millis(800);
/// The loader whose modules may tell what is seen of a pipeline.
const LOADER: &str = "pipeline";

/// A pipeline that runs.
pub(crate) struct PipelineRun {
    shared: Arc<Shared>,
    task: i64,
    run: i64,
    /// The label of its numbers.
    plugin: String,
    heard: Mutex<Heard>,
    has_heard: Notify,
}

/// What was told and is not written.
#[derive(Default)]
struct Heard {
    graph: Option<Value>,
    seen: Option<Value>,
    counted: Counted,
}

/// What all nodes have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    sent: u64,
    failed: u64,
    retried: u64,
}

impl PipelineRun {
    /// `None`: the module runs no pipelines.
    pub(crate) fn new(shared: &Arc<Shared>, task: &Task, provided: &Provided) -> Option<Arc<Self>> {
        if provided.module.status().loader != LOADER {
            return None;
        }
        describe_counter!(
            "runner_pipeline_items_total",
            "Items of pipelines that nodes sent, that failed there for good, or were tried again."
        );
        Some(Arc::new(Self {
            shared: Arc::clone(shared),
            task: task.id,
            run: task.run,
            plugin: shared.meters.label(&task.plugin),
            heard: Mutex::default(),
            has_heard: Notify::new(),
        }))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen of it by now.
    pub(crate) fn tell(&self, note: PipelineNote) {
        let mut heard = self.heard();
        let counted = Counted::of(&note.seen);
        counted.count(&heard.counted, &self.plugin);
        heard.counted = counted;
        heard.graph = note.graph.or(heard.graph.take());
        heard.seen = Some(note.seen);
        drop(heard);
        self.has_heard.notify_one();
    }

    /// What passes, for who follows.
    pub(crate) fn show(&self, note: &ItemsNote) {
        let mut message = json!(note);
        message["run"] = json!(self.run);
        let message = message.to_string().into_bytes();
        self.shared.tools.queue.show(self.task, message);
    }

    /// Writes what is seen, until it is dropped.
    pub(crate) async fn keep(&self) -> Infallible {
        loop {
            self.has_heard.notified().await;
            self.write().await;
            tokio::time::sleep(PACE).await;
        }
    }

    /// Writes what was told last, if that was not written.
    pub(crate) async fn write(&self) {
        // The graph is told once: it stays until it is written, also when this is given up.
        let (graph, seen) = {
            let mut heard = self.heard();
            (heard.graph.clone(), heard.seen.take())
        };
        let Some(seen) = seen else { return };
        let tools = &self.shared.tools;
        let written = tools
            .store
            .write_pipeline(self.task, self.run, graph.as_ref(), &seen)
            .await;
        match written {
            Ok(_) => {
                self.heard().graph = None;
                tools.events.changed(self.task);
            }
            // The next look has the numbers again.
            Err(error) => tracing::warn!(
                task = self.task,
                "what is seen of a pipeline is not written: {error}"
            ),
        }
    }

    /// What is wanted of it, as soon as that is news.
    pub(crate) fn wanted(
        self: Arc<Self>,
        known: WantedAfter,
    ) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async move {
            let tools = &self.shared.tools;
            let mut watch = tools.events.watch(self.task);
            loop {
                match tools.store.pipeline(self.task).await {
                    Ok(Some(row)) if row.wanted.version > known.version => {
                        return Ok(json!(row.wanted));
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(
                        task = self.task,
                        "what is wanted of a pipeline cannot be read: {error}"
                    ),
                }
                let _ = tokio::time::timeout(LOOK, watch.changed()).await;
            }
        })
    }
}

impl Counted {
    fn of(seen: &Value) -> Self {
        let nodes = || seen["nodes"].as_array().into_iter().flatten();
        let sum = |key: &str| nodes().filter_map(|node| node[key].as_u64()).sum();
        Self {
            sent: sum("sent"),
            failed: sum("failed"),
            retried: sum("retried"),
        }
    }

    fn count(&self, before: &Self, plugin: &str) {
        let counts = [
            ("sent", self.sent, before.sent),
            ("failed", self.failed, before.failed),
            ("retried", self.retried, before.retried),
        ];
        for (outcome, now, then) in counts {
            let labels = [
                ("plugin", plugin.to_owned()),
                ("outcome", outcome.to_owned()),
            ];
            counter!("runner_pipeline_items_total", &labels).increment(now.saturating_sub(then));
        }
    }
}

/// Whether a task is a pipeline that came with its request.
pub(crate) fn is_given(task: &Task) -> bool {
    task.plugin == GIVEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted_together() {
        let seen =
            json!({"nodes": [{"sent": 3, "failed": 1, "retried": 0}, {"sent": 4}], "edges": []});
        let want = Counted {
            sent: 7,
            failed: 1,
            retried: 0,
        };
        assert_eq!(Counted::of(&seen), want);
        assert_eq!(Counted::of(&json!(7)), Counted::default());
    }
}
