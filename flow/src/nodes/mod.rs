//! Plugins as nodes in hosts of their own: their items go over a socket, many at a time, and come back
//! each with what became of it.
//!
//! A host that ends takes nothing with it but the item that ended it: the others that were on their
//! way are sent to the next host, one by one.

mod files;
mod line;
mod node;

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;

use runner_host::protocol::{NodeOpened, NodeRequest};
use runner_pipeline::expression::{Params, Template};
use runner_pipeline::graph::NodeSpec;
use runner_pipeline::{Call, Graph, is_builtin};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

pub(crate) use files::path_of;
use line::Line;
use node::HostedNode;

/// The answer of [`Hosts::open`], in time: what was opened, and the socket of a host that is new.
pub type Opening<'a> =
    Pin<Box<dyn Future<Output = Result<(NodeOpened, Option<UnixStream>), String>> + Send + 'a>>;

/// Starts the hosts of nodes.
pub trait Hosts: Send + Sync + 'static {
    /// Finds or starts the host in which a plugin is a node, or exchanges files with one that was opened.
    fn open(&self, request: NodeRequest) -> Opening<'_>;
}

/// The nodes of a run that work in hosts. The hosts are let go when it is dropped.
pub struct Nodes(HashMap<String, Arc<HostedNode>>);

impl Nodes {
    /// Opens all plugins of a graph that can be nodes in a host; others are not in it. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// Which node cannot be used, and why.
    pub async fn open(
        hosts: Arc<dyn Hosts>,
        graph: &Graph,
        params: &Map<String, Value>,
    ) -> Result<Self, String> {
        let opener = Arc::new(Opener {
            hosts,
            lines: Mutex::default(),
        });
        let params = Params::new(params);
        let mut nodes = HashMap::new();
        let foreign = graph.nodes().iter().filter(|node| !is_builtin(&node.uses));
        for (number, spec) in (1..).zip(foreign) {
            let node = open(&opener, number, spec, &params).await;
            let node = node.map_err(|reason| format!("{}: {reason}", spec.place()))?;
            nodes.extend(node.map(|node| (spec.name.clone(), Arc::new(node))));
        }
        Ok(Self(nodes))
    }

    /// The node of this name, if it works in a host.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Call>> {
        let node = self.0.get(name)?;
        Some(Arc::clone(node) as Arc<dyn Call>)
    }
}

async fn open(
    opener: &Arc<Opener>,
    number: u64,
    spec: &NodeSpec,
    params: &Params,
) -> Result<Option<HostedNode>, String> {
    let template = Template::new(&spec.with)?;
    let with = match template.is_constant() {
        false => None,
        true => match template.value(&mut Value::Null, params)? {
            Value::Object(with) => Some(with),
            Value::Null => Some(Map::new()),
            _ => return Err("`with` of a plugin is an object of its parameters".to_owned()),
        },
    };
    let request = NodeRequest {
        plugin: spec.uses.clone(),
        with: with.clone(),
        ..NodeRequest::default()
    };
    let (opened, line) = opener.open(request).await?;
    let Some(line) = line else {
        return Ok(None);
    };
    let node = HostedNode {
        number,
        name: spec.name.clone(),
        opener: Arc::clone(opener),
        plugin: opened.plugin.clone(),
        with,
        concurrency: spec.policy.concurrency,
        opened,
        line: Mutex::default(),
        lost: 0.into(),
    };
    let directory = node.opened.directory.clone();
    node.set_up(&line, directory).await?;
    *node.line.lock().await = Some(line);
    Ok(Some(node))
}

/// Opens hosts, each once.
struct Opener {
    hosts: Arc<dyn Hosts>,
    /// By the number of the host.
    lines: Mutex<HashMap<u64, Arc<Line>>>,
}

impl Opener {
    /// Asks for a host, and gives the line to it; none if the plugin is to be called.
    async fn open(&self, request: NodeRequest) -> Result<(NodeOpened, Option<Arc<Line>>), String> {
        let mut lines = self.lines.lock().await;
        let (opened, socket) = self.hosts.open(request).await?;
        let Some(host) = opened.host else {
            return Ok((opened, None));
        };
        let line = match socket {
            Some(socket) => {
                let line = Line::new(host, socket);
                let line = line.map_err(|error| format!("cannot use its socket: {error}"))?;
                lines.retain(|_, line| !line.is_lost());
                lines.insert(host, Arc::clone(&line));
                line
            }
            None => {
                let known = lines.get(&host).cloned();
                known.ok_or_else(|| format!("the socket of host {host} did not come"))?
            }
        };
        Ok((opened, Some(line)))
    }

    /// How a host ended that was lost.
    async fn how(&self, host: u64) -> Option<String> {
        let request = NodeRequest {
            lost: Some(host),
            ..NodeRequest::default()
        };
        let (ended, _) = self.hosts.open(request).await.ok()?;
        ended.lost
    }
}
