//! A connection to a kernel at a worker: a WebSocket over a link, which this server holds for a page.
//!
//! Over it go texts, which are messages as clients have them; and binary frames of eight bytes, which are positions in the
//! log: the worker says up to where its texts were, the server up to where the page has them. The worker counts as told
//! what the page has, wherever it comes back. A link that breaks is opened again.

use std::pin::pin;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use runner_session::MAX_SAID;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::kernels::dead;
use super::{Receipt, Said, Told, Unreached, check_name, unknown};
use crate::error::ApiError;
use crate::relay::Relay;
use crate::relay::asker::{Asker, Held, OfPage};
use crate::relay::socket::{Socket, Unopened};

/// Messages of the page that wait for the link.
const WAITING: usize = 8;
/// How long the worker may take to hear that the page has left.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often a link is opened again, and how long that goes on: a worker without a sign of life is forgotten before.
const AGAIN: Duration = Duration::from_millis(500);
const ATTEMPTS: usize = 20;

/// The page's side of a connection.
pub(in super::super) struct Remote {
    heard: mpsc::Receiver<Heard>,
    said: mpsc::Sender<String>,
    taken: mpsc::UnboundedSender<u64>,
    left: CancellationToken,
}

/// What comes from the worker.
enum Heard {
    /// Texts, and up to where in the log they are.
    Said(Vec<String>, u64),
    Over,
    Cut,
}

/// The task of a connection.
struct Keeper {
    relay: Relay,
    id: Uuid,
    name: String,
    /// Up to where texts were passed on.
    position: Option<u64>,
    heard: mpsc::Sender<Heard>,
    said: mpsc::Receiver<String>,
    taken: mpsc::UnboundedReceiver<u64>,
}

/// How a WebSocket ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// One side meant it.
    Meant,
    /// The link broke.
    Broken,
}

/// Connects to a kernel. `name`: how the client calls itself.
pub(in super::super) async fn open(
    relay: &Relay,
    id: Uuid,
    name: String,
) -> Result<Remote, Unreached> {
    check_name(&name)?;
    let (to_page, heard) = mpsc::channel(1);
    let (said, from_page) = mpsc::channel(WAITING);
    let (taken, from_receipts) = mpsc::unbounded_channel();
    let left = CancellationToken::new();
    let keeper = Keeper {
        relay: relay.clone(),
        id,
        name,
        position: None,
        heard: to_page,
        said: from_page,
        taken: from_receipts,
    };
    let socket = keeper.connect().await?;
    let has_left = left.clone().drop_guard();
    tokio::spawn(async move {
        keeper.keep(socket).await;
        drop(has_left);
    });
    Ok(Remote {
        heard,
        said,
        taken,
        left,
    })
}

impl Remote {
    pub(super) async fn next(&mut self) -> Told {
        match self.heard.recv().await {
            Some(Heard::Said(messages, position)) => Told::Said(Said {
                messages,
                receipt: Receipt::There(self.taken.clone(), position),
            }),
            Some(Heard::Cut) => Told::Cut,
            Some(Heard::Over) | None => Told::Over,
        }
    }

    pub(super) fn voice(&self) -> mpsc::Sender<String> {
        self.said.clone()
    }

    pub(super) fn left(&self) -> CancellationToken {
        self.left.clone()
    }
}

impl Keeper {
    async fn connect(&self) -> Result<Socket, Unreached> {
        let worker = self.relay.worker_of(self.id).await;
        let worker = worker.map_err(Unreached::Away)?;
        let worker = worker.ok_or_else(|| unknown(self.id))?;
        let asker = Asker::of_page(OfPage::default()).holding(Held {
            name: self.name.clone(),
            offset: self.position,
        });
        let path = format!("/kernel/{}/channels", self.id);
        let opened = self.relay.socket(&worker, &path, &asker, MAX_SAID);
        opened.await.map_err(|why| match why {
            Unopened::Refused(StatusCode::NOT_FOUND) => unknown(self.id),
            Unopened::Refused(status) => Unreached::Away(ApiError::busy(&format!(
                "The worker of this kernel takes no connection to it ({status}); try again in a moment."
            ))),
            Unopened::Away(why) => {
                tracing::debug!("the worker {worker} does not answer: {why}");
                let text = "The worker of this kernel does not answer; try again in a moment.";
                Unreached::Away(ApiError::busy(text))
            }
        })
    }

    /// Keeps the connection until one side ends it.
    async fn keep(mut self, mut socket: Socket) {
        while self.talk(socket).await == Ended::Broken {
            socket = match self.again().await {
                Some(socket) => socket,
                None => return,
            };
        }
    }

    /// Opens it again; tells the page that its kernel is gone if it is.
    async fn again(&self) -> Option<Socket> {
        let opening = async {
            for _ in 0..ATTEMPTS {
                tokio::time::sleep(AGAIN).await;
                match self.connect().await {
                    Ok(socket) => return Some(socket),
                    Err(Unreached::Session(_)) => return None,
                    Err(Unreached::Away(_)) => {}
                }
            }
            None
        };
        let socket = tokio::select! {
            socket = opening => socket,
            () = self.heard.closed() => return None,
        };
        if socket.is_none() {
            let last = Heard::Said(vec![dead()], self.position.unwrap_or_default());
            // Where the page is gone, nobody wants to know.
            let _ = self.heard.send(last).await;
        }
        socket
    }

    /// Passes on what both sides say.
    async fn talk(&mut self, socket: Socket) -> Ended {
        let (mut sink, mut stream) = socket.split();
        let (said, taken) = (&mut self.said, &mut self.taken);
        let write = async {
            loop {
                let frame = tokio::select! {
                    biased;
                    Some(position) = taken.recv() => {
                        Message::Binary(position_frame(position))
                    }
                    Some(text) = said.recv() => Message::Text(text.into()),
                    else => break,
                };
                if sink.send(frame).await.is_err() {
                    // The other half sees why.
                    return std::future::pending().await;
                }
            }
            // The page has left; what it has is said.
            let _ = sink.close().await;
        };
        let (position, heard) = (&mut self.position, &self.heard);
        let mut read = pin!(async {
            let mut texts = Vec::new();
            loop {
                let last = match stream.next().await {
                    Some(Ok(Message::Text(text))) => {
                        texts.push(text.as_str().to_owned());
                        continue;
                    }
                    Some(Ok(Message::Binary(frame))) => {
                        let Some(at) = position_in(&frame) else {
                            return Ended::Broken;
                        };
                        *position = Some(at);
                        // After a page that has left, this reads on to the end.
                        let _ = heard
                            .send(Heard::Said(std::mem::take(&mut texts), at))
                            .await;
                        continue;
                    }
                    Some(Ok(Message::Close(frame))) => match frame.map(|frame| frame.code) {
                        Some(CloseCode::Away) => Heard::Over,
                        Some(_) => Heard::Cut,
                        None => return Ended::Broken,
                    },
                    // Signs of life are answered by themselves.
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Ended::Broken,
                };
                let _ = heard.send(last).await;
                return Ended::Meant;
            }
        });
        tokio::select! {
            ended = &mut read => ended,
            () = write => {
                let _ = timeout(FAREWELL, read).await;
                Ended::Meant
            }
        }
    }
}

/// A position as a binary frame.
pub(in super::super) fn position_frame(position: u64) -> Bytes {
    Bytes::copy_from_slice(&position.to_be_bytes())
}

/// The position that a binary frame is.
pub(in super::super) fn position_in(frame: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(frame.try_into().ok()?))
}
