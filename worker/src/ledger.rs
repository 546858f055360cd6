//! What is wanted of modules stands in SQL, kept modules in the file store; the queue hurries those who follow.

use std::io::Read;

use futures::future::BoxFuture;
use runner_core::wanted::{Decision, Kept, WantedModules};
use runner_host::Ledger;
use runner_queue::Queue;
use runner_store::{Decided, FileStore, Store, StoreError};

/// The ledger of all processes of a queue.
#[derive(Debug, Clone)]
pub struct StoreLedger {
    /// Where it stands.
    pub store: Store,
    /// Who is told.
    pub queue: Queue,
}

fn text(error: StoreError) -> String {
    error.to_string()
}

impl Ledger for StoreLedger {
    fn wanted(&self) -> BoxFuture<'_, Result<WantedModules, String>> {
        Box::pin(async { self.store.wanted_modules().await.map_err(text) })
    }

    fn decide(&self, decision: Decision) -> BoxFuture<'_, Result<Option<i64>, String>> {
        Box::pin(async {
            match self.store.decide(decision).await.map_err(text)? {
                Decided::Overtaken => Ok(None),
                Decided::Yes {
                    generation,
                    replaced,
                } => {
                    self.queue.modules_changed();
                    if let Some(key) = replaced {
                        let files = self.store.files().clone();
                        // Without an answer: what stays is swept.
                        tokio::task::spawn_blocking(move || remove(&files, &key));
                    }
                    Ok(Some(generation))
                }
            }
        })
    }

    fn put_aside(&self, names: Vec<String>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move { self.store.keep_removed(&names).await.map_err(text) })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.queue.modules())
    }

    fn keep(&self, package: Box<dyn Read + Send>) -> Result<String, String> {
        let stored = self.store.files().put(package).map_err(text)?;
        Ok(stored.key)
    }

    fn open(&self, kept: &Kept) -> Result<Box<dyn Read + Send>, String> {
        self.store.files().open(&kept.key).map_err(text)
    }

    fn discard(&self, key: &str) {
        remove(self.store.files(), key);
    }
}

fn remove(files: &FileStore, key: &str) {
    if let Err(error) = files.remove(key) {
        tracing::warn!("a package of a module that is not needed stays for a while: {error}");
    }
}
