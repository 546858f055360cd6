//! Turns the text of a form into values.

use serde_json::{Value, json};

use super::field::{Field, FieldKind, as_text};
use super::{NESTED, NULL};
use crate::file::Upload;

/// The only key of an object that stands for a file that came with the form.
pub const UPLOAD: &str = "$upload";

/// What a form sent, in its order.
#[derive(Debug, Clone, Default)]
pub struct Form {
    values: Vec<(String, FormValue)>,
}

/// One value of a form.
#[derive(Debug, Clone, PartialEq)]
pub enum FormValue {
    /// Text.
    Text(String),
    /// A file.
    Upload(Upload),
}

impl Form {
    /// Adds a value.
    pub fn push(&mut self, key: String, value: FormValue) {
        self.values.push((key, value));
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a FormValue> {
        self.values
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The first text of a key: a repeated field counts once.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.iter().find_map(|(name, value)| match value {
            FormValue::Text(text) if name == key => Some(text.as_str()),
            _ => None,
        })
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The files that came with the form.
    pub fn uploads(&self) -> impl Iterator<Item = &Upload> {
        self.values.iter().filter_map(|(_, value)| match value {
            FormValue::Upload(upload) => Some(upload),
            FormValue::Text(_) => None,
        })
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Form {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let text = |(key, value): (K, V)| (key.into(), FormValue::Text(value.into()));
        Self {
            values: pairs.into_iter().map(text).collect(),
        }
    }
}

/// The value of a field: `None` where it was not given or left empty.
pub(super) fn value(field: &Field, form: &Form) -> Result<Option<Value>, String> {
    match &field.kind {
        FieldKind::Upload(_) => upload(form.all(&field.key).next()),
        FieldKind::List(items) => match items.as_ref() {
            FieldKind::Upload(_) => {
                let uploads: Result<Vec<_>, _> = form
                    .all(&field.key)
                    .map(|value| upload(Some(value)))
                    .collect();
                let uploads: Vec<Value> = uploads?.into_iter().flatten().collect();
                Ok((!uploads.is_empty()).then_some(Value::Array(uploads)))
            }
            items => list(items, form, &field.key),
        },
        kind => match form.text(&field.key) {
            None => Ok(None),
            Some("") if !matches!(kind, FieldKind::Text { .. } | FieldKind::Secret) => {
                empty(kind, field.required)
            }
            Some(text) => parse(kind, text).map(Some),
        },
    }
}

/// What an empty text means where it is no value.
pub(super) fn empty(kind: &FieldKind, required: bool) -> Result<Option<Value>, String> {
    match kind {
        _ if !required => Ok(None),
        kind if kind.takes_url() => Err(NULL.to_owned()),
        kind => Err(kind.expectation().to_owned()),
    }
}

fn upload(value: Option<&FormValue>) -> Result<Option<Value>, String> {
    match value {
        None => Ok(None),
        Some(FormValue::Text(text)) if text.is_empty() => Ok(None),
        Some(FormValue::Text(_)) => Err(FieldKind::Upload(super::DataField::default())
            .expectation()
            .to_owned()),
        Some(FormValue::Upload(upload)) => Ok(Some(json!({ UPLOAD: upload }))),
    }
}

/// A list is repeated fields, text separated by commas or line breaks, or a JSON array. Text that is one
/// of several choices is that choice, whatever characters it has.
fn list(items: &FieldKind, form: &Form, key: &str) -> Result<Option<Value>, String> {
    let is_choice =
        |text: &str| matches!(items, FieldKind::Choice(_)) && parse(items, text).is_ok();
    let texts: Vec<&str> = form
        .all(key)
        .filter_map(|value| match value {
            FormValue::Text(text) => Some(text.as_str()),
            FormValue::Upload(_) => None,
        })
        .filter(|text| is_choice(text) || !text.trim().is_empty())
        .collect();
    if texts.is_empty() {
        return Ok(None);
    }
    if let [text] = texts.as_slice()
        && text.trim().starts_with('[')
        && !is_choice(text)
        && let Ok(value @ Value::Array(_)) = json(text)
    {
        return FieldKind::List(Box::new(items.clone()))
            .check(value)
            .map(Some);
    }
    let mut values = Vec::new();
    for text in texts {
        if is_choice(text) {
            values.push(parse(items, text)?);
            continue;
        }
        let parts = text.split([',', '\n']).map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            values.push(parse(items, part)?);
        }
    }
    Ok(Some(Value::Array(values)))
}

fn parse(kind: &FieldKind, text: &str) -> Result<Value, String> {
    let value = match kind {
        FieldKind::Text { .. } | FieldKind::Secret => Some(json!(text)),
        FieldKind::Url | FieldKind::Data(_) | FieldKind::Plugin { .. } => {
            let url = text.trim();
            kind.is_url(url).then(|| json!(url))
        }
        FieldKind::Integer => text.trim().parse::<i64>().ok().map(|n| json!(n)),
        FieldKind::Number => number(text.trim()),
        FieldKind::Boolean => boolean(text).map(Value::Bool),
        FieldKind::Choice(choices) => {
            let mut values = choices.iter().map(|(value, _)| value);
            values.find(|value| as_text(value) == text).cloned()
        }
        FieldKind::List(_) => return json(text).and_then(|value| kind.check(value)),
        FieldKind::Json => return json(text),
        FieldKind::Upload(_) => None,
    };
    value.ok_or_else(|| kind.expectation().to_owned())
}

/// JSON in a field. What is nested too deeply to be read is valid JSON all the same.
fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| match is_nested_too_deeply(&error) {
        true => NESTED.to_owned(),
        false => FieldKind::Json.expectation().to_owned(),
    })
}

/// Whether the reader gave up because of the nesting. Its errors have no code for that.
pub fn is_nested_too_deeply(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit exceeded")
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(json!(whole));
    }
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .map(|number| json!(number))
}

/// Yes or no, in the spellings that the reference takes.
pub fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "on" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "off" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}
