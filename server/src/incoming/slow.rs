//! Cuts who does not send the body of a request.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// The body did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Slow {
    /// Nothing more came.
    #[error("no more of the body came within {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// It came, but for too long.
    #[error("the body was not whole after {} s", .0.as_secs_f64())]
    Long(Duration),
}

impl Slow {
    /// Whether an error is this, or was caused by it.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(slow) = error.downcast_ref() {
                return Some(*slow);
            }
            cause = error.source();
        }
        None
    }
}

/// A body that has to come in time. A timer is set only when there is something to wait for.
pub(super) struct Timely {
    body: Body,
    silence: Duration,
    whole: Duration,
    /// When it must be whole.
    end: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Timely {
    pub(super) fn new(body: Body, limits: &Limits) -> Self {
        Self {
            body,
            silence: limits.client,
            whole: limits.upload,
            end: Instant::now() + limits.upload,
            timer: None,
            is_waiting: false,
        }
    }

    /// Whether it has been waited for long enough.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Slow> {
        if !self.is_waiting {
            let until = self.end.min(Instant::now() + self.silence);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until),
                none => *none = Some(Box::pin(sleep_until(until))),
            }
            self.is_waiting = true;
        }
        let is_due = match &mut self.timer {
            Some(timer) => timer.as_mut().poll(context).is_ready(),
            None => false,
        };
        match is_due {
            true if Instant::now() >= self.end => Poll::Ready(Slow::Long(self.whole)),
            true => Poll::Ready(Slow::Silent(self.silence)),
            false => Poll::Pending,
        }
    }
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let was_waiting = std::mem::take(&mut self.is_waiting);
            let goes_on = matches!(frame, Some(Ok(_)));
            if was_waiting && goes_on && Instant::now() >= self.end {
                return Poll::Ready(Some(Err(axum::Error::new(Slow::Long(self.whole)))));
            }
            return Poll::Ready(frame);
        }
        self.poll_timer(context)
            .map(|slow| Some(Err(axum::Error::new(slow))))
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
    use super::*;
    use futures::StreamExt;
    use futures::stream::{self, BoxStream};
    use std::convert::Infallible;

    fn limits() -> Limits {
        Limits {
            client: Duration::from_secs(10),
            upload: Duration::from_secs(60),
            ..Limits::default()
        }
    }

    /// A body of which a byte comes each time that so much time has passed.
    fn drops(pause: Duration) -> BoxStream<'static, Result<Bytes, Infallible>> {
        let next = move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        };
        stream::unfold((), next).boxed()
    }

    async fn outcome(body: Body) -> Result<usize, Slow> {
        let mut body = Body::new(Timely::new(body, &limits())).into_data_stream();
        let mut size = 0;
        while let Some(bytes) = body.next().await {
            match bytes {
                Ok(bytes) => size += bytes.len(),
                Err(error) => return Err(Slow::of(&error).unwrap()),
            }
        }
        Ok(size)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_in_time_or_is_cut() {
        let silent = stream::pending::<Result<Bytes, Infallible>>();
        assert_eq!(
            outcome(Body::from_stream(silent)).await,
            Err(Slow::Silent(limits().client))
        );
        let slow = drops(Duration::from_secs(9));
        assert_eq!(
            outcome(Body::from_stream(slow)).await,
            Err(Slow::Long(limits().upload))
        );
        let whole = drops(Duration::from_secs(9)).take(5);
        assert_eq!(outcome(Body::from_stream(whole)).await, Ok(5));
        assert_eq!(outcome(Body::from("abc")).await, Ok(3));
    }
}
