//! A run from outside: what is seen of it is told, what is wanted of it is followed, what passes is shown.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runner_core::pipeline::{TAP_LEASE_MS, Wanted};
use runner_host::hosted::Calls;
use runner_pipeline::{Control, Graph, Item};
use runner_sdk::HostCalls;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::MissedTickBehavior;

/// How often what is seen is told; less often for graphs of more nodes than [`SMALL`].
const PACE: Duration = Duration::from_millis(250);
/// The same for large graphs.
const SLOW_PACE: Duration = Duration::from_secs(1);
/// Nodes of a graph that is not large.
const SMALL: usize = 200;
/// Bytes of a message about nodes and edges; beyond, the last ones are left out, and that is said.
const MAX_TOLD: usize = 256 << 10;
/// How often samples of an edge are shown.
const SAMPLES: Duration = Duration::from_millis(100);
/// Bytes of a sample at most; of a larger item the size is shown.
const MAX_SAMPLE: usize = 16 << 10;

/// Tells and follows until it is dropped.
pub(crate) struct Live {
    control: Control,
    calls: Arc<Calls>,
    task: Value,
    has_ended: Arc<AtomicBool>,
    telling: tokio::task::JoinHandle<()>,
}

impl Live {
    /// Begins, within a runtime.
    pub(crate) fn begin(
        control: Control,
        graph: &Graph,
        params: &Value,
        calls: &Arc<Calls>,
    ) -> Self {
        let (task, calls) = (params["task"].clone(), Arc::clone(calls));
        let picture = bounded(&graph.picture());
        let seen = bounded(&control.look());
        calls.notify(
            "pipeline",
            json!({"task": task, "graph": picture, "seen": seen}),
        );
        let has_ended = Arc::new(AtomicBool::new(false));
        let follower = Follower {
            control: control.clone(),
            calls: Arc::clone(&calls),
            task: task.clone(),
            run: params["run"].as_i64().unwrap_or_default(),
            has_ended: Arc::clone(&has_ended),
            taps: HashMap::new(),
            runtime: tokio::runtime::Handle::current(),
        };
        // Its requests block; the last of them is forgotten at the end of the run.
        std::thread::spawn(move || follower.follow());
        let pace = match graph.nodes().len() <= SMALL {
            true => PACE,
            false => SLOW_PACE,
        };
        let telling = tokio::spawn(tell(
            control.clone(),
            Arc::clone(&calls),
            task.clone(),
            pace,
        ));
        Self {
            control,
            calls,
            task,
            has_ended,
            telling,
        }
    }

    /// Tells how it ended.
    pub(crate) fn end(self) {
        self.telling.abort();
        self.has_ended.store(true, Ordering::Relaxed);
        tell_once(&self.control, &self.calls, &self.task);
        self.calls.forget_requests();
    }
}

async fn tell(control: Control, calls: Arc<Calls>, task: Value, pace: Duration) {
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell_once(&control, &calls, &task);
    }
}

fn tell_once(control: &Control, calls: &Calls, task: &Value) {
    let seen = bounded(&control.look());
    calls.notify("pipeline", json!({"task": task, "seen": seen}));
}

/// Something with nodes and edges, as many as there is room for.
fn bounded(shown: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(shown).unwrap_or_default();
    let count = |value: &Value, key: &str| value[key].as_array().map_or(0, Vec::len);
    let all = count(&value, "nodes") + count(&value, "edges");
    while value.to_string().len() > MAX_TOLD {
        for key in ["nodes", "edges"] {
            if let Some(list) = value[key].as_array_mut() {
                list.truncate(list.len() / 2);
            }
        }
        let left = count(&value, "nodes") + count(&value, "edges");
        value["omitted"] = json!(all - left);
        if left == 0 {
            break;
        }
    }
    value
}

/// Follows what is wanted of a run.
struct Follower {
    control: Control,
    calls: Arc<Calls>,
    task: Value,
    run: i64,
    has_ended: Arc<AtomicBool>,
    /// Until when each edge is tapped, by its name: the wish, and what of it is known to the tap.
    taps: HashMap<String, (i64, Arc<Mutex<Instant>>)>,
    runtime: tokio::runtime::Handle,
}

impl Follower {
    fn follow(mut self) {
        let mut known = Wanted::default();
        while !self.has_ended.load(Ordering::Relaxed) {
            let params = json!({"task": self.task, "version": known.version});
            // A runner that does not answer it wants nothing.
            let Ok(answer) = self.calls.request("wanted", params) else {
                return;
            };
            let Ok(wanted) = serde_json::from_value::<Wanted>(answer) else {
                return;
            };
            self.apply(&known, &wanted);
            known = wanted;
        }
    }

    fn apply(&mut self, known: &Wanted, wanted: &Wanted) {
        // Nodes that are not there are refused by who hears the wish.
        for node in wanted.paused_nodes.difference(&known.paused_nodes) {
            let _ = self.control.pause_node(node);
        }
        for node in known.paused_nodes.difference(&wanted.paused_nodes) {
            let _ = self.control.resume_node(node);
        }
        match (known.is_paused, wanted.is_paused) {
            (false, true) => self.control.pause(),
            (true, false) => self.control.resume(),
            _ => {}
        }
        if wanted.drained_run == Some(self.run) {
            self.control.drain();
        }
        for (edge, until) in &wanted.taps {
            self.tap(edge, *until);
        }
        self.taps.retain(|edge, _| wanted.taps.contains_key(edge));
        tell_once(&self.control, &self.calls, &self.task);
    }

    /// Taps an edge, or goes on with it. The clock of whoever wishes may be another one: what counts here is that it
    /// wishes again.
    fn tap(&mut self, edge: &str, until: i64) {
        let lease = Duration::from_millis(TAP_LEASE_MS.unsigned_abs());
        let end = Instant::now() + lease;
        if let Some((wished, ends)) = self.taps.get_mut(edge) {
            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
            // One that has ended is begun again.
            if *ends > Instant::now() {
                if *wished != until {
                    *wished = until;
                    *ends = end;
                }
                return;
            }
        }
        let Some((from, to)) = edge.split_once("->") else {
            return;
        };
        let Ok(samples) = self.control.tap(from, to) else {
            return;
        };
        let ends = Arc::new(Mutex::new(end));
        self.taps
            .insert(edge.to_owned(), (until, Arc::clone(&ends)));
        self.runtime.spawn(show(
            samples,
            ends,
            edge.to_owned(),
            Arc::clone(&self.calls),
            self.task.clone(),
        ));
    }
}

/// Shows samples of an edge until nobody wants them any more.
async fn show(
    mut samples: Receiver<Item>,
    ends: Arc<Mutex<Instant>>,
    edge: String,
    calls: Arc<Calls>,
    task: Value,
) {
    let mut ticks = tokio::time::interval(SAMPLES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if *ends.lock().unwrap_or_else(PoisonError::into_inner) < Instant::now() {
            return;
        }
        let mut items = Vec::new();
        let mut size = 0;
        let is_over = loop {
            match samples.try_recv() {
                Ok(item) => {
                    let sample = sample(&item);
                    size += sample.to_string().len();
                    items.push(sample);
                    if size > MAX_TOLD / 2 {
                        break false;
                    }
                }
                Err(error) => break error == TryRecvError::Disconnected,
            }
        };
        if !items.is_empty() {
            calls.notify(
                "items",
                json!({"task": task, "tap": {"edge": edge}, "items": items}),
            );
        }
        if is_over {
            return;
        }
    }
}

fn sample(item: &Item) -> Value {
    let text = item
        .value
        .as_ref()
        .map(Value::to_string)
        .unwrap_or_default();
    match text.len() > MAX_SAMPLE {
        true => json!({"lineage": item.lineage, "size": text.len()}),
        false => json!({"lineage": item.lineage, "value": item.value}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_large_graphs_is_bounded_and_says_so() {
        let node = json!({"name": "x".repeat(100)});
        let shown = bounded(&json!({"nodes": vec![node; 10_000], "edges": []}));
        assert!(shown.to_string().len() <= MAX_TOLD);
        let nodes = shown["nodes"].as_array().unwrap().len() as u64;
        assert_eq!(shown["omitted"].as_u64().unwrap() + nodes, 10_000);
        let small = json!({"nodes": [1], "edges": [2]});
        assert_eq!(bounded(&small), small);
    }
}
