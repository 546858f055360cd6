//! Jobs and events, in process or in Redis. SQL is the truth; what is here are hints: a job says that a
//! worker should look at a task, an event that something changed. A job may be given out twice. It is not
//! lost while Redis lives, and when Redis has lost something, [`Queue::incarnation`] says so.
//!
//! # Layout
//! - [`Queue`]: the door. Callers that only tell something never wait.
//! - [`Jobs`] and [`Taken`]: for workers. Nobody polls: who waits for a job sleeps until there is one.
//! - [`Events`]: who waits for a task is told that it changed. [`Follow`]: what passes while somebody looks, and is not kept.
//! - [`Links`]: streams of bytes to other processes of the queue, in Redis; `links/` says how.
//! - `memory/`: the queue of a process that is alone. `broker/`: the one in Redis; what its keys are
//!   stands at its top. Both give out jobs in the same order, and have the same tests.
//!
//! # Order
//! By [priority](runner_core::task::Priority), strictly. Among jobs of one priority, first those that were
//! given out before (handed back, left by a dead worker, parked); then submitters take turns, and the jobs
//! of each go first in, first out.

mod broker;
mod clock;
mod error;
mod events;
mod hints;
mod job;
mod jobs;
mod links;
mod live;
mod memory;
mod open;
mod taken;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use broker::RedisConfig;
pub use error::QueueError;
pub use events::{Events, Watch};
pub use job::{Consumer, Depth, MIN_LEASE};
pub use jobs::Jobs;
pub use links::{Holding, Host, LinkProgress, LinkStream, Links, Opened, Places};
pub use live::{Follow, Message};
pub use runner_core::job::{Job, Offer};
pub use taken::Taken;

use broker::Broker;
use hints::Hints;
use live::Followers;
use memory::Memory;

/// Jobs that wait for a worker, and hints. Clones share them. When the last clone and all [`Jobs`] and
/// [`Taken`] are gone, what runs in the background ends; see [`Queue::flushed`].
#[derive(Debug, Clone)]
pub struct Queue {
    backend: Kind,
    hints: Arc<Hints>,
    /// Who follows tasks of a queue in this process.
    followers: Arc<Followers>,
    /// Why jobs do not reach others, if they do not.
    apart: Arc<Mutex<Option<String>>>,
}

#[derive(Debug, Clone)]
enum Kind {
    Memory(Arc<Memory>),
    Broker(Arc<Broker>),
}

impl Queue {
    /// An empty queue in this process.
    pub fn in_process() -> Self {
        links::count();
        Self {
            backend: Kind::Memory(Arc::new(Memory::new())),
            hints: Arc::new(Hints::new(None)),
            followers: Arc::default(),
            apart: Arc::default(),
        }
    }

    /// A queue in Redis. Fails at once when that cannot be used; afterwards it never ends by itself, and
    /// what is told while Redis is away is told later.
    ///
    /// # Errors
    /// The address is none of a Redis, nothing answers there, it is something else, too old, or refuses
    /// the password.
    pub async fn connect(config: &RedisConfig) -> Result<Self, QueueError> {
        let (broker, hints) = Broker::connect(config).await?;
        Ok(Self {
            backend: Kind::Broker(broker),
            hints,
            followers: Arc::default(),
            apart: Arc::default(),
        })
    }

    /// Offers a job. Never waits, never fails, see [`Queue::push_all`].
    pub fn push(&self, offer: Offer) {
        self.push_all([offer]);
    }

    /// Offers jobs, in this order. Never waits, never fails: what Redis has not taken yet is kept in
    /// memory. Beyond 200,000 offers that Redis has not taken, further ones are forgotten, and
    /// [`Queue::incarnation`] changes.
    pub fn push_all(&self, offers: impl IntoIterator<Item = Offer>) {
        match &self.backend {
            Kind::Memory(memory) => memory.push_all(offers),
            Kind::Broker(broker) => broker.push_all(offers),
        }
    }

    /// Waits until Redis has all that was told to it: offers and settled jobs. Lasts as long as Redis is
    /// away: put a deadline on it.
    pub async fn flushed(&self) {
        match &self.backend {
            Kind::Memory(_) => {}
            Kind::Broker(broker) => broker.flushed().await,
        }
    }

    /// Jobs for a consumer. Needs a tokio runtime.
    pub fn jobs(&self, consumer: Consumer) -> Jobs {
        match &self.backend {
            Kind::Memory(memory) => Jobs::in_process(Arc::clone(memory), consumer),
            Kind::Broker(broker) => Jobs::from_broker(broker, consumer),
        }
    }

    /// Gives out no more jobs to this process. [`Jobs`] end when what they gave out is settled.
    pub fn close(&self) {
        match &self.backend {
            Kind::Memory(memory) => memory.close(),
            Kind::Broker(broker) => broker.close(),
        }
    }

    /// How many jobs there are.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        match &self.backend {
            Kind::Memory(memory) => Ok(memory.depth()),
            Kind::Broker(broker) => broker.depth().await,
        }
    }

    /// Changes whenever Redis may have lost jobs, so that they are to be offered again from SQL: when its
    /// keys are gone, when it was started anew or another took its place, and when a process had to forget
    /// offers. `None` in process.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn incarnation(&self) -> Result<Option<String>, QueueError> {
        match &self.backend {
            Kind::Memory(_) => Ok(None),
            Kind::Broker(broker) => broker.incarnation().await.map(Some),
        }
    }

    /// Looks whether Redis answers. In process there is nothing to ask.
    ///
    /// # Errors
    /// It did not.
    pub async fn check(&self) -> Result<(), QueueError> {
        match &self.backend {
            Kind::Memory(_) => Ok(()),
            Kind::Broker(broker) => broker.check().await,
        }
    }

    /// Shows that this process is at this Redis, for so long, and answers which of others have not. In process
    /// nobody is missed.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn missing(
        &self,
        others: &[String],
        shown_for: Duration,
    ) -> Result<Vec<String>, QueueError> {
        match &self.backend {
            Kind::Memory(_) => Ok(Vec::new()),
            Kind::Broker(broker) => broker.missing(others, shown_for).await,
        }
    }

    /// Remembers that the other processes of the installation are at another Redis, or that they are not.
    pub fn set_apart(&self, reason: Option<String>) {
        *self.lock_apart() = reason;
    }

    /// Why the other processes of the installation do not hear of what is told here, if that is so.
    pub fn apart(&self) -> Option<String> {
        self.lock_apart().clone()
    }

    fn lock_apart(&self) -> MutexGuard<'_, Option<String>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links to the other processes of the queue; none in process. They begin with the first call.
    pub fn links(&self) -> Option<Links> {
        match &self.backend {
            Kind::Memory(_) => None,
            Kind::Broker(broker) => Some(broker.links()),
        }
    }

    /// Says to all workers of the queue that webhook deliveries are due.
    pub fn deliveries_due(&self) {
        self.hints.deliveries_due();
    }

    /// Waits until webhook deliveries are due. For one caller in a process.
    pub async fn deliveries(&self) {
        self.hints.deliveries().await;
    }

    /// Says to all workers of the queue that schedules were changed.
    pub fn schedules_changed(&self) {
        self.hints.schedules_changed();
    }

    /// Waits until schedules were changed. For one caller in a process.
    pub async fn schedules(&self) {
        self.hints.schedules().await;
    }

    /// Says to all processes of the queue that something else is wanted of modules.
    pub fn modules_changed(&self) {
        self.hints.modules_changed();
    }

    /// Waits until something else is wanted of modules. For one caller in a process.
    pub async fn modules(&self) {
        self.hints.modules().await;
    }

    /// Says to all workers of the queue that tasks were ended in SQL, so that a worker that has one need
    /// not find out by itself; tells who listens to them, and that webhooks may be due.
    pub fn tasks_ended(&self, tasks: &[i64], events: &Events) {
        self.hints.tasks_ended(tasks);
        tasks.iter().for_each(|task| events.changed(*task));
        self.deliveries_due();
    }

    /// Waits for tasks that were ended in SQL. For one caller in a process.
    pub async fn ended_tasks(&self) -> Vec<i64> {
        self.hints.ended_tasks().await
    }

    /// Shows something of a task to those who follow it, in all processes of the queue. Never waits: where there is no
    /// room, or it has more than 256 KiB, it is lost.
    pub fn show(&self, task: i64, message: Vec<u8>) {
        let message: Message = message.into();
        match &self.backend {
            Kind::Memory(_) => self.followers.show(task, &message),
            Kind::Broker(broker) => broker.show(task, message),
        }
    }

    /// Follows a task: hears what is shown of it from now on.
    pub async fn follow(&self, task: i64) -> Follow {
        match &self.backend {
            Kind::Memory(_) => self.followers.follow(task),
            Kind::Broker(broker) => broker.follow(task).await,
        }
    }

    /// Who waits for tasks: watchers of all processes of the queue.
    pub fn events(&self) -> Events {
        self.hints.events.clone()
    }

    /// Waits until hints may have been missed: the connection to Redis was lost and made again, or there
    /// were too many of them. Then look into SQL. For one caller in a process. All watchers of
    /// [`Events`] are told then, deliveries are said to be due, and schedules and modules to be changed.
    pub async fn gaps(&self) {
        self.hints.gaps().await;
    }
}
