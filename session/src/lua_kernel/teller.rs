//! Tells the engine what happens, in answer to the request in progress.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::line::Told;
use crate::message::{Channel, Header};
use crate::told;

/// Shared by the threads of a kernel.
#[derive(Debug)]
pub(super) struct Teller {
    line: Told,
    parent: Mutex<Option<Header>>,
    /// Whether the request in progress is a silent one.
    is_muted: AtomicBool,
}

impl Teller {
    pub(super) fn new(line: Told) -> Self {
        Self {
            line,
            parent: Mutex::default(),
            is_muted: AtomicBool::new(false),
        }
    }

    /// From here on, what is told answers this request.
    pub(super) fn answers(&self, request: Header) {
        *self.parent.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        self.mute(false);
    }

    /// From here on, nothing is published.
    pub(super) fn mute(&self, is_muted: bool) {
        self.is_muted.store(is_muted, Ordering::Relaxed);
    }

    /// Tells something, whether it is muted or not.
    pub(super) fn tell(&self, channel: Channel, kind: &str, content: &Value) {
        let parent = self.parent.lock().unwrap_or_else(PoisonError::into_inner);
        let message = told::message(channel, kind, parent.as_ref(), content);
        drop(parent);
        self.line.tell(&message);
    }

    /// Tells everyone, unless it is muted.
    pub(super) fn publish(&self, kind: &str, content: &Value) {
        if !self.is_muted.load(Ordering::Relaxed) {
            self.tell(Channel::Iopub, kind, content);
        }
    }

    /// Tells what the kernel is at.
    pub(super) fn status(&self, state: &str) {
        self.tell(Channel::Iopub, "status", &json!({"execution_state": state}));
    }
}
