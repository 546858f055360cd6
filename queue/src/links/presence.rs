//! Signs of life: this process gives its own, looks for those of the processes that it has links with, and notices when
//! Redis has lost what it had.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisResult;
use tokio::time::MissedTickBehavior;

use super::node::Node;
use crate::broker::{Backoff, millis, random};

/// How often a process gives a sign of life.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// How long one counts.
pub(super) const LEASE: Duration = Duration::from_secs(6);
/// How often one is missed before a process counts as gone: after a Redis that was away, others need a moment.
const MISSES: u32 = 2;
/// How long Redis keeps what belongs to a process that is gone, or cannot be heard.
const KEPT: Duration = Duration::from_secs(300);

/// What is known of this process's own life.
struct Life {
    epoch: u64,
    /// Which start of Redis it was begun at.
    start: String,
}

/// Gives signs of life as long as there is a queue.
pub(super) async fn keep(node: Arc<Node>) {
    let gone = node.gone.clone();
    let work = async {
        let mut life: Option<Life> = None;
        let mut missed = HashMap::new();
        let mut backoff = Backoff::default();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beats.tick() => {}
                () = node.look.notified() => {}
            }
            let outcome = match &life {
                None => begin(&node).await.map(Some),
                Some(living) => match beat(&node, living, &mut missed).await {
                    Ok(true) => continue,
                    Ok(false) => {
                        node.renew("Redis has lost what it had");
                        begin(&node).await.map(Some)
                    }
                    Err(error) => Err(error),
                },
            };
            match outcome {
                Ok(begun) => {
                    life = begun;
                    missed.clear();
                    backoff = Backoff::default();
                }
                Err(_) => {
                    if node.epoch().is_none() {
                        life = None;
                    }
                    node.is_doubtful.store(true, Ordering::Release);
                    backoff.pause().await;
                }
            }
        }
    };
    let _: Option<()> = gone.run_until_cancelled(work).await;
}

/// Makes the inbox, and lets the others see this process.
async fn begin(node: &Node) -> RedisResult<Life> {
    let epoch = random();
    let own = node.process();
    let inbox = node.inbox_of(own);
    let start = start_of(node).await?;
    let mut pipe = redis::pipe();
    pipe.cmd("DEL").arg(&inbox).ignore();
    pipe.cmd("XADD")
        .arg(&inbox)
        .arg("*")
        .arg("f")
        .arg("")
        .ignore();
    pipe.cmd("PEXPIRE").arg(&inbox).arg(millis(KEPT)).ignore();
    alive(&mut pipe, node, epoch);
    node.redis.pipe::<()>(&pipe).await?;
    node.is_doubtful.store(false, Ordering::Release);
    node.appear(epoch);
    Ok(Life { epoch, start })
}

/// A sign of life. Whether Redis still has what it had.
async fn beat(node: &Node, life: &Life, missed: &mut HashMap<Arc<str>, u32>) -> RedisResult<bool> {
    let is_doubtful = node.is_doubtful.swap(false, Ordering::AcqRel);
    if is_doubtful && start_of(node).await? != life.start {
        return Ok(false);
    }
    let own = node.process();
    let peers: Vec<(Arc<str>, u64)> = node.peers().into_iter().collect();
    let mut pipe = redis::pipe();
    pipe.cmd("GET").arg(mark(node, own));
    pipe.cmd("PEXPIRE")
        .arg(node.inbox_of(own))
        .arg(millis(KEPT));
    alive(&mut pipe, node, life.epoch);
    for (peer, _) in &peers {
        pipe.cmd("GET").arg(node.linked(peer));
    }
    let answers = node.redis.pipe::<Vec<Option<u64>>>(&pipe).await?;
    let [known, has_inbox, epochs @ ..] = answers.as_slice() else {
        return Ok(false);
    };
    if *known != Some(life.epoch) || *has_inbox != Some(1) {
        return Ok(false);
    }
    missed.retain(|peer, _| peers.iter().any(|(one, _)| one == peer));
    for ((peer, epoch), found) in peers.iter().zip(epochs) {
        match found {
            Some(found) if found == epoch => {
                missed.remove(peer);
            }
            Some(_) => node.reset(peer, "the process at the other end began anew"),
            None => {
                let times = missed.entry(Arc::clone(peer)).or_default();
                *times += 1;
                if *times >= MISSES {
                    node.reset(peer, "the process at the other end gives no sign of life");
                }
            }
        }
    }
    Ok(true)
}

fn alive(pipe: &mut redis::Pipeline, node: &Node, epoch: u64) {
    let own = node.process();
    for (key, lives) in [(node.linked(own), LEASE), (mark(node, own), KEPT)] {
        pipe.cmd("SET")
            .arg(key)
            .arg(epoch)
            .arg("PX")
            .arg(millis(lives))
            .ignore();
    }
}

fn mark(node: &Node, process: &str) -> String {
    node.redis.key(&format!("mark:{process}"))
}

/// Which start of Redis this is.
async fn start_of(node: &Node) -> RedisResult<String> {
    let mut command = redis::cmd("INFO");
    command.arg("server");
    let text: String = node.redis.command(&command).await?;
    Ok(crate::broker::info(&text, "run_id")
        .unwrap_or_default()
        .to_owned())
}
