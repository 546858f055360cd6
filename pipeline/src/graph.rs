//! The graph of a pipeline: read from JSON, checked, in order.
//!
//! Two shapes are read, ours and that of the asyncio pipelines:
//! ```json
//! {"nodes": {"a": {"use": "lines", "with": {}}, "b": {"use": "print", "join": "any"}},
//!  "edges": [["a", "b"], {"from": "a", "to": "b", "bound": 16}]}
//! {"nodes": {"a": {"coro": "read", "args": [], "properties": {}}}, "graph": {"a": ["b"], "b": null}}
//! ```

use std::collections::VecDeque;
use std::fmt;

use petgraph::Direction;
use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use serde_json::{Map, Value};

/// Nodes that a graph has at most.
pub const MAX_NODES: usize = 10_000;

/// Edges that a graph has at most.
pub const MAX_EDGES: usize = 100_000;

/// Items that an edge holds, unless it says otherwise.
pub const DEFAULT_BOUND: usize = 64;

/// Items that an edge may hold at most.
const MAX_BOUND: u64 = 1 << 20;

/// How a node with several inputs takes its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Join {
    /// One of each, of one origin.
    #[default]
    Zip,
    /// From any, as they come.
    Any,
}

/// A node as it is described.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSpec {
    /// Its name in the graph.
    pub name: String,
    /// What it runs: a plugin or something built in.
    pub uses: String,
    /// What it is given: a JSON object, or the seed's list.
    pub args: Value,
    /// How it takes its items.
    pub join: Join,
    /// Further properties, as given.
    pub properties: Map<String, Value>,
}

/// A graph without cycles, in which every node is connected.
#[derive(Debug, Clone)]
pub struct Graph {
    graph: DiGraph<NodeSpec, usize>,
    order: Vec<NodeIndex>,
}

/// A graph that cannot be run: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct GraphError {
    /// The place in the JSON, such as `graph.n1[0]`.
    pub place: String,
    /// What is wrong there.
    pub problem: GraphProblem,
}

/// What can be wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphProblem {
    /// Something else was expected.
    #[error("expected {0}")]
    Expected(&'static str),
    /// There are no nodes.
    #[error("there are no nodes")]
    Empty,
    /// Too large.
    #[error("{count} are more than the limit of {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A name that is none of a node.
    #[error("there is no node {0:?}")]
    UnknownNode(String),
    /// An edge that is there already.
    #[error("the edge {0} -> {1} is there twice")]
    DuplicateEdge(String, String),
    /// A node without edges.
    #[error("node {0:?} is connected to nothing")]
    Isolated(String),
    /// A way that leads back to its beginning.
    #[error("cycle {}", .0.join(" -> "))]
    Cycle(Vec<String>),
}

fn error<T>(place: impl fmt::Display, problem: GraphProblem) -> Result<T, GraphError> {
    Err(GraphError {
        place: place.to_string(),
        problem,
    })
}

fn expected<T>(place: impl fmt::Display, what: &'static str) -> Result<T, GraphError> {
    error(place, GraphProblem::Expected(what))
}

impl Graph {
    /// Reads a graph in either shape and checks it.
    pub fn from_json(json: &Value) -> Result<Self, GraphError> {
        let Some(Value::Object(nodes)) = json.get("nodes") else {
            return expected("nodes", "an object of nodes");
        };
        match (json.get("edges"), json.get("graph")) {
            (Some(Value::Array(list)), None) => Self::build(nodes, |graph| {
                list.iter()
                    .enumerate()
                    .try_for_each(|(i, edge)| read_edge(graph, i, edge))
            }),
            (None, Some(Value::Object(successors))) => {
                Self::build(nodes, |graph| read_successors(graph, successors))
            }
            (None, None) => Self::build(nodes, |_| Ok(())),
            (Some(_), Some(_)) => expected("graph", "either \"edges\" or \"graph\", not both"),
            (Some(_), None) => expected("edges", "a list of edges"),
            (None, Some(_)) => expected("graph", "an object of lists of successors"),
        }
    }

    fn build(
        nodes: &Map<String, Value>,
        connect: impl FnOnce(&mut Building) -> Result<(), GraphError>,
    ) -> Result<Self, GraphError> {
        match nodes.len() {
            0 => return error("nodes", GraphProblem::Empty),
            count if count > MAX_NODES => {
                return error(
                    "nodes",
                    GraphProblem::TooMany {
                        count,
                        limit: MAX_NODES,
                    },
                );
            }
            _ => {}
        }
        let mut building = Building::default();
        for (name, node) in nodes {
            let index = building.graph.add_node(read_node(name, node)?);
            building.names.insert(name.clone(), index);
        }
        connect(&mut building)?;
        let graph = building.graph;
        let alone = |n: &NodeIndex| graph.neighbors_undirected(*n).next().is_none();
        if let Some(n) = graph.node_indices().find(alone).filter(|_| nodes.len() > 1) {
            let name = &graph[n].name;
            return error(
                format!("nodes.{name}"),
                GraphProblem::Isolated(name.clone()),
            );
        }
        match toposort(&graph, None) {
            Ok(order) => Ok(Self { graph, order }),
            Err(_) => {
                let path = cycle(&graph)
                    .into_iter()
                    .map(|n| graph[n].name.clone())
                    .collect();
                error("edges", GraphProblem::Cycle(path))
            }
        }
    }

    /// All nodes, each after those from which it gets its items.
    pub fn order(&self) -> impl Iterator<Item = &NodeSpec> {
        self.order.iter().map(|n| &self.graph[*n])
    }

    /// The nodes without predecessors: the sources.
    pub fn inputs(&self) -> impl Iterator<Item = &NodeSpec> {
        self.graph
            .externals(Direction::Incoming)
            .map(|n| &self.graph[n])
    }

    /// The nodes without successors, whose items are the results.
    pub fn outputs(&self) -> impl Iterator<Item = &NodeSpec> {
        self.graph
            .externals(Direction::Outgoing)
            .map(|n| &self.graph[n])
    }

    /// All edges in the order in which they are described: from, to, and how much they hold.
    pub fn edges(&self) -> impl Iterator<Item = (&NodeSpec, &NodeSpec, usize)> {
        let node = |n: NodeIndex| &self.graph[n];
        self.graph
            .edge_references()
            .map(move |e| (node(e.source()), node(e.target()), *e.weight()))
    }
}

/// A graph that is being read.
#[derive(Default)]
struct Building {
    graph: DiGraph<NodeSpec, usize>,
    names: std::collections::HashMap<String, NodeIndex>,
    seen: std::collections::HashSet<(NodeIndex, NodeIndex)>,
}

impl Building {
    fn node(&self, place: &str, name: &str) -> Result<NodeIndex, GraphError> {
        match self.names.get(name) {
            Some(index) => Ok(*index),
            None => error(place, GraphProblem::UnknownNode(name.to_owned())),
        }
    }

    fn connect(
        &mut self,
        place: &str,
        from: NodeIndex,
        to: NodeIndex,
        bound: usize,
    ) -> Result<(), GraphError> {
        if !self.seen.insert((from, to)) {
            let (from, to) = (self.graph[from].name.clone(), self.graph[to].name.clone());
            return error(place, GraphProblem::DuplicateEdge(from, to));
        }
        let count = self.seen.len();
        if count > MAX_EDGES {
            return error(
                place,
                GraphProblem::TooMany {
                    count,
                    limit: MAX_EDGES,
                },
            );
        }
        self.graph.add_edge(from, to, bound);
        Ok(())
    }
}

/// Reads a node of either shape.
fn read_node(name: &str, node: &Value) -> Result<NodeSpec, GraphError> {
    let place = format!("nodes.{name}");
    let Value::Object(node) = node else {
        return expected(place, "an object");
    };
    let Some(Value::String(uses)) = node.get("use").or_else(|| node.get("coro")) else {
        return expected(place, "\"use\" (or \"coro\"), the name of what it runs");
    };
    let properties = match node.get("properties") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(properties)) => properties.clone(),
        Some(_) => return expected(format!("{place}.properties"), "an object"),
    };
    let join = match (node.get("join"), properties.get("aggregate_inputs")) {
        (None, None | Some(Value::Bool(true))) => Join::Zip,
        (None, Some(Value::Bool(false))) => Join::Any,
        (None, Some(_)) => {
            return expected(
                format!("{place}.properties.aggregate_inputs"),
                "true or false",
            );
        }
        (Some(join), _) => match join.as_str() {
            Some("zip") => Join::Zip,
            Some("any") => Join::Any,
            _ => return expected(format!("{place}.join"), "\"zip\" or \"any\""),
        },
    };
    let args = node
        .get("with")
        .or_else(|| node.get("args"))
        .cloned()
        .unwrap_or(Value::Null);
    Ok(NodeSpec {
        name: name.to_owned(),
        uses: uses.clone(),
        args,
        join,
        properties,
    })
}

/// Reads an edge of our shape: `[from, to]` or `{from, to, bound}`.
fn read_edge(graph: &mut Building, i: usize, edge: &Value) -> Result<(), GraphError> {
    let place = format!("edges[{i}]");
    let (from, to, bound) = match edge {
        Value::Array(pair) if pair.len() == 2 => (Some(&pair[0]), Some(&pair[1]), None),
        Value::Object(edge) => (edge.get("from"), edge.get("to"), edge.get("bound")),
        _ => return expected(place, "[from, to] or {\"from\", \"to\", \"bound\"}"),
    };
    let bound = match bound {
        None => DEFAULT_BOUND,
        Some(bound) => match bound.as_u64() {
            Some(bound @ 1..=MAX_BOUND) => bound as usize,
            _ => return expected(format!("{place}.bound"), "a number from 1 to 1048576"),
        },
    };
    let (Some(Value::String(from)), Some(Value::String(to))) = (from, to) else {
        return expected(place, "two names of nodes");
    };
    let (from, to) = (graph.node(&place, from)?, graph.node(&place, to)?);
    graph.connect(&place, from, to, bound)
}

/// Reads the edges of the seed's shape: name to successors or null.
fn read_successors(graph: &mut Building, all: &Map<String, Value>) -> Result<(), GraphError> {
    for (name, successors) in all {
        let place = format!("graph.{name}");
        let from = graph.node(&place, name)?;
        let successors = match successors {
            Value::Null => continue,
            Value::Array(successors) => successors,
            _ => return expected(place, "a list of successors, or null"),
        };
        for (i, to) in successors.iter().enumerate() {
            let place = format!("{place}[{i}]");
            let Value::String(to) = to else {
                return expected(place, "the name of a node");
            };
            let to = graph.node(&place, to)?;
            graph.connect(&place, from, to, DEFAULT_BOUND)?;
        }
    }
    Ok(())
}

/// The shortest cycle through the first node that lies on one, with that node at both ends.
fn cycle(graph: &DiGraph<NodeSpec, usize>) -> Vec<NodeIndex> {
    let components = kosaraju_scc(graph).into_iter();
    let on_cycle = components
        .filter(|c| c.len() > 1 || graph.contains_edge(c[0], c[0]))
        .flatten();
    let Some(start) = on_cycle.min() else {
        return Vec::new();
    };
    let mut before = std::collections::HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in graph.neighbors(node) {
            before.entry(next).or_insert_with(|| {
                queue.push_back(next);
                node
            });
        }
    }
    let mut path = vec![start];
    let mut node = start;
    while let Some(&previous) = before.get(&node) {
        path.push(previous);
        node = previous;
        if node == start {
            break;
        }
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests;
