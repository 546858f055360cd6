//! Entities as JSON.
//!
//! serde_json reads a whole array or nothing, so the objects of the array are cut out here, by
//! counting braces outside of strings, and each is parsed by itself.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::Value;

use super::{Entity, Error, MAX_ENTITY};

pub(super) struct JsonReader<R> {
    input: BufReader<R>,
    /// The object that is being read.
    buffer: Vec<u8>,
    place: Place,
    line: u64,
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    /// After `[`.
    ArrayStart,
    /// After an object of an array.
    Array,
    /// After an object outside of an array.
    Objects,
}

impl<R: Read> JsonReader<R> {
    pub(super) fn new(input: R) -> Self {
        let input = BufReader::with_capacity(64 * 1024, input);
        Self {
            input,
            buffer: Vec::new(),
            place: Place::Start,
            line: 1,
            count: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entity>, Error> {
        if self.place == Place::Start {
            self.skip_mark()?;
            match self.peek()? {
                Some(b'[') => {
                    self.input.consume(1);
                    self.place = Place::ArrayStart;
                }
                Some(b'{') => self.place = Place::Objects,
                Some(other) => {
                    return Err(self.wrong(format!(
                        "expected a JSON array of objects, found {}",
                        shown(other)
                    )));
                }
                None => return Err(self.wrong("the file is empty".to_owned())),
            }
        }
        let begins = self.peek()?;
        match (self.place, begins) {
            (Place::ArrayStart | Place::Array, Some(b']')) => {
                self.input.consume(1);
                return match self.peek()? {
                    None => Ok(None),
                    Some(other) => {
                        Err(self
                            .wrong(format!("found {} after the end of the array", shown(other))))
                    }
                };
            }
            (Place::Array, Some(b',')) => {
                self.input.consume(1);
            }
            (Place::Array, Some(other)) => {
                return Err(self.wrong(format!("expected `,` or `]`, found {}", shown(other))));
            }
            (Place::ArrayStart | Place::Array, None) => {
                return Err(self.wrong("the file ends in the middle of the array".to_owned()));
            }
            (Place::Objects, None) => return Ok(None),
            (Place::Start | Place::ArrayStart | Place::Objects, _) => {}
        }
        if self.place == Place::ArrayStart {
            self.place = Place::Array;
        }
        match self.peek()? {
            Some(b'{') => self.object().map(Some),
            Some(other) => {
                Err(self.wrong(format!("expected a JSON object, found {}", shown(other))))
            }
            None => Err(self.wrong("the file ends in the middle of the array".to_owned())),
        }
    }

    /// Reads the object that begins here.
    fn object(&mut self) -> Result<Entity, Error> {
        self.buffer.clear();
        let mut end = ObjectEnd::default();
        let first_line = self.line;
        loop {
            let available = self.input.fill_buf().map_err(Error::Read)?;
            if available.is_empty() {
                return Err(self.wrong_at(first_line, "the file ends in the middle of it".into()));
            }
            let (used, done) = match end.find(available) {
                Some(length) => (length, true),
                None => (available.len(), false),
            };
            self.buffer.extend_from_slice(&available[..used]);
            let lines = available[..used]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            self.line += lines as u64;
            self.input.consume(used);
            if self.buffer.len() > MAX_ENTITY {
                let reason = format!("it is larger than {MAX_ENTITY} bytes");
                return Err(self.wrong_at(first_line, reason));
            }
            if done {
                let entity = parse(&self.buffer, self.count + 1, first_line)?;
                self.count += 1;
                return Ok(entity);
            }
        }
    }

    /// Skips white space; the next byte, not yet consumed.
    fn peek(&mut self) -> Result<Option<u8>, Error> {
        loop {
            let available = self.input.fill_buf().map_err(Error::Read)?;
            if available.is_empty() {
                return Ok(None);
            }
            let blank = available
                .iter()
                .position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
                .unwrap_or(available.len());
            let found = available.get(blank).copied();
            let lines = available[..blank]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            self.line += lines as u64;
            self.input.consume(blank);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Skips a byte order mark at the beginning of the file.
    fn skip_mark(&mut self) -> Result<(), Error> {
        let available = self.input.fill_buf().map_err(Error::Read)?;
        if available.starts_with(b"\xEF\xBB\xBF") {
            self.input.consume(3);
        }
        Ok(())
    }

    fn wrong(&self, reason: String) -> Error {
        self.wrong_at(self.line, reason)
    }

    fn wrong_at(&self, line: u64, reason: String) -> Error {
        Error::Entity {
            entity: self.count + 1,
            line,
            reason,
        }
    }
}

/// A byte for people.
fn shown(byte: u8) -> String {
    match byte {
        0x21..=0x7e => format!("`{}`", char::from(byte)),
        _ => format!("the byte {byte:#04x}"),
    }
}

/// Looks for the end of an object.
#[derive(Default)]
struct ObjectEnd {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ObjectEnd {
    /// Length of `bytes` up to and with the last brace, if it is in there.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(index + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Parses one object, the `entity`th of a file, which begins in `line`.
pub(super) fn parse(text: &[u8], entity: u64, line: u64) -> Result<Entity, Error> {
    let parsed: Entity = serde_json::from_slice(text).map_err(|error| {
        let mut reason = error.to_string();
        // Lines and columns of a part of the file would mislead.
        let place = format!(" at line {} column {}", error.line(), error.column());
        if let Some(length) = reason.strip_suffix(&place).map(str::len) {
            reason.truncate(length);
        }
        let line = line + error.line().saturating_sub(1) as u64;
        Error::Entity {
            entity,
            line,
            reason: format!("invalid JSON: {reason}"),
        }
    })?;
    if parsed.values().any(may_have_lost_digits)
        && let Some(number) = large_integer(text)
    {
        let reason =
            format!("the integer {number} has more than 64 bits and would lose digits; quote it");
        return Err(Error::Entity {
            entity,
            line,
            reason,
        });
    }
    Ok(parsed)
}

/// Whether there is a number that serde_json may have made of an integer that is too large.
fn may_have_lost_digits(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_some_and(|number| number.abs() >= 9.2e18)
        }
        Value::Array(items) => items.iter().any(may_have_lost_digits),
        Value::Object(items) => items.values().any(may_have_lost_digits),
        _ => false,
    }
}

/// The first integer in valid JSON that fits neither `i64` nor `u64`.
fn large_integer(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let mut in_string = false;
    let mut escaped = false;
    let outside = |character: char| -> bool {
        // Everything that cannot be part of a number ends one, strings as a whole.
        if in_string {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            return true;
        }
        in_string = character == '"';
        !matches!(character, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')
    };
    text.split(outside).find(|token| {
        let digits = token.strip_prefix('-').unwrap_or(token);
        !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && token.parse::<i64>().is_err()
            && token.parse::<u64>().is_err()
    })
}

pub(super) struct JsonWriter<W> {
    output: W,
    count: u64,
}

impl<W: Write> JsonWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, count: 0 }
    }

    /// One entity per line, so that the file can be looked at.
    pub(super) fn write(&mut self, entity: &Entity) -> Result<(), Error> {
        let before: &[u8] = if self.count == 0 { b"[\n" } else { b",\n" };
        self.count += 1;
        self.output.write_all(before).map_err(Error::Write)?;
        serde_json::to_writer(&mut self.output, entity).map_err(|error| Error::Write(error.into()))
    }

    pub(super) fn finish(mut self) -> Result<W, Error> {
        let after: &[u8] = if self.count == 0 { b"[]\n" } else { b"\n]\n" };
        self.output.write_all(after).map_err(Error::Write)?;
        self.output.flush().map_err(Error::Write)?;
        Ok(self.output)
    }
}
