//! The launcher: a small, single-threaded process that starts hosts, confines them, and ends everything
//! that they started. It lives as long as the runner: when the line to it closes, it kills all hosts.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, setsid};

use super::sandbox;
use super::wire::{Command, Exit, HostCommand, Report, receive, send};

/// The variable that marks the processes of a host.
pub(crate) const HOST_VARIABLE: &str = "RUNNER_HOST";

/// Runs the launcher on the line that is its standard input, until the runner is gone.
///
/// # Errors
/// What the system refused at the start; later errors are reported on the line.
pub fn launcher_main() -> std::io::Result<()> {
    let line = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    // A Ctrl-C on the terminal is for the runner, which then shuts the hosts down in order.
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
    launcher.kill_all();
    Ok(())
}

struct Launcher {
    line: OwnedFd,
    /// Living hosts by the pid of their first process, which leads their session.
    hosts: HashMap<Pid, String>,
}

impl Launcher {
    fn report(&self, report: &Report) {
        // A runner that is gone is noticed where commands are received.
        let _ = send(self.line.as_raw_fd(), report, &[]);
    }

    fn obey(&mut self, command: Command, fds: Vec<OwnedFd>) {
        match command {
            Command::Start(command) => match start(&command, &fds) {
                Ok(pid) => {
                    self.hosts.insert(pid, command.id.clone());
                    self.report(&Report::Started {
                        id: command.id,
                        pid: pid.as_raw(),
                    });
                }
                Err(error) => self.report(&Report::Failed {
                    id: command.id,
                    error,
                }),
            },
            Command::Terminate { id } => {
                if let Some(pid) = self.pid(&id) {
                    let _ = killpg(pid, Signal::SIGTERM);
                }
            }
            Command::Kill { id } => {
                if let Some(pid) = self.pid(&id) {
                    kill_tree(pid, &id);
                }
            }
        }
    }

    fn pid(&self, id: &str) -> Option<Pid> {
        self.hosts
            .iter()
            .find(|(_, host)| *host == id)
            .map(|(pid, _)| *pid)
    }

    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(id) = self.hosts.remove(&pid) {
                kill_tree(pid, &id);
                self.report(&Report::Exited { id, exit });
            }
        }
    }

    fn kill_all(&self) {
        for (pid, id) in &self.hosts {
            kill_tree(*pid, id);
        }
    }
}

/// Kills a host, its session, its descendants, and whatever else carries its mark, until nothing is left.
fn kill_tree(leader: Pid, id: &str) {
    // Each round can only find what was forked while the last one was killing.
    for _ in 0..50 {
        let doomed = processes_of(leader, id);
        if doomed.is_empty() {
            return;
        }
        for pid in doomed {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::yield_now();
    }
}

fn processes_of(leader: Pid, id: &str) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return vec![leader];
    };
    let all: Vec<(Pid, Stat)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter_map(|pid| Some((pid, Stat::of(pid)?)))
        .filter(|(_, stat)| !stat.is_zombie)
        .collect();
    let mark = format!("{HOST_VARIABLE}={id}");
    let mut members: HashSet<Pid> = HashSet::from([leader]);
    let me = getpid();
    for (pid, stat) in &all {
        let adopted = stat.parent == me && *pid != leader;
        if stat.session == leader || (adopted && has_variable(*pid, &mark)) {
            members.insert(*pid);
        }
    }
    let mut count = 0;
    while count != members.len() {
        count = members.len();
        for (pid, stat) in &all {
            if members.contains(&stat.parent) {
                members.insert(*pid);
            }
        }
    }
    all.into_iter()
        .map(|(pid, _)| pid)
        .filter(|pid| members.contains(pid))
        .collect()
}

struct Stat {
    parent: Pid,
    session: Pid,
    is_zombie: bool,
}

impl Stat {
    /// From `/proc/<pid>/stat`, see proc(5). The name, in parentheses, may hold anything.
    fn of(pid: Pid) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self {
            parent: Pid::from_raw(parent),
            session: Pid::from_raw(session),
            is_zombie: state == "Z" || state == "X",
        })
    }
}

fn has_variable(pid: Pid, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable == mark.as_bytes())
}

/// Starts a host; answers when its program was executed.
fn start(command: &HostCommand, fds: &[OwnedFd]) -> Result<Pid, String> {
    let program = command.argv.first().ok_or("no program to start")?;
    if fds.len() != 3 {
        return Err(format!("{} descriptors instead of 3", fds.len()));
    }
    let text = |text: &[u8]| {
        CString::new(text).map_err(|_| "an argument or variable holds a NUL byte".to_owned())
    };
    let argv: Vec<CString> = command
        .argv
        .iter()
        .map(|a| text(a.as_bytes()))
        .collect::<Result<_, _>>()?;
    let environment: Vec<CString> = command
        .environment
        .iter()
        .map(|(name, value)| text(format!("{name}={value}").as_bytes()))
        .collect::<Result<_, _>>()?;
    let directory = text(command.directory.as_os_str().as_bytes())?;
    let (error_reader, error_writer) =
        std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let launcher = getpid();
    // SAFETY: this process has a single thread, so the child may do anything the parent could.
    match unsafe { fork() } {
        Err(error) => Err(format!("cannot fork: {error}")),
        Ok(ForkResult::Parent { child }) => {
            drop(error_writer);
            let error = std::io::read_to_string(error_reader).unwrap_or_default();
            if error.is_empty() {
                return Ok(child);
            }
            let _ = waitpid(child, None);
            Err(format!("cannot start {program}: {error}"))
        }
        Ok(ForkResult::Child) => {
            let error = become_host(command, fds, &argv, &environment, &directory, launcher);
            use std::io::Write;
            let _ = (&error_writer).write_all(error.as_bytes());
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { nix::libc::_exit(127) }
        }
    }
}

/// Turns the forked child into the host. Returns only with an error.
fn become_host(
    command: &HostCommand,
    fds: &[OwnedFd],
    argv: &[CString],
    environment: &[CString],
    directory: &CString,
    launcher: Pid,
) -> String {
    let prepare = || -> Result<(), String> {
        setsid().map_err(|e| format!("setsid: {e}"))?;
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("pdeathsig: {e}"))?;
        if nix::unistd::getppid() != launcher {
            return Err("the launcher is gone".to_owned());
        }
        for (fd, number) in fds.iter().zip(0..) {
            // SAFETY: plain dup2; this process is about to be replaced and holds no other use of 0..2.
            if unsafe { nix::libc::dup2(fd.as_raw_fd(), number) } < 0 {
                return Err(format!("dup2: {}", std::io::Error::last_os_error()));
            }
        }
        close_others();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .map_err(|e| format!("sigprocmask: {e}"))?;
        // SAFETY: the default action needs no handler. Rust programs ignore SIGPIPE, others rely on it.
        let _ = unsafe {
            nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
        };
        nix::unistd::chdir(directory.as_c_str())
            .map_err(|e| format!("cannot enter {}: {e}", directory.to_string_lossy()))?;
        sandbox::limit(&command.limits)?;
        sandbox::confine(command)
    };
    if let Err(error) = prepare() {
        return error;
    }
    match nix::unistd::execve(&argv[0], argv, environment) {
        Ok(never) => match never {},
        Err(nix::errno::Errno::ENOENT) => {
            "no such file (or the interpreter in its first line does not exist)".to_owned()
        }
        Err(nix::errno::Errno::ENOEXEC) => "not a program for this machine".to_owned(),
        Err(error) => error.desc().to_owned(),
    }
}

/// Marks every descriptor but 0, 1 and 2 to be closed when the program is executed.
fn close_others() {
    // SAFETY: only sets flags on descriptors of this process, see close_range(2).
    #[cfg(target_os = "linux")]
    unsafe {
        nix::libc::close_range(3, u32::MAX, nix::libc::CLOSE_RANGE_CLOEXEC as i32);
    }
}
