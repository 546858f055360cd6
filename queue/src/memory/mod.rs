//! The queue of a process that is alone. Nothing runs in the background: who waits for jobs knows when the
//! next one is due.

mod order;
mod ticket;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, TryAcquireError, watch};
use tokio::time::Instant;

use crate::job::Entry;
use crate::open::Open;
use crate::taken::{self, Taken};
use crate::{Consumer, Depth, Offer};

use order::Order;
pub(crate) use ticket::Ticket;

#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    /// A permit for one who waits: there is a job. Who takes it passes it on when there are more.
    arrived: Notify,
    /// Tells all who wait that something is due earlier than they know.
    sooner: Notify,
    is_closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    order: Order,
    /// What happens at a time. The number tells apart what happens at the same one.
    timers: BTreeMap<(Instant, u64), Timer>,
    last_timer: u64,
    groups: HashMap<Arc<str>, Group>,
    delayed: u64,
    taken: u64,
    parked: u64,
}

#[derive(Debug)]
enum Timer {
    /// A job gets ready.
    Due(Entry),
    /// The lease of a job that was dropped ends.
    Lost(Entry),
}

/// Jobs of which only so many run at a time.
#[derive(Debug, Default)]
struct Group {
    members: u32,
    parked: VecDeque<Entry>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            sooner: Notify::new(),
            is_closed: watch::Sender::new(false),
        }
    }

    pub(crate) fn push_all(&self, offers: impl IntoIterator<Item = Offer>) {
        let mut submitter: Arc<str> = Arc::from("");
        let mut state = self.state();
        for offer in offers {
            if *offer.submitter != *submitter {
                submitter = Arc::from(offer.submitter.as_str());
            }
            let entry = Entry {
                job: offer.job,
                deliveries: 0,
                priority: offer.priority,
                submitter: Arc::clone(&submitter),
                place: None,
            };
            match offer.not_before.and_then(crate::clock::time_left) {
                Some(left) => self.later(&mut state, left, entry),
                None => {
                    state.order.push(entry);
                    self.arrived.notify_one();
                }
            }
        }
    }

    pub(crate) fn close(&self) {
        self.is_closed.send_replace(true);
    }

    pub(crate) fn depth(&self) -> Depth {
        let state = self.state();
        Depth {
            ready: state.order.len() as u64,
            delayed: state.delayed,
            taken: state.taken,
            parked: state.parked,
            dead: 0,
        }
    }

    /// The next job with its slot; `None` when the queue is closed.
    pub(crate) async fn next(
        self: Arc<Self>,
        consumer: Consumer,
        open: Arc<Open>,
    ) -> Option<Taken> {
        let mut closed = self.is_closed.subscribe();
        let mut was_woken = false;
        loop {
            if *closed.borrow() {
                self.arrived.notify_one();
                return None;
            }
            let slot = match Arc::clone(&consumer.slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(TryAcquireError::Closed) => return None,
                Err(TryAcquireError::NoPermits) => {
                    if std::mem::take(&mut was_woken) {
                        self.arrived.notify_one();
                    }
                    tokio::select! {
                        _ = closed.wait_for(|is_closed| *is_closed) => {}
                        _ = consumer.slots.acquire() => {}
                    }
                    continue;
                }
            };
            let mut arrived = pin!(self.arrived.notified());
            let mut sooner = pin!(self.sooner.notified());
            arrived.as_mut().enable();
            sooner.as_mut().enable();
            let next_timer = {
                let mut state = self.state();
                state.let_happen(Instant::now());
                if let Some(mut entry) = state.order.pop() {
                    if state.order.len() > 0 {
                        self.arrived.notify_one();
                    }
                    state.taken += 1;
                    drop(state);
                    entry.deliveries = entry.deliveries.saturating_add(1);
                    let ticket = Ticket::new(Arc::clone(&self), entry.clone(), consumer.lease());
                    let ticket = taken::Ticket::Memory(ticket);
                    return Some(Taken::new(entry, slot, ticket, Open::enter(&open)));
                }
                state.timers.keys().next().map(|(at, _)| *at)
            };
            drop(slot);
            let timer = async {
                match next_timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = arrived => was_woken = true,
                () = sooner => {}
                () = timer => was_woken = true,
                _ = closed.wait_for(|is_closed| *is_closed) => {}
            }
        }
    }

    /// A job gets ready after a while.
    fn later(&self, state: &mut State, after: Duration, entry: Entry) {
        state.delayed += 1;
        self.at(state, after, Timer::Due(entry));
    }

    fn at(&self, state: &mut State, after: Duration, timer: Timer) {
        let at = crate::clock::after(after);
        state.last_timer += 1;
        let key = (at, state.last_timer);
        state.timers.insert(key, timer);
        if state.timers.keys().next() == Some(&key) {
            self.sooner.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whatever is due by now happens.
    fn let_happen(&mut self, now: Instant) {
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            match first.remove() {
                Timer::Due(entry) => {
                    self.delayed -= 1;
                    self.order.push(entry);
                }
                Timer::Lost(entry) => {
                    self.taken -= 1;
                    self.order.push_front(entry);
                }
            }
        }
    }
}
