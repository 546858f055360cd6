//! What a plugin's parameters look like in JSON and in a form.
//!
//! The schema of a plugin is kept as it is, with its own keywords (`x-data`, `x-labels`, …: what they mean
//! is in the protocol), but for what concerns nobody outside. Where JSON and forms differ:
//! - JSON takes no keys that are no parameters, and no files; forms ignore keys they do not know.
//! - A parameter that is neither text, number, list nor file is JSON in the text of a form.

use runner_core::parameters::{Field, FieldKind, Parameters};
use runner_core::task::{MAX_LABELS, MAX_RETRIES};
use serde_json::{Map, Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::encoding::{Encoding, EncodingBuilder};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};

use super::Parts;
use super::parts::content;
use crate::body::{LABEL, dispatch};

/// Keywords of plugins that mean something inside of the runner only, or nothing within a document.
const DROPPED: [&str; 4] = ["x-messages", "x-id", "$schema", "$id"];
/// Where values stand, not schemas.
const VALUES: [&str; 5] = ["default", "enum", "const", "example", "examples"];

/// The schemas of a form and of its JSON: `<name>.form`, `<name>.json`.
pub(super) struct Forms<'a> {
    parameters: &'a Parameters,
    name: &'a str,
    has_labels: bool,
}

impl<'a> Forms<'a> {
    /// Adds the schemas. With `has_labels` those of a task that is made.
    pub(super) fn add(
        parts: &mut Parts,
        parameters: &'a Parameters,
        name: &'a str,
        has_labels: bool,
    ) -> Self {
        let forms = Self {
            parameters,
            name,
            has_labels,
        };
        parts.schemas.insert(forms.form_name(), forms.form());
        if !forms.needs_file() {
            parts.schemas.insert(forms.json_name(), forms.json());
        }
        forms
    }

    /// The parameters as a body, in every media type that can carry them.
    ///
    /// `may_be_wrong` says that values are only checked, so that none must be there.
    pub(super) fn body(&self, example: &Map<String, Value>, may_be_wrong: bool) -> RequestBody {
        let is_required = self.parameters.fields().iter().any(|field| field.required);
        let is_required = is_required && !may_be_wrong;
        let mut body = RequestBodyBuilder::new().required(Some(match is_required {
            true => Required::True,
            false => Required::False,
        }));
        body = body.content("multipart/form-data", self.multipart());
        if !self.needs_file() {
            let form = content(&self.form_name());
            body = body.content("application/x-www-form-urlencoded", form);
            let json = content(&self.json_name());
            let example = (!example.is_empty()).then(|| Value::Object(example.clone()));
            let json = ContentBuilder::from(json).example(example);
            body = body.content("application/json", json.build());
        }
        body.build()
    }

    /// Keys that a query can prefill, with where their schemas are.
    pub(super) fn prefilled(&self) -> impl Iterator<Item = (&'a str, String)> {
        let place = format!("#/components/schemas/{}/properties/", self.form_name());
        let fields = self.parameters.fields().iter();
        fields
            .filter(|field| !is_file(&field.kind) && field.kind != FieldKind::Secret)
            .map(move |field| {
                (
                    field.key.as_str(),
                    format!("{place}{}", pointer(&field.key)),
                )
            })
    }

    fn form_name(&self) -> String {
        format!("{}.form", self.name)
    }

    fn json_name(&self) -> String {
        format!("{}.json", self.name)
    }

    fn needs_file(&self) -> bool {
        let mut fields = self.parameters.fields().iter();
        fields.any(|field| field.required && is_file(&field.kind))
    }

    fn multipart(&self) -> Content {
        let mut form = ContentBuilder::from(content(&self.form_name()));
        for field in self.parameters.fields() {
            if let FieldKind::Upload(data) = &field.kind
                && !data.content_types.is_empty()
            {
                let types = data.content_types.join(", ");
                let encoding: Encoding = EncodingBuilder::new().content_type(Some(types)).build();
                form = form.encoding(field.key.clone(), encoding);
            }
        }
        form.build()
    }

    fn json(&self) -> Value {
        let mut schema = self.schema(&self.json_name(), false);
        if let Some(properties) = schema["properties"].as_object_mut() {
            for field in self.parameters.fields() {
                if is_file(&field.kind) {
                    properties.shift_remove(&field.key);
                }
            }
        }
        schema["additionalProperties"] = json!(false);
        schema
    }

    fn form(&self) -> Value {
        let mut schema = self.schema(&self.form_name(), true);
        if let Some(properties) = schema["properties"].as_object_mut() {
            for field in self.parameters.fields() {
                if let Some(property) = properties.get_mut(&field.key)
                    && is_json(&field.kind)
                {
                    *property = as_text(std::mem::take(property));
                }
            }
        }
        if let Some(schema) = schema.as_object_mut() {
            schema.shift_remove("additionalProperties");
        }
        schema
    }

    fn schema(&self, name: &str, is_form: bool) -> Value {
        let mut schema = self.parameters.schema().clone();
        clean(&mut schema, &format!("#/components/schemas/{name}"));
        if !schema["properties"].is_object() {
            schema["properties"] = json!({});
        }
        if let Some(properties) = schema["properties"].as_object_mut() {
            for field in self.parameters.fields() {
                bound(field, properties);
            }
            if self.has_labels {
                properties.insert(LABEL.to_owned(), labels(is_form));
                properties.extend(options());
            }
        }
        schema
    }
}

/// Whole numbers have 64 bits.
fn bound(field: &Field, properties: &mut Map<String, Value>) {
    if let (FieldKind::Integer, Some(Value::Object(property))) =
        (&field.kind, properties.get_mut(&field.key))
    {
        property.entry("format").or_insert(json!("int64"));
    }
}

/// Moments that are taken; more are, but who reads this need not know all spellings.
const MOMENT: &str = "^20[2-9][0-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])\
    T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-][01][0-9]:[0-5][0-9])$";

/// What can be said of the runs of a task.
fn options() -> [(String, Value); 4] {
    let options = [
        (
            dispatch::PRIORITY,
            json!({"type": "string", "enum": ["low", "normal", "high"], "description": "Before whom it is run."}),
        ),
        (
            dispatch::RUN_AT,
            json!({
                "type": "string", "pattern": MOMENT,
                "description": "It is run not before this moment, such as 2030-01-31T09:00:00+01:00.",
            }),
        ),
        (
            dispatch::RETRIES,
            json!({
                "type": "integer", "minimum": 0, "maximum": MAX_RETRIES,
                "description": "How often it is run again when the plugin fails.",
            }),
        ),
        (
            dispatch::TIMEOUT,
            json!({
                "type": "number", "minimum": 0.001, "exclusiveMaximum": 1e9,
                "description": "Seconds that one run may take; the limit of the runner or its module stays.",
            }),
        ),
    ];
    options.map(|(name, schema)| (name.to_owned(), schema))
}

/// In a form, empty labels are none.
fn labels(is_form: bool) -> Value {
    json!({
        "type": "array",
        "items": {
            "type": "string",
            "minLength": if is_form { 0 } else { 1 },
            "maxLength": 100,
            "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        },
        "maxItems": MAX_LABELS,
        "description": "Labels of the task, to find it by.",
    })
}

/// Removes what concerns nobody outside, and makes references to the schema itself ones into the document.
fn clean(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(object) => {
            object.retain(|key, _| !DROPPED.contains(&key.as_str()));
            for (key, value) in object {
                match value {
                    Value::String(target) if key == "$ref" && target.starts_with('#') => {
                        *target = format!("{place}{}", &target[1..]);
                    }
                    _ if VALUES.contains(&key.as_str()) || key.starts_with("x-") => {}
                    value => clean(value, place),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| clean(value, place)),
        _ => {}
    }
}

/// JSON in the text of a form.
fn as_text(mut schema: Value) -> Value {
    let mut text = json!({"type": "string", "contentMediaType": "application/json"});
    for key in ["title", "description"] {
        if let Some(value) = schema
            .as_object_mut()
            .and_then(|schema| schema.shift_remove(key))
        {
            text[key] = value;
        }
    }
    text["contentSchema"] = schema;
    text
}

fn is_file(kind: &FieldKind) -> bool {
    match kind {
        FieldKind::Upload(_) => true,
        FieldKind::List(items) => is_file(items),
        _ => false,
    }
}

fn is_json(kind: &FieldKind) -> bool {
    match kind {
        FieldKind::Json => true,
        FieldKind::List(items) => matches!(**items, FieldKind::Json | FieldKind::List(_)),
        _ => false,
    }
}

/// A key as a part of a JSON pointer in a URL.
fn pointer(key: &str) -> String {
    let key = key.replace('~', "~0").replace('/', "~1");
    percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%5F", "_")
        .replace("%2D", "-")
        .replace("%7E", "~")
}
