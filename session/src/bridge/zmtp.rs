//! ZeroMQ's protocol (ZMTP 3.0, mechanism NULL) on Unix sockets, as far as a client of a kernel needs it: one peer, that
//! is not lost, for each socket.

use std::io::{BufReader, Error, ErrorKind, Read, Result, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes of the greeting.
const GREETING: usize = 64;
/// Flags of a frame.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Bytes of a message, with all its parts.
const MAX_MESSAGE: u64 = 256 << 20;
/// Parts of a message.
const MAX_PARTS: usize = 1100;
/// How long a peer may take to greet.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asks and is answered, by its name.
    Dealer,
    /// Hears all that is published.
    Sub,
}

/// The half of a socket that hears.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: BufReader<UnixStream>,
    /// To answer what the peer asks by commands.
    answers: UnixStream,
}

/// The half that says. Shared by threads.
#[derive(Debug)]
pub(super) struct Sender(Mutex<UnixStream>);

/// Connects to a socket of a kernel. `identity`: by which it is answered.
pub(super) fn connect(path: &Path, kind: Kind, identity: &[u8]) -> Result<(Receiver, Sender)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (receiver, sender) = shake_hands(stream, kind, identity)?;
    receiver.stream.get_ref().set_read_timeout(None)?;
    Ok((receiver, sender))
}

fn shake_hands(mut stream: UnixStream, kind: Kind, identity: &[u8]) -> Result<(Receiver, Sender)> {
    let mut greeting = [0; GREETING];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting)?;
    let mut theirs = [0; GREETING];
    stream.read_exact(&mut theirs)?;
    if theirs[0] != 0xff || theirs[10] < 3 || !theirs[12..].starts_with(b"NULL\0") {
        return Err(Error::other(
            "the other side speaks no ZeroMQ of version 3 without encryption",
        ));
    }
    let name: &[u8] = match kind {
        Kind::Dealer => b"DEALER",
        Kind::Sub => b"SUB",
    };
    let mut ready = b"\x05READY".to_vec();
    property(&mut ready, b"Socket-Type", name);
    if kind == Kind::Dealer {
        property(&mut ready, b"Identity", identity);
    }
    write_frame(&mut stream, COMMAND, &ready)?;
    let mut receiver = Receiver {
        stream: BufReader::with_capacity(1 << 16, stream.try_clone()?),
        answers: stream.try_clone()?,
    };
    let (flags, body) = receiver.frame(0)?;
    if flags & COMMAND == 0 || !body.starts_with(b"\x05READY") {
        let text = String::from_utf8_lossy(&body);
        return Err(Error::other(format!("the other side refuses: {text}")));
    }
    if kind == Kind::Sub {
        // All topics.
        write_frame(&mut stream, 0, b"\x01")?;
    }
    Ok((receiver, Sender(Mutex::new(stream))))
}

fn property(command: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // Names and values are short.
    command.push(u8::try_from(name.len()).unwrap_or(0));
    command.extend_from_slice(name);
    let size = u32::try_from(value.len()).unwrap_or(0);
    command.extend_from_slice(&size.to_be_bytes());
    command.extend_from_slice(value);
}

fn write_frame(stream: &mut impl Write, flags: u8, body: &[u8]) -> Result<()> {
    match u8::try_from(body.len()) {
        Ok(size) => stream.write_all(&[flags, size])?,
        Err(_) => {
            stream.write_all(&[flags | LONG])?;
            stream.write_all(&(body.len() as u64).to_be_bytes())?;
        }
    }
    stream.write_all(body)
}

impl Receiver {
    /// Whether something has come.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn has_come(&self) -> Result<bool> {
        if !self.stream.buffer().is_empty() {
            return Ok(true);
        }
        let mut ready = [PollFd::new(
            self.stream.get_ref().as_fd(),
            PollFlags::POLLIN,
        )];
        Ok(poll(&mut ready, PollTimeout::ZERO)? > 0)
    }

    /// The parts of the next message; waits for it.
    ///
    /// # Errors
    /// The other side is gone, or says what is no message.
    pub(super) fn next(&mut self) -> Result<Vec<Vec<u8>>> {
        let (mut parts, mut size) = (Vec::new(), 0);
        loop {
            let (flags, body) = self.frame(size)?;
            if flags & COMMAND != 0 {
                self.obey(&body)?;
                continue;
            }
            size += body.len() as u64;
            parts.push(body);
            if flags & MORE == 0 {
                return Ok(parts);
            }
            if parts.len() >= MAX_PARTS {
                let text = format!("a message of more than {MAX_PARTS} parts");
                return Err(Error::new(ErrorKind::InvalidData, text));
            }
        }
    }

    /// The next frame, which adds to so many bytes.
    fn frame(&mut self, before: u64) -> Result<(u8, Vec<u8>)> {
        let mut flags = [0];
        self.stream.read_exact(&mut flags)?;
        let size = match flags[0] & LONG {
            0 => {
                let mut size = [0];
                self.stream.read_exact(&mut size)?;
                u64::from(size[0])
            }
            _ => {
                let mut size = [0; 8];
                self.stream.read_exact(&mut size)?;
                u64::from_be_bytes(size)
            }
        };
        if size.saturating_add(before) > MAX_MESSAGE {
            let text = format!("a message of more than {MAX_MESSAGE} bytes");
            return Err(Error::new(ErrorKind::InvalidData, text));
        }
        let mut body = Vec::new();
        // Grows with what comes, not with what is announced.
        let read = (&mut self.stream).take(size).read_to_end(&mut body)?;
        match read as u64 == size {
            true => Ok((flags[0], body)),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// A sign of life is answered; other commands say nothing here.
    fn obey(&mut self, command: &[u8]) -> Result<()> {
        // Behind the name stand two bytes of a span, then what is sent back.
        match command.strip_prefix(b"\x04PING") {
            Some(rest) => {
                let mut pong = b"\x04PONG".to_vec();
                pong.extend_from_slice(rest.get(2..).unwrap_or_default());
                write_frame(&mut self.answers, COMMAND, &pong)
            }
            None => Ok(()),
        }
    }
}

impl Sender {
    /// Says a message; waits while the other side takes none.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn say(&self, parts: &[&[u8]]) -> Result<()> {
        let mut bytes = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let flags = match index + 1 < parts.len() {
                true => MORE,
                false => 0,
            };
            write_frame(&mut bytes, flags, part)?;
        }
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both sides of a line on which hands were shaken.
    fn pair(kind: Kind) -> ((Receiver, Sender), (Receiver, Sender)) {
        let (one, other) = UnixStream::pair().unwrap();
        let peer = std::thread::spawn(move || shake_hands(other, Kind::Dealer, b"other"));
        let own = shake_hands(one, kind, b"one").unwrap();
        (own, peer.join().unwrap().unwrap())
    }

    #[test]
    fn messages_of_several_and_of_large_parts() {
        let ((_, sender), (mut receiver, _)) = pair(Kind::Dealer);
        let large = vec![7; 70_000];
        let said = std::thread::spawn(move || {
            sender.say(&[b"a", b"", &large]).unwrap();
            sender.say(&[&[1; 255]]).unwrap();
            sender.say(&[&[1; 256]]).unwrap();
        });
        let parts = receiver.next().unwrap();
        let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 0, 70_000]);
        assert_eq!(receiver.next().unwrap()[0].len(), 255);
        assert_eq!(receiver.next().unwrap()[0].len(), 256);
        said.join().unwrap();
        assert!(receiver.next().is_err(), "the other side is gone");
    }

    #[test]
    fn a_subscription_is_for_all_topics() {
        let (_own, (mut receiver, _)) = pair(Kind::Sub);
        assert_eq!(receiver.next().unwrap(), [b"\x01"]);
    }

    #[test]
    fn signs_of_life_are_answered() {
        let ((mut receiver, _own), (mut other, sender)) = pair(Kind::Dealer);
        let ping = b"\x04PING\0\x0acontext";
        write_frame(&mut *sender.0.lock().unwrap(), COMMAND, ping).unwrap();
        sender.say(&[b"x"]).unwrap();
        assert_eq!(receiver.next().unwrap(), [b"x"]);
        let (flags, body) = other.frame(0).unwrap();
        assert_eq!((flags, &*body), (COMMAND, &b"\x04PONGcontext"[..]));
    }

    #[test]
    fn what_is_no_zeromq_is_refused() {
        let (one, mut other) = UnixStream::pair().unwrap();
        other.write_all(&[b'x'; GREETING]).unwrap();
        assert!(shake_hands(one, Kind::Dealer, b"one").is_err());
        let ((mut receiver, _own), (_, sender)) = pair(Kind::Dealer);
        let mut frame = vec![LONG];
        frame.extend_from_slice(&u64::MAX.to_be_bytes());
        sender.0.lock().unwrap().write_all(&frame).unwrap();
        assert_eq!(receiver.next().unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
