//! Entities as JSON lines.

use std::io::{BufRead, BufReader, Read, Write};

use super::json::parse;
use super::{Entity, Error, MAX_ENTITY};

pub(super) struct LinesReader<R> {
    input: BufReader<R>,
    buffer: Vec<u8>,
    line: u64,
    count: u64,
}

impl<R: Read> LinesReader<R> {
    pub(super) fn new(input: R) -> Self {
        let input = BufReader::with_capacity(64 * 1024, input);
        Self {
            input,
            buffer: Vec::new(),
            line: 0,
            count: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entity>, Error> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.input).take(MAX_ENTITY as u64 + 1);
            let read = limited
                .read_until(b'\n', &mut self.buffer)
                .map_err(Error::Read)?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            let mut text = self.buffer.as_slice();
            if self.line == 1 {
                text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
            }
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let (entity, line) = (self.count + 1, self.line);
            if text.len() > MAX_ENTITY {
                let reason = format!("the line is longer than {MAX_ENTITY} bytes");
                return Err(Error::Entity {
                    entity,
                    line,
                    reason,
                });
            }
            if text[0] != b'{' {
                let reason = "the line is no JSON object".to_owned();
                return Err(Error::Entity {
                    entity,
                    line,
                    reason,
                });
            }
            let parsed = parse(text, entity, line)?;
            self.count = entity;
            return Ok(Some(parsed));
        }
    }
}

pub(super) struct LinesWriter<W> {
    output: W,
}

impl<W: Write> LinesWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output }
    }

    pub(super) fn write(&mut self, entity: &Entity) -> Result<(), Error> {
        serde_json::to_writer(&mut self.output, entity)
            .map_err(|error| Error::Write(error.into()))?;
        self.output.write_all(b"\n").map_err(Error::Write)
    }

    pub(super) fn finish(mut self) -> Result<W, Error> {
        self.output.flush().map_err(Error::Write)?;
        Ok(self.output)
    }
}
