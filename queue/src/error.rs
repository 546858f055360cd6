/// Why the queue could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The address names something else than a Redis.
    #[error(
        "{url} is no address of a Redis: expected redis://[user:password@]host[:port][/database], \
         rediss://… (TLS), valkey://…, valkeys://… or redis+unix:///path ({reason})"
    )]
    Url {
        /// The address, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name of a queue or process cannot be part of a key.
    #[error(
        "the {what} {value:?} must have 1 to 100 characters, none of them {{, }} or white space"
    )]
    Name {
        /// Which name: `queue` or `process`.
        what: &'static str,
        /// The name.
        value: String,
    },
    /// There was no answer, or one that is not Redis's.
    #[error("could not connect to Redis at {url}: {source}")]
    Connect {
        /// The address, without its password.
        url: String,
        /// What the client says.
        source: redis::RedisError,
    },
    /// The password or user was refused, or one is needed.
    #[error("Redis at {url} refused user or password (redis://user:password@host): {source}")]
    Password {
        /// The address, without its password.
        url: String,
        /// What Redis says.
        source: redis::RedisError,
    },
    /// Too old.
    #[error("Redis at {url} is version {found}, at least 6.2 is needed (or Valkey 7.2)")]
    Version {
        /// The address, without its password.
        url: String,
        /// Its version.
        found: String,
    },
    /// A question was not answered.
    #[error("could not {what} queue {queue:?} in Redis: {source}")]
    Command {
        /// What was attempted.
        what: &'static str,
        /// Name of the queue.
        queue: String,
        /// What the client or Redis says.
        source: redis::RedisError,
    },
}
