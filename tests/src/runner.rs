//! A started `runner up` or `runner server`: where it is, what it printed, how it is ended.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use regex::Regex;

use crate::http::{Request, Response};
use crate::process::{Failure, Process, START};
use crate::scratch::Scratch;
use crate::wait::poll;
use crate::worker::Worker;

pub use crate::process::binary;

/// How it begins the line with its address.
const READY: &str = "runner is ready at ";

/// Which command is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Up,
    Server,
    Worker,
}

/// How a runner is started.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    role: Role,
    plugins: Vec<PathBuf>,
    env: Vec<(String, String)>,
    args: Vec<OsString>,
    instance: Option<PathBuf>,
    account: Option<u32>,
}

impl Builder {
    /// Starts `runner server` instead of `runner up`.
    pub fn server(mut self) -> Self {
        self.role = Role::Server;
        self
    }

    /// Starts `runner worker` instead of `runner up`; see [`start_worker`](Self::start_worker).
    pub fn worker(mut self) -> Self {
        self.role = Role::Worker;
        self
    }

    /// Adds plugin folders: paths in the repository, or absolute ones.
    pub fn plugins<P: AsRef<Path>>(mut self, folders: impl IntoIterator<Item = P>) -> Self {
        let root = crate::repository("");
        self.plugins
            .extend(folders.into_iter().map(|folder| root.join(folder)));
        self
    }

    /// Sets an environment variable. It has no others but `PATH` and `HOME`.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts it as this account, which owns its home. Only root can.
    pub fn account(mut self, uid: u32) -> Self {
        self.account = Some(uid);
        self
    }

    /// Uses this instance folder instead of a fresh one.
    pub fn instance(mut self, path: impl Into<PathBuf>) -> Self {
        self.instance = Some(path.into());
        self
    }

    /// Starts it and waits until its plugins are described.
    ///
    /// # Panics
    /// If it is not ready in time.
    pub fn start(self) -> Runner {
        let runner = self.start_only();
        runner.wait_for_plugins();
        runner
    }

    /// Starts it and waits until it says that it is ready; its plugins may not be.
    ///
    /// # Panics
    /// If it is not ready in time.
    pub fn start_only(self) -> Runner {
        let (home, instance) = self.folders();
        let started = Started::new(self.command(home.path(), &instance));
        let started = started.unwrap_or_else(|failure| panic!("{failure}"));
        Runner {
            builder: self,
            home,
            instance,
            started,
        }
    }

    /// Starts `runner worker` and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it is not ready in time.
    pub fn start_worker(self) -> Worker {
        Worker::start(self.worker())
    }

    /// Starts it and expects it to end by itself soon.
    ///
    /// # Panics
    /// If it becomes ready or does not end.
    pub fn expect_refusal(self) -> Refusal {
        let (home, instance) = self.folders();
        let command = self.command(home.path(), &instance);
        let started = match self.role {
            Role::Worker => Worker::start_process(command).map(drop),
            Role::Up | Role::Server => Started::new(command).map(drop),
        };
        match started {
            Ok(()) => panic!("runner started where it had to refuse"),
            Err(failure) => Refusal {
                status: failure.status.unwrap_or_else(|| panic!("{failure}")),
                stderr: failure.stderr,
            },
        }
    }

    /// A home of its own, and the instance folder, in it unless it was said.
    pub(crate) fn folders(&self) -> (Scratch, PathBuf) {
        let home = Scratch::new();
        let instance = self.instance.clone();
        let instance = instance.unwrap_or_else(|| home.path().join("instance"));
        (home, instance)
    }

    pub(crate) fn command(&self, home: &Path, instance: &Path) -> Command {
        let mut command = command(home);
        match self.role {
            Role::Up => command.args(["up", "--port", "0"]),
            Role::Server => command.args(["server", "--port", "0"]),
            Role::Worker => command.arg("worker"),
        };
        command.arg("--instance-folder").arg(instance);
        if !self.plugins.is_empty() {
            let folders: Vec<_> = self.plugins.iter().map(|path| path.as_os_str()).collect();
            command
                .arg("--plugin-folders")
                .arg(folders.join(":".as_ref()));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(&self.args);
        if let Some(account) = self.account {
            std::os::unix::fs::chown(home, Some(account), Some(account))
                .expect("only root can start a runner as another account");
            command.uid(account).gid(account);
        }
        command
    }
}

/// The binary, with nothing in its environment but what it needs, and its output collected.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .current_dir(home)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home);
    // Without it the coverage of what the tests run is lost.
    if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", profile);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A runner that would not start.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said.
    pub stderr: String,
}

/// A started runner with its folders. Dropping it kills it.
#[derive(Debug)]
pub struct Runner {
    builder: Builder,
    home: Scratch,
    instance: PathBuf,
    started: Started,
}

impl Runner {
    /// What can be said before a start.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The URL of its root, without a slash at the end.
    pub fn base(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.started.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.started.address.port()
    }

    /// The token that it printed.
    pub fn token(&self) -> &str {
        &self.started.token
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.started.process.pid()
    }

    /// Its instance folder.
    pub fn instance(&self) -> &Path {
        &self.instance
    }

    /// Its working directory and home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Time from its start to the line that says it is ready.
    pub fn start_time(&self) -> Duration {
        self.started.start_time
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.started.process.stderr()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.started.process.stdout()
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If there is no response.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        let answer = request.send(self.address());
        answer.unwrap_or_else(|e| self.fail(&format!("{} {}: {e}", request.method, request.target)))
    }

    /// Sends a request with the token, and JSON if there is some.
    ///
    /// # Panics
    /// If there is no response.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, body: Option<&serde_json::Value>) -> Response {
        let bearer = format!("Bearer {}", self.token());
        let request = Request::new(method, target).header("Authorization", &bearer);
        self.send(&match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    /// Waits until the list of plugins is answered.
    ///
    /// # Panics
    /// If it is not in time.
    pub fn wait_for_plugins(&self) {
        let listed = poll(START, || {
            // It may be one that asks who looks.
            let bearer = format!("Bearer {}", self.token());
            let request = Request::get("/plugins/").header("Authorization", &bearer);
            let answer = request.send(self.address()).ok()?;
            (answer.status == 200).then_some(())
        });
        listed.unwrap_or_else(|| self.fail("no list of plugins"));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.started.process.signal(signal);
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill9(&mut self) {
        self.started.process.kill9();
    }

    /// Ends it with SIGTERM and waits for it.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.started.process.terminate()
    }

    /// Starts it again on the same folder, after it was ended; its port is another one.
    pub fn restart(&mut self) {
        self.restart_only();
        self.wait_for_plugins();
    }

    /// As [`restart`](Self::restart), not waiting for its plugins.
    pub fn restart_only(&mut self) {
        let command = self.builder.command(self.home.path(), &self.instance);
        let started = Started::new(command);
        self.started = started.unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Fails the test and shows the log.
    ///
    /// # Panics
    /// Always.
    #[track_caller]
    pub fn fail(&self, problem: &str) -> ! {
        self.started.process.fail(problem)
    }
}

#[derive(Debug)]
struct Started {
    process: Process,
    address: SocketAddr,
    token: String,
    start_time: Duration,
}

impl Started {
    fn new(command: Command) -> Result<Self, Failure> {
        let url = Regex::new(r"http://(127\.0\.0\.1:\d+)/").expect("a valid expression");
        let token_url = Regex::new(r"/modules/\?token=(\S+)").expect("a valid expression");
        let mut address: Option<SocketAddr> = None;
        let listen = |line: &str| {
            if line.starts_with(READY)
                && let Some(found) = url.captures(line)
            {
                address = found[1].parse().ok();
            }
            let token = token_url.captures(line)?[1].to_owned();
            Some((address?, token))
        };
        let awaited = format!("{READY}…\" and \"/modules/?token=");
        let (process, (address, token), start_time) =
            Process::start_until(command, &awaited, listen)?;
        Ok(Self {
            process,
            address,
            token,
            start_time,
        })
    }
}
