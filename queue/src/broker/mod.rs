//! The queue in Redis.
//!
//! # Keys
//! All begin with `runner:{<name of the queue>}:`. The braces put them into one slot of a Redis Cluster.
//!
//! | key | what |
//! |---|---|
//! | `ring:<0-3>` | list for each priority (0 is called, 3 is low): submitters with jobs that are ready, in the order of their turns |
//! | `jobs:<0-3>:<submitter>` | list: jobs of a submitter that are ready, oldest first |
//! | `front:<0-3>` | list: jobs that were given out before; they go before those of the ring |
//! | `delayed` | sorted set: jobs by the time at which they get ready, in ms by the clock of Redis |
//! | `taken` | sorted set: jobs that workers have, by the time at which their lease ends |
//! | `members` | hash: ids of jobs that have a place in a group, and which; taken ones, and those that were let in and are ready |
//! | `group:<group>` | set: ids of the jobs that have a place in the group |
//! | `parked:<group>` | list: jobs that wait for a place in the group |
//! | `ready`, `parked` | hashes: how many jobs are ready (by priority) and parked (by group), for [`Depth`] |
//! | `bell` | list of up to 16 tokens; idle workers block on it, and a token wakes one of them |
//! | `stop:<id>` | list on which one worker blocks too, so that it can be woken to end; lives a minute |
//! | `dead` | stream of the last 1,000 entries that could not be read, and where they were |
//! | `process:<name>` | there while the process is at this Redis; lives a lease |
//! | `incarnation` | random; gone when Redis lost its data, see [`Queue::incarnation`](crate::Queue::incarnation) |
//! | `hints` | channel for hints to all processes |
//! | `changes` | channel for tasks that changed, to processes in which somebody watches one |
//! | `live:<task>` | channel for what passes of a task while somebody follows it |
//!
//! Those of links to other processes stand at the top of `links/`.
//!
//! An entry is `id deliveries priority task run submitter`, separated by blanks; the submitter goes to the
//! end and may have blanks itself. While a job is taken, its deliveries include the present one, so that
//! who settles an entry whose lease has ended does not touch the next delivery.
//!
//! # How a job goes through it
//! Every step is one Lua script, so that a job is in exactly one place, whatever fails. `push` appends to
//! a list and puts a token on the bell. A worker wakes from its blocking `BLPOP`, and runs `take`: that
//! goes through the priorities in their order, takes from the rings in turns, and puts what it found into
//! `taken`. When jobs are left it leaves a token, so that the next worker wakes. `renew` prolongs leases,
//! `settle` takes out what is done. `tend` lets happen what depends on time; each process with workers
//! runs it exactly when the next thing is due.
//!
//! Why `taken` is no consumer group of a stream: `XREADGROUP` on several streams reads from all of them,
//! and a group cannot let submitters take turns; with a stream for what is ready, jobs that were prefetched
//! into it would go before more urgent ones.
//!
//! # Connections
//! One of a process for commands, one for hints, one of each consumer, on which it blocks, one of each follower of a task, and two for links where there are any. Each is made
//! again when it fails, with growing pauses of up to a second. Only commands that are in Redis 6.2 and
//! Valkey 7.2 and that hosted ones allow: lists, sorted sets, hashes, sets, streams, scripts, pub/sub, `INFO`.

mod address;
mod connection;
mod entry;
mod hints;
mod lease;
mod link;
mod live;
mod outbox;
mod reader;
mod scripts;
mod ticket;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::hints::{Hints, Outgoing};
use crate::links::Links;
use crate::live::{Follow, MAX_MESSAGE, Message};
use crate::{Depth, Offer, QueueError};

pub(crate) use address::info;
pub(crate) use connection::Connection;
pub(crate) use entry::random;
use lease::Held;
use link::Link;
pub(crate) use link::{ANSWER_TIMEOUT, Backoff, Health, silent};
use outbox::{Outbox, Settle, Waiting};
pub(crate) use reader::Reader;
use scripts::Scripts;
pub(crate) use scripts::millis;
pub(crate) use ticket::Ticket;

/// So many offers are kept while Redis does not take them.
const MAX_OFFERS: usize = 200_000;

/// Where a Redis is, and what this process is called there.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS, or `redis+unix:///path`.
    /// Valkey has the same with `valkey`.
    pub url: String,
    /// Name of the queue; several in one Redis do not see each other.
    pub name: String,
    /// Of this process, different from that of all others that use the queue.
    pub process: String,
}

/// The queue in Redis, and what runs in the background for it.
pub(crate) struct Broker {
    shared: Arc<Shared>,
    /// Links to other processes, from when they are wanted.
    links: OnceLock<Links>,
}

/// What the tasks in the background have in common.
struct Shared {
    link: Link,
    scripts: Scripts,
    config: RedisConfig,
    offers: Outbox<Waiting>,
    settles: Outbox<Settle>,
    /// Offers and settled jobs that Redis has not taken.
    unsent: Arc<watch::Sender<usize>>,
    /// Offers were forgotten, and the incarnation is not changed yet.
    has_forgotten: AtomicBool,
    held: Held,
    hints: Arc<Hints>,
    outgoing: Arc<Outgoing>,
    /// What is shown to followers.
    showing: mpsc::Sender<live::Showing>,
    /// Something is due earlier than was known.
    tend: Notify,
    is_tended: AtomicBool,
    /// The shortest lease of the consumers of this process, in ms.
    shortest_lease: AtomicU64,
    /// No more jobs are given out.
    closed: CancellationToken,
    /// Nobody uses the queue any more.
    gone: CancellationToken,
}

impl Broker {
    pub(crate) async fn connect(
        config: &RedisConfig,
    ) -> Result<(Arc<Self>, Arc<Hints>), QueueError> {
        address::check_name("queue", &config.name)?;
        address::check_name("process", &config.process)?;
        let client = address::client(&config.url)?;
        let link = Link::new(client, "commands");
        address::check_server(&link, &config.url).await?;
        let subscription = hints::Subscription::new(&link, &config.name)
            .await
            .map_err(|source| address::connect_error(&config.url, source))?;
        let outgoing = Arc::<Outgoing>::default();
        let unsent = Arc::new(watch::Sender::new(0));
        let (showing, shown) = mpsc::channel(live::MAX_WAITING);
        let shared = Arc::new(Shared {
            link,
            scripts: Scripts::new(&config.name),
            config: config.clone(),
            offers: Outbox::new(Arc::clone(&unsent)),
            settles: Outbox::new(Arc::clone(&unsent)),
            unsent,
            has_forgotten: AtomicBool::new(false),
            held: Held::default(),
            hints: Arc::new(Hints::new(Some(Arc::clone(&outgoing)))),
            outgoing,
            showing,
            tend: Notify::new(),
            is_tended: AtomicBool::new(false),
            shortest_lease: AtomicU64::new(u64::MAX),
            closed: CancellationToken::new(),
            gone: CancellationToken::new(),
        });
        tokio::spawn(outbox::send_offers(Arc::clone(&shared)));
        tokio::spawn(outbox::send_settles(Arc::clone(&shared)));
        tokio::spawn(lease::keep(Arc::clone(&shared)));
        tokio::spawn(hints::send(Arc::clone(&shared)));
        tokio::spawn(live::send(Arc::clone(&shared), shown));
        tokio::spawn(hints::receive(Arc::clone(&shared), subscription));
        let hints = Arc::clone(&shared.hints);
        let links = OnceLock::new();
        Ok((Arc::new(Self { shared, links }), hints))
    }

    pub(crate) fn push_all(&self, offers: impl IntoIterator<Item = Offer>) {
        let room = MAX_OFFERS.saturating_sub(self.shared.offers.len());
        let mut offers = offers.into_iter();
        let taken = offers.by_ref().take(room).map(Waiting::from);
        self.shared.offers.push_all(taken);
        if offers.next().is_some() && !self.shared.has_forgotten.swap(true, Ordering::AcqRel) {
            tracing::error!(
                queue = self.shared.config.name,
                "Redis has not taken {MAX_OFFERS} jobs, further ones are forgotten until it does"
            );
        }
    }

    pub(crate) async fn flushed(&self) {
        let mut unsent = self.shared.unsent.subscribe();
        // Fails only when the sender is gone, which is held here.
        let _ = unsent.wait_for(|count| *count == 0).await;
    }

    pub(crate) fn close(&self) {
        self.shared.closed.cancel();
    }

    pub(crate) fn show(&self, task: i64, message: Message) {
        if message.len() <= MAX_MESSAGE {
            let _ = self.shared.showing.try_send((task, message));
        }
    }

    pub(crate) async fn follow(&self, task: i64) -> Follow {
        live::follow(&self.shared, task).await
    }

    pub(crate) fn links(&self) -> Links {
        let begin = || Links::new(Connection::new(&self.shared));
        self.links.get_or_init(begin).clone()
    }

    pub(crate) async fn depth(&self) -> Result<Depth, QueueError> {
        let call = self.shared.scripts.depth();
        let counts = self.shared.link.script::<[i64; 5]>(&call).await;
        let [ready, delayed, taken, parked, dead] = counts
            .map_err(|source| self.error("count the jobs of", source))?
            .map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Depth {
            ready,
            delayed,
            taken,
            parked,
            dead,
        })
    }

    pub(crate) async fn check(&self) -> Result<(), QueueError> {
        let pong = self
            .shared
            .link
            .command::<String>(&redis::cmd("PING"))
            .await;
        pong.map(drop)
            .map_err(|source| self.error("ask whether it answers for", source))
    }

    pub(crate) async fn missing(
        &self,
        others: &[String],
        shown_for: Duration,
    ) -> Result<Vec<String>, QueueError> {
        let config = &self.shared.config;
        let key = |process: &str| scripts::key(&config.name, &format!("process:{process}"));
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(key(&config.process))
            .arg(1)
            .arg("PX")
            .arg(scripts::millis(shown_for).max(1))
            .ignore();
        for other in others {
            pipe.cmd("EXISTS").arg(key(other));
        }
        let shown = self.shared.link.pipe::<Vec<bool>>(&pipe).await;
        let shown = shown.map_err(|source| self.error("show this process to others of", source))?;
        let missing = others.iter().zip(shown).filter(|(_, is_there)| !is_there);
        Ok(missing.map(|(other, _)| other.clone()).collect())
    }

    pub(crate) async fn incarnation(&self) -> Result<String, QueueError> {
        self.shared
            .incarnation()
            .await
            .map_err(|source| self.error("ask for the incarnation of", source))
    }

    fn error(&self, what: &'static str, source: redis::RedisError) -> QueueError {
        QueueError::Command {
            what,
            queue: self.shared.config.name.clone(),
            source,
        }
    }
}

impl Shared {
    async fn incarnation(&self) -> redis::RedisResult<String> {
        self.admit_forgotten().await?;
        let key = scripts::key(&self.config.name, "incarnation");
        let new = uuid::Uuid::new_v4().simple().to_string();
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(&key).arg(new).arg("NX").ignore();
        pipe.cmd("GET").arg(&key);
        pipe.cmd("INFO").arg("server");
        let (key, info): (String, String) = self.link.pipe(&pipe).await?;
        let run = address::info(&info, "run_id").unwrap_or_default();
        Ok(format!("{key}-{run}"))
    }

    /// Changes the incarnation when offers were forgotten.
    async fn admit_forgotten(&self) -> redis::RedisResult<()> {
        if !self.has_forgotten.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let new = uuid::Uuid::new_v4().simple().to_string();
        let mut pipe = redis::pipe();
        let key = scripts::key(&self.config.name, "incarnation");
        pipe.cmd("SET").arg(key).arg(new).ignore();
        let changed = self.link.pipe::<()>(&pipe).await;
        if changed.is_err() {
            self.has_forgotten.store(true, Ordering::Release);
        }
        changed
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.gone.cancel();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("queue", &self.shared.config.name)
            .field("process", &self.shared.config.process)
            .finish_non_exhaustive()
    }
}
