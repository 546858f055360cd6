use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult,
    ScriptInvocation, ServerErrorKind,
};
use tokio_util::sync::CancellationToken;

/// So long an answer may take, and the making of a connection.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// So many commands are on their way at a time on one connection; more wait for their turn.
const PIPELINE: usize = 64;

/// A connection for short commands, made again when it fails. Shared by many.
pub(super) struct Link {
    pub(super) client: Client,
    current: tokio::sync::Mutex<Option<(u64, MultiplexedConnection)>>,
    /// Before, a failure is the answer to who wants to connect, and not logged.
    was_connected: AtomicBool,
    health: Health,
}

impl Link {
    pub(super) fn new(client: Client, part: &str) -> Self {
        Self {
            client,
            current: tokio::sync::Mutex::new(None),
            was_connected: AtomicBool::new(false),
            health: Health::new(part.to_owned()),
        }
    }

    /// Runs a script, once.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let (number, mut connection) = self.connection().await?;
        let answer = call.invoke_async(&mut connection).await;
        self.after(number, answer).await
    }

    /// Sends a command, once.
    pub(super) async fn command<T: FromRedisValue>(&self, command: &redis::Cmd) -> RedisResult<T> {
        let (number, mut connection) = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        self.after(number, answer).await
    }

    /// Sends commands, once.
    pub(super) async fn pipe<T: FromRedisValue>(&self, pipe: &Pipeline) -> RedisResult<T> {
        let (number, mut connection) = self.connection().await?;
        let answer = pipe.query_async(&mut connection).await;
        self.after(number, answer).await
    }

    /// Runs a script until Redis has done it. `None` when the queue is gone before.
    pub(super) async fn script_until<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
        gone: &CancellationToken,
    ) -> Option<T> {
        let mut backoff = Backoff::default();
        loop {
            if let Ok(answer) = self.script(call).await {
                return Some(answer);
            }
            gone.run_until_cancelled(backoff.pause()).await?;
        }
    }

    /// A new connection of its own. Without a limit, answers may take as long as they like.
    pub(super) async fn connect(
        &self,
        limit: Option<Duration>,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(limit)
            .set_pipeline_buffer_size(PIPELINE);
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        // The greeting of a server that accepts and stays silent is not under the limit above.
        tokio::time::timeout(2 * ANSWER_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut current = self.current.lock().await;
        if let Some((number, connection)) = &*current {
            return Ok((*number, connection.clone()));
        }
        let connection = match self.connect(Some(ANSWER_TIMEOUT)).await {
            Ok(connection) => connection,
            Err(error) => {
                self.failed(&error);
                return Err(error);
            }
        };
        let number = super::entry::random();
        *current = Some((number, connection.clone()));
        Ok((number, connection))
    }

    fn failed(&self, error: &RedisError) {
        if self.was_connected.load(Ordering::Relaxed) {
            self.health.failed(error);
        }
    }

    async fn after<T>(&self, number: u64, answer: RedisResult<T>) -> RedisResult<T> {
        match &answer {
            Ok(_) => {
                self.was_connected.store(true, Ordering::Relaxed);
                self.health.fine();
            }
            Err(error) => {
                self.failed(error);
                let is_answer = matches!(
                    error.kind(),
                    ErrorKind::Server(ServerErrorKind::ResponseError) | ErrorKind::Extension
                );
                if !is_answer {
                    self.current
                        .lock()
                        .await
                        .take_if(|(current, _)| *current == number);
                }
            }
        }
        answer
    }
}

/// There was no answer in time.
pub(crate) fn silent() -> RedisError {
    RedisError::from(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
    ))
}

/// Says once that a part lost Redis, once why when that changes, and once that it is back.
pub(crate) struct Health {
    part: String,
    /// The kind of failure that was said last.
    said: Mutex<Option<String>>,
}

impl Health {
    pub(crate) fn new(part: String) -> Self {
        Self {
            part,
            said: Mutex::new(None),
        }
    }

    pub(crate) fn failed(&self, error: &RedisError) {
        let kind = match error.code() {
            Some(code) => code.to_owned(),
            // A connection fails in many ways, which are all the same to who reads the log.
            None => "connection".to_owned(),
        };
        let mut said = self.said();
        if said.as_ref() != Some(&kind) {
            tracing::warn!(part = self.part, "Redis failed, trying again: {error}");
            *said = Some(kind);
        }
    }

    pub(crate) fn fine(&self) {
        if self.said().take().is_some() {
            tracing::info!(part = self.part, "Redis is back");
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Growing pauses between attempts.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    /// The next pause: twice the last, shortened at random by up to half, so that processes do not come in
    /// step.
    fn next(&mut self) -> Duration {
        let pause = self
            .last
            .map_or(FIRST_PAUSE, |last| (2 * last).min(LONGEST_PAUSE));
        self.last = Some(pause);
        pause - pause.mul_f64((super::entry::random() % 1000) as f64 / 2000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_never_vanish() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..50).map(|_| backoff.next()).collect();
        assert!(pauses.iter().all(|pause| *pause >= FIRST_PAUSE / 2));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(pauses[20..].iter().all(|pause| *pause >= LONGEST_PAUSE / 2));
    }
}
