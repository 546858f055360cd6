//! A single cell in a kernel of its own, which nobody else sees and of which nothing is kept: no session, no log, no
//! clients.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use crate::error::SessionError;
use crate::kernel::{Errors, Kernel};
use crate::kernelspecs::KERNELSPEC;
use crate::message::{Channel, Message};
use crate::sessions::Sessions;
use crate::told;

/// How long a cell that was interrupted may take to answer.
const INTERRUPTED: Duration = Duration::from_secs(1);
/// Bytes of output beyond what is kept after which a kernel is ended.
const PATIENCE: usize = 16 << 20;

/// A cell.
#[derive(Debug, Clone, Default)]
pub struct Once {
    /// What is run.
    pub code: String,
    /// What is told of its variables afterwards: expressions by names.
    pub expressions: Map<String, Value>,
    /// How long it may take.
    pub limit: Duration,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// The content of the kernel's answer; made up where it gave none.
    pub reply: Map<String, Value>,
    /// What it printed.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Ran {
    /// Whether it did what it was to do.
    pub fn is_ok(&self) -> bool {
        self.reply
            .get("status")
            .is_some_and(|status| status == "ok")
    }

    fn failed(&mut self, name: &str, why: &str) {
        let content = json!({
            "status": "error", "ename": name, "evalue": why, "traceback": [format!("{name}: {why}")],
            "user_expressions": {}, "payload": [],
        });
        if let Value::Object(content) = content {
            self.reply = content;
        }
    }
}

#[derive(Deserialize)]
struct Text {
    name: String,
    text: String,
}

impl Sessions {
    /// Runs a cell in a kernel of its own, which is ended afterwards, and by itself if nobody waits any more.
    ///
    /// # Errors
    /// No kernel can be started.
    pub async fn once(&self, once: Once) -> Result<Ran, SessionError> {
        let mut kernel = self.0.kernel(KERNELSPEC, &HashMap::new(), None).await?;
        if let Some(errors) = kernel.take_errors() {
            tokio::spawn(drain(errors));
        }
        // Nobody answers what it asks beside its messages.
        drop(kernel.take_aside());
        let content = json!({
            "code": once.code, "silent": false, "store_history": false, "user_expressions": once.expressions,
            "allow_stdin": false, "stop_on_error": true,
        });
        let request = told::message(Channel::Shell, "execute_request", None, &content);
        // Of a kernel that takes nothing any more, its end is heard of.
        let _ = kernel.writer().send(told::frame(&request)).await;
        let most = usize::try_from(self.0.config.cell_output).unwrap_or(usize::MAX);
        let mut heard = Heard {
            request: &request.header.msg_id,
            most,
            beyond: 0,
            has_reply: false,
            is_idle: false,
            ran: Ran::default(),
        };
        self.hear(&mut kernel, &mut heard, once.limit).await;
        self.0.meters.ended("ended");
        if heard.beyond > 0 {
            let text = format!("[{} bytes more of output are not shown]\n", heard.beyond);
            heard.ran.stderr.push_str(&text);
        }
        Ok(heard.ran)
    }

    /// Hears the kernel until it has answered and is idle.
    async fn hear(&self, kernel: &mut Kernel, heard: &mut Heard<'_>, limit: Duration) {
        let mut deadline = Instant::now() + limit;
        let mut is_interrupted = false;
        while !(heard.has_reply && heard.is_idle) {
            let why = match timeout_at(deadline, kernel.next()).await {
                Ok(Ok((message, _))) => {
                    heard.take(&message);
                    if heard.beyond <= PATIENCE {
                        continue;
                    }
                    Some(("TooMuchOutput", "it put out more and more".to_owned()))
                }
                Ok(Err(how)) => {
                    let ended =
                        tokio::time::timeout(INTERRUPTED, Kernel::ended(kernel.end())).await;
                    let how = ended.unwrap_or(how);
                    let how = self.0.config.face.named(&how).into_owned();
                    Some(("KernelDied", format!("the kernel ended: {how}")))
                }
                Err(_) if is_interrupted => Some((
                    "TimeoutError",
                    format!("it took longer than {} s", limit.as_secs()),
                )),
                Err(_) => None,
            };
            if let Some((name, why)) = why {
                if !heard.has_reply {
                    heard.ran.failed(name, &why);
                }
                return;
            }
            is_interrupted = true;
            deadline = Instant::now() + INTERRUPTED;
            kernel.interrupt();
        }
    }
}

/// What was heard of a cell.
struct Heard<'a> {
    /// Its request.
    request: &'a str,
    /// Bytes that are kept of each of its two streams.
    most: usize,
    /// Bytes that were not kept.
    beyond: usize,
    has_reply: bool,
    is_idle: bool,
    ran: Ran,
}

impl Heard<'_> {
    fn take(&mut self, message: &Message) {
        let parent = message.parent_header.as_ref();
        let is_ours = parent.is_some_and(|parent| parent.msg_id == self.request);
        match (message.channel, message.header.msg_type.as_str()) {
            (Channel::Shell, "execute_reply") if is_ours => {
                self.ran.reply = message.content.read().unwrap_or_default();
                let payload = self.ran.reply.entry("payload");
                payload.or_insert_with(|| json!([]));
                self.has_reply = true;
            }
            (Channel::Iopub, "status") if is_ours => {
                self.is_idle = told::execution_state(message).is_some_and(|state| state == "idle");
            }
            // Also what threads print.
            (Channel::Iopub, "stream") => {
                let Ok(Text { name, text }) = message.content.read() else {
                    return;
                };
                let stream = match name.as_str() {
                    "stderr" => &mut self.ran.stderr,
                    _ => &mut self.ran.stdout,
                };
                let room = self.most.saturating_sub(stream.len()).min(text.len());
                let cut = text.floor_char_boundary(room);
                stream.push_str(&text[..cut]);
                self.beyond += text.len() - cut;
            }
            (Channel::Iopub, kind) if kind != "status" => {
                let size = message.content.as_str().len();
                let buffers: usize = message.buffers.iter().map(bytes::Bytes::len).sum();
                self.beyond += (size + buffers).saturating_sub(self.most);
            }
            _ => {}
        }
    }
}

/// Nobody reads what it writes to its log; it must not wait for that.
async fn drain(mut errors: Errors) {
    let mut buffer = Vec::new();
    while errors.next(&mut buffer).await {
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, text: &str) -> Message {
        told::message(
            Channel::Iopub,
            "stream",
            None,
            &json!({"name": name, "text": text}),
        )
    }

    #[test]
    fn output_is_kept_up_to_a_limit_and_what_is_beyond_is_counted() {
        let mut heard = Heard {
            request: "a",
            most: 5,
            beyond: 0,
            has_reply: false,
            is_idle: false,
            ran: Ran::default(),
        };
        heard.take(&stream("stdout", "abc"));
        heard.take(&stream("stdout", "déf"));
        heard.take(&stream("stderr", "x"));
        assert_eq!((heard.ran.stdout.as_str(), heard.beyond), ("abcd", 3));
        assert_eq!(heard.ran.stderr, "x");
    }

    #[test]
    fn only_its_own_answer_ends_it() {
        let request = told::message(Channel::Shell, "execute_request", None, &json!({}));
        let mut heard = Heard {
            request: &request.header.msg_id,
            most: 5,
            beyond: 0,
            has_reply: false,
            is_idle: false,
            ran: Ran::default(),
        };
        let reply = |parent| {
            told::message(
                Channel::Shell,
                "execute_reply",
                parent,
                &json!({"status": "ok"}),
            )
        };
        heard.take(&reply(None));
        heard.take(&told::status("idle", None));
        assert!(!heard.has_reply && !heard.is_idle);
        heard.take(&reply(Some(&request.header)));
        heard.take(&told::status("idle", Some(&request.header)));
        assert!(heard.has_reply && heard.is_idle && heard.ran.is_ok());
        assert_eq!(heard.ran.reply["payload"], json!([]));
    }
}
