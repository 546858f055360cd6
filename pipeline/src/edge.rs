//! Items, and the bounded edge on which they go from one node to the next.
//!
//! An edge ends in one of two ways: the sender says so ([`Sender::end`]), or it is dropped before
//! it did, which means that its node failed. The receiver can tell them apart, so a failure is
//! never taken for the end of the data.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde_json::Value;
use tokio::sync::mpsc;

/// Where an item comes from: its number at the source, then its number among what each node on
/// its way has made of one item. A node that makes one of one passes the lineage on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage {
    first: u64,
    rest: Option<Arc<[u64]>>,
}

impl Lineage {
    /// The item with this number at a source.
    pub fn new(number: u64) -> Self {
        Self {
            first: number,
            rest: None,
        }
    }

    /// The part with this number of what a node makes of this item.
    pub fn child(&self, number: u64) -> Self {
        let rest = self.path().skip(1).chain([number]).collect();
        Self {
            first: self.first,
            rest: Some(rest),
        }
    }

    /// All numbers, that of the source first.
    pub fn path(&self) -> impl Iterator<Item = u64> {
        [self.first]
            .into_iter()
            .chain(self.rest.iter().flat_map(|rest| rest.iter().copied()))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.path()
            .skip(1)
            .try_for_each(|number| write!(f, ".{number}"))
    }
}

/// What flows on an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Where it comes from.
    pub lineage: Lineage,
    /// What it is. `None` is a tombstone: nothing came of this origin here, and who waits for it
    /// to complete a tuple need not wait longer.
    pub value: Option<Value>,
}

/// The other end of the edge is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the edge is gone")]
pub struct Closed;

/// The beginning of an edge.
#[derive(Debug)]
pub struct Sender(mpsc::Sender<Option<Item>>);

/// The end of an edge.
#[derive(Debug)]
pub struct Receiver {
    edge: mpsc::Receiver<Option<Item>>,
    ended: bool,
}

/// Makes an edge that holds at most `bound` items, at least one.
pub fn edge(bound: usize) -> (Sender, Receiver) {
    let (sender, edge) = mpsc::channel(bound.max(1));
    (Sender(sender), Receiver { edge, ended: false })
}

impl Sender {
    /// Sends an item; waits for room.
    pub async fn send(&self, item: Item) -> Result<(), Closed> {
        self.0.send(Some(item)).await.map_err(|_| Closed)
    }

    /// Says that nothing more will come; waits for room.
    pub async fn end(self) -> Result<(), Closed> {
        self.0.send(None).await.map_err(|_| Closed)
    }
}

impl Receiver {
    /// The next item, or `None` after the end. [`Closed`] means that the sender is gone without
    /// having said that it is done.
    pub async fn recv(&mut self) -> Result<Option<Item>, Closed> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Receiver::recv`], for who listens to several edges.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Item>, Closed>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        self.edge.poll_recv(cx).map(|received| {
            let item = received.ok_or(Closed)?;
            self.ended = item.is_none();
            Ok(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64) -> Item {
        Item {
            lineage: Lineage::new(number),
            value: Some(Value::Null),
        }
    }

    #[test]
    fn lineage_is_a_path_in_order() {
        let item = Lineage::new(7);
        assert_eq!(item.child(0).child(3).to_string(), "7.0.3");
        assert!(item < item.child(0) && item.child(0) < item.child(1));
        assert!(item.child(9).child(9) < Lineage::new(8));
    }

    #[tokio::test]
    async fn full_edges_wait_and_ends_are_told_apart() {
        let (sender, mut receiver) = edge(1);
        sender.send(item(1)).await.unwrap();
        let mut second = Box::pin(sender.send(item(2)));
        assert!(
            futures_poll(second.as_mut()).await.is_none(),
            "there was room for a second"
        );
        assert_eq!(receiver.recv().await, Ok(Some(item(1))));
        second.await.unwrap();
        assert_eq!(receiver.recv().await, Ok(Some(item(2))));
        sender.end().await.unwrap();
        assert_eq!(receiver.recv().await, Ok(None));
        assert_eq!(receiver.recv().await, Ok(None));

        let (sender, mut receiver) = edge(0);
        drop(sender);
        assert_eq!(receiver.recv().await, Err(Closed));
        let (sender, receiver) = edge(1);
        drop(receiver);
        assert_eq!(sender.send(item(1)).await, Err(Closed));
    }

    /// Polls once.
    async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}
