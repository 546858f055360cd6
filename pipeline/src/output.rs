//! The edges that leave a node, and what goes on them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use crate::edge::{Closed, Sender};
use crate::item::Item;
use crate::sight::{EdgeSight, NodeSight};

/// An edge to another task.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` once it was ended, or nobody reads it any more.
    sender: Option<Sender>,
    pending: VecDeque<Item>,
    sight: Arc<EdgeSight>,
    is_unread: bool,
}

impl Output {
    pub(crate) fn new(sender: Sender, sight: Arc<EdgeSight>) -> Self {
        Self {
            sender: Some(sender),
            pending: VecDeque::new(),
            sight,
            is_unread: false,
        }
    }

    /// Puts items on the way; [`Output::poll_flush`] sends them.
    pub(crate) fn put(&mut self, items: impl Iterator<Item = Item>) {
        if self.sender.is_some() {
            self.pending.extend(items);
        }
    }

    pub(crate) fn sight(&self) -> &EdgeSight {
        &self.sight
    }

    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// Sends what is on the way. Ready when there is room for more.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(sender) = &self.sender {
            if self.pending.is_empty() {
                return Poll::Ready(());
            }
            let pushed = match sender.poll_room(cx) {
                Poll::Ready(Ok(_)) => sender.push(&mut self.pending),
                Poll::Ready(Err(Closed)) => Err(Closed),
                Poll::Pending => return Poll::Pending,
            };
            if pushed.is_err() {
                self.is_unread = true;
                self.sender = None;
                self.pending.clear();
            }
        }
        Poll::Ready(())
    }

    /// For how many items there is room; one that nobody reads has room for any number. Where
    /// there is none, the task is woken when there is.
    pub(crate) fn room(&mut self, cx: &mut Context<'_>) -> usize {
        if self.poll_flush(cx).is_pending() {
            return 0;
        }
        match &self.sender {
            None => usize::MAX,
            Some(sender) => match sender.poll_room(cx) {
                Poll::Ready(Ok(room)) => room,
                Poll::Ready(Err(Closed)) => usize::MAX,
                Poll::Pending => 0,
            },
        }
    }

    /// Says that nothing more will come. All must have been sent.
    pub(crate) fn end(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.end();
        }
    }
}

/// Counts what a node sends.
pub(crate) fn count(items: &[Item], sight: &NodeSight) {
    let values = items.iter().filter(|item| item.value.is_some()).count();
    sight.sent.fetch_add(values as u64, Relaxed);
}
