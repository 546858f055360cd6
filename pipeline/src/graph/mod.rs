//! The graph of a pipeline: read from a document, checked, in order.
//!
//! Two shapes are read, ours and that of the asyncio pipelines:
//! ```json
//! {"nodes": {"a": {"use": "source", "with": {"lines": "words.txt"}},
//!            "b": {"use": "map", "with": "item | upper", "from": "a"},
//!            "c": {"use": "sink", "with": "output", "from": "b"}}}
//! {"nodes": {"a": {"coro": "source", "args": [[1, 2]], "properties": {}}, "b": {"coro": "merge"}},
//!  "graph": {"a": ["b"], "b": null}}
//! ```

mod error;
mod fields;
mod order;
mod read;
mod show;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

pub use error::{GraphError, GraphProblem};
pub use show::{Arrow, Picture, Point};

/// Nodes that a graph has at most.
pub const MAX_NODES: usize = 10_000;

/// Edges that a graph has at most.
pub const MAX_EDGES: usize = 100_000;

/// Items that an edge holds, unless it says otherwise.
pub const DEFAULT_BOUND: usize = 64;

/// Items that an edge may hold at most.
pub const MAX_BOUND: u64 = 1 << 20;

/// How a node with several inputs takes its items.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Join {
    /// One of each, of one origin.
    #[default]
    Zip,
    /// From any, as they come.
    Any,
    /// One of each for which this expression has the same value.
    Key(String),
}

/// What becomes of an item that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// It is counted and left out.
    Skip,
    /// It goes to the edges from `NODE.errors`.
    Edge,
}

/// Attempts at an item that failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// All attempts, the first included.
    pub attempts: u32,
    /// How long the second one waits.
    pub backoff: Duration,
    /// By what the wait grows with each.
    pub factor: f64,
    /// How long any waits at most.
    pub most: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Duration::from_millis(100),
            factor: 2.0,
            most: Duration::from_secs(30),
        }
    }
}

/// How a node is to work.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Calls that are made at a time.
    pub concurrency: usize,
    /// Items that go into one call at most; if it is not given, as the node likes it.
    pub batch: Option<usize>,
    /// Attempts.
    pub retry: Retry,
    /// How long an attempt may take.
    pub timeout: Option<Duration>,
    /// Items for each second at most.
    pub rate: Option<f64>,
    /// Only items for which this expression is true are worked on; others go on as they are.
    pub when: Option<String>,
    /// Results that are remembered; none if zero.
    pub cache: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            concurrency: 1,
            batch: None,
            retry: Retry::default(),
            timeout: None,
            rate: None,
            when: None,
            cache: 0,
        }
    }
}

/// A node as it is described.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSpec {
    /// Its name in the graph.
    pub name: String,
    /// What it runs: something built in, or a plugin.
    pub uses: String,
    /// What it is given: an object, or the one argument that matters.
    pub with: Value,
    /// How it takes its items.
    pub join: Join,
    /// Whether items leave it in the order in which they came.
    pub is_ordered: bool,
    /// What becomes of items that fail.
    pub on_error: OnError,
    /// How it is to work.
    pub policy: Policy,
}

impl NodeSpec {
    /// Its place in the document.
    pub fn place(&self) -> String {
        format!("nodes.{}", self.name)
    }
}

/// Which of a node's items an edge carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// What it makes.
    Main,
    /// What failed.
    Errors,
}

/// An edge; nodes are numbers in [`Graph::nodes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeSpec {
    /// Where it begins.
    pub from: usize,
    /// With which items.
    pub port: Port,
    /// Where it ends.
    pub to: usize,
    /// Items that it holds.
    pub bound: usize,
}

/// A graph without cycles, in which every node is connected.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// What it is called.
    pub name: Option<String>,
    /// Its version, of which the plugin is known.
    pub version: Option<String>,
    /// Shown to people.
    pub title: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its parameters.
    pub parameters: Value,
    nodes: Vec<NodeSpec>,
    edges: Vec<EdgeSpec>,
    order: Vec<usize>,
    /// Nodes without successors send their items out, as the seed's do.
    pub(crate) leaves_are_outputs: bool,
}

impl Graph {
    /// Reads a graph in either shape and checks it.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn from_json(json: &Value) -> Result<Self, GraphError> {
        read::read(json)
    }

    /// The nodes, in the order of the document.
    pub fn nodes(&self) -> &[NodeSpec] {
        &self.nodes
    }

    /// The edges, in the order of the document: that of the inputs of a join.
    pub fn edges(&self) -> &[EdgeSpec] {
        &self.edges
    }

    /// Numbers of all nodes, each after those from which it gets its items.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The edges that lead to a node.
    pub fn inputs(&self, node: usize) -> impl Iterator<Item = (usize, &EdgeSpec)> {
        let edges = self.edges.iter().enumerate();
        edges.filter(move |(_, edge)| edge.to == node)
    }

    /// An edge as people write it.
    pub fn edge_name(&self, edge: &EdgeSpec) -> String {
        let port = match edge.port {
            Port::Main => "",
            Port::Errors => ".errors",
        };
        format!(
            "{}{port} -> {}",
            self.nodes[edge.from].name, self.nodes[edge.to].name
        )
    }
}
