//! Looks at what a host writes, where its file system does not limit it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::launcher::{HostCommand, Launcher};
use crate::run_folder::WorkFolder;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// What a host's folder may hold.
#[derive(Debug)]
pub(super) struct Watch {
    bytes: u64,
    files: u64,
    next: Instant,
}

impl Watch {
    /// `None`: its file system sees to it, or there is no limit.
    pub(super) fn new(launcher: &Launcher, command: &HostCommand) -> Option<Self> {
        let limits = &command.limits;
        let is_limited = limits.disk.is_some() || limits.files.is_some();
        (is_limited && launcher.watches(limits)).then(|| Self {
            bytes: limits.disk.unwrap_or(u64::MAX),
            files: limits.files.unwrap_or(u64::MAX),
            next: Instant::now() + PAUSE,
        })
    }

    /// When the next look is due. The first one of a run is not due at once: most runs have ended by then.
    pub(super) fn begin(&mut self) {
        self.next = Instant::now() + PAUSE;
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// What is too much, if it is.
    pub(super) async fn look(&mut self, work: &Arc<WorkFolder>) -> Option<String> {
        let seen = Arc::clone(work);
        let used = tokio::task::spawn_blocking(move || seen.used()).await;
        self.next = Instant::now() + PAUSE;
        let (bytes, files) = used.ok()?;
        if bytes > self.bytes {
            return Some(format!(
                "its folder has {bytes} bytes; the limit is {} (WORK_SIZE, or disk in its plugin.toml)",
                self.bytes
            ));
        }
        (files > self.files).then(|| {
            format!(
                "its folder has {files} files; the limit is {} (WORK_FILES, or files in its plugin.toml)",
                self.files
            )
        })
    }
}
