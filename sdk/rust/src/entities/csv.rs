//! Entities as CSV.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use serde_json::Value;

use super::{Entity, Error, MAX_COLUMNS, MAX_ENTITY};

pub(super) struct CsvReader<R> {
    reader: csv::Reader<Limited<R>>,
    attributes: Vec<String>,
    record: csv::StringRecord,
    count: u64,
}

impl<R: Read> CsvReader<R> {
    pub(super) fn new(input: R) -> Result<Self, Error> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(Limited {
                input,
                left: MAX_ENTITY,
            });
        let mut record = csv::StringRecord::new();
        reader
            .read_record(&mut record)
            .map_err(|error| failure(error, 0, 1))?;
        let attributes: Vec<String> = record.iter().map(str::to_owned).collect();
        check_columns(&attributes)?;
        Ok(Self {
            reader,
            attributes,
            record,
            count: 0,
        })
    }

    pub(super) fn attributes(&self) -> &[String] {
        &self.attributes
    }

    pub(super) fn next(&mut self) -> Result<Option<Entity>, Error> {
        self.reader.get_mut().left = MAX_ENTITY;
        let entity = self.count + 1;
        let line = self.reader.position().line();
        let more = self.reader.read_record(&mut self.record);
        if !more.map_err(|error| failure(error, entity, line))? {
            return Ok(None);
        }
        let (cells, columns) = (self.record.len(), self.attributes.len());
        if cells != columns {
            let line = self.record.position().map_or(line, csv::Position::line);
            let reason = format!(
                "the row has {cells} {}, but there are {columns} columns",
                if cells == 1 { "cell" } else { "cells" }
            );
            return Err(Error::Entity {
                entity,
                line,
                reason,
            });
        }
        self.count = entity;
        let cells = self
            .record
            .iter()
            .map(|cell| Value::String(cell.to_owned()));
        Ok(Some(self.attributes.iter().cloned().zip(cells).collect()))
    }
}

/// What the csv crate says, in our words.
fn failure(error: csv::Error, entity: u64, line: u64) -> Error {
    let line = error.position().map_or(line, csv::Position::line);
    let reason = match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            format!("it is larger than {MAX_ENTITY} bytes; is a quote missing?")
        }
        csv::ErrorKind::Io(error) => return Error::Read(error),
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("the text in column {} is not UTF-8", err.field() + 1)
        }
        other => format!("{other:?}"),
    };
    if entity == 0 {
        Error::Columns(reason)
    } else {
        Error::Entity {
            entity,
            line,
            reason,
        }
    }
}

/// Refuses columns that cannot be told apart.
fn check_columns(attributes: &[String]) -> Result<(), Error> {
    let columns = attributes.len();
    if columns > MAX_COLUMNS {
        return Err(Error::Columns(format!(
            "{columns} columns, the limit is {MAX_COLUMNS}"
        )));
    }
    let mut seen = HashSet::with_capacity(columns);
    match attributes.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(Error::Columns(format!("`{name}` is there twice"))),
        None => Ok(()),
    }
}

/// A reader that refuses to deliver more than `left` bytes (give or take a buffer): a missing quote would else make the
/// rest of the file one cell.
struct Limited<R> {
    input: R,
    left: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

pub(super) struct CsvWriter<W: Write> {
    writer: csv::Writer<W>,
    /// Nothing before the first entity, unless the columns were given.
    attributes: Option<Vec<String>>,
    count: u64,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self {
            writer: csv::Writer::from_writer(output),
            attributes: None,
            count: 0,
        }
    }

    /// Writes the row with the attributes. Without any, the file stays empty.
    pub(super) fn start(&mut self, attributes: Vec<String>) -> Result<(), Error> {
        check_columns(&attributes)?;
        if !attributes.is_empty() {
            self.writer.write_record(&attributes).map_err(unwritten)?;
        }
        self.attributes = Some(attributes);
        Ok(())
    }

    pub(super) fn write(&mut self, entity: &Entity) -> Result<(), Error> {
        if self.attributes.is_none() {
            self.start(entity.keys().cloned().collect())?;
        }
        let attributes = self.attributes.as_deref().unwrap_or_default();
        self.count += 1;
        let unwritable = |reason| Error::Unwritable {
            entity: self.count,
            reason,
        };
        if attributes.is_empty() {
            return Err(unwritable("there are no columns".to_owned()));
        }
        let mut written = 0;
        for attribute in attributes {
            let value = entity.get(attribute);
            written += usize::from(value.is_some());
            match value {
                None | Some(Value::Null) => self.writer.write_field(""),
                Some(Value::String(text)) => self.writer.write_field(text),
                Some(other) => self.writer.write_field(other.to_string()),
            }
            .map_err(unwritten)?;
        }
        if written < entity.len() {
            let stray = entity.keys().find(|key| !attributes.contains(key));
            let stray = stray.map_or("", String::as_str);
            return Err(unwritable(format!(
                "there is no column for its attribute `{stray}`"
            )));
        }
        self.writer.write_record(None::<&[u8]>).map_err(unwritten)
    }

    pub(super) fn finish(self) -> Result<W, Error> {
        self.writer
            .into_inner()
            .map_err(|error| Error::Write(error.into_error()))
    }
}

fn unwritten(error: csv::Error) -> Error {
    Error::Write(error.into())
}
