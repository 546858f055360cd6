//! A started program: what it says, signals to it, and that it does not outlive the tests.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::poll;

/// How long a start may take.
pub(crate) const START: Duration = Duration::from_secs(60);
/// How long an end may take.
const END: Duration = Duration::from_secs(30);
/// Bytes of the log that a failed test shows, from its end.
const SHOWN: usize = 16 * 1024;
/// Bytes of output that are kept.
const KEPT: usize = 4 * 1024 * 1024;

/// A process with what it wrote. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// A process that did not become ready.
pub(crate) struct Failure {
    problem: String,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stderr: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = end_of(&self.stderr);
        write!(f, "{}\n--- stderr:\n{end}", self.problem)
    }
}

impl Process {
    /// Starts a program. Standard output and error are collected if they are piped.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: Command) -> Self {
        Self::start_heard(command).0
    }

    /// Starts a program and hears its lines on standard output until the listener has all that it
    /// wants, told together with the moment of the last line.
    pub(crate) fn start_until<T>(
        command: Command,
        awaited: &str,
        mut listen: impl FnMut(&str) -> Option<T>,
    ) -> Result<(Self, T, Duration), Failure> {
        let begin = Instant::now();
        let (mut process, heard) = Self::start_heard(command);
        let end = begin + START;
        let mut problem = loop {
            let left = end.saturating_duration_since(Instant::now());
            match heard.recv_timeout(left) {
                Ok(line) => {
                    if let Some(found) = listen(&line) {
                        return Ok((process, found, begin.elapsed()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    break format!(
                        "{} did not print {awaited:?} within {START:?}",
                        process.name
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    break format!("{} closed its output before it was ready", process.name);
                }
            }
        };
        let status = poll(Duration::from_secs(2), || process.status());
        process.kill9();
        // What it said last may still be on its way.
        poll(Duration::from_secs(1), || {
            process.stderr.ended().then_some(())
        });
        if let Some(status) = status {
            let _ = write!(problem, "; it ended with {status}");
        }
        Err(Failure {
            problem,
            status,
            stderr: process.stderr(),
        })
    }

    fn start_heard(command: Command) -> (Self, Receiver<String>) {
        let name = command.get_program().to_string_lossy().into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let mut child = spawn(command);
        let (lines, heard) = channel();
        let stdout = Output::collect(child.stdout.take(), Some(lines));
        let stderr = Output::collect(child.stderr.take(), None);
        let process = Self {
            name,
            child,
            stdout,
            stderr,
        };
        (process, heard)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.get()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.get()
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid().cast_signed()), signal);
    }

    /// Halts it; nothing that it holds is released.
    pub fn halt(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`halt`](Self::halt).
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it with SIGTERM and waits for it.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let ended = poll(END, || self.status());
        ended.unwrap_or_else(|| self.fail(&format!("it did not end within {END:?} of SIGTERM")))
    }

    /// Fails the test and shows what the process said last.
    ///
    /// # Panics
    /// Always.
    #[track_caller]
    pub fn fail(&self, problem: &str) -> ! {
        let said = self.stderr();
        panic!("{problem}\n--- stderr of {}:\n{}", self.name, end_of(&said))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        // Shown with the test that failed; of several processes any may know why.
        if std::thread::panicking() {
            let said = self.stderr();
            println!(
                "--- stderr of {} {}:\n{}",
                self.name,
                self.pid(),
                end_of(&said)
            );
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
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.clone()
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
    let name = command.get_program().to_string_lossy().into_owned();
    let (answer, child) = channel();
    spawner
        .send((command, answer))
        .expect("the spawner never ends");
    let child = child.recv().expect("the spawner always answers");
    child.unwrap_or_else(|e| panic!("cannot start {name}: {e}"))
}
