//! Who hears a run.

use futures::future::BoxFuture;
use serde_json::Value;

use crate::nodes::Opened;
use crate::protocol::{CallRequest, NodeRequest, RunEvent};

/// Hears what a run tells.
pub trait RunHandler: Send + Sync {
    /// Something happened. Called in order; must not block.
    fn event(&self, event: RunEvent);

    /// The run asks for a URL. The answer is what `fetch` answers in the protocol, or why not.
    fn fetch(&self, url: String) -> BoxFuture<'static, Result<Value, String>>;

    /// The run calls another plugin, and waits for it. The answer is what `call` answers in the protocol,
    /// or why not.
    fn call(&self, _: CallRequest) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async { Err("other plugins cannot be called here".to_owned()) })
    }

    /// The run is one of a pipeline, and needs a host for a node.
    fn node(&self, _: NodeRequest) -> BoxFuture<'static, Result<Opened, String>> {
        Box::pin(async { Err("there are no hosts for nodes here".to_owned()) })
    }
}

/// Hears a host that runs no task: its log is the runner's.
pub(super) struct Silent(pub(super) String);

impl RunHandler for Silent {
    fn event(&self, event: RunEvent) {
        if let RunEvent::Log(text) = event {
            tracing::info!(module = self.0, "{text}");
        }
    }

    fn fetch(&self, _: String) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async { Err("URLs are fetched during runs only".to_owned()) })
    }
}
