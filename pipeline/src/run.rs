//! All nodes of a graph, each in a task of its own, to their end.

use std::collections::HashMap;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::edge::edge;
use crate::graph::Graph;
use crate::node::{Node, NodeError, Ports};

/// What a node has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items, or tuples of items, that it took.
    pub received: u64,
    /// Items that it sent, each counted once however many read it.
    pub sent: u64,
    /// Items that found no partner in a zip.
    pub unpaired: u64,
}

/// What a run has done: counts by the names of nodes.
pub type Report = HashMap<String, Counts>;

/// Why a run did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A node of the graph was not given.
    #[error("node {0:?} is in the graph, but was not given")]
    Missing(String),
    /// A node was given that is not in the graph.
    #[error("node {0:?} was given, but is not in the graph")]
    Unknown(String),
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

/// How a node came to its end.
enum End {
    Done(Counts),
    Cancelled,
    Error(NodeError),
}

/// Runs a graph until all nodes are done. The first failure, or the token, stops all nodes where
/// they wait; when this returns, or is dropped, none is running any more.
pub async fn run(
    graph: &Graph,
    mut nodes: HashMap<String, Box<dyn Node>>,
    cancel: CancellationToken,
) -> Result<Report, RunError> {
    let mut inputs: HashMap<&str, Vec<_>> = HashMap::new();
    let mut outputs: HashMap<&str, Vec<_>> = HashMap::new();
    for (from, to, bound) in graph.edges() {
        let (sender, receiver) = edge(bound);
        outputs.entry(&from.name).or_default().push(sender);
        inputs.entry(&to.name).or_default().push(receiver);
    }
    let mut ready = Vec::new();
    for spec in graph.order() {
        let name = spec.name.as_str();
        let node = nodes
            .remove(name)
            .ok_or_else(|| RunError::Missing(name.to_owned()))?;
        let inputs = inputs.remove(name).unwrap_or_default();
        let outputs = outputs.remove(name).unwrap_or_default();
        ready.push((name, node, Ports::new(inputs, outputs, spec.join)));
    }
    if let Some(name) = nodes.into_keys().next() {
        return Err(RunError::Unknown(name));
    }

    let stop = cancel.child_token();
    let mut tasks = JoinSet::new();
    let mut names = HashMap::new();
    for (name, node, ports) in ready {
        let task = tasks.spawn(drive(node, ports, stop.clone()));
        names.insert(task.id(), name);
    }
    let mut report = Report::new();
    let mut failure: Option<RunError> = None;
    let mut cancelled = false;
    let mut broken = None;
    while let Some(joined) = tasks.join_next_with_id().await {
        let (id, end) = match joined {
            Ok((id, end)) => (id, end),
            Err(error) => (error.id(), End::Error(NodeError::Failed(panic_text(error)))),
        };
        let node = names
            .get(&id)
            .map_or_else(String::new, |name| (*name).to_owned());
        match end {
            End::Done(counts) => drop(report.insert(node, counts)),
            End::Cancelled => cancelled = true,
            // The consequence of another node's failure, which is, or will be, told itself.
            End::Error(error @ NodeError::Broken) => {
                broken.get_or_insert(RunError::Failed {
                    node,
                    reason: error.to_string(),
                });
                stop.cancel();
            }
            End::Error(error) => {
                failure.get_or_insert(RunError::Failed {
                    node,
                    reason: error.to_string(),
                });
                stop.cancel();
            }
        }
    }
    match failure.or(broken) {
        Some(failure) => Err(failure),
        None if cancelled => Err(RunError::Cancelled),
        None => Ok(report),
    }
}

/// Runs a node to its end and ends its outputs.
async fn drive(mut node: Box<dyn Node>, mut ports: Ports, stop: CancellationToken) -> End {
    let work = async {
        match node.run(&mut ports).await {
            Ok(()) | Err(NodeError::Unread) => {}
            Err(error) => return End::Error(error),
        }
        ports.end().await;
        End::Done(ports.counts)
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => End::Cancelled,
        end = work => end,
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

#[cfg(test)]
mod tests;
