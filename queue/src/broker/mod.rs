//! Stub.
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::hints::Hints;
use crate::open::Open;
use crate::{Consumer, Depth, Offer, QueueError, Taken};

/// Where a Redis is, and what this process is called there.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/database]`, `rediss://…` or `redis+unix:///path`.
    pub url: String,
    /// Name of the queue; several in one Redis do not see each other.
    pub name: String,
    /// Of this process, different from that of all others that use the queue.
    pub process: String,
}
#[derive(Debug)]
pub(crate) struct Broker;
impl Broker {
    pub(crate) async fn connect(
        config: &RedisConfig,
    ) -> Result<(Arc<Self>, Arc<Hints>), QueueError> {
        Err(QueueError::Url {
            url: config.url.clone(),
            reason: "not built yet".to_owned(),
        })
    }
    pub(crate) fn push_all(&self, _offers: impl IntoIterator<Item = Offer>) {}
    pub(crate) async fn flushed(&self) {}
    pub(crate) fn close(&self) {}
    pub(crate) async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(Depth::default())
    }
    pub(crate) async fn incarnation(&self) -> Result<String, QueueError> {
        Ok(String::new())
    }
    pub(crate) fn read(_broker: &Arc<Self>, _consumer: &Consumer, _open: &Arc<Open>) -> Reader {
        Reader
    }
}
pub(crate) struct Reader;
impl Reader {
    pub(crate) fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Taken>> {
        Poll::Ready(None)
    }
    pub(crate) fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
#[derive(Debug)]
pub(crate) struct Ticket;
impl Ticket {
    pub(crate) fn done(self) {}
    pub(crate) fn hand_back(self) {}
    pub(crate) fn hand_back_later(self, _after: Duration) {}
    pub(crate) fn dropped(self) {}
    pub(crate) async fn enter(&mut self, _group: &str, _max: u32) -> bool {
        false
    }
}
