//! What goes: frames are appended to inboxes, in their order. A batch whose answer is missing is sent again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::node::{Node, Sending};
use crate::broker::Backoff;

/// Frames that go in one message.
const AT_A_TIME: usize = 32;

/// Sends as long as there is a queue. What waits is bounded by the windows of links.
pub(super) async fn send(node: Arc<Node>, mut waiting: mpsc::UnboundedReceiver<Sending>) {
    let gone = node.gone.clone();
    let work = async {
        let mut batch = Vec::with_capacity(AT_A_TIME);
        while waiting.recv_many(&mut batch, AT_A_TIME).await > 0 {
            let mut backoff = Backoff::default();
            while !attempt(&node, &mut batch).await {
                backoff.pause().await;
            }
            batch.clear();
        }
    };
    let _: Option<()> = gone.run_until_cancelled(work).await;
}

/// Sends a batch, but what belongs to links of an earlier generation. Whether Redis has it.
async fn attempt(node: &Node, batch: &mut Vec<Sending>) -> bool {
    let generation = node.generation();
    batch.retain(|sending| sending.generation == generation);
    if batch.is_empty() {
        return true;
    }
    let mut pipe = redis::pipe();
    let mut size = 0;
    for sending in batch.iter() {
        pipe.cmd("XADD")
            .arg(node.inbox_of(&sending.to))
            // An inbox that nobody reads is not made.
            .arg("NOMKSTREAM")
            .arg("*")
            .arg("f")
            .arg(&sending.frame);
        size += sending.frame.len() as u64;
    }
    match node.redis.pipe::<Vec<Option<String>>>(&pipe).await {
        Ok(ids) => {
            node.meters.sent.increment(size);
            for (sending, id) in batch.iter().zip(ids) {
                if id.is_none() {
                    node.reset(&sending.to, "the process at the other end is gone");
                }
            }
            true
        }
        Err(_) => {
            node.is_doubtful.store(true, Ordering::Release);
            node.look.notify_one();
            false
        }
    }
}
