//! Which process has what: ids of things that live in one process, and what processes offer to take.

use std::sync::{Arc, LazyLock};

use redis::Script;

use super::node::Node;
use super::presence::LEASE;
use crate::QueueError;
use crate::broker::millis;

/// What stands for what was ended.
const TOMB: &str = "-";

/// Holds what a process has; says what another has by now.
static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/hold.lua")));
/// Gives up what a process has, if it is still its own.
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/release.lua")));

/// Where things of one kind are. Clones share it.
#[derive(Debug, Clone)]
pub struct Places {
    node: Arc<Node>,
    kind: &'static str,
}

/// A process that takes things of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub process: String,
    /// What it says that it offers.
    pub offer: String,
}

/// What a process has to say of its things.
#[derive(Debug, Default)]
pub struct Holding<'a> {
    /// What it has.
    pub held: &'a [String],
    /// What it had, and is not to be looked for here any more.
    pub gone: &'a [String],
    /// What was ended, and is not to begin again for a while.
    pub ended: &'a [String],
    /// For how long, in seconds.
    pub tomb_seconds: u64,
    /// What it offers.
    pub offer: &'a str,
}

impl Places {
    pub(crate) fn new(node: Arc<Node>, kind: &'static str) -> Self {
        Self { node, kind }
    }

    fn key(&self, id: &str) -> String {
        self.node.redis.key(&format!("place:{}:{id}", self.kind))
    }

    fn hosts_key(&self) -> String {
        self.node.redis.key(&format!("hosts:{}", self.kind))
    }

    /// The processes that take such things and give signs of life, in no order.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn hosts(&self) -> Result<Vec<Host>, QueueError> {
        let redis = &self.node.redis;
        let mut command = redis::cmd("HGETALL");
        command.arg(self.hosts_key());
        let all: Vec<(String, String)> = redis
            .command(&command)
            .await
            .map_err(|source| redis.error("look for hosts in", source))?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for (process, _) in &all {
            pipe.cmd("EXISTS").arg(self.node.linked(process));
        }
        let alive: Vec<bool> = redis
            .pipe(&pipe)
            .await
            .map_err(|source| redis.error("look for hosts in", source))?;
        let mut hosts = Vec::new();
        let mut missing = Vec::new();
        for ((process, offer), is_alive) in all.into_iter().zip(alive) {
            match is_alive {
                true => hosts.push(Host { process, offer }),
                false => missing.push(process),
            }
        }
        if !missing.is_empty() {
            let mut command = redis::cmd("HDEL");
            command.arg(self.hosts_key()).arg(missing);
            // One that only was away says it again.
            let _ = redis.command::<i64>(&command).await;
        }
        Ok(hosts)
    }

    /// Which process has it: `None` if none has, `Some(None)` if it was ended.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn find(&self, id: &str) -> Result<Option<Option<String>>, QueueError> {
        let redis = &self.node.redis;
        let mut command = redis::cmd("GET");
        command.arg(self.key(id));
        let found: Option<String> = redis
            .command(&command)
            .await
            .map_err(|source| redis.error("look for a place in", source))?;
        Ok(found.map(|process| (process != TOMB).then_some(process)))
    }

    /// Claims it for a process, unless another has it: who has it from now on. `None` if it was ended. A claim that the
    /// process does not make good ends after a lease.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn claim(&self, id: &str, process: &str) -> Result<Option<String>, QueueError> {
        let redis = &self.node.redis;
        let key = self.key(id);
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(&key)
            .arg(process)
            .arg("PX")
            .arg(millis(LEASE))
            .arg("NX")
            .ignore();
        pipe.cmd("GET").arg(&key);
        let (found,): (Option<String>,) = redis
            .pipe(&pipe)
            .await
            .map_err(|source| redis.error("claim a place in", source))?;
        // It cannot have ended within one message.
        let found = found.unwrap_or_else(|| process.to_owned());
        Ok((found != TOMB).then_some(found))
    }

    /// Takes back what was claimed for a process.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn release(&self, id: &str, process: &str) -> Result<(), QueueError> {
        let redis = &self.node.redis;
        let mut call = RELEASE.key(self.key(id));
        call.arg(process);
        redis
            .script::<i64>(&call)
            .await
            .map(drop)
            .map_err(|source| redis.error("release a place in", source))
    }

    /// Says what this process has and offers; to be said again before a lease has ended. Answers what another process has
    /// of it by now.
    ///
    /// # Errors
    /// Redis did not answer, or this process is not seen by others.
    pub async fn hold(&self, holding: &Holding<'_>) -> Result<Vec<String>, QueueError> {
        let redis = &self.node.redis;
        let own = self.node.process();
        let mut call = HOLD.key(self.node.redis.key(&format!("place:{}:", self.kind)));
        call.key(self.hosts_key())
            .arg(own)
            .arg(millis(LEASE))
            .arg(holding.tomb_seconds)
            .arg(holding.offer);
        for ids in [holding.held, holding.gone, holding.ended] {
            call.arg(ids.len());
            for id in ids {
                call.arg(id);
            }
        }
        redis
            .script(&call)
            .await
            .map_err(|source| redis.error("hold places in", source))
    }

    /// Takes back what this process offers.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn withdraw(&self) -> Result<(), QueueError> {
        let redis = &self.node.redis;
        let mut command = redis::cmd("HDEL");
        command.arg(self.hosts_key()).arg(self.node.process());
        redis
            .command::<i64>(&command)
            .await
            .map(drop)
            .map_err(|source| redis.error("withdraw an offer from", source))
    }
}
