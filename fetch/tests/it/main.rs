//! The fetcher against real sockets and files.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod files;
mod git;
mod limits;
mod posts;
mod redirects;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use runner_fetch::{Download, FetchConfig, FetchError, Fetcher};

/// A fetcher with short times and small sizes, and a folder to download into.
pub(crate) struct Bench {
    fetcher: Fetcher,
    dir: tempfile::TempDir,
}

impl Bench {
    /// With the usual settings of a test.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With changed settings.
    pub(crate) fn with(change: impl FnOnce(&mut FetchConfig)) -> Self {
        let mut config = FetchConfig {
            max_size: 1000,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(20),
            ..FetchConfig::default()
        };
        change(&mut config);
        Self {
            fetcher: Fetcher::new(config).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Where downloads go.
    pub(crate) fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    /// Downloads, and checks that the file is whole or absent.
    pub(crate) async fn get(&self, url: &str) -> Result<(Download, Vec<u8>), FetchError> {
        let target = self.target();
        match self.fetcher.download(url, &target).await {
            Ok(download) => {
                let bytes = std::fs::read(&target).unwrap();
                std::fs::remove_file(&target).unwrap();
                assert_eq!(download.size, bytes.len() as u64);
                assert_eq!(download.url, url);
                Ok((download, bytes))
            }
            Err(error) => {
                assert!(!target.exists(), "left behind by: {error}");
                Err(error)
            }
        }
    }

    /// Downloads what must fail, and gives the message.
    pub(crate) async fn fails(&self, url: &str) -> String {
        let error = self.get(url).await.unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }
}
