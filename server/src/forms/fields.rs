//! Fields and their values as the templates see them.

use std::collections::BTreeMap;

use runner_core::parameters::field::as_text;
use runner_core::parameters::form::boolean;
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
    /// Whether it takes several files.
    multiple: bool,
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
                view.multiple = true;
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
        let kind = match &field.kind {
            FieldKind::List(items) => items.as_ref(),
            kind => kind,
        };
        if matches!(kind, FieldKind::Secret | FieldKind::Upload(_)) {
            continue;
        }
        let is_list = matches!(field.kind, FieldKind::List(_));
        let several = is_list && matches!(kind, FieldKind::Choice(_));
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
            None => usual().map(|value| match several {
                true => json!(field.kind.to_texts(value)),
                false => json!(field.kind.to_text(value)),
            }),
        };
        let value = value.map(
            |value| match (&field.kind, value.as_str().and_then(boolean)) {
                (FieldKind::Boolean, Some(is_checked)) => json!(is_checked),
                _ => value,
            },
        );
        if let Some(value) = value {
            values.insert(field.key.as_str(), value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::parameters::Parameters;

    fn shown(properties: Value, typed: &Form, prefill: Value) -> Value {
        let parameters = Parameters::new(json!({ "properties": properties })).unwrap();
        let prefill = prefill.as_object().cloned().unwrap_or_default();
        json!(values(parameters.fields(), typed, &prefill))
    }

    #[test]
    fn a_boolean_is_checked_in_all_its_spellings() {
        let flag = || json!({"flag": {"type": "boolean", "default": true}});
        for (text, value) in [
            ("True", json!(true)),
            ("1", json!(true)),
            ("yes", json!(true)),
            (" on ", json!(true)),
            ("False", json!(false)),
            ("0", json!(false)),
            ("maybe", json!("maybe")),
        ] {
            let typed = [("flag", text), ("flag", "false")].into_iter().collect();
            assert_eq!(shown(flag(), &typed, json!({})), json!({ "flag": value }));
            let prefilled = shown(flag(), &Form::default(), json!({ "flag": text }));
            assert_eq!(prefilled, json!({ "flag": value }));
        }
        assert_eq!(
            shown(flag(), &Form::default(), json!({})),
            json!({"flag": true})
        );
        let text = json!({"text": {"type": "string", "default": "yes"}});
        assert_eq!(
            shown(text, &Form::default(), json!({})),
            json!({"text": "yes"})
        );
    }

    #[test]
    fn what_is_shown_can_be_sent() {
        let properties = json!({
            "list": {"type": "array", "items": {"type": "string"}, "default": ["a,b", "c"]},
            "plain": {"type": "array", "items": {"type": "string"}, "default": ["a", "b"]},
            "choices": {"type": "array", "items": {"enum": ["a,b", "c"]}, "default": ["a,b"]},
            "any": {"default": ["a", {"b": 1}]},
            "text": {"default": "a"},
        });
        assert_eq!(
            shown(properties, &Form::default(), json!({})),
            json!({"list": "[\"a,b\",\"c\"]", "plain": "a,b", "choices": ["a,b"],
                   "any": "[\"a\",{\"b\":1}]", "text": "\"a\""})
        );
    }

    #[test]
    fn secrets_and_files_are_never_shown() {
        let properties = json!({
            "secret": {"type": "string", "writeOnly": true},
            "secrets": {"type": "array", "items": {"type": "string", "writeOnly": true}},
            "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        });
        let typed: Form = ["secret", "secrets", "files"]
            .map(|key| (key, "x"))
            .into_iter()
            .collect();
        assert_eq!(
            shown(properties, &typed, json!({"secrets": ["y"]})),
            json!({})
        );
    }
}
