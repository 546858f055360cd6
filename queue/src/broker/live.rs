//! What passes of a task, from the process that runs it to those that follow it: a channel for each task.

use std::sync::Arc;

use futures::StreamExt as _;
use redis::aio::PubSub;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Shared;
use super::link::{ANSWER_TIMEOUT, Backoff, silent};
use super::scripts;
use crate::live::{Follow, MAX_MESSAGE, Message, Teller};

/// Messages that wait for Redis; further ones are lost.
pub(super) const MAX_WAITING: usize = 256;
/// Messages that are sent at a time.
const AT_A_TIME: usize = 32;

/// A message to be sent.
pub(super) type Showing = (i64, Message);

/// Sends what is shown, as long as there is a queue. What cannot be sent is lost.
pub(super) async fn send(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Showing>) {
    let work = async {
        let mut messages = Vec::with_capacity(AT_A_TIME);
        while waiting.recv_many(&mut messages, AT_A_TIME).await > 0 {
            let mut pipe = redis::pipe();
            for (task, message) in messages.drain(..) {
                let channel = channel(&shared, task);
                pipe.cmd("PUBLISH").arg(channel).arg(&*message).ignore();
            }
            // The link says that Redis is away.
            let _ = shared.link.pipe::<()>(&pipe).await;
        }
    };
    let _: Option<()> = shared.gone.run_until_cancelled(work).await;
}

/// Follows a task, on a connection of its own. Begins before this returns, if Redis answers.
pub(super) async fn follow(shared: &Arc<Shared>, task: i64) -> Follow {
    let (teller, follow) = Follow::new();
    let first = subscribe(shared, task).await.ok();
    let shared = Arc::clone(shared);
    let bringer = tokio::spawn(async move {
        let gone = shared.gone.clone();
        let work = bring(shared, task, first, teller);
        let _: Option<()> = gone.run_until_cancelled(work).await;
    });
    follow.brought(bringer.abort_handle())
}

async fn bring(shared: Arc<Shared>, task: i64, mut connection: Option<PubSub>, teller: Teller) {
    let mut backoff = Backoff::default();
    loop {
        if let Some(connection) = connection.take() {
            backoff = Backoff::default();
            let mut messages = connection.into_on_message();
            while let Some(message) = messages.next().await {
                let message = message.get_payload_bytes();
                if message.len() <= MAX_MESSAGE {
                    teller.tell(Arc::from(message));
                }
            }
        }
        teller.lost();
        backoff.pause().await;
        connection = subscribe(&shared, task).await.ok();
    }
}

async fn subscribe(shared: &Shared, task: i64) -> redis::RedisResult<PubSub> {
    let subscribing = async {
        let mut connection = shared.link.client.get_async_pubsub().await?;
        connection.subscribe(channel(shared, task)).await?;
        Ok(connection)
    };
    timeout(ANSWER_TIMEOUT, subscribing)
        .await
        .unwrap_or_else(|_| Err(silent()))
}

fn channel(shared: &Shared, task: i64) -> String {
    scripts::key(&shared.config.name, &format!("live:{task}"))
}
