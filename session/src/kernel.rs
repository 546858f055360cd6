//! A kernel, as the session that has it sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{mpsc, watch};

use crate::error::SessionError;
use crate::files::Place;
use crate::message::Message;
use crate::wire::{Frame, Framing, Limits};
use crate::zygote::{KernelFolder, Zygote};

/// How long a fork may take to say that it is there.
pub(crate) const STARTING: Duration = Duration::from_secs(10);
/// Bytes of the number before a frame.
const LENGTH: usize = 4;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 18;
/// Bytes of what a kernel that does not start wrote to its standard error, and how long they are waited for.
const LAST_WORDS: (usize, Duration) = (4096, Duration::from_millis(100));
/// Lines of it that are told.
const LAST_LINES: usize = 3;
/// Messages that wait until a kernel takes them.
const QUEUED: usize = 64;
/// Bytes of a message of a kernel.
pub(crate) const LIMITS: Limits = Limits {
    frame: 256 << 20,
    buffers: 1000,
};

/// A kernel. It ends, with all it started, when dropped.
#[derive(Debug)]
pub(crate) struct Kernel {
    name: String,
    zygote: Arc<Zygote>,
    folder: Arc<KernelFolder>,
    reader: OwnedReadHalf,
    held: BytesMut,
    /// To the task that writes, so that who reads is never held up.
    writer: mpsc::Sender<Bytes>,
    errors: Option<Errors>,
    /// The line on which it asks for things, and what is told of it.
    aside: Option<Aside>,
    ended: watch::Receiver<Option<String>>,
}

/// What a kernel has beside its messages.
#[derive(Debug)]
pub(crate) struct Aside {
    /// On which it asks the runner for things.
    pub(crate) requests: UnixStream,
    /// Why it is to be interrupted.
    pub(crate) warnings: mpsc::UnboundedReceiver<String>,
}

/// What a kernel writes to its standard error, beside output of cells.
#[derive(Debug)]
pub(crate) struct Errors(pipe::Receiver);

impl Errors {
    /// Adds the next of it to the buffer. False at its end.
    pub(crate) async fn next(&mut self, buffer: &mut Vec<u8>) -> bool {
        matches!(self.0.read_buf(buffer).await, Ok(size) if size > 0)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if self.ended.borrow().is_none() {
            self.zygote.kill(&self.name);
        }
    }
}

impl Kernel {
    pub(crate) fn new(
        name: String,
        zygote: Arc<Zygote>,
        folder: Arc<KernelFolder>,
        line: UnixStream,
        errors: pipe::Receiver,
        aside: Aside,
        ended: watch::Receiver<Option<String>>,
    ) -> Self {
        let (reader, write) = line.into_split();
        let (writer, frames) = mpsc::channel(QUEUED);
        tokio::spawn(send(write, frames));
        Self {
            name,
            zygote,
            folder,
            reader,
            held: BytesMut::new(),
            writer,
            errors: Some(Errors(errors)),
            aside: Some(aside),
            ended,
        }
    }

    /// Waits until it is there: the watchdog of a fork.
    pub(crate) async fn started(mut self, patience: Duration) -> Result<Self, SessionError> {
        let first = async {
            // `starting` and `idle`.
            for _ in 0..2 {
                let ended = self.ended.clone();
                let said = tokio::select! {
                    said = self.next() => said,
                    how = Self::ended(ended) => Err(how),
                };
                said?;
            }
            Ok::<(), String>(())
        };
        let first = tokio::time::timeout(patience, first).await;
        match first {
            Ok(Ok(())) => Ok(self),
            Ok(Err(how)) => Err(SessionError::Start(match self.last_words().await {
                Some(said) => format!("its kernel ended at once: {said} ({how})"),
                None => format!("its kernel ended at once: {how}"),
            })),
            Err(_) => Err(SessionError::Start(format!(
                "its kernel gave no sign of life within {} s",
                patience.as_secs()
            ))),
        }
    }

    /// The last lines that it wrote to its standard error.
    async fn last_words(&mut self) -> Option<String> {
        let mut errors = self.errors.take()?;
        let mut said = Vec::new();
        let (most, patience) = LAST_WORDS;
        let read = async { while said.len() < most && errors.next(&mut said).await {} };
        let _ = tokio::time::timeout(patience, read).await;
        let said = String::from_utf8_lossy(&said);
        let lines = said.lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        (!last.is_empty()).then(|| last.join("; "))
    }

    /// The next message, and its frame. An error says why there will be none.
    pub(crate) async fn next(&mut self) -> Result<(Message, Bytes), String> {
        loop {
            if let Some(frame) = self.take()? {
                let message = Framing::V1
                    .decode(Frame::Binary(frame.clone()), &LIMITS)
                    .map_err(|error| format!("it said what is no message: {error}"))?;
                return Ok((message, frame));
            }
            self.held.reserve(CHUNK);
            match self.reader.read_buf(&mut self.held).await {
                Ok(0) => return Err("it closed its line".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(format!("its line failed: {error}")),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, String> {
        let Some(size) = self.held.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let size = u32::from_le_bytes(*size) as usize;
        if size > LIMITS.frame {
            return Err(format!(
                "it said a message of {size} bytes; the limit is {}",
                LIMITS.frame
            ));
        }
        if self.held.len() < LENGTH + size {
            return Ok(None);
        }
        self.held.advance(LENGTH);
        Ok(Some(self.held.split_to(size).freeze()))
    }

    /// Where messages to it go. Closed when it takes no more.
    pub(crate) fn writer(&self) -> &mpsc::Sender<Bytes> {
        &self.writer
    }

    /// What it writes to its standard error; once.
    pub(crate) fn take_errors(&mut self) -> Option<Errors> {
        self.errors.take()
    }

    /// What it has beside its messages; once.
    pub(crate) fn take_aside(&mut self) -> Option<Aside> {
        self.aside.take()
    }

    /// Hears of its end.
    pub(crate) fn end(&self) -> watch::Receiver<Option<String>> {
        self.ended.clone()
    }

    /// Waits for an end; answers how it ended.
    pub(crate) async fn ended(mut ended: watch::Receiver<Option<String>>) -> String {
        let how = ended.wait_for(Option::is_some).await;
        let how = how.ok().and_then(|how| how.clone());
        how.unwrap_or_else(|| "the zygote of all kernels ended".to_owned())
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    pub(crate) fn interrupt(&self) {
        self.zygote.interrupt(&self.name);
    }

    /// Ends it now.
    pub(crate) fn kill(&self) {
        self.zygote.kill(&self.name);
    }

    /// Ends it now; whoever hears of its end is told why.
    pub(crate) fn kill_since(&self, why: String) {
        self.zygote.kill_since(&self.name, why);
    }

    pub(crate) fn zygote(&self) -> &Arc<Zygote> {
        &self.zygote
    }

    /// Where its files are.
    pub(crate) fn place(&self) -> Option<Place> {
        Some(Place {
            folder: Arc::downgrade(&self.folder),
            files: self.zygote.files(),
            name: self.folder.name()?,
            room: self.zygote.room(),
        })
    }

    /// Where it works.
    pub(crate) fn folder(&self) -> Arc<KernelFolder> {
        Arc::clone(&self.folder)
    }
}

/// Writes frames to a kernel, each behind its length, until there are no more or it takes none.
async fn send(mut line: OwnedWriteHalf, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        // Limited where it came from.
        let size = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let sent = async {
            line.write_all(&size.to_le_bytes()).await?;
            line.write_all(&frame).await
        };
        if sent.await.is_err() {
            return;
        }
    }
}
