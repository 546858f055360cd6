//! Sinks that write a file.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::Value;

use super::stage::{Emit, Stage};
use crate::item::Lineage;
use crate::surroundings::NewFile;

/// How items stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// Text as it is, others as JSON, one a line.
    Lines,
    /// Objects as rows; the first one names the columns.
    Csv,
    /// A list of all.
    Json,
    /// JSON, one a line.
    JsonLines,
}

impl FileFormat {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "lines" => Some(Self::Lines),
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "jsonLines" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// The format that the end of a name tells.
    pub(crate) fn of(path: &str) -> Self {
        let extension = Path::new(path).extension().and_then(|end| end.to_str());
        match extension {
            Some("csv") => Self::Csv,
            Some("json") => Self::Json,
            Some("jsonl" | "ndjson") => Self::JsonLines,
            _ => Self::Lines,
        }
    }
}

/// Writes items into a file, which is there when all were written.
pub(crate) struct FileSink {
    path: String,
    format: FileFormat,
    /// `None` when it was kept.
    file: Option<BufWriter<Box<dyn NewFile>>>,
    columns: Option<Vec<String>>,
    is_first: bool,
}

impl FileSink {
    pub(crate) fn new(path: String, format: FileFormat, file: Box<dyn NewFile>) -> Self {
        Self {
            path,
            format,
            file: Some(BufWriter::new(file)),
            columns: None,
            is_first: true,
        }
    }

    fn write(&mut self, value: &Value) -> Result<(), String> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let Some(file) = &mut self.file else {
            return Err("it is closed".to_owned());
        };
        let written = match (self.format, value) {
            (FileFormat::Lines, Value::String(text)) => writeln!(file, "{text}"),
            (FileFormat::Lines | FileFormat::JsonLines, value) => writeln!(file, "{value}"),
            (FileFormat::Json, value) => {
                let before = if is_first { "[\n" } else { ",\n" };
                write!(file, "{before}{value}")
            }
            (FileFormat::Csv, Value::Object(row)) => {
                let mut writer = csv::Writer::from_writer(file);
                let columns = match &self.columns {
                    Some(columns) => columns,
                    None => {
                        let names: Vec<String> = row.keys().cloned().collect();
                        writer.write_record(&names).map_err(|e| e.to_string())?;
                        self.columns.insert(names)
                    }
                };
                if let Some(other) = row.keys().find(|key| !columns.contains(key)) {
                    return Err(format!(
                        "the row has {other:?}, which is none of the columns of the first row"
                    ));
                }
                let cell = |name: &String| match row.get(name) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(value) => value.to_string(),
                };
                let cells = columns.iter().map(cell);
                writer.write_record(cells).map_err(|e| e.to_string())?;
                writer.flush()
            }
            (FileFormat::Csv, _) => return Err("a row of CSV is an object".to_owned()),
        };
        written.map_err(|error| error.to_string())
    }
}

impl Stage for FileSink {
    fn apply(&mut self, _: Lineage, value: Value, _: &mut Emit) -> Result<(), String> {
        self.write(&value)
            .map_err(|reason| format!("cannot write {}: {reason}", self.path))
    }

    fn keeps_tombstones(&self) -> bool {
        false
    }

    fn finish(&mut self, _: &mut Emit) -> Result<(), String> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let end = match (self.format, self.is_first) {
            (FileFormat::Json, true) => "[]\n",
            (FileFormat::Json, false) => "\n]\n",
            _ => "",
        };
        let kept = file.write_all(end.as_bytes()).and_then(|()| {
            file.into_inner()
                .map_err(std::io::IntoInnerError::into_error)?
                .keep()
        });
        kept.map_err(|error| format!("cannot write {}: {error}", self.path))
    }
}
