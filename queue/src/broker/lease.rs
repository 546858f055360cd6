//! What depends on time: leases of the jobs that this process has, and whatever is due in the queue.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;

/// So many leases are prolonged in one call.
const BATCH: usize = 512;

/// Jobs of this process whose leases are prolonged: from the moment at which they were taken until Redis
/// knows what became of them.
#[derive(Default)]
pub(super) struct Held {
    entries: Mutex<HashMap<Arc<str>, Duration>>,
    /// Woken when there is one.
    any: Notify,
}

impl Held {
    pub(super) fn add(&self, entries: impl IntoIterator<Item = Arc<str>>, lease: Duration) {
        self.entries()
            .extend(entries.into_iter().map(|entry| (entry, lease)));
        self.any.notify_one();
    }

    pub(super) fn remove_all<'a>(&self, entries: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut held = self.entries();
        for entry in entries {
            held.remove(entry);
        }
    }

    fn shortest(&self) -> Option<Duration> {
        self.entries().values().min().copied()
    }

    /// By lease.
    fn all(&self) -> HashMap<Duration, Vec<Arc<str>>> {
        let mut all: HashMap<Duration, Vec<Arc<str>>> = HashMap::new();
        for (entry, lease) in &*self.entries() {
            all.entry(*lease).or_default().push(Arc::clone(entry));
        }
        all
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Arc<str>, Duration>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prolongs leases every quarter of them.
pub(super) async fn keep(shared: Arc<Shared>) {
    let work = async {
        loop {
            let Some(lease) = shared.held.shortest() else {
                shared.held.any.notified().await;
                continue;
            };
            tokio::time::sleep(lease / 4).await;
            for (lease, entries) in shared.held.all() {
                for batch in entries.chunks(BATCH) {
                    let mut call = shared.scripts.renew(lease);
                    for entry in batch {
                        call.arg(&**entry);
                    }
                    // The next attempt comes soon by itself.
                    let _ = shared.link.script::<()>(&call).await;
                }
            }
        }
    };
    let _: Option<()> = shared.gone.run_until_cancelled(work).await;
}

impl Shared {
    /// Sees to it that this process tends the queue.
    pub(super) fn begin_to_tend(self: &Arc<Self>, lease: Duration) {
        let millis = super::scripts::millis(lease);
        self.shortest_lease.fetch_min(millis, Ordering::Relaxed);
        self.tend.notify_one();
        if !self.is_tended.swap(true, Ordering::Relaxed) {
            tokio::spawn(tend(Arc::clone(self)));
        }
    }
}

/// Lets happen what is due, and sleeps until the next thing is. No longer than a lease: a job may have been
/// taken by a worker that died since.
async fn tend(shared: Arc<Shared>) {
    let work = async {
        let call = shared.scripts.tend();
        while let Some(left) = shared.link.script_until::<i64>(&call, &shared.gone).await {
            let lease = shared.shortest_lease.load(Ordering::Relaxed);
            let left = u64::try_from(left).map_or(lease, |left| left.min(lease));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
                () = shared.tend.notified() => {}
            }
        }
    };
    let _: Option<()> = shared.gone.run_until_cancelled(work).await;
}
