//! The body of a request on its way to somebody else: a plugin, or a worker.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::error::ApiError;
use crate::incoming::slow::Slow;

/// Who is to do something next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// To send more of the body.
    Client,
    /// To take the body, or to answer.
    Receiver,
}

/// How far the body of a request has come.
#[derive(Debug, Clone)]
pub(crate) struct Transfer(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    turn: Turn,
    since: Instant,
    problem: Option<Problem>,
}

/// What is wrong with the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is larger than its limit.
    TooLarge,
    /// It ended in the middle, or was no body.
    Broken,
    /// It did not come in time.
    Slow(Slow),
}

impl Problem {
    /// As the client is told it, with the limit that there was.
    pub(crate) fn into_error(self, limit: u64) -> ApiError {
        match self {
            Self::TooLarge => ApiError::too_large("body", limit),
            Self::Broken => ApiError::bad_request("The body of the request is not whole."),
            Self::Slow(slow) => ApiError::slow(slow),
        }
    }
}

impl Default for Transfer {
    fn default() -> Self {
        let state = State {
            turn: Turn::Receiver,
            since: Instant::now(),
            problem: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl Transfer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_turn_of(&self, turn: Turn) {
        let mut state = self.state();
        (state.turn, state.since) = (turn, Instant::now());
    }

    /// Why the body did not reach whom it is for.
    pub(crate) fn problem(&self) -> Option<Problem> {
        self.state().problem
    }

    /// Waits until somebody has done nothing for so long, and says who.
    pub(crate) async fn stalled(&self, patience: Duration) -> Turn {
        loop {
            let (turn, since) = {
                let state = self.state();
                (state.turn, state.since)
            };
            if since.elapsed() >= patience {
                return turn;
            }
            tokio::time::sleep_until(since + patience).await;
        }
    }
}

/// A body that is passed on, and says what was wrong with it.
pub(crate) struct Passed {
    body: Body,
    /// Bytes that may still come.
    left: u64,
    transfer: Transfer,
}

impl Passed {
    /// `limit`: bytes that it may have.
    pub(crate) fn new(body: Body, limit: u64, transfer: Transfer) -> Self {
        Self {
            body,
            left: limit,
            transfer,
        }
    }
}

impl http_body::Body for Passed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            this.transfer.is_turn_of(Turn::Client);
            return Poll::Pending;
        };
        this.transfer.is_turn_of(Turn::Receiver);
        let size = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(error)) => {
                let problem = Slow::of(error).map_or(Problem::Broken, Problem::Slow);
                this.transfer.state().problem = Some(problem);
                0
            }
            None => 0,
        };
        match this.left.checked_sub(size as u64) {
            Some(left) => {
                this.left = left;
                Poll::Ready(frame)
            }
            None => {
                this.transfer.state().problem = Some(Problem::TooLarge);
                let problem = std::io::Error::other("the body is larger than its limit");
                Poll::Ready(Some(Err(axum::Error::new(problem))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn who_is_waited_for_is_known() {
        let patience = Duration::from_millis(20);
        let transfer = Transfer::default();
        assert_eq!(transfer.stalled(patience).await, Turn::Receiver);
        let body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut sent = Body::new(Passed::new(body, 9, transfer.clone())).into_data_stream();
        assert!(futures::poll!(sent.next()).is_pending());
        assert_eq!(transfer.stalled(patience).await, Turn::Client);
    }

    #[tokio::test]
    async fn a_body_ends_at_its_limit() {
        let transfer = Transfer::default();
        let mut sent =
            Body::new(Passed::new(Body::from("1234"), 4, transfer.clone())).into_data_stream();
        assert_eq!(sent.next().await.unwrap().unwrap(), "1234");
        assert_eq!(transfer.problem(), None);
        let mut sent =
            Body::new(Passed::new(Body::from("12345"), 4, transfer.clone())).into_data_stream();
        assert!(sent.next().await.unwrap().is_err());
        assert_eq!(transfer.problem(), Some(Problem::TooLarge));
    }
}
