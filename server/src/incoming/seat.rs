//! The place of a connection among those that there may be.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};

/// Held by a connection, and by whatever takes it over: a WebSocket counts as the connection that it was, and hears when
/// the server ends.
#[derive(Debug, Clone)]
pub(crate) struct Seat(Arc<Held>);

#[derive(Debug)]
struct Held {
    ended: watch::Receiver<bool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Seat {
    pub(super) fn new(permit: Option<OwnedSemaphorePermit>, ended: watch::Receiver<bool>) -> Self {
        Self(Arc::new(Held {
            ended,
            _permit: permit,
        }))
    }

    /// Waits until the server ends; without a seat, for ever.
    pub(crate) async fn over(seat: Option<&Self>) {
        let Some(seat) = seat else {
            return std::future::pending().await;
        };
        let mut ended = seat.0.ended.clone();
        // A server that is gone has ended.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}
