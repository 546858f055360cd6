//! Reads a JSON Schema as fields.

use serde_json::{Map, Value, json};
use url::Url;

use crate::text;

/// The most parameters that a form may have.
pub const MAX_FIELDS: usize = 500;

/// One parameter.
#[derive(Debug, Clone)]
pub struct Field {
    /// camelCase; its name on the wire.
    pub key: String,
    /// snake_case; its name in code and in the form's markup.
    pub id: String,
    /// Shown to people.
    pub label: String,
    /// Markdown under the field.
    pub help: String,
    /// What kind of value it takes.
    pub kind: FieldKind,
    /// Whether it must be given.
    pub required: bool,
    /// Taken when it is not given.
    pub default: Option<Value>,
    /// The property's schema, for bounds.
    pub schema: Map<String, Value>,
}

/// What kind of value a field takes.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldKind {
    /// Text; `multiline` asks for a text area.
    Text {
        /// Whether line breaks are expected.
        multiline: bool,
    },
    /// Text that is never shown.
    Secret,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// One of these values, each with a label.
    Choice(Vec<(Value, String)>),
    /// Several values of one kind.
    List(Box<FieldKind>),
    /// A URL.
    Url,
    /// The URL of data.
    Data(DataField),
    /// The URL of another plugin.
    Plugin {
        /// Tags it must have.
        tags: Vec<String>,
        /// Name it must have.
        name: Option<String>,
        /// Version it must have.
        version: Option<String>,
    },
    /// A file that is sent with the form.
    Upload(DataField),
    /// Any JSON value.
    Json,
}

/// What data a field takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataField {
    /// What it means, such as `entity/list`; `*` is anything.
    pub data_type: String,
    /// Media types it may have.
    pub content_types: Vec<String>,
    /// Whether the runner fetches it before the run.
    pub fetch: bool,
}

/// Why a schema is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Not an object schema.
    #[error("expected a JSON Schema of type object, found {0}")]
    NotAnObject(String),
    /// Too many properties.
    #[error("{0} properties; the limit is {MAX_FIELDS}")]
    TooMany(usize),
    /// One property is wrong.
    #[error("property {key:?}: {problem}")]
    Property {
        /// The key.
        key: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// `required` names what is no property.
    #[error("required names {0:?}, which is no property")]
    Required(String),
    /// The schema as a whole is no schema.
    #[error("not a JSON Schema: {0}")]
    Invalid(String),
}

impl Field {
    /// The plugin's own message for a broken rule, else the given one.
    pub fn message(&self, keyword: &str, usual: &str) -> String {
        let own = self
            .schema
            .get("x-messages")
            .and_then(|messages| messages.get(keyword));
        own.and_then(Value::as_str).unwrap_or(usual).to_owned()
    }
}

impl FieldKind {
    /// The kind of one value: that of the items of a list, else its own.
    pub fn item(&self) -> &Self {
        match self {
            Self::List(items) => items.item(),
            kind => kind,
        }
    }

    /// What is said of a value of another kind.
    pub fn expectation(&self) -> &'static str {
        match self {
            Self::Text { .. } | Self::Secret => "Not a valid string.",
            Self::Integer => "Not a valid integer.",
            Self::Number => "Not a valid number.",
            Self::Boolean => "Not a valid boolean.",
            Self::Choice(_) => "Not a valid choice.",
            Self::List(_) => "Not a valid list.",
            Self::Url | Self::Data(_) | Self::Plugin { .. } => "Not a valid URL.",
            Self::Upload(_) => "Not a file: send it as a part of multipart/form-data.",
            Self::Json => "Not a valid JSON value.",
        }
    }

    /// Whether its values are URLs: of these, an empty one is none.
    pub(super) fn takes_url(&self) -> bool {
        matches!(self, Self::Url | Self::Data(_) | Self::Plugin { .. })
    }

    /// A value as it stands in the form of such a field, which reads the same value from it.
    pub fn to_text(&self, value: &Value) -> String {
        let is_json = match self {
            Self::Json => true,
            Self::List(items) => matches!(**items, Self::Json | Self::List(_)),
            _ => false,
        };
        match is_json && !value.is_null() {
            true => value.to_string(),
            false => as_text(value),
        }
    }

    /// As [`to_text`](Self::to_text), but several choices are a text each.
    pub fn to_texts(&self, value: &Value) -> Vec<String> {
        match (self, value) {
            (Self::List(items), Value::Array(values)) if matches!(**items, Self::Choice(_)) => {
                values.iter().map(as_text).collect()
            }
            _ => vec![self.to_text(value)],
        }
    }

    /// Checks that a JSON value is of this kind.
    ///
    /// # Errors
    /// [`FieldKind::expectation`].
    pub fn check(&self, value: Value) -> Result<Value, String> {
        let fits = match self {
            Self::Text { .. } | Self::Secret => value.is_string(),
            Self::Integer => value.is_i64() || value.as_f64().is_some_and(is_whole),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Choice(choices) => choices.iter().any(|(choice, _)| *choice == value),
            Self::List(items) => {
                let Value::Array(values) = value else {
                    return Err(self.expectation().to_owned());
                };
                let values: Result<_, _> = values.into_iter().map(|v| items.check(v)).collect();
                return values.map(Value::Array);
            }
            Self::Url | Self::Data(_) | Self::Plugin { .. } => {
                value.as_str().is_some_and(|url| self.is_url(url))
            }
            Self::Upload(_) => false,
            Self::Json => true,
        };
        match (fits, self, value) {
            (true, Self::Integer, Value::Number(n)) if !n.is_i64() => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "whole and in range, see is_whole"
                )]
                let whole = n.as_f64().map(|n| n as i64);
                Ok(json!(whole))
            }
            (true, _, value) => Ok(value),
            (false, _, _) => Err(self.expectation().to_owned()),
        }
    }

    /// Whether text is a URL that a field of this kind takes.
    pub(super) fn is_url(&self, url: &str) -> bool {
        let Some(url) = parse_url(url) else {
            return false;
        };
        match url.scheme() {
            "http" | "https" => url.has_host(),
            "data" | "file" => matches!(self, Self::Data(_)),
            "ftp" => matches!(self, Self::Url) && url.has_host(),
            _ => false,
        }
    }
}

/// A URL as it is written. What parsing would leave out (line breaks, tabs, blanks around it) is in no
/// URL: who uses the text itself would not use what was checked.
pub fn parse_url(text: &str) -> Option<Url> {
    let is_written_well = text.trim() == text && !text.contains(char::is_control);
    Url::parse(text).ok().filter(|_| is_written_well)
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0
}

/// An absent schema is one without properties; any other must be of type object.
pub(super) fn normalised(schema: Value) -> Result<Value, SchemaError> {
    match schema {
        Value::Null => Ok(json!({"type": "object", "properties": {}})),
        Value::Object(mut object) => {
            if object.is_empty() {
                object.insert("properties".to_owned(), json!({}));
            }
            match object.get("type").and_then(Value::as_str) {
                Some("object") => {}
                None if !object.contains_key("type") => {
                    object.insert("type".to_owned(), json!("object"));
                }
                _ => return Err(SchemaError::NotAnObject(format!("type {}", object["type"]))),
            }
            Ok(Value::Object(object))
        }
        other => Err(SchemaError::NotAnObject(other.to_string())),
    }
}

pub(super) fn fields(schema: &Value) -> Result<Vec<Field>, SchemaError> {
    let none = Map::new();
    let properties = match schema.get("properties") {
        None => &none,
        Some(Value::Object(properties)) => properties,
        Some(other) => return Err(SchemaError::NotAnObject(format!("properties {other}"))),
    };
    if properties.len() > MAX_FIELDS {
        return Err(SchemaError::TooMany(properties.len()));
    }
    let required = strings(schema.get("required"));
    if let Some(unknown) = required.iter().find(|key| !properties.contains_key(*key)) {
        return Err(SchemaError::Required(unknown.clone()));
    }
    let mut fields: Vec<Field> = Vec::with_capacity(properties.len());
    for (key, property) in properties {
        let problem = |problem: &str| SchemaError::Property {
            key: key.clone(),
            problem: problem.to_owned(),
        };
        let Value::Object(property) = property else {
            return Err(problem("expected an object"));
        };
        if key.is_empty() || key.starts_with('_') || key.starts_with('$') || key.len() > 100 {
            return Err(problem(
                "keys have 1 to 100 characters and do not begin with _ or $",
            ));
        }
        let field = Field {
            id: string(property, "x-id").unwrap_or_else(|| text::snake_case(key)),
            label: string(property, "title").unwrap_or_else(|| text::label(key)),
            help: string(property, "description").unwrap_or_default(),
            kind: kind(property).map_err(|text| problem(&text))?,
            required: required.contains(key),
            default: property
                .get("default")
                .filter(|value| !value.is_null())
                .cloned(),
            key: key.clone(),
            schema: property.clone(),
        };
        if fields.iter().any(|other| other.id == field.id) {
            return Err(problem(&format!(
                "its id {:?} is that of another property",
                field.id
            )));
        }
        fields.push(field);
    }
    Ok(fields)
}

fn kind(property: &Map<String, Value>) -> Result<FieldKind, String> {
    if let Some(choices) = property.get("enum") {
        let Value::Array(values) = choices else {
            return Err("enum must be an array".to_owned());
        };
        let labels = property.get("x-labels");
        let choice = |value: &Value| {
            let text = as_text(value);
            let label = labels
                .and_then(|labels| labels.get(&text))
                .and_then(Value::as_str);
            (value.clone(), label.unwrap_or(&text).to_owned())
        };
        return Ok(FieldKind::Choice(values.iter().map(choice).collect()));
    }
    let types = match property.get("type") {
        Some(Value::String(name)) => vec![name.clone()],
        other => strings(other)
            .into_iter()
            .filter(|name| name != "null")
            .collect(),
    };
    let [name] = types.as_slice() else {
        return Ok(FieldKind::Json);
    };
    Ok(match name.as_str() {
        "string" => string_kind(property),
        "integer" => FieldKind::Integer,
        "number" => FieldKind::Number,
        "boolean" => FieldKind::Boolean,
        "array" => match property.get("items") {
            Some(Value::Object(items)) => FieldKind::List(Box::new(kind(items)?)),
            _ => FieldKind::Json,
        },
        "object" | "null" => FieldKind::Json,
        other => return Err(format!("{other:?} is no type of JSON Schema")),
    })
}

fn string_kind(property: &Map<String, Value>) -> FieldKind {
    let data = property.get("x-data");
    match string(property, "format").as_deref() {
        Some("binary") => FieldKind::Upload(data_field(data)),
        Some("uri") => match (data, property.get("x-plugin")) {
            (Some(data), _) => FieldKind::Data(data_field(Some(data))),
            (None, Some(Value::Object(plugin))) => FieldKind::Plugin {
                tags: strings(plugin.get("tags")),
                name: string(plugin, "name"),
                version: string(plugin, "version"),
            },
            _ => FieldKind::Url,
        },
        _ if property.get("writeOnly") == Some(&Value::Bool(true)) => FieldKind::Secret,
        _ => FieldKind::Text {
            multiline: property.get("x-multiline") == Some(&Value::Bool(true)),
        },
    }
}

fn data_field(data: Option<&Value>) -> DataField {
    let get = |key: &str| data.and_then(|data| data.get(key));
    DataField {
        data_type: get("dataType")
            .and_then(Value::as_str)
            .unwrap_or("*")
            .to_owned(),
        content_types: strings(get("contentType")),
        fetch: get("fetch") != Some(&Value::Bool(false)),
    }
}

fn string(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let values = value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    values
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A value as it stands in a form: text as it is, lists separated by commas, else JSON. Lists whose items
/// could not be told apart then are JSON, too.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(separable).collect();
            match texts {
                Some(texts) if !texts.first().is_some_and(|text| text.starts_with('[')) => {
                    texts.join(",")
                }
                _ => value.to_string(),
            }
        }
        other => other.to_string(),
    }
}

/// An item of a list as it stands between commas, if it can.
fn separable(item: &Value) -> Option<String> {
    if item.is_object() || item.is_array() {
        return None;
    }
    let text = as_text(item);
    let is_separable = !text.is_empty() && text.trim() == text && !text.contains([',', '\n', '\r']);
    is_separable.then_some(text)
}
