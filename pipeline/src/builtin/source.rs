//! Sources: items from a list, a range, or the lines of a file.

use std::io::{BufRead, BufReader, Read};

use serde_json::{Map, Value};

use super::SourceSpec;
use crate::expression::{Params, Template};
use crate::surroundings::Surroundings;

/// Bytes of an item that is read from a file at most.
pub(crate) const MAX_ITEM: u64 = 16 << 20;

/// Makes items until there are no more.
pub(crate) trait Generate: Send {
    /// Adds at most so many items. Fewer mean that there are no more.
    fn generate(&mut self, most: usize, into: &mut Vec<Value>) -> Result<(), String>;
}

/// A source that is ready.
pub(crate) fn generate(
    spec: &SourceSpec,
    params: &Params,
    surroundings: &dyn Surroundings,
) -> Result<Box<dyn Generate>, String> {
    let value = |template: &Template| template.value(&mut Value::Null, params);
    let open = |template: &Template| {
        let Value::String(path) = value(template)? else {
            return Err("the path of the file is no text".to_owned());
        };
        let file = surroundings
            .open(&path)
            .map_err(|error| format!("cannot read {path}: {error}"))?;
        Ok((path, file))
    };
    Ok(match spec {
        SourceSpec::List(template) => match value(template)? {
            Value::Array(list) => Box::new(list.into_iter()),
            _ => return Err("`list` is no list".to_owned()),
        },
        SourceSpec::Range(range) => {
            let [from, to, step] = &**range;
            let number = |template| {
                let value = value(template)?;
                value
                    .as_i64()
                    .ok_or_else(|| format!("`range` has {value}, which is no whole number"))
            };
            let (next, end, step) = (number(from)?, number(to)?, number(step)?);
            if step == 0 {
                return Err("the step of `range` is 0".to_owned());
            }
            Box::new(Range { next, end, step })
        }
        SourceSpec::Lines(path) => Box::new(Lines::new(open(path)?, false)),
        SourceSpec::JsonLines(path) => Box::new(Lines::new(open(path)?, true)),
        SourceSpec::Csv(path) => {
            let (path, file) = open(path)?;
            let mut reader = csv::Reader::from_reader(Bounded::new(file));
            let headers = reader
                .headers()
                .map_err(|error| format!("{path}: {error}"))?;
            let headers = headers.iter().map(str::to_owned).collect();
            Box::new(Csv {
                path,
                headers,
                reader,
            })
        }
    })
}

impl Generate for std::vec::IntoIter<Value> {
    fn generate(&mut self, most: usize, into: &mut Vec<Value>) -> Result<(), String> {
        into.extend(self.take(most));
        Ok(())
    }
}

struct Range {
    next: i64,
    end: i64,
    step: i64,
}

impl Generate for Range {
    fn generate(&mut self, most: usize, into: &mut Vec<Value>) -> Result<(), String> {
        for _ in 0..most {
            let is_over = match self.step > 0 {
                true => self.next >= self.end,
                false => self.next <= self.end,
            };
            if is_over {
                break;
            }
            into.push(Value::from(self.next));
            // Beyond the last number there is none.
            self.next = self.next.checked_add(self.step).unwrap_or(self.end);
        }
        Ok(())
    }
}

struct Lines {
    path: String,
    file: BufReader<Box<dyn Read + Send>>,
    number: u64,
    is_json: bool,
}

impl Lines {
    fn new((path, file): (String, Box<dyn Read + Send>), is_json: bool) -> Self {
        Self {
            path,
            file: BufReader::new(file),
            number: 0,
            is_json,
        }
    }
}

impl Generate for Lines {
    fn generate(&mut self, most: usize, into: &mut Vec<Value>) -> Result<(), String> {
        for _ in 0..most {
            self.number += 1;
            let place = |what: &dyn std::fmt::Display| {
                format!("{}, line {}: {what}", self.path, self.number)
            };
            let mut line = String::new();
            let mut limited = (&mut self.file).take(MAX_ITEM + 1);
            let read = limited
                .read_line(&mut line)
                .map_err(|error| place(&error))?;
            if read == 0 {
                break;
            }
            if line.len() as u64 > MAX_ITEM {
                return Err(place(&format!("it has more than {MAX_ITEM} bytes")));
            }
            let length = line.trim_end_matches(['\n', '\r']).len();
            line.truncate(length);
            into.push(match self.is_json {
                true => serde_json::from_str(&line).map_err(|error| place(&error))?,
                false => Value::String(line),
            });
        }
        Ok(())
    }
}

/// A file of which no more than the bytes of one item are read before an item was taken.
struct Bounded {
    file: Box<dyn Read + Send>,
    left: u64,
}

impl Bounded {
    fn new(file: Box<dyn Read + Send>) -> Self {
        let left = MAX_ITEM;
        Self { file, left }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let text = format!("a row has more than {MAX_ITEM} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
        }
        let read = self.file.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

struct Csv {
    path: String,
    headers: Vec<String>,
    reader: csv::Reader<Bounded>,
}

impl Generate for Csv {
    fn generate(&mut self, most: usize, into: &mut Vec<Value>) -> Result<(), String> {
        let mut record = csv::StringRecord::new();
        for _ in 0..most {
            self.reader.get_mut().left = MAX_ITEM;
            let is_there = self.reader.read_record(&mut record);
            if !is_there.map_err(|error| format!("{}: {error}", self.path))? {
                break;
            }
            let cells = self.headers.iter().zip(&record);
            let cells = cells.map(|(header, cell)| (header.clone(), Value::from(cell)));
            into.push(Value::Object(cells.collect::<Map<_, _>>()));
        }
        Ok(())
    }
}
