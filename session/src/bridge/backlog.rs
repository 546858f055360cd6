//! What the kernel has said and the engine has not taken yet. A kernel drops what it publishes when nobody reads it, so
//! all of it is read at once; while too much waits here, the kernel is paused.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::child::Child;
use super::order::Order;
use crate::line::Told;
use crate::message::{Channel, Message};

/// Bytes at which the kernel is paused, and at which it goes on.
const PAUSES: usize = 16 << 20;
const GOES_ON: usize = 4 << 20;

/// Messages that are published, in their order; replies do not wait here.
#[derive(Debug)]
pub(super) struct Backlog {
    told: Arc<Told>,
    order: Arc<Order>,
    child: Arc<Child>,
    waiting: Mutex<Waiting>,
    /// Something has come, or was taken.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    size: usize,
    is_paused: bool,
    /// Whether one is being told.
    is_telling: bool,
}

impl Backlog {
    /// One that tells what comes, in a thread of its own.
    pub(super) fn new(told: Arc<Told>, order: Arc<Order>, child: Arc<Child>) -> Arc<Self> {
        let backlog = Arc::new(Self {
            told,
            order,
            child,
            waiting: Mutex::default(),
            moved: Condvar::new(),
        });
        let own = Arc::clone(&backlog);
        std::thread::spawn(move || own.tell_all());
        backlog
    }

    /// Passes on a message of the kernel.
    pub(super) fn add(&self, message: Message) {
        if message.channel != Channel::Iopub {
            self.told.tell(&message);
            return self.order.passed(&message);
        }
        let mut waiting = self.lock();
        waiting.size += size(&message);
        waiting.messages.push_back(message);
        if waiting.size > PAUSES && !waiting.is_paused {
            waiting.is_paused = true;
            self.child.pause(true);
        }
        drop(waiting);
        self.moved.notify_all();
    }

    /// Waits until all was told, or it is too late.
    pub(super) fn finish(&self, end: Instant) {
        let patience = end.saturating_duration_since(Instant::now());
        let waiting = self.lock();
        let is_full = |waiting: &mut Waiting| !waiting.messages.is_empty() || waiting.is_telling;
        let _ = self.moved.wait_timeout_while(waiting, patience, is_full);
    }

    fn tell_all(&self) {
        loop {
            let waiting = self.lock();
            let mut waiting = self
                .moved
                .wait_while(waiting, |waiting| waiting.messages.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            let Some(message) = waiting.messages.pop_front() else {
                continue;
            };
            waiting.size -= size(&message);
            waiting.is_telling = true;
            if waiting.is_paused && waiting.size < GOES_ON {
                waiting.is_paused = false;
                self.child.pause(false);
            }
            drop(waiting);
            self.order.wait(&message);
            self.told.tell(&message);
            self.lock().is_telling = false;
            self.moved.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(message: &Message) -> usize {
    let buffers: usize = message.buffers.iter().map(bytes::Bytes::len).sum();
    message.content.as_str().len() + buffers + 256
}
