//! The kernel: a child of the bridge that leads a process group of its own.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid};

use crate::kernelspecs::BridgeConfig;

/// A started kernel.
#[derive(Debug)]
pub(super) struct Child {
    process: Mutex<std::process::Child>,
    group: Pid,
}

impl Child {
    /// Starts it. What it prints goes to the error log of the session.
    ///
    /// # Errors
    /// It cannot be started; says which program.
    pub(super) fn start(config: &BridgeConfig, connection_file: &str) -> std::io::Result<Self> {
        let mut words = config
            .argv
            .iter()
            .map(|word| word.replace("{connection_file}", connection_file));
        let program = words.next().unwrap_or_default();
        let process = Command::new(&program)
            .args(words)
            .envs(&config.env)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                let text = format!("cannot start {program} of {}: {error}", config.name);
                std::io::Error::new(error.kind(), text)
            })?;
        let group = Pid::from_raw(i32::try_from(process.id()).unwrap_or_default());
        Ok(Self {
            process: Mutex::new(process),
            group,
        })
    }

    /// How it ended, if it has.
    pub(super) fn has_ended(&self) -> std::io::Result<Option<ExitStatus>> {
        self.lock().try_wait()
    }

    /// Waits for its end.
    pub(super) fn wait(&self) -> std::io::Result<ExitStatus> {
        // Without the lock: it is ended meanwhile.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while let Err(error) = waitid(Id::Pid(self.group), flags) {
            if error != nix::errno::Errno::EINTR {
                return Err(error.into());
            }
        }
        self.lock().wait()
    }

    /// Interrupts it, and what it has started.
    pub(super) fn interrupt(&self) {
        let _ = killpg(self.group, Signal::SIGINT);
    }

    /// Lets it wait, or go on.
    pub(super) fn pause(&self, is_paused: bool) {
        let signal = match is_paused {
            true => Signal::SIGSTOP,
            false => Signal::SIGCONT,
        };
        let _ = killpg(self.group, signal);
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        let _ = killpg(self.group, Signal::SIGKILL);
    }

    fn lock(&self) -> MutexGuard<'_, std::process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends this process as another one has ended.
pub(super) fn end_like(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal().and_then(|one| Signal::try_from(one).ok()) {
        let _ = kill(getpid(), signal);
        // It may be blocked here, or do nothing.
        std::thread::sleep(Duration::from_millis(100));
        std::process::exit(1);
    }
    std::process::exit(status.code().unwrap_or(1))
}
