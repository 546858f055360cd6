//! A tap over a WebSocket: each record is a message, a JSON object whose kind is `event`.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseCode, CloseFrame, Message, WebSocket, close_code};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::tap::Tap;
use crate::incoming::seat::Seat;
use crate::sse::KEEP_ALIVE;

/// Bytes of a message from a client; none is expected.
pub(super) const MAX_HEARD: usize = 4096;
/// How long a client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Sends what passes until the pipeline has ended, the client is gone, or the runner ends.
pub(super) async fn send(mut socket: WebSocket, mut tap: Tap, seat: Option<Seat>) {
    let mut pings = interval(KEEP_ALIVE);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is ready at once.
    pings.reset();
    let over = Seat::over(seat.as_ref());
    tokio::pin!(over);
    let code = loop {
        // None of these loses anything when another one is ready.
        let message = tokio::select! {
            record = tap.next() => match record {
                Some((name, mut data)) => {
                    data["event"] = json!(name);
                    Message::text(data.to_string())
                }
                None => break close_code::NORMAL,
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
            () = &mut over => break close_code::AWAY,
        };
        if socket.send(message).await.is_err() {
            return;
        }
    };
    let _ = timeout(GOODBYE, close(socket, code)).await;
}

/// Closes it, and waits until the client has seen that: what it has not read would be lost else.
async fn close(mut socket: WebSocket, code: CloseCode) {
    let reason = "".into();
    let frame = CloseFrame { code, reason };
    if socket.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
