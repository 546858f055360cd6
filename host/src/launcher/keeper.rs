//! The keeper of a host: a process between launcher and host that adopts whatever the host leaves behind
//! (it is a subreaper), and ends it all when the host ends, when it is told to, or when the launcher is gone.

use std::ffi::CString;
use std::io::{PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, setsid};

use super::abilities::{Abilities, SandboxConfig};
use super::namespaces::{Account, Counted, Way};
use super::root::{self, View};
use super::said::{self, Said};
use super::wire::{Exit, HostCommand};
use super::{limits, sandbox, tree};

/// What a host is started with, made before the fork.
pub(super) struct Image {
    argv: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
}

impl Image {
    pub(super) fn new(command: &HostCommand) -> Result<Self, String> {
        if command.argv.is_empty() {
            return Err("no program to start".to_owned());
        }
        let text = |text: &[u8]| {
            CString::new(text).map_err(|_| "an argument or variable holds a NUL byte".to_owned())
        };
        let argv = command
            .argv
            .iter()
            .map(|argument| text(argument.as_bytes()));
        let environment = command.environment.iter();
        let environment =
            environment.map(|(name, value)| text(format!("{name}={value}").as_bytes()));
        Ok(Self {
            argv: argv.collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
            directory: text(command.directory.as_os_str().as_bytes())?,
        })
    }
}

/// What hosts are confined with, the same for all.
pub(super) struct Means<'a> {
    pub(super) config: &'a SandboxConfig,
    pub(super) abilities: &'a Abilities,
    pub(super) account: Account,
}

/// Is the keeper, in the forked child of the launcher. Never returns.
pub(super) fn keep(
    command: &HostCommand,
    image: &Image,
    fds: Vec<OwnedFd>,
    report: OwnedFd,
    launcher: Pid,
    (means, view): (&Means<'_>, &View),
) -> ! {
    let started = prepare(command, launcher, (means, view)).and_then(|(work, counted)| {
        Ok((work, start(command, image, &fds, &report, means, counted)?))
    });
    let host = match started {
        Ok((work, host)) => {
            said::say(&report, &Said::Started(work));
            host
        }
        Err(error) => {
            said::say(&report, &Said::Failed(error));
            exit(1);
        }
    };
    drop(fds);
    // Out of the way of what is closed now: everything else that was inherited or made.
    let report = above(&report, REPORT).unwrap_or(report);
    if report.as_raw_fd() == i32::try_from(REPORT).unwrap_or_default() {
        close_between(3, REPORT - 1);
        close_from(REPORT + 1);
    }
    // Descriptor 0 is the launcher's line: its end must be noticed when the launcher ends.
    if let Ok(null) = std::fs::File::open("/dev/null") {
        // SAFETY: plain dup2 in a process of a single thread.
        unsafe { nix::libc::dup2(null.as_raw_fd(), 0) };
    }
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    // The first of a process name space takes all others with it.
    let is_first = means.abilities.way != Way::None;
    let ended = loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(ended) = tree::reap(Some(host)) {
                    if !is_first {
                        tree::kill_descendants(None);
                    }
                    break Some(ended);
                }
            }
            Ok(_) => break tree::kill_descendants(Some(host)),
            Err(_) => {}
        }
    };
    match ended {
        Some(WaitStatus::Exited(_, code)) => said::say(&report, &Said::Ended(Exit::Code(code))),
        Some(WaitStatus::Signaled(_, signal, _)) => {
            said::say(&report, &Said::Ended(Exit::Signal(signal as i32)));
        }
        _ => {}
    }
    exit(0)
}

/// Where the keeper's line to the launcher lies, once the host runs.
const REPORT: usize = 200;

/// Makes the place in which the host is going to live. Answers its `work/`, if nobody else can open it, and with
/// whom its processes are counted.
fn prepare(
    command: &HostCommand,
    launcher: Pid,
    (means, view): (&Means<'_>, &View),
) -> Result<(Option<OwnedFd>, Counted), String> {
    use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
    let way = means.abilities.way;
    // When memory is short, a host goes before the runner.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    means.account.enter(way)?;
    let mut work = None;
    if way != Way::None {
        let owner = (way == Way::Root).then_some(means.config.uid);
        work = root::enter(command, view, sandbox::DEVICES, owner)?;
    }
    let counted = Account::leave(way, means.config.uid)?;
    // A change of the account would take it off again.
    let signal = match way {
        Way::None => Signal::SIGTERM,
        Way::User | Way::Root => Signal::SIGKILL,
    };
    set_pdeathsig(signal).map_err(|e| format!("pdeathsig: {e}"))?;
    if way == Way::None {
        set_child_subreaper(true).map_err(|e| format!("subreaper: {e}"))?;
        if getppid() != launcher {
            return Err("the launcher is gone".to_owned());
        }
    }
    Ok((work, counted))
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the forked child at once, without the parent's exit handlers.
    unsafe { nix::libc::_exit(code) }
}

/// Starts the host; answers when its program was executed.
fn start(
    command: &HostCommand,
    image: &Image,
    fds: &[OwnedFd],
    report: &OwnedFd,
    means: &Means<'_>,
    counted: Counted,
) -> Result<Pid, String> {
    let (error_reader, error_writer) =
        std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let keeper = getpid();
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
            Err(format!("cannot start {}: {error}", command.argv[0]))
        }
        Ok(ForkResult::Child) => {
            // Out of the way of the numbers that the host's descriptors get.
            let mut error_writer = match above(&error_writer, fds.len()) {
                Ok(moved) => PipeWriter::from(moved),
                Err(_) => error_writer,
            };
            let abilities = means.abilities;
            // The launcher learns its number from the kernel, which knows it in all name spaces.
            said::say(report, &Said::Here);
            let error = become_host(command, image, fds, keeper, abilities, counted);
            let _ = error_writer.write_all(error.as_bytes());
            exit(127)
        }
    }
}

/// Turns the forked child into the host. Returns only with an error.
fn become_host(
    command: &HostCommand,
    image: &Image,
    fds: &[OwnedFd],
    keeper: Pid,
    abilities: &Abilities,
    counted: Counted,
) -> String {
    let prepare = || -> Result<(), String> {
        setsid().map_err(|e| format!("setsid: {e}"))?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("pdeathsig: {e}"))?;
        if getppid() != keeper {
            return Err("the keeper is gone".to_owned());
        }
        // None may lie where another one is about to be put.
        let moved: Vec<OwnedFd> = fds
            .iter()
            .map(|fd| above(fd, fds.len()))
            .collect::<Result<_, _>>()?;
        for (fd, number) in moved.iter().zip(0..) {
            // SAFETY: plain dup2; this process is about to be replaced, and what it still uses lies above.
            if unsafe { nix::libc::dup2(fd.as_raw_fd(), number) } < 0 {
                return Err(format!("dup2: {}", std::io::Error::last_os_error()));
            }
        }
        close_on_exec_from(fds.len());
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .map_err(|e| format!("sigprocmask: {e}"))?;
        // SAFETY: the default action needs no handler. Rust programs ignore SIGPIPE, others rely on it.
        let _ = unsafe {
            nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
        };
        nix::unistd::chdir(image.directory.as_c_str())
            .map_err(|e| format!("cannot enter {}: {e}", command.directory.display()))?;
        limits::limit(&command.limits, counted)?;
        sandbox::confine(command, abilities)
    };
    if let Err(error) = prepare() {
        return error;
    }
    match nix::unistd::execve(&image.argv[0], &image.argv, &image.environment) {
        Ok(never) => match never {},
        Err(nix::errno::Errno::ENOENT) => {
            "no such file (or the interpreter in its first line does not exist)".to_owned()
        }
        Err(nix::errno::Errno::ENOEXEC) => "not a program for this machine".to_owned(),
        Err(error) => error.desc().to_owned(),
    }
}

/// A copy of a descriptor with a number not below `count`, closed when the program is executed.
fn above(fd: &impl AsFd, count: usize) -> Result<OwnedFd, String> {
    use nix::fcntl::{FcntlArg, fcntl};
    let lowest = i32::try_from(count).map_err(|error| error.to_string())?;
    let copy = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(lowest))
        .map_err(|error| format!("cannot copy a descriptor: {error}"))?;
    // SAFETY: the kernel has just made it for this process, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Marks every descriptor from `first` on to be closed when the program is executed.
fn close_on_exec_from(first: usize) {
    close_range(first, usize::MAX, nix::libc::CLOSE_RANGE_CLOEXEC);
}

/// Closes every descriptor from `first` on.
fn close_from(first: usize) {
    close_range(first, usize::MAX, 0);
}

/// Closes the descriptors from `first` to `last`.
fn close_between(first: usize, last: usize) {
    close_range(first, last, 0);
}

fn close_range(first: usize, last: usize, flags: u32) {
    let first = u32::try_from(first).unwrap_or(3);
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    // SAFETY: nothing in this process uses these descriptors any more, or they are only marked; see
    // close_range(2).
    unsafe {
        nix::libc::close_range(first, last, flags.cast_signed());
    }
}
