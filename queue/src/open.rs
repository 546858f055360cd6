use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the jobs of one consumer that were given out and are not settled.
#[derive(Debug, Default)]
pub(crate) struct Open {
    count: AtomicUsize,
    /// Woken when there is none any more.
    none: Notify,
}

/// One such job.
#[derive(Debug)]
pub(crate) struct OpenJob(Arc<Open>);

impl Open {
    pub(crate) fn enter(open: &Arc<Self>) -> OpenJob {
        open.count.fetch_add(1, Ordering::Relaxed);
        OpenJob(Arc::clone(open))
    }

    /// Waits until there is none. For one caller.
    pub(crate) async fn none(&self) {
        while self.count.load(Ordering::Acquire) > 0 {
            self.none.notified().await;
        }
    }
}

impl Drop for OpenJob {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_one();
        }
    }
}
