use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::ScriptInvocation;
use runner_core::task::Priority;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{Shared, entry, scripts};
use crate::Offer;

/// So many things go to Redis in one call.
const BATCH: usize = 512;

/// What is on its way to Redis, in order.
pub(super) struct Outbox<T> {
    waiting: Mutex<VecDeque<T>>,
    arrived: Notify,
    /// How many Redis has not taken, of all outboxes.
    unsent: Arc<watch::Sender<usize>>,
}

/// An offer on its way.
pub(super) struct Waiting {
    priority: Priority,
    submitter: String,
    due: Option<Instant>,
    entry: String,
}

/// What became of a job, on its way.
pub(super) struct Settle {
    pub(super) entry: Arc<str>,
    pub(super) end: End,
}

pub(super) enum End {
    Done,
    /// With the entry from now on.
    Back(String),
    /// Until then, with the entry from now on.
    Later(Instant, String),
    Dropped,
    /// With what stands in `taken`, which is no text or says nothing.
    Unreadable(Vec<u8>),
}

impl From<Offer> for Waiting {
    fn from(offer: Offer) -> Self {
        let submitter = entry::bounded(&offer.submitter);
        Self {
            priority: offer.priority,
            entry: entry::encode_new(offer.job, offer.priority, &submitter),
            submitter,
            due: offer
                .not_before
                .and_then(crate::clock::time_left)
                .map(crate::clock::after),
        }
    }
}

impl<T> Outbox<T> {
    pub(super) fn new(unsent: Arc<watch::Sender<usize>>) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            unsent,
        }
    }

    pub(super) fn push_all(&self, new: impl IntoIterator<Item = T>) {
        let mut waiting = self.waiting();
        let before = waiting.len();
        waiting.extend(new);
        let added = waiting.len() - before;
        if added > 0 {
            self.unsent.send_modify(|count| *count += added);
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Waits for the next things to send.
    async fn batch(&self) -> Vec<T> {
        loop {
            {
                let mut waiting = self.waiting();
                let count = waiting.len().min(BATCH);
                if count > 0 {
                    return waiting.drain(..count).collect();
                }
            }
            self.arrived.notified().await;
        }
    }

    fn sent(&self, batch: &[T]) {
        self.unsent.send_modify(|count| *count -= batch.len());
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends offers as long as there is a queue.
pub(super) async fn send_offers(shared: Arc<Shared>) {
    loop {
        let batch = tokio::select! {
            biased;
            batch = shared.offers.batch() => batch,
            () = shared.gone.cancelled() => return,
        };
        let call = offer(shared.scripts.push(), &batch);
        let sent = shared.link.script_until::<()>(&call, &shared.gone).await;
        if sent.is_none() {
            return;
        }
        shared.offers.sent(&batch);
        // A failure is remembered, and tried again after the next batch or when the incarnation is asked.
        let _ = shared.admit_forgotten().await;
    }
}

/// Sends what became of jobs as long as there is a queue.
pub(super) async fn send_settles(shared: Arc<Shared>) {
    loop {
        let batch = tokio::select! {
            biased;
            batch = shared.settles.batch() => batch,
            () = shared.gone.cancelled() => return,
        };
        let mut call = shared.scripts.settle();
        for settle in &batch {
            settle.add_to(&mut call);
        }
        let sent = shared.link.script_until::<()>(&call, &shared.gone).await;
        shared
            .held
            .remove_all(batch.iter().map(|settle| &settle.entry));
        if sent.is_none() {
            return;
        }
        shared.settles.sent(&batch);
    }
}

/// Jobs of one submitter go together, in their order; submitters in the order of their first jobs.
fn offer<'a>(mut call: ScriptInvocation<'a>, batch: &[Waiting]) -> ScriptInvocation<'a> {
    let mut places: HashMap<(Priority, &str), usize> = HashMap::new();
    let mut groups: Vec<Vec<&Waiting>> = Vec::new();
    for waiting in batch {
        if waiting.due.is_some() {
            groups.push(vec![waiting]);
            continue;
        }
        let place = *places
            .entry((waiting.priority, &waiting.submitter))
            .or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(waiting),
            None => groups.push(vec![waiting]),
        }
    }
    let now = Instant::now();
    for group in groups {
        let Some(first) = group.first() else { continue };
        let delay = first
            .due
            .map_or(0, |due| scripts::millis(due.saturating_duration_since(now)));
        call.arg(entry::digit(first.priority).to_string())
            .arg(&first.submitter)
            .arg(delay)
            .arg(group.len());
        for waiting in group {
            call.arg(&waiting.entry);
        }
    }
    call
}

impl Settle {
    fn add_to(&self, call: &mut ScriptInvocation<'_>) {
        let (what, argument) = match &self.end {
            End::Done => ("d", ""),
            End::Back(entry) => ("b", entry.as_str()),
            End::Dropped => ("x", ""),
            End::Unreadable(bytes) => {
                call.arg("u").arg(bytes).arg("");
                return;
            }
            End::Later(due, entry) => {
                let left = due.saturating_duration_since(Instant::now());
                let argument = format!("{} {entry}", scripts::millis(left));
                call.arg("l").arg(&*self.entry).arg(argument);
                return;
            }
        };
        call.arg(what).arg(&*self.entry).arg(argument);
    }
}
