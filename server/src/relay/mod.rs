//! Kernels that live in other processes: a server has none of its own, and passes requests on to the worker that has
//! the kernel, over a link of the queue. Sessions of Jupyter's clients and kernels for cells are placed apart.
//!
//! # Layout
//! - [`place`]: the layer before the routes of kernels. `placement`: how each route is placed; the only table of that.
//! - [`Relay`]: what a server knows of the workers: which has room, which has a session.
//! - `forward`: a request, and its answer or its WebSocket, over a link. `merged`: the answers of all workers as one.
//! - `socket`: a WebSocket of the server itself to a worker.
//! - `asker`: who asks, as it was checked here, for the worker.
//! - [`serve_links`]: the side of the worker: the same handlers, for links. `holder`: what it has, told to others.
//!
//! Over a link goes plain HTTP/1.1, a request for each link; so every route works as if its session were here.

pub(crate) mod asker;
mod forward;
mod holder;
mod host;
mod merged;
mod place;
pub(crate) mod placement;
pub(crate) mod socket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_queue::{Links, Places, QueueError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::ApiError;

pub(crate) use forward::Going;
pub(crate) use host::Delivery;
pub use host::serve_links;
pub(crate) use place::{Placed, place};

/// What is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sessions of Jupyter's clients.
    Sessions,
    /// Kernels for cells of Sage Cell.
    Cells,
}

impl Kind {
    /// As it is called where places are kept.
    fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Cells => "cells",
        }
    }

    /// The setting that switches it on, and the one that says how many there may be.
    fn settings(self) -> (&'static str, &'static str) {
        match self {
            Self::Sessions => ("SESSIONS", "SESSION_MAX"),
            Self::Cells => ("SAGE_CELL", "SAGE_CELL_MAX"),
        }
    }
}

/// What a server knows of the workers that have kernels of a kind. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    kind: Kind,
    links: Links,
    places: Places,
    /// Requests of this server that a worker is at, where it is not its sessions that keep it busy.
    busy: Arc<Mutex<HashMap<String, usize>>>,
}

/// A worker is at a request of this server as long as this is there.
struct Busy<'a> {
    relay: &'a Relay,
    process: &'a str,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut all = self.relay.lock_busy();
        if let Some(count) = all.get_mut(self.process) {
            *count -= 1;
            if *count == 0 {
                all.remove(self.process);
            }
        }
    }
}

/// A worker that takes sessions.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    /// The name of its process.
    pub(crate) process: String,
    pub(crate) offer: Offer,
}

impl Worker {
    /// Whether it has a kernelspec.
    fn has(&self, spec: &str) -> bool {
        self.offer.specs.iter().any(|one| one == spec)
    }
}

/// What a worker says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Offer {
    /// Sessions that it has.
    pub(crate) sessions: usize,
    /// How many more it takes.
    pub(crate) room: usize,
    /// The kernelspecs that it has.
    pub(crate) specs: Vec<String>,
    /// Sessions of each client, where that is limited.
    pub(crate) clients: HashMap<String, usize>,
    /// Those of each page, where that is limited.
    pub(crate) pages: HashMap<String, usize>,
}

/// The place of a session.
fn kernel(id: Uuid) -> String {
    format!("kernel/{id}")
}

/// The place of a name for a session.
fn notebook(id: Uuid) -> String {
    format!("notebook/{id}")
}

/// The place of what is named.
fn path(kind: &str, path: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{kind}\0{path}"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("path/{digits}")
}

impl Relay {
    pub(crate) fn new(links: Links, kind: Kind) -> Self {
        Self {
            kind,
            places: links.places(kind.name()),
            links,
            busy: Arc::default(),
        }
    }

    fn lock_busy(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that a worker is at.
    fn busy<'a>(&'a self, process: &'a str) -> Busy<'a> {
        *self.lock_busy().entry(process.to_owned()).or_default() += 1;
        Busy {
            relay: self,
            process,
        }
    }

    /// The workers that have sessions, those with most room first.
    ///
    /// # Errors
    /// There is none, or Redis does not answer.
    pub(crate) async fn workers(&self) -> Result<Vec<Worker>, ApiError> {
        let offers = self.offers().await.map_err(away)?;
        let mut workers: Vec<Worker> = offers
            .into_iter()
            .map(|(process, offer)| Worker { process, offer })
            .collect();
        if workers.is_empty() {
            let (switch, _) = self.kind.settings();
            return Err(ApiError::busy(&format!(
                "No worker with kernels is there (`runner worker`, with {switch} on); try again in a moment."
            )));
        }
        workers.sort_by(|a, b| {
            let room = b.offer.room.cmp(&a.offer.room);
            room.then_with(|| a.process.cmp(&b.process))
        });
        Ok(workers)
    }

    /// What the workers say of themselves, by their processes; maybe none.
    pub(crate) async fn offers(&self) -> Result<HashMap<String, Offer>, QueueError> {
        let hosts = self.places.hosts().await?;
        let offers = hosts.into_iter().map(|host| {
            // One that says something else takes nothing.
            let offer = serde_json::from_str(&host.offer).unwrap_or_default();
            (host.process, offer)
        });
        Ok(offers.collect())
    }

    /// The worker that has something.
    ///
    /// # Errors
    /// It was ended, or Redis does not answer.
    async fn find(&self, place: &str) -> Result<Option<String>, ApiError> {
        match self.places.find(place).await.map_err(away)? {
            Some(None) => Err(ended(place)),
            Some(found) => Ok(found),
            None => Ok(None),
        }
    }

    /// The worker that has a kernel, if one has it.
    ///
    /// # Errors
    /// Redis does not answer.
    pub(crate) async fn worker_of(&self, id: Uuid) -> Result<Option<String>, ApiError> {
        let found = self.places.find(&kernel(id)).await.map_err(away)?;
        // What was ended is nowhere.
        Ok(found.flatten())
    }

    /// Claims a place for a worker; answers who has it.
    ///
    /// # Errors
    /// It was ended, or Redis does not answer.
    async fn claim(&self, place: &str, worker: &Worker) -> Result<String, ApiError> {
        let claimed = self.places.claim(place, &worker.process).await;
        claimed.map_err(away)?.ok_or_else(|| ended(place))
    }

    /// The worker does not take what was claimed for it.
    async fn release(&self, place: &str, process: &str) {
        // Else the claim ends by itself.
        let _ = self.places.release(place, process).await;
    }

    /// All that could take it are full.
    fn full(&self) -> ApiError {
        let (_, limit) = self.kind.settings();
        ApiError::busy(&format!(
            "All workers have as many sessions as they may have ({limit}); try again in a moment."
        ))
    }
}

/// There is none of this id.
fn ended(place: &str) -> ApiError {
    match place.split_once('/') {
        Some(("kernel", id)) => ApiError::jupyter_not_found(format!("Kernel does not exist: {id}")),
        Some((_, id)) => {
            ApiError::jupyter_not_found(format!("Session not found: session_id='{id}'"))
        }
        None => ApiError::not_found(),
    }
}

fn away(error: QueueError) -> ApiError {
    tracing::warn!("sessions of workers are not found: {error}");
    ApiError::busy("Redis, by which sessions are found, does not answer; try again in a moment.")
}

/// The worker is gone, or does not answer.
fn lost(process: &str, why: &str) -> ApiError {
    tracing::warn!("the worker {process} did not answer a request for a session: {why}");
    ApiError::busy("The worker of this session does not answer; try again in a moment.")
}
