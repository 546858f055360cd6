//! Lines of a pipe, bounded, and read without losing anything when a read is given up half way.

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

#[derive(Debug)]
pub(crate) struct Lines {
    pipe: pipe::Receiver,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no line break.
    searched: usize,
    has_ended: bool,
    end_was_said: bool,
}

impl Lines {
    pub(crate) fn new(pipe: pipe::Receiver) -> Self {
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
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Option<Vec<u8>>, String> {
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

    /// A line that can be had without waiting. The pipe itself is asked, not the runtime, which may not have
    /// heard yet of what is in it.
    pub(crate) fn try_next(&mut self, limit: usize) -> Option<Vec<u8>> {
        let mut chunk = [0; 8 * 1024];
        loop {
            if let Some(line) = self.take(limit) {
                return Some(line);
            }
            match nix::unistd::read(&self.pipe, &mut chunk) {
                Ok(size) if size > 0 => self.buffer.extend_from_slice(&chunk[..size]),
                Err(nix::errno::Errno::EINTR) => {}
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
            Some(at) if self.searched + at <= limit => (self.searched + at, 1),
            _ if self.buffer.len() > limit => (limit, 0),
            _ => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn what_lies_in_the_pipe_is_had_at_once() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut lines = Lines::new(pipe::Receiver::from_owned_fd(reader.into()).unwrap());
        writer.write_all(b"one\ntwo").unwrap();
        assert_eq!(lines.try_next(100).unwrap(), b"one");
        assert_eq!(lines.try_next(100).unwrap(), b"two");
        assert_eq!(lines.try_next(100), None);
        writer.write_all(b"0123456789\nend").unwrap();
        drop(writer);
        assert_eq!(lines.next(4).await.unwrap().unwrap(), b"0123");
        assert_eq!(lines.next(4).await.unwrap().unwrap(), b"4567");
        assert_eq!(lines.next(4).await.unwrap().unwrap(), b"89");
        assert_eq!(lines.next(4).await.unwrap().unwrap(), b"end");
        assert_eq!(lines.next(4).await.unwrap(), None);
    }
}
