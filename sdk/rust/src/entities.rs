//! Entities in files: one at a time, never the whole file.
//!
//! An [`Entity`] is a JSON object with its attributes in order; by convention the attribute `ID`
//! names it. A list of entities is a file in one of three [`Format`]s. [`Reader`] iterates over
//! one, [`Writer`] makes one; both keep one entity in memory.
//!
//! ```
//! use runner_sdk::entities::{Format, Reader, Writer};
//!
//! let csv = "ID,color\npaintA,#8a2be2\npaintB,#e9322d\n";
//! let mut writer = Writer::new(Format::Lines, Vec::new());
//! for entity in Reader::new(Format::Csv, csv.as_bytes())? {
//!     writer.write(&entity?)?;
//! }
//! assert_eq!(
//!     writer.finish()?,
//!     b"{\"ID\":\"paintA\",\"color\":\"#8a2be2\"}\n{\"ID\":\"paintB\",\"color\":\"#e9322d\"}\n"
//! );
//! # Ok::<(), runner_sdk::entities::Error>(())
//! ```
//!
//! # What is kept, and what is not
//!
//! - CSV knows only text: values read from it are strings (`"5"`, not `5`), an empty cell is `""`.
//!   Written to it, a string is itself, `null` and a missing attribute are an empty cell, and
//!   anything else is its JSON: `0.5`, `true`, `[1,2]`.
//! - The first row of a CSV file names the attributes, each once. All rows have as many cells.
//! - JSON is an array of objects, a single object (one entity), or objects without brackets and
//!   commas: lines that call themselves JSON.
//! - JSON lines have one object per line; empty lines are skipped.
//! - Numbers are exact, or an error: an integer of more than 64 bits is refused.
//! - A byte order mark at the beginning is skipped.

mod csv;
mod error;
mod format;
mod json;
mod lines;

use std::io::{Read, Write};

pub use error::Error;
pub use format::Format;

/// An entity: its attributes in order.
pub type Entity = serde_json::Map<String, serde_json::Value>;

/// The largest entity that is read, in bytes.
pub const MAX_ENTITY: usize = 16 * 1024 * 1024;

/// The most columns of a CSV file: each costs memory, and a cell in every row.
pub const MAX_COLUMNS: usize = 65_536;

/// Reads entities. It buffers; after an error it ends.
pub struct Reader<R>(Reading<R>);

enum Reading<R> {
    Csv(Box<csv::CsvReader<R>>),
    Json(json::JsonReader<R>),
    Lines(lines::LinesReader<R>),
    Ended,
}

impl<R: Read> Reader<R> {
    /// Reads `input`, which is in `format`. Of CSV the first row is read at once.
    pub fn new(format: Format, input: R) -> Result<Self, Error> {
        Ok(Self(match format {
            Format::Csv => Reading::Csv(Box::new(csv::CsvReader::new(input)?)),
            Format::Json => Reading::Json(json::JsonReader::new(input)),
            Format::Lines => Reading::Lines(lines::LinesReader::new(input)),
        }))
    }

    /// The attributes, where the format says them in advance: in CSV.
    pub fn attributes(&self) -> Option<&[String]> {
        match &self.0 {
            Reading::Csv(reader) => Some(reader.attributes()),
            _ => None,
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Entity, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.0 {
            Reading::Csv(reader) => reader.next(),
            Reading::Json(reader) => reader.next(),
            Reading::Lines(reader) => reader.next(),
            Reading::Ended => return None,
        };
        if !matches!(next, Ok(Some(_))) {
            self.0 = Reading::Ended;
        }
        next.transpose()
    }
}

/// Writes entities. It does not buffer, except for CSV; wrap a file in a
/// [`BufWriter`](std::io::BufWriter).
pub struct Writer<W: Write>(Writing<W>);

enum Writing<W: Write> {
    Csv(Box<csv::CsvWriter<W>>),
    Json(json::JsonWriter<W>),
    Lines(lines::LinesWriter<W>),
}

impl<W: Write> Writer<W> {
    /// Writes `format`. For CSV the attributes of the first entity are the columns; if later
    /// entities may have others, use [`Writer::csv`].
    pub fn new(format: Format, output: W) -> Self {
        Self(match format {
            Format::Csv => Writing::Csv(Box::new(csv::CsvWriter::new(output))),
            Format::Json => Writing::Json(json::JsonWriter::new(output)),
            Format::Lines => Writing::Lines(lines::LinesWriter::new(output)),
        })
    }

    /// Writes CSV with these columns, and the row with their names at once.
    pub fn csv<T: AsRef<str>>(
        output: W,
        attributes: impl IntoIterator<Item = T>,
    ) -> Result<Self, Error> {
        let mut writer = csv::CsvWriter::new(output);
        writer.start(
            attributes
                .into_iter()
                .map(|name| name.as_ref().to_owned())
                .collect(),
        )?;
        Ok(Self(Writing::Csv(Box::new(writer))))
    }

    /// Writes an entity. In CSV, an attribute that is no column is an error.
    pub fn write(&mut self, entity: &Entity) -> Result<(), Error> {
        match &mut self.0 {
            Writing::Csv(writer) => writer.write(entity),
            Writing::Json(writer) => writer.write(entity),
            Writing::Lines(writer) => writer.write(entity),
        }
    }

    /// Writes what is still to be written, and gives the output back.
    pub fn finish(self) -> Result<W, Error> {
        match self.0 {
            Writing::Csv(writer) => writer.finish(),
            Writing::Json(writer) => writer.finish(),
            Writing::Lines(writer) => writer.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entity(value: serde_json::Value) -> Entity {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn csv_has_the_columns_of_its_first_entity_or_those_given() {
        let mut writer = Writer::new(Format::Csv, Vec::new());
        writer.write(&entity(json!({"ID": "a", "x": 1}))).unwrap();
        writer.write(&entity(json!({"ID": "b"}))).unwrap();
        let error = writer
            .write(&entity(json!({"ID": "c", "y": 1})))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "entity 3 cannot be written as CSV: there is no column for its attribute `y`"
        );

        let mut writer = Writer::csv(Vec::new(), ["y", "ID"]).unwrap();
        writer.write(&entity(json!({"ID": "a"}))).unwrap();
        assert_eq!(writer.finish().unwrap(), b"y,ID\n,a\n");
        assert!(Writer::csv(Vec::new(), ["ID", "ID"]).is_err());
    }

    #[test]
    fn a_reader_ends_after_an_error() {
        for (format, text) in [
            (Format::Csv, "ID\n1,2\n3\n"),
            (Format::Json, "[1, {}]"),
            (Format::Lines, "1\n{}\n"),
        ] {
            let mut reader = Reader::new(format, text.as_bytes()).unwrap();
            assert!(matches!(reader.next(), Some(Err(_))));
            assert!(reader.next().is_none());
        }
    }

    /// Objects that end, and strings that are cut, at every possible border of a buffer.
    #[test]
    fn json_is_read_from_any_pieces() {
        struct Bytewise<'a>(&'a [u8]);
        impl Read for Bytewise<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let length = buffer.len().min(1);
                self.0.read(&mut buffer[..length])
            }
        }
        let text = r#" [ {"a": "}\"{\\", "ü": {"b": [{}]}} , {"a": "\\"} ] "#;
        let expected: Vec<Entity> = serde_json::from_str(text).unwrap();
        let reader = Reader::new(Format::Json, Bytewise(text.as_bytes())).unwrap();
        assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn too_large_an_entity_is_refused() {
        let long = "x".repeat(MAX_ENTITY);
        for (format, text) in [
            (Format::Json, format!("[{{\"a\": \"{long}\"}}]")),
            (Format::Lines, format!("{{\"a\": \"{long}\"}}\n")),
            (Format::Csv, format!("ID\n{long}{long}\n")),
        ] {
            let error = Reader::new(format, text.as_bytes())
                .unwrap()
                .next()
                .unwrap()
                .unwrap_err();
            assert!(error.to_string().contains("16777216 bytes"), "{error}");
        }
    }
}
