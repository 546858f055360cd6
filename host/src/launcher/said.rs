//! What a keeper and its host tell the launcher, on a line of their own.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixCredentials, recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::unistd::Pid;

use super::wire::Exit;

/// Bytes of the longest message; errors are shorter.
const MAX_MESSAGE: usize = 4096;

/// A message.
#[derive(Debug)]
pub(super) enum Said {
    /// Of the host: it is there. The kernel adds its number.
    Here,
    /// Of the keeper: the host's program was executed. With it comes the host's `work/`.
    Started(Option<OwnedFd>),
    /// Of the keeper: there is no host, and why.
    Failed(String),
    /// Of the keeper: how the host ended.
    Ended(Exit),
}

/// Both ends: the launcher's, and that of keeper and host.
pub(super) fn line() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    setsockopt(&ours, sockopt::PassCred, &true)?;
    Ok((ours, theirs))
}

/// Tells the launcher. If that is gone, the kernel ends who tells it.
pub(super) fn say(line: &OwnedFd, said: &Said) {
    let text = match said {
        Said::Here => "H".to_owned(),
        Said::Started(_) => "S".to_owned(),
        Said::Failed(error) => format!("E{error}"),
        Said::Ended(Exit::Code(code)) => format!("X{code}"),
        Said::Ended(Exit::Signal(number)) => format!("K{number}"),
        Said::Ended(Exit::OutOfMemory) => return,
    };
    let fds: Vec<RawFd> = match said {
        Said::Started(Some(work)) => vec![work.as_raw_fd()],
        _ => Vec::new(),
    };
    let rights = [ControlMessage::ScmRights(&fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let text = &text.as_bytes()[..text.len().min(MAX_MESSAGE)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let _ = sendmsg::<()>(
        line.as_raw_fd(),
        &[IoSlice::new(text)],
        control,
        flags,
        None,
    );
}

/// The next message and the number of who sent it; `None` when there is none, or none yet with `MSG_DONTWAIT`.
pub(super) fn hear(line: &OwnedFd, flags: MsgFlags) -> Option<(Said, Pid)> {
    let mut buffer = [0; MAX_MESSAGE];
    let mut control = nix::cmsg_space!([RawFd; 1], UnixCredentials);
    let (size, from, work) = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(line.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Ok(message) => {
                let (mut from, mut work) = (0, None);
                for control in message.cmsgs().ok()? {
                    match control {
                        ControlMessageOwned::ScmCredentials(who) => from = who.pid(),
                        ControlMessageOwned::ScmRights(fds) => {
                            // SAFETY: the kernel has just made it for this process, and nothing else knows it.
                            work = fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
                        }
                        _ => {}
                    }
                }
                break (message.bytes, from, work);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    };
    let text = String::from_utf8_lossy(&buffer[..size]);
    let (kind, rest) = text.split_at_checked(1)?;
    let said = match kind {
        "H" => Said::Here,
        "S" => Said::Started(work),
        "E" => Said::Failed(rest.to_owned()),
        "X" => Said::Ended(Exit::Code(rest.parse().ok()?)),
        "K" => Said::Ended(Exit::Signal(rest.parse().ok()?)),
        _ => return None,
    };
    Some((said, Pid::from_raw(from)))
}
