//! `GET /api/kernels/<id>/channels`: a client and its kernel, over a WebSocket.
//!
//! Two halves that wait for each other nowhere: what the client says goes to the session, what was said there goes
//! to the client, at its own pace.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Query, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use runner_session::wire::V1_SUBPROTOCOL;
use runner_session::{
    Attached, Frame, Framing, Limits, Next, Record, SessionError, Speaker, WireError,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Segment, Who, id_of};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::incoming::seat::Seat;
use crate::relay::Delivery;
use crate::socket::{self, Farewell};

/// Bytes of a message of a client.
const MAX_MESSAGE: usize = 64 << 20;
/// How often a client is asked for a sign of life.
const PING: Duration = Duration::from_secs(30);
/// How long a client may give none.
const SILENCE: Duration = Duration::from_secs(90);
/// How long the word of farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What stands in the query.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    /// The name that the client gives itself.
    session_id: Option<String>,
    /// Where in the log it goes on.
    offset: Option<String>,
}

/// Where a WebSocket comes from, and over what.
pub(crate) struct Way {
    base: BaseUrl,
    headers: HeaderMap,
    /// The place of the connection that it was.
    seat: Option<Seat>,
    /// What a server has taken of it, where it comes over a link.
    delivery: Option<Delivery>,
}

impl<S: Sync> FromRequestParts<S> for Way {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self {
            base: BaseUrl::from_request_parts(parts, state).await?,
            headers: parts.headers.clone(),
            seat: parts.extensions.get().cloned(),
            delivery: parts.extensions.get().cloned(),
        })
    }
}

pub(crate) async fn connect(
    State(app): State<App>,
    way: Way,
    who: Who,
    Segment(id): Segment,
    Query(asked): Query<Asked>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    super::sessions(&app)?;
    socket::check_origin(&app.0.config.origins, &way.headers, &way.base)?;
    let id = id_of(&id)?;
    let offset = socket::offset(asked.offset.as_deref())?;
    let upgrade = socket::wanted(upgrade, MAX_MESSAGE)?;
    let session = who.open(&app, id)?;
    let attached = session.attach(asked.session_id.as_deref(), offset)?;
    let upgrade = upgrade.protocols([V1_SUBPROTOCOL]);
    let framing = match upgrade.selected_protocol() {
        Some(_) => Framing::V1,
        None => Framing::Plain,
    };
    let framed = Framed {
        framing,
        has_offsets: offset.is_some(),
    };
    Ok(upgrade.on_upgrade(async move |socket| {
        // A WebSocket counts as the connection that it was.
        let _seat = way.seat;
        talk(socket, attached, framed, Told::new(way.delivery)).await;
    }))
}

/// How messages are put into frames for a client.
#[derive(Debug, Clone, Copy)]
struct Framed {
    framing: Framing,
    /// Whether it is told where in the log it is.
    has_offsets: bool,
}

async fn talk(socket: WebSocket, mut attached: Attached, framed: Framed, mut told: Told) {
    let (mut sink, mut stream) = socket.split();
    let speaker = attached.sender();
    let cut = attached.cut();
    let heard = Mutex::new(Instant::now());
    let farewell = tokio::select! {
        farewell = listen(&mut stream, &speaker, framed.framing, &heard) => farewell,
        farewell = speak(&mut sink, &mut attached, framed, &heard, &mut told) => farewell,
        () = cut.cancelled() => Some(socket::cut_off()),
    };
    if let Some(farewell) = farewell {
        let said = sink.send(socket::closing(farewell));
        let _ = tokio::time::timeout(FAREWELL, said).await;
    }
}

/// Hears the client until it leaves, or says what is no message.
async fn listen(
    stream: &mut SplitStream<WebSocket>,
    speaker: &Speaker,
    framing: Framing,
    heard: &Mutex<Instant>,
) -> Farewell {
    let limits = Limits {
        frame: MAX_MESSAGE,
        ..Limits::default()
    };
    loop {
        let message = match stream.next().await {
            None | Some(Ok(Message::Close(_))) => return None,
            Some(Err(error)) => {
                let text = error.to_string();
                let code = match text.contains("too long") {
                    true => close_code::SIZE,
                    false => close_code::PROTOCOL,
                };
                return Some((code, text));
            }
            Some(Ok(message)) => message,
        };
        if let Ok(mut heard) = heard.lock() {
            *heard = Instant::now();
        }
        let frame = match message {
            Message::Text(text) => Frame::Text(text.as_str().to_owned()),
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
        };
        let message = match framing.decode(frame, &limits) {
            Ok(message) => message,
            Err(error) => return Some((code_of(&error), error.to_string())),
        };
        match speaker.say(message).await {
            Ok(()) => {}
            // What it was told last comes first.
            Err(SessionError::Ended) => std::future::pending().await,
            Err(error) => return Some((close_code::POLICY, error.to_string())),
        }
    }
}

fn code_of(error: &WireError) -> u16 {
    match error {
        WireError::TooLarge { .. } | WireError::TooManyBuffers { .. } => close_code::SIZE,
        WireError::TextInV1 => close_code::UNSUPPORTED,
        _ => close_code::INVALID,
    }
}

/// Tells the client what was said, until it is gone or there is no more.
async fn speak(
    sink: &mut SplitSink<WebSocket, Message>,
    attached: &mut Attached,
    framed: Framed,
    heard: &Mutex<Instant>,
    told: &mut Told,
) -> Farewell {
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    loop {
        tokio::select! {
            next = attached.next() => match next {
                Next::Said(records) => {
                    for record in records {
                        // What cannot be put into a frame is not there for this client.
                        let Some(message) = framed.put(&record) else { continue };
                        sink.feed(message).await.ok()?;
                    }
                    sink.flush().await.ok()?;
                    told.passed(attached);
                }
                Next::Over => return Some((close_code::AWAY, "the session has ended".to_owned())),
                Next::Cut => return Some((
                    close_code::POLICY,
                    "came back by another connection".to_owned(),
                )),
            },
            () = told.got_on() => told.take(attached),
            _ = ping.tick() => {
                let last = heard.lock().map_or_else(|_| Instant::now(), |heard| *heard);
                if last.elapsed() > SILENCE {
                    return Some((close_code::POLICY, "no sign of life".to_owned()));
                }
                sink.send(Message::Ping(bytes::Bytes::new())).await.ok()?;
            }
        }
    }
}

/// Up to where a client was told what was said. Over a link that is known when the server has it: what was only written
/// is lost with a server that dies, and told again.
struct Told {
    delivery: Option<Delivery>,
    /// Positions in the log, and the bytes on the link that have to be taken for them.
    written: VecDeque<(u64, u64)>,
}

impl Told {
    fn new(delivery: Option<Delivery>) -> Self {
        Self {
            delivery,
            written: VecDeque::new(),
        }
    }

    /// All that it was given was written.
    fn passed(&mut self, attached: &Attached) {
        match &self.delivery {
            None => attached.took(),
            Some(Delivery(progress)) => {
                let written = (progress.written(), attached.position());
                self.written.push_back(written);
                self.take(attached);
            }
        }
    }

    /// Waits until the server has more of it.
    async fn got_on(&mut self) {
        match &mut self.delivery {
            Some(Delivery(progress)) if !self.written.is_empty() => progress.more().await,
            _ => std::future::pending().await,
        }
    }

    /// Remembers what the server has.
    fn take(&mut self, attached: &Attached) {
        let Some(Delivery(progress)) = &self.delivery else {
            return;
        };
        let taken = progress.taken();
        let mut position = None;
        while let Some((written, at)) = self.written.front().copied() {
            if written > taken {
                break;
            }
            position = Some(at);
            self.written.pop_front();
        }
        if let Some(position) = position {
            attached.took_until(position);
        }
    }
}

impl Framed {
    fn put(self, record: &Record) -> Option<Message> {
        if self.framing == Framing::V1 && !self.has_offsets {
            return Some(Message::Binary(record.frame.clone()));
        }
        let message = record.message(self.has_offsets)?;
        match self.framing.encode(&message).ok()? {
            Frame::Text(text) => Some(Message::Text(text.into())),
            Frame::Binary(bytes) => Some(Message::Binary(bytes)),
        }
    }
}
