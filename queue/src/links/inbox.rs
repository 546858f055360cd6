//! What comes: the inbox of this process, read on a connection of its own, and emptied of what was read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

use super::frame::Frame;
use super::node::Node;
use crate::broker::{ANSWER_TIMEOUT, Backoff, Health, silent};

/// Entries that are read at a time.
const AT_A_TIME: usize = 64;
/// How long a read waits for entries.
const BLOCK: Duration = Duration::from_secs(2);

/// Reads as long as there is a queue.
pub(super) async fn read(node: Arc<Node>) {
    let gone = node.gone.clone();
    let health = Health::new("links".to_owned());
    let work = async {
        let mut backoff = Backoff::default();
        loop {
            if node.seen().await.is_err() {
                continue;
            }
            let error = match node.redis.connect().await {
                Ok(connection) => {
                    backoff = Backoff::default();
                    health.fine();
                    follow(&node, connection).await
                }
                Err(error) => error,
            };
            health.failed(&error);
            node.is_doubtful.store(true, Ordering::Release);
            node.look.notify_one();
            backoff.pause().await;
        }
    };
    let _: Option<()> = gone.run_until_cancelled(work).await;
}

/// Reads until the connection fails.
async fn follow(node: &Arc<Node>, mut connection: MultiplexedConnection) -> redis::RedisError {
    let inbox = node.inbox_of(node.process());
    loop {
        let (generation, last) = node.position();
        let mut pipe = redis::pipe();
        // The last one that was read stays, so that it is known where to go on.
        pipe.cmd("XTRIM").arg(&inbox).arg("MINID").arg(&last);
        pipe.cmd("XREAD")
            .arg("COUNT")
            .arg(AT_A_TIME)
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX))
            .arg("STREAMS")
            .arg(&inbox)
            .arg(&last);
        let answer = pipe.query_async::<(Value, Value)>(&mut connection);
        let answer = tokio::time::timeout(BLOCK + ANSWER_TIMEOUT, answer).await;
        match answer.unwrap_or_else(|_| Err(silent())).and_then(entries) {
            Ok(entries) => {
                let Some((last, _)) = entries.last() else {
                    continue;
                };
                node.advance(generation, last.clone());
                if generation != node.generation() {
                    continue;
                }
                for (_, bytes) in &entries {
                    node.meters.received.increment(bytes.len() as u64);
                    if let Some(frame) = Frame::decode(bytes) {
                        node.hear(frame);
                    }
                }
            }
            Err(error) => return error,
        }
    }
}

/// The ids and the bytes of what was read.
fn entries((_, answer): (Value, Value)) -> RedisResult<Vec<(String, Vec<u8>)>> {
    let strange = || io::Error::other("the answer to XREAD is none").into();
    let streams = match answer {
        Value::Nil => return Ok(Vec::new()),
        Value::Array(streams) => streams,
        _ => return Err(strange()),
    };
    let mut found = Vec::new();
    for stream in streams {
        let Value::Array(stream) = stream else {
            return Err(strange());
        };
        let Some(Value::Array(entries)) = stream.into_iter().nth(1) else {
            return Err(strange());
        };
        for entry in entries {
            let Value::Array(entry) = entry else {
                return Err(strange());
            };
            let mut entry = entry.into_iter();
            let (id, fields) = (entry.next(), entry.next());
            let (Some(Value::BulkString(id)), Some(Value::Array(fields))) = (id, fields) else {
                return Err(strange());
            };
            // An entry of somebody else says nothing.
            let bytes = match fields.into_iter().nth(1) {
                Some(Value::BulkString(bytes)) => bytes,
                _ => Vec::new(),
            };
            found.push((String::from_utf8_lossy(&id).into_owned(), bytes));
        }
    }
    Ok(found)
}
