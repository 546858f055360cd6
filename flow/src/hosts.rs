//! Hosts of nodes, by way of the runner: it starts them, and hands over their sockets.

use std::sync::Arc;

use runner_host::hosted::{Calls, Sockets};
use runner_host::protocol::{NodeOpened, NodeRequest};
use runner_sdk::HostCalls;
use serde_json::{Value, json};

use crate::nodes::{Hosts, Opening};

/// Asks the runner over the protocol.
pub(crate) struct ByRunner {
    pub(crate) calls: Arc<Calls>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) task: Value,
}

impl Hosts for ByRunner {
    fn open(&self, request: NodeRequest) -> Opening<'_> {
        let (calls, sockets) = (Arc::clone(&self.calls), Arc::clone(&self.sockets));
        let mut params = json!(request);
        params["task"] = self.task.clone();
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || {
                let answer = calls.request("node", params);
                let answer = answer.map_err(|failure| failure.message)?;
                let opened: NodeOpened =
                    serde_json::from_value(answer).map_err(|error| error.to_string())?;
                let socket = match opened.host {
                    Some(host) if opened.is_new => {
                        Some(sockets.take(host).map_err(|e| e.to_string())?)
                    }
                    _ => None,
                };
                Ok((opened, socket))
            });
            asked.await.map_err(|error| error.to_string())?
        })
    }
}
