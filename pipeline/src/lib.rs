//! The dataflow engine: graph, edges, nodes. Knows no SQL and no hosts, and does no I/O itself.
//!
//! A pipeline is a graph of named nodes. Items flow along bounded edges, so that a slow node
//! holds its sources back, and carry their [`Lineage`], so that what comes from one origin can be
//! paired again, whatever the latency of each way. A failed item leaves a tombstone or goes to an
//! edge for errors; it never shifts others.
//!
//! # From text to run
//! A [`document`] is read as JSON; a [`Graph`] is read from that and has no cycles; [`Checked`]
//! knows what each node is and that its inputs fit; [`start`] makes tasks and edges of it, with
//! what the [`surroundings`] provide; a [`Run`] goes to its end, watched and held by a
//! [`Control`], while [`Outputs`] gives what it makes.
//!
//! # Layout
//! - [`graph`]: nodes, edges and policies as they are described. `check`: what is refused.
//! - [`expression`]: expressions over items. `builtin`: nodes that need no plugin. [`types`]: kinds of
//!   items.
//! - [`item`], [`edge`]: what flows, and where. `join`: how several inputs become one.
//! - `plan`: which nodes share a task. `segment`: a task of built-ins. `calls`: a task of a node
//!   that is called. `policy`: what it remembers between calls. `pull`: a task of a source that is no
//!   built-in. `output`: edges to other tasks.
//! - `run`, `control`: a run from outside. [`sight`]: what is counted.

mod builtin;
mod calls;
mod check;
mod control;
pub mod document;
pub mod edge;
pub mod expression;
pub mod graph;
pub mod item;
mod join;
mod output;
mod plan;
mod policy;
mod pull;
mod run;
mod segment;
pub mod sight;
pub mod surroundings;
pub mod types;

pub use builtin::is_builtin;
pub use check::Checked;
pub use control::{Control, Seen, SeenEdge, SeenNode, Unknown};
pub use document::{DocumentError, Format};
pub use graph::{Graph, GraphError, GraphProblem};
pub use item::{Item, Lineage};
pub use join::MAX_HELD;
pub use plan::{Lowering, start};
pub use run::{Made, Outputs, Run, RunError};
pub use surroundings::{
    Argument, Call, CallFuture, Catalog, EndFuture, Failure, Foreign, PullFuture, Pulled,
    ReadyFuture, Surroundings,
};
