//! Built-ins that are run by one task: *fused*.
//!
//! Items change hands in plain queues there; no lock, no waking. Each pass goes over the nodes in
//! their order and lets each work on a batch, as far as those behind it have room. A node that has
//! no room, or nothing to do, holds up no other.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Instant;

use serde_json::{Value, json};

use crate::builtin::{Emit, Generate, Stage};
use crate::control::{Control, Watch};
use crate::edge::{Received, Receiver};
use crate::graph::OnError;
use crate::item::{Item, Lineage};
use crate::join::{Joiner, Next, Queue};
use crate::output::{Output, count};
use crate::run::UnitError;
use crate::sight::{EdgeSight, NodeSight};

/// Items that a node works on in a pass at most.
const PASS: usize = 256;
/// Passes before others get their turn.
const PASSES: usize = 4;

/// What a node does.
pub(crate) enum Work {
    /// Makes items; and the number of the next.
    Generate(Box<dyn Generate>, u64),
    /// Works on items.
    Stage(Box<dyn Stage>),
}

/// Where an edge leads.
pub(crate) enum Way {
    /// To another task.
    Task(Output),
    /// To an input of a node of this task, which stands behind this one.
    Node {
        /// How many nodes further on it stands, less one.
        ahead: usize,
        input: usize,
        bound: usize,
        sight: Arc<EdgeSight>,
    },
}

/// A node.
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) joiner: Joiner,
    pub(crate) queues: Vec<Queue>,
    /// For each input the edge from another task, if it is one, and how much is taken at a time.
    pub(crate) receivers: Vec<Option<(Receiver, usize)>>,
    pub(crate) main: Vec<Way>,
    pub(crate) errors: Vec<Way>,
    /// Whether somebody behind it waits for tombstones.
    pub(crate) has_tombstones: bool,
    pub(crate) on_error: OnError,
    pub(crate) sight: Arc<NodeSight>,
    pub(crate) state: State,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It works.
    Open,
    /// All was made; some is still to be sent.
    Flushing,
    /// It has ended its edges.
    Ended,
}

/// All nodes of a task, in their order.
pub(crate) struct Segment {
    cells: Vec<Cell>,
    control: Control,
    watch: Watch,
    /// Kept for their memory.
    made: Emit,
    failed: Emit,
    values: Vec<Value>,
}

impl Segment {
    pub(crate) fn new(cells: Vec<Cell>, control: Control) -> Self {
        Self {
            cells,
            watch: control.watch(),
            control,
            made: Vec::new(),
            failed: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Lets every node work once. Whether anything moved, and whether a node is held.
    fn pass(&mut self, cx: &mut Context<'_>) -> Result<(bool, bool), UnitError> {
        let (mut moved, mut held) = (false, false);
        for number in 0..self.cells.len() {
            let (cells, behind) = self.cells.split_at_mut(number + 1);
            let Some(cell) = cells.last_mut() else { break };
            if cell.state == State::Ended {
                continue;
            }
            if !cell.flush(cx) {
                continue;
            }
            if cell.state == State::Flushing || cell.is_unread(behind) {
                cell.end(behind);
                moved = true;
                continue;
            }
            if self.control.is_held(&cell.sight) {
                held = true;
                continue;
            }
            let room = cell.room(cx, behind).min(PASS);
            if room == 0 {
                continue;
            }
            cell.receive(cx)?;
            let before = cell.waiting();
            let start = Instant::now();
            let (made, failed) = (&mut self.made, &mut self.failed);
            let is_draining = self.control.is_draining();
            let worked = match &mut cell.work {
                Work::Generate(..) if is_draining => Ok((0, true)),
                Work::Generate(source, next) => source.generate(room, &mut self.values).map(|()| {
                    let count = self.values.len();
                    for value in self.values.drain(..) {
                        made.push(Item::new(Lineage::new(*next), value));
                        *next += 1;
                    }
                    (count, count < room)
                }),
                Work::Stage(_) => cell.apply(room, made, failed),
            };
            let (worked, is_over) = worked.map_err(|reason| {
                cell.sight.fail(&reason);
                UnitError::failed(&cell.name, None, reason)
            })?;
            if worked > 0 {
                let each = start.elapsed() / u32::try_from(worked).unwrap_or(u32::MAX);
                cell.sight.latency.record(each, worked as u64);
                cell.sight.received.fetch_add(worked as u64, Relaxed);
            }
            // Tombstones are taken, and joins hold items, without anything being made.
            moved |= worked > 0 || is_over || cell.waiting() < before;
            count(made, &cell.sight);
            send(&mut cell.main, made, behind);
            send(&mut cell.errors, failed, behind);
            if is_over {
                cell.state = State::Flushing;
                if cell.flush(cx) {
                    cell.end(behind);
                }
            }
        }
        Ok((moved, held))
    }
}

impl Future for Segment {
    type Output = Result<(), UnitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        for _ in 0..PASSES {
            let (moved, held) = match this.pass(cx) {
                Ok(pass) => pass,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if this.cells.iter().all(|cell| cell.state == State::Ended) {
                return Poll::Ready(Ok(()));
            }
            let goes_on = moved || (held && this.watch.poll_changed(cx).is_ready());
            if !goes_on {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Cell {
    /// Items that have arrived.
    fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.items.len()).sum()
    }

    /// Takes what has come from other tasks, where all that was taken before is used up.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<(), UnitError> {
        for (queue, receiver) in self.queues.iter_mut().zip(&mut self.receivers) {
            let Some((edge, most)) = receiver else {
                continue;
            };
            if queue.is_ended || !queue.items.is_empty() {
                continue;
            }
            match edge.poll_take(cx, *most, &mut queue.items) {
                Poll::Pending | Poll::Ready(Ok(Received::Items(_))) => {}
                Poll::Ready(Ok(Received::End)) => queue.is_ended = true,
                Poll::Ready(Err(_)) => return Err(UnitError::Broken(self.name.clone())),
            }
        }
        Ok(())
    }

    /// Works on at most so many items. How many there were, and whether these were the last.
    fn apply(
        &mut self,
        most: usize,
        made: &mut Emit,
        failed: &mut Emit,
    ) -> Result<(usize, bool), String> {
        let Work::Stage(stage) = &mut self.work else {
            return Ok((0, true));
        };
        let has_error_edge = !self.errors.is_empty();
        let tombstones = self.has_tombstones && stage.keeps_tombstones();
        let mut worked = 0;
        while made.len().max(failed.len()).max(worked) < most {
            let (item, refused) = match self.joiner.next(&mut self.queues, &self.sight)? {
                Next::Item(item) => (item, None),
                Next::Failed(item, reason) => (item, Some(reason)),
                Next::Wait => return Ok((worked, false)),
                Next::End => {
                    stage.finish(made)?;
                    return Ok((worked, true));
                }
            };
            let Some(value) = item.value else {
                if tombstones {
                    made.push(Item::tombstone(item.lineage.clone()));
                    if has_error_edge {
                        failed.push(Item::tombstone(item.lineage));
                    }
                }
                continue;
            };
            worked += 1;
            let lineage = item.lineage;
            let kept = has_error_edge.then(|| value.clone());
            let before = made.len();
            let applied = match refused {
                None => stage.apply(lineage.clone(), value, made),
                Some(reason) => Err(reason),
            };
            let Err(reason) = applied else {
                if has_error_edge && tombstones {
                    failed.push(Item::tombstone(lineage));
                } else if !tombstones {
                    // A filter has said that nothing came of it; nobody needs to know.
                    let made_one = made.len() == before + 1;
                    if made_one && made[before].value.is_none() {
                        made.truncate(before);
                    }
                }
                continue;
            };
            made.truncate(before);
            if self.on_error == OnError::Fail {
                return Err(format!("item {lineage}: {reason}"));
            }
            self.sight.fail(&reason);
            if tombstones {
                made.push(Item::tombstone(lineage.clone()));
            }
            if has_error_edge {
                failed.push(Item::new(lineage, error_item(&self.name, kept, &reason)));
            }
        }
        Ok((worked, false))
    }

    /// Sends what is on its way to other tasks. Whether all of it is gone.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_flushed = true;
        for way in self.main.iter_mut().chain(&mut self.errors) {
            if let Way::Task(output) = way {
                is_flushed &= output.poll_flush(cx).is_ready();
            }
        }
        is_flushed
    }

    /// There were readers, and all have gone.
    fn is_unread(&self, behind: &[Self]) -> bool {
        let mut ways = self.main.iter().chain(&self.errors).peekable();
        ways.peek().is_some()
            && ways.all(|way| match way {
                Way::Task(output) => output.is_unread(),
                Way::Node { ahead, .. } => behind[*ahead].state == State::Ended,
            })
    }

    /// For how many items all have room.
    fn room(&mut self, cx: &mut Context<'_>, behind: &[Self]) -> usize {
        let ways = self.main.iter_mut().chain(&mut self.errors);
        let rooms = ways.map(|way| match way {
            Way::Task(output) => output.room(cx),
            Way::Node {
                ahead,
                input,
                bound,
                ..
            } => match &behind[*ahead] {
                reader if reader.state != State::Open => usize::MAX,
                reader => bound.saturating_sub(reader.queues[*input].items.len()),
            },
        });
        rooms.min().unwrap_or(usize::MAX)
    }

    /// Ends all edges, and forgets what was still to be done.
    fn end(&mut self, behind: &mut [Self]) {
        for way in self.main.iter_mut().chain(&mut self.errors) {
            match way {
                Way::Task(output) => output.end(),
                Way::Node { ahead, input, .. } => {
                    behind[*ahead].queues[*input].is_ended = true;
                }
            }
        }
        self.state = State::Ended;
        self.receivers.clear();
        self.queues.iter_mut().for_each(|queue| queue.items.clear());
        self.sight.is_ended.store(true, Relaxed);
    }
}

/// Gives items to all; the last one gets the items themselves, the others copies.
fn send(ways: &mut [Way], items: &mut Emit, behind: &mut [Cell]) {
    if items.is_empty() {
        return;
    }
    let last = ways.len();
    for (number, way) in ways.iter_mut().enumerate() {
        let is_last = number + 1 == last;
        match way {
            Way::Task(output) => {
                output.sight().pass(items);
                match is_last {
                    true => output.put(items.drain(..)),
                    false => output.put(items.iter().cloned()),
                }
            }
            Way::Node {
                ahead,
                input,
                sight,
                ..
            } => {
                sight.pass(items);
                let reader = &mut behind[*ahead];
                if reader.state == State::Open {
                    let queue: &mut VecDeque<Item> = &mut reader.queues[*input].items;
                    match is_last {
                        true => queue.extend(items.drain(..)),
                        false => queue.extend(items.iter().cloned()),
                    }
                    sight.filled(queue.len());
                }
            }
        }
    }
    items.clear();
}

/// What goes on the edge for errors.
pub(crate) fn error_item(node: &str, item: Option<Value>, reason: &str) -> Value {
    json!({"node": node, "error": reason, "item": item})
}
