//! What is known of modules from before.

use futures::future::BoxFuture;
use runner_core::file::FileStat;

/// Remembers descriptions and digests over restarts. A miss is never an error.
pub trait DescriptionCache: Send + Sync {
    /// The description of this key.
    fn description<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<String>>;
    /// Remembers a description.
    fn put_description<'a>(&'a self, key: &'a str, description: &'a str) -> BoxFuture<'a, ()>;
    /// The digest of a file that has not changed.
    fn file_digest<'a>(&'a self, stat: &'a FileStat) -> BoxFuture<'a, Option<String>>;
    /// Remembers digests.
    fn put_file_digests<'a>(&'a self, digests: &'a [(FileStat, String)]) -> BoxFuture<'a, ()>;
}

/// Remembers nothing: what is known of modules lives as long as their table.
#[derive(Debug, Clone, Copy)]
pub struct NoCache;

impl DescriptionCache for NoCache {
    fn description<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn put_description<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn file_digest<'a>(&'a self, _: &'a FileStat) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
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
