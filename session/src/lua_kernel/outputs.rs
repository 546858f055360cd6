//! What cells print, and what programs write that they start, gathered into messages of the streams.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use super::teller::Teller;

/// For how long output is gathered.
const PATIENCE: Duration = Duration::from_millis(5);
/// Bytes that wait to be gathered before who writes is held up.
#[cfg(target_os = "linux")]
const ROOM: i32 = 1 << 20;
/// Bytes of one message.
const CHUNK: usize = 1 << 16;

/// The standard output and error of this process, read by itself.
#[derive(Debug)]
pub(super) struct Outputs {
    teller: Arc<Teller>,
    streams: Mutex<[Stream; 2]>,
}

#[derive(Debug)]
struct Stream {
    name: &'static str,
    source: File,
    /// What was read and not told.
    held: Vec<u8>,
}

impl Outputs {
    /// Puts pipes in the place of both, and begins to read them.
    pub(super) fn take_over(teller: Arc<Teller>) -> std::io::Result<Arc<Self>> {
        let streams = [stream("stdout", 1)?, stream("stderr", 2)?];
        let sources = streams
            .iter()
            .map(|stream| stream.source.try_clone().map(OwnedFd::from))
            .collect::<std::io::Result<Vec<_>>>()?;
        let outputs = Arc::new(Self {
            teller,
            streams: Mutex::new(streams),
        });
        let shared = Arc::clone(&outputs);
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || shared.gather(&sources))?;
        Ok(outputs)
    }

    /// Tells what is written while nobody asks for it.
    fn gather(&self, sources: &[OwnedFd]) {
        let mut ready: Vec<PollFd<'_>> = sources
            .iter()
            .map(|source| PollFd::new(source.as_fd(), PollFlags::POLLIN))
            .collect();
        loop {
            if poll(&mut ready, PollTimeout::NONE).is_err() {
                continue; // a signal came
            }
            std::thread::sleep(PATIENCE);
            self.tell(false);
        }
    }

    /// Tells all that was written until now. To be called by the thread of the interpreter alone.
    pub(super) fn drain(&self) {
        // SAFETY: nothing means all streams of the C library, which are not used by other threads.
        unsafe { nix::libc::fflush(std::ptr::null_mut()) };
        self.tell(true);
    }

    fn tell(&self, is_all: bool) {
        for stream in self.lock().iter_mut() {
            loop {
                let has_more = stream.read();
                let text = take_text(&mut stream.held, is_all && !has_more);
                if !text.is_empty() {
                    let content = json!({"name": stream.name, "text": text});
                    self.teller.publish("stream", &content);
                }
                if !has_more {
                    break;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, [Stream; 2]> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Reads up to the size of a message. False: there is nothing more now.
    fn read(&mut self) -> bool {
        let mut chunk = [0; 1 << 14];
        while self.held.len() < CHUNK {
            match self.source.read(&mut chunk) {
                Ok(size) if size > 0 => self.held.extend_from_slice(&chunk[..size]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
        true
    }
}

fn stream(name: &'static str, descriptor: i32) -> std::io::Result<Stream> {
    let (source, sink) = std::io::pipe()?;
    #[cfg(target_os = "linux")]
    let _ = fcntl(&sink, FcntlArg::F_SETPIPE_SZ(ROOM));
    fcntl(&source, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // SAFETY: both are open, and who uses the standard streams uses them by their numbers.
    if unsafe { nix::libc::dup2(sink.as_raw_fd(), descriptor) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(Stream {
        name,
        source: OwnedFd::from(source).into(),
        held: Vec::new(),
    })
}

/// Takes the text out of bytes; the beginning of a character at their end stays unless there comes no more.
fn take_text(held: &mut Vec<u8>, is_all: bool) -> String {
    let end = match std::str::from_utf8(held) {
        Err(error) if !is_all && error.error_len().is_none() => error.valid_up_to(),
        _ => held.len(),
    };
    let rest = held.split_off(end);
    let taken = std::mem::replace(held, rest);
    String::from_utf8_lossy(&taken).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        let mut held = "aä".as_bytes()[..2].to_vec();
        assert_eq!(take_text(&mut held, false), "a");
        held.push("ä".as_bytes()[1]);
        assert_eq!(take_text(&mut held, false), "ä");
        held.extend_from_slice(b"b\xff\xc3");
        assert_eq!(take_text(&mut held, true), "b\u{fffd}\u{fffd}");
        assert!(held.is_empty());
    }
}
