//! What a kernel says of itself: what it is at, and how long it may be idle.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Driver;
use super::cell::Cell;
use crate::message::{Channel, Header, Message};
use crate::output::Done;
use crate::session::Execution;
use crate::told;

#[derive(Deserialize)]
struct Timeout {
    timeout: Value,
}

impl Driver {
    pub(super) fn hear_status(&mut self, message: &Message) {
        let execution = match told::execution_state(message).as_deref() {
            Some("busy") => Execution::Busy,
            Some("idle") => Execution::Idle,
            _ => return,
        };
        self.session.lock().execution = execution;
        let Some(parent) = message.parent_header.as_ref() else {
            return;
        };
        if execution != Execution::Idle {
            // What goes over the other channel is done beside a cell.
            let asked = self.pending.get(&parent.msg_id);
            if asked.is_none_or(|asked| asked.channel != Channel::Control) {
                self.cell = Some(Cell::of(parent));
            }
            return;
        }
        self.cell.take_if(|cell| cell.is_of(parent));
        self.pending.remove(&parent.msg_id);
        if let Some(done) = self.output.done(&parent.msg_id) {
            self.show_rest(parent, &done);
        }
    }

    /// Tells where the rest of the output of a cell is.
    fn show_rest(&self, parent: &Header, done: &Done) {
        let path = self.path_of(&done.name);
        let mut text = match done.size {
            0 => String::new(),
            size => format!("The rest of the output ({size} bytes): {path}"),
        };
        if done.lost > 0 {
            text.push_str(&format!(
                "\nThere was no room for {} bytes of output.",
                done.lost
            ));
        }
        let mut data = json!({"text/plain": text.trim()});
        if done.size > 0 {
            let link = format!(
                "<a href=\"{path}\" download>The rest of the output ({} bytes)</a>",
                done.size
            );
            data["text/html"] = link.into();
        }
        let content = json!({"data": data, "metadata": {"runner": {"output": path, "bytes": done.size, "lost": done.lost}}, "transient": {}});
        let shown = told::message(Channel::Iopub, "display_data", Some(parent), &content);
        self.session.say(None, &shown);
    }

    /// The kernel says how long it may be idle: seconds, or `inf`; no longer than any may.
    pub(super) fn hear_timeout(&self, message: &Message) {
        let Ok(Timeout { timeout }) = message.content.read() else {
            return;
        };
        let most = self.shared.config.idle;
        let asked = match (timeout.as_f64(), timeout.as_str()) {
            (Some(seconds), _) if seconds >= 0.0 => Duration::try_from_secs_f64(seconds),
            (_, Some("inf")) => Ok(most),
            _ => return,
        };
        self.session.lock().idle = asked.map_or(most, |asked| asked.min(most));
    }
}
