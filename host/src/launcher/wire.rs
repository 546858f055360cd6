//! Messages between the runner and its launcher: one JSON text per packet of a `SOCK_SEQPACKET` pair,
//! descriptors beside it.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use runner_core::module::Confinement;

use super::abilities::Abilities;
use super::limits::Limits;

/// The largest packet. The kernel's usual socket buffer takes it.
const MAX_PACKET: usize = 128 * 1024;
/// The most descriptors that a host gets.
const MAX_FDS: usize = 8;

/// From the runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Start a host. Standard input, output, error and what it gets beyond come as descriptors.
    Start(Box<HostCommand>),
    /// Ask the process group of a host to end.
    Terminate { id: String },
    /// End everything that a host started.
    Kill { id: String },
}

/// What to start, and how it is confined.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostCommand {
    /// Id of the host; its processes carry it in their environment.
    pub id: String,
    /// Program (an absolute path) and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// Below these, files may be read and executed.
    pub readable: Vec<PathBuf>,
    /// Below these, files may be read, written, made and removed.
    pub writable: Vec<PathBuf>,
    /// Its folder for life, with `in/` and `work/` in it.
    pub folder: PathBuf,
    /// Where its own root is mounted, in a name space of its own: any empty folder.
    pub root: PathBuf,
    /// Whether it may use the network.
    pub network: bool,
    /// Whether it gives what it starts name spaces of their own, and confines that itself, where it can.
    pub nests: bool,
    /// Resource limits.
    pub limits: Limits,
}

/// From the launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Report {
    /// The launcher is ready; what it can confine hosts with.
    Ready { abilities: Abilities },
    /// A host runs, confined like this. With it comes the host's `work/`, if nobody else can open it.
    Started {
        id: String,
        pid: i32,
        confinement: Confinement,
    },
    /// A host could not be started.
    Failed { id: String, error: String },
    /// A host ended, and everything it started.
    Exited { id: String, exit: Exit },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// With a status.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// By the system, since a control group had used all its memory.
    OutOfMemory,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(
                    f,
                    "signal {number} ({}{})",
                    signal.as_str(),
                    meaning(signal)
                ),
                Err(_) => write!(f, "signal {number}"),
            },
            Self::OutOfMemory => write!(
                f,
                "signal 9 (SIGKILL), since the memory of its control group was used up"
            ),
        }
    }
}

/// What a signal of a limit says.
fn meaning(signal: nix::sys::signal::Signal) -> &'static str {
    use nix::sys::signal::Signal;
    match signal {
        Signal::SIGXCPU => ": it used all the processor time that its limit allows",
        Signal::SIGXFSZ => ": it wrote a larger file than its limit allows",
        Signal::SIGSYS => ": it asked the system for something that the sandbox forbids",
        _ => "",
    }
}

pub(crate) fn send(socket: RawFd, message: &impl Serialize, fds: &[RawFd]) -> std::io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MAX_PACKET {
        return Err(std::io::Error::other(format!(
            "the start of a host needs {} bytes of arguments and environment; the limit is {MAX_PACKET}",
            text.len()
        )));
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let parts = [IoSlice::new(&text)];
    if fds.len() > MAX_FDS {
        return Err(std::io::Error::other(format!(
            "a host gets at most {MAX_FDS} descriptors, not {}",
            fds.len()
        )));
    }
    loop {
        match sendmsg::<()>(socket, &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The next message, with its descriptors; `None` when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: RawFd,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<(T, Vec<OwnedFd>)>> {
    buffer.resize(MAX_PACKET, 0);
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let (size, fds) = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg::<()>(
            socket,
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(message) => {
                let mut fds = Vec::new();
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = control {
                        // SAFETY: the kernel has just made these descriptors for this process, and
                        // nothing else knows them.
                        fds.extend(
                            raw.into_iter()
                                .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                        );
                    }
                }
                break (message.bytes, fds);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    if size == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..size])?, fds)))
}

/// Both ends of the line between runner and launcher.
pub(crate) fn pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
    let (a, b) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    for end in [&a, &b] {
        setsockopt(end, sockopt::SndBuf, &(4 * MAX_PACKET))?;
    }
    Ok((a, b))
}
