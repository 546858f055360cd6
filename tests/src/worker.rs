//! A started `runner worker`: what it printed, how it is halted and ended.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;

use crate::process::{Failure, Process};
use crate::runner::Builder;
use crate::scratch::Scratch;

/// How it begins the line that says what it is there for.
const READY: &str = "worker is ready";

/// A started worker with its folders. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    builder: Builder,
    home: Scratch,
    instance: PathBuf,
    process: Process,
}

impl Worker {
    pub(crate) fn start(builder: Builder) -> Self {
        let (home, instance) = builder.folders();
        let process = Self::start_process(builder.command(home.path(), &instance));
        Self {
            process: process.unwrap_or_else(|failure| panic!("{failure}")),
            builder,
            home,
            instance,
        }
    }

    pub(crate) fn start_process(command: Command) -> Result<Process, Failure> {
        let listen = |line: &str| line.starts_with(READY).then_some(());
        let (process, (), _) = Process::start_until(command, READY, listen)?;
        Ok(process)
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its instance folder.
    pub fn instance(&self) -> &Path {
        &self.instance
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Halts it with SIGSTOP; the processes of its plugins go on.
    pub fn halt(&self) {
        self.process.halt();
    }

    /// Lets it go on after [`halt`](Self::halt).
    pub fn go_on(&self) {
        self.process.go_on();
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.process.status()
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Ends it with SIGTERM and waits for it.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Starts it again on the same folder, after it was ended.
    pub fn restart(&mut self) {
        let command = self.builder.command(self.home.path(), &self.instance);
        let process = Self::start_process(command);
        self.process = process.unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Fails the test and shows the log.
    ///
    /// # Panics
    /// Always.
    #[track_caller]
    pub fn fail(&self, problem: &str) -> ! {
        self.process.fail(problem)
    }
}
