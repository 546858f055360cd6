//! Converts entities between CSV, JSON and JSON lines.
//!
//! The file is streamed: memory does not depend on its size. CSV needs its columns first, so JSON
//! is read twice to become CSV: once for the attributes, once for the entities.

mod convert;
mod watched;

use runner_sdk::entities::Format;
use runner_sdk::{
    Choice, Data, DataOutput, Description, Failure, Input, Kind, Outcome, Plugin, Task,
};

pub use convert::convert;
use watched::Watch;

/// The data type of input and output.
const ENTITIES: &str = "entity/list";

const HELP: &str = "\
Converts a list of entities into another format, entity by entity.

CSV knows only text. From CSV, all values become strings, and empty cells empty strings. To CSV, \
the columns are `ID` and then the attributes in the order in which they first appear; missing \
attributes and `null` become empty cells, numbers and truth values their JSON, and nested values \
JSON text.";

/// The plugin `entity-convert`.
pub struct EntityConvert;

impl Plugin for EntityConvert {
    fn describe(&self) -> Description {
        let content_types = Format::ALL.map(Format::content_type);
        Description::new("entity-convert", "1.0.0")
            .title("Convert entities")
            .description("Converts entities between CSV, JSON and JSON lines.")
            .help(HELP)
            .kind(Kind::Conversion)
            .tags(["conversion", "entities", "csv", "json"])
            .parameter(
                Data::new("inputFileUrl", ENTITIES, content_types)
                    .label("Entities URL")
                    .description("The URL of a file with entities."),
            )
            .parameter(
                Choice::new("outputFormat", content_types)
                    .label("Output format")
                    .description("The format to convert to.")
                    .value_label(Format::Csv.content_type(), "CSV")
                    .value_label(Format::Json.content_type(), "JSON")
                    .value_label(Format::Lines.content_type(), "JSON lines"),
            )
            .output(DataOutput::new(ENTITIES, content_types))
    }

    fn run(&self, task: &Task) -> Result<Outcome, Failure> {
        let input = task.input("inputFileUrl")?;
        let from = input_format(input)?;
        let to = output_format(&task.parameter::<String>("outputFormat")?)?;

        let watch = Watch::new(task, input.size * convert::passes(from, to));
        let name = output_name(&input.name, to);
        let mut output = task.create_output(&name, ENTITIES, to.content_type())?;
        let open = || Ok(watch.reader(input.open()?));
        let count = convert(open, from, to, &mut output)?;
        output.finish()?;

        let entities = if count == 1 { "entity" } else { "entities" };
        let (from, to) = (from.content_type(), to.content_type());
        Ok(format!("Converted {count} {entities} from {from} to {to}.").into())
    }
}

runner_sdk::export!(EntityConvert);

/// The format of the input: what its media type says, or else its name.
fn input_format(input: &Input) -> Result<Format, Failure> {
    Format::detect(&input.content_type, &input.name).ok_or_else(|| {
        Failure::new(format!(
            "cannot tell the format of `{}`: its media type is `{}`, and neither that nor the \
            extension is one of CSV, JSON or JSON lines",
            input.name, input.content_type
        ))
    })
}

fn output_format(content_type: &str) -> Result<Format, Failure> {
    Format::from_content_type(content_type)
        .ok_or_else(|| Failure::new(format!("there is no output format `{content_type}`")))
}

/// The name of the input with the extension of the output.
fn output_name(name: &str, format: Format) -> String {
    let known = ["csv", "json", "jsonl", "ndjson", "txt"];
    let stem = match name.rsplit_once('.') {
        Some((stem, extension)) if known.contains(&extension.to_ascii_lowercase().as_str()) => stem,
        _ => name,
    };
    let stem = if stem.is_empty() { "entities" } else { stem };
    format!("{stem}.{}", format.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_after_inputs() {
        for (name, expected) in [
            ("entities.csv", "entities.json"),
            ("my.entities.JSONL", "my.entities.json"),
            ("v1.2", "v1.2.json"),
            (".csv", "entities.json"),
            ("", "entities.json"),
        ] {
            assert_eq!(output_name(name, Format::Json), expected);
        }
    }
}
