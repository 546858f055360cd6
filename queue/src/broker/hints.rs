//! Hints between the processes of a queue: what one was told, all hear. Tasks that changed have a channel of their
//! own, which only those processes hear in which somebody watches a task: most workers do not.
//!
//! A message is the process that sends it (`-` is a script), then words: `c` and `e` and the numbers of
//! tasks that changed and ended, `d` deliveries are due, `s` schedules were changed, `m` something else is
//! wanted of modules, `f` there was a flood, `t` something is due early.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{RedisError, RedisResult};
use tokio::time::{MissedTickBehavior, timeout};

use super::Shared;
use super::link::{ANSWER_TIMEOUT, Backoff, Health, Link, silent};
use super::scripts;
use crate::hints::Pending;

/// So many tasks are named in one message.
const MAX_TASKS: usize = 1_000;
/// Longer messages are not from a runner. In bytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// About so long after the last watcher has left, changes are not listened to any more.
const UNWATCHED: Duration = Duration::from_secs(2);

/// What a message says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    changed: Vec<i64>,
    ended: Vec<i64>,
    are_deliveries_due: bool,
    are_schedules_changed: bool,
    are_modules_changed: bool,
    is_flood: bool,
    is_something_due: bool,
}

/// A connection on which hints come.
pub(super) struct Subscription {
    sink: PubSubSink,
    messages: PubSubStream,
    /// Whether those of changed tasks come as well.
    has_changes: bool,
}

impl Subscription {
    /// Listens to the hints of a queue, except those of changed tasks.
    pub(super) async fn new(link: &Link, queue: &str) -> RedisResult<Self> {
        in_time(async {
            let (mut sink, messages) = link.client.get_async_pubsub().await?.split();
            sink.subscribe(scripts::key(queue, "hints")).await?;
            Ok(Self {
                sink,
                messages,
                has_changes: false,
            })
        })
        .await
    }

    async fn add_changes(&mut self, queue: &str) -> RedisResult<()> {
        in_time(self.sink.subscribe(scripts::key(queue, "changes"))).await?;
        self.has_changes = true;
        Ok(())
    }

    async fn remove_changes(&mut self, queue: &str) -> RedisResult<()> {
        in_time(self.sink.unsubscribe(scripts::key(queue, "changes"))).await?;
        self.has_changes = false;
        Ok(())
    }
}

async fn in_time<T>(asking: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(ANSWER_TIMEOUT, asking)
        .await
        .unwrap_or_else(|_| Err(silent()))
}

/// Hears hints as long as there is a queue.
pub(super) async fn receive(shared: Arc<Shared>, subscription: Subscription) {
    let health = Health::new("hints".to_owned());
    let work = async {
        let mut subscription = subscription;
        loop {
            let error = shared.listen(&mut subscription).await;
            let mut backoff = Backoff::default();
            health.failed(&error);
            subscription = loop {
                backoff.pause().await;
                match shared.subscribe_again().await {
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
        let changes = scripts::key(&shared.config.name, "changes");
        let others = scripts::key(&shared.config.name, "hints");
        let mut backoff = Backoff::default();
        loop {
            shared.outgoing.wake.notified().await;
            let pending = shared.outgoing.take();
            let mut pipe = redis::pipe();
            for (channel, message) in messages(&shared.config.process, &pending) {
                let channel = match channel {
                    Channel::Changes => &changes,
                    Channel::Hints => &others,
                };
                pipe.cmd("PUBLISH").arg(channel).arg(message).ignore();
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
    /// Hears what comes until the connection fails. Of changed tasks it hears while somebody watches one.
    async fn listen(&self, subscription: &mut Subscription) -> RedisError {
        let queue = &self.config.name;
        let events = &self.hints.events;
        let mut look = tokio::time::interval(UNWATCHED);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let subscribed = tokio::select! {
                message = subscription.messages.next() => match message {
                    Some(message) => {
                        self.hear(message.get_payload_bytes());
                        continue;
                    }
                    None => return io::Error::other("the connection for hints has ended").into(),
                },
                () = events.first_watch(), if !subscription.has_changes => {
                    let subscribed = subscription.add_changes(queue).await;
                    look.reset();
                    // Tasks may have changed since they were read.
                    events.everything_changed();
                    subscribed
                }
                _ = look.tick(), if subscription.has_changes => match events.is_watched() {
                    true => continue,
                    false => subscription.remove_changes(queue).await,
                },
            };
            if let Err(error) = subscribed {
                return error;
            }
        }
    }

    async fn subscribe_again(&self) -> RedisResult<Subscription> {
        let mut subscription = Subscription::new(&self.link, &self.config.name).await?;
        if self.hints.events.is_watched() {
            subscription.add_changes(&self.config.name).await?;
        }
        Ok(subscription)
    }

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
        if message.are_modules_changed {
            self.hints.modules_changed_here();
        }
        if message.is_flood {
            self.hints.gap();
        }
    }
}

/// Who hears a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// Processes in which somebody watches a task.
    Changes,
    /// All processes.
    Hints,
}

/// What is to be told, in messages of bounded length.
fn messages(process: &str, pending: &Pending) -> Vec<(Channel, String)> {
    let mut messages = Vec::new();
    for (channel, word, tasks) in [
        (Channel::Changes, "c", &pending.changed),
        (Channel::Hints, "e", &pending.ended),
    ] {
        let tasks: Vec<i64> = tasks.iter().copied().collect();
        for tasks in tasks.chunks(MAX_TASKS) {
            let mut message = format!("{process} {word}");
            for task in tasks {
                let _ = write!(message, " {task}");
            }
            messages.push((channel, message));
        }
    }
    for (is_told, word) in [
        (pending.are_deliveries_due, "d"),
        (pending.are_schedules_changed, "s"),
        (pending.are_modules_changed, "m"),
        (pending.is_flood, "f"),
    ] {
        if is_told {
            messages.push((Channel::Hints, format!("{process} {word}")));
        }
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
            "m" => message.are_modules_changed = true,
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
            changed: HashSet<i64>, ended: HashSet<i64>, are_deliveries_due: bool, are_schedules_changed: bool,
            are_modules_changed: bool, is_flood: bool
        ) {
            let pending = Pending {
                changed, ended, are_deliveries_due, are_schedules_changed, are_modules_changed, is_flood,
            };
            let mut heard = Pending::default();
            for (_, text) in messages("p", &pending) {
                let message = decode(text.strip_prefix("p ").unwrap()).unwrap();
                heard.changed.extend(message.changed);
                heard.ended.extend(message.ended);
                heard.are_deliveries_due |= message.are_deliveries_due;
                heard.are_schedules_changed |= message.are_schedules_changed;
                heard.are_modules_changed |= message.are_modules_changed;
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
        assert!(
            all.iter()
                .all(|(channel, message)| *channel == Channel::Changes
                    && message.len() < MAX_MESSAGE)
        );
    }
}
