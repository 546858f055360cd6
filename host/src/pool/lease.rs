//! A host that works for one caller.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Counted, Pool};
use crate::HostError;
use crate::host::{Host, RunEnd, RunHandler};
use crate::nodes::Opened;
use crate::protocol::{CallRequest, NodeRequest, RunEvent, RunRequest};
use crate::run_folder::RunFolder;

/// A host's sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Which host.
    pub pid: i32,
    /// From the question to the answer; without the start of a host.
    pub round_trip: Duration,
}

/// The place of a host among those of its module, unless it was given away.
type Seat = Arc<tokio::sync::Mutex<Option<OwnedSemaphorePermit>>>;

/// A host that works for one caller. When it is dropped the host goes back to its pool, if it is still of
/// use; until then nothing else runs on it.
#[derive(Debug)]
pub struct Lease {
    /// Empty only while it is being dropped.
    host: Option<Host>,
    pool: Arc<Pool>,
    /// The place of the host among those of its module; given to others while its run only waits.
    place: Seat,
    /// Dropped after all else.
    _counted: Counted,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.usage.touch();
        if let Some(host) = self.host.take() {
            self.pool.take_back(host);
        }
    }
}

impl Lease {
    pub(super) fn new(host: Host, counted: Counted, place: OwnedSemaphorePermit) -> Self {
        Self {
            host: Some(host),
            pool: Arc::clone(&counted.0),
            place: Arc::new(tokio::sync::Mutex::new(Some(place))),
            _counted: counted,
        }
    }

    /// The name that the module gives itself.
    pub(crate) fn module_name(&self) -> Option<String> {
        self.host.as_ref()?.module_name.clone()
    }

    /// Asks what the module offers.
    pub(crate) async fn describe(mut self) -> Result<Value, HostError> {
        let patience = self.pool.config.patience;
        self.host()?.describe(patience).await
    }

    /// Asks the host for a sign of life.
    pub(crate) async fn ping(&mut self) -> Result<Ping, HostError> {
        let patience = self.pool.config.patience;
        let host = self.host()?;
        let begin = Instant::now();
        host.ping(patience).await?;
        Ok(Ping {
            pid: host.pid(),
            round_trip: begin.elapsed(),
        })
    }

    fn host(&mut self) -> Result<&mut Host, HostError> {
        let gone = || HostError::Lost("the host was given back".to_owned());
        self.host.as_mut().ok_or_else(gone)
    }

    /// Whether a run on it can be lost for no fault of its own: the host had worked before, and ended
    /// without a word about this run. The run may be done on another host.
    pub fn ended_idle(&self) -> bool {
        self.host
            .as_ref()
            .is_some_and(|host| host.runs > 1 && !host.has_spoken)
    }

    /// Makes the folders of a run.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn folder(&mut self) -> Result<RunFolder, HostError> {
        self.host()?.run_folder()
    }

    /// Runs a task within `limit`.
    pub async fn run(
        &mut self,
        request: &RunRequest,
        limit: Duration,
        handler: &dyn RunHandler,
        cancel: &CancellationToken,
    ) -> RunEnd {
        let patience = self.pool.config.patience;
        let yielding = Yielding {
            handler,
            place: Arc::clone(&self.place),
            pool: Arc::clone(&self.pool),
        };
        let begin = Instant::now();
        let end = match self.host() {
            Ok(host) => host.run(request, limit, patience, &yielding, cancel).await,
            Err(error) => RunEnd::Lost(error),
        };
        self.pool.usage.ran(&end, begin.elapsed());
        match &end {
            RunEnd::Lost(HostError::Lost(why)) if !self.ended_idle() => {
                self.pool.crashes.count(self.pool.name(), why);
            }
            RunEnd::Finished(_) | RunEnd::Failed(_) => self.pool.crashes.forget(),
            _ => {}
        }
        end
    }
}

/// Gives the place of a host to others of its module while its run waits for a plugin that it called: that
/// may be the same one.
struct Yielding<'a> {
    handler: &'a dyn RunHandler,
    place: Seat,
    pool: Arc<Pool>,
}

impl RunHandler for Yielding<'_> {
    fn event(&self, event: RunEvent) {
        self.handler.event(event);
    }

    fn fetch(&self, url: String) -> BoxFuture<'static, Result<Value, String>> {
        self.handler.fetch(url)
    }

    fn node(&self, request: NodeRequest) -> BoxFuture<'static, Result<Opened, String>> {
        self.handler.node(request)
    }

    fn call(&self, call: CallRequest) -> BoxFuture<'static, Result<Value, String>> {
        let is_plugin = matches!(call, CallRequest::Plugin(_));
        let answer = self.handler.call(call);
        if !is_plugin {
            return answer;
        }
        let (place, permits) = (Arc::clone(&self.place), Arc::clone(&self.pool.permits));
        Box::pin(async move {
            drop(place.lock().await.take());
            let answer = answer.await;
            // Of several calls that end, the first one waits for a place for all of them.
            let mut place = place.lock().await;
            if place.is_none() {
                // A closed pool has no places to wait for.
                *place = permits.acquire_owned().await.ok();
            }
            drop(place);
            answer
        })
    }
}
