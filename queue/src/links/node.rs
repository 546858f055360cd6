//! This process among those that have links: its inbox, its epoch, and a table of its links.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::end::End;
use super::frame::{Body, Frame};
use super::stream::{Ended, LinkStream};
use super::{inbox, presence, sender};
use crate::broker::{Connection, random};

/// Links that others have opened and nobody has taken.
const MAX_OPENED: usize = 1024;
/// Links that were, so that a frame that comes again begins none of them anew.
const MAX_CLOSED: usize = 10_000;
/// How long who opens a link waits for Redis.
const PATIENCE: Duration = Duration::from_secs(5);

/// A link: the process at its other end, and its id.
type Key = (Arc<str>, u64);

/// This process, as the others see it.
pub(crate) struct Node {
    pub(crate) redis: Connection,
    process: Arc<str>,
    table: Mutex<Table>,
    /// Whether the others can see it, in which epoch.
    epoch: watch::Sender<Option<u64>>,
    /// Counts its epochs.
    generation: AtomicU64,
    outgoing: mpsc::UnboundedSender<Sending>,
    /// Up to where its inbox was read, in which generation.
    read: Mutex<(u64, String)>,
    /// A connection failed: Redis may have been restarted.
    pub(super) is_doubtful: AtomicBool,
    /// Something is to be looked at at once.
    pub(super) look: Notify,
    pub(super) gone: CancellationToken,
    pub(super) meters: Meters,
}

#[derive(Default)]
struct Table {
    links: HashMap<Key, Arc<Ended>>,
    closed: HashSet<Key>,
    closed_order: VecDeque<Key>,
    opened: Option<mpsc::Sender<LinkStream>>,
}

/// A frame that is to go.
pub(super) struct Sending {
    pub(super) to: Arc<str>,
    /// It is dropped where a later one has begun.
    pub(super) generation: u64,
    pub(super) frame: Vec<u8>,
}

/// What is counted.
pub(super) struct Meters {
    links: Gauge,
    resets: Counter,
    pub(super) sent: Counter,
    pub(super) received: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
        describe_gauge!("runner_links", "Links to other processes that are open.");
        describe_counter!(
            "runner_link_bytes_total",
            Unit::Bytes,
            "Bytes of links that went to Redis and came from there, with what frames need."
        );
        describe_counter!(
            "runner_link_resets_total",
            "Links that were broken off: a process or Redis was gone."
        );
        let bytes = |direction: &'static str| {
            let counter = counter!("runner_link_bytes_total", "direction" => direction);
            counter.increment(0);
            counter
        };
        let resets = counter!("runner_link_resets_total");
        resets.increment(0);
        let links = gauge!("runner_links");
        links.set(0.0);
        Self {
            links,
            resets,
            sent: bytes("out"),
            received: bytes("in"),
        }
    }
}

impl Node {
    pub(crate) fn start(redis: Connection) -> Arc<Self> {
        let (outgoing, sending) = mpsc::unbounded_channel();
        let gone = redis.gone();
        let node = Arc::new(Self {
            process: redis.process().into(),
            redis,
            table: Mutex::default(),
            epoch: watch::Sender::new(None),
            generation: AtomicU64::new(0),
            outgoing,
            read: Mutex::new((0, "0-0".to_owned())),
            is_doubtful: AtomicBool::new(false),
            look: Notify::new(),
            gone,
            meters: Meters::new(),
        });
        tokio::spawn(sender::send(Arc::clone(&node), sending));
        tokio::spawn(inbox::read(Arc::clone(&node)));
        tokio::spawn(presence::keep(Arc::clone(&node)));
        node
    }

    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    /// The key of the inbox of a process.
    pub(super) fn inbox_of(&self, process: &str) -> String {
        self.redis.key(&format!("inbox:{process}"))
    }

    /// The key of its sign of life.
    pub(super) fn linked(&self, process: &str) -> String {
        self.redis.key(&format!("linked:{process}"))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Waits until the others can see this process.
    pub(super) async fn seen(&self) -> io::Result<()> {
        let mut epoch = self.epoch.subscribe();
        let seen = epoch.wait_for(Option::is_some);
        match tokio::time::timeout(PATIENCE, seen).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(late()),
        }
    }

    pub(crate) async fn open(self: &Arc<Self>, process: &str) -> io::Result<LinkStream> {
        if process == &*self.process {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a process has no links to itself",
            ));
        }
        self.seen().await?;
        let epoch = tokio::time::timeout(PATIENCE, self.epoch_of(process)).await;
        let epoch = epoch.map_err(|_| late())?.map_err(io::Error::other)?;
        let Some(epoch) = epoch else {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                format!("the process {process} gives no sign of life"),
            ));
        };
        let own = self.epoch.borrow().ok_or_else(late)?;
        let generation = self.generation();
        let ended = Ended::new(process.into(), epoch, random(), generation, End::opener());
        let key = (Arc::clone(&ended.peer), ended.id);
        self.lock().add(key, &ended, &self.meters);
        self.say(&ended, Body::Open { epoch: own });
        Ok(LinkStream::new(ended, Arc::clone(self)))
    }

    async fn epoch_of(&self, process: &str) -> redis::RedisResult<Option<u64>> {
        let mut command = redis::cmd("GET");
        command.arg(self.linked(process));
        self.redis.command(&command).await
    }

    pub(crate) fn listen(&self) -> mpsc::Receiver<LinkStream> {
        let (sender, receiver) = mpsc::channel(MAX_OPENED);
        self.lock().opened = Some(sender);
        receiver
    }

    /// Says something to the other end of a link.
    pub(super) fn say(&self, ended: &Ended, body: Body) {
        if self.generation() != ended.generation {
            return;
        }
        self.say_to(&ended.peer, ended.id, ended.generation, body);
    }

    fn say_to(&self, to: &Arc<str>, link: u64, generation: u64, body: Body) {
        let frame = Frame {
            from: Arc::clone(&self.process),
            link,
            body,
        };
        // Only after the end of the queue there is nobody to take it.
        let _ = self.outgoing.send(Sending {
            to: Arc::clone(to),
            generation,
            frame: frame.encode(),
        });
    }

    /// Nobody has this end any more.
    pub(super) fn forget(&self, ended: &Ended) {
        let key = (Arc::clone(&ended.peer), ended.id);
        self.lock().remove(key, ended.generation, &self.meters);
    }

    /// Hears a frame.
    pub(super) fn hear(self: &Arc<Self>, frame: Frame) {
        let Frame { from, link, body } = frame;
        let key = (from, link);
        let table = self.lock();
        let Some(ended) = table.links.get(&key).map(Arc::clone) else {
            match body {
                Body::Open { epoch } if !table.closed.contains(&key) => {
                    self.accept(table, key, epoch);
                }
                // What comes again, or needs no answer.
                Body::Open { .. } | Body::Reset { .. } | Body::Credit { .. } => {}
                Body::Data { .. } | Body::End { .. } => {
                    drop(table);
                    self.refuse(&key, "there is no such link");
                }
            }
            return;
        };
        drop(table);
        let mut state = ended.lock();
        let came = match body {
            Body::Open { .. } => Ok(()),
            Body::Data { number, bytes } => state.end.come(number, bytes),
            Body::End { number } => state.end.come_end(number),
            Body::Credit { taken } => state.end.credit(taken),
            Body::Reset { reason } => {
                state.end.break_off(&reason);
                Ok(())
            }
        };
        match came {
            Ok(()) => Ended::wake(state),
            Err(breach) => {
                let reason = breach.to_string();
                state.end.break_off(&reason);
                Ended::wake(state);
                self.meters.resets.increment(1);
                self.refuse(&key, &reason);
            }
        }
        ended.tell_progress();
    }

    fn accept(self: &Arc<Self>, mut table: MutexGuard<'_, Table>, key: Key, epoch: u64) {
        let generation = self.generation();
        let ended = Ended::new(
            Arc::clone(&key.0),
            epoch,
            key.1,
            generation,
            End::acceptor(),
        );
        let permit = table.opened.clone().map(mpsc::Sender::try_reserve_owned);
        match permit {
            Some(Ok(permit)) => {
                table.add(key, &ended, &self.meters);
                drop(table);
                permit.send(LinkStream::new(ended, Arc::clone(self)));
            }
            _ => {
                drop(table);
                self.refuse(&key, "it takes no links now");
            }
        }
    }

    fn refuse(&self, (to, link): &Key, reason: &str) {
        let reason = reason.to_owned();
        self.say_to(to, *link, self.generation(), Body::Reset { reason });
    }

    /// Resets the links with a process.
    pub(super) fn reset(&self, process: &str, reason: &str) {
        let all: Vec<Arc<Ended>> = {
            let table = self.lock();
            let links = table
                .links
                .iter()
                .filter(|((peer, _), _)| **peer == *process);
            links.map(|(_, ended)| Arc::clone(ended)).collect()
        };
        self.meters.resets.increment(all.len() as u64);
        all.iter().for_each(|ended| ended.break_off(reason));
    }

    /// The processes with which there are links that are not broken, and their epochs.
    pub(super) fn peers(&self) -> HashMap<Arc<str>, u64> {
        let table = self.lock();
        let links = table.links.values();
        let open = links.filter(|ended| ended.lock().end.broken().is_none());
        open.map(|ended| (Arc::clone(&ended.peer), ended.peer_epoch))
            .collect()
    }

    /// Begins anew: all links are over. The others see it when [`appear`](Self::appear) was called.
    pub(super) fn renew(&self, reason: &str) -> u64 {
        self.epoch.send_replace(None);
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        *self.lock_read() = (generation, "0-0".to_owned());
        let all: Vec<Arc<Ended>> = self.lock().links.values().map(Arc::clone).collect();
        self.meters.resets.increment(all.len() as u64);
        all.iter().for_each(|ended| ended.break_off(reason));
        generation
    }

    /// The others can see it.
    pub(super) fn appear(&self, epoch: u64) {
        self.epoch.send_replace(Some(epoch));
    }

    /// The epoch in which the others see it.
    pub(super) fn epoch(&self) -> Option<u64> {
        *self.epoch.borrow()
    }

    /// Up to where the inbox was read, and in which generation.
    pub(super) fn position(&self) -> (u64, String) {
        self.lock_read().clone()
    }

    /// It was read up to there.
    pub(super) fn advance(&self, generation: u64, last: String) {
        let mut read = self.lock_read();
        if read.0 == generation {
            read.1 = last;
        }
    }

    pub(crate) async fn leave(&self) {
        self.lock().opened = None;
        self.renew("the process ends");
        let mut pipe = redis::pipe();
        for name in ["linked", "mark", "inbox"] {
            let key = self.redis.key(&format!("{name}:{}", self.process));
            pipe.cmd("DEL").arg(key).ignore();
        }
        // Else it is missed after a lease.
        let _ = tokio::time::timeout(PATIENCE, self.redis.pipe::<()>(&pipe)).await;
        self.gone.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_read(&self) -> MutexGuard<'_, (u64, String)> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, key: Key, ended: &Arc<Ended>, meters: &Meters) {
        self.links.insert(key, Arc::clone(ended));
        self.count(meters);
    }

    fn remove(&mut self, key: Key, generation: u64, meters: &Meters) {
        let known = self.links.get(&key);
        if known.is_some_and(|known| known.generation == generation) {
            self.links.remove(&key);
        }
        if self.closed.insert(key.clone()) {
            self.closed_order.push_back(key);
        }
        if self.closed_order.len() > MAX_CLOSED
            && let Some(oldest) = self.closed_order.pop_front()
        {
            self.closed.remove(&oldest);
        }
        self.count(meters);
    }

    fn count(&self, meters: &Meters) {
        let count = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        meters.links.set(f64::from(count));
    }
}

fn late() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("Redis did not answer within {} s", PATIENCE.as_secs()),
    )
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}
