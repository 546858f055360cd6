//! Guests: processes of the runner's own that live behind the launcher and its sandbox, such as the zygote of
//! kernels.
//!
//! A guest is confined like a host, has a folder like one, and ends like one. It does not speak the plugin
//! protocol: beyond its standard descriptors it inherits one end of a socket pair, on which messages of JSON
//! go with descriptors beside them.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use runner_core::module::Confinement;

use crate::HostError;
use crate::guest_files::GuestFiles;
use crate::launcher::{
    Exit, HostCommand, Limits, Process, line_pair, pass, receive_passed, system_paths,
};
use crate::loader::interpreter;
use crate::modules::Modules;
use crate::pool::PoolConfig;
use crate::run_folder::WorkFolder;

/// Starts guests.
#[derive(Debug, Clone)]
pub struct Guests(PoolConfig);

/// What a guest in Python is.
#[derive(Debug, Clone)]
pub struct GuestWish<'a> {
    /// The interpreter: a path, or a name on the search path.
    pub python: &'a str,
    /// The module of the SDK that it runs; its one argument is JSON.
    pub module: &'a str,
    /// What it may use; what is not said is as for hosts.
    pub limits: Limits,
    /// Whether it may use the network.
    pub network: bool,
    /// Whether it gives what it starts name spaces of their own, where it can, and confines that itself.
    pub nests: bool,
    /// What it is shown beyond what a guest needs: it may let others that it starts read it.
    pub shown: Vec<PathBuf>,
}

/// What a guest is told of its place.
#[derive(Debug, Clone, Serialize)]
pub struct GuestPlace {
    /// What it may read, for what it confines further.
    pub readable: Vec<PathBuf>,
    /// Its own folder, in which it may write.
    pub work: PathBuf,
    /// The runner's program.
    pub runner: PathBuf,
    /// The filter of system calls for what it starts in name spaces of their own, in bytes; none where it cannot.
    pub filter: Option<Vec<u8>>,
    /// Whether it is not to start where less than all is to be had (`SANDBOX=full`).
    pub is_full: bool,
}

/// A guest. It ends, with all it started, when dropped.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    /// Its folder for life.
    folder: PathBuf,
    files: Arc<GuestFiles>,
}

/// The line to a guest.
#[derive(Debug, Clone)]
pub struct Passed(Arc<AsyncFd<OwnedFd>>);

impl Modules {
    /// Starts guests, as soon as there is a place for them.
    pub async fn guests(&self) -> Guests {
        Guests(self.settled().await)
    }
}

impl Guests {
    /// Starts a guest. `config` makes its argument. Answers when its program was executed, with the line to it
    /// and what it writes to standard output and error.
    ///
    /// # Errors
    /// The interpreter is not usable, or the guest cannot be started.
    pub async fn start_python<C: Serialize>(
        &self,
        wish: GuestWish<'_>,
        config: impl FnOnce(GuestPlace) -> C,
    ) -> Result<(Guest, Passed, pipe::Receiver), HostError> {
        let prepared = {
            let (hosting, python) = (self.0.clone(), wish.python.to_owned());
            tokio::task::spawn_blocking(move || prepare(&hosting, &python)).await
        };
        let mut command = prepared
            .map_err(|error| HostError::Start(format!("preparing it failed: {error}")))??;
        let folder = command.folder.clone();
        command.network = wish.network;
        command.nests = wish.nests;
        let filter = self.0.launcher.nested_filter(&command);
        let place = GuestPlace {
            readable: system_paths()
                .map(PathBuf::from)
                .chain(command.readable.iter().cloned())
                .collect(),
            work: folder.join("work"),
            runner: self.0.environment.runner.clone(),
            filter,
            is_full: self.0.launcher.is_full(),
        };
        command.readable.extend(wish.shown);
        let config = serde_json::to_string(&config(place))
            .map_err(|error| HostError::Start(format!("its configuration: {error}")))?;
        command
            .argv
            .extend(["-m".to_owned(), wish.module.to_owned(), config]);
        command.limits = wish.limits.or(&self.0.limits);
        let started = self.start(command, &folder).await;
        if started.is_err() {
            let _ = tokio::fs::remove_dir_all(&folder).await;
        }
        started
    }

    async fn start(
        &self,
        command: HostCommand,
        folder: &Path,
    ) -> Result<(Guest, Passed, pipe::Receiver), HostError> {
        let broken =
            |error: std::io::Error| HostError::Start(format!("cannot make its line: {error}"));
        let null = std::fs::File::open("/dev/null").map_err(broken)?;
        let (errors, writer) = std::io::pipe().map_err(broken)?;
        let (ours, theirs) = line_pair().map_err(broken)?;
        let output = writer.try_clone().map_err(broken)?;
        let fds = vec![null.into(), output.into(), writer.into(), theirs];
        let launcher = &self.0.launcher;
        let mut process = launcher.spawn(command, fds).await?;
        let work = WorkFolder::open(folder, process.take_work(), launcher.owner())?;
        let guest = Guest {
            process,
            folder: folder.to_owned(),
            files: Arc::new(GuestFiles::new(work, launcher)),
        };
        let errors = pipe::Receiver::from_owned_fd(errors.into()).map_err(broken)?;
        Ok((guest, Passed::new(ours).map_err(broken)?, errors))
    }
}

fn prepare(hosting: &PoolConfig, python: &str) -> Result<HostCommand, HostError> {
    let program = interpreter(python, &hosting.environment.sdk)?;
    let mut readable = program.readable;
    readable.push(hosting.environment.runner.clone());
    Ok(HostCommand {
        argv: program.argv,
        readable,
        ..hosting.command(program.environment)?
    })
}

impl Guest {
    /// How it is confined.
    pub fn confinement(&self) -> &Confinement {
        self.process.confinement()
    }

    /// The number of its process.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// What lies in its folder.
    pub fn files(&self) -> &Arc<GuestFiles> {
        &self.files
    }

    /// Ends it, and all that it has started.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Waits for its end, and that of all it started.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        self.process.exited()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.process.end(std::mem::take(&mut self.folder));
    }
}

impl Passed {
    fn new(ours: OwnedFd) -> std::io::Result<Self> {
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: the descriptor is owned, so that it stays open until it is registered no more.
        let line = unsafe { AsyncFd::register(ours)? };
        Ok(Self(Arc::new(line)))
    }

    /// Sends a message with these descriptors; waits while the guest reads none.
    ///
    /// # Errors
    /// The guest is gone, or the message is too large.
    pub async fn send(&self, message: &impl Serialize, fds: &[RawFd]) -> std::io::Result<()> {
        self.0
            .async_io(Interest::WRITABLE, |line| {
                pass(line.as_raw_fd(), message, fds)
            })
            .await
    }

    /// The next message; `None` when the guest is gone.
    ///
    /// # Errors
    /// It is none that is expected.
    pub async fn receive<T: DeserializeOwned>(&self) -> std::io::Result<Option<T>> {
        let mut buffer = Vec::new();
        let received = self
            .0
            .async_io(Interest::READABLE, |line| {
                receive_passed::<T>(line.as_raw_fd(), &mut buffer)
            })
            .await?;
        Ok(received.map(|(message, _)| message))
    }
}
