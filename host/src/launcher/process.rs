//! The launcher: a small, single-threaded process that starts hosts, each with a keeper between. It lives as
//! long as the runner: when the line to it closes, it ends all hosts.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, setsid};

use super::abilities::{Abilities, SandboxConfig, SandboxMode};
use super::keeper::{Image, Means, keep};
use super::namespaces::{self, Account, Way};
use super::root::View;
use super::said::{self, Said};
use super::wire::{Command, Exit, HostCommand, Report, receive, send};
use super::{cgroups, sandbox, seccomp, tree};

/// Runs the launcher on the line that is its standard input, until the runner is gone. `config` is the sandbox, as
/// [`super::Launcher::start`] hands it over.
///
/// # Errors
/// What the system refused at the start; later errors are reported on the line.
pub fn launcher_main(config: &str) -> std::io::Result<()> {
    let config: SandboxConfig = serde_json::from_str(config)?;
    let line = std::io::stdin().as_fd().try_clone_to_owned()?;
    // What a terminal sends is for the runner, which then shuts the hosts down in order.
    let _ = setsid();
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut launcher = Launcher::new(line, config);
    launcher.report(
        &Report::Ready {
            abilities: launcher.abilities.clone(),
        },
        None,
    );
    launcher.join_groups();
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
    config: SandboxConfig,
    abilities: Abilities,
    account: Account,
    /// What every host is shown.
    system: View,
    groups: cgroups::Groups,
    /// Living hosts by the pid of their keeper.
    hosts: HashMap<Pid, Kept>,
}

struct Kept {
    id: String,
    /// The host itself, which leads its process group.
    host: Pid,
    /// What the keeper says.
    said: OwnedFd,
    was_killed: bool,
}

impl Launcher {
    fn new(line: OwnedFd, config: SandboxConfig) -> Self {
        let mut launcher = Self {
            line,
            config,
            abilities: Abilities::default(),
            account: Account::own(),
            system: sandbox::system_view(),
            groups: cgroups::Groups::default(),
            hosts: HashMap::new(),
        };
        launcher.abilities = Abilities {
            landlock: sandbox::landlock_version(),
            seccomp: seccomp::is_there(),
            ..Abilities::default()
        };
        if launcher.config.mode == SandboxMode::Basic {
            let why = "the setting SANDBOX is basic".to_owned();
            launcher.abilities.no_namespaces.clone_from(&why);
            launcher.abilities.cgroup = Err(why);
            return launcher;
        }
        launcher.try_namespaces();
        let made = cgroups::Groups::make(launcher.config.memory);
        launcher.abilities.cgroup = made.map(|groups| {
            launcher.abilities.cgroup_folders = groups.folders();
            launcher.groups = groups;
            launcher.groups.to_string()
        });
        launcher
    }

    /// Finds out how hosts get name spaces, by starting one.
    fn try_namespaces(&mut self) {
        let ways = match nix::unistd::geteuid().is_root() {
            true => &[Way::Root, Way::User][..],
            false => &[Way::User],
        };
        let mut problem = String::new();
        for way in ways {
            self.abilities.way = *way;
            match self.trial() {
                Ok(()) => {
                    self.abilities.no_namespaces.clear();
                    return;
                }
                Err(error) if problem.is_empty() => problem = error,
                Err(_) => {}
            }
        }
        self.abilities.way = Way::None;
        self.abilities.no_namespaces = problem;
    }

    fn trial(&self) -> Result<(), String> {
        let trial = |error: std::io::Error| format!("cannot make a folder to try them in: {error}");
        let folder = std::env::temp_dir().join(format!("runner-launcher-{}", getpid()));
        std::fs::create_dir(&folder).map_err(trial)?;
        let made = ["in", "work", "root"]
            .iter()
            .try_for_each(|name| std::fs::create_dir(folder.join(name)).map_err(trial));
        let null = || {
            std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
        };
        let null = || null().map(OwnedFd::from).map_err(trial);
        // That a program was started says all.
        let tried = made.and_then(|()| {
            let exe = std::env::current_exe().map_err(trial)?;
            let command = HostCommand {
                argv: vec![exe.to_string_lossy().into_owned(), "--version".to_owned()],
                directory: "/".into(),
                readable: vec![exe],
                folder: folder.clone(),
                root: folder.join("root"),
                ..HostCommand::default()
            };
            self.start(&command, vec![null()?, null()?, null()?])
        });
        let _ = std::fs::remove_dir_all(&folder);
        let (keeper, _, _) = tried?;
        let _ = kill(keeper, Signal::SIGKILL);
        let _ = waitpid(keeper, None);
        Ok(())
    }

    /// Hosts inherit the groups of the launcher: to enter one costs ten milliseconds, which no host has.
    fn join_groups(&mut self) {
        if let Err(error) = self.groups.join() {
            self.abilities.cgroup = Err(error);
        }
    }

    fn report(&self, report: &Report, fd: Option<&OwnedFd>) {
        let fds: Vec<i32> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        // A runner that is gone is noticed where commands are received.
        let _ = send(self.line.as_raw_fd(), report, &fds);
    }

    fn obey(&mut self, command: Command, fds: Vec<OwnedFd>) {
        match command {
            Command::Start(command) => {
                let is_full = self.config.mode == SandboxMode::Full;
                let lacks = is_full.then(|| self.abilities.lacks()).flatten();
                let started = match lacks {
                    Some(lacks) => Err(format!("SANDBOX is full, and this machine lacks {lacks}")),
                    None => self.start(&command, fds),
                };
                let id = command.id.clone();
                match started {
                    Ok((keeper, kept, work)) => {
                        let pid = kept.host.as_raw();
                        self.hosts.insert(keeper, kept);
                        let confinement = self.abilities.confinement_of(&command);
                        let report = Report::Started {
                            id,
                            pid,
                            confinement,
                        };
                        self.report(&report, work.as_ref());
                    }
                    Err(error) => self.report(&Report::Failed { id, error }, None),
                }
            }
            Command::Terminate { id } => {
                if let Some((_, kept)) = self.find(&id) {
                    let _ = killpg(kept.host, Signal::SIGTERM);
                }
            }
            Command::Kill { id } => {
                // The end of the first process of a name space is that of all.
                let signal = match self.abilities.way {
                    Way::None => Signal::SIGTERM,
                    Way::User | Way::Root => Signal::SIGKILL,
                };
                if let Some((keeper, kept)) = self.find(&id) {
                    kept.was_killed = true;
                    let _ = kill(*keeper, signal);
                }
            }
        }
    }

    fn find(&mut self, id: &str) -> Option<(&Pid, &mut Kept)> {
        self.hosts.iter_mut().find(|(_, kept)| kept.id == id)
    }

    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let Some(kept) = self.hosts.remove(&pid) else {
                continue;
            };
            let exit = match said::hear(&kept.said, MsgFlags::MSG_DONTWAIT) {
                Some((Said::Ended(exit), _)) => exit,
                _ => exit,
            };
            let is_killed = exit == Exit::Signal(Signal::SIGKILL as i32) && !kept.was_killed;
            let exit = match is_killed && self.groups.had_no_memory() {
                true => Exit::OutOfMemory,
                false => exit,
            };
            self.report(&Report::Exited { id: kept.id, exit }, None);
        }
    }

    /// Starts a host with its keeper; answers when the host's program was executed.
    fn start(
        &self,
        command: &HostCommand,
        fds: Vec<OwnedFd>,
    ) -> Result<(Pid, Kept, Option<OwnedFd>), String> {
        if fds.len() < 3 {
            return Err(format!("{} descriptors instead of 3 or more", fds.len()));
        }
        let image = Image::new(command)?;
        let (line, report) =
            said::line().map_err(|error| format!("cannot make a socket pair: {error}"))?;
        let launcher = getpid();
        let way = self.abilities.way;
        let means = Means {
            config: &self.config,
            abilities: &self.abilities,
            account: self.account,
        };
        let mut view = View::default();
        if way != Way::None {
            view = self.system.clone();
            let program = std::path::Path::new(&command.argv[0]);
            command.readable.iter().for_each(|path| view.show(path));
            view.show(program);
        }
        let keeper = match namespaces::fork(way, command.network) {
            Err(error) => return Err(format!("cannot fork: {error}")),
            Ok(ForkResult::Child) => keep(command, &image, fds, report, launcher, (&means, &view)),
            Ok(ForkResult::Parent { child }) => child,
        };
        drop((fds, report));
        let mut host = None;
        loop {
            let error = match said::hear(&line, MsgFlags::empty()) {
                Some((Said::Here, pid)) => {
                    host = Some(pid);
                    continue;
                }
                Some((Said::Started(work), _)) => {
                    let kept = Kept {
                        id: command.id.clone(),
                        host: host.unwrap_or(keeper),
                        said: line,
                        was_killed: false,
                    };
                    return Ok((keeper, kept, work));
                }
                Some((Said::Failed(error), _)) => error,
                _ => "the keeper of the host ended".to_owned(),
            };
            let _ = waitpid(keeper, None);
            return Err(error);
        }
    }
}
