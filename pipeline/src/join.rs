//! How a node with several inputs takes its items.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;

use crate::expression::{Expression, Params};
use crate::item::{Item, Lineage};
use crate::sight::NodeSight;

/// Items that a join holds until their partners come.
pub const MAX_HELD: usize = 1 << 16;

/// What has arrived at an input.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) items: VecDeque<Item>,
    /// Nothing more will come.
    pub(crate) is_ended: bool,
}

/// What a join has.
#[derive(Debug)]
pub(crate) enum Next {
    /// An item, or a tuple of items of one origin.
    Item(Item),
    /// An item that cannot be joined.
    Failed(Item, String),
    /// More must come first.
    Wait,
    /// There will be nothing more.
    End,
}

/// A join, and what it holds.
#[derive(Debug)]
pub(crate) enum Joiner {
    /// There is one input at most.
    One,
    /// Any; the input that is asked first changes, so that none starves.
    Any(usize),
    /// One of each of one lineage, where each input keeps its order. Holds nothing.
    Merge,
    /// One of each of one lineage, in whatever order they come.
    Lineage(Held<Lineage>),
    /// One of each with the same value of an expression.
    Key(Arc<Expression>, Params, Held<String>),
}

/// Items that wait for their partners: for each key the items of each input.
#[derive(Debug)]
pub(crate) struct Held<K> {
    waiting: HashMap<K, Vec<VecDeque<Item>>>,
    /// How many of each input.
    counts: Vec<usize>,
    turn: usize,
}

impl<K: Eq + std::hash::Hash> Held<K> {
    pub(crate) fn new(inputs: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            counts: vec![0; inputs],
            turn: 0,
        }
    }

    /// The next item of the input of which least is held.
    fn take(&mut self, queues: &mut [Queue]) -> Option<(usize, Item)> {
        self.turn += 1;
        let inputs = queues.len();
        let ready = (0..inputs).map(|i| (i + self.turn) % inputs);
        let ready = ready.filter(|i| !queues[*i].items.is_empty());
        let input = ready.min_by_key(|i| self.counts[*i])?;
        Some((input, queues[input].items.pop_front()?))
    }

    /// Adds an item; the tuple, if it completes one.
    fn add(&mut self, key: K, input: usize, item: Item) -> Result<Option<Vec<Item>>, String> {
        let inputs = self.counts.len();
        let entry = self.waiting.entry(key);
        let mut entry = match entry {
            std::collections::hash_map::Entry::Occupied(entry) => entry,
            std::collections::hash_map::Entry::Vacant(entry) => {
                let none = (0..inputs).map(|_| VecDeque::new()).collect();
                entry.insert_entry(none)
            }
        };
        let waiting = entry.get_mut();
        waiting[input].push_back(item);
        self.counts[input] += 1;
        if waiting.iter().any(VecDeque::is_empty) {
            let held: usize = self.counts.iter().sum();
            return match held > MAX_HELD {
                true => Err(format!(
                    "the join holds more than {MAX_HELD} items whose partners have not come"
                )),
                false => Ok(None),
            };
        }
        let tuple = waiting.iter_mut().filter_map(VecDeque::pop_front).collect();
        if waiting.iter().all(VecDeque::is_empty) {
            entry.remove();
        }
        self.counts.iter_mut().for_each(|count| *count -= 1);
        Ok(Some(tuple))
    }

    /// There will be no more tuples: an input of which none is held has ended, or all have.
    fn is_over(&self, queues: &[Queue]) -> bool {
        let is_ended = |queue: &Queue| queue.is_ended && queue.items.is_empty();
        let mut inputs = queues.iter().zip(&self.counts);
        inputs.any(|(queue, held)| is_ended(queue) && *held == 0) || queues.iter().all(is_ended)
    }

    fn unpaired(&self) -> u64 {
        let waiting = self.waiting.values().flatten().flatten();
        waiting.filter(|item| item.value.is_some()).count() as u64
    }
}

impl Joiner {
    /// What there is next of what has arrived.
    pub(crate) fn next(&mut self, queues: &mut [Queue], sight: &NodeSight) -> Result<Next, String> {
        match self {
            Self::One => Ok(match queues.first_mut() {
                None => Next::End,
                Some(queue) => match queue.items.pop_front() {
                    Some(item) => Next::Item(item),
                    None if queue.is_ended => Next::End,
                    None => Next::Wait,
                },
            }),
            Self::Any(turn) => {
                for _ in 0..queues.len() {
                    *turn = (*turn + 1) % queues.len();
                    if let Some(item) = queues[*turn].items.pop_front() {
                        return Ok(Next::Item(item));
                    }
                }
                Ok(match queues.iter().all(|queue| queue.is_ended) {
                    true => Next::End,
                    false => Next::Wait,
                })
            }
            Self::Merge => Ok(merge(queues, sight)),
            Self::Lineage(held) => loop {
                let Some((input, item)) = held.take(queues) else {
                    return Ok(wait_or_end(held, queues, sight));
                };
                if let Some(tuple) = held.add(item.lineage.clone(), input, item)? {
                    let count = tuple.len();
                    return Ok(Next::Item(tuple_of(tuple.into_iter(), count)));
                }
            },
            Self::Key(key, params, held) => loop {
                let Some((input, mut item)) = held.take(queues) else {
                    return Ok(wait_or_end(held, queues, sight));
                };
                let Some(value) = &mut item.value else {
                    continue;
                };
                let found = match key.value(value, params) {
                    Ok(found) => found.to_string(),
                    Err(reason) => return Ok(Next::Failed(item, reason)),
                };
                if let Some(tuple) = held.add(found, input, item)? {
                    let count = tuple.len();
                    return Ok(Next::Item(tuple_of(tuple.into_iter(), count)));
                }
            },
        }
    }
}

fn wait_or_end<K: Eq + std::hash::Hash>(
    held: &mut Held<K>,
    queues: &[Queue],
    sight: &NodeSight,
) -> Next {
    if !held.is_over(queues) {
        return Next::Wait;
    }
    sight.unpaired.fetch_add(held.unpaired(), Relaxed);
    held.waiting.clear();
    Next::End
}

/// One of each input. What has the lower lineage has no partner: it is counted, and a tombstone
/// goes on in its place.
fn merge(queues: &mut [Queue], sight: &NodeSight) -> Next {
    let mut waits = false;
    for queue in queues.iter() {
        match (queue.items.is_empty(), queue.is_ended) {
            (true, true) => return Next::End,
            (true, false) => waits = true,
            (false, _) => {}
        }
    }
    if waits {
        return Next::Wait;
    }
    let lineages = || {
        queues
            .iter()
            .filter_map(|queue| Some(&queue.items.front()?.lineage))
    };
    let (Some(least), Some(most)) = (lineages().min(), lineages().max()) else {
        return Next::End;
    };
    if least == most {
        let count = queues.len();
        let fronts = queues
            .iter_mut()
            .filter_map(|queue| queue.items.pop_front());
        return Next::Item(tuple_of(fronts, count));
    }
    let least = least.clone();
    for queue in queues {
        if queue
            .items
            .front()
            .is_some_and(|item| item.lineage == least)
            && let Some(item) = queue.items.pop_front()
        {
            sight
                .unpaired
                .fetch_add(u64::from(item.value.is_some()), Relaxed);
        }
    }
    Next::Item(Item::tombstone(least))
}

/// The values of all, or a tombstone where one is missing. The lineage is that of the first.
fn tuple_of(items: impl Iterator<Item = Item>, count: usize) -> Item {
    let mut lineage = None;
    let mut values = Vec::with_capacity(count);
    let mut is_whole = true;
    for item in items {
        lineage.get_or_insert(item.lineage);
        match item.value {
            Some(value) => values.push(value),
            None => is_whole = false,
        }
    }
    Item {
        lineage: lineage.unwrap_or_else(|| Lineage::new(0)),
        value: is_whole.then_some(Value::Array(values)),
    }
}
