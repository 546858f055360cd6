//! The launcher: a small, single-threaded process that starts hosts, each with a keeper between. It lives as
//! long as the runner: when the line to it closes, it ends all hosts.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, setsid};

use super::keeper::{Image, keep, parse_report};
use super::wire::{Command, Exit, HostCommand, Report, receive, send};
use super::{sandbox, tree};

/// Runs the launcher on the line that is its standard input, until the runner is gone.
///
/// # Errors
/// What the system refused at the start; later errors are reported on the line.
pub fn launcher_main() -> std::io::Result<()> {
    let line = std::io::stdin().as_fd().try_clone_to_owned()?;
    // What a terminal sends is for the runner, which then shuts the hosts down in order.
    let _ = setsid();
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut launcher = Launcher {
        line,
        hosts: HashMap::new(),
    };
    launcher.report(&Report::Ready {
        sandbox: sandbox::describe(),
    });
    let mut buffer = Vec::new();
    loop {
        let mut ready = [
            PollFd::new(launcher.line.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_command = ready[0].revents().is_some_and(|events| !events.is_empty());
        while let Ok(Some(_)) = signals.read_signal() {}
        launcher.reap();
        if has_command {
            match receive::<Command>(launcher.line.as_raw_fd(), &mut buffer) {
                Ok(Some((command, fds))) => launcher.obey(command, fds),
                Ok(None) | Err(_) => break,
            }
        }
    }
    tree::kill_descendants(None);
    Ok(())
}

struct Launcher {
    line: OwnedFd,
    /// Living hosts by the pid of their keeper.
    hosts: HashMap<Pid, Kept>,
}

struct Kept {
    id: String,
    /// The host itself, which leads its process group.
    host: Pid,
}

impl Launcher {
    fn report(&self, report: &Report) {
        // A runner that is gone is noticed where commands are received.
        let _ = send(self.line.as_raw_fd(), report, &[]);
    }

    fn obey(&mut self, command: Command, fds: Vec<OwnedFd>) {
        match command {
            Command::Start(command) => match start(&command, fds) {
                Ok((keeper, host)) => {
                    let id = command.id;
                    self.hosts.insert(
                        keeper,
                        Kept {
                            id: id.clone(),
                            host,
                        },
                    );
                    self.report(&Report::Started {
                        id,
                        pid: host.as_raw(),
                    });
                }
                Err(error) => self.report(&Report::Failed {
                    id: command.id,
                    error,
                }),
            },
            Command::Terminate { id } => {
                if let Some((_, kept)) = self.find(&id) {
                    let _ = killpg(kept.host, Signal::SIGTERM);
                }
            }
            Command::Kill { id } => {
                if let Some((keeper, _)) = self.find(&id) {
                    let _ = kill(*keeper, Signal::SIGTERM);
                }
            }
        }
    }

    fn find(&self, id: &str) -> Option<(&Pid, &Kept)> {
        self.hosts.iter().find(|(_, kept)| kept.id == id)
    }

    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(kept) = self.hosts.remove(&pid) {
                self.report(&Report::Exited { id: kept.id, exit });
            }
        }
    }
}

/// Starts a host with its keeper; answers both when the host's program was executed.
fn start(command: &HostCommand, fds: Vec<OwnedFd>) -> Result<(Pid, Pid), String> {
    if fds.len() < 3 {
        return Err(format!("{} descriptors instead of 3 or more", fds.len()));
    }
    let image = Image::new(command)?;
    let (reader, report) =
        std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let launcher = getpid();
    // SAFETY: this process has a single thread, so the child may do anything the parent could.
    match unsafe { fork() } {
        Err(error) => Err(format!("cannot fork: {error}")),
        Ok(ForkResult::Child) => keep(command, &image, fds, report, launcher),
        Ok(ForkResult::Parent { child }) => {
            drop((fds, report));
            let said = std::io::read_to_string(reader).unwrap_or_default();
            parse_report(&said)
                .map(|host| (child, host))
                .inspect_err(|_| {
                    let _ = waitpid(child, None);
                })
        }
    }
}
