//! All tasks of a run to their end.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use serde::Serialize;
use serde_json::Value;
use tokio::task::{JoinError, JoinSet};

use crate::control::{Control, Seen};
use crate::edge::{Received, Receiver};
use crate::item::Lineage;

/// Items that are taken from an edge to the outside at a time.
const TAKEN: usize = 256;

/// Why a run did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A node failed; all others were stopped.
    #[error("node {node:?} failed: {reason}")]
    Failed {
        /// Its name.
        node: String,
        /// Why.
        reason: String,
    },
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Why a task ended early.
#[derive(Debug)]
pub(crate) enum UnitError {
    /// A node failed.
    Failed { node: String, reason: String },
    /// The input of this node broke off, since another task failed, which tells why.
    Broken(String),
}

impl UnitError {
    pub(crate) fn failed(node: &str, lineage: Option<&Lineage>, reason: String) -> Self {
        Self::Failed {
            node: node.to_owned(),
            reason: match lineage {
                Some(lineage) => format!("item {lineage}: {reason}"),
                None => reason,
            },
        }
    }
}

/// A task: the nodes in it, and its work.
pub(crate) struct Unit {
    pub(crate) nodes: String,
    pub(crate) work: Pin<Box<dyn Future<Output = Result<(), UnitError>> + Send>>,
}

/// A run in progress. Dropped, it is over: no node works any more.
#[derive(Debug)]
pub struct Run {
    control: Control,
    tasks: JoinSet<Result<(), UnitError>>,
    names: HashMap<tokio::task::Id, String>,
}

impl Run {
    pub(crate) fn start(control: Control, units: Vec<Unit>) -> Self {
        let mut tasks = JoinSet::new();
        let mut names = HashMap::new();
        for Unit { nodes, work } in units {
            names.insert(tasks.spawn(work).id(), nodes);
        }
        Self {
            control,
            tasks,
            names,
        }
    }

    /// The handle by which it is held, ended and looked at.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits until all nodes have ended. The first failure ends them all. What is made must be
    /// read meanwhile, or a run whose edges are full waits for ever.
    ///
    /// # Errors
    /// A node failed, or the run was cancelled.
    pub async fn wait(mut self) -> Result<Seen, RunError> {
        let cancel = self.control.cancelled();
        let mut failure: Option<RunError> = None;
        let mut broken = None;
        loop {
            let joined = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                joined = self.tasks.join_next_with_id() => joined,
            };
            let error = match joined {
                None => break,
                Some(Ok((_, Ok(())))) => continue,
                Some(Ok((_, Err(UnitError::Failed { node, reason })))) => {
                    failure.get_or_insert(RunError::Failed { node, reason });
                    break;
                }
                // The consequence of another failure, which is told itself.
                Some(Ok((_, Err(UnitError::Broken(node))))) => {
                    let reason = "an input broke off".to_owned();
                    broken.get_or_insert(RunError::Failed { node, reason });
                    continue;
                }
                Some(Err(error)) => error,
            };
            let node = self.names.get(&error.id()).cloned().unwrap_or_default();
            let reason = panic_text(error);
            failure.get_or_insert(RunError::Failed { node, reason });
            break;
        }
        self.tasks.shutdown().await;
        match failure.or(broken) {
            Some(failure) => Err(failure),
            None if cancel.is_cancelled() => Err(RunError::Cancelled),
            None => Ok(self.control.look()),
        }
    }
}

/// What a panic said.
fn panic_text(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "its task was aborted".to_owned();
    };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "it panicked: {}",
        text.unwrap_or_else(|| "without a text".to_owned())
    )
}

/// What a run has made: an item of a sink with `output`, or of a leaf of the seed's shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Made {
    /// The name of the node.
    #[serde(serialize_with = "as_text")]
    pub node: Arc<str>,
    /// Where the item comes from.
    pub lineage: Lineage,
    /// The item.
    pub value: Value,
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// What a run makes, as it comes. Who reads slowly holds the run back.
#[derive(Debug)]
pub struct Outputs {
    edges: Vec<(Arc<str>, Option<Receiver>)>,
    taken: VecDeque<crate::item::Item>,
    /// From which edge the items in `taken` are.
    from: usize,
}

impl Outputs {
    pub(crate) fn new(edges: Vec<(String, Receiver)>) -> Self {
        let edges = edges
            .into_iter()
            .map(|(name, edge)| (name.into(), Some(edge)));
        Self {
            edges: edges.collect(),
            taken: VecDeque::new(),
            from: 0,
        }
    }

    /// The next, or `None` after the last. It is also `None` when the run failed, which
    /// [`Run::wait`] tells.
    pub async fn next(&mut self) -> Option<Made> {
        loop {
            while let Some(item) = self.taken.pop_front() {
                let node = self.edges.get(self.from).map(|(name, _)| Arc::clone(name));
                if let (Some(value), Some(node)) = (item.value, node) {
                    let lineage = item.lineage;
                    return Some(Made {
                        node,
                        lineage,
                        value,
                    });
                }
            }
            std::future::poll_fn(|cx| {
                let count = self.edges.len();
                let mut all_ended = true;
                for i in 1..=count {
                    let number = (self.from + i) % count;
                    let Some(edge) = &mut self.edges[number].1 else {
                        continue;
                    };
                    match edge.poll_take(cx, TAKEN, &mut self.taken) {
                        Poll::Pending => all_ended = false,
                        Poll::Ready(Ok(Received::Items(_))) => {
                            self.from = number;
                            return Poll::Ready(Some(()));
                        }
                        Poll::Ready(Ok(Received::End) | Err(_)) => self.edges[number].1 = None,
                    }
                }
                match all_ended {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                }
            })
            .await?;
        }
    }
}
