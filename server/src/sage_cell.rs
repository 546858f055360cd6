//! The face of Sage Cell: what its routes share. Its kernels are others than those of Jupyter's clients, with limits of
//! their own: it runs code for whoever reaches it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runner_queue::Links;
use runner_session::Sessions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::access::Access;
use crate::relay::{Kind, Relay};
use crate::routes::sage_cell::sockjs;

/// Requests that may wait for a kernel for a single cell.
const MAX_WAITING: usize = 500;
/// How long each may wait.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Permalinks that one client may make at once, and how many of them come back in a second.
const PERMALINKS: f64 = 200.0;
const PERMALINKS_PER_SECOND: f64 = 20.0;
/// Clients whose permalinks are counted.
const MAX_COUNTED: usize = 10_000;

/// Settings of the face.
#[derive(Debug, Clone, Default)]
pub struct SageCellConfig {
    /// What users accept before they run anything, as HTML; nothing where there is nothing to accept.
    pub terms: Option<String>,
    /// Whether everybody may use it, whatever is demanded for plugins.
    pub is_public: bool,
    /// Kernels for single cells at a time.
    pub once: usize,
    /// How long a single cell may take.
    pub once_limit: Duration,
    /// Bytes of a file that is put into a session.
    pub max_file: u64,
}

/// Where its kernels are.
#[derive(Debug)]
pub(crate) enum Kernels {
    /// In this process.
    Here(Sessions),
    /// At workers.
    There(Relay),
}

/// The face of Sage Cell. Clones share it.
#[derive(Debug, Clone)]
pub struct SageCell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kernels: Kernels,
    config: SageCellConfig,
    gate: Gate,
    links: sockjs::Links,
    /// What clients may still make, and when that was so.
    permalinks: Mutex<HashMap<String, (f64, Instant)>>,
}

impl SageCell {
    /// The face, with kernels in this process.
    pub fn with_kernels(cells: Sessions, config: SageCellConfig) -> Self {
        Self::new(Kernels::Here(cells), config)
    }

    /// The face, with the kernels of workers.
    pub fn with_workers(links: Links, config: SageCellConfig) -> Self {
        Self::new(Kernels::There(Relay::new(links, Kind::Cells)), config)
    }

    fn new(kernels: Kernels, config: SageCellConfig) -> Self {
        Self(Arc::new(Inner {
            kernels,
            gate: Gate::new(config.once),
            config,
            links: sockjs::Links::default(),
            permalinks: Mutex::default(),
        }))
    }

    /// Its kernels: for `routes::sage_cell::kernels` only.
    pub(crate) fn kernels(&self) -> &Kernels {
        &self.0.kernels
    }

    /// Its kernels in this process, if they are here.
    pub(crate) fn here(&self) -> Option<&Sessions> {
        match &self.0.kernels {
            Kernels::Here(cells) => Some(cells),
            Kernels::There(_) => None,
        }
    }

    /// The workers that have its kernels, if they are there.
    pub(crate) fn there(&self) -> Option<&Relay> {
        match &self.0.kernels {
            Kernels::Here(_) => None,
            Kernels::There(relay) => Some(relay),
        }
    }

    pub(crate) fn config(&self) -> &SageCellConfig {
        &self.0.config
    }

    /// Connections of SockJS.
    pub(crate) fn links(&self) -> &sockjs::Links {
        &self.0.links
    }

    /// Who waits for a kernel for a single cell.
    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// What its routes demand.
    pub(crate) fn access(&self) -> Access {
        match self.0.config.is_public {
            true => Access::Public,
            false => Access::User,
        }
    }

    /// Counts a permalink that a client makes. False: it makes too many.
    pub(crate) fn may_make_permalink(&self, client: &str) -> bool {
        let now = Instant::now();
        let mut all = lock(&self.0.permalinks);
        let restored = |(left, at): (f64, Instant)| {
            let more = now.duration_since(at).as_secs_f64() * PERMALINKS_PER_SECOND;
            (left + more).min(PERMALINKS)
        };
        if all.len() >= MAX_COUNTED {
            all.retain(|_, known| restored(*known) < PERMALINKS);
        }
        if all.len() >= MAX_COUNTED && !all.contains_key(client) {
            return false;
        }
        let known = all.get(client).copied().unwrap_or((PERMALINKS, now));
        let left = restored(known);
        let may = left >= 1.0;
        let left = if may { left - 1.0 } else { left };
        all.insert(client.to_owned(), (left, now));
        may
    }
}

/// Lets as many in as there may be at a time, half of them of one client; the others wait, not too many and not too
/// long.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: Semaphore,
    waiting: AtomicUsize,
    /// How many of one client may be inside.
    most_of_client: usize,
    /// Clients that are inside or wait.
    clients: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Somebody is inside as long as this is there.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    _place: SemaphorePermit<'a>,
    _own: Own<'a>,
}

/// A client that is inside or waits.
#[derive(Debug)]
struct Own<'a> {
    gate: &'a Gate,
    client: &'a str,
    places: Option<Arc<Semaphore>>,
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let mut clients = lock(&self.gate.clients);
        (self.place, self.places) = (None, None);
        // Nobody else of this client is there.
        if clients
            .get(self.client)
            .is_some_and(|one| Arc::strong_count(one) == 1)
        {
            clients.remove(self.client);
        }
    }
}

/// Somebody waits as long as this is there.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    fn new(most: usize) -> Self {
        Self {
            inside: Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            most_of_client: (most / 2).clamp(1, Semaphore::MAX_PERMITS),
            clients: Mutex::default(),
        }
    }

    /// Waits for room. Nothing: there is none, and too many wait for it or it took too long.
    pub(crate) async fn enter<'a>(&'a self, client: &'a str) -> Option<Inside<'a>> {
        let count = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if count >= MAX_WAITING {
            return None;
        }
        let places = {
            let mut clients = lock(&self.clients);
            let new = || Arc::new(Semaphore::new(self.most_of_client));
            Arc::clone(clients.entry(client.to_owned()).or_insert_with(new))
        };
        let mut own = Own {
            gate: self,
            client,
            places: Some(Arc::clone(&places)),
            place: None,
        };
        let entering = async {
            // Neither semaphore is ever closed.
            own.place = places.acquire_owned().await.ok();
            self.inside.acquire().await.ok()
        };
        let place = tokio::time::timeout(LONGEST_WAIT, entering).await;
        Some(Inside {
            _place: place.ok()??,
            _own: own,
        })
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_in_or_is_told_that_it_takes_too_long() {
        let gate = Gate::new(1);
        let first = gate.enter("a").await.unwrap();
        assert!(gate.enter("b").await.is_none(), "the first stays");
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
        let mut second = Box::pin(gate.enter("a"));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
        assert!(lock(&gate.clients).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_leaves_room_for_others() {
        let gate = Gate::new(4);
        let _first = gate.enter("a").await.unwrap();
        let _second = gate.enter("a").await.unwrap();
        let mut third = Box::pin(gate.enter("a"));
        assert!(futures::poll!(&mut third).is_pending());
        assert!(gate.enter("b").await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_may() {
        let gate = Gate::new(1);
        let _inside = gate.enter("a").await.unwrap();
        let enter = |_| Box::pin(gate.enter("a"));
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(enter).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert!(gate.enter("a").await.is_none());
        drop(waiting);
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
