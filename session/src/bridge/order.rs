//! The order of what comes on two sockets: a request is over for the engine when the kernel says that it is idle again,
//! which must not be before the reply.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::message::{Channel, Message};
use crate::told;

/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Requests that are remembered.
const MAX_ASKED: usize = 10_000;

/// Requests without a reply.
#[derive(Debug, Default)]
pub(super) struct Order {
    asked: Mutex<HashSet<String>>,
    replied: Condvar,
}

impl Order {
    /// A request goes to the kernel.
    pub(super) fn asked(&self, message: &Message) {
        let mut asked = self.lock();
        if message.header.msg_type.ends_with("_request") && asked.len() < MAX_ASKED {
            asked.insert(message.header.msg_id.clone());
        }
    }

    /// Waits until the reply that comes before this message was passed on.
    pub(super) fn wait(&self, message: &Message) {
        let Some(parent) = &message.parent_header else {
            return;
        };
        let is_idle = || told::execution_state(message).is_some_and(|state| state == "idle");
        if message.header.msg_type != "status" || !is_idle() {
            return;
        }
        let asked = self.lock();
        let waited = self
            .replied
            .wait_timeout_while(asked, PATIENCE, |asked| asked.contains(&parent.msg_id));
        let mut asked = match waited {
            Ok((asked, _)) => asked,
            Err(broken) => broken.into_inner().0,
        };
        // One that has no reply by now is waited for no more.
        asked.remove(&parent.msg_id);
    }

    /// A message was passed on.
    pub(super) fn passed(&self, message: &Message) {
        if message.channel == Channel::Shell
            && let Some(parent) = &message.parent_header
            && self.lock().remove(&parent.msg_id)
        {
            self.replied.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
