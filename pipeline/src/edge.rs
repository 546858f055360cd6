//! The bounded edge on which items go from one task to the next, many at a time.
//!
//! An edge has one sender and one receiver. It ends in one of two ways: the sender says so
//! ([`Sender::end`]), or it is dropped before it did, which means that its node failed. The
//! receiver can tell them apart, so a failure is never taken for the end of the data.
//!
//! A channel that moves one item at a time costs more than a trivial node. Here both sides move
//! whatever there is under one lock, which nobody else contends for; a sender that waits is woken
//! when half of the edge is empty.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::item::Item;
use crate::sight::EdgeSight;

/// The other end of the edge is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the edge is gone")]
pub struct Closed;

#[derive(Debug)]
struct Inner {
    items: VecDeque<Item>,
    /// The sender has said that nothing more will come.
    is_ended: bool,
    sender_gone: bool,
    receiver_gone: bool,
    /// Who waits for room.
    sender: Option<Waker>,
    /// Who waits for items.
    receiver: Option<Waker>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    bound: usize,
    sight: Arc<EdgeSight>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of an edge.
#[derive(Debug)]
pub struct Sender(Arc<Shared>);

/// The end of an edge.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

/// What a receiver found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many items.
    Items(usize),
    /// The end.
    End,
}

/// Makes an edge that holds at most `bound` items, at least one.
pub fn edge(bound: usize, sight: Arc<EdgeSight>) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        inner: Mutex::new(Inner {
            items: VecDeque::new(),
            is_ended: false,
            sender_gone: false,
            receiver_gone: false,
            sender: None,
            receiver: None,
        }),
        bound: bound.max(1),
        sight,
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    /// Moves as many of the items as there is room for, from the front.
    ///
    /// # Errors
    /// Nobody reads them.
    pub fn push(&self, items: &mut VecDeque<Item>) -> Result<(), Closed> {
        let mut inner = self.0.lock();
        if inner.receiver_gone {
            return Err(Closed);
        }
        let count = items.len().min(self.0.bound - inner.items.len());
        if count == 0 {
            return Ok(());
        }
        inner.items.extend(items.drain(..count));
        self.0.sight.filled(inner.items.len());
        let waker = inner.receiver.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Waits for room, and says for how many items.
    ///
    /// # Errors
    /// Nobody will make any.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Closed>> {
        let mut inner = self.0.lock();
        if inner.receiver_gone {
            return Poll::Ready(Err(Closed));
        }
        if inner.items.len() < self.0.bound {
            return Poll::Ready(Ok(self.0.bound - inner.items.len()));
        }
        inner.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says that nothing more will come.
    pub fn end(self) {
        self.0.lock().is_ended = true;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.sender_gone = true;
        let waker = inner.receiver.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Receiver {
    /// Moves at most so many items into the queue. [`Closed`] means that the sender is gone
    /// without having said that it is done.
    ///
    /// # Errors
    /// The edge broke off.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        into: &mut VecDeque<Item>,
    ) -> Poll<Result<Received, Closed>> {
        let mut inner = self.0.lock();
        if inner.items.is_empty() {
            return if inner.is_ended {
                Poll::Ready(Ok(Received::End))
            } else if inner.sender_gone {
                Poll::Ready(Err(Closed))
            } else {
                inner.receiver = Some(cx.waker().clone());
                Poll::Pending
            };
        }
        let count = most.min(inner.items.len());
        if count == inner.items.len() && into.is_empty() {
            std::mem::swap(&mut inner.items, into);
        } else {
            into.extend(inner.items.drain(..count));
        }
        self.0.sight.filled(inner.items.len());
        let waker = match inner.items.len() <= self.0.bound / 2 {
            true => inner.sender.take(),
            false => None,
        };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(Ok(Received::Items(count)))
    }

    /// As [`Receiver::poll_take`], waiting.
    ///
    /// # Errors
    /// The edge broke off.
    pub async fn take(
        &mut self,
        most: usize,
        into: &mut VecDeque<Item>,
    ) -> Result<Received, Closed> {
        std::future::poll_fn(|cx| self.poll_take(cx, most, into)).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.receiver_gone = true;
        let held = std::mem::take(&mut inner.items);
        let waker = inner.sender.take();
        drop(inner);
        drop(held);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::item::Lineage;

    fn items(numbers: std::ops::Range<u64>) -> VecDeque<Item> {
        let item = |number| Item::new(Lineage::new(number), Value::Null);
        numbers.map(item).collect()
    }

    fn room(sender: &Sender) -> Poll<Result<usize, Closed>> {
        sender.poll_room(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn full_edges_wait_and_ends_are_told_apart() {
        let (sender, mut receiver) = edge(2, Arc::default());
        let mut some = items(0..3);
        sender.push(&mut some).unwrap();
        assert_eq!(some, items(2..3), "there was room for a third");
        assert!(room(&sender).is_pending());
        let mut taken = VecDeque::new();
        assert_eq!(receiver.take(1, &mut taken).await, Ok(Received::Items(1)));
        assert_eq!(room(&sender), Poll::Ready(Ok(1)));
        sender.push(&mut some).unwrap();
        sender.end();
        assert_eq!(receiver.take(9, &mut taken).await, Ok(Received::Items(2)));
        assert_eq!(taken, items(0..3));
        assert_eq!(receiver.take(9, &mut taken).await, Ok(Received::End));

        let (sender, mut receiver) = edge(0, Arc::default());
        drop(sender);
        assert_eq!(receiver.take(9, &mut taken).await, Err(Closed));
        let (sender, receiver) = edge(1, Arc::default());
        drop(receiver);
        assert_eq!(sender.push(&mut items(0..1)), Err(Closed));
        assert_eq!(room(&sender), Poll::Ready(Err(Closed)));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let (sender, mut receiver) = edge(4, Arc::default());
        let sending = tokio::spawn(async move {
            let mut all = items(0..10_000);
            while !all.is_empty() {
                std::future::poll_fn(|cx| sender.poll_room(cx))
                    .await
                    .unwrap();
                sender.push(&mut all).unwrap();
            }
            sender.end();
        });
        let mut taken = VecDeque::new();
        while receiver.take(3, &mut taken).await.unwrap() != Received::End {}
        assert_eq!(taken, items(0..10_000));
        sending.await.unwrap();
    }
}
