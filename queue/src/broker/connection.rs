//! A way into Redis for other parts of the room, with the names that the queue has there.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::link::Link;
use super::scripts;
use crate::{QueueError, RedisConfig};

/// A connection for short commands that shares nothing with the queue but its names and its end.
pub(crate) struct Connection {
    link: Link,
    config: RedisConfig,
    gone: CancellationToken,
}

impl Connection {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            link: Link::new(shared.link.client.clone(), "links"),
            config: shared.config.clone(),
            gone: shared.gone.child_token(),
        }
    }

    /// The name of this process.
    pub(crate) fn process(&self) -> &str {
        &self.config.process
    }

    /// Cancelled when nobody uses the queue any more.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// A key of the queue.
    pub(crate) fn key(&self, name: &str) -> String {
        scripts::key(&self.config.name, name)
    }

    pub(crate) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        self.link.command(command).await
    }

    pub(crate) async fn pipe<T: FromRedisValue>(&self, pipe: &Pipeline) -> RedisResult<T> {
        self.link.pipe(pipe).await
    }

    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        self.link.script(call).await
    }

    /// A connection of one's own, on which answers may take as long as they like.
    pub(crate) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.link.connect(None).await
    }

    /// What could not be done.
    pub(crate) fn error(&self, what: &'static str, source: RedisError) -> QueueError {
        QueueError::Command {
            what,
            queue: self.config.name.clone(),
            source,
        }
    }
}
