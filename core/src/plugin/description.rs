//! What a module offers, as its host and clients write it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schedule::{Missed, Overlap};

/// The answer of a host to `describe`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Description {
    /// The plugins, unchecked.
    #[serde(default)]
    pub plugins: Vec<PluginDescription>,
    /// Files outside the module that the description depends on.
    #[serde(default)]
    pub depends: Vec<String>,
}

/// One plugin as its host describes it; see `docs/protocol.md`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginDescription {
    /// First half of the identity; empty where the plugin has no name of its own and takes that of its module.
    #[serde(default)]
    pub name: String,
    /// Second half of the identity.
    pub version: String,
    /// Shown to people; the name if absent.
    #[serde(default)]
    pub title: Option<String>,
    /// One paragraph.
    #[serde(default)]
    pub description: String,
    /// Markdown above the form.
    #[serde(default)]
    pub help: String,
    /// `processing`, `visualization`, `conversion`, `dataloader` or `interaction`.
    #[serde(default, rename = "type")]
    pub kind: Option<PluginKind>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// JSON Schema of the parameters.
    #[serde(default)]
    pub parameters: Value,
    /// Values offered as an example.
    #[serde(default)]
    pub example: Map<String, Value>,
    /// What it makes.
    #[serde(default)]
    pub data_output: Vec<DataOutput>,
    /// Links shown in the metadata.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Steps that a run may ask for.
    #[serde(default)]
    pub steps: Vec<StepDescription>,
    /// Whether it answers requests to routes of its own.
    #[serde(default)]
    pub routes: bool,
    /// How it works as a node of a pipeline, if it does so in a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeDescription>,
    /// Work of its own that comes again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleDescription>,
}

/// Work that comes again, as a plugin declares it. Either `cron` or `every`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScheduleDescription {
    /// Tells it from others of the plugin; `default` if it is not given.
    pub name: String,
    /// A cron line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cron: String,
    /// A span of time such as `15m`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub every: String,
    /// IANA name of the time zone of the cron line; UTC if it is not given.
    #[serde(skip_serializing_if = "String::is_empty", alias = "time_zone")]
    pub time_zone: String,
    /// Up to this span it is fired later.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jitter: String,
    /// What is done while a task of it has not ended.
    pub overlap: Overlap,
    /// What is done with firings that were missed.
    pub missed: Missed,
    /// Values of the parameters.
    pub parameters: Map<String, Value>,
}

/// How a plugin works as a node of a pipeline: a host takes items in batches, beside its runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeDescription {
    /// Whether it makes items of nothing, instead of others.
    pub source: bool,
    /// JSON Schema of the items that it takes; null is any.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub takes: Value,
    /// JSON Schema of the items that it makes; null is any.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub gives: Value,
    /// Items offered as an example.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub example: Vec<Value>,
}

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Makes data of data.
    #[default]
    Processing,
    /// Makes something to look at.
    Visualization,
    /// Changes the format of data.
    Conversion,
    /// Brings data in.
    Dataloader,
    /// Talks with a person.
    Interaction,
}

/// A step as its host describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepDescription {
    /// Name of the step; part of its URLs.
    pub step: String,
    /// Shown to people; the plugin's title if absent.
    #[serde(default)]
    pub title: Option<String>,
    /// One paragraph.
    #[serde(default)]
    pub description: String,
    /// Markdown above the form.
    #[serde(default)]
    pub help: String,
    /// JSON Schema of the parameters.
    #[serde(default)]
    pub parameters: Value,
    /// Values offered as an example.
    #[serde(default)]
    pub example: Map<String, Value>,
}

/// An output that a plugin promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataOutput {
    /// What it means, such as `entity/list`.
    pub data_type: String,
    /// Media types it may have; none is any.
    #[serde(default)]
    pub content_type: Vec<String>,
    /// Name of the file, where it is always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is always made.
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

/// A data input that a plugin reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataInput {
    /// What it means, such as `entity/list`.
    pub data_type: String,
    /// Media types it may have.
    pub content_type: Vec<String>,
    /// Key of the parameter.
    pub parameter: String,
    /// Whether it must be given.
    pub required: bool,
}

/// Another plugin that a plugin calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginDependency {
    /// Key of the parameter.
    pub parameter: String,
    /// Whether it must be given.
    pub required: bool,
    /// Tags the other plugin must have; `!tag` it must not.
    pub tags: Vec<String>,
    /// Name it must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version it must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A link with the type of what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it leads to, such as `subscribe`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where.
    pub href: String,
}

impl Link {
    /// The link of a plugin whose path or URL is `base`: a relative one leads to a route of its own.
    pub fn below(&self, base: &str) -> Self {
        let is_elsewhere = self.href.starts_with(['/', '#']) || has_scheme(&self.href);
        let href = match is_elsewhere {
            true => self.href.clone(),
            false => format!("{base}/{}", self.href.trim_start_matches("./")),
        };
        Self {
            kind: self.kind.clone(),
            href,
        }
    }
}

/// RFC 3986: a letter, then letters, digits, `+`, `-` or `.`, then a colon.
fn has_scheme(href: &str) -> bool {
    let Some((scheme, _)) = href.split_once(':') else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}
