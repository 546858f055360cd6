//! Hints between the processes of a queue: what one was told, all hear.
//!
//! A message is the process that sends it (`-` is a script), then words: `c` and `e` and the numbers of
//! tasks that changed and ended, `d` deliveries are due, `s` schedules were changed, `f` there was a flood,
//! `t` something is due early.

use std::fmt::Write as _;
use std::sync::Arc;

use futures::StreamExt as _;
use redis::RedisResult;
use redis::aio::{PubSub, PubSubStream};
use tokio::time::timeout;

use super::Shared;
use super::link::{ANSWER_TIMEOUT, Backoff, Health, Link, silent};
use super::scripts;
use crate::hints::Pending;

/// So many tasks are named in one message.
const MAX_TASKS: usize = 1_000;
/// Longer messages are not from a runner. In bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// What a message says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    changed: Vec<i64>,
    ended: Vec<i64>,
    are_deliveries_due: bool,
    are_schedules_changed: bool,
    is_flood: bool,
    is_something_due: bool,
}

/// Listens to the hints of a queue.
pub(super) async fn subscribe(link: &Link, queue: &str) -> RedisResult<PubSubStream> {
    let subscribing = async {
        let mut connection: PubSub = link.client.get_async_pubsub().await?;
        connection
            .subscribe(scripts::key(queue, "hints"))
            .await
            .map(|()| connection.into_on_message())
    };
    timeout(ANSWER_TIMEOUT, subscribing)
        .await
        .unwrap_or_else(|_| Err(silent()))
}

/// Hears hints as long as there is a queue.
pub(super) async fn receive(shared: Arc<Shared>, subscription: PubSubStream) {
    let health = Health::new("hints".to_owned());
    let work = async {
        let mut subscription = subscription;
        loop {
            while let Some(message) = subscription.next().await {
                shared.hear(message.get_payload_bytes());
            }
            let mut backoff = Backoff::default();
            let gone = std::io::Error::other("the connection for hints has ended");
            health.failed(&gone.into());
            subscription = loop {
                backoff.pause().await;
                match subscribe(&shared.link, &shared.config.name).await {
                    Ok(subscription) => break subscription,
                    Err(error) => health.failed(&error),
                }
            };
            health.fine();
            shared.hints.gap();
            shared.tend.notify_one();
        }
    };
    let _: Option<()> = shared.gone.run_until_cancelled(work).await;
}

/// Tells hints as long as there is a queue. What comes while a message is on its way goes with the next.
pub(super) async fn send(shared: Arc<Shared>) {
    let work = async {
        let channel = scripts::key(&shared.config.name, "hints");
        let mut backoff = Backoff::default();
        loop {
            shared.outgoing.wake.notified().await;
            let pending = shared.outgoing.take();
            let mut pipe = redis::pipe();
            for message in messages(&shared.config.process, &pending) {
                pipe.cmd("PUBLISH").arg(&channel).arg(message).ignore();
            }
            if pipe.is_empty() {
                continue;
            }
            match shared.link.pipe::<()>(&pipe).await {
                Ok(()) => backoff = Backoff::default(),
                Err(_) => {
                    shared.outgoing.put_back(pending);
                    backoff.pause().await;
                }
            }
        }
    };
    let _: Option<()> = shared.gone.run_until_cancelled(work).await;
}

impl Shared {
    fn hear(&self, payload: &[u8]) {
        let text = std::str::from_utf8(payload).ok();
        let (sender, message) = match text.filter(|text| text.len() <= MAX_MESSAGE) {
            Some(text) => text.split_once(' ').unwrap_or((text, "")),
            None => ("?", "?"),
        };
        if sender == self.config.process {
            return;
        }
        // Whatever cannot be understood may have been a hint.
        let message = decode(message).unwrap_or(Message {
            is_flood: true,
            ..Message::default()
        });
        if message.is_something_due {
            self.tend.notify_one();
        }
        let events = &self.hints.events;
        for task in message.changed {
            events.changed_here(task);
        }
        self.hints.tasks_ended_here(&message.ended);
        if message.are_deliveries_due {
            self.hints.deliveries_due_here();
        }
        if message.are_schedules_changed {
            self.hints.schedules_changed_here();
        }
        if message.is_flood {
            self.hints.gap();
        }
    }
}

/// What is to be told, in messages of bounded length.
fn messages(process: &str, pending: &Pending) -> Vec<String> {
    let mut messages = Vec::new();
    for (word, tasks) in [("c", &pending.changed), ("e", &pending.ended)] {
        let tasks: Vec<i64> = tasks.iter().copied().collect();
        for tasks in tasks.chunks(MAX_TASKS) {
            let mut message = format!("{process} {word}");
            for task in tasks {
                let _ = write!(message, " {task}");
            }
            messages.push(message);
        }
    }
    if pending.are_deliveries_due {
        messages.push(format!("{process} d"));
    }
    if pending.are_schedules_changed {
        messages.push(format!("{process} s"));
    }
    if pending.is_flood {
        messages.push(format!("{process} f"));
    }
    messages
}

/// `None` for what is no message.
fn decode(text: &str) -> Option<Message> {
    let mut message = Message::default();
    let mut tasks: Option<&mut Vec<i64>> = None;
    for word in text.split_ascii_whitespace() {
        match word {
            "c" => tasks = Some(&mut message.changed),
            "e" => tasks = Some(&mut message.ended),
            "d" => message.are_deliveries_due = true,
            "s" => message.are_schedules_changed = true,
            "f" => message.is_flood = true,
            "t" => message.is_something_due = true,
            number => tasks.as_mut()?.push(number.parse().ok()?),
        }
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn what_is_told_is_heard(
            changed: HashSet<i64>, ended: HashSet<i64>, are_deliveries_due: bool, are_schedules_changed: bool, is_flood: bool
        ) {
            let pending = Pending { changed, ended, are_deliveries_due, are_schedules_changed, is_flood };
            let mut heard = Pending::default();
            for text in messages("p", &pending) {
                let message = decode(text.strip_prefix("p ").unwrap()).unwrap();
                heard.changed.extend(message.changed);
                heard.ended.extend(message.ended);
                heard.are_deliveries_due |= message.are_deliveries_due;
                heard.are_schedules_changed |= message.are_schedules_changed;
                heard.is_flood |= message.is_flood;
            }
            prop_assert_eq!(heard, pending);
        }

        #[test]
        fn no_message_panics(text: String) {
            let _ = decode(&text);
        }
    }

    #[test]
    fn messages_are_short() {
        let changed = (0..3_000).map(|n| i64::MIN + n).collect();
        let pending = Pending {
            changed,
            ..Pending::default()
        };
        let all = messages(&"p".repeat(400), &pending);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|message| message.len() < MAX_MESSAGE));
    }
}
