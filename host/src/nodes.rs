//! Node hosts: hosts of modules whose plugins are nodes of a pipeline that runs.
//!
//! A pipeline has at most one for each module. It is started like any host, and beyond that inherits
//! a connected socket on which it takes items; the pipeline has the other end, and so nothing stands
//! between them. It ends with the pipeline's run, and when its socket is closed.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::HostError;
use crate::carried::{Carrier, OwnFiles};
use crate::host::{Host, RunHandler, Welcome};
use crate::launcher::{line_pair, pass};
use crate::modules::{Module, Provided};
use crate::pool::{Counted, Pool};
use crate::protocol::{NodeOpened, NodeRequest, RunEvent};
use crate::run_folder::{RunFiles, RunFolder};

/// Node hosts of one run that may live at once.
pub const MAX_NODE_HOSTS: usize = 64;
/// How long a host that was lost may take to show how it ended, before it is killed.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// The number of the socket, or of the line of descriptors, in a host.
const FIRST: i32 = 3;

/// The answer to `node`, and the pipeline's end of the socket if the host is new.
#[derive(Debug)]
pub struct Opened {
    /// What the pipeline is told.
    pub answer: NodeOpened,
    /// For a host that was not named before.
    pub socket: Option<OwnedFd>,
}

/// Hears what node hosts write to their standard error, an entry of the log each.
pub type NodeLog = Arc<dyn Fn(String) + Send + Sync>;

/// The node hosts of one run. They end when it is dropped.
pub struct NodeHosts {
    log: NodeLog,
    state: Mutex<State>,
    carrier: Arc<Carrier>,
    /// Cancelled when the run is over.
    over: CancellationToken,
}

#[derive(Default)]
struct State {
    last: u64,
    hosts: Vec<NodeHost>,
    /// How those that are gone have ended.
    ended: HashMap<u64, String>,
}

struct NodeHost {
    number: u64,
    module: Arc<Module>,
    files: RunFiles,
    /// Cancelled when it is to end at once.
    kill: CancellationToken,
    /// Cancelled when it has ended.
    gone: CancellationToken,
    /// How it ended, if that was its own doing.
    why: Arc<OnceLock<String>>,
}

impl Drop for NodeHosts {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl NodeHosts {
    /// None yet. `most_files`: bytes of files that nodes may make in all.
    pub fn new(log: NodeLog, most_files: u64) -> Self {
        Self {
            log,
            state: Mutex::default(),
            carrier: Arc::new(Carrier::new(most_files)),
            over: CancellationToken::new(),
        }
    }

    /// Ends a host that is of no more use. Answers how it ended, if that was its own doing.
    pub async fn lost(&self, host: u64) -> Opened {
        let mut state = self.state.lock().await;
        let answer = NodeOpened {
            lost: state.end(host).await,
            ..NodeOpened::default()
        };
        Opened {
            answer,
            socket: None,
        }
    }

    /// Carries files between the pipeline and a host.
    ///
    /// # Errors
    /// The host has ended, or it is no file of whoever is said to have it.
    pub async fn carry(&self, request: NodeRequest, own: OwnFiles) -> Result<Opened, String> {
        let number = request.host.unwrap_or_default();
        let theirs = {
            let state = self.state.lock().await;
            let mut hosts = state.hosts.iter();
            let found = hosts.find(|host| host.number == number);
            found.map(|host| host.files.clone())
        };
        let theirs = theirs.ok_or("the host has ended")?;
        let carrier = Arc::clone(&self.carrier);
        let carrying =
            tokio::task::spawn_blocking(move || carrier.carry(&request, &own, &theirs)).await;
        let carried = carrying.map_err(|error| error.to_string())?;
        let answer = NodeOpened {
            carried: carried.map_err(|error| error.to_string())?,
            ..NodeOpened::default()
        };
        Ok(Opened {
            answer,
            socket: None,
        })
    }

    /// Finds or starts the host in which a plugin is a node. Where the plugin has no such side, there
    /// is none.
    ///
    /// # Errors
    /// The parameters do not fit, or the host cannot be started.
    pub async fn open(&self, provided: &Provided, request: NodeRequest) -> Result<Opened, String> {
        let plugin = &provided.plugin;
        let mut answer = NodeOpened {
            host: None,
            is_new: false,
            plugin: plugin.identifier.clone(),
            with: request.with,
            source: plugin.node.as_ref().is_some_and(|node| node.source),
            digest: provided.module.digest(),
            repeatable: provided.module.run_rules().repeatable,
            ..NodeOpened::default()
        };
        if plugin.node.is_none() {
            return Ok(Opened {
                answer,
                socket: None,
            });
        }
        if let Some(with) = answer.with.take() {
            answer.with = Some(plugin.check_parameters(with)?);
        }
        let mut state = self.state.lock().await;
        if let Some(number) = request.lost {
            answer.lost = state.end(number).await;
        }
        let module = &provided.module;
        let known = state.hosts.iter();
        let mut known = known.filter(|host| Arc::ptr_eq(&host.module, module));
        if let Some(host) = known.next() {
            answer.host = Some(host.number);
            answer.directory = Some(host.directory());
            return Ok(Opened {
                answer,
                socket: None,
            });
        }
        if state.hosts.len() >= MAX_NODE_HOSTS {
            return Err(format!(
                "a pipeline has nodes of at most {MAX_NODE_HOSTS} modules at a time"
            ));
        }
        let (host, socket) = self.start(module, state.last + 1).await?;
        state.last = host.number;
        (answer.host, answer.is_new) = (Some(host.number), true);
        answer.directory = Some(host.directory());
        state.hosts.push(host);
        Ok(Opened {
            answer,
            socket: Some(socket),
        })
    }

    async fn start(
        &self,
        module: &Arc<Module>,
        number: u64,
    ) -> Result<(NodeHost, OwnedFd), String> {
        let failed = |error: HostError| format!("the host of {}: {error}", module.name());
        let pool = module.running().map_err(failed)?;
        let (mut host, counted, socket) = pool.start_for_items().await.map_err(failed)?;
        let folder = host.run_folder().map_err(failed)?;
        let entry = NodeHost {
            number,
            module: Arc::clone(module),
            files: folder.files(),
            kill: CancellationToken::new(),
            gone: CancellationToken::new(),
            why: Arc::default(),
        };
        let attendant = Attendant {
            log: Arc::clone(&self.log),
            over: self.over.clone(),
            kill: entry.kill.clone(),
            gone: entry.gone.clone().drop_guard(),
            why: Arc::clone(&entry.why),
            grace: pool.patience().cancel,
            folder,
            _counted: counted,
        };
        tokio::spawn(attendant.attend(host));
        Ok((entry, socket))
    }

    /// Ends them, and waits until nothing of them is left. Those whose socket is closed may clean up
    /// for a moment.
    pub async fn end(&self) {
        self.over.cancel();
        let mut state = self.state.lock().await;
        for host in std::mem::take(&mut state.hosts) {
            host.gone.cancelled().await;
        }
    }
}

impl NodeHost {
    /// Where it may write files.
    fn directory(&self) -> String {
        self.files.work().display().to_string()
    }
}

impl State {
    /// Ends a host; how it has ended by itself.
    async fn end(&mut self, number: u64) -> Option<String> {
        if let Some(at) = self.hosts.iter().position(|host| host.number == number) {
            let host = self.hosts.swap_remove(at);
            host.kill.cancel();
            host.gone.cancelled().await;
            let why = host.why.get().cloned();
            self.ended.extend(why.map(|why| (number, why)));
        }
        self.ended.get(&number).cloned()
    }
}

impl std::fmt::Debug for NodeHosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHosts").finish_non_exhaustive()
    }
}

/// Sees to one node host until it has ended.
struct Attendant {
    log: NodeLog,
    over: CancellationToken,
    kill: CancellationToken,
    gone: tokio_util::sync::DropGuard,
    why: Arc<OnceLock<String>>,
    grace: Duration,
    folder: RunFolder,
    _counted: Counted,
}

impl Attendant {
    async fn attend(self, mut host: Host) {
        let heard = Heard(Arc::clone(&self.log));
        let over = async {
            self.over.cancelled().await;
            tokio::time::sleep(self.grace).await;
        };
        let killed = async {
            self.kill.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            why = host.attend_for(&heard) => { let _ = self.why.set(why.to_string()); }
            () = over => {}
            () = killed => {}
        }
        let exited = host.exited();
        // Before the folder that it is in.
        drop(self.folder);
        drop(host);
        exited.await;
        drop(self.gone);
    }
}

/// Takes the log of node hosts. They ask for nothing.
struct Heard(NodeLog);

impl RunHandler for Heard {
    fn event(&self, event: RunEvent) {
        if let RunEvent::Log(text) = event {
            (self.0)(text);
        }
    }

    fn fetch(&self, _: String) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async { Err("nodes fetch nothing; runs do".to_owned()) })
    }
}

impl Pool {
    /// Starts a host that takes items. It has no place among the hosts of its module, as it belongs to
    /// a pipeline that has a slot.
    async fn start_for_items(self: &Arc<Self>) -> Result<(Host, Counted, OwnedFd), HostError> {
        let counted = self.count()?;
        self.rest().await?;
        let (ours, theirs) = UnixStream::pair()
            .map_err(|error| HostError::Start(format!("cannot make a socket pair: {error}")))?;
        let (command, folder) = self.prepared().await?;
        let config = json!({"items": {"fd": FIRST}});
        let welcome = |welcome: Welcome| Welcome { config, ..welcome };
        let started = self
            .start_with(command, folder, welcome, vec![theirs.into()])
            .await;
        let host = started.inspect_err(|error| self.count_crash(error))?;
        Ok((host, counted, ours.into()))
    }
}

/// The line on which the host of a pipeline gets descriptors.
#[derive(Debug, Clone)]
pub(crate) struct Passing(Arc<OwnedFd>);

impl Passing {
    /// Our end, and that of the host.
    pub(crate) fn new() -> Result<(Self, OwnedFd), HostError> {
        let failed = |error: std::io::Error| {
            HostError::Start(format!("cannot make a socket pair for it: {error}"))
        };
        let (ours, theirs) = line_pair().map_err(failed)?;
        // A host that does not read must not hold up the runner.
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| failed(e.into()))?;
        Ok((Self(Arc::new(ours)), theirs))
    }

    /// What `welcome` tells of it.
    pub(crate) fn config() -> Value {
        json!({"nodes": {"fd": FIRST}})
    }

    /// Hands over the socket of a host that was opened, before the answer that names it.
    pub(crate) fn pass(
        line: Option<Self>,
        opening: BoxFuture<'static, Result<Opened, String>>,
    ) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async move {
            let line = line.ok_or("hosts of nodes are for pipelines only")?;
            let Opened { answer, socket } = opening.await?;
            if let Some(socket) = socket {
                let message = json!({"host": answer.host});
                let passed = pass(line.0.as_raw_fd(), &message, &[socket.as_raw_fd()]);
                passed.map_err(|error| format!("cannot pass the socket of the host: {error}"))?;
            }
            serde_json::to_value(answer).map_err(|error| error.to_string())
        })
    }
}
