//! A document as a plugin.

use std::path::{Path, PathBuf};

use runner_core::pipeline::{DOCUMENT, GIVEN_MARK, PARAMETERS};
use runner_pipeline::graph::NodeSpec;
use runner_pipeline::types::ItemType;
use runner_pipeline::{Catalog, Checked, Foreign, Format, Graph};
use serde_json::{Map, Value, json};

/// The media type of items that leave a pipeline.
pub(crate) const LINES: &str = "application/X-lines+json";
/// Their data type.
pub(crate) const ITEMS: &str = "custom/items";

/// What a document in a plugin folder makes of this process.
pub(crate) enum Kind {
    /// The pipeline that stands in it.
    Own(Box<Module>),
    /// Pipelines come with their tasks.
    Given,
}

/// A pipeline that can be run.
pub(crate) struct Module {
    pub(crate) checked: Checked,
    /// Where it lies, and the files beside it.
    pub(crate) folder: PathBuf,
    /// Whether it came with its task: then there are no files beside it.
    pub(crate) is_given: bool,
    name: String,
    version: String,
}

impl Kind {
    /// Reads and checks a document.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let format = Format::of(path).ok_or("its name ends in .yaml, .json or .toml")?;
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let document = format.read(&text).map_err(|error| error.to_string())?;
        match document == json!({GIVEN_MARK: true}) {
            true => Ok(Self::Given),
            false => Module::new(path, &document).map(|own| Self::Own(Box::new(own))),
        }
    }
}

impl Module {
    /// The pipeline that came with a task.
    pub(crate) fn given(params: &Value) -> Result<Self, String> {
        let document = &params["parameters"][DOCUMENT];
        let graph = Graph::from_json(document).map_err(|error| error.to_string())?;
        let checked =
            Checked::new(graph, &Others { own: "" }).map_err(|error| error.to_string())?;
        Ok(Self {
            checked,
            folder: PathBuf::new(),
            is_given: true,
            name: String::new(),
            version: String::new(),
        })
    }

    /// The parameters of the pipeline among those of its task.
    pub(crate) fn values(&self, mut parameters: Map<String, Value>) -> Map<String, Value> {
        if !self.is_given {
            return parameters;
        }
        match parameters.remove(PARAMETERS) {
            Some(Value::Object(values)) => values,
            _ => Map::new(),
        }
    }

    fn new(path: &Path, document: &Value) -> Result<Self, String> {
        let graph = Graph::from_json(document).map_err(|error| error.to_string())?;
        let stem = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split('.').next().unwrap_or_default().to_owned();
        let name = graph.name.clone().unwrap_or(stem);
        let version = graph.version.clone().ok_or(
            "version: a pipeline that is a plugin has a version, such as \"1.0.0\"".to_owned(),
        )?;
        let known = Others { own: &name };
        let checked = Checked::new(graph, &known).map_err(|error| error.to_string())?;
        Ok(Self {
            checked,
            folder: path.parent().unwrap_or(Path::new(".")).to_owned(),
            is_given: false,
            name,
            version,
        })
    }

    /// The identifier of its plugin.
    pub(crate) fn identifier(&self) -> String {
        format!("{}@{}", self.name, self.version.replace('.', "-"))
    }

    /// The answer to `describe`.
    pub(crate) fn describe(&self) -> Value {
        let graph = self.checked.graph();
        let mut plugin = json!({
            "name": self.name,
            "version": self.version,
            "tags": ["pipeline"],
            "parameters": graph.parameters,
        });
        for (key, text) in [("title", &graph.title), ("description", &graph.description)] {
            if let Some(text) = text {
                plugin[key] = json!(text);
            }
        }
        let outputs = self.checked.outputs();
        let outputs = outputs.map(|node| {
            json!({
                "dataType": ITEMS, "contentType": [LINES], "required": false,
                "name": format!("{}.jsonl", node.name),
            })
        });
        plugin["dataOutput"] = outputs.collect();
        json!({"plugins": [plugin], "depends": []})
    }
}

/// Plugins are looked for when they are called; only the pipeline itself is known here.
struct Others<'a> {
    own: &'a str,
}

impl Catalog for Others<'_> {
    fn find(&self, node: &NodeSpec) -> Result<Option<Foreign>, String> {
        let name = node.uses.split('@').next().unwrap_or_default();
        if name == self.own {
            return Err(format!("{:?} contains itself", self.own));
        }
        if !matches!(node.with, Value::Null | Value::Object(_)) {
            return Err("`with` of a plugin is an object of its parameters".to_owned());
        }
        Ok(Some(Foreign {
            takes: ItemType::Any,
            gives: ItemType::Object,
        }))
    }
}
