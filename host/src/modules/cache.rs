//! What is known of modules from before.

use std::collections::HashMap;

use futures::future::BoxFuture;
use runner_core::file::FileStat;

/// Remembers descriptions and digests over restarts. A miss is never an error.
pub trait DescriptionCache: Send + Sync {
    /// The descriptions of those keys that are known.
    fn descriptions<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, HashMap<String, String>>;
    /// Remembers a description.
    fn put_description<'a>(&'a self, key: &'a str, description: &'a str) -> BoxFuture<'a, ()>;
    /// The digests of those files that have not changed.
    fn file_digests<'a>(
        &'a self,
        stats: &'a [FileStat],
    ) -> BoxFuture<'a, HashMap<FileStat, String>>;
    /// Remembers digests.
    fn put_file_digests<'a>(&'a self, digests: &'a [(FileStat, String)]) -> BoxFuture<'a, ()>;
}

/// Remembers nothing: what is known of modules lives as long as their table.
#[derive(Debug, Clone, Copy)]
pub struct NoCache;

impl DescriptionCache for NoCache {
    fn descriptions<'a>(&'a self, _: &'a [String]) -> BoxFuture<'a, HashMap<String, String>> {
        Box::pin(async { HashMap::new() })
    }

    fn put_description<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn file_digests<'a>(&'a self, _: &'a [FileStat]) -> BoxFuture<'a, HashMap<FileStat, String>> {
        Box::pin(async { HashMap::new() })
    }

    fn put_file_digests<'a>(&'a self, _: &'a [(FileStat, String)]) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// Knows what waits for plugins. Counting fails never: what is not known is 0.
pub trait Backlog: Send + Sync {
    /// Tasks that are queued for each of these plugins, by their identifiers.
    fn queued<'a>(&'a self, plugins: &'a [String]) -> BoxFuture<'a, Vec<u64>>;
}

impl Backlog for NoCache {
    fn queued<'a>(&'a self, plugins: &'a [String]) -> BoxFuture<'a, Vec<u64>> {
        Box::pin(async { vec![0; plugins.len()] })
    }
}
