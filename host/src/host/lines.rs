//! Lines of a pipe, bounded, and read without losing anything when a read is given up half way.

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

#[derive(Debug)]
pub(super) struct Lines {
    pipe: pipe::Receiver,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no line break.
    searched: usize,
    has_ended: bool,
    end_was_said: bool,
}

impl Lines {
    pub(super) fn new(pipe: pipe::Receiver) -> Self {
        Self {
            pipe,
            buffer: Vec::new(),
            searched: 0,
            has_ended: false,
            end_was_said: false,
        }
    }

    /// The next line, without its line break; `None` at the end, once; then never ready again.
    /// A line longer than the limit comes in pieces of that length.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(line) = self.take(limit) {
                return Ok(Some(line));
            }
            if self.has_ended {
                if let Some(rest) = self.rest() {
                    return Ok(Some(rest));
                }
                if std::mem::replace(&mut self.end_was_said, true) {
                    std::future::pending::<()>().await;
                }
                return Ok(None);
            }
            self.buffer.reserve(8 * 1024);
            match self.pipe.read_buf(&mut self.buffer).await {
                Ok(0) => self.has_ended = true,
                Ok(_) => {}
                Err(error) => return Err(format!("the pipe from the host failed: {error}")),
            }
        }
    }

    /// A line that can be had without waiting.
    pub(super) fn try_next(&mut self, limit: usize) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.take(limit) {
                return Some(line);
            }
            self.buffer.reserve(8 * 1024);
            match self.pipe.try_read_buf(&mut self.buffer) {
                Ok(size) if size > 0 => {}
                _ => return self.rest(),
            }
        }
    }

    /// What is left without a line break.
    fn rest(&mut self) -> Option<Vec<u8>> {
        self.searched = 0;
        let rest = std::mem::take(&mut self.buffer);
        (!rest.is_empty()).then_some(rest)
    }

    /// A whole line of the buffer, or a piece where it is longer than the limit.
    fn take(&mut self, limit: usize) -> Option<Vec<u8>> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let (end, skip) = match found {
            Some(at) => (self.searched + at, 1),
            None if self.buffer.len() > limit => (limit, 0),
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };
        self.searched = 0;
        let rest = self.buffer.split_off(end + skip);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.truncate(end);
        Some(line)
    }
}
