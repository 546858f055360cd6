//! Functions of the program that runs a pipeline, as nodes: it holds the other end of a socket, and speaks with
//! the engine as a host would.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, fcntl};
use runner_core::plugin::NodeDescription;
use runner_flow::{Hosts, Nodes, Opening};
use runner_host::protocol::{Carried, NodeOpened, NodeRequest};
use runner_pipeline::graph::NodeSpec;
use runner_pipeline::surroundings::NewFile;
use runner_pipeline::types::ItemType;
use runner_pipeline::{Call, Catalog, Foreign, Surroundings};
use serde_json::Value;

use crate::nodes::Files;

/// The number of the host that the calling program is; others are numbered from 1 on.
const HOST: u64 = 0;

/// The program that runs a pipeline, and its functions.
#[derive(Debug)]
pub(crate) struct Caller {
    nodes: BTreeMap<String, NodeDescription>,
    /// Until it is opened.
    socket: Mutex<Option<UnixStream>>,
}

impl Caller {
    /// Takes over the socket that an argument names: `{"fd": 5, "nodes": {"python:f": {"source": false}}}`.
    pub(crate) fn new(text: &str) -> anyhow::Result<Self> {
        let told: Value = serde_json::from_str(text).context("--caller is no JSON")?;
        let number = told["fd"].as_i64().and_then(|fd| i32::try_from(fd).ok());
        let number = number
            .filter(|fd| *fd > 2)
            .context("--caller: `fd` is missing")?;
        // SAFETY: it is only asked whether it is open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if fcntl(descriptor, FcntlArg::F_GETFD).is_err() {
            bail!("--caller: descriptor {number} is not open");
        }
        // SAFETY: the program that started this one opened the descriptor for it alone, and says so once;
        // nothing else in here knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self {
            nodes: serde_json::from_value(told["nodes"].clone())
                .context("--caller: `nodes` are not as expected")?,
            socket: Mutex::new(Some(UnixStream::from(socket))),
        })
    }

    /// Whether a node is one of its functions.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    fn open(&self, request: &NodeRequest) -> Result<(NodeOpened, Option<UnixStream>), String> {
        if request.lost.is_some() {
            return Err("the program that runs the pipeline is gone".to_owned());
        }
        if request.host.is_some() {
            // It reads and writes where it likes.
            let paths = request.give.iter().chain(&request.take);
            let opened = NodeOpened {
                carried: paths.map(|path| where_it_is(path)).collect(),
                ..NodeOpened::default()
            };
            return Ok((opened, None));
        }
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = socket.take();
        let opened = NodeOpened {
            host: Some(HOST),
            is_new: socket.is_some(),
            plugin: request.plugin.clone(),
            with: request.with.clone(),
            source: self
                .nodes
                .get(&request.plugin)
                .is_some_and(|node| node.source),
            ..NodeOpened::default()
        };
        Ok((opened, socket))
    }
}

/// A file that stays where it is.
fn where_it_is(path: &str) -> Carried {
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    Carried {
        path: path.to_owned(),
        size,
        url: url::Url::from_file_path(path).ok().map(String::from),
    }
}

/// What there is beside built-ins: functions of the caller, and others.
pub(crate) struct Known<'a> {
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) others: &'a dyn Catalog,
}

impl Catalog for Known<'_> {
    fn find(&self, node: &NodeSpec) -> Result<Option<Foreign>, String> {
        let own = self.caller.and_then(|caller| caller.nodes.get(&node.uses));
        match own {
            Some(own) => Ok(Some(Foreign {
                takes: ItemType::of_schema(&own.takes),
                gives: ItemType::of_schema(&own.gives),
            })),
            None => self.others.find(node),
        }
    }
}

/// Opens functions of the caller, and plugins in hosts if there are others.
pub(crate) struct KnownHosts<H> {
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) others: Option<H>,
}

impl<H: Hosts> Hosts for KnownHosts<H> {
    fn open(&self, request: NodeRequest) -> Opening<'_> {
        let is_own = request.lost == Some(HOST)
            || request.host == Some(HOST)
            || self
                .caller
                .as_ref()
                .is_some_and(|caller| caller.has(&request.plugin));
        match (&self.caller, &self.others) {
            (Some(caller), _) if is_own => Box::pin(async move { caller.open(&request) }),
            (_, Some(others)) => others.open(request),
            _ => Box::pin(async move { Err(format!("there is no plugin {:?}", request.plugin)) }),
        }
    }
}

/// Files of this machine, and functions of the caller.
pub(crate) struct CallerNodes(pub(crate) Nodes);

impl Surroundings for CallerNodes {
    fn open(&self, path: &str) -> io::Result<Box<dyn io::Read + Send>> {
        Files.open(path)
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        Files.create(path)
    }

    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String> {
        match self.0.get(&node.name) {
            Some(hosted) => Ok(hosted),
            None => Files.node(node),
        }
    }
}
