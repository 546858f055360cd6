//! The client's side of a session: what it is told, and how it says something.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Input, MAX_LEFT, MAX_WAITING, Session};
use crate::error::SessionError;
use crate::log::Record;
use crate::message::{Channel, Message};
use crate::told;
use crate::wire::{Frame, Framing};

/// A client of a session. It leaves when this is dropped.
#[derive(Debug)]
pub struct Attached {
    pub(super) session: Arc<Session>,
    pub(super) number: u64,
    pub(super) client: Arc<str>,
    /// Up to where it was given what was said.
    pub(super) position: u64,
    pub(super) grown: watch::Receiver<u64>,
    pub(super) cut: CancellationToken,
}

/// What a client was given. By it the session hears that the client has it, also when the client is gone meanwhile.
#[derive(Debug)]
pub struct Receipt {
    session: Arc<Session>,
    number: u64,
    position: u64,
}

impl Receipt {
    /// The client has it, and all before it.
    pub fn took(&self) {
        self.took_until(self.position);
    }

    /// The client has what was said up to there.
    pub fn took_until(&self, position: u64) {
        let position = position.min(self.session.log.end());
        self.session.took(self.number, position);
    }

    /// Up to where in the log that is.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// What a client is given next.
#[derive(Debug)]
pub enum Next {
    /// Messages, in their order; it may be none of them.
    Said(Vec<Arc<Record>>),
    /// The session has ended.
    Over,
    /// The client is to go: it read too slowly, or came back by another connection.
    Cut,
}

impl Attached {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Waits for what was said and not given to this client yet. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Next {
        loop {
            if self.cut.is_cancelled() {
                return Next::Cut;
            }
            let is_over = self.session.over.is_cancelled();
            self.grown.mark_unchanged();
            let found = self.session.log.read(self.position).await;
            if found.missing > 0 {
                let begin = self.position;
                self.position += found.missing;
                let text = format!(
                    "[{} bytes of what was said before are no longer kept]",
                    found.missing
                );
                let gap = Record {
                    begin,
                    end: self.position,
                    to: None,
                    frame: told::frame(&told::note(&text, None)),
                };
                return Next::Said(vec![Arc::new(gap)]);
            }
            if let Some(last) = found.records.last() {
                self.position = last.end;
                let mine = |record: &Arc<Record>| {
                    record.to.as_deref().is_none_or(|to| *to == *self.client)
                };
                return Next::Said(found.records.into_iter().filter(mine).collect());
            }
            if is_over {
                return Next::Over;
            }
            tokio::select! {
                _ = self.grown.changed() => {}
                () = self.session.over.cancelled() => {}
                () = self.cut.cancelled() => {}
            }
        }
    }

    /// Up to where it was given what was said.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The client has taken all that it was given.
    pub fn took(&self) {
        self.took_until(self.position);
    }

    /// The client has taken what it was given up to there.
    pub fn took_until(&self, position: u64) {
        self.session.took(self.number, position);
    }

    /// For what it was given last.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            session: Arc::clone(&self.session),
            number: self.number,
            position: self.position,
        }
    }

    /// Cancelled when the client is to go at once.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// A handle by which the client says something.
    pub fn sender(&self) -> Speaker {
        Speaker {
            session: Arc::clone(&self.session),
            client: Arc::clone(&self.client),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if let Some(one) = state.connections.remove(&self.number) {
            if state.left.len() >= MAX_LEFT {
                state.left.clear();
            }
            state.left.insert(one.client, one.position);
        }
        if state.connections.is_empty() {
            state.alone_since = Some(Instant::now());
        }
        drop(state);
        self.session.moved.notify_one();
    }
}

/// Says what a client says.
#[derive(Debug, Clone)]
pub struct Speaker {
    session: Arc<Session>,
    client: Arc<str>,
}

impl Speaker {
    /// Passes a message on to the kernel, which is started if there is none. Waits while too much waits for it.
    ///
    /// # Errors
    /// The session has ended, or the message fits into no frame.
    pub async fn say(&self, message: Message) -> Result<(), SessionError> {
        // Only kernels say something there; who forges it is not heard.
        if message.channel == Channel::Iopub {
            return Ok(());
        }
        let restarts = message.channel == Channel::Control
            && message
                .content
                .read::<Shutdown>()
                .is_ok_and(|content| content.restart);
        let frame = match Framing::V1.encode(&message) {
            Ok(Frame::Binary(frame)) => frame,
            Ok(Frame::Text(_)) => return Err(SessionError::Invalid("no binary frame".to_owned())),
            Err(error) => return Err(SessionError::Invalid(error.to_string())),
        };
        let weight = u32::try_from((frame.len() >> 10) + 1).unwrap_or(u32::MAX);
        let weight = weight.min(u32::try_from(MAX_WAITING).unwrap_or(u32::MAX));
        let session = &self.session;
        let sending = async {
            let room = Arc::clone(&session.waiting);
            // The semaphore is never closed.
            let weight = room.acquire_many_owned(weight).await;
            let weight = weight.map_err(|_| SessionError::Ended)?;
            let input = Input {
                header: message.header,
                channel: message.channel,
                restarts,
                frame,
                client: Arc::clone(&self.client),
                _weight: weight,
            };
            let sent = session.inputs.send(input).await;
            sent.map_err(|_| SessionError::Ended)
        };
        tokio::select! {
            sent = sending => sent,
            () = session.over.cancelled() => Err(SessionError::Ended),
        }
    }
}

#[derive(serde::Deserialize)]
struct Shutdown {
    #[serde(default)]
    restart: bool,
}
