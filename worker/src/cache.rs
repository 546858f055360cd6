use std::collections::HashMap;

use futures::future::BoxFuture;
use runner_core::file::FileStat;
use runner_host::{Backlog, DescriptionCache};
use runner_store::{Store, StoreError};

/// Keeps what is known of modules in SQL. An error is logged and counts as "not known".
#[derive(Debug, Clone)]
pub struct StoreCache(pub Store);

fn known<T: Default>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| {
        tracing::warn!("what is known of modules cannot be kept: {error}");
        T::default()
    })
}

impl DescriptionCache for StoreCache {
    fn descriptions<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, HashMap<String, String>> {
        Box::pin(async move { known(self.0.descriptions(keys).await) })
    }

    fn put_description<'a>(&'a self, key: &'a str, description: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move { known(self.0.put_description(key, description).await) })
    }

    fn file_digests<'a>(
        &'a self,
        stats: &'a [FileStat],
    ) -> BoxFuture<'a, HashMap<FileStat, String>> {
        Box::pin(async move { known(self.0.file_digests(stats).await) })
    }

    fn put_file_digests<'a>(&'a self, digests: &'a [(FileStat, String)]) -> BoxFuture<'a, ()> {
        Box::pin(async move { known(self.0.put_file_digests(digests).await) })
    }
}

impl Backlog for StoreCache {
    fn queued<'a>(&'a self, plugins: &'a [String]) -> BoxFuture<'a, Vec<u64>> {
        Box::pin(async move {
            let counts = known(self.0.queued_by_plugin().await);
            let count = |plugin: &String| counts.get(plugin).copied().unwrap_or_default();
            plugins.iter().map(count).collect()
        })
    }
}
