//! Sockets that a host inherits, or is handed while it lives.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use crate::launcher::receive_passed;

/// The descriptor that an entry of `config` in `welcome` names: `{"fd": 3}`.
pub(super) fn inherited(config: &Value) -> Option<OwnedFd> {
    let number = i32::try_from(config["fd"].as_i64()?).ok()?;
    if number < 3 {
        return None;
    }
    // SAFETY: the runner made this descriptor for this process and names it once, in `welcome`;
    // nothing else in here knows it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The line on which the host of a pipeline is handed the sockets of its nodes' hosts.
#[derive(Debug)]
pub struct Sockets {
    line: OwnedFd,
    /// Those that came before they were asked for.
    received: Mutex<HashMap<u64, UnixStream>>,
}

#[derive(Deserialize)]
struct Passed {
    host: u64,
}

impl Sockets {
    /// The line that `welcome` tells of, in its params, if it does.
    pub fn of(welcome: &Value) -> Option<Self> {
        Some(Self {
            line: inherited(&welcome["config"]["nodes"])?,
            received: Mutex::default(),
        })
    }

    /// The socket of the host with this number. It was handed over before the answer that named the
    /// host, so this does not wait long.
    ///
    /// # Errors
    /// The runner is gone.
    pub fn take(&self, host: u64) -> io::Result<UnixStream> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::new();
        loop {
            if let Some(socket) = received.remove(&host) {
                return Ok(socket);
            }
            let next = receive_passed::<Passed>(self.line.as_raw_fd(), &mut buffer)?;
            let (passed, sockets) = next.ok_or(io::ErrorKind::UnexpectedEof)?;
            received.extend(
                sockets
                    .into_iter()
                    .map(|socket| (passed.host, UnixStream::from(socket))),
            );
        }
    }
}
