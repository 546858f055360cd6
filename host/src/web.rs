//! The web host of a module: the process that answers requests to the own routes of its plugins.
//!
//! There is at most one for new requests, started by the first of them and shared by all. It is started
//! like any host, and beyond that inherits a listening socket on which it serves HTTP/1.1. One that died, or
//! has left too many requests unanswered, is replaced by the next request.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::HostError;
use crate::host::{Host, Welcome};
use crate::pool::Pool;

/// Requests that one module answers at a time; more are refused.
pub const MAX_VISITS: usize = 256;
/// Unanswered requests after which a web host is replaced: each may hold one of its threads for ever.
const MAX_UNANSWERED: usize = 16;
/// How long after a failed start the next one is not tried.
const START_PAUSE: Duration = Duration::from_secs(1);
/// The number of the listening socket in the web host.
const LISTENER: i32 = 3;
/// The name of the socket in the host's folder.
const SOCKET: &str = "web";

/// What a pool knows of its web host.
#[derive(Debug)]
pub(crate) struct Web {
    state: Arc<tokio::sync::Mutex<State>>,
    /// The host of `state`, for those who cannot wait.
    current: Mutex<Option<Arc<WebHost>>>,
    permits: Arc<Semaphore>,
}

/// Locked while a web host is started.
#[derive(Debug, Default)]
struct State {
    host: Option<Arc<WebHost>>,
    failed: Option<(Instant, String)>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            current: Mutex::default(),
            permits: Arc::new(Semaphore::new(MAX_VISITS)),
        }
    }
}

impl Web {
    /// Whether there is a web host.
    pub(crate) fn is_served(&self) -> bool {
        let current = lock(&self.current).clone();
        current.is_some_and(|host| !host.visits().is_over)
    }

    /// Takes no more requests; the web host ends with those that it has.
    pub(crate) fn finalize(&self) {
        self.permits.close();
        if let Some(host) = lock(&self.current).clone() {
            host.visits().is_spent = true;
            host.changed.notify_one();
        }
    }

    /// Waits for the end of the web host.
    pub(crate) async fn ended(&self) {
        let current = lock(&self.current).clone();
        if let Some(host) = current {
            host.gone.cancelled().await;
        }
    }

    /// Ends the web host.
    pub(crate) fn close(&self) {
        self.permits.close();
        if let Some(host) = lock(&self.current).take() {
            host.close();
        }
    }
}

/// A connection to a web host, for one request.
#[derive(Debug)]
pub struct WebConnection {
    /// Speaks HTTP/1.1.
    pub stream: UnixStream,
    /// Keeps the web host alive.
    pub visit: Visit,
}

/// A request in progress at a web host; it lasts until this is dropped.
#[derive(Debug)]
pub struct Visit {
    host: Arc<WebHost>,
    began: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Visit {
    /// The answer has begun.
    pub fn answered(&self) {
        self.host.visits().last_answer = Some(Instant::now());
    }

    /// There was no answer in time. A web host that has answered nothing else since then, or leaves many
    /// requests unanswered, gets no more of them and ends with those that it has.
    pub fn unanswered(&self) {
        let mut visits = self.host.visits();
        visits.unanswered += 1;
        let is_silent = visits.last_answer.is_none_or(|last| last < self.began);
        if is_silent || visits.unanswered >= MAX_UNANSWERED {
            tracing::warn!(
                module = self.host.module,
                "the web host answers no more; the next request gets a new one"
            );
            visits.is_spent = true;
            self.host.changed.notify_one();
        }
    }

    /// The connection was closed without an answer: very likely the web host is dying, even if that is not
    /// known yet. It gets no more requests.
    pub fn cut(&self) {
        self.host.visits().is_spent = true;
        self.host.changed.notify_one();
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut visits = self.host.visits();
        visits.open -= 1;
        visits.idle_since = Instant::now();
        self.host.changed.notify_one();
    }
}

#[derive(Debug)]
struct WebHost {
    module: String,
    /// Where its folder is; the socket lies in it.
    folder: PathBuf,
    visits: Mutex<Visits>,
    /// Something in `visits` is as its attendant should know.
    changed: Notify,
    /// Cancelled when it has ended.
    gone: CancellationToken,
}

#[derive(Debug)]
struct Visits {
    open: usize,
    idle_since: Instant,
    last_answer: Option<Instant>,
    unanswered: usize,
    /// It gets no more visits and ends with the last one.
    is_spent: bool,
    /// It has ended, or ends now.
    is_over: bool,
}

impl WebHost {
    fn visits(&self) -> MutexGuard<'_, Visits> {
        lock(&self.visits)
    }

    /// Begins a visit, if it takes one.
    fn enter(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Visit, OwnedSemaphorePermit> {
        let mut visits = self.visits();
        if visits.is_over || visits.is_spent {
            return Err(permit);
        }
        visits.open += 1;
        drop(visits);
        Ok(Visit {
            host: Arc::clone(self),
            began: Instant::now(),
            _permit: permit,
        })
    }

    fn close(&self) {
        self.visits().is_over = true;
        self.changed.notify_one();
    }

    /// Until nobody needs it any more.
    async fn is_left(&self, idle: Duration) {
        loop {
            let until = {
                let mut visits = self.visits();
                let until = (visits.open == 0).then_some(visits.idle_since + idle);
                let is_idle = until.is_some_and(|until| visits.is_spent || until <= Instant::now());
                visits.is_over |= is_idle;
                if visits.is_over {
                    return;
                }
                until
            };
            let idles = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = idles => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

impl Pool {
    /// A connection to the module's web host, which is started if there is none.
    pub(crate) async fn visit(self: &Arc<Self>) -> Result<WebConnection, HostError> {
        let closed = || HostError::Closed(self.name().to_owned());
        let mut refused = None;
        // The first one may have died without having been missed yet.
        for _ in 0..2 {
            if self.web.permits.is_closed() {
                return Err(closed());
            }
            let permit = Arc::clone(&self.web.permits).try_acquire_owned();
            let permit = permit.map_err(|_| {
                HostError::Busy(format!(
                    "the module {} has {MAX_VISITS} requests in progress; it takes no more",
                    self.name()
                ))
            })?;
            let visit = self.enter(permit).await?;
            match connect(&visit.host.folder).await {
                Ok(stream) => {
                    self.usage.visited();
                    return Ok(WebConnection { stream, visit });
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(HostError::Busy(format!(
                        "the web host of {} takes no more connections",
                        self.name()
                    )));
                }
                Err(error) => {
                    visit.host.close();
                    refused = Some(error);
                }
            }
        }
        let why = refused.map_or_else(String::new, |error| error.to_string());
        Err(HostError::Lost(format!(
            "the web host of {} takes no connections: {why}",
            self.name()
        )))
    }

    async fn enter(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Result<Visit, HostError> {
        let state = Arc::clone(&self.web.state).lock_owned().await;
        let permit = match &state.host {
            Some(host) => match host.enter(permit) {
                Ok(visit) => return Ok(visit),
                Err(permit) => permit,
            },
            None => permit,
        };
        if let Some((at, why)) = &state.failed
            && at.elapsed() < START_PAUSE
        {
            return Err(HostError::Start(why.clone()));
        }
        // A client that leaves now must not leave half a host.
        let pool = Arc::clone(self);
        let started = tokio::spawn(async move { pool.start_web(state, permit).await }).await;
        started.map_err(|error| HostError::Start(format!("starting it failed: {error}")))?
    }

    async fn start_web(
        self: Arc<Self>,
        mut state: OwnedMutexGuard<State>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Visit, HostError> {
        let host = match self.new_web_host().await {
            Ok(host) => host,
            Err(error) => {
                state.host = None;
                state.failed = Some((Instant::now(), error.to_string()));
                return Err(error);
            }
        };
        let web = Arc::new(WebHost {
            module: self.name().to_owned(),
            folder: host.folder().to_owned(),
            visits: Mutex::new(Visits {
                open: 0,
                idle_since: Instant::now(),
                last_answer: None,
                unanswered: 0,
                is_spent: false,
                is_over: false,
            }),
            changed: Notify::new(),
            gone: CancellationToken::new(),
        });
        *lock(&self.web.current) = Some(Arc::clone(&web));
        if self.web.permits.is_closed() {
            self.web.close();
        }
        tokio::spawn(attend(host, Arc::clone(&web), self.idle_time()));
        state.failed = None;
        state.host = Some(Arc::clone(&web));
        web.enter(permit)
            .map_err(|_| HostError::Closed(self.name().to_owned()))
    }

    async fn new_web_host(self: &Arc<Self>) -> Result<Host, HostError> {
        let (command, folder) = self.prepared().await?;
        let listener = match listen(&folder) {
            Ok(listener) => listener,
            Err(error) => {
                let _ = tokio::fs::remove_dir_all(&folder).await;
                return Err(HostError::file("listen on", folder.join(SOCKET))(error));
            }
        };
        let config = json!({"web": {"fd": LISTENER, "connections": MAX_VISITS}});
        let welcome = |welcome: Welcome| Welcome { config, ..welcome };
        let mut host = self
            .start_with(command, folder, welcome, vec![listener.into()])
            .await?;
        // What is wrong with the module is known now, and not by a request that nobody answers.
        host.describe(self.patience()).await?;
        Ok(host)
    }
}

/// Hears the web host until it ends or is left, and ends it.
async fn attend(mut host: Host, web: Arc<WebHost>, idle: Duration) {
    tokio::select! {
        why = host.attend() => tracing::warn!(module = web.module, "the web host ended: {why}"),
        () = web.is_left(idle) => {}
    }
    web.close();
    drop(host);
    web.gone.cancel();
}

/// A listening socket in the host's folder, for nobody but this account. The host itself cannot replace it.
fn listen(folder: &Path) -> std::io::Result<UnixListener> {
    let listener = UnixListener::bind(&ShortPath::new(folder)?.path)?;
    fs::set_permissions(folder.join(SOCKET), fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    let short = ShortPath::new(folder)?;
    UnixStream::connect(&short.path).await
}

/// The path of the socket. The system takes at most 107 bytes, and the instance folder may lie deep; on
/// Linux it is reached by way of a descriptor, for as long as this lives.
struct ShortPath {
    path: PathBuf,
    _folder: Option<fs::File>,
}

impl ShortPath {
    #[cfg(target_os = "linux")]
    fn new(folder: &Path) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        let folder = fs::File::open(folder)?;
        Ok(Self {
            path: PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())),
            _folder: Some(folder),
        })
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    fn new(folder: &Path) -> std::io::Result<Self> {
        Ok(Self {
            path: folder.join(SOCKET),
            _folder: None,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_in_a_deep_folder_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("x".repeat(120));
        fs::create_dir(&folder).unwrap();
        assert!(connect(&folder).await.is_err());
        let listener = listen(&folder).unwrap();
        connect(&folder).await.unwrap();
        let mode = fs::metadata(folder.join(SOCKET))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert!(connect(&folder).await.is_err());
    }
}
