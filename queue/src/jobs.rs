use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::context::WorkerContext;
use futures::future::BoxFuture;
use tower::layer::util::Identity;

use crate::memory::Memory;
use crate::open::Open;
use crate::{Consumer, Taken, broker};

/// The jobs that one consumer gets. An apalis backend, and usable without apalis.
pub struct Jobs {
    consumer: Consumer,
    source: Source,
    open: Arc<Open>,
    /// Waits for the jobs that were given out, once the queue is closed.
    end: Option<BoxFuture<'static, ()>>,
    has_ended: bool,
}

enum Source {
    Memory {
        memory: Arc<Memory>,
        next: Option<BoxFuture<'static, Option<Taken>>>,
    },
    Broker(broker::Reader),
}

impl Jobs {
    pub(crate) fn in_process(memory: Arc<Memory>, consumer: Consumer) -> Self {
        Self::new(
            consumer,
            Arc::default(),
            Source::Memory { memory, next: None },
        )
    }

    pub(crate) fn from_broker(broker: &Arc<broker::Broker>, consumer: Consumer) -> Self {
        let open = Arc::default();
        let reader = broker::Broker::read(broker, &consumer, &open);
        Self::new(consumer, open, Source::Broker(reader))
    }

    fn new(consumer: Consumer, open: Arc<Open>, source: Source) -> Self {
        Self {
            consumer,
            source,
            open,
            end: None,
            has_ended: false,
        }
    }

    /// The next job, when there is one and a slot is free. `None` when the queue is closed and the jobs
    /// that this gave out are settled. May be cancelled, nothing is lost then.
    pub async fn next(&mut self) -> Option<Taken> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_taken(cx)).await
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Option<Taken>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if self.end.is_none() {
            let taken = match &mut self.source {
                Source::Memory { memory, next } => {
                    let future = next.get_or_insert_with(|| {
                        let memory = Arc::clone(memory);
                        Box::pin(memory.next(self.consumer.clone(), Arc::clone(&self.open)))
                    });
                    let taken = ready!(future.as_mut().poll(cx));
                    *next = None;
                    taken
                }
                Source::Broker(reader) => ready!(reader.poll_next(cx)),
            };
            if taken.is_some() {
                return Poll::Ready(taken);
            }
            let open = Arc::clone(&self.open);
            self.end = Some(Box::pin(async move { open.none().await }));
        }
        if let Some(end) = &mut self.end {
            ready!(end.as_mut().poll(cx));
        }
        self.has_ended = true;
        Poll::Ready(None)
    }
}

/// One that waits in [`Jobs::next`]. When it is cancelled, it must not stay in the line of those who are
/// woken: the others would sleep beside a job.
struct Waiting<'a>(&'a mut Jobs);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Source::Memory { next, .. } = &mut self.0.source {
            *next = None;
        }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs")
            .field("consumer", &self.consumer)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

/// For apalis, the arguments of a task are the [`Taken`] job; the handler settles it. There are no errors:
/// whatever happens to Redis, the worker goes on.
impl Backend for Jobs {
    type Task = Task<Taken>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _cx: &mut Context<'_>,
        _worker: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let taken = ready!(self.poll_taken(cx));
        if taken.is_none() {
            // A worker does not end because its backend has. It runs, so this cannot fail.
            let _ = worker.stop();
        }
        Poll::Ready(taken.map(|taken| Ok(Task::new(taken))))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _worker: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        match &mut self.source {
            Source::Memory { next, .. } => {
                *next = None;
                Poll::Ready(Ok(()))
            }
            Source::Broker(reader) => reader.poll_close(cx).map(Ok),
        }
    }
}

impl BackendConfig for Jobs {
    type Args = Taken;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = Consumer;
    type Layer = Identity;

    fn config(&self) -> &Consumer {
        &self.consumer
    }

    fn middleware(&mut self, _worker: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
