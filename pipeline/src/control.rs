//! A run from outside: hold it, let it go, end it, look at it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::item::Item;
use crate::sight::{Counts, EdgeSight, NodeSight};

/// Over which time rates are told at least.
const WINDOW: Duration = Duration::from_millis(200);

/// There is no such node or edge in the run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {0}; there are {1}")]
pub struct Unknown(pub String, pub String);

/// An edge, seen.
#[derive(Debug)]
pub(crate) struct EdgeView {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) bound: usize,
    pub(crate) is_fused: bool,
    pub(crate) sight: Arc<EdgeSight>,
}

#[derive(Debug)]
struct Shared {
    is_paused: AtomicBool,
    is_draining: AtomicBool,
    changes: watch::Sender<()>,
    cancel: CancellationToken,
    nodes: Vec<(String, Arc<NodeSight>)>,
    edges: Vec<EdgeView>,
    begun: Instant,
    last: Mutex<Last>,
}

/// Numbers of a moment, from which rates are told, and the rates.
#[derive(Debug)]
struct Last {
    at: Instant,
    sent: Vec<u64>,
    rates: Vec<f64>,
}

/// The handle of a run. Copies are handles of the same run.
#[derive(Debug, Clone)]
pub struct Control(Arc<Shared>);

impl Control {
    pub(crate) fn new(nodes: Vec<(String, Arc<NodeSight>)>, edges: Vec<EdgeView>) -> Self {
        let count = nodes.len() + edges.len();
        Self(Arc::new(Shared {
            is_paused: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            changes: watch::Sender::new(()),
            cancel: CancellationToken::new(),
            nodes,
            edges,
            begun: Instant::now(),
            last: Mutex::new(Last {
                at: Instant::now(),
                sent: vec![0; count],
                rates: vec![0.0; count],
            }),
        }))
    }

    /// Holds all nodes; what is in progress in a call ends, and nothing new begins.
    pub fn pause(&self) {
        self.0.is_paused.store(true, Relaxed);
        self.0.changes.send_replace(());
    }

    /// Lets them go on, but for those that are held themselves.
    pub fn resume(&self) {
        self.0.is_paused.store(false, Relaxed);
        self.0.changes.send_replace(());
    }

    /// Holds one node; what comes before it fills its edges and waits.
    ///
    /// # Errors
    /// There is no such node.
    pub fn pause_node(&self, name: &str) -> Result<(), Unknown> {
        self.set_node(name, true)
    }

    /// Lets one node go on.
    ///
    /// # Errors
    /// There is no such node.
    pub fn resume_node(&self, name: &str) -> Result<(), Unknown> {
        self.set_node(name, false)
    }

    fn set_node(&self, name: &str, is_paused: bool) -> Result<(), Unknown> {
        let Some((_, node)) = self.0.nodes.iter().find(|(known, _)| known == name) else {
            let names: Vec<_> = self.0.nodes.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Unknown(format!("node {name:?}"), names.join(", ")));
        };
        node.is_paused.store(is_paused, Relaxed);
        self.0.changes.send_replace(());
        Ok(())
    }

    /// Sources end now; what is on its way goes on to the end.
    pub fn drain(&self) {
        self.0.is_draining.store(true, Relaxed);
        self.0.changes.send_replace(());
    }

    /// Ends all nodes where they are.
    pub fn cancel(&self) {
        self.0.cancel.cancel();
    }

    /// Samples of what passes on an edge, named as in [`Seen`]. Who reads them slowly sees fewer.
    ///
    /// # Errors
    /// There is no such edge.
    pub fn tap(&self, from: &str, to: &str) -> Result<mpsc::Receiver<Item>, Unknown> {
        let edge = self
            .0
            .edges
            .iter()
            .find(|edge| edge.from == from && edge.to == to);
        edge.map(|edge| edge.sight.tap()).ok_or_else(|| {
            let edges = self.0.edges.iter();
            let names: Vec<_> = edges
                .map(|edge| format!("{} -> {}", edge.from, edge.to))
                .collect();
            Unknown(format!("edge {from} -> {to}"), names.join(", "))
        })
    }

    /// The run as it is now.
    pub fn look(&self) -> Seen {
        let (nodes, edges) = (&self.0.nodes, &self.0.edges);
        let counts: Vec<Counts> = nodes.iter().map(|(_, node)| node.counts()).collect();
        let sent = counts.iter().map(|counts| counts.sent);
        let rates = self.rates(
            sent.chain(edges.iter().map(|edge| edge.sight.sent()))
                .collect(),
        );
        let seen = nodes.iter().zip(counts).zip(&rates);
        Seen {
            seconds: self.0.begun.elapsed().as_secs_f64(),
            is_paused: self.0.is_paused.load(Relaxed),
            is_draining: self.is_draining(),
            nodes: seen
                .map(|(((name, _), counts), rate)| SeenNode {
                    name: name.clone(),
                    counts,
                    rate: *rate,
                })
                .collect(),
            edges: edges
                .iter()
                .zip(&rates[nodes.len()..])
                .map(|(edge, rate)| SeenEdge {
                    from: edge.from.clone(),
                    to: edge.to.clone(),
                    bound: edge.bound,
                    fill: edge.sight.fill(),
                    sent: edge.sight.sent(),
                    rate: *rate,
                    is_fused: edge.is_fused,
                })
                .collect(),
        }
    }

    /// Items a second since the last look that was long enough ago.
    fn rates(&self, sent: Vec<u64>) -> Vec<f64> {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = last.at.elapsed();
        if elapsed >= WINDOW {
            let pairs = sent.iter().zip(&last.sent);
            let rate = |(now, then): (&u64, &u64)| (now - then) as f64 / elapsed.as_secs_f64();
            last.rates = pairs.map(rate).collect();
            last.sent = sent;
            last.at = Instant::now();
        }
        last.rates.clone()
    }

    pub(crate) fn is_held(&self, node: &NodeSight) -> bool {
        self.0.is_paused.load(Relaxed) || node.is_paused.load(Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Relaxed)
    }

    pub(crate) fn cancelled(&self) -> CancellationToken {
        self.0.cancel.clone()
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch {
            changes: self.0.changes.subscribe(),
            waiting: None,
        }
    }
}

/// Tells a task when something was paused, resumed or drained.
pub(crate) struct Watch {
    changes: watch::Receiver<()>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Watch {
    /// Ready when something has changed since it was ready last.
    pub(crate) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let changes = &mut self.changes;
        let waiting = self.waiting.get_or_insert_with(|| {
            let mut copy = changes.clone();
            Box::pin(async move {
                let _ = copy.changed().await;
            })
        });
        let ready = waiting.as_mut().poll(cx);
        if ready.is_ready() {
            self.changes.mark_unchanged();
            self.waiting = None;
        }
        ready
    }

    /// Waits for it.
    pub(crate) async fn changed(&mut self) {
        std::future::poll_fn(|cx| self.poll_changed(cx)).await;
    }
}

/// A run at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Seconds since it began.
    pub seconds: f64,
    /// Whether all of it is held.
    pub is_paused: bool,
    /// Whether its sources were ended.
    pub is_draining: bool,
    /// Its nodes.
    pub nodes: Vec<SeenNode>,
    /// Its edges.
    pub edges: Vec<SeenEdge>,
}

/// A node at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeenNode {
    /// Its name.
    pub name: String,
    /// What it has done.
    #[serde(flatten)]
    pub counts: Counts,
    /// Items that it sends in a second.
    pub rate: f64,
}

/// An edge at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenEdge {
    /// Where it begins: `NODE` or `NODE.errors`.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// Items that it holds at most.
    pub bound: usize,
    /// Items that it holds.
    pub fill: usize,
    /// Items that were sent on it.
    pub sent: u64,
    /// Items that are sent on it in a second.
    pub rate: f64,
    /// Whether both nodes are run by one task, so that items only change hands.
    pub is_fused: bool,
}
