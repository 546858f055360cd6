//! Nodes that need no plugin.

mod sink;
mod source;
mod stage;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::expression::{Expression, Template};
use crate::graph::{GraphError, GraphProblem, NodeSpec};
use crate::types::ItemType;

pub(crate) use sink::{FileFormat, FileSink};
pub(crate) use source::{Generate, generate};
pub(crate) use stage::{Batch, Emit, Filter, Flatten, MapStage, Pass, Stage};

/// Items in a batch at most.
const MAX_BATCH: u64 = 1_000_000;

/// A node that is built in, with its arguments.
#[derive(Debug)]
pub(crate) enum Builtin {
    Source(Box<SourceSpec>),
    Map(Arc<Expression>),
    Filter(Arc<Expression>),
    /// What is a list: the item, or what the expression says.
    Flatten(Option<Arc<Expression>>),
    Batch(usize),
    /// `zip` and `merge`: their join is all they do.
    Pass,
    Sink(SinkSpec),
}

/// Whether this name is that of a built-in.
pub fn is_builtin(name: &str) -> bool {
    let names = [
        "source", "map", "filter", "flatten", "batch", "zip", "merge", "sink",
    ];
    names.contains(&name)
}

/// Where the items of a source come from.
#[derive(Debug)]
pub(crate) enum SourceSpec {
    List(Template),
    Lines(Template),
    Csv(Template),
    JsonLines(Template),
    /// From, to (which is not reached), step.
    Range(Box<[Template; 3]>),
}

/// Where the items of a sink go.
#[derive(Debug)]
pub(crate) enum SinkSpec {
    /// To whoever runs the pipeline, under this name.
    Output,
    File(Box<Template>, Option<FileFormat>),
}

impl Builtin {
    /// The built-in that a node uses, if it uses one.
    pub(crate) fn read(node: &NodeSpec) -> Result<Option<Self>, GraphError> {
        let args = |main, known: &[&'static str]| Args::of(node, main, known);
        let builtin = match node.uses.as_str() {
            "source" => {
                let known = ["list", "lines", "csv", "jsonLines", "range"];
                Self::Source(Box::new(read_source(args("list", &known)?)?))
            }
            "map" => Self::Map(args("value", &["value"])?.expression("value")?),
            "filter" => Self::Filter(args("where", &["where"])?.expression("where")?),
            "flatten" => {
                let args = args("value", &["value"])?;
                Self::Flatten(match args.map.contains_key("value") {
                    true => Some(args.expression("value")?),
                    false => None,
                })
            }
            "batch" => Self::Batch(args("size", &["size"])?.size()?),
            "zip" | "merge" => {
                args("", &[])?;
                Self::Pass
            }
            "sink" => Self::Sink(read_sink(args("file", &["file", "format", "output"])?)?),
            _ => return Ok(None),
        };
        Ok(Some(builtin))
    }

    pub(crate) fn is_source(&self) -> bool {
        matches!(self, Self::Source(_))
    }

    pub(crate) fn is_sink(&self) -> bool {
        matches!(self, Self::Sink(_))
    }

    /// The items that it takes.
    pub(crate) fn takes(&self) -> ItemType {
        match self {
            Self::Flatten(None) => ItemType::List(Box::new(ItemType::Any)),
            _ => ItemType::Any,
        }
    }

    /// The items that it makes of such.
    pub(crate) fn gives(&self, taken: &ItemType) -> ItemType {
        match self {
            Self::Source(source) => match &**source {
                SourceSpec::List(Template::Fixed(Value::Array(list))) => {
                    ItemType::common(list.iter().map(ItemType::of))
                }
                SourceSpec::List(_) | SourceSpec::JsonLines(_) => ItemType::Any,
                SourceSpec::Lines(_) => ItemType::Text,
                SourceSpec::Csv(_) => ItemType::Object,
                SourceSpec::Range(_) => ItemType::Integer,
            },
            Self::Map(expression) if expression.text().trim() == "item" => taken.clone(),
            Self::Map(_) | Self::Flatten(Some(_)) => ItemType::Any,
            Self::Filter(_) | Self::Pass | Self::Sink(_) => taken.clone(),
            Self::Flatten(None) => match taken {
                ItemType::List(element) => (**element).clone(),
                _ => ItemType::Any,
            },
            Self::Batch(_) => ItemType::List(Box::new(taken.clone())),
        }
    }
}

fn read_source(args: Args<'_>) -> Result<SourceSpec, GraphError> {
    let Some((kind, value)) = args.map.iter().next().filter(|_| args.map.len() == 1) else {
        return args.wrong("a source has one of list, lines, csv, jsonLines and range");
    };
    Ok(match kind.as_str() {
        "list" => match value {
            Value::Array(_) | Value::Object(_) => SourceSpec::List(args.constant("list")?),
            _ => return args.wrong("list: expected a list of items"),
        },
        "lines" => SourceSpec::Lines(args.path("lines")?),
        "csv" => SourceSpec::Csv(args.path("csv")?),
        "jsonLines" => SourceSpec::JsonLines(args.path("jsonLines")?),
        _ => {
            let fixed = |number: i64| Ok::<_, GraphError>(Template::Fixed(Value::from(number)));
            let read = |value: &Value| args.template("range", value);
            SourceSpec::Range(Box::new(match value {
                Value::Array(list) => match list.as_slice() {
                    [from, to] => [read(from)?, read(to)?, fixed(1)?],
                    [from, to, step] => [read(from)?, read(to)?, read(step)?],
                    _ => return args.wrong("range: expected TO, [FROM, TO] or [FROM, TO, STEP]"),
                },
                to => [fixed(0)?, read(to)?, fixed(1)?],
            }))
        }
    })
}

fn read_sink(args: Args<'_>) -> Result<SinkSpec, GraphError> {
    match (args.map.get("file"), args.map.get("output")) {
        // `with: output` is short for `with: {output: true}`.
        (Some(Value::String(output)), None) if output == "output" => Ok(SinkSpec::Output),
        (None, Some(Value::Bool(true))) => Ok(SinkSpec::Output),
        (Some(_), None) => {
            let format = match args.map.get("format") {
                None => None,
                Some(format) => match format.as_str().and_then(FileFormat::named) {
                    Some(format) => Some(format),
                    None => return args.wrong("format: expected lines, csv, json or jsonLines"),
                },
            };
            Ok(SinkSpec::File(Box::new(args.path("file")?), format))
        }
        _ => args.wrong("a sink has either `file` or `output: true`"),
    }
}

/// The arguments of a node.
struct Args<'a> {
    node: &'a NodeSpec,
    map: Map<String, Value>,
}

impl<'a> Args<'a> {
    /// The object in `with`; any other value is the main argument.
    fn of(node: &'a NodeSpec, main: &str, known: &[&str]) -> Result<Self, GraphError> {
        let map = match &node.with {
            Value::Null => Map::new(),
            Value::Object(map) if !map.contains_key("$expr") => map.clone(),
            value => Map::from_iter([(main.to_owned(), value.clone())]),
        };
        let args = Self { node, map };
        match args.map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(args),
            Some(_) if known.is_empty() => args.wrong("it takes no arguments"),
            Some(key) => args.wrong(&format!("{key}: unknown; it takes {}", known.join(", "))),
        }
    }

    fn wrong<T>(&self, what: &str) -> Result<T, GraphError> {
        Err(GraphError {
            place: format!("{}.with", self.node.place()),
            problem: GraphProblem::Argument(what.to_owned()),
        })
    }

    fn expression(&self, key: &str) -> Result<Arc<Expression>, GraphError> {
        let text = match self.map.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Object(map)) => match map.get("$expr") {
                Some(Value::String(text)) => text.clone(),
                _ => return self.wrong(&format!("{key}: expected an expression")),
            },
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => return self.wrong(&format!("{key}: expected an expression")),
        };
        Expression::new(&text)
            .map(Arc::new)
            .or_else(|error| self.wrong(&format!("{key}: {error}")))
    }

    /// A value that does not depend on items.
    fn template(&self, key: &str, value: &Value) -> Result<Template, GraphError> {
        let template = Template::new(value);
        match template.or_else(|error| self.wrong(&format!("{key}: {error}")))? {
            template if template.is_constant() => Ok(template),
            _ => self.wrong(&format!("{key}: there is no `item` here, only `params`")),
        }
    }

    fn constant(&self, key: &str) -> Result<Template, GraphError> {
        self.template(key, self.map.get(key).unwrap_or(&Value::Null))
    }

    fn path(&self, key: &str) -> Result<Template, GraphError> {
        match self.constant(key)? {
            Template::Fixed(Value::String(path)) if !path.is_empty() => {
                Ok(Template::Fixed(Value::String(path)))
            }
            template @ Template::Expression(_) => Ok(template),
            _ => self.wrong(&format!("{key}: expected the path of a file")),
        }
    }

    fn size(&self) -> Result<usize, GraphError> {
        let size = self.map.get("size").and_then(Value::as_u64);
        match size.filter(|size| (1..=MAX_BATCH).contains(size)) {
            Some(size) => Ok(usize::try_from(size).unwrap_or(usize::MAX)),
            None => self.wrong(&format!("size: expected a number from 1 to {MAX_BATCH}")),
        }
    }
}
