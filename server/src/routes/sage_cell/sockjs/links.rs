//! Connections that consist of requests. One of them waits for frames, others bring some; between them, and for a moment
//! without any, the connection lives here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::frames::{self, Close};
use super::talk::{Heard, Talk};
use super::{Place, Places, STUCK};
use crate::error::ApiError;
use crate::sage_cell::SageCell;

/// How long a connection lives to which nobody listens.
const ALONE: Duration = Duration::from_secs(5);
/// Messages of a page that wait for its kernels.
const WAITING: usize = 64;
/// Frames that wait for the page.
const FRAMES: usize = 4;

/// The server and the session in its path.
pub(super) type Key = (String, String);

/// All connections that consist of requests, and how many of any kind there are. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links {
    all: Arc<Mutex<HashMap<Key, Arc<Link>>>>,
    places: Places,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    /// What the page says.
    said: mpsc::Sender<String>,
    /// Frames for it, for whoever listens.
    pub(super) frames: Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>,
    /// Whether somebody listens.
    listened: watch::Sender<bool>,
    /// Why it has ended.
    close: OnceLock<Close>,
    _place: Place,
}

impl Links {
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The connection of this key.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Link>> {
        self.lock().get(key).cloned()
    }

    /// The connection of this key, and whether it is new.
    pub(super) fn open(
        &self,
        key: Key,
        face: &SageCell,
        client: &str,
    ) -> Result<(Arc<Link>, bool), ApiError> {
        let mut all = self.lock();
        if let Some(link) = all.get(&key) {
            return Ok((Arc::clone(link), false));
        }
        let place = self.places.take(client)?;
        let (said, sayings) = mpsc::channel(WAITING);
        let (frames, receiver) = mpsc::channel(FRAMES);
        let link = Arc::new(Link {
            said,
            frames: Arc::new(tokio::sync::Mutex::new(receiver)),
            listened: watch::Sender::new(true),
            close: OnceLock::new(),
            _place: place,
        });
        all.insert(key.clone(), Arc::clone(&link));
        drop(all);
        let (talk, hears) = Talk::new(face.clone(), client.to_owned());
        let live = live(Arc::clone(&link), talk, sayings, hears, frames);
        let links = self.clone();
        tokio::spawn(async move {
            live.await;
            links.lock().remove(&key);
        });
        Ok((link, true))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Link>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Takes what the page says. Waits while too much waits; false: the connection has ended.
    pub(super) async fn say(&self, said: String) -> bool {
        self.said.send(said).await.is_ok()
    }

    /// Somebody listens, or no more.
    pub(super) fn listen(&self, is_listened: bool) {
        self.listened.send_replace(is_listened);
    }

    /// Why it has ended.
    pub(super) fn close(&self) -> Close {
        self.close.get().cloned().unwrap_or_else(Close::go_away)
    }
}

/// Lets a connection live, until its page says what is no message, reads too slowly, or is gone.
async fn live(
    link: Arc<Link>,
    mut talk: Talk,
    mut sayings: mpsc::Receiver<String>,
    mut hears: mpsc::Receiver<Heard>,
    frames: mpsc::Sender<String>,
) {
    let listen = async {
        while let Some(said) = sayings.recv().await {
            if let Err(close) = talk.say(&said).await {
                return close;
            }
        }
        Close::go_away()
    };
    let speak = async {
        while let Some(Heard::Said(said)) = hears.recv().await {
            if let Some(frame) = frames::said(&said.messages)
                && frames.send_timeout(frame, STUCK).await.is_err()
            {
                break;
            }
            said.receipt.sign();
        }
        Close::go_away()
    };
    let mut listened = link.listened.subscribe();
    let alone = async {
        loop {
            // The sender lives as long as the link.
            let _ = listened.wait_for(|is_listened| !is_listened).await;
            let come = listened.wait_for(|is_listened| *is_listened);
            if tokio::time::timeout(ALONE, come).await.is_err() {
                return Close::go_away();
            }
        }
    };
    let close = tokio::select! {
        close = listen => close,
        close = speak => close,
        close = alone => close,
    };
    // What it was not given is told again.
    drop(hears);
    talk.leave().await;
    // Whoever listens is told when there are no more frames.
    let _ = link.close.set(close);
}
