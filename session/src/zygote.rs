//! The zygote: a guest of the launcher that has loaded what kernels need, and forks them.

mod current;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use runner_core::module::Confinement;
use runner_host::{Guest, GuestFiles, GuestWish, Guests, Limits, Passed};

use crate::config::{Face, SessionsConfig};
use crate::error::SessionError;
use crate::files::Room;
use crate::kernel::{Aside, Kernel, STARTING};
use crate::kernelspecs::{Kernelspec, Kernelspecs};

pub(crate) use current::Current;

/// How long a zygote may take to load what is to be loaded.
const LOADING: Duration = Duration::from_secs(60);
/// The module of the SDK that it is.
const MODULE: &str = "runner.kernel";
/// Processes that a zygote has beside those of its kernels.
const OWN_PROCESSES: u64 = 64;
/// Processes and threads of a kernel that does nothing: of those of the runner, and of others.
const IDLE_PROCESSES: (u64, u64) = (4, 32);
/// Bytes of a line that it writes to its log.
const MAX_LINE: u64 = 4096;

/// A living zygote. It ends, with all its kernels, when dropped.
#[derive(Debug)]
pub(crate) struct Zygote {
    guest: Guest,
    orders: mpsc::UnboundedSender<(Value, Vec<OwnedFd>)>,
    kernels: Mutex<Kernels>,
    /// Its own folder.
    work: PathBuf,
    /// This program, as kernels see it.
    runner: PathBuf,
    /// What it answers when it is asked what it is.
    info: Map<String, Value>,
    /// How its kernels are confined.
    confinement: Confinement,
    /// How much there may be of files.
    room: Room,
}

#[derive(Debug, Default)]
struct Kernels {
    is_gone: bool,
    living: HashMap<String, Living>,
}

#[derive(Debug)]
struct Living {
    ended: watch::Sender<Option<String>>,
    /// Why it is to be interrupted, for its session.
    warnings: mpsc::UnboundedSender<String>,
    /// Why it is ended.
    why: Option<String>,
    /// Kept until nothing of the kernel is left.
    _folder: Arc<KernelFolder>,
}

/// The folder of a session's kernels; removed when the last of them has ended and the session is over.
#[derive(Debug)]
pub(crate) struct KernelFolder {
    path: PathBuf,
    orders: mpsc::UnboundedSender<(Value, Vec<OwnedFd>)>,
}

impl KernelFolder {
    /// Its name in the folder of its zygote.
    pub(crate) fn name(&self) -> Option<PathBuf> {
        self.path.file_name().map(PathBuf::from)
    }
}

impl Drop for KernelFolder {
    fn drop(&mut self) {
        // A zygote that is gone has taken its folder along.
        let _ = self.orders.send((json!({"remove": self.path}), Vec::new()));
    }
}

/// What a zygote tells.
#[derive(Debug, Deserialize)]
struct Said {
    /// What its kernels answer to `kernel_info_request`.
    ready: Option<Map<String, Value>>,
    /// What could not be loaded.
    #[serde(default)]
    missing: Vec<String>,
    /// Why its kernels have no name spaces of their own.
    shared: Option<String>,
    /// Why it cannot fork.
    failed: Option<String>,
    /// A kernel that is ended, since it used too much.
    over: Option<String>,
    /// A kernel that is to be interrupted, since it uses too much.
    warned: Option<String>,
    /// A kernel that has ended.
    ended: Option<String>,
    /// How, or why.
    status: Option<String>,
}

#[derive(Serialize)]
struct Config<'a> {
    preload: &'a [String],
    readable: Vec<PathBuf>,
    /// The filter of system calls of kernels in name spaces of their own; none where they cannot have such.
    filter: Option<Vec<u8>>,
    limits: &'a crate::config::KernelLimits,
    /// Processes of one kernel.
    processes: u64,
    /// Bytes of the files of all.
    files: u64,
    /// Bytes of the files of one session.
    files_each: Option<u64>,
    /// Whether kernels have what clients of Sage Cell expect.
    sage: bool,
}

impl Zygote {
    /// Starts one, and waits until it can fork.
    pub(crate) async fn start(
        guests: &Guests,
        config: &SessionsConfig,
        specs: &Kernelspecs,
    ) -> Result<Arc<Self>, SessionError> {
        let idle = match specs.has_foreign() {
            false => IDLE_PROCESSES.0,
            true => IDLE_PROCESSES.1,
        };
        let wish = GuestWish {
            python: &config.python,
            module: MODULE,
            limits: Limits {
                processes: Some(
                    OWN_PROCESSES
                        + (config.most + config.once) as u64 * idle
                        + config.processes * 4,
                ),
                disk: Some(config.files),
                memory: Some(u64::MAX),
                cpu_seconds: Some(u64::MAX),
                file_size: Some(config.files),
                files: Some(config.files / 4096),
                ..Limits::default()
            },
            network: config.network,
            nests: true,
            shown: specs.readable(),
        };
        let (mut work, mut runner) = (PathBuf::new(), PathBuf::new());
        let (mut nests, mut is_full) = (false, false);
        let (guest, line, log) = guests
            .start_python(wish, |place| {
                work = place.work;
                runner = place.runner;
                nests = place.filter.is_some();
                is_full = place.is_full;
                Config {
                    preload: &config.preload,
                    readable: place.readable,
                    filter: place.filter,
                    limits: &config.limits,
                    processes: config.processes,
                    files: config.files,
                    files_each: config.files_of_session,
                    sage: config.face == Face::SageCell,
                }
            })
            .await?;
        let (said, mut heard) = mpsc::channel(8);
        tokio::spawn(listen(log, said));
        let loaded = loaded(&line, &mut heard).await?;
        if let Some(why) = &loaded.shared {
            let less = format!("kernels have no name spaces of their own: {why}");
            if is_full {
                return Err(SessionError::Start(format!("SANDBOX is full, and {less}")));
            }
            tracing::warn!("{less}");
        }
        let confinement = confined(guest.confinement(), nests, loaded.shared);
        tokio::spawn(async move {
            while let Some(text) = heard.recv().await {
                tracing::info!("the zygote of kernels says: {text}");
            }
        });
        let (orders, taken) = mpsc::unbounded_channel();
        let zygote = Arc::new(Self {
            guest,
            orders,
            kernels: Mutex::default(),
            work,
            runner,
            info: loaded.info,
            confinement,
            room: Room {
                all: config.files,
                each: config.files_of_session,
                face: config.face,
            },
        });
        let weak = Arc::downgrade(&zygote);
        tokio::spawn(obey(line.clone(), taken));
        tokio::spawn(async move {
            loop {
                let said = line.receive::<Said>().await;
                let Some(zygote) = weak.upgrade() else { return };
                match said {
                    Ok(Some(said)) => zygote.hear(said),
                    Ok(None) | Err(_) => return zygote.lose(),
                }
            }
        });
        Ok(zygote)
    }

    /// Forks a kernel. `folder`: that of another kernel of the same session; a new one where there is none.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        spec: &Kernelspec,
        environment: &HashMap<String, String>,
        folder: Option<Arc<KernelFolder>>,
    ) -> Result<Kernel, SessionError> {
        let launch = spec.launch(&self.runner)?;
        let name = uuid::Uuid::new_v4().simple().to_string();
        let own = folder.filter(|folder| folder.path.starts_with(&self.work));
        let folder = own.unwrap_or_else(|| {
            Arc::new(KernelFolder {
                path: self.work.join(&name),
                orders: self.orders.clone(),
            })
        });
        let broken = |error: std::io::Error| SessionError::Start(format!("its line: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(broken)?;
        ours.set_nonblocking(true).map_err(broken)?;
        let (errors, writer) = std::io::pipe().map_err(broken)?;
        let errors = pipe::Receiver::from_owned_fd(errors.into()).map_err(broken)?;
        let line = tokio::net::UnixStream::from_std(ours).map_err(broken)?;
        let (asked, asking) = UnixStream::pair().map_err(broken)?;
        asked.set_nonblocking(true).map_err(broken)?;
        let requests = tokio::net::UnixStream::from_std(asked).map_err(broken)?;
        let (warn, warnings) = mpsc::unbounded_channel();
        let ended = {
            let mut kernels = self.lock();
            if kernels.is_gone {
                return Err(SessionError::Start("the zygote ended".to_owned()));
            }
            let (sender, ended) = watch::channel(None);
            let living = Living {
                ended: sender,
                warnings: warn,
                why: None,
                _folder: Arc::clone(&folder),
            };
            kernels.living.insert(name.clone(), living);
            ended
        };
        let mut order = json!({"fork": name, "folder": folder.path, "environment": environment});
        if let Some(launch) = &launch {
            order["program"] = json!(launch.argv);
            order["readable"] = json!(launch.readable);
            order["limits"] = match launch.memory {
                Some(memory) => json!({"memory": memory}),
                None => json!({}),
            };
        }
        self.order(order, vec![theirs.into(), writer.into(), asking.into()]);
        let aside = Aside { requests, warnings };
        let kernel = Kernel::new(name, Arc::clone(self), folder, line, errors, aside, ended);
        let patience = launch.map_or(STARTING, |launch| launch.patience);
        kernel.started(patience).await
    }

    /// Interrupts a kernel.
    pub(crate) fn interrupt(&self, kernel: &str) {
        self.order(json!({"interrupt": kernel}), Vec::new());
    }

    /// Ends a kernel, and all that it has started.
    pub(crate) fn kill(&self, kernel: &str) {
        self.order(json!({"kill": kernel}), Vec::new());
    }

    /// The same; whoever hears of its end is told why.
    pub(crate) fn kill_since(&self, kernel: &str, why: String) {
        if let Some(living) = self.lock().living.get_mut(kernel) {
            living.why = Some(why);
        }
        self.kill(kernel);
    }

    /// Ends it, and all its kernels.
    pub(crate) fn end(&self) {
        self.guest.kill();
    }

    /// Whether it has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// What lies in its folder.
    pub(crate) fn files(&self) -> Arc<GuestFiles> {
        Arc::clone(self.guest.files())
    }

    /// How much there may be of files.
    pub(crate) fn room(&self) -> Room {
        self.room
    }

    /// How its kernels are confined.
    pub(crate) fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// What its kernels answer to `kernel_info_request`.
    pub(crate) fn info(&self) -> &Map<String, Value> {
        &self.info
    }

    fn order(&self, order: Value, fds: Vec<OwnedFd>) {
        // One that is gone obeys nothing, and has ended its kernels.
        let _ = self.orders.send((order, fds));
    }

    fn hear(&self, said: Said) {
        if let Some(name) = said.over {
            if let Some(living) = self.lock().living.get_mut(&name) {
                living.why = said.status;
            }
            return;
        }
        if let Some(name) = said.warned {
            if let (Some(living), Some(why)) = (self.lock().living.get(&name), said.status) {
                // A kernel that nobody has yet does nothing.
                let _ = living.warnings.send(why);
            }
            return;
        }
        let Some(name) = said.ended else { return };
        let living = self.lock().living.remove(&name);
        if let Some(living) = living {
            let how = living.why.or(said.status);
            let how = how.unwrap_or_else(|| "it ended".to_owned());
            living.ended.send_replace(Some(how));
        }
    }

    fn lose(&self) {
        let living = {
            let mut kernels = self.lock();
            kernels.is_gone = true;
            std::mem::take(&mut kernels.living)
        };
        for (_, living) in living {
            let how = "the zygote of all kernels ended".to_owned();
            living.ended.send_replace(Some(how));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kernels> {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How kernels are confined: as their zygote (`nests`: where it can have name spaces), and each from the others.
fn confined(zygote: &Confinement, nests: bool, shared: Option<String>) -> Confinement {
    let mut confinement = zygote.clone();
    let why = match nests {
        true => shared,
        false => Some("their zygote has none".to_owned()),
    };
    match why {
        None => confinement.layers.push(
            "name spaces of each kernel's own for users, processes, mounts and IPC".to_owned(),
        ),
        Some(why) => confinement
            .missing
            .push(format!("name spaces of each kernel's own: {why}")),
    }
    confinement
}

/// What a zygote tells when it has loaded everything.
struct Loaded {
    info: Map<String, Value>,
    shared: Option<String>,
}

/// Waits until it has.
async fn loaded(line: &Passed, heard: &mut mpsc::Receiver<String>) -> Result<Loaded, SessionError> {
    let mut last = String::new();
    let mut is_silent = false;
    let said = async {
        loop {
            tokio::select! {
                biased;
                text = heard.recv(), if !is_silent => match text {
                    Some(text) => last = text,
                    None => is_silent = true,
                },
                said = line.receive::<Said>() => return said,
            }
        }
    };
    let said = tokio::time::timeout(LOADING, said).await;
    // What it said last says why it ended.
    while let Ok(text) = heard.try_recv() {
        last = text;
    }
    match said {
        Err(_) => Err(SessionError::Start(format!(
            "the zygote of kernels loads for more than {} s",
            LOADING.as_secs()
        ))),
        Ok(Ok(Some(Said {
            ready: Some(info),
            missing,
            shared,
            ..
        }))) => {
            for problem in missing {
                tracing::info!("kernels do without what SESSION_PRELOAD names: {problem}");
            }
            Ok(Loaded { info, shared })
        }
        Ok(Ok(Some(Said {
            failed: Some(why), ..
        }))) => Err(SessionError::Start(why)),
        Ok(_) => Err(SessionError::Start(format!(
            "the zygote of kernels ended at once: {last}"
        ))),
    }
}

/// Passes on orders until nobody gives any, or the zygote is gone.
async fn obey(line: Passed, mut orders: mpsc::UnboundedReceiver<(Value, Vec<OwnedFd>)>) {
    while let Some((order, fds)) = orders.recv().await {
        let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        if line.send(&order, &numbers).await.is_err() {
            return;
        }
    }
}

/// Hears what it writes to its log, until it ends.
async fn listen(log: pipe::Receiver, said: mpsc::Sender<String>) {
    let mut log = BufReader::new(log);
    loop {
        let mut line = Vec::new();
        let read = (&mut log).take(MAX_LINE).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(size) if size > 0) {
            return;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if !text.is_empty() && said.send(text).await.is_err() {
            return;
        }
    }
}
