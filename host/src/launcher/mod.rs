//! Starting and ending hosts through a small process of their own.
//!
//! A process that is about to confine itself must run code between fork and exec, and forking the
//! threaded runner is neither safe nor cheap (40 ms instead of 0.8 where it has much memory). So the
//! runner starts one launcher, and that one forks.

mod abilities;
mod cgroups;
mod keeper;
mod limits;
mod namespaces;
mod process;
mod root;
mod said;
mod sandbox;
mod seccomp;
mod tree;
mod wire;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{oneshot, watch};

use runner_core::module::Confinement;

use abilities::Abilities;
pub use abilities::{SandboxConfig, SandboxMode};
pub use limits::Limits;
use namespaces::Way;
pub use process::launcher_main;
pub(crate) use sandbox::system_paths;
use wire::{Command, Report, pair, receive, send};
pub use wire::{Exit, HostCommand};
pub(crate) use wire::{pair as line_pair, receive as receive_passed, send as pass};

use crate::HostError;

/// The line to the launcher. Clones share it. The launcher ends with the last one.
#[derive(Clone, Debug)]
pub struct Launcher {
    line: Arc<Line>,
    abilities: Arc<Abilities>,
    config: SandboxConfig,
}

#[derive(Debug)]
struct Line {
    socket: Arc<OwnedFd>,
    waiting: Arc<Mutex<Waiting>>,
    /// Reads what the launcher reports; ends when the launcher has ended, and with it all hosts.
    reader: Option<std::thread::JoinHandle<()>>,
    /// Groups that are empty when the launcher has ended.
    groups: Vec<std::path::PathBuf>,
}

impl Drop for Line {
    fn drop(&mut self) {
        // The reading thread holds the socket too; this ends its read and tells the launcher.
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        cgroups::remove(&self.groups);
    }
}

#[derive(Debug, Default)]
struct Waiting {
    is_gone: bool,
    has_gone: watch::Sender<bool>,
    starting: HashMap<String, oneshot::Sender<Result<Begun, String>>>,
    running: HashMap<String, watch::Sender<Option<Exit>>>,
}

/// A host that was started.
#[derive(Debug, Default)]
struct Begun {
    pid: i32,
    confinement: Confinement,
    work: Option<OwnedFd>,
}

/// A host's process.
#[derive(Debug)]
pub(crate) struct Process {
    id: String,
    begun: Begun,
    exit: watch::Receiver<Option<Exit>>,
    launcher: Launcher,
}

impl Launcher {
    /// Starts the launcher: `program launcher CONFIG`, which must call [`launcher_main`].
    ///
    /// # Errors
    /// The program cannot be started or is no launcher.
    pub fn start(program: &Path, config: &SandboxConfig) -> Result<Self, HostError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            HostError::Launcher(format!("{what}: {error}"))
        };
        let text = serde_json::to_string(config).map_err(|e| failed("its configuration", &e))?;
        let (ours, theirs) = pair().map_err(|e| failed("cannot make a socket pair", &e))?;
        let mut child = std::process::Command::new(program)
            .args(["launcher", &text])
            .stdin(theirs)
            .stdout(std::process::Stdio::null())
            .env_clear()
            .spawn()
            .map_err(|e| failed(&format!("cannot start {}", program.display()), &e))?;
        let mut buffer = Vec::new();
        let abilities = match receive::<Report>(ours.as_raw_fd(), &mut buffer) {
            Ok(Some((Report::Ready { abilities }, _))) => abilities,
            Ok(_) => return Err(failed("the launcher ended at once", &program.display())),
            Err(error) => return Err(failed("the launcher does not answer", &error)),
        };
        if abilities.way == Way::Root {
            readable_by_hosts();
        }
        let socket = Arc::new(ours);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (reader, shared) = (Arc::clone(&socket), Arc::clone(&waiting));
        let reader = std::thread::Builder::new()
            .name("launcher".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                while let Ok(Some((report, fds))) =
                    receive::<Report>(reader.as_raw_fd(), &mut buffer)
                {
                    lock(&shared).take(report, fds);
                }
                lock(&shared).gone();
                let _ = child.wait();
            })
            .map_err(|e| failed("cannot start a thread", &e))?;
        Ok(Self {
            line: Arc::new(Line {
                socket,
                waiting,
                reader: Some(reader),
                groups: abilities.cgroup_folders.clone(),
            }),
            abilities: Arc::new(abilities),
            config: config.clone(),
        })
    }

    /// How hosts are confined on this machine, for people.
    pub fn sandbox(&self) -> Confinement {
        self.abilities.confinement(false, false, None)
    }

    /// Who owns what hosts write, where it is not this account.
    pub(crate) fn owner(&self) -> Option<u32> {
        (self.abilities.way == Way::Root).then_some(self.config.uid)
    }

    /// Folders beside `work/` in which a host may write, and nobody else sees what it does.
    pub(crate) fn temporary(&self) -> &'static [&'static str] {
        match self.abilities.way {
            Way::None => &[],
            Way::User | Way::Root => root::TEMPORARY_FOLDERS,
        }
    }

    /// Whether the folder of a host is limited by nothing but who looks at it.
    pub(crate) fn watches(&self, limits: &Limits) -> bool {
        self.abilities.way == Way::None || limits.on_disk == Some(true)
    }

    /// Whether nothing is to start where less than all is to be had.
    pub(crate) fn is_full(&self) -> bool {
        self.config.mode == SandboxMode::Full
    }

    /// The filter of system calls for what a host starts that gives that name spaces of their own; none where it cannot.
    pub(crate) fn nested_filter(&self, command: &HostCommand) -> Option<Vec<u8>> {
        sandbox::nested_filter(command, &self.abilities)
    }

    /// Starts a host with these as its standard input, output and error, then descriptors 3, 4, …
    pub(crate) async fn spawn(
        &self,
        command: HostCommand,
        fds: Vec<OwnedFd>,
    ) -> Result<Process, HostError> {
        let id = command.id.clone();
        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        {
            let mut waiting = lock(&self.line.waiting);
            if waiting.is_gone {
                return Err(HostError::Launcher("the launcher ended".to_owned()));
            }
            waiting.starting.insert(id.clone(), started);
            waiting.running.insert(id.clone(), ended);
        }
        let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        if let Err(error) = self.send(&Command::Start(Box::new(command)), &numbers) {
            let mut waiting = lock(&self.line.waiting);
            waiting.starting.remove(&id);
            waiting.running.remove(&id);
            return Err(HostError::Launcher(error.to_string()));
        }
        drop(fds);
        // From here on somebody owns it, also when the caller is gone before the answer.
        let mut process = Process {
            id,
            begun: Begun::default(),
            exit,
            launcher: self.clone(),
        };
        match start.await {
            Ok(Ok(begun)) => {
                process.begun = begun;
                Ok(process)
            }
            Ok(Err(error)) => Err(HostError::Start(error)),
            Err(_) => Err(HostError::Launcher("the launcher ended".to_owned())),
        }
    }

    /// Waits until the launcher has ended, which it does before the runner only if something is wrong.
    pub async fn ended(&self) {
        let mut gone = lock(&self.line.waiting).has_gone.subscribe();
        // The sender lives as long as self.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    fn send(&self, command: &Command, fds: &[i32]) -> std::io::Result<()> {
        send(self.line.socket.as_raw_fd(), command, fds)
    }
}

impl Waiting {
    fn take(&mut self, report: Report, fds: Vec<OwnedFd>) {
        match report {
            Report::Ready { .. } => {}
            Report::Started {
                id,
                pid,
                confinement,
            } => {
                if let Some(started) = self.starting.remove(&id) {
                    let _ = started.send(Ok(Begun {
                        pid,
                        confinement,
                        work: fds.into_iter().next(),
                    }));
                }
            }
            Report::Failed { id, error } => {
                self.running.remove(&id);
                if let Some(started) = self.starting.remove(&id) {
                    let _ = started.send(Err(error));
                }
            }
            Report::Exited { id, exit } => {
                if let Some(ended) = self.running.remove(&id) {
                    ended.send_replace(Some(exit));
                }
            }
        }
    }

    fn gone(&mut self) {
        self.is_gone = true;
        self.has_gone.send_replace(true);
        self.starting.clear();
        for (_, ended) in self.running.drain() {
            ended.send_replace(Some(Exit::Signal(nix::libc::SIGKILL)));
        }
    }
}

/// Ends a host's process, whoever has it.
#[derive(Debug, Clone)]
pub(crate) struct Killer {
    id: String,
    launcher: Launcher,
}

impl Killer {
    /// Kills it and all that it has started.
    pub(crate) fn kill(&self) {
        let id = self.id.clone();
        let _ = self.launcher.send(&Command::Kill { id }, &[]);
    }
}

impl Process {
    /// What ends it, whoever has it.
    pub(crate) fn killer(&self) -> Killer {
        Killer {
            id: self.id.clone(),
            launcher: self.launcher.clone(),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.begun.pid
    }

    /// How it is confined.
    pub(crate) fn confinement(&self) -> &Confinement {
        &self.begun.confinement
    }

    /// Its `work/`, if it has no path out here.
    pub(crate) fn take_work(&mut self) -> Option<OwnedFd> {
        self.begun.work.take()
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Waits for its end, and that of all it started.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut exit = self.exit.clone();
        async move { wait(&mut exit).await }
    }

    pub(crate) fn terminate(&self) {
        let _ = self.launcher.send(
            &Command::Terminate {
                id: self.id.clone(),
            },
            &[],
        );
    }

    pub(crate) fn kill(&self) {
        if !self.has_exited() {
            let _ = self.launcher.send(
                &Command::Kill {
                    id: self.id.clone(),
                },
                &[],
            );
        }
    }
}

impl Process {
    /// Kills it, and removes its folder for life when it has ended: what it still writes while it dies must not keep that
    /// alive.
    pub(crate) fn end(&self, folder: PathBuf) {
        self.kill();
        if self.has_exited() || tokio::runtime::Handle::try_current().is_err() {
            let _ = std::fs::remove_dir_all(folder);
            return;
        }
        let exit = self.exited();
        tokio::spawn(async move {
            exit.await;
            let _ = tokio::fs::remove_dir_all(folder).await;
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Root's hosts are another account, which reads copies of modules and inputs: from here on, what this process
/// makes in its closed instance folder can be read by others.
fn readable_by_hosts() {
    use nix::sys::stat::{Mode, umask};
    let others = Mode::S_IRGRP | Mode::S_IXGRP | Mode::S_IROTH | Mode::S_IXOTH;
    let before = umask(Mode::empty());
    umask(before & !others);
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn wait(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    const LOST: Exit = Exit::Signal(nix::libc::SIGKILL);
    exit.wait_for(Option::is_some)
        .await
        .map_or(LOST, |exit| exit.unwrap_or(LOST))
}
