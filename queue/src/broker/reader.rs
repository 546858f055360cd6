use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::link::{ANSWER_TIMEOUT, Backoff, Health, silent};
use super::outbox::{End, Settle};
use super::{Broker, Ticket, entry, scripts};
use crate::open::Open;
use crate::{Consumer, Taken, taken};

/// So long a worker sleeps at most before it looks again. A bell that was rung for a worker that died in
/// this moment is made good by it, and a connection that died in silence is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// So many jobs are taken in one call.
const MAX_TAKE: usize = 256;
/// So long the end of a consumer waits until Redis knows what became of its jobs.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Jobs of one consumer, as they come from Redis.
pub(crate) struct Reader {
    broker: Arc<Broker>,
    jobs: mpsc::UnboundedReceiver<Taken>,
    stop: CancellationToken,
    last_words: Option<BoxFuture<'static, ()>>,
}

/// What brings them, in the background.
struct Fetcher {
    broker: Arc<Broker>,
    consumer: Consumer,
    open: Arc<Open>,
    stop: CancellationToken,
    /// As many as there are permits, and so bounded.
    jobs: mpsc::UnboundedSender<Taken>,
    health: Health,
    /// The key on which it is woken to end.
    stop_key: String,
    bell_key: String,
}

/// What is known of the queue after a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// There may be jobs.
    MayBe,
    /// There are none: whoever offers one rings the bell.
    Empty,
    /// The bell rang for this.
    Rung,
}

impl Broker {
    /// Begins to take jobs for a consumer.
    pub(crate) fn read(broker: &Arc<Self>, consumer: &Consumer, open: &Arc<Open>) -> Reader {
        let shared = &broker.shared;
        shared.begin_to_tend(consumer.lease());
        let (sender, jobs) = mpsc::unbounded_channel();
        let stop = shared.closed.child_token();
        let id = uuid::Uuid::new_v4().simple();
        let queue = &shared.config.name;
        let fetcher = Fetcher {
            broker: Arc::clone(broker),
            consumer: consumer.clone(),
            open: Arc::clone(open),
            stop: stop.clone(),
            jobs: sender,
            health: Health::new(format!("jobs of {}", consumer.name)),
            stop_key: scripts::key(queue, &format!("stop:{id}")),
            bell_key: scripts::key(queue, "bell"),
        };
        tokio::spawn(fetcher.run());
        Reader {
            broker: Arc::clone(broker),
            jobs,
            stop,
            last_words: None,
        }
    }
}

impl Reader {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Taken>> {
        loop {
            match ready!(self.jobs.poll_recv(cx)) {
                Some(taken) if self.stop.is_cancelled() => taken.hand_back(),
                taken => return Poll::Ready(taken),
            }
        }
    }

    /// Takes no more jobs, gives back those that were not given out, and waits a while until Redis knows
    /// what became of the others.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stop.cancel();
        // Gives nothing any more, but ends when the fetcher has.
        while ready!(self.poll_next(cx)).is_some() {}
        let broker = &self.broker;
        let last_words = self.last_words.get_or_insert_with(|| {
            let broker = Arc::clone(broker);
            Box::pin(async move {
                // Whoever wants to know asks `flushed` without a limit.
                let _ = timeout(LAST_WORDS, broker.flushed()).await;
            })
        });
        last_words.as_mut().poll(cx)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.cancel();
        self.jobs.close();
        while let Ok(taken) = self.jobs.try_recv() {
            taken.hand_back();
        }
    }
}

impl Fetcher {
    async fn run(self) {
        let mut backoff = Backoff::default();
        let mut kept = None;
        let mut found = Found::MayBe;
        while let Some(free) = self.free_slots(found == Found::Rung).await {
            let last = std::mem::replace(&mut found, Found::MayBe);
            match self.step(kept.take(), free, last).await {
                Ok((connection, now)) => {
                    kept = Some(connection);
                    found = now;
                    self.health.fine();
                    backoff = Backoff::default();
                }
                Err(error) => {
                    self.health.failed(&error);
                    self.stop.run_until_cancelled(backoff.pause()).await;
                }
            }
        }
    }

    /// Waits for a free slot without holding one. Lets the bell ring for another meanwhile, if it rang for
    /// this. `None` when this is to end.
    async fn free_slots(&self, is_rung: bool) -> Option<usize> {
        let slots = &self.consumer.slots;
        if is_rung && (self.stop.is_cancelled() || slots.available_permits() == 0) {
            let mut pipe = redis::pipe();
            pipe.cmd("RPUSH").arg(&self.bell_key).arg("1").ignore();
            // When it fails, all sleepers are woken by the failure of their connections too.
            let _ = self.broker.shared.link.pipe::<()>(&pipe).await;
        }
        let free = self.stop.run_until_cancelled(slots.acquire()).await?.ok()?;
        drop(free);
        Some(slots.available_permits().clamp(1, MAX_TAKE))
    }

    /// Takes jobs, or sleeps until there may be one.
    async fn step(
        &self,
        connection: Option<MultiplexedConnection>,
        free: usize,
        last: Found,
    ) -> RedisResult<(MultiplexedConnection, Found)> {
        let link = &self.broker.shared.link;
        let mut connection = match connection {
            Some(connection) => connection,
            // No limit for answers: it is blocked on.
            None => link.connect(None).await?,
        };
        if last == Found::Empty {
            let found = match self.sleep(&mut connection).await? {
                true => Found::Rung,
                false => Found::MayBe,
            };
            return Ok((connection, found));
        }
        let call = self.broker.shared.scripts.take(free, self.consumer.lease());
        let taking = call.invoke_async::<(bool, Vec<Vec<u8>>)>(&mut connection);
        let (are_more, entries) = timeout(ANSWER_TIMEOUT, taking)
            .await
            .unwrap_or_else(|_| Err(silent()))?;
        self.give(entries).await;
        let found = match are_more {
            true => Found::MayBe,
            false => Found::Empty,
        };
        Ok((connection, found))
    }

    /// Sleeps. Whether the bell rang.
    async fn sleep(&self, connection: &mut MultiplexedConnection) -> RedisResult<bool> {
        let mut command = redis::cmd("BLPOP");
        command
            .arg(&self.stop_key)
            .arg(&self.bell_key)
            .arg(LONGEST_SLEEP.as_secs());
        let sleeping = timeout(
            LONGEST_SLEEP + ANSWER_TIMEOUT,
            command.query_async::<Option<(String, String)>>(connection),
        );
        let mut sleeping = pin!(sleeping);
        let rung = tokio::select! {
            rung = &mut sleeping => rung,
            () = self.stop.cancelled() => {
                // A connection that is just dropped might take the bell with it.
                let mut pipe = redis::pipe();
                pipe.cmd("RPUSH").arg(&self.stop_key).arg("1").ignore();
                pipe.cmd("EXPIRE").arg(&self.stop_key).arg(60).ignore();
                self.broker.shared.link.pipe::<()>(&pipe).await?;
                sleeping.await
            }
        };
        let rung = rung.unwrap_or_else(|_| Err(silent()))?;
        Ok(rung.is_some_and(|(key, _)| key == self.bell_key))
    }

    /// Gives out jobs, each with a slot.
    async fn give(&self, taken: Vec<Vec<u8>>) {
        let shared = &self.broker.shared;
        let mut entries = Vec::with_capacity(taken.len());
        for bytes in taken {
            let text = std::str::from_utf8(&bytes).ok();
            match text.and_then(|text| Some((Arc::<str>::from(text), entry::decode(text)?))) {
                Some(entry) => entries.push(entry),
                None => shared.settles.push_all([Settle {
                    entry: Arc::from(""),
                    end: End::Unreadable(bytes),
                }]),
            }
        }
        let held = entries.iter().map(|(text, _)| Arc::clone(text));
        shared.held.add(held, self.consumer.lease());
        for (text, entry) in entries {
            let broker = Arc::clone(&self.broker);
            let ticket = Ticket::new(broker, text, entry.deliveries);
            let Some(slot) = self.slot().await else {
                ticket.hand_back();
                continue;
            };
            let open = Open::enter(&self.open);
            let taken = Taken::new(entry, slot, taken::Ticket::Broker(ticket), open);
            if let Err(unwanted) = self.jobs.send(taken) {
                unwanted.0.hand_back();
            }
        }
    }

    /// `None` when this is to end.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        let slots = Arc::clone(&self.consumer.slots);
        let slot = self.stop.run_until_cancelled(slots.acquire_owned());
        slot.await?.ok()
    }
}
