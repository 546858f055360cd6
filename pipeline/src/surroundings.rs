//! What the engine needs from outside: files, and nodes that are no built-ins. It does no I/O
//! itself.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use crate::graph::NodeSpec;
use crate::types::ItemType;

/// The answer to a call, in time.
pub type CallFuture<'a> =
    Pin<Box<dyn Future<Output = Vec<Result<Vec<Value>, Failure>>> + Send + 'a>>;

/// What a source makes, in time.
pub type PullFuture<'a> = Pin<Box<dyn Future<Output = Result<Pulled, Failure>> + Send + 'a>>;

/// When a node can be called, in time.
pub type ReadyFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The end of a node, in time.
pub type EndFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// What a source has made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pulled {
    /// Values, at most as many as were asked for.
    pub values: Vec<Value>,
    /// Whether there are no more.
    pub is_end: bool,
}

/// Why an item failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// For people.
    pub reason: String,
    /// Whether another attempt could not change it.
    pub is_final: bool,
}

impl Failure {
    /// One that would come again.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_final: true,
        }
    }

    /// One that may go away.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_final: false,
        }
    }
}

/// What a call works on.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// The item.
    pub item: Value,
    /// `with` of the node, its expressions evaluated for this item.
    pub with: Value,
}

/// A node that is no built-in, such as a plugin.
pub trait Call: Send + Sync {
    /// Works on items; for each, in their order, what it makes of it. Several calls may be in
    /// progress. A call that is given up is dropped.
    fn call(&self, items: Vec<Argument>) -> CallFuture<'_>;

    /// Waits until it can be called: what it needs for that is no part of the time that a call may
    /// take.
    fn ready(&self) -> ReadyFuture<'_> {
        Box::pin(async {})
    }

    /// Items that one call takes best, where nothing says how many.
    fn batch(&self) -> usize {
        1
    }

    /// Calls that may wait at the node while it works on another, so that it need not wait for
    /// them.
    fn ahead(&self) -> usize {
        0
    }

    /// Whether it makes items of nothing, by [`Call::pull`].
    fn is_source(&self) -> bool {
        false
    }

    /// Makes items, as soon as there are any, at most so many.
    fn pull(&self, most: usize) -> PullFuture<'_> {
        let _ = most;
        Box::pin(async { Err(Failure::lasting("it is no source")) })
    }

    /// Cleans up: there are no more items. Called when all calls have ended, unless the run failed.
    fn end(&self) -> EndFuture<'_> {
        Box::pin(async { Ok(()) })
    }

    /// What, beside the arguments, its results depend on: results are remembered under it.
    fn fingerprint(&self) -> String {
        String::new()
    }
}

/// What is known of a node that is no built-in before it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// The items that it takes.
    pub takes: ItemType,
    /// The items that it gives.
    pub gives: ItemType,
}

/// Which nodes there are beside built-ins.
pub trait Catalog {
    /// What is known of it, if it is there.
    ///
    /// # Errors
    /// It cannot be used as the node says.
    fn find(&self, node: &NodeSpec) -> Result<Option<Foreign>, String>;
}

/// There are built-ins only.
#[derive(Debug, Clone, Copy)]
pub struct BuiltinsOnly;

impl Catalog for BuiltinsOnly {
    fn find(&self, _: &NodeSpec) -> Result<Option<Foreign>, String> {
        Ok(None)
    }
}

/// A file that a sink writes. Dropped before it is kept, it leaves nothing behind.
pub trait NewFile: Write + Send {
    /// It is whole.
    ///
    /// # Errors
    /// It cannot be put in its place.
    fn keep(self: Box<Self>) -> io::Result<()>;
}

/// Where a run reads, writes and calls.
pub trait Surroundings: Send + Sync {
    /// Opens a file that a source reads.
    ///
    /// # Errors
    /// It cannot be read.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>>;

    /// Begins a file that a sink writes.
    ///
    /// # Errors
    /// It cannot be written.
    fn create(&self, path: &str) -> io::Result<Box<dyn NewFile>>;

    /// Makes a node that is no built-in.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String>;
}

/// No files, and no other nodes than built-ins.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Surroundings for Nothing {
    fn open(&self, _: &str) -> io::Result<Box<dyn Read + Send>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "there are no files here",
        ))
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn NewFile>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "there are no files here",
        ))
    }

    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String> {
        Err(format!("{:?} is not built in", node.uses))
    }
}
