//! How many runs work at a time. A run that waits for a plugin that it called works not, and gives its slot
//! to others: so a chain of calls ends even where there is one slot only.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Semaphore>);

/// A slot that a run has, or has given back for a while.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    slots: Slots,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.max(1))))
    }

    /// What the queue counts when it gives out jobs.
    pub(crate) fn semaphore(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0)
    }

    /// The slot of a job that was taken.
    pub(crate) fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            slots: self.clone(),
            permit: Arc::new(Mutex::new(Some(permit))),
        }
    }
}

impl Slot {
    /// Lets others work.
    pub(crate) fn give_back(&self) {
        self.permit().take();
    }

    /// Waits until this run may work again.
    pub(crate) async fn take_again(&self) {
        // The semaphore is never closed.
        if let Ok(permit) = Arc::clone(&self.slots.0).acquire_owned().await {
            *self.permit() = Some(permit);
        }
    }

    fn permit(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
