//! What is no usable Redis is refused at once, with what to do.

use std::time::Duration;

use runner_queue::{Queue, QueueError, RedisConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::server::{Redis, SHARED};
use crate::support::*;

async fn refused(url: &str) -> QueueError {
    let config = RedisConfig {
        url: url.to_owned(),
        name: unique("queue"),
        process: unique("process"),
    };
    Queue::connect(&config).await.unwrap_err()
}

/// A server that answers everything with this.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let commands = buffer.iter().filter(|byte| **byte == b'*').count();
                    buffer.fill(0);
                    let answers = answer.repeat(commands);
                    if stream.write_all(answers.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("redis://user:secret@{address}")
}

#[tokio::test]
async fn other_brokers_and_nonsense_are_refused_by_their_address() {
    for url in ["amqp://guest:secret@localhost//", "localhost", "sqs://", ""] {
        let error = refused(url).await;
        assert!(matches!(error, QueueError::Url { .. }), "{error}");
        assert!(error.to_string().contains("redis://"));
        assert!(!error.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn names_that_would_break_keys_are_refused() {
    let config = RedisConfig {
        url: "redis://localhost".to_owned(),
        name: "a}b".to_owned(),
        process: "p".to_owned(),
    };
    let error = Queue::connect(&config).await.unwrap_err();
    assert!(matches!(error, QueueError::Name { what: "queue", .. }));
}

#[tokio::test]
async fn who_does_not_answer_is_refused_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = soon(refused(&format!("redis://:secret@{address}"))).await;
    assert!(matches!(error, QueueError::Connect { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains(&address.to_string()) && !message.contains("secret"));
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_refused() {
    let url = answering("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = soon(refused(&url)).await;
    let is_expected = matches!(
        error,
        QueueError::Connect { .. } | QueueError::Password { .. }
    );
    assert!(is_expected, "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn a_server_that_stays_silent_is_refused_after_a_while() {
    let url = answering("").await;
    let error = tokio::time::timeout(Duration::from_secs(15), refused(&url));
    assert!(matches!(error.await.unwrap(), QueueError::Connect { .. }));
}

#[tokio::test]
async fn an_old_redis_is_refused_with_its_version() {
    let url = answering("$21\r\nredis_version:6.0.16\n\r\n")
        .await
        .replace("user:secret@", "");
    let error = soon(refused(&url)).await;
    let QueueError::Version { found, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(found, "6.0.16");
}

#[tokio::test]
async fn a_missing_and_a_wrong_password_are_told_apart_from_other_failures() {
    let redis = Redis::start(&["--requirepass", "right"]);
    for query in ["", "?pass=wrong"] {
        let error = soon(refused(&format!("{}{query}", redis.url()))).await;
        assert!(matches!(error, QueueError::Password { .. }), "{error}");
        assert!(!error.to_string().contains("pass=wrong"));
    }
    let place = Place::Redis(format!("{}?pass=right", redis.url()), unique("queue"));
    let queue = place.queue().await;
    queue.push(offer(1));
    assert_eq!(next_done(&mut jobs(&queue, 1)).await, 1);
}

#[tokio::test]
async fn who_is_at_another_redis_is_missed_and_who_is_here_is_not() {
    let elsewhere = Redis::start(&[]);
    let shown = Duration::from_millis(400);
    let at = async |url: String, process: &str| {
        let config = RedisConfig {
            url,
            name: "meeting".to_owned(),
            process: process.to_owned(),
        };
        Queue::connect(&config).await.unwrap()
    };
    let first = at(SHARED.url(), "first").await;
    let second = at(SHARED.url(), "second").await;
    let third = at(elsewhere.url(), "third").await;
    let all = ["first", "second", "third"].map(str::to_owned);
    third.missing(&[], shown).await.unwrap();
    second.missing(&[], shown).await.unwrap();
    assert_eq!(first.missing(&all[1..], shown).await.unwrap(), ["third"]);
    assert_eq!(
        third.missing(&all[..2], shown).await.unwrap(),
        ["first", "second"]
    );
    // Who is not heard of any more is missed, too.
    tokio::time::sleep(2 * shown).await;
    assert_eq!(
        first.missing(&all[1..], shown).await.unwrap(),
        ["second", "third"]
    );
    first.check().await.unwrap();
    let alone = Queue::in_process();
    alone.check().await.unwrap();
    assert!(alone.missing(&all, shown).await.unwrap().is_empty());
}
