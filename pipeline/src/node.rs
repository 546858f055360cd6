//! What a node is, and how it sees its edges.

use std::pin::Pin;
use std::task::Poll;

use serde_json::Value;

use crate::edge::{Closed, Item, Lineage, Receiver, Sender};
use crate::graph::Join;
use crate::run::Counts;

/// The work of a node.
pub type NodeFuture<'a> = Pin<Box<dyn Future<Output = Result<(), NodeError>> + Send + 'a>>;

/// One step of a pipeline. It is dropped when the run is over, however it ends: cleaning up
/// belongs into `Drop`.
pub trait Node: Send {
    /// Works until the inputs end, or a source has no more. Returning says that all has been
    /// sent; the engine then ends the outputs. On failure or cancellation the future is dropped
    /// where it waits.
    fn run<'a>(&'a mut self, ports: &'a mut Ports) -> NodeFuture<'a>;
}

/// Why a node stops before its inputs end.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nobody reads what it sends any more. No failure: who has enough stops its sources.
    #[error("nobody reads what the node sends")]
    Unread,
    /// An input broke off, since the node that fed it failed.
    #[error("an input broke off")]
    Broken,
    /// Its own failure.
    #[error("{0}")]
    Failed(String),
}

/// What a node works on next: one item, or one of each input, of one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// The origin.
    pub lineage: Lineage,
    /// One value, or one of each input in the order of the edges.
    pub values: Vec<Value>,
}

/// The edges of a node.
#[derive(Debug)]
pub struct Ports {
    inputs: Vec<Input>,
    outputs: Vec<Sender>,
    join: Join,
    /// The input that is asked first, so that none starves.
    turn: usize,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct Input {
    edge: Receiver,
    /// Received and not yet paired.
    head: Option<Item>,
    /// The last lineage received.
    last: Option<Lineage>,
}

impl Ports {
    pub(crate) fn new(inputs: Vec<Receiver>, outputs: Vec<Sender>, join: Join) -> Self {
        let inputs = inputs.into_iter().map(|edge| Input {
            edge,
            head: None,
            last: None,
        });
        Self {
            inputs: inputs.collect(),
            outputs,
            join,
            turn: 0,
            counts: Counts::default(),
        }
    }

    /// What to work on next, or `None` when there will be nothing more. Tombstones are passed on
    /// and not shown.
    pub async fn next(&mut self) -> Result<Option<Joined>, NodeError> {
        loop {
            let items = match (self.join, self.inputs.len()) {
                (_, 0) => return Ok(None),
                (Join::Zip, 2..) => self.next_of_each().await?,
                _ => self.next_of_any().await?.map(|item| vec![item]),
            };
            let Some(items) = items else { return Ok(None) };
            let lineage = items[0].lineage.clone();
            match items
                .into_iter()
                .map(|item| item.value)
                .collect::<Option<Vec<_>>>()
            {
                Some(values) => {
                    self.counts.received += 1;
                    return Ok(Some(Joined { lineage, values }));
                }
                None => self.skip(lineage).await?,
            }
        }
    }

    /// The next item of whichever input has one.
    async fn next_of_any(&mut self) -> Result<Option<Item>, NodeError> {
        let (inputs, turn) = (&mut self.inputs, &mut self.turn);
        std::future::poll_fn(|cx| {
            let mut ended = 0;
            for _ in 0..inputs.len() {
                *turn = (*turn + 1) % inputs.len();
                match inputs[*turn].edge.poll_recv(cx) {
                    Poll::Ready(Ok(None)) => ended += 1,
                    Poll::Ready(Ok(item)) => return Poll::Ready(Ok(item)),
                    Poll::Ready(Err(Closed)) => return Poll::Ready(Err(NodeError::Broken)),
                    Poll::Pending => {}
                }
            }
            if ended == inputs.len() {
                Poll::Ready(Ok(None))
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// One item of each input, all of one lineage. Each edge keeps its order, so what has the
    /// lower lineage has no partner: it is counted, and a tombstone goes on in its place. When
    /// one input has ended there are no more pairs; the others are then no longer read.
    async fn next_of_each(&mut self) -> Result<Option<Vec<Item>>, NodeError> {
        loop {
            for (i, input) in self.inputs.iter_mut().enumerate() {
                if input.head.is_some() {
                    continue;
                }
                let Some(item) = input
                    .edge
                    .recv()
                    .await
                    .map_err(|Closed| NodeError::Broken)?
                else {
                    self.inputs.clear();
                    return Ok(None);
                };
                if input
                    .last
                    .as_ref()
                    .is_some_and(|last| *last >= item.lineage)
                {
                    let reason =
                        format!("input {i} is out of order at {}: cannot zip", item.lineage);
                    return Err(NodeError::Failed(reason));
                }
                input.last = Some(item.lineage.clone());
                input.head = Some(item);
            }
            let lineages = || {
                self.inputs
                    .iter()
                    .filter_map(|input| Some(&input.head.as_ref()?.lineage))
            };
            let (least, most) = (lineages().min().cloned(), lineages().max().cloned());
            if least == most {
                return Ok(self
                    .inputs
                    .iter_mut()
                    .map(|input| input.head.take())
                    .collect());
            }
            for input in &mut self.inputs {
                if let Some(item) = input
                    .head
                    .take_if(|item| Some(&item.lineage) == least.as_ref())
                {
                    self.counts.unpaired += u64::from(item.value.is_some());
                }
            }
            if let Some(lineage) = least {
                self.skip(lineage).await?;
            }
        }
    }

    /// Sends a value to all outputs, each of which may make it wait.
    pub async fn emit(&mut self, lineage: Lineage, value: Value) -> Result<(), NodeError> {
        self.counts.sent += 1;
        self.send(Item {
            lineage,
            value: Some(value),
        })
        .await
    }

    /// Says that nothing comes of this origin. A node that drops items must say so for each, or
    /// who pairs them further on waits for them until its other edges are full.
    pub async fn skip(&mut self, lineage: Lineage) -> Result<(), NodeError> {
        self.send(Item {
            lineage,
            value: None,
        })
        .await
    }

    async fn send(&mut self, item: Item) -> Result<(), NodeError> {
        let had_readers = !self.outputs.is_empty();
        let mut i = 0;
        while i < self.outputs.len() {
            match self.outputs[i].send(item.clone()).await {
                Ok(()) => i += 1,
                Err(Closed) => drop(self.outputs.remove(i)),
            }
        }
        if had_readers && self.outputs.is_empty() {
            Err(NodeError::Unread)
        } else {
            Ok(())
        }
    }

    /// Ends all outputs.
    pub(crate) async fn end(&mut self) {
        for output in self.outputs.drain(..) {
            // Who no longer reads needs no end.
            let _ = output.end().await;
        }
    }
}
