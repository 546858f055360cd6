//! Fields and their values as the templates see them.

use std::collections::BTreeMap;

use runner_core::parameters::field::as_text;
use runner_core::parameters::{Field, FieldKind, Form, FormValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A field as the templates see it.
#[derive(Debug, Default, Serialize)]
pub(super) struct View<'a> {
    key: &'a str,
    id: &'a str,
    label: &'a str,
    help: String,
    kind: &'static str,
    multiline: bool,
    required: bool,
    minimum: Option<&'a Value>,
    maximum: Option<&'a Value>,
    step: Option<&'a Value>,
    min_length: Option<&'a Value>,
    max_length: Option<&'a Value>,
    pattern: Option<&'a Value>,
    choices: Vec<Choice>,
    data_type: Option<&'a str>,
    content_types: &'a [String],
    plugin_tags: &'a [String],
    plugin_name: Option<&'a str>,
    plugin_version: Option<&'a str>,
    related: Option<&'a Value>,
}

#[derive(Debug, Serialize)]
struct Choice {
    value: String,
    label: String,
}

pub(super) fn view(field: &Field) -> View<'_> {
    let keyword = |name: &str| field.schema.get(name);
    let mut view = View {
        key: &field.key,
        id: &field.id,
        label: &field.label,
        help: match field.help.as_str() {
            "" => String::new(),
            help => super::markdown(help),
        },
        required: field.required,
        minimum: keyword("minimum"),
        maximum: keyword("maximum"),
        step: keyword("multipleOf"),
        min_length: keyword("minLength"),
        max_length: keyword("maxLength"),
        pattern: keyword("pattern"),
        related: keyword("x-related"),
        ..View::default()
    };
    match &field.kind {
        FieldKind::Text { multiline } => {
            view.kind = "text";
            view.multiline = *multiline;
        }
        FieldKind::Secret => {
            view.kind = "secret";
            view.multiline = keyword("x-multiline") == Some(&Value::Bool(true));
        }
        FieldKind::Integer => view.kind = "integer",
        FieldKind::Number => view.kind = "number",
        FieldKind::Boolean => view.kind = "boolean",
        FieldKind::Choice(choices) => {
            view.kind = "choice";
            view.choices = labelled(choices);
        }
        FieldKind::List(items) => match items.as_ref() {
            FieldKind::Choice(choices) => {
                view.kind = "choices";
                view.choices = labelled(choices);
            }
            FieldKind::Upload(data) => {
                view.kind = "upload";
                view.content_types = &data.content_types;
            }
            _ => view.kind = "list",
        },
        FieldKind::Url => view.kind = "url",
        FieldKind::Data(data) => {
            view.kind = "data";
            view.data_type = Some(&data.data_type);
            view.content_types = &data.content_types;
        }
        FieldKind::Plugin {
            tags,
            name,
            version,
        } => {
            view.kind = "plugin";
            view.plugin_tags = tags;
            view.plugin_name = name.as_deref();
            view.plugin_version = version.as_deref();
        }
        FieldKind::Upload(data) => {
            view.kind = "upload";
            view.content_types = &data.content_types;
        }
        FieldKind::Json => view.kind = "json",
    }
    view
}

fn labelled(choices: &[(Value, String)]) -> Vec<Choice> {
    let choice = |(value, label): &(Value, String)| Choice {
        value: as_text(value),
        label: label.clone(),
    };
    choices.iter().map(choice).collect()
}

/// What stands in the fields: what was typed, else what they are prefilled with, else their defaults.
/// Secrets are never shown again.
pub(super) fn values<'a>(
    fields: &'a [Field],
    typed: &Form,
    prefill: &Map<String, Value>,
) -> BTreeMap<&'a str, Value> {
    let mut values = BTreeMap::new();
    for field in fields {
        let several = match &field.kind {
            FieldKind::Secret | FieldKind::Upload(_) => continue,
            FieldKind::List(items) => matches!(**items, FieldKind::Choice(_)),
            _ => false,
        };
        let texts: Vec<&str> = typed
            .all(&field.key)
            .filter_map(|value| match value {
                FormValue::Text(text) => Some(text.as_str()),
                FormValue::Upload(_) => None,
            })
            .collect();
        let usual = || prefill.get(&field.key).or(field.default.as_ref());
        let value = match texts.first() {
            Some(_) if several => Some(json!(texts)),
            Some(first) => Some(json!(first)),
            None if several && !typed.is_empty() => None,
            None => usual().map(|value| match value {
                Value::Array(items) if several => {
                    json!(items.iter().map(as_text).collect::<Vec<_>>())
                }
                value => json!(as_text(value)),
            }),
        };
        if let Some(value) = value {
            values.insert(field.key.as_str(), value);
        }
    }
    values
}
