//! Where it stands what administrators want of modules.

use std::io::Read;

use futures::future::BoxFuture;
use runner_core::wanted::{Decision, Kept, WantedModules};

use super::NoCache;

/// What all processes that work together follow, and where kept modules are. Errors say why it cannot be used.
pub trait Ledger: Send + Sync {
    /// What is wanted.
    fn wanted(&self) -> BoxFuture<'_, Result<WantedModules, String>>;
    /// Writes down a decision, and tells others. Answers its generation; `None` if something else was decided since
    /// what the decision knew.
    fn decide(&self, decision: Decision) -> BoxFuture<'_, Result<Option<i64>, String>>;
    /// Says that modules which are to be removed still lie in a plugin folder here, so that this is not forgotten.
    fn put_aside(&self, names: Vec<String>) -> BoxFuture<'_, Result<(), String>>;
    /// Until something else may be wanted. For one caller.
    fn changed(&self) -> BoxFuture<'_, ()>;
    /// Stores a package. Answers its key. Blocks.
    ///
    /// # Errors
    /// Why it cannot be stored.
    fn keep(&self, package: Box<dyn Read + Send>) -> Result<String, String>;
    /// A package that was stored. Blocks.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn open(&self, kept: &Kept) -> Result<Box<dyn Read + Send>, String>;
    /// Removes a package of which no decision speaks. Blocks.
    fn discard(&self, key: &str);
}

/// Nothing is wanted, and what is decided counts here alone, for as long as this process lives.
impl Ledger for NoCache {
    fn wanted(&self) -> BoxFuture<'_, Result<WantedModules, String>> {
        Box::pin(async { Ok(WantedModules::default()) })
    }

    fn decide(&self, decision: Decision) -> BoxFuture<'_, Result<Option<i64>, String>> {
        Box::pin(async move { Ok(Some(decision.wanted.generation + 1)) })
    }

    fn put_aside(&self, _names: Vec<String>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn keep(&self, _package: Box<dyn Read + Send>) -> Result<String, String> {
        Ok(String::new())
    }

    fn open(&self, kept: &Kept) -> Result<Box<dyn Read + Send>, String> {
        Err(format!("the module {} was not kept", kept.path))
    }

    fn discard(&self, _key: &str) {}
}
