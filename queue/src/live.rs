//! What passes while somebody follows a task. Nothing of it is kept: a message for which there is no room is lost, and
//! counted for who follows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Messages that are held for one follower.
pub(crate) const MAX_HELD: usize = 64;
/// Bytes of a message at most.
pub(crate) const MAX_MESSAGE: usize = 256 * 1024;

/// A message.
pub type Message = Arc<[u8]>;

/// What a follower of a task hears. Ends its subscription when dropped.
#[derive(Debug)]
pub struct Follow {
    messages: mpsc::Receiver<Message>,
    /// Messages that were lost, since it was asked last.
    missed: Arc<AtomicU64>,
    /// What brings them from another process.
    _bringer: Option<Bringer>,
}

/// The other end of a [`Follow`].
#[derive(Debug)]
pub(crate) struct Teller {
    messages: mpsc::Sender<Message>,
    missed: Arc<AtomicU64>,
}

impl Teller {
    /// Tells it, if there is room.
    pub(crate) fn tell(&self, message: Message) {
        if self.messages.try_send(message).is_err() {
            self.lost();
        }
    }

    /// A message was lost.
    pub(crate) fn lost(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Bringer(AbortHandle);

impl Drop for Bringer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follow {
    pub(crate) fn new() -> (Teller, Self) {
        let (sender, messages) = mpsc::channel(MAX_HELD);
        let missed = Arc::new(AtomicU64::new(0));
        let teller = Teller {
            messages: sender,
            missed: Arc::clone(&missed),
        };
        let follow = Self {
            messages,
            missed,
            _bringer: None,
        };
        (teller, follow)
    }

    pub(crate) fn brought(mut self, bringer: AbortHandle) -> Self {
        self._bringer = Some(Bringer(bringer));
        self
    }

    /// The next message. Waits for ever where none comes.
    pub async fn next(&mut self) -> Message {
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// The next message, if there is one by now.
    pub fn now(&mut self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    /// How many messages were lost since this was asked last, at least: those for which there was no room, and one for
    /// each time that nothing could be heard.
    pub fn missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

/// Followers in this process.
#[derive(Debug, Default)]
pub(crate) struct Followers(Mutex<HashMap<i64, Vec<Teller>>>);

impl Followers {
    pub(crate) fn follow(&self, task: i64) -> Follow {
        let (teller, follow) = Follow::new();
        self.lock().entry(task).or_default().push(teller);
        follow
    }

    pub(crate) fn show(&self, task: i64, message: &Message) {
        let mut followed = self.lock();
        // Those that are gone are found when something is shown for any task.
        followed.retain(|_, tellers| {
            tellers.retain(|teller| !teller.messages.is_closed());
            !tellers.is_empty()
        });
        for teller in followed.get(&task).into_iter().flatten() {
            teller.tell(Arc::clone(message));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Vec<Teller>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_read_holds_little_and_nobody_up_and_knows_it() {
        let followers = Followers::default();
        let mut slow = followers.follow(1);
        let mut other = followers.follow(2);
        for number in 0..1_000_u32 {
            followers.show(1, &Arc::from(number.to_le_bytes()));
        }
        followers.show(2, &Arc::from(*b"x"));
        assert_eq!(&*other.next().await, b"x");
        assert_eq!(slow.messages.len(), MAX_HELD);
        assert_eq!(slow.missed(), 1_000 - MAX_HELD as u64);
        assert_eq!((slow.missed(), other.missed()), (0, 0), "told once");
        assert_eq!(&*slow.next().await, 0_u32.to_le_bytes(), "the first ones");
        assert_eq!(std::iter::from_fn(|| slow.now()).count(), MAX_HELD - 1);
        drop((slow, other));
        followers.show(1, &Arc::from(*b"y"));
        assert!(followers.lock().is_empty());
    }
}
