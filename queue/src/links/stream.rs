//! A link as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::end::End;
use super::frame::Body;
use super::node::Node;

/// One end of a link, as both the table of links and its stream have it.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The process at the other end, and its epoch.
    pub(crate) peer: Arc<str>,
    pub(crate) peer_epoch: u64,
    pub(crate) id: u64,
    /// In which of its generations this process has it.
    pub(crate) generation: u64,
    state: Mutex<State>,
    /// How many bytes the other end has taken.
    acknowledged: watch::Sender<u64>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) end: End,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Ended {
    pub(crate) fn new(
        peer: Arc<str>,
        peer_epoch: u64,
        id: u64,
        generation: u64,
        end: End,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            peer_epoch,
            id,
            generation,
            state: Mutex::new(State {
                end,
                reader: None,
                writer: None,
            }),
            acknowledged: watch::Sender::new(0),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came, or the link is over: whoever waits looks again.
    pub(crate) fn wake(mut state: MutexGuard<'_, State>) {
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    /// The link is over.
    pub(crate) fn break_off(&self, reason: &str) {
        let mut state = self.lock();
        state.end.break_off(reason);
        Self::wake(state);
    }

    /// The other end has taken more.
    pub(crate) fn tell_progress(&self) {
        let (_, acknowledged) = self.lock().end.progress();
        self.acknowledged.send_if_modified(|known| {
            let is_more = *known < acknowledged;
            *known = acknowledged.max(*known);
            is_more
        });
    }
}

/// A stream of bytes to another process, and back. Bytes go at once; nothing has to be flushed. Dropped before both
/// directions were shut down, it is reset at the other end.
#[derive(Debug)]
pub struct LinkStream {
    ended: Arc<Ended>,
    node: Arc<Node>,
}

/// How far the other end of a [`LinkStream`] has taken what was written. Clones are cheap.
#[derive(Debug, Clone)]
pub struct LinkProgress {
    ended: Arc<Ended>,
    acknowledged: watch::Receiver<u64>,
}

impl LinkStream {
    pub(crate) fn new(ended: Arc<Ended>, node: Arc<Node>) -> Self {
        Self { ended, node }
    }

    /// The process at the other end.
    pub fn peer(&self) -> &str {
        &self.ended.peer
    }

    /// A handle by which is seen what the other end has taken.
    pub fn progress(&self) -> LinkProgress {
        LinkProgress {
            acknowledged: self.ended.acknowledged.subscribe(),
            ended: Arc::clone(&self.ended),
        }
    }

    fn say(&self, body: Body) {
        self.node.say(&self.ended, body);
    }
}

impl LinkProgress {
    /// Bytes that were written so far.
    pub fn written(&self) -> u64 {
        self.ended.lock().end.progress().0
    }

    /// Bytes of them that the other end has taken.
    pub fn taken(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Waits until the other end has taken more. For ever where it never does.
    pub async fn more(&mut self) {
        if self.acknowledged.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

fn reset(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, reason.to_owned())
}

impl AsyncRead for LinkStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.ended.lock();
        let mut is_read = buffer.remaining() == 0;
        while buffer.remaining() > 0 {
            let Some(part) = state.end.take(buffer.remaining()) else {
                break;
            };
            buffer.put_slice(part);
            is_read = true;
        }
        if is_read {
            let untold = state.end.untold();
            drop(state);
            if let Some(taken) = untold {
                self.say(Body::Credit { taken });
            }
            return Poll::Ready(Ok(()));
        }
        if state.end.has_ended() {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = state.end.broken() {
            return Poll::Ready(Err(reset(reason)));
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut state = self.ended.lock();
        if let Some(reason) = state.end.broken() {
            return Poll::Ready(Err(reset(reason)));
        }
        if state.end.is_shut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let Some((number, size)) = state.end.send(bytes.len()) else {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        };
        // Under the lock, so that frames go in the order of their numbers.
        self.say(Body::Data {
            number,
            bytes: bytes[..size].to_vec(),
        });
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written has gone. That the link is over is heard by who reads or writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.ended.lock();
        if state.end.broken().is_none()
            && let Some(number) = state.end.shut()
        {
            self.say(Body::End { number });
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        let state = self.ended.lock();
        let is_over = state.end.broken().is_some();
        let is_done = state.end.is_shut() && state.end.has_ended();
        drop(state);
        if !is_over && !is_done {
            self.say(Body::Reset {
                reason: "the other end left".to_owned(),
            });
        }
        self.node.forget(&self.ended);
    }
}
