//! A started `runner up`: where it is, what it printed, how it is ended.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;

use crate::http::{Request, Response};
use crate::scratch::Scratch;
use crate::wait::poll;

/// How long a start may take.
const START: Duration = Duration::from_secs(60);
/// How long an end may take.
const END: Duration = Duration::from_secs(30);
/// How `runner up` begins the line with its address.
const READY: &str = "runner is ready at ";
/// Bytes of the log that a failed test shows, from its end.
const SHOWN: usize = 16 * 1024;
/// Bytes of output that are kept.
const KEPT: usize = 4 * 1024 * 1024;

/// How a runner is started.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    plugins: Vec<PathBuf>,
    env: Vec<(String, String)>,
    args: Vec<OsString>,
    instance: Option<PathBuf>,
}

impl Builder {
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
        let home = Scratch::new();
        let instance = self.instance.clone();
        let instance = instance.unwrap_or_else(|| home.path().join("instance"));
        let process = Process::start(self.command(home.path(), &instance));
        let process = process.unwrap_or_else(|failure| panic!("{failure}"));
        Runner {
            builder: self,
            home,
            instance,
            process,
        }
    }

    /// Starts it and expects it to end by itself soon.
    ///
    /// # Panics
    /// If it becomes ready or does not end.
    pub fn expect_refusal(self) -> Refusal {
        let home = Scratch::new();
        let instance = self.instance.clone();
        let instance = instance.unwrap_or_else(|| home.path().join("instance"));
        match Process::start(self.command(home.path(), &instance)) {
            Ok(_) => panic!("runner started where it had to refuse"),
            Err(failure) => Refusal {
                status: failure.status.unwrap_or_else(|| panic!("{failure}")),
                stderr: failure.stderr,
            },
        }
    }

    fn command(&self, home: &Path, instance: &Path) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["up", "--port", "0", "--instance-folder"])
            .arg(instance)
            .current_dir(home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home);
        if !self.plugins.is_empty() {
            let folders: Vec<_> = self.plugins.iter().map(|path| path.as_os_str()).collect();
            command
                .arg("--plugin-folders")
                .arg(folders.join(":".as_ref()));
        }
        // Without it the coverage of what the tests run is lost.
        if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", profile);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(&self.args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
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
    process: Process,
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
        self.process.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.process.address.port()
    }

    /// The token that it printed.
    pub fn token(&self) -> &str {
        &self.process.token
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
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
        self.process.start_time
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.process.stderr.get()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.process.stdout.get()
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

    /// Waits until the list of plugins is answered.
    ///
    /// # Panics
    /// If it is not in time.
    pub fn wait_for_plugins(&self) {
        let listed = poll(START, || {
            let answer = Request::get("/plugins/").send(self.address()).ok()?;
            (answer.status == 200).then_some(())
        });
        listed.unwrap_or_else(|| self.fail("no list of plugins"));
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill9(&mut self) {
        let _ = self.process.child.kill();
        let _ = self.process.child.wait();
    }

    /// Ends it with SIGTERM and waits for it.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.pid().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let ended = poll(END, || self.process.child.try_wait().ok().flatten());
        ended.unwrap_or_else(|| self.fail(&format!("it did not end within {END:?} of SIGTERM")))
    }

    /// Starts it again on the same folder, after it was ended; its port is another one.
    pub fn restart(&mut self) {
        self.restart_only();
        self.wait_for_plugins();
    }

    /// As [`restart`](Self::restart), not waiting for its plugins.
    pub fn restart_only(&mut self) {
        let command = self.builder.command(self.home.path(), &self.instance);
        let process = Process::start(command);
        self.process = process.unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Fails the test and shows the log.
    ///
    /// # Panics
    /// Always.
    #[track_caller]
    pub fn fail(&self, problem: &str) -> ! {
        panic!(
            "{problem}\n--- stderr of the runner:\n{}",
            end_of(&self.stderr())
        )
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.kill9();
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    address: SocketAddr,
    token: String,
    start_time: Duration,
    stdout: Output,
    stderr: Output,
}

/// A process that did not become ready.
struct Failure {
    problem: String,
    status: Option<ExitStatus>,
    stderr: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = end_of(&self.stderr);
        write!(f, "{}\n--- stderr of the runner:\n{end}", self.problem)
    }
}

impl Process {
    fn start(command: Command) -> Result<Self, Failure> {
        let begin = Instant::now();
        let mut child = spawn(command);
        let (lines, heard) = channel();
        let stdout = Output::collect(child.stdout.take(), Some(lines));
        let stderr = Output::collect(child.stderr.take(), None);
        match wait_until_ready(&heard) {
            Ok((address, token, at)) => Ok(Self {
                child,
                address,
                token,
                start_time: at - begin,
                stdout,
                stderr,
            }),
            Err(mut problem) => {
                let status = poll(Duration::from_secs(2), || child.try_wait().ok().flatten());
                let _ = child.kill();
                let _ = child.wait();
                // What it said last may still be on its way.
                poll(Duration::from_secs(1), || stderr.ended().then_some(()));
                if let Some(status) = status {
                    let _ = write!(problem, "; it ended with {status}");
                }
                Err(Failure {
                    problem,
                    status,
                    stderr: stderr.get(),
                })
            }
        }
    }
}

fn wait_until_ready(lines: &Receiver<String>) -> Result<(SocketAddr, String, Instant), String> {
    let url = Regex::new(r"http://(127\.0\.0\.1:\d+)/").expect("a valid expression");
    let token_url = Regex::new(r"/modules/\?token=(\S+)").expect("a valid expression");
    let end = Instant::now() + START;
    let (mut address, mut token) = (None, None);
    loop {
        if let (Some((address, at)), Some(token)) = (address, &token) {
            return Ok((address, String::clone(token), at));
        }
        let left = end.saturating_duration_since(Instant::now());
        let line = match lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let missing = if address.is_none() {
                    READY
                } else {
                    "/modules/?token="
                };
                return Err(format!("runner did not print {missing:?} within {START:?}"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err("runner closed its output before it was ready".to_owned());
            }
        };
        if address.is_none()
            && line.starts_with(READY)
            && let Some(found) = url.captures(&line)
        {
            let parsed = found[1].parse().map_err(|e| format!("{line:?}: {e}"))?;
            address = Some((parsed, Instant::now()));
        }
        if let Some(found) = token_url.captures(&line) {
            token = Some(found[1].to_owned());
        }
    }
}

/// What a process writes, collected by a thread.
#[derive(Debug, Clone, Default)]
struct Output(Arc<Mutex<(String, bool)>>);

impl Output {
    fn collect(stream: Option<impl Read + Send + 'static>, lines: Option<Sender<String>>) -> Self {
        let output = Self::default();
        let Some(stream) = stream else {
            return output;
        };
        let kept = output.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                kept.push(&text);
                if let Some(lines) = &lines {
                    let _ = lines.send(text.trim_end().to_owned());
                }
                line.clear();
            }
            kept.0.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        });
        output
    }

    fn push(&self, line: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0.len() > KEPT {
            kept.0 = end_of(&kept.0).to_owned();
        }
        kept.0.push_str(line);
    }

    fn get(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    fn ended(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Where the binary is: `RUNNER_BIN`, else beside the tests' own folder in the target directory.
///
/// # Panics
/// If there is none.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let path = match std::env::var_os("RUNNER_BIN") {
            Some(path) => PathBuf::from(path),
            None => {
                let test = std::env::current_exe().expect("a test knows its executable");
                let profile = test.parent().and_then(Path::parent);
                profile
                    .expect("tests lie in target/<profile>/deps")
                    .join("runner")
            }
        };
        assert!(
            path.is_file(),
            "no runner at {}: build it with `cargo build --workspace` or set RUNNER_BIN",
            path.display()
        );
        path
    })
}

type Order = (Command, Sender<std::io::Result<Child>>);

/// Starts a process that is killed when this one ends, however it ends.
fn spawn(command: Command) -> Child {
    // The signal comes when the *thread* that started the process ends. Threads of tests end with
    // their test, but an instance may be shared, so one thread that never ends starts them all.
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                // SAFETY: between fork and exec only prctl is called, which is async-signal-safe
                // and touches no memory of the parent.
                unsafe {
                    command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
                }
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = channel();
    spawner
        .send((command, answer))
        .expect("the spawner never ends");
    let child = child.recv().expect("the spawner always answers");
    child.unwrap_or_else(|e| panic!("cannot start {}: {e}", binary().display()))
}
