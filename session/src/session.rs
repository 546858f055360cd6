//! A session, and its clients.

mod client;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use runner_core::identity::url_segment;
use runner_core::module::Confinement;

use crate::error::SessionError;
use crate::files::{Place, SessionFiles, Signer};
use crate::kernelspecs::KERNELSPEC;
use crate::log::Log;
use crate::message::{Channel, Header, Message};
use crate::output::FOLDER;
use crate::sessions::Wish;
use crate::told;

pub use client::{Attached, Next, Receipt, Speaker};

/// Bytes of the name that a client gives itself.
pub const MAX_CLIENT: usize = 200;
/// Clients of one session at a time.
const MAX_CONNECTIONS: usize = 64;
/// Clients that have left whose place in the log is remembered.
const MAX_LEFT: usize = 1000;
/// KiB of messages of clients that wait for the kernel.
const MAX_WAITING: usize = 128 << 10;
/// Messages of clients that wait for the driver.
pub(crate) const MAX_INPUTS: usize = 64;
/// Bytes by which a client may be behind before the kernel is held up.
pub(crate) const WINDOW: u64 = 8 << 20;

/// An interactive kernel bound to one client.
#[derive(Debug)]
pub struct Session {
    pub(crate) id: Uuid,
    /// Whose it is: the subject of a token; nobody's where there is none.
    pub(crate) owner: Option<Arc<str>>,
    /// With whom it is counted.
    pub(crate) client: String,
    /// The name of its kernelspec.
    pub(crate) spec: String,
    /// With what else it is counted.
    pub(crate) group: Option<String>,
    /// Variables of its kernels.
    pub(crate) environment: HashMap<String, String>,
    /// Signs the paths of its files.
    signer: Signer,
    /// The folder of its log.
    pub(crate) folder: PathBuf,
    pub(crate) log: Arc<Log>,
    pub(crate) began: Instant,
    state: Mutex<State>,
    inputs: mpsc::Sender<Input>,
    orders: mpsc::UnboundedSender<Order>,
    /// Room for what waits for the kernel.
    waiting: Arc<Semaphore>,
    /// A client has got on, came or left.
    pub(crate) moved: Notify,
    /// Cancelled when it has ended.
    pub(crate) over: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) execution: Execution,
    pub(crate) active: Instant,
    active_at: jiff::Timestamp,
    last_connection: u64,
    connections: HashMap<u64, Connection>,
    /// When the last client left; nothing while there is one, or was none yet.
    pub(crate) alone_since: Option<Instant>,
    pub(crate) was_attached: bool,
    /// How long it lives without messages.
    pub(crate) idle: Duration,
    /// Where clients were when they left.
    left: HashMap<Arc<str>, u64>,
    pub(crate) confinement: Confinement,
    pub(crate) files: Option<Place>,
    /// The URL by which its client knows the runner.
    base_url: String,
}

/// What a kernel is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Execution {
    Starting,
    Idle,
    Busy,
    Restarting,
    Dead,
}

#[derive(Debug)]
struct Connection {
    client: Arc<str>,
    position: u64,
    cut: CancellationToken,
}

/// A message of a client.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) header: Header,
    pub(crate) channel: Channel,
    /// Whether a shutdown is for a restart.
    pub(crate) restarts: bool,
    pub(crate) frame: Bytes,
    pub(crate) client: Arc<str>,
    /// What it takes of the room for such messages.
    pub(crate) _weight: OwnedSemaphorePermit,
}

/// What is to be done with a session.
#[derive(Debug)]
pub(crate) enum Order {
    Interrupt,
    Restart(oneshot::Sender<Result<(), SessionError>>),
    /// It is interrupted, and told why.
    Warn(String),
    End {
        why: String,
        /// Whether its log stays.
        keeps: bool,
        done: oneshot::Sender<()>,
    },
}

/// A session as clients see it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionModel {
    /// Its id.
    pub id: String,
    /// The name of its kernelspec.
    pub name: String,
    /// When something was last said.
    pub last_activity: String,
    /// `starting`, `idle`, `busy`, `restarting` or `dead`.
    pub(crate) execution_state: Execution,
    /// Clients that are connected.
    pub connections: usize,
    /// The offset of the end of its log.
    pub offset: u64,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Seconds since it began.
    pub age: u64,
    /// How its kernel is confined.
    pub confinement: Confinement,
}

impl SessionModel {
    /// The same as it is told to who made it: the client is going to hear the rest.
    #[must_use]
    pub fn starting(mut self) -> Self {
        self.execution_state = Execution::Starting;
        self
    }
}

/// The driver's side of a session's channels.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
}

impl Session {
    pub(crate) fn new(
        id: Uuid,
        wish: Wish,
        idle: Duration,
        folder: PathBuf,
        log: Log,
    ) -> (Arc<Self>, Inbox) {
        let (inputs, from_clients) = mpsc::channel(MAX_INPUTS);
        let (orders, taken) = mpsc::unbounded_channel();
        let now = Instant::now();
        let session = Arc::new(Self {
            id,
            owner: wish.owner,
            client: wish.client,
            group: wish.group,
            spec: wish.spec.unwrap_or_else(|| KERNELSPEC.to_owned()),
            environment: wish.environment,
            signer: Signer::new(),
            folder,
            log: Arc::new(log),
            began: now,
            state: Mutex::new(State {
                execution: Execution::Starting,
                active: now,
                active_at: jiff::Timestamp::now(),
                last_connection: 0,
                connections: HashMap::new(),
                alone_since: None,
                was_attached: false,
                idle,
                left: HashMap::new(),
                confinement: Confinement::default(),
                files: None,
                base_url: wish.base_url,
            }),
            inputs,
            orders,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            moved: Notify::new(),
            over: CancellationToken::new(),
        });
        let inbox = Inbox {
            inputs: from_clients,
            orders: taken,
        };
        (session, inbox)
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Whose it is.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// With whom it is counted.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The URL by which its client knows the runner; empty where none has come since a restart.
    pub(crate) fn base_url(&self) -> String {
        self.lock().base_url.clone()
    }

    /// A client knows the runner by this URL.
    pub fn set_base_url(&self, url: &str) {
        let mut state = self.lock();
        if state.base_url != url {
            url.clone_into(&mut state.base_url);
        }
    }

    /// As clients see it.
    pub fn model(&self) -> SessionModel {
        let state = self.lock();
        SessionModel {
            id: self.id.to_string(),
            name: self.spec.clone(),
            last_activity: told::moment(state.active_at),
            execution_state: state.execution,
            connections: state.connections.len(),
            offset: self.log.end(),
            owner: self.owner().map(str::to_owned),
            age: self.began.elapsed().as_secs(),
            confinement: state.confinement.clone(),
        }
    }

    /// A file of output, if there is one of this name.
    pub fn output(&self, name: &str) -> Option<PathBuf> {
        let is_plain = name
            .strip_suffix(".txt")
            .is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
        is_plain.then(|| self.folder.join(FOLDER).join(name))
    }

    /// What its kernels wrote to their standard error, beside output of cells.
    pub fn error_log(&self) -> PathBuf {
        self.folder.join(crate::driver::ERRORS)
    }

    /// Its files.
    ///
    /// # Errors
    /// It has no kernel, and so no folder.
    pub fn files(&self) -> Result<SessionFiles, SessionError> {
        let place = self.lock().files.clone();
        SessionFiles::of(place)
    }

    /// The path, below the base URL, under which whoever has it may read a file.
    pub fn shared_path(&self, file: &str) -> String {
        let (id, tag) = (self.id, self.signer.tag(file));
        let segments: Vec<_> = file.split('/').map(url_segment).collect();
        format!("/api/kernels/{id}/shared/{tag}/{}", segments.join("/"))
    }

    /// Whether a tag is that of a file.
    pub fn shares(&self, file: &str, tag: &str) -> bool {
        self.signer.has_signed(file, tag)
    }

    /// Interrupts it, and says why.
    pub(crate) fn warn(&self, why: String) {
        let _ = self.orders.send(Order::Warn(why));
    }

    /// Interrupts what it is at.
    pub fn interrupt(&self) {
        let _ = self.orders.send(Order::Interrupt);
    }

    /// Replaces its kernel by a new one.
    ///
    /// # Errors
    /// There is no new one.
    pub async fn restart(&self) -> Result<(), SessionError> {
        let (done, outcome) = oneshot::channel();
        let _ = self.orders.send(Order::Restart(done));
        outcome.await.unwrap_or(Err(SessionError::Ended))
    }

    /// Ends it. Answers when nobody finds it any more.
    pub(crate) async fn end(&self, why: &str, keeps: bool) {
        let (done, ended) = oneshot::channel();
        let why = why.to_owned();
        if self.orders.send(Order::End { why, keeps, done }).is_ok() {
            let _ = ended.await;
        }
    }

    /// Adds a client. `client`: the name that it gives itself, by which it goes on where it left. `offset`: where it
    /// goes on instead.
    ///
    /// # Errors
    /// The session has ended, has too many clients, or the name is too long.
    pub fn attach(
        self: &Arc<Self>,
        client: Option<&str>,
        offset: Option<u64>,
    ) -> Result<Attached, SessionError> {
        if self.over.is_cancelled() {
            return Err(SessionError::Unknown(self.id));
        }
        if client.is_some_and(|name| name.len() > MAX_CLIENT) {
            return Err(SessionError::Invalid(format!(
                "session_id is longer than {MAX_CLIENT} bytes"
            )));
        }
        let name: Arc<str> = match client.filter(|name| !name.is_empty()) {
            Some(name) => name.into(),
            None => Uuid::new_v4().to_string().into(),
        };
        let end = self.log.end();
        let mut state = self.lock();
        // Who comes back before it was missed takes its own place.
        let mut own = None;
        state.connections.retain(|_, one| {
            let is_same = one.client == name;
            if is_same {
                one.cut.cancel();
                own = Some(one.position);
            }
            !is_same
        });
        if state.connections.len() >= MAX_CONNECTIONS {
            return Err(SessionError::Full(format!(
                "the session has {MAX_CONNECTIONS} clients; it takes no more"
            )));
        }
        let left = state.left.remove(&name);
        let position = offset.or(own).or(left).unwrap_or(end).min(end);
        state.last_connection += 1;
        let number = state.last_connection;
        let cut = CancellationToken::new();
        let connection = Connection {
            client: Arc::clone(&name),
            position,
            cut: cut.clone(),
        };
        state.connections.insert(number, connection);
        state.alone_since = None;
        state.was_attached = true;
        drop(state);
        self.moved.notify_one();
        Ok(Attached {
            session: Arc::clone(self),
            number,
            client: name,
            position,
            grown: self.log.watch(),
            cut,
        })
    }

    /// Says something to everybody, or to one client.
    pub(crate) fn say(&self, to: Option<&str>, message: &Message) {
        self.log.append(to, told::frame(message));
    }

    /// Something was said.
    pub(crate) fn touch(&self) {
        let mut state = self.lock();
        state.active = Instant::now();
        state.active_at = jiff::Timestamp::now();
    }

    /// Whether all clients are near enough that the kernel may go on.
    pub(crate) fn has_room(&self) -> bool {
        let end = self.log.end();
        let state = self.lock();
        let mut all = state.connections.values();
        all.all(|one| end.saturating_sub(one.position) <= WINDOW)
    }

    /// A client has what was said up to there.
    fn took(&self, number: u64, position: u64) {
        if let Some(one) = self.lock().connections.get_mut(&number) {
            one.position = position;
        }
        self.moved.notify_one();
    }

    /// Cuts clients that hold up the kernel.
    pub(crate) fn cut_slow(&self) {
        let end = self.log.end();
        for one in self.lock().connections.values() {
            if end.saturating_sub(one.position) > WINDOW {
                tracing::info!(session = %self.id, "a client that reads too slowly is cut");
                one.cut.cancel();
            }
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        !self.lock().connections.is_empty()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
