//! The conversion itself, from any reader to any writer.

use std::collections::HashSet;
use std::io::{Read, Write};

use runner_sdk::Failure;
use runner_sdk::entities::{Error, Format, MAX_COLUMNS, Reader, Writer};

/// The attribute that names an entity; the first column of CSV.
const ID: &str = "ID";

/// How often [`convert`] reads its input.
pub(crate) fn passes(from: Format, to: Format) -> u64 {
    if to == Format::Csv && from != Format::Csv {
        2
    } else {
        1
    }
}

/// Writes the entities that `open` gives in the format `from` to `output` in the format `to`.
/// Returns their number.
///
/// `open` is called once more for the attributes, where JSON becomes CSV.
pub fn convert<R: Read, W: Write>(
    open: impl Fn() -> Result<R, Failure>,
    from: Format,
    to: Format,
    output: W,
) -> Result<u64, Failure> {
    let mut writer = match to {
        Format::Csv => Writer::csv(output, columns(open()?, from)?)?,
        Format::Json | Format::Lines => Writer::new(to, output),
    };
    let mut count = 0;
    for entity in Reader::new(from, open()?)? {
        writer.write(&entity?)?;
        count += 1;
    }
    writer.finish()?;
    Ok(count)
}

/// The columns for all entities: `ID` if there is one, then the attributes as they appear.
fn columns<R: Read>(input: R, format: Format) -> Result<Vec<String>, Error> {
    let reader = Reader::new(format, input)?;
    let mut columns = match reader.attributes() {
        Some(attributes) => attributes.to_vec(),
        None => appearing(reader)?,
    };
    if let Some(index) = columns.iter().position(|name| name == ID) {
        columns[..=index].rotate_right(1);
    }
    Ok(columns)
}

/// The attributes of all entities, in the order in which they first appear.
fn appearing<R: Read>(reader: Reader<R>) -> Result<Vec<String>, Error> {
    let mut columns = Vec::new();
    let mut seen = HashSet::new();
    for entity in reader {
        for attribute in entity?.keys() {
            if !seen.contains(attribute) {
                seen.insert(attribute.clone());
                columns.push(attribute.clone());
            }
        }
        if columns.len() > MAX_COLUMNS {
            let reason = format!("the entities have more than {MAX_COLUMNS} attributes");
            return Err(Error::Columns(reason));
        }
    }
    Ok(columns)
}
