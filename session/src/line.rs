//! The side of the engine's socket pair that a kernel has which is a process of ours: v1 frames, each behind its length.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, BytesMut};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::kernel::LIMITS;
use crate::message::Message;
use crate::told;
use crate::wire::{Frame, Framing};

/// The descriptor that such a process inherits.
const DESCRIPTOR: i32 = 3;
/// Bytes of the number before a frame.
const LENGTH: usize = 4;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 16;

/// What comes from the engine.
#[derive(Debug)]
pub(crate) struct Heard {
    socket: UnixStream,
    held: BytesMut,
}

/// What goes to it. Shared by threads.
#[derive(Debug)]
pub(crate) struct Told(Mutex<UnixStream>);

/// Both directions of the line that this process has inherited. To be called once.
///
/// # Errors
/// It has none.
pub(crate) fn inherited() -> std::io::Result<(Heard, Told)> {
    // SAFETY: only the number is looked at, and nothing is read or closed by it.
    let given = unsafe { BorrowedFd::borrow_raw(DESCRIPTOR) };
    // Processes that this one starts have no line; that it has one is seen here too.
    fcntl(given, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and whoever starts this process gives it to nobody else.
    let owned = unsafe { OwnedFd::from_raw_fd(DESCRIPTOR) };
    over(UnixStream::from(owned))
}

/// Both directions of a line.
pub(crate) fn over(socket: UnixStream) -> std::io::Result<(Heard, Told)> {
    let told = Told(Mutex::new(socket.try_clone()?));
    let held = BytesMut::new();
    Ok((Heard { socket, held }, told))
}

impl Heard {
    /// The next message; waits for it. Nothing when the runner is gone.
    ///
    /// # Errors
    /// The line failed, or what came is no message.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads what has come; waits for something. False: there is no more.
    ///
    /// # Errors
    /// The line failed.
    pub(crate) fn fill(&mut self) -> std::io::Result<bool> {
        let mut chunk = [0; CHUNK];
        let size = loop {
            match self.socket.read(&mut chunk) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.held.extend_from_slice(&chunk[..size]);
        Ok(size > 0)
    }

    /// The next message, if it is here as a whole.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn take(&mut self) -> std::io::Result<Option<Message>> {
        let Some(size) = self.held.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let size = u32::from_le_bytes(*size) as usize;
        if self.held.len() < LENGTH + size {
            return Ok(None);
        }
        self.held.advance(LENGTH);
        let frame = Frame::Binary(self.held.split_to(size).freeze());
        let message = Framing::V1.decode(frame, &LIMITS);
        message.map(Some).map_err(std::io::Error::other)
    }

    /// What tells that something has come.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Told {
    /// Sends a message; waits while the engine reads none. An engine that is gone hears nothing.
    pub(crate) fn tell(&self, message: &Message) {
        let frame = told::frame(message);
        // The engine refuses what is larger than this can say.
        let size = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = socket
            .write_all(&size.to_le_bytes())
            .and_then(|()| socket.write_all(&frame));
    }
}
