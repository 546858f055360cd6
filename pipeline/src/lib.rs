//! The dataflow engine: graph, edges, nodes. Knows no SQL and no hosts.
//!
//! A pipeline is a graph of named nodes. Items flow along bounded edges, so that a slow node
//! holds its sources back, and carry their [`Lineage`], so that what comes from one origin can be
//! paired again. Nodes are a trait: what they do is the business of whoever makes them.
//!
//! # Layout
//! - [`graph`]: what is to be run, checked when it is read.
//! - [`edge`]: items and the bounded way between two nodes, with its end.
//! - [`node`]: the trait, and the ports through which a node sees its edges.
//! - [`mod@run`]: all nodes of a graph to their end, failure or cancellation.

pub mod edge;
pub mod graph;
pub mod node;
pub mod run;

pub use edge::{Item, Lineage};
pub use graph::{Graph, GraphError, Join};
pub use node::{Joined, Node, NodeError, NodeFuture, Ports};
pub use run::{Counts, Report, RunError, run};
