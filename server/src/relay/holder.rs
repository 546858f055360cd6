//! What this process has, told to all servers: its sessions and their names, and how much room there is.

use std::collections::HashSet;
use std::time::Duration;

use runner_queue::{Holding, Places, QueueError};
use runner_session::{Notebooks, Sessions, TOMB};
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{Offer, kernel, notebook, path};

/// How often it is told again.
const BEAT: Duration = Duration::from_secs(1);
/// How long a telling may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Tells what is here.
pub(super) struct Holder {
    places: Places,
    sessions: Sessions,
    notebooks: Notebooks,
    /// What was told last.
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    held: Vec<String>,
    /// Nothing more is told.
    has_left: bool,
}

impl Holder {
    pub(super) fn new(places: Places, sessions: Sessions, notebooks: Notebooks) -> Self {
        Self {
            places,
            sessions,
            notebooks,
            told: Mutex::default(),
        }
    }

    /// Tells it again and again, and at once when a session began or ended.
    pub(super) async fn keep(&self) {
        let mut changes = self.sessions.changes();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(error) = self.tell().await {
                tracing::debug!("servers are not told which sessions are here: {error}");
                beats.tick().await;
            }
            tokio::select! {
                _ = beats.tick() => {}
                // Never the end: the sessions are held here.
                _ = changes.changed() => {}
            }
        }
    }

    /// Tells what changed, so that servers find it.
    pub(super) async fn tell_changes(&self) -> Result<(), QueueError> {
        let has_changed = self.told.lock().await.held != self.held();
        match has_changed {
            true => self.tell().await,
            false => Ok(()),
        }
    }

    /// The places of what is here.
    fn held(&self) -> Vec<String> {
        let sessions = self.sessions.list();
        let known: HashSet<Uuid> = sessions.iter().map(|session| session.id()).collect();
        let mut held: Vec<String> = sessions
            .iter()
            .map(|session| kernel(session.id()))
            .collect();
        for one in self.notebooks.list(|kernel| known.contains(&kernel)) {
            held.push(notebook(one.id));
            held.push(path(&one.kind, &one.path));
        }
        held
    }

    fn offer(&self) -> String {
        let offer = Offer {
            sessions: self.sessions.list().len(),
            room: self.sessions.room(),
            specs: self
                .sessions
                .kernelspecs()
                .iter()
                .map(|spec| spec.name.clone())
                .collect(),
            clients: self.sessions.clients(),
            pages: self.sessions.groups(),
        };
        serde_json::to_string(&offer).unwrap_or_default()
    }

    async fn tell(&self) -> Result<(), QueueError> {
        let mut told = self.told.lock().await;
        if told.has_left {
            return Ok(());
        }
        let held = self.held();
        let known: HashSet<&String> = held.iter().collect();
        let before = told.held.iter().filter(|place| !known.contains(place));
        let (ended, gone): (Vec<String>, Vec<String>) =
            before.cloned().partition(|place| self.was_removed(place));
        let holding = Holding {
            held: &held,
            gone: &gone,
            ended: &ended,
            tomb_seconds: TOMB.as_secs(),
            offer: &self.offer(),
        };
        let lost = self.places.hold(&holding).await?;
        told.held = held;
        told.held.retain(|place| !lost.contains(place));
        drop(told);
        for place in lost {
            let id = place.strip_prefix("kernel/");
            if let Some(id) = id.and_then(|id| Uuid::try_parse(id).ok()) {
                tracing::warn!(session = %id, "another worker has this session by now; it ends here");
                self.sessions.give_up(id).await;
            }
        }
        Ok(())
    }

    fn was_removed(&self, place: &str) -> bool {
        let id = place.strip_prefix("kernel/");
        let id = id.and_then(|id| Uuid::try_parse(id).ok());
        id.is_some_and(|id| self.sessions.was_removed(id))
    }

    /// Tells that nothing is here any more.
    pub(super) async fn leave(&self) {
        let leaving = async {
            let mut told = self.told.lock().await;
            told.has_left = true;
            let holding = Holding {
                gone: &told.held,
                offer: "{}",
                ..Holding::default()
            };
            let _ = self.places.hold(&holding).await;
            let _ = self.places.withdraw().await;
        };
        // Else it is missed after a lease.
        let _ = tokio::time::timeout(FAREWELL, leaving).await;
    }
}
