//! The body of an answer on its way from a plugin to a client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use runner_host::Visit;
use tokio_util::task::AbortOnDropHandle;

/// With it ends the connection.
pub(super) struct Received {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
    _visit: Visit,
}

impl Received {
    pub(super) fn new(body: Incoming, connection: AbortOnDropHandle<()>, visit: Visit) -> Self {
        Self {
            body,
            _connection: connection,
            _visit: visit,
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.get_mut().body).poll_frame(context));
        if let Some(Err(error)) = &frame {
            tracing::warn!("a plugin broke off its answer: {error}");
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
