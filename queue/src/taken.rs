use std::time::Duration;

use runner_core::task::Priority;
use tokio::sync::OwnedSemaphorePermit;

use crate::job::Entry;
use crate::open::OpenJob;
use crate::{Job, broker, memory};

/// A job that was taken, with a slot to do it in. It is to be settled by [`done`](Self::done),
/// [`hand_back`](Self::hand_back) or [`hand_back_later`](Self::hand_back_later). Dropped without, it stays
/// taken until its lease ends, and then is given out again with one more delivery.
#[derive(Debug)]
#[must_use = "a job that is dropped is given out again when its lease ends"]
pub struct Taken {
    entry: Entry,
    slot: OwnedSemaphorePermit,
    /// `None` when the job is settled or parked.
    ticket: Option<Ticket>,
    _open: OpenJob,
}

/// The right to settle a job, once.
#[derive(Debug)]
pub(crate) enum Ticket {
    Memory(memory::Ticket),
    Broker(broker::Ticket),
}

impl Taken {
    pub(crate) fn new(
        entry: Entry,
        slot: OwnedSemaphorePermit,
        ticket: Ticket,
        open: OpenJob,
    ) -> Self {
        Self {
            entry,
            slot,
            ticket: Some(ticket),
            _open: open,
        }
    }

    /// What is to be looked at.
    pub fn job(&self) -> Job {
        self.entry.job
    }

    /// How often the job was given out: 1 is the first time. Deliveries that were handed back or parked
    /// do not count.
    pub fn deliveries(&self) -> u32 {
        self.entry.deliveries
    }

    /// The priority at which it was offered.
    pub fn priority(&self) -> Priority {
        self.entry.priority
    }

    /// Who asked for it.
    pub fn submitter(&self) -> &str {
        &self.entry.submitter
    }

    /// Takes out the slot, to be given back and taken again while the job lasts. When it was taken out
    /// before, an empty one.
    pub fn take_slot(&mut self) -> OwnedSemaphorePermit {
        let all = self.slot.num_permits();
        match self.slot.split(all) {
            Some(slot) => slot,
            None => unreachable!("a permit can be split by all that it has"),
        }
    }

    /// The job is done.
    pub fn done(mut self) {
        match self.ticket.take() {
            Some(Ticket::Memory(ticket)) => ticket.done(),
            Some(Ticket::Broker(ticket)) => ticket.done(),
            None => {}
        }
    }

    /// The job is for another worker: it goes before those of its priority that were never given out.
    /// This delivery does not count. A worker that goes on to ask may get it again, or one of the others
    /// while the job is on its way back to Redis.
    pub fn hand_back(mut self) {
        match self.ticket.take() {
            Some(Ticket::Memory(ticket)) => ticket.hand_back(),
            Some(Ticket::Broker(ticket)) => ticket.hand_back(),
            None => {}
        }
    }

    /// The job is given out again after a while, behind others of its submitter. This delivery does not
    /// count.
    pub fn hand_back_later(mut self, after: Duration) {
        match self.ticket.take() {
            Some(Ticket::Memory(ticket)) => ticket.hand_back_later(after),
            Some(Ticket::Broker(ticket)) => ticket.hand_back_later(after),
            None => {}
        }
    }

    /// Takes a place in a group, of whose jobs only `max` run at a time on all workers. `false`: there is
    /// none, and the job was parked; nothing is to be done with it but drop it. It is given out again when
    /// a member has left, by being settled, dropped, or by the end of its lease. A job is in one group: who
    /// enters another leaves the first. A `max` of 0 counts as 1.
    ///
    /// A job that is given out again after it was parked has its place already, until it is settled.
    ///
    /// Waits while Redis is away. `false` also when the lease has ended meanwhile: the job is another's.
    pub async fn enter(&mut self, group: &str, max: u32) -> bool {
        let max = max.max(1);
        let has_entered = match &mut self.ticket {
            Some(Ticket::Memory(ticket)) => ticket.enter(group, max),
            Some(Ticket::Broker(ticket)) => ticket.enter(group, max).await,
            None => false,
        };
        if !has_entered {
            self.ticket = None;
        }
        has_entered
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        match self.ticket.take() {
            Some(Ticket::Memory(ticket)) => ticket.dropped(),
            Some(Ticket::Broker(ticket)) => ticket.dropped(),
            None => {}
        }
    }
}
