//! Messages that the runner itself makes.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::message::{Channel, Header, Json, Message};
use crate::wire::{Frame, Framing};

/// Who says them.
const SESSION: &str = "runner";
/// How clients of Sage Cell tell that a control was changed; it is answered like a request.
const INTERACT: &str = "sagenb.interact.update_interact";

/// A moment as Jupyter writes it: in UTC, with microseconds.
pub(crate) fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A message in answer to another one, or to none.
pub(crate) fn message(
    channel: Channel,
    kind: &str,
    parent: Option<&Header>,
    content: &Value,
) -> Message {
    Message {
        channel,
        header: Header {
            msg_id: uuid::Uuid::new_v4().to_string(),
            msg_type: kind.to_owned(),
            session: SESSION.to_owned(),
            username: SESSION.to_owned(),
            date: Some(moment(jiff::Timestamp::now())),
            version: Some("5.4".to_owned()),
            ..Header::default()
        },
        parent_header: parent.cloned(),
        metadata: Json::default(),
        // What is made here are objects.
        content: Json::new(content).unwrap_or_default(),
        buffers: Vec::new(),
    }
}

/// The frame of a message, as kernels send them.
pub(crate) fn frame(message: &Message) -> Bytes {
    match Framing::V1.encode(message) {
        Ok(Frame::Binary(bytes)) => bytes,
        // Without limits every message fits into a binary frame.
        _ => Bytes::new(),
    }
}

/// The state of a kernel, for everybody.
pub(crate) fn status(state: &str, parent: Option<&Header>) -> Message {
    let content = json!({"execution_state": state});
    message(Channel::Iopub, "status", parent, &content)
}

/// Text on the error stream of a cell.
pub(crate) fn note(text: &str, parent: Option<&Header>) -> Message {
    let content = json!({"name": "stderr", "text": format!("{text}\n")});
    message(Channel::Iopub, "stream", parent, &content)
}

#[derive(Deserialize)]
struct Status {
    execution_state: String,
}

/// What a kernel says that it is at, in a message of the kind `status`.
pub(crate) fn execution_state(message: &Message) -> Option<String> {
    let status = message.content.read::<Status>();
    status.ok().map(|status| status.execution_state)
}

/// Whether a message of this kind is answered.
pub(crate) fn is_answered(kind: &str) -> bool {
    kind.ends_with("_request") || kind == INTERACT
}

/// What whoever waits for an answer is told when there will be none: the reply, and what clients wait for beside it.
pub(crate) fn failure(
    request: &Header,
    channel: Channel,
    name: &str,
    why: &str,
) -> (Message, Vec<Message>) {
    let content = json!({
        "status": "error", "ename": name, "evalue": why, "traceback": [format!("{name}: {why}")],
        "user_expressions": {}, "payload": [],
    });
    let kind = match request.msg_type.as_str() {
        INTERACT => format!("{INTERACT}_reply"),
        kind => kind.replace("_request", "_reply"),
    };
    let reply = message(channel, &kind, Some(request), &content);
    let mut others = Vec::new();
    if request.msg_type == "execute_request" {
        others.push(message(Channel::Iopub, "error", Some(request), &content));
    }
    others.push(status("idle", Some(request)));
    (reply, others)
}
