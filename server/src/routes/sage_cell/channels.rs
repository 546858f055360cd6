//! `GET /kernel/<id>/channels`: a client and its kernel, over a WebSocket with JSON. One that calls itself `session_id` goes
//! on where it left, or where `offset` says.

use std::time::Duration;

use axum::extract::RawQuery;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use runner_session::{Receipt, SessionError};
use tokio::time::Instant;

use super::fields::Fields;
use super::kernels::{self, MAX_MESSAGE};
use super::line::remote::{position_frame, position_in};
use super::line::{Line, Place, Said, Told, Voice};
use super::{Cell, id_of};
use crate::error::ApiError;
use crate::routes::Segment;
use crate::socket::{self, Farewell};

/// How often a client is asked for a sign of life.
const PING: Duration = Duration::from_secs(30);
/// How long a client may take nothing.
const STUCK: Duration = Duration::from_secs(60);

pub(crate) async fn connect(
    cell: Cell,
    Segment(id): Segment,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let id = id_of(&id)?;
    let fields = Fields::of_query(query.as_deref());
    let offset = socket::offset(fields.get("offset"))?;
    let upgrade = socket::wanted(upgrade, MAX_MESSAGE)?;
    let is_held = cell.held.is_some();
    let place = match cell.held {
        // The page hears of no positions: the server says them.
        Some(held) => Place {
            name: Some(held.name),
            offset: held.offset,
            shows_offsets: false,
        },
        None => Place {
            name: fields.some("session_id").map(str::to_owned),
            offset,
            shows_offsets: offset.is_some(),
        },
    };
    let line = kernels::line_here(&cell.face, id, place)?;
    Ok(upgrade.on_upgrade(move |socket| talk(socket, line, is_held)))
}

/// `is_held`: whether a server holds it for a page, and says what the page has.
async fn talk(socket: WebSocket, line: Line, is_held: bool) {
    let (mut sink, mut stream) = socket.split();
    let (voice, cut) = (line.voice(), line.cut());
    let receipt = line.receipt().filter(|_| is_held);
    let farewell = tokio::select! {
        farewell = listen(&mut stream, &voice, receipt) => farewell,
        farewell = speak(&mut sink, line, is_held) => farewell,
        () = cut.cancelled() => Some(socket::cut_off()),
    };
    if let Some(farewell) = farewell {
        send(&mut sink, socket::closing(farewell)).await;
    }
}

/// Hears the client until it leaves, or says what is no message. `receipt`: where a server says what its page has.
async fn listen(
    stream: &mut SplitStream<WebSocket>,
    voice: &Voice,
    receipt: Option<Receipt>,
) -> Farewell {
    loop {
        let text = match stream.next().await {
            None | Some(Ok(Message::Close(_))) => return None,
            Some(Err(error)) => return Some((close_code::PROTOCOL, error.to_string())),
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(frame))) => {
                if let (Some(receipt), Some(position)) = (&receipt, position_in(&frame)) {
                    receipt.took_until(position);
                    continue;
                }
                let reason = "a binary frame; expected text".to_owned();
                return Some((close_code::UNSUPPORTED, reason));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
        };
        let message = match kernels::read(&text) {
            Ok(message) => message,
            Err(problem) => return Some((close_code::INVALID, problem)),
        };
        match voice.say(message).await {
            Ok(()) => {}
            // What it was told last comes first.
            Err(SessionError::Ended) => std::future::pending().await,
            Err(error) => return Some((close_code::POLICY, error.to_string())),
        }
    }
}

/// Tells the client what the kernel says, until one of them is gone.
async fn speak(
    sink: &mut SplitSink<WebSocket, Message>,
    mut line: Line,
    is_held: bool,
) -> Farewell {
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    loop {
        let is_sent = tokio::select! {
            told = line.next() => match told {
                Told::Said(said) => tell(sink, said, is_held).await,
                Told::Over => return Some((close_code::AWAY, "the kernel has ended".to_owned())),
                Told::Cut => return Some(socket::cut_off()),
            },
            _ = ping.tick() => send(sink, Message::Ping(bytes::Bytes::new())).await,
        };
        if !is_sent {
            return None;
        }
    }
}

/// Sends what was said; whether the client took it in time.
async fn tell(sink: &mut SplitSink<WebSocket, Message>, said: Said, is_held: bool) -> bool {
    let sending = async {
        for message in said.messages {
            sink.feed(Message::Text(message.into())).await?;
        }
        if is_held && let Some(position) = said.receipt.position() {
            sink.feed(Message::Binary(position_frame(position))).await?;
        }
        sink.flush().await
    };
    let is_sent = matches!(tokio::time::timeout(STUCK, sending).await, Ok(Ok(())));
    if is_sent && !is_held {
        said.receipt.sign();
    }
    is_sent
}

/// Sends a frame; whether the client took it in time.
pub(super) async fn send(sink: &mut SplitSink<WebSocket, Message>, frame: Message) -> bool {
    let sent = tokio::time::timeout(STUCK, sink.send(frame)).await;
    matches!(sent, Ok(Ok(())))
}
