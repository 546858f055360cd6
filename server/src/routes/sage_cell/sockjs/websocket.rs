//! `GET /sockjs/<server>/<session>/websocket`.

use axum::extract::Path as Segments;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures::StreamExt;
use futures::stream::{SplitSink, SplitStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::Cell;
use super::super::channels::send;
use super::super::kernels::MAX_MESSAGE;
use super::super::line::Receipt;
use super::frames::{self, Broken, Close};
use super::talk::{Heard, Talk};
use super::{HEARTBEAT, check_place};
use crate::error::ApiError;
use crate::socket;

pub(crate) async fn connect(
    cell: Cell,
    Segments((server, session)): Segments<(String, String)>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    check_place(&server, &session)?;
    let upgrade = socket::wanted(upgrade, MAX_MESSAGE)?;
    let place = cell.face.links().places().take(&cell.client)?;
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (talk, hears) = Talk::new(cell.face, cell.client);
        talk_over(socket, talk, hears).await;
        drop(place);
    }))
}

async fn talk_over(socket: WebSocket, mut talk: Talk, hears: mpsc::Receiver<Heard>) {
    let (mut sink, mut stream) = socket.split();
    if !send(&mut sink, Message::Text(frames::OPEN.into())).await {
        return;
    }
    let farewell = tokio::select! {
        farewell = listen(&mut stream, &mut talk) => farewell,
        farewell = speak(&mut sink, hears) => farewell,
    };
    // Who hears that this has ended may come back at once, to any server.
    talk.leave().await;
    if let Some(close) = farewell
        && send(&mut sink, Message::Text(close.frame().into())).await
    {
        send(&mut sink, Message::Close(None)).await;
    }
}

/// Hears the page until it leaves, or says what is none.
async fn listen(stream: &mut SplitStream<WebSocket>, talk: &mut Talk) -> Option<Close> {
    loop {
        let text = match stream.next().await? {
            Ok(Message::Text(text)) => text,
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Binary(_)) => return Some(Close::no_message("a binary frame")),
            Ok(Message::Close(_)) | Err(_) => return None,
        };
        let all = match frames::read(&text) {
            Ok(all) => all,
            // Nothing is said with it.
            Err(Broken::Empty) => continue,
            Err(Broken::NoList) => return Some(Close::no_message("a frame is a list of texts")),
        };
        for one in all {
            if let Err(close) = talk.say(&one).await {
                return Some(close);
            }
        }
    }
}

/// Tells the page what its kernels say, until it is gone.
async fn speak(
    sink: &mut SplitSink<WebSocket, Message>,
    mut hears: mpsc::Receiver<Heard>,
) -> Option<Close> {
    let mut beat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        let (frame, receipt) = tokio::select! {
            heard = hears.recv() => match heard? {
                Heard::Said(said) => (frames::said(&said.messages), said.receipt),
                Heard::Cut => return Some(Close::go_away()),
            },
            _ = beat.tick() => (Some(frames::HEARTBEAT.to_owned()), Receipt::None),
        };
        if let Some(frame) = frame
            && !send(sink, Message::Text(frame.into())).await
        {
            return None;
        }
        receipt.sign();
    }
}
