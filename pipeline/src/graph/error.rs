//! What can be wrong with a graph.

use std::fmt;

/// A graph that cannot be run: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct GraphError {
    /// The place in the document, such as `graph.n1[0]`.
    pub place: String,
    /// What is wrong there.
    pub problem: GraphProblem,
}

/// What can be wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphProblem {
    /// Something else was expected.
    #[error("expected {0}")]
    Expected(String),
    /// A key that means nothing here.
    #[error("unknown key; known are {0}")]
    UnknownKey(String),
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
    /// What a node uses is neither built in nor a plugin.
    #[error("there is neither a built-in nor a plugin {0:?}")]
    UnknownUse(String),
    /// An edge that is there already.
    #[error("the edge {0} is there twice")]
    DuplicateEdge(String),
    /// A node without edges, or whose items nobody takes.
    #[error("{0}")]
    Unused(&'static str),
    /// A node that needs items and gets none.
    #[error("it has no input; say `from`, or add an edge to it")]
    NoInput,
    /// A source that gets items.
    #[error("a source has no inputs")]
    SourceWithInput,
    /// A way that leads back to its beginning.
    #[error("cycle {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// An argument that does not do, or is not there.
    #[error("{0}")]
    Argument(String),
    /// Items of one node do not fit the next.
    #[error("{0}")]
    Mismatch(String),
    /// Inputs that have no origin in common to be paired by.
    #[error("cannot zip: {0}")]
    Zip(String),
}

pub(crate) fn error<T>(place: impl fmt::Display, problem: GraphProblem) -> Result<T, GraphError> {
    Err(GraphError {
        place: place.to_string(),
        problem,
    })
}

pub(crate) fn expected<T>(place: impl fmt::Display, what: &str) -> Result<T, GraphError> {
    error(place, GraphProblem::Expected(what.to_owned()))
}
