use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisError};

use super::link::Link;
use crate::QueueError;

/// The oldest version of Redis that has all commands that are used.
const OLDEST: (u32, u32) = (6, 2);

/// A name that goes into keys.
pub(super) fn check_name(what: &'static str, value: &str) -> Result<(), QueueError> {
    let is_fine = |c: char| !c.is_whitespace() && !c.is_control() && c != '{' && c != '}';
    if (1..=100).contains(&value.chars().count()) && value.chars().all(is_fine) {
        return Ok(());
    }
    Err(QueueError::Name {
        what,
        value: value.chars().take(200).collect(),
    })
}

/// A client for an address; connects to nothing.
pub(super) fn client(url: &str) -> Result<Client, QueueError> {
    let refused = |reason: String| QueueError::Url {
        url: without_password(url),
        reason,
    };
    let Some(parsed) = redis::parse_redis_url(url) else {
        let reason = match url.split_once("://") {
            Some((scheme, _)) => format!("{scheme}:// is something else"),
            None => "there is no scheme".to_owned(),
        };
        return Err(refused(reason));
    };
    let info = parsed
        .into_connection_info()
        .map_err(|error| refused(error.to_string()))?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        // Fails when there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    // A peer that vanished without a word is noticed after a minute.
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    Client::open(info.set_tcp_settings(settings)).map_err(|error| refused(error.to_string()))
}

/// Connects, and checks that a Redis answers that is not too old.
pub(super) async fn check_server(link: &Link, url: &str) -> Result<(), QueueError> {
    let text: String = link
        .command(redis::cmd("INFO").arg("server"))
        .await
        .map_err(|source| connect_error(url, source))?;
    let version = info(&text, "redis_version").unwrap_or("unknown");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(QueueError::Version {
            url: without_password(url),
            found: version.chars().take(50).collect(),
        });
    }
    warn_of_eviction(link).await;
    Ok(())
}

/// A Redis that throws keys away when its memory is full may leave half of what belongs together.
async fn warn_of_eviction(link: &Link) {
    // Some hosted ones do not tell.
    let memory = link
        .command::<String>(redis::cmd("INFO").arg("memory"))
        .await;
    let Ok(memory) = memory else { return };
    let has_limit = info(&memory, "maxmemory").is_some_and(|limit| limit != "0");
    let policy = info(&memory, "maxmemory_policy").unwrap_or("noeviction");
    if has_limit && policy != "noeviction" {
        tracing::warn!(
            "this Redis throws keys away when its memory is full (maxmemory-policy {policy}), also those of the \
             queue: set maxmemory-policy noeviction"
        );
    }
}

/// A line of `INFO`.
pub(crate) fn info<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

pub(super) fn connect_error(url: &str, source: RedisError) -> QueueError {
    let url = without_password(url);
    let is_refused = source.kind() == redis::ErrorKind::AuthenticationFailed
        || matches!(source.code(), Some("NOAUTH" | "WRONGPASS"));
    if is_refused {
        QueueError::Password { url, source }
    } else {
        QueueError::Connect { url, source }
    }
}

/// The address for a message.
fn without_password(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.rsplit('@').next().unwrap_or_default().to_owned();
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_password() {
        for url in [
            "redis://user:secret@host:1/2",
            "redis://:sec@ret@host",
            "user:secret@host",
            "redis+unix:///run/redis?pass=secret",
        ] {
            assert!(!without_password(url).contains("sec"), "{url}");
        }
        assert_eq!(without_password("redis://a:b@host:1/2"), "redis://host:1/2");
    }

    #[test]
    fn other_brokers_are_refused_with_what_is_expected() {
        for url in ["amqp://guest@localhost", "localhost:6379", "http://x", ""] {
            let message = client(url).unwrap_err().to_string();
            assert!(message.contains("redis://"), "{message}");
        }
        assert!(client("rediss://:p@host:6380/1").is_ok());
        assert!(client("redis+unix:///run/redis.sock").is_ok());
    }

    #[test]
    fn names_that_would_break_keys_are_refused() {
        for name in ["", "a b", "a{b", "a}b", "a\n", &"x".repeat(101)] {
            assert!(check_name("queue", name).is_err(), "{name}");
        }
        check_name("queue", "default-1:ü").unwrap();
    }
}
